//! Methods other than calls, of both sides: what passes, what is held back, and that nobody waits for what was held back.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

mod support;

use std::sync::Mutex;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use support::{Answered, Client, Got, Reply, Server, Sidecar, call, eventually, list, manifest, mcp, names, next_bytes, ran};

fn request(id: u64, method: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": {}})
}

fn notification(method: &str) -> Value {
    json!({"jsonrpc": "2.0", "method": method, "params": {}})
}

fn denial(answer: &Answered) -> Value {
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    answer.json()["error"]["data"]["mcp-policy.dev/denial"].clone()
}

fn accepted() -> Reply {
    Reply::Whole(Response::builder().status(StatusCode::ACCEPTED).body(Bytes::new()).unwrap())
}

fn get() -> Request<Full<Bytes>> {
    Request::get("/mcp").header("host", "localhost").header("accept", "text/event-stream").body(Full::default()).unwrap()
}

/// A server that answers this to the first message, and takes whatever else it is told.
async fn answering(reply: impl Fn(&Got) -> Reply + Send + Sync + 'static) -> Server {
    Server::start(move |got| {
        let message = got.json();
        let is_answer = message.get("method").is_none() && message.get("id").is_some();
        if is_answer { accepted() } else { reply(got) }
    })
    .await
}

fn ran_value(got: &Got) -> Value {
    json!({"jsonrpc": "2.0", "id": got.json()["id"], "result": {"content": [{"type": "text", "text": "ran"}]}})
}

// From the client

/// "`method_denied`: by `methods`". "A denied method answers with a JSON-RPC error whose `error.data["mcp-policy.dev/denial"]` is
/// the same object." "all may be denied".
#[tokio::test]
async fn a_denied_method_is_answered_and_does_not_reach_the_server() {
    let server = Server::with_tools(&[]).await;
    let methods = json!({"resources/*": "deny", "resources/list": "allow", "initialize": "deny", "ping": "deny", "tools/list": "deny"});
    let sidecar = Sidecar::guarding(&server.url(), &json!({"default": "allow", "methods": methods}));
    for (method, rule) in [
        ("resources/read", "/methods/resources~1*"),
        ("initialize", "/methods/initialize"),
        ("ping", "/methods/ping"),
        ("tools/list", "/methods/tools~1list"),
    ] {
        let answer = sidecar.post(&request(7, method)).await;
        let denial = denial(&answer);
        assert_eq!((&denial["code"], &denial["rule"]), (&json!("method_denied"), &json!(rule)), "{method}");
        assert_eq!(answer.json()["id"], 7);
        assert!(answer.json()["error"]["message"].as_str().unwrap().contains("Nothing was executed"), "{}", answer.text());
    }
    assert_eq!(server.requests(), 0);
    let lines = sidecar.audit.at_least(4).await;
    assert_eq!(
        (&lines[0]["code"], &lines[0]["method"], &lines[0]["tool"]),
        (&json!("method_denied"), &json!("resources/read"), &Value::Null)
    );
    assert!(lines[0].get("fromServer").is_none());

    for (count, method) in ["resources/list", "prompts/list"].into_iter().enumerate() {
        assert!(sidecar.post(&request(8, method)).await.json()["result"].is_object(), "{method}");
        assert_eq!(server.requests(), count + 1);
    }
    assert!(sidecar.call("read").await.ran());
    let before = server.requests();
    sidecar.send(get()).await;
    let end = Request::delete("/mcp").header("host", "localhost").header("mcp-session-id", "s").body(Full::default()).unwrap();
    sidecar.send(end).await;
    assert_eq!(server.requests(), before + 2, "a stream and the end of a session are no methods");
}

