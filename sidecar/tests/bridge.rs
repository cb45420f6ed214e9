//! `run --listen ADDR -- COMMAND`: a server on stdio, offered over Streamable HTTP.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

mod support;

use std::fs;
use std::path::PathBuf;

use http::{Method, Request, StatusCode};
use http_body_util::Full;
use mcp_policy_sidecar::config::ServerCommand;
use mcp_policy_sidecar::config::{Config, Limits, Upstream};
use serde_json::{Value, json};
use support::{Answered, Client, Sidecar, call, eventually, in_time, mcp, next_bytes};
use tempfile::TempDir;

const SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/server.py");
const SESSION: &str = "mcp-session-id";

/// A sidecar in front of a server on stdio, and what reached that.
struct Offered {
    sidecar: Sidecar,
    folder: TempDir,
}

impl Offered {
    fn start(policy: &Value) -> Self {
        Self::start_in_manner(policy, "")
    }

    fn start_in_manner(policy: &Value, manner: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let arguments = vec![SERVER.into(), log.into(), manner.into()];
        Self::of(folder, policy, ServerCommand { program: "python3".into(), arguments })
    }

    fn of(folder: TempDir, policy: &Value, server: ServerCommand) -> Self {
        let sidecar = Sidecar::configured("http://127.0.0.1:1", policy, |config: &mut Config| {
            config.upstream = Upstream::Command(server);
            config.limits = Limits { connect_timeout: std::time::Duration::from_millis(300), ..Limits::default() };
        });
        Self { sidecar, folder }
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn logged(&self, prefix: &str) -> Vec<String> {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        log.lines().filter_map(|line| line.strip_prefix(prefix)).map(str::to_owned).collect()
    }

    fn got(&self) -> Vec<Value> {
        self.logged("got ").iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn calls(&self) -> usize {
        self.got().iter().filter(|message| message["method"] == "tools/call").count()
    }

    /// Opens a session and returns its id.
    async fn open(&self) -> String {
        let answer = self.sidecar.post(&json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {}})).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        answer.headers[SESSION].to_str().unwrap().to_owned()
    }

    async fn post(&self, session: &str, message: &Value) -> Answered {
        self.sidecar.send(of_session(session, mcp(message.to_string()))).await
    }

    async fn call(&self, session: &str, tool: &str) -> Answered {
        self.post(session, &call(1, tool)).await
    }
}

fn of_session(session: &str, mut request: Request<Full<bytes::Bytes>>) -> Request<Full<bytes::Bytes>> {
    request.headers_mut().insert(SESSION, session.parse().unwrap());
    request
}

fn bare(method: Method, session: &str) -> Request<Full<bytes::Bytes>> {
    of_session(session, Request::builder().method(method).uri("/mcp").header("host", "localhost").body(Full::default()).unwrap())
}

fn modern(id: &Value, method: &str, params: &Value) -> Request<Full<bytes::Bytes>> {
    let mut params = params.clone();
    params["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!("2026-07-28");
    params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = json!({});
    let name = params.get("name").and_then(Value::as_str).map(str::to_owned);
    let mut request = mcp(json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string());
    let headers = request.headers_mut();
    headers.insert("mcp-protocol-version", "2026-07-28".parse().unwrap());
    headers.insert("mcp-method", method.parse().unwrap());
    if let Some(name) = name {
        headers.insert("mcp-name", name.parse().unwrap());
    }
    request
}

#[tokio::test]
async fn ten_calls_of_a_session_pass_and_the_eleventh_is_refused_without_reaching_the_server() {
    let limit = json!({"tools": {"read": {"limits": [{"counter": "c", "window": "minute", "max": 10, "scope": "session"}]}}});
    let offered = Offered::start(&limit);
    let session = offered.open().await;
    let told = offered.post(&session, &json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
    assert_eq!((told.status, told.body.len()), (StatusCode::ACCEPTED, 0));
    let listed = offered.post(&session, &json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})).await;
    assert_eq!(listed.tools(), ["read"]);
    assert_eq!(listed.headers["content-type"], "application/json");
    for _ in 0..10 {
        assert!(offered.call(&session, "read").await.ran());
    }
    assert_eq!(offered.call(&session, "read").await.denial()["code"], "limit_exceeded");
    assert_eq!(offered.call(&session, "purge").await.denial()["code"], "default_deny");
    assert_eq!(offered.calls(), 10);
    // Another session has a server and a budget of its own.
    let other = offered.open().await;
    assert!(offered.call(&other, "read").await.ran());
    assert_eq!(offered.logged("pid ").len(), 2);
    let lines = offered.sidecar.audit.at_least(13).await;
    assert!(lines.iter().filter(|line| line["code"] == "allowed").count() == 11, "{lines:?}");
}

