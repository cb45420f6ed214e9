//! HTTP+SSE of 2024-11-05 (mcp.md 1.4): closed by default; judged like everything else where it is open.

use std::sync::Mutex;

use ::http::{Method, Request, Response, StatusCode};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::support::{Answered, Client, Reply, Server, Sidecar, call, eventually, in_time, list, manifest, names, next_bytes};
use crate::{initialize, notification, request, result};

const MESSAGES: &str = "/messages/?session_id=7";

fn policy(document: &Value) -> Value {
    let mut policy = manifest("enforce", document);
    policy["spec"]["server"] = json!({"ssePath": "/sse"});
    policy
}

/// A server of the older transport whose messages the test writes, a sidecar before it, and a client that has opened the stream.
struct Conversation {
    server: Server,
    sidecar: Sidecar,
    /// None once the server has ended the stream.
    says: Option<mpsc::Sender<Bytes>>,
    stream: Response<Incoming>,
    /// The stream's connection.
    #[allow(dead_code, reason = "held, not read")]
    client: Client,
}

impl Conversation {
    async fn open(document: &Value) -> Self {
        Self::announcing(document, MESSAGES).await
    }

    async fn announcing(document: &Value, endpoint: &str) -> Self {
        let (says, reply) = Reply::stream();
        let reply = Mutex::new(Some(reply));
        let server = Server::start(move |got| match got.target.as_str() {
            "/sse" => reply.lock().unwrap().take().unwrap(),
            MESSAGES => taken(StatusCode::ACCEPTED),
            _ => taken(StatusCode::NOT_FOUND),
        })
        .await;
        let sidecar = Sidecar::guarding(&server.url(), &policy(document));
        let mut client = Client::connect(sidecar.proxy).await;
        let stream = client.open(get("/sse")).await;
        assert_eq!((stream.status(), stream.headers()["content-type"].to_str().unwrap()), (StatusCode::OK, "text/event-stream"));
        says.send(format!("event: endpoint\ndata: {endpoint}\n\n").into()).await.unwrap();
        let mut conversation = Self { server, sidecar, says: Some(says), stream, client };
        assert_eq!(conversation.hear_event().await, format!("event: endpoint\ndata: {MESSAGES}\n\n"));
        conversation
    }