#[tokio::test]
async fn a_denied_notification_is_dropped_and_written_down() {
    let server = Server::with_tools(&[]).await;
    let sidecar = Sidecar::guarding(&server.url(), &json!({"methods": {"notifications/roots/*": "deny"}}));
    let dropped = sidecar.post(&notification("notifications/roots/list_changed")).await;
    assert_eq!((dropped.status, dropped.body.len()), (StatusCode::ACCEPTED, 0));
    assert_eq!(server.requests(), 0);
    assert_eq!(sidecar.audit.at_least(1).await[0]["rule"], "/methods/notifications~1roots~1*");
    assert_eq!(sidecar.post(&notification("notifications/initialized")).await.status, StatusCode::ACCEPTED);
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn a_method_that_no_revision_has_passes_only_where_a_policy_allows_it() {
    let server = Server::with_tools(&[]).await;
    let methods = json!({"vendor/*": "allow", "vendor/evil": "deny", "notifications/vendor/*": "allow", "notifications/evil": "deny"});
    let sidecar = Sidecar::guarding(&server.url(), &json!({"methods": methods}));
    // `sampling/createMessage` is a method, but not one that clients use.
    for unknown in ["other/thing", "sampling/createMessage", "Ping"] {
        assert_eq!(sidecar.post(&request(1, unknown)).await.json()["error"]["code"], -32601, "{unknown}");
    }
    assert_eq!(denial(&sidecar.post(&request(1, "vendor/evil")).await)["rule"], "/methods/vendor~1evil");
    for dropped in ["notifications/other", "notifications/evil"] {
        assert_eq!(sidecar.post(&notification(dropped)).await.status, StatusCode::ACCEPTED, "{dropped}");
    }
    assert_eq!(server.requests(), 0);
    let codes: Vec<_> = sidecar.audit.at_least(6).await.iter().map(|line| line["code"].as_str().unwrap().to_owned()).collect();
    assert_eq!(codes, ["malformed", "malformed", "malformed", "method_denied", "malformed", "method_denied"]);

    assert!(sidecar.post(&request(1, "vendor/thing")).await.json()["result"].is_object());
    assert_eq!(sidecar.post(&notification("notifications/vendor/thing")).await.status, StatusCode::ACCEPTED);
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn a_method_that_an_audit_policy_denies_passes_and_is_written_down() {
    let server = Server::with_tools(&[]).await;
    let document = json!({"methods": {"resources/*": "deny", "notifications/cancelled": "deny"}});
    let sidecar = Sidecar::guarding(&server.url(), &manifest("audit", &document));
    assert!(sidecar.post(&request(1, "prompts/list")).await.json()["result"].is_object(), "nobody has a word about it: no line");
    assert!(sidecar.post(&request(1, "resources/list")).await.json()["result"].is_object());
    assert_eq!(sidecar.post(&notification("notifications/cancelled")).await.status, StatusCode::ACCEPTED);
    assert_eq!(server.requests(), 3);
    let lines = sidecar.audit.at_least(2).await;
    assert_eq!(lines.len(), 2);
    assert_eq!((&lines[0]["code"], &lines[0]["method"]), (&json!("allowed"), &json!("resources/list")));
    assert_eq!(lines[0]["audited"][0]["code"], "method_denied");
    assert_eq!(lines[0]["audited"][0]["rule"], "/methods/resources~1*");
    let metrics = sidecar.metrics().await;
    assert!(metrics.contains(r#"policy="ns/p",tool="",decision="refused",code="method_denied",mode="audit"} 2"#), "{metrics}");
}

// From the server

const ASKS: &str = "sampling/createMessage";

fn asks(id: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": ASKS, "params": {"messages": []}})
}

fn no_sampling() -> Value {
    json!({"default": "allow", "methods": {"sampling/*": "deny", "notifications/message": "deny"}})
}

/// The answers that a server got to its own requests.
async fn told(server: &Server, count: usize) -> Vec<(Got, Value)> {
    let answers = || server.got().into_iter().map(|got| (got.json(), got)).filter(|(message, _)| message.get("error").is_some());
    eventually("the server is told", async || answers().count() >= count).await;
    answers().map(|(message, got)| (got, message)).collect()
}

#[tokio::test]
async fn what_a_server_may_not_send_is_held_back_on_the_stream_of_a_call_and_it_is_told() {
    let server = answering(|got| {
        let progress = json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 1, "progress": 1}});
        let log = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "x"}});
        Reply::events(&[asks("s1"), progress, log, asks("s2"), ran_value(got)])
    })
    .await;
    let sidecar = Sidecar::guarding(&server.url(), &no_sampling());
    let mut request = mcp(call(1, "read").to_string());
    for (name, value) in [("mcp-session-id", "session"), ("authorization", "Bearer x"), ("mcp-method", "tools/call"), ("mcp-name", "read")]
    {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let events = sidecar.send(request).await.events();
    assert_eq!(events.len(), 2, "{events:?}");
    assert_eq!(events[0]["method"], "notifications/progress");
    assert_eq!(events[1]["result"]["content"][0]["text"], "ran");

    let told = told(&server, 2).await;
    assert_eq!(told.iter().map(|(_, message)| message["id"].as_str().unwrap()).collect::<Vec<_>>(), ["s1", "s2"]);
    for (got, message) in &told {
        assert_eq!((message["error"]["code"].as_i64(), &message["jsonrpc"]), (Some(-32601), &json!("2.0")), "{message}");
        assert_eq!((got.method.as_str(), got.target.as_str()), ("POST", "/mcp"));
        assert_eq!(got.headers["mcp-session-id"], "session");
        assert_eq!(got.headers["authorization"], "Bearer x");
        assert_eq!(got.headers["content-type"], "application/json");
        assert!(!got.headers.contains_key("mcp-name") && !got.headers.contains_key("mcp-method"), "{:?}", got.headers);
    }
    let lines = sidecar.audit.at_least(4).await;
    let held: Vec<_> = lines.iter().filter(|line| line["fromServer"] == true).collect();
    assert_eq!(held.iter().map(|line| line["method"].as_str().unwrap()).collect::<Vec<_>>(), [ASKS, "notifications/message", ASKS]);
    assert!(held.iter().all(|line| line["code"] == "method_denied"), "{held:?}");
    assert_eq!(held[0]["rule"], "/methods/sampling~1*");
    assert!(told[0].1.to_string().contains(held[0]["decisionId"].as_str().unwrap()), "the server can quote the line");
    assert_eq!(lines.iter().filter(|line| line["code"] == "allowed").count(), 1);
}