#[tokio::test]
async fn a_message_of_many_lines_is_one_line_to_the_server_and_otherwise_what_was_judged() {
    let offered = Offered::start(&json!({"default": "allow"}));
    let session = offered.open().await;
    let body = "{\"jsonrpc\":\"2.0\",\r\n \"id\":\"\\u0031\",\"method\":\"tools/call\",\n\"params\":{\"name\":\"read\",\"arguments\":{\"n\":1.50e2}}}";
    let answer = offered.sidecar.send(of_session(&session, mcp(body))).await;
    assert!(answer.ran() && answer.json()["id"] == "1", "{}", answer.text());
    assert_eq!(offered.logged("got ").last(), Some(&body.replace(['\r', '\n'], " ")));
}

#[tokio::test]
async fn a_session_is_known_until_it_ends() {
    let offered = Offered::start(&json!({"default": "allow"}));
    let without = offered.sidecar.call("read").await;
    assert_eq!((without.status, &without.json()["id"]), (StatusCode::BAD_REQUEST, &json!(1)));
    assert_eq!(offered.call("made-up", "read").await.status, StatusCode::NOT_FOUND);
    let discovery = Request::get("/.well-known/oauth-protected-resource/mcp").header("host", "localhost").body(Full::default()).unwrap();
    assert_eq!(offered.sidecar.send(discovery).await.status, StatusCode::NOT_FOUND);
    assert_eq!(offered.calls(), 0);

    let session = offered.open().await;
    assert!(offered.call(&session, "read").await.ran());
    assert_eq!(offered.sidecar.send(bare(Method::DELETE, &session)).await.status, StatusCode::OK);
    assert_eq!(offered.call(&session, "read").await.status, StatusCode::NOT_FOUND);
    assert_eq!(offered.sidecar.send(bare(Method::GET, &session)).await.status, StatusCode::NOT_FOUND);
    eventually("the session's server ends", async || offered.logged("end").len() == 1).await;
    assert_eq!(offered.calls(), 1);
}

#[tokio::test]
async fn the_session_that_nobody_has_used_for_longest_makes_room() {
    let answers = r#"while read line; do echo '{"jsonrpc":"2.0","id":0,"result":{}}'; done"#;
    let server = ServerCommand { program: "sh".into(), arguments: vec!["-c".into(), answers.into()] };
    let offered = Offered::of(tempfile::tempdir().unwrap(), &json!({"default": "allow"}), server);
    let listening = offered.open().await;
    let mut client = Client::connect(offered.sidecar.proxy).await;
    let _stream = client.open(bare(Method::GET, &listening)).await;
    let idle = offered.open().await;
    let mut others = Vec::new();
    for _ in 2..32 {
        others.push(offered.open().await);
    }
    let ping = async |session: &str| offered.post(session, &json!({"jsonrpc": "2.0", "id": 0, "method": "ping"})).await.status;
    assert_eq!(ping(&idle).await, StatusCode::OK, "there is room for 32");
    others.push(offered.open().await);
    assert_eq!(ping(&others[0]).await, StatusCode::NOT_FOUND, "the one that was used first of all went");
    for session in others[1..].iter().chain([&listening, &idle]) {
        assert_eq!(ping(session).await, StatusCode::OK);
    }
}