    async fn hear_event(&mut self) -> String {
        let bytes = in_time("an event", next_bytes(&mut self.stream)).await.expect("the stream goes on");
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    async fn hear(&mut self) -> Value {
        let event = self.hear_event().await;
        serde_json::from_str(event.lines().find_map(|line| line.strip_prefix("data: ")).unwrap()).unwrap()
    }

    async fn say(&self, message: &Value) {
        self.send(format!("event: message\ndata: {message}\n\n")).await;
    }

    async fn send(&self, bytes: String) {
        self.says.as_ref().unwrap().send(bytes.into()).await.unwrap();
    }

    async fn post(&self, message: &Value) -> Answered {
        self.sidecar.send(post(MESSAGES, message)).await
    }

    /// Posts what is taken.
    async fn tell(&self, message: &Value) {
        let answer = self.post(message).await;
        assert_eq!((answer.status, answer.text().as_str()), (StatusCode::ACCEPTED, ""), "{message}");
    }

    /// What was posted to the server.
    fn posted(&self) -> Vec<Value> {
        self.server.got().iter().filter(|got| got.method == Method::POST).map(crate::support::Got::json).collect()
    }
}

fn taken(status: StatusCode) -> Reply {
    // Python's SDK writes this.
    Reply::Whole(Response::builder().status(status).body(Bytes::from_static(b"Accepted")).unwrap())
}

fn get(target: &str) -> Request<Full<Bytes>> {
    Request::get(target).header("host", "localhost").header("accept", "text/event-stream").body(Full::default()).unwrap()
}

fn post(target: &str, message: &Value) -> Request<Full<Bytes>> {
    let request = Request::post(target).header("host", "localhost").header("content-type", "application/json");
    request.body(Full::new(message.to_string().into())).unwrap()
}

#[tokio::test]
async fn calls_pass_and_their_answers_come_on_the_stream() {
    let mut open = Conversation::open(&json!({"tools": {"read": {}}})).await;
    open.tell(&initialize()).await;
    let version = json!({"jsonrpc": "2.0", "id": 0, "result": {"protocolVersion": "2024-11-05", "capabilities": {}, "serverInfo": {}}});
    open.say(&version).await;
    assert_eq!(open.hear().await, version);
    open.tell(&notification("notifications/initialized")).await;
    open.tell(&call(1, "read")).await;
    open.say(&result(&json!(1))).await;
    assert_eq!(open.hear_event().await, format!("event: message\ndata: {}\n\n", result(&json!(1))), "byte for byte");
    assert_eq!(open.posted().last(), Some(&call(1, "read")));
    let line = open.sidecar.audit.at_least(1).await.remove(0);
    assert_eq!((&line["tool"], &line["code"], &line["upstreamStatus"]), (&json!("read"), &json!("allowed"), &Value::Null));
}

#[tokio::test]
async fn a_refusal_comes_on_the_stream_and_leaves_the_server_untouched() {
    let limited = json!({"read": {"limits": [{"counter": "c", "window": "hour", "max": 1, "scope": "session"}]}});
    let mut open = Conversation::open(&json!({"tools": limited, "hide": ["gone"], "methods": {"prompts/get": "deny"}})).await;
    for (message, code) in [(call(1, "write"), "default_deny"), (request(3, "prompts/get"), "method_denied")] {
        open.tell(&message).await;
        let answer = open.hear().await;
        assert_eq!(answer["id"], message["id"]);
        let denial = if answer["error"].is_null() { &answer["result"]["_meta"] } else { &answer["error"]["data"] };
        assert_eq!(denial["mcp-policy.dev/denial"]["code"], code, "{answer}");
    }
    open.tell(&call(2, "gone")).await;
    assert_eq!(open.hear().await["error"], json!({"code": -32602, "message": "Unknown tool: gone"}));
    assert_eq!(open.posted(), Vec::<Value>::new());
    // The stream is the session that a limit counts.
    open.tell(&call(4, "read")).await;
    open.tell(&call(5, "read")).await;
    assert_eq!(open.hear().await["result"]["_meta"]["mcp-policy.dev/denial"]["code"], "limit_exceeded");
    assert_eq!(open.posted(), [call(4, "read")]);
}

#[tokio::test]
async fn what_reads_two_ways_is_refused_as_everywhere() {
    let open = Conversation::open(&json!({"default": "allow"})).await;
    let twice = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"safe","name":"danger"}}"#;
    let mut faulty = post(MESSAGES, &json!(null));
    *faulty.body_mut() = Full::new(twice.into());
    assert_eq!(open.sidecar.send(faulty).await.status, StatusCode::BAD_REQUEST);
    let mut plain = post(MESSAGES, &call(1, "read"));
    plain.headers_mut().insert("content-type", "text/plain".parse().unwrap());
    assert_eq!(open.sidecar.send(plain).await.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let mut modern = crate::modern_call(1, "read");
    *modern.uri_mut() = MESSAGES.parse().unwrap();
    assert_eq!(open.sidecar.send(modern).await.json()["error"]["code"], -32022);
    open.tell(&call(1, "read")).await;
    assert_eq!(open.post(&call(1, "read")).await.status, StatusCode::BAD_REQUEST, "an id that waits for its answer");
    assert_eq!(open.posted(), [call(1, "read")]);
}

#[tokio::test]
async fn messages_are_taken_only_where_an_open_stream_announced_it() {
    let open = Conversation::open(&json!({"default": "allow"})).await;
    for target in
        ["/messages/?session_id=8", "/messages/", "/messages/?session_id=7&x", "/messages?session_id=7", "/messages/?session_id=%37"]
    {
        assert_eq!(open.sidecar.send(post(target, &call(1, "read"))).await.status, StatusCode::NOT_FOUND, "{target}");
    }
    for (request, allow) in [(post("/sse", &call(1, "read")), "GET"), (get(MESSAGES), "POST")] {
        let refused = open.sidecar.send(request).await;
        assert_eq!((refused.status, refused.headers["allow"].to_str().unwrap()), (StatusCode::METHOD_NOT_ALLOWED, allow));
    }
    let Conversation { server, sidecar, stream, client, says } = open;
    drop((stream, client));
    in_time("the server learns that its client is gone", says.unwrap().closed()).await;
    assert_eq!(sidecar.send(post(MESSAGES, &call(1, "read"))).await.status, StatusCode::NOT_FOUND);
    assert_eq!(server.requests(), 1, "only the stream was opened");
}

#[tokio::test]
async fn without_an_opt_in_there_is_no_such_transport() {
    let server = Server::with_tools(&["read"]).await;
    let sidecar = Sidecar::guarding(&server.url(), &manifest("enforce", &json!({"default": "allow"})));
    for request in [get("/sse"), post("/sse", &call(1, "read")), post(MESSAGES, &call(1, "read"))] {
        assert_eq!(sidecar.send(request).await.status, StatusCode::NOT_FOUND);
    }
    assert_eq!(server.requests(), 0);
}