#[tokio::test]
async fn no_carrier_brings_what_a_server_may_not_send() {
    for carrier in ["json", "text", "two types", "list", "other request", "stream", "resumed", "notified"] {
        let server = answering(move |got| {
            let with_type = |content_type: &str, body: String| {
                Reply::Whole(Response::builder().header("content-type", content_type).body(body.into()).unwrap())
            };
            let id = &got.json()["id"];
            match carrier {
                "json" => Reply::json(&asks("s")),
                "text" => with_type("text/plain", asks("s").to_string()),
                "two types" => with_type("application/json, text/event-stream", format!("data: {}\n\n", asks("s"))),
                "list" => Reply::events(&[asks("s"), list(id, &["read"], None)]),
                "notified" => Reply::events(&[asks("s")]),
                "stream" | "resumed" => Reply::events(&[asks("s"), notification("notifications/progress")]),
                _ => Reply::events(&[asks("s"), json!({"jsonrpc": "2.0", "id": 1, "result": {}})]),
            }
        })
        .await;
        let sidecar = Sidecar::guarding(&server.url(), &no_sampling());
        let answer = match carrier {
            "list" => sidecar.post(&request(1, "tools/list")).await,
            "other request" => sidecar.post(&request(1, "prompts/list")).await,
            "notified" => sidecar.post(&notification("notifications/initialized")).await,
            "stream" => sidecar.send(get()).await,
            "resumed" => {
                let mut resumed = get();
                resumed.headers_mut().insert("last-event-id", "7".parse().unwrap());
                sidecar.send(resumed).await
            }
            _ => sidecar.call("read").await,
        };
        assert!(!answer.text().contains("messages"), "{carrier}: {}", answer.text());
        match carrier {
            "list" => assert_eq!(names(&answer.events()[0]), ["read"]),
            "other request" | "stream" | "resumed" => assert_eq!(answer.events().len(), 1, "{carrier}: {}", answer.text()),
            "notified" => assert_eq!(answer.body.len(), 0),
            _ => {
                assert_eq!(answer.denial()["code"], "upstream_unreachable", "{carrier}");
                assert!(!answer.text().contains("Nothing was executed"), "{carrier}: {}", answer.text());
            }
        }
        if carrier != "two types" {
            let (got, message) = told(&server, 1).await.remove(0);
            assert_eq!(message["id"], "s", "{carrier}");
            assert!(!got.headers.contains_key("last-event-id"), "{carrier}");
        }
    }
}