#[tokio::test]
async fn what_comes_before_an_answer_makes_it_a_stream() {
    let offered = Offered::start(&json!({"default": "allow"}));
    let session = offered.open().await;
    let asked = json!({"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": {"name": "progress", "_meta": {"progressToken": "t"}}});
    let answer = offered.post(&session, &asked).await;
    assert_eq!(answer.headers["content-type"], "text/event-stream");
    let events = answer.events();
    assert_eq!((&events[0]["params"]["progressToken"], &events[1]["id"], events.len()), (&json!("t"), &json!(5), 2));
}

#[tokio::test]
async fn a_request_of_the_server_reaches_the_client_and_its_answer_the_server() {
    let offered = Offered::start(&json!({"default": "allow"}));
    let session = offered.open().await;
    let mut client = Client::connect(offered.sidecar.proxy).await;
    let mut stream = client.open(of_session(&session, mcp(call(1, "ask").to_string()))).await;
    let event = next_bytes(&mut stream).await.unwrap();
    assert!(String::from_utf8_lossy(&event).contains("sampling/createMessage"));
    let answer = offered.post(&session, &json!({"jsonrpc": "2.0", "id": "s1", "result": {"role": "assistant"}})).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    let event = next_bytes(&mut stream).await.unwrap();
    assert!(String::from_utf8_lossy(&event).contains("assistant"));

    let denied = Offered::start(&json!({"default": "allow", "methods": {"sampling/*": "deny"}}));
    let session = denied.open().await;
    let answer = denied.call(&session, "ask").await;
    let events = answer.events();
    assert!(events.len() == 1 && events[0].to_string().contains("-32601"), "the server was told, and the client saw nothing: {events:?}");
}

#[tokio::test]
async fn what_the_server_says_of_its_own_accord_comes_on_the_clients_stream() {
    let offered = Offered::start(&json!({"default": "allow", "methods": {"notifications/changed": "allow"}}));
    let session = offered.open().await;
    let change = json!({"jsonrpc": "2.0", "method": "notifications/changed"});
    // It is kept for a client that has no stream yet.
    offered.post(&session, &change).await;
    eventually("the server heard it", async || offered.got().iter().any(|got| got["method"] == "notifications/changed")).await;
    let mut client = Client::connect(offered.sidecar.proxy).await;
    let mut stream = client.open(bare(Method::GET, &session)).await;
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    for _ in 0..2 {
        let event = next_bytes(&mut stream).await.unwrap();
        assert!(String::from_utf8_lossy(&event).contains("notifications/tools/list_changed"));
        offered.post(&session, &change).await;
    }
    offered.sidecar.send(bare(Method::DELETE, &session)).await;
    while next_bytes(&mut stream).await.is_some() {}
}

#[tokio::test]
async fn a_server_that_ends_fails_its_calls_and_the_next_session_has_another() {
    let offered = Offered::start(&json!({"tools": {"*": {"limits": [{"counter": "c", "window": "hour", "max": 2}]}}}));
    let session = offered.open().await;
    let failed = offered.call(&session, "die").await;
    assert_eq!(failed.denial()["code"], "upstream_unreachable");
    assert!(failed.text().contains("The tool may have run"), "{}", failed.text());
    eventually("the session is over", async || offered.call(&session, "read").await.status == StatusCode::NOT_FOUND).await;
    eventually("there is another server", async || {
        let answer = offered.sidecar.post(&json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {}})).await;
        answer.headers.contains_key(SESSION)
    })
    .await;
    let session = offered.open().await;
    assert!(offered.call(&session, "read").await.ran(), "what did not reach the server was given back");
    assert_eq!(offered.call(&session, "read").await.denial()["code"], "limit_exceeded", "what may have run was not");
}