#[tokio::test]
async fn an_endpoint_of_another_host_becomes_one_of_this() {
    let mut open = Conversation::announcing(&json!({"default": "allow"}), &format!("http://10.0.0.7:8000{MESSAGES}")).await;
    open.send("event: endpoint\ndata: /elsewhere\n\n".to_owned()).await;
    open.say(&notification("notifications/message")).await;
    assert_eq!(open.hear().await["method"], "notifications/message", "a second endpoint does not pass");
    assert_eq!(open.sidecar.send(post("/elsewhere", &call(1, "read"))).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn rule_18_answers_that_nobody_waits_for_do_not_pass_and_rule_20_lists_are_filtered() {
    let mut open =
        Conversation::open(&json!({"default": "allow", "hide": ["secret"], "methods": {"sampling/createMessage": "deny"}})).await;
    open.tell(&request(1, "tools/list")).await;
    open.say(&list(&json!(2), &["secret"], None)).await;
    open.say(&list(&json!(1), &["secret", "read"], None)).await;
    assert_eq!(names(&open.hear().await), ["read"]);
    open.say(&list(&json!(1), &["secret"], None)).await;
    open.say(&json!({"jsonrpc": "2.0", "id": 9, "method": "sampling/createMessage", "params": {}})).await;
    open.say(&notification("notifications/message")).await;
    assert_eq!(open.hear().await["method"], "notifications/message");
    eventually("the server is answered", async || open.posted().last().is_some_and(|last| last["id"] == 9)).await;
    assert_eq!(open.posted().last().unwrap()["error"]["code"], -32601);
}

#[tokio::test]
async fn a_client_is_told_that_its_list_has_changed() {
    let mut open = Conversation::open(&json!({"default": "allow"})).await;
    open.tell(&initialize()).await;
    let capabilities = json!({"protocolVersion": "2024-11-05", "capabilities": {"tools": {"listChanged": true}}, "serverInfo": {}});
    open.say(&json!({"jsonrpc": "2.0", "id": 0, "result": capabilities})).await;
    open.hear().await;
    open.tell(&request(1, "tools/list")).await;
    open.say(&list(&json!(1), &["read"], None)).await;
    open.hear().await;
    std::fs::write(&open.sidecar.policy, policy(&json!({"default": "allow", "hide": ["read"]})).to_string()).unwrap();
    assert_eq!(open.hear().await, json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}));
}

#[tokio::test]
async fn whoever_waits_when_the_stream_ends_is_told_so() {
    let mut open = Conversation::open(&json!({"default": "allow"})).await;
    open.tell(&call(1, "read")).await;
    open.says = None;
    let answer = open.hear().await;
    assert_eq!((&answer["id"], &answer["result"]["_meta"]["mcp-policy.dev/denial"]["code"]), (&json!(1), &json!("upstream_unreachable")));
    assert_eq!(in_time("the end", next_bytes(&mut open.stream)).await, None);
    assert_eq!(open.sidecar.audit.at_least(1).await[0]["upstreamFault"], "cut_off");
}

#[tokio::test]
async fn a_drain_waits_for_answers_and_then_ends_the_stream() {
    let mut open = Conversation::open(&json!({"default": "allow"})).await;
    open.tell(&call(1, "read")).await;
    open.sidecar.drain.terminate();
    open.say(&result(&json!(1))).await;
    assert_eq!(open.hear().await, result(&json!(1)));
    assert_eq!(in_time("the end", next_bytes(&mut open.stream)).await, None);
}

#[tokio::test]
async fn a_server_that_refuses_a_post_did_not_run_the_call() {
    let (says, reply) = Reply::stream();
    let reply = Mutex::new(Some(reply));
    let server = Server::start(move |got| match got.target.as_str() {
        "/sse" => reply.lock().unwrap().take().unwrap(),
        _ => taken(StatusCode::BAD_REQUEST),
    })
    .await;
    let limited = json!({"read": {"limits": [{"counter": "c", "window": "hour", "max": 1}]}});
    let sidecar = Sidecar::guarding(&server.url(), &policy(&json!({"tools": limited})));
    let mut client = Client::connect(sidecar.proxy).await;
    let mut stream = client.open(get("/sse")).await;
    says.send(format!("event: endpoint\ndata: {MESSAGES}\n\n").into()).await.unwrap();
    next_bytes(&mut stream).await.unwrap();
    for id in [1, 2] {
        let answer = sidecar.send(post(MESSAGES, &call(id, "read"))).await;
        assert_eq!((answer.status, answer.text().as_str()), (StatusCode::BAD_REQUEST, ""), "given back, and so not over the limit");
    }
    assert_eq!(server.requests(), 3);
}