#[tokio::test]
async fn the_session_that_an_answer_opens_is_the_one_in_which_the_server_is_told() {
    let server = answering(|got| {
        let Reply::Whole(mut response) = Reply::events(&[asks("s"), json!({"jsonrpc": "2.0", "id": got.json()["id"], "result": {}})])
        else {
            unreachable!()
        };
        response.headers_mut().insert("mcp-session-id", "new".parse().unwrap());
        Reply::Whole(response)
    })
    .await;
    let sidecar = Sidecar::guarding(&server.url(), &no_sampling());
    let answer = sidecar.post(&request(0, "initialize")).await;
    assert_eq!((answer.events().len(), &answer.headers["mcp-session-id"]), (1, &"new".parse().unwrap()));
    assert_eq!(told(&server, 1).await[0].0.headers["mcp-session-id"], "new");
}

/// A request of the modern revision that names something.
fn modern(method: &str, name: &str) -> Request<Full<Bytes>> {
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}});
    let mut request = mcp(json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": {"name": name, "_meta": meta}}).to_string());
    for (header, value) in [("mcp-protocol-version", "2026-07-28"), ("mcp-method", method), ("mcp-name", name)] {
        request.headers_mut().insert(header, value.parse().unwrap());
    }
    request
}

#[tokio::test]
async fn a_modern_server_may_send_no_requests_and_is_told_nothing() {
    let (sender, reply) = Reply::stream();
    let reply = Mutex::new(Some(reply));
    let server = answering(move |_| reply.lock().unwrap().take().unwrap()).await;
    let sidecar = Sidecar::guarding(&server.url(), &no_sampling());
    let mut client = Client::connect(sidecar.proxy).await;
    let mut stream = client.open(modern("tools/call", "read")).await;
    let answer = format!("data: {}\n\n", json!({"jsonrpc": "2.0", "id": 1, "result": {}}));
    sender.send(format!("data: {}\n\n", asks("s")).into()).await.unwrap();
    sender.send(answer.clone().into()).await.unwrap();
    // What was held back is settled before more is read.
    assert_eq!(next_bytes(&mut stream).await.unwrap(), answer);
    assert_eq!(server.requests(), 1);
    assert_eq!(sidecar.audit.at_least(1).await[0]["code"], "method_denied");
}