#[tokio::test]
async fn a_stream_whose_server_ends_says_so() {
    let offered = Offered::start(&json!({"default": "allow"}));
    let session = offered.open().await;
    let mut client = Client::connect(offered.sidecar.proxy).await;
    let mut stream = client.open(of_session(&session, mcp(call(3, "die_in_progress").to_string()))).await;
    let event = next_bytes(&mut stream).await.unwrap();
    assert!(String::from_utf8_lossy(&event).contains("going"));
    offered.post(&session, &json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
    let event = String::from_utf8(next_bytes(&mut stream).await.unwrap().to_vec()).unwrap();
    let answer: Value = serde_json::from_str(event.split_once("data: ").unwrap().1).unwrap();
    assert_eq!((&answer["id"], &answer["result"]["isError"]), (&json!(3), &json!(true)));
    assert!(next_bytes(&mut stream).await.is_none());
    let line = offered.sidecar.audit.at_least(1).await.pop().unwrap();
    assert_eq!(line["code"], "upstream_unreachable");
}

#[tokio::test]
async fn a_server_that_ends_at_once_is_started_less_and_less_often() {
    let offered = Offered::start_in_manner(&json!({"default": "allow"}), "dead");
    let failed = || async { offered.sidecar.post(&json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {}})).await };
    for _ in 0..30 {
        let answer = failed().await;
        assert_eq!(answer.json()["error"]["code"], -32603, "{}", answer.text());
        assert!(!answer.headers.contains_key(SESSION));
    }
    let starts = offered.logged("pid ").len();
    assert!((2..6).contains(&starts), "started {starts} times");
}

#[tokio::test]
async fn clients_without_sessions_share_a_server_and_get_only_what_is_theirs() {
    let offered = Offered::start(&json!({"default": "allow"}));
    let ask = |id: Value| offered.sidecar.send(modern(&id, "tools/call", &json!({"name": "progress", "_meta": {"progressToken": id}})));
    let (one, other, text) = tokio::join!(ask(json!(1)), ask(json!(1)), ask(json!("\u{e4}1")));
    for (answer, id) in [(one, json!(1)), (other, json!(1)), (text, json!("\u{e4}1"))] {
        let events = answer.events();
        assert_eq!((events.len(), &events[0]["params"]["progressToken"], &events[1]["id"]), (2, &id, &id), "{events:?}");
    }
    assert_eq!(offered.logged("pid ").len(), 1);

    let mut client = Client::connect(offered.sidecar.proxy).await;
    let mut stream = client.open(modern(&json!("s"), "subscriptions/listen", &json!({"notifications": {}}))).await;
    let event = String::from_utf8(next_bytes(&mut stream).await.unwrap().to_vec()).unwrap();
    assert!(event.contains(r#""io.modelcontextprotocol/subscriptionId": "s""#), "{event}");
    // A message that names nobody's request is nobody's.
    let ran = offered.sidecar.send(modern(&json!(2), "tools/call", &json!({"name": "read"}))).await;
    assert!(ran.ran(), "{}", ran.text());
    // Closing the stream is how clients of this revision cancel.
    drop((stream, client));
    eventually("the server is told", async || offered.got().iter().any(|got| got["method"] == "notifications/cancelled")).await;
    let got = offered.got();
    let listen = got.iter().find(|got| got["method"] == "subscriptions/listen").unwrap();
    let cancelled = got.iter().find(|got| got["method"] == "notifications/cancelled").unwrap();
    assert_eq!(cancelled["params"]["requestId"], listen["id"]);
}

#[tokio::test]
async fn the_end_of_the_sidecar_is_the_end_of_every_server() {
    let offered = Offered::start(&json!({"default": "allow"}));
    offered.open().await;
    offered.open().await;
    offered.sidecar.send(modern(&json!(1), "tools/call", &json!({"name": "read"}))).await;
    let Offered { sidecar, folder } = offered;
    sidecar.drain.terminate();
    in_time("the sidecar's end", sidecar.ended).await.unwrap();
    let log = fs::read_to_string(folder.path().join("log")).unwrap();
    assert_eq!(log.lines().filter(|line| *line == "end").count(), 3, "{log}");
}