#[tokio::test]
async fn an_answer_that_asks_for_what_is_denied_is_replaced() {
    let server = answering(|got| {
        let message = got.json();
        let inputs = json!({"q": {"method": "elicitation/create", "params": {}}, "s": {"method": ASKS, "params": {"messages": []}}});
        Reply::json(&json!({"jsonrpc": "2.0", "id": message["id"], "result": {"resultType": "input_required", "inputRequests": inputs}}))
    })
    .await;
    let sidecar = Sidecar::guarding(&server.url(), &no_sampling());
    let called = sidecar.send(modern("tools/call", "read")).await;
    let told = called.denial();
    assert_eq!((&told["code"], &told["rule"]), (&json!("method_denied"), &json!("/methods/sampling~1*")));
    assert_eq!(called.json()["result"]["resultType"], "complete");
    assert!(!called.text().contains("Nothing was executed"), "{}", called.text());
    let prompted = sidecar.send(modern("prompts/get", "greet")).await;
    assert_eq!(denial(&prompted)["code"], "method_denied");
    assert_eq!(server.requests(), 2);
    let held: Vec<_> = sidecar.audit.at_least(3).await.into_iter().filter(|line| line["fromServer"] == true).collect();
    assert_eq!(held[0]["decisionId"], told["decisionId"], "the agent can quote the line");
}

#[tokio::test]
async fn an_event_that_could_be_read_as_a_request_does_not_pass_and_a_plain_answer_may_hold_anything() {
    let odd =
        r#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"\ud800"}],"structuredContent":{"n":1e999,"a":1,"a":2}}}"#;
    for (data, passes) in [
        (odd.to_owned(), true),
        (asks("s").to_string().replacen("\"method\"", "\"Method\"", 1), false),
        (asks("s").to_string().replacen("\"method\"", "\"method\":\"ping\",\"method\"", 1), false),
        (format!("[{}]", asks("s")), false),
        (json!({"jsonrpc": "2.0", "id": 1, "result": {"inputrequests": {"s": {"method": ASKS}}}}).to_string(), false),
        (json!({"jsonrpc": "2.0", "id": 1, "result": {"inputRequests": {"s": {"Method": ASKS}}}}).to_string(), false),
        (format!("{}{}", ran_value(&got_of(1)), asks("s")), false),
    ] {
        let event = format!("event: message\ndata: {data}\n\n");
        let server = answering(move |_| {
            Reply::Whole(Response::builder().header("content-type", "text/event-stream").body(event.clone().into()).unwrap())
        })
        .await;
        let sidecar = Sidecar::guarding(&server.url(), &no_sampling());
        let answer = sidecar.call("read").await;
        assert_eq!(answer.text().contains(&data), passes, "{data}: {}", answer.text());
        if !passes {
            let events = answer.events();
            assert_eq!(events[0]["result"]["_meta"]["mcp-policy.dev/denial"]["code"], "upstream_unreachable", "{events:?}");
            assert_eq!(sidecar.audit.at_least(1).await[0]["code"], "upstream_unreachable");
        }
    }
}

fn got_of(id: u64) -> Got {
    Got { method: http::Method::POST, target: String::new(), headers: http::HeaderMap::new(), body: call(id, "read").to_string().into() }
}

#[tokio::test]
async fn an_open_stream_obeys_a_policy_that_comes_later() {
    let (sender, reply) = Reply::stream();
    let reply = Mutex::new(Some(reply));
    let server = answering(move |got| match reply.lock().unwrap().take() {
        Some(reply) => reply,
        None => ran(&got.json()),
    })
    .await;
    let sidecar = Sidecar::guarding(&server.url(), &json!({"default": "allow"}));
    let mut client = Client::connect(sidecar.proxy).await;
    let mut stream = client.open(mcp(call(1, "read").to_string())).await;
    let event = |message: &Value| Bytes::from(format!("data: {message}\n\n"));
    sender.send(event(&asks("before"))).await.unwrap();
    assert_eq!(next_bytes(&mut stream).await.unwrap(), event(&asks("before")));

    std::fs::write(&sidecar.policy, no_sampling().to_string()).unwrap();
    eventually("the change is in force", async || sidecar.get_admin("/snapshot").await.json()["sha256"] == sha256(&no_sampling())).await;
    sender.send(event(&asks("after"))).await.unwrap();
    let answer = event(&json!({"jsonrpc": "2.0", "id": 1, "result": {}}));
    sender.send(answer.clone()).await.unwrap();
    assert_eq!(next_bytes(&mut stream).await.unwrap(), answer);
    assert_eq!(told(&server, 1).await[0].1["id"], "after");
    drop(sender);
    assert_eq!(next_bytes(&mut stream).await, None);
}

fn sha256(policy: &Value) -> String {
    mcp_policy::snapshot::hex_sha256(policy.to_string().as_bytes())
}

#[tokio::test]
async fn what_an_audit_policy_would_hold_back_passes_and_is_written_down() {
    let server = answering(|got| Reply::events(&[asks("s"), ran_value(got)])).await;
    let sidecar = Sidecar::guarding(&server.url(), &manifest("audit", &no_sampling()));
    let events = sidecar.call("read").await.events();
    assert_eq!((events.len(), &events[0]["id"]), (2, &json!("s")));
    let lines = sidecar.audit.at_least(2).await;
    let line = lines.iter().find(|line| line["fromServer"] == true).unwrap();
    assert_eq!((&line["code"], &line["method"]), (&json!("allowed"), &json!(ASKS)));
    assert_eq!(line["audited"][0]["code"], "method_denied");
    assert_eq!(server.requests(), 1, "nobody is told anything");
}

#[tokio::test]
async fn answers_are_read_only_while_a_server_may_send_what_is_denied() {
    let progress = json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 1, "progress": 1}});
    for (methods, reads) in [
        (json!({"notifications/*": "deny"}), true),
        (json!({"notifications/progress": "deny"}), true),
        (json!({"*": "deny", "initialize": "allow"}), true),
        (json!({"resources/*": "deny", "prompts/get": "deny", "sampling/*": "allow"}), false),
        (json!({}), false),
    ] {
        let (events, text) = (Mutex::new(Some(progress.clone())), "not JSON at all");
        let server = answering(move |got| match events.lock().unwrap().take() {
            Some(progress) => Reply::events(&[progress, ran_value(got)]),
            None => Reply::Whole(Response::builder().header("content-type", "text/plain").body(text.into()).unwrap()),
        })
        .await;
        let sidecar = Sidecar::guarding(&server.url(), &json!({"default": "allow", "methods": methods}));
        assert_eq!(sidecar.call("read").await.events().len(), if reads { 1 } else { 2 }, "{methods}");
        assert_eq!(sidecar.call("read").await.text() == text, !reads, "{methods}");
    }
}

#[tokio::test]
async fn what_no_key_denies_passes_even_if_no_revision_has_it() {
    let server = answering(|got| Reply::events(&[notification("notifications/vendor/news"), ran_value(got)])).await;
    let sidecar = Sidecar::guarding(&server.url(), &no_sampling());
    assert_eq!(sidecar.call("read").await.events().len(), 2);
}

#[tokio::test]
async fn a_call_whose_answer_is_read_is_settled_as_any_other() {
    for (result, given_back) in [(json!({"error": {"code": -32602, "message": "x"}}), true), (json!({"result": {"content": []}}), false)] {
        for as_event in [false, true] {
            let mut answer = json!({"jsonrpc": "2.0", "id": 1});
            answer.as_object_mut().unwrap().extend(result.as_object().unwrap().clone());
            let server =
                answering(move |_| if as_event { Reply::events(std::slice::from_ref(&answer)) } else { Reply::json(&answer) }).await;
            let mut policy = no_sampling();
            policy["tools"] = json!({"read": {"limits": [{"counter": "one", "window": "hour", "max": 1}]}});
            let sidecar = Sidecar::guarding(&server.url(), &policy);
            sidecar.call("read").await;
            let again = !sidecar.call("read").await.text().contains("limit_exceeded");
            assert_eq!(again, given_back, "{result}, as event: {as_event}");
            assert_eq!(server.requests(), if given_back { 2 } else { 1 });
        }
    }
}
