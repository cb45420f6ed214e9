//! The proxy on real sockets: what passes, what is refused, and that a refusal leaves the server untouched.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

mod support;

use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use mcp_policy_sidecar::config::{OperatorSource, Source};
use serde_json::{Value, json};
use support::{Client, Reply, Server, Sidecar, call, eventually, list, mcp, names, next_bytes, ran};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const EXPORT: &str = "start_dicom_export_job";

/// Ten calls a minute to one tool, and nothing else.
fn imaging() -> Value {
    limited(10)
}

fn limited(max: u64) -> Value {
    json!({"version": "1", "default": "deny", "tools": {
        EXPORT: {"limits": [{"counter": "start_dicom_export_job_rate", "window": "minute", "max": max, "scope": "grant"}]}}})
}

fn initialize() -> Value {
    json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}})
}

// Calls

#[tokio::test]
async fn ten_calls_pass_and_the_eleventh_is_refused_without_reaching_the_server() {
    let server = Server::with_tools(&[EXPORT]).await;
    let sidecar = Sidecar::guarding(&server.url(), &imaging());
    for _ in 0..10 {
        assert!(sidecar.call(EXPORT).await.ran());
    }
    let denial = sidecar.call(EXPORT).await.denial();
    assert_eq!(denial["code"], "limit_exceeded");
    assert_eq!(denial["rule"], format!("/tools/{EXPORT}/limits/start_dicom_export_job_rate"));
    let seconds = denial["retryAfterSeconds"].as_u64().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    assert_eq!(server.requests(), 10);
}

#[tokio::test]
async fn hidden_denied_and_unnamed_tools_are_refused_without_reaching_the_server() {
    let server = Server::with_tools(&[]).await;
    let policy = json!({"hide": ["secret_*"], "tools": {"purge": {"action": "deny", "reason": "ask radiology"}, "read": {}}});
    let sidecar = Sidecar::guarding(&server.url(), &policy);
    let hidden = sidecar.call("secret_tool").await.json();
    assert_eq!(hidden["error"]["code"], -32602, "{hidden}");
    assert!(!hidden.to_string().contains("policy"), "a hidden tool is answered as an unknown one: {hidden}");
    let denied = sidecar.call("purge").await;
    assert_eq!(denied.denial()["code"], "tool_denied");
    assert!(denied.text().contains("ask radiology"));
    assert_eq!(sidecar.call("other").await.denial()["code"], "default_deny");
    assert_eq!(server.requests(), 0);
    assert!(sidecar.call("read").await.ran());
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn the_bytes_that_were_judged_are_the_bytes_that_arrive() {
    let server = Server::with_tools(&[]).await;
    let sidecar = Sidecar::guarding(&server.url(), &json!({"default": "allow"}));
    let body = "{ \"params\" :{\"arguments\":{\"n\":1.50e2,\"big\":9007199254740993,\"t\":\"\\u0061\\/\"},\"name\":\"re\\u0061d\"},\n\"method\":\"tools\\/call\",\"id\":\"\\u0031\",\"jsonrpc\":\"2.0\"} ";
    let answer = sidecar.post_bytes(body).await;
    assert!(answer.ran());
    assert_eq!(answer.json()["id"], "1");
    let got = server.got();
    assert_eq!(got[0].body, body.as_bytes());
    assert_eq!(got[0].headers["content-length"], body.len().to_string());
    assert_eq!(got[0].headers["accept-encoding"], "identity");
    assert_eq!(got[0].headers["host"], server.address.to_string());
    assert_eq!(sidecar.audit.at_least(1).await[0]["tool"], "read");
}

#[tokio::test]
async fn a_message_that_reads_two_ways_is_refused_without_reaching_the_server() {
    let server = Server::with_tools(&[]).await;
    let sidecar = Sidecar::guarding(&server.url(), &json!({"default": "allow"}));
    let good = call(1, "read").to_string();
    let mut bodies: Vec<Vec<u8>> = [
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read","name":"purge"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read","n\u0061me":"purge"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read","Name":"purge"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","method":"tools/call","params":{"name":"read"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","result":{},"params":{"name":"read"}}"#,
        r#"{"jsonrpc":"2.0","id":null,"method":"tools/call","params":{"name":"read"}}"#,
        r#"{"jsonrpc":"2.0","method":"tools/call","params":{"name":"read"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read","arguments":{"a":NaN}}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read","arguments":{"a":1e400}}}"#,
        "",
        "{}",
        "null",
    ]
    .iter()
    .map(|body| body.as_bytes().to_vec())
    .collect();
    bodies.push(format!("[{good}]").into_bytes());
    bodies.push(format!("{good}{good}").into_bytes());
    bodies.push([b"\xef\xbb\xbf", good.as_bytes()].concat());
    bodies
        .push(good.replace("secret-value", "\u{fffd}").into_bytes().iter().map(|byte| if *byte == 0xef { 0xff } else { *byte }).collect());
    let count = bodies.len();
    for body in bodies {
        let answer = sidecar.post_bytes(body.clone()).await;
        assert!(answer.status.is_client_error(), "{} for {}", answer.status, String::from_utf8_lossy(&body));
        assert!(answer.json()["error"]["code"].is_i64());
    }
    assert_eq!(server.requests(), 0);
    let lines = sidecar.audit.at_least(count).await;
    assert!(lines.iter().all(|line| line["code"] == "malformed" && line["malformed"].is_string()));
    let metrics = sidecar.metrics().await;
    let counted =
        format!("mcp_policy_decisions_total{{policy=\"\",tool=\"\",decision=\"refused\",code=\"malformed\",mode=\"enforce\"}} {count}");
    assert!(metrics.contains(&counted), "{metrics}");
}

/// A Go server reads `Operation` as `operation`, and of both the later one.
#[tokio::test]
async fn an_argument_that_some_servers_take_for_another_is_refused_without_reaching_the_server() {
    let server = Server::with_tools(&[]).await;
    let denied = json!([{"conditions": [{"path": "args.operation", "op": "eq", "value": "delete"}]}]);
    let sidecar = Sidecar::guarding(&server.url(), &json!({"tools": {"query": {"denyIf": denied}, "any": {}}}));
    let call = |tool: &str, arguments: Value| {
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}})
            .to_string()
            .into_bytes()
    };
    for tool in ["query", "any"] {
        let answer = sidecar.post_bytes(call(tool, json!({"operation": "read", "Operation": "delete"}))).await;
        assert_eq!((answer.status.as_u16(), answer.json()["error"]["code"].clone()), (200, json!(-32602)), "the client keeps its session");
    }
    for key in ["Operation", "operation\0", "o\u{200b}peration", "ｏperation"] {
        let answer = sidecar.post_bytes(call("query", json!({key: "delete"}))).await;
        assert_eq!(answer.json()["result"]["_meta"]["mcp-policy.dev/denial"]["code"], "policy_error", "{key:?}");
    }
    assert_eq!(server.requests(), 0);
    let lines = sidecar.audit.at_least(6).await;
    assert!(lines[..2].iter().all(|line| line["code"] == "malformed" && line["malformed"] == "lookalike_key"), "{lines:?}");
    for (tool, arguments) in [("query", json!({"operation": "read"})), ("query", json!({"other": 1})), ("any", json!({"Operation": 1}))] {
        sidecar.post_bytes(call(tool, arguments)).await;
    }
    assert_eq!(server.requests(), 3);
}

#[tokio::test]
async fn a_head_that_says_something_else_is_refused_without_reaching_the_server() {
    let server = Server::with_tools(&[]).await;
    let sidecar = Sidecar::guarding(&server.url(), &json!({"default": "allow"}));
    let change = |change: &dyn Fn(&mut Request<Full<Bytes>>)| {
        let mut request = mcp(call(1, "read").to_string());
        change(&mut request);
        request
    };
    let header = |name: &'static str, value: &'static str| {
        change(&move |request| {
            request.headers_mut().insert(name, value.parse().unwrap());
        })
    };
    for (request, status) in [
        (header("content-type", "text/plain"), 415),
        (header("content-type", "application/json; charset=utf-16"), 400),
        (header("content-encoding", "gzip"), 415),
        (header("mcp-protocol-version", "1999-01-01"), 400),
        (header("mcp-name", "another"), 400),
        (change(&|request| *request.uri_mut() = "/mcp/".parse().unwrap()), 404),
        (change(&|request| *request.uri_mut() = "//mcp".parse().unwrap()), 404),
        (change(&|request| *request.uri_mut() = "/%6dcp".parse().unwrap()), 404),
        (change(&|request| *request.uri_mut() = "/admin".parse().unwrap()), 404),
        (change(&|request| *request.method_mut() = http::Method::PUT), 405),
    ] {
        let what = format!("{request:?}");
        assert_eq!(sidecar.send(request).await.status, status, "{what}");
    }
    assert_eq!(server.requests(), 0);
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_without_reaching_the_server() {
    let server = Server::with_tools(&[]).await;
    let sidecar = Sidecar::configured(&server.url(), &json!({"default": "allow"}), |config| config.limits.body_bytes = 1000);
    let long = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "read", "arguments": {"a": "x".repeat(1000)}}});
    assert_eq!(sidecar.post(&long).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(server.requests(), 0);
    assert!(sidecar.call("read").await.ran());
}

#[tokio::test]
async fn long_bodies_share_a_bounded_room_and_short_ones_need_none() {
    let server = Server::with_tools(&[]).await;
    let sidecar = Sidecar::configured(&server.url(), &json!({"default": "allow"}), |config| {
        config.limits.small_body_bytes = 500;
        config.limits.held_bytes = 1000;
    });
    let with = |length| json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "read", "arguments": {"a": "x".repeat(length)}}});
    let refused = sidecar.post(&with(1000)).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(server.requests(), 0);
    // The room is given back: one after the other fits.
    for _ in 0..3 {
        assert!(sidecar.post(&with(600)).await.ran());
    }
    assert!(sidecar.call("read").await.ran());
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_given_up() {
    let server = Server::with_tools(&[]).await;
    let sidecar =
        Sidecar::configured(&server.url(), &json!({"default": "allow"}), |config| config.limits.body_timeout = Duration::from_millis(50));
    let mut stream = TcpStream::connect(sidecar.proxy).await.unwrap();
    stream
        .write_all(b"POST /mcp HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{")
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert_eq!(server.requests(), 0);
}

#[tokio::test]
async fn a_head_that_does_not_arrive_is_given_up() {
    let server = Server::with_tools(&[]).await;
    let sidecar =
        Sidecar::configured(&server.url(), &json!({"default": "allow"}), |config| config.limits.head_timeout = Duration::from_millis(50));
    let mut stream = TcpStream::connect(sidecar.proxy).await.unwrap();
    stream.write_all(b"POST /mcp HTTP/1.1\r\n").await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert_eq!(server.requests(), 0);
}

#[tokio::test]
async fn more_connections_than_the_limit_wait() {
    let server = Server::with_tools(&[]).await;
    let sidecar = Sidecar::configured(&server.url(), &json!({"default": "allow"}), |config| config.limits.connections = 1);
    let mut first = Client::connect(sidecar.proxy).await;
    assert!(first.send(mcp(call(1, "read").to_string())).await.status.is_success());
    let second = tokio::spawn({
        let proxy = sidecar.proxy;
        async move { Client::connect(proxy).await.send(mcp(call(2, "read").to_string())).await.ran() }
    });
    // The first keeps being served while the second waits.
    for id in 3..6 {
        assert!(first.send(mcp(call(id, "read").to_string())).await.ran());
    }
    assert!(!second.is_finished());
    drop(first);
    assert!(second.await.unwrap());
}

// Lists

#[tokio::test]
async fn lists_lose_what_is_hidden_or_denied_on_every_page_and_in_both_forms() {
    let server = Server::start(|got| {
        let message = got.json();
        let page = match message["params"]["cursor"].as_str() {
            None => list(&message["id"], &["read", "purge", "secret"], Some("next")),
            Some(_) => list(&message["id"], &["secret_2", "write"], None),
        };
        if got.headers["accept"] == "text/event-stream" {
            let progress = json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 1, "progress": 1}});
            Reply::events(&[progress, page])
        } else {
            Reply::json(&page)
        }
    })
    .await;
    let policy = json!({"default": "allow", "hide": ["secret*"], "tools": {"purge": {"action": "deny"}}});
    let sidecar = Sidecar::guarding(&server.url(), &policy);
    let first = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    let second = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/list", "params": {"cursor": "next"}});

    let answer = sidecar.post(&first).await;
    assert_eq!(answer.tools(), ["read"]);
    assert_eq!(answer.json()["result"]["nextCursor"], "next");
    assert_eq!(sidecar.post(&second).await.tools(), ["write"]);

    for (message, expected) in [(first, "read"), (second, "write")] {
        let mut request = mcp(message.to_string());
        request.headers_mut().insert("accept", "text/event-stream".parse().unwrap());
        let events = sidecar.send(request).await.events();
        assert_eq!(events[0]["method"], "notifications/progress");
        assert_eq!(names(&events[1]), [expected]);
    }
}

#[tokio::test]
async fn a_list_that_cannot_be_read_does_not_pass() {
    let whole = |headers: &[(&'static str, &'static str)], body: &'static str| {
        let mut response = Response::builder();
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        Reply::Whole(response.body(Bytes::from_static(body.as_bytes())).unwrap())
    };
    let server = Server::start(move |got| {
        let json = ("content-type", "application/json");
        match got.json()["params"]["cursor"].as_str() {
            Some("encoded") => {
                whole(&[json, ("content-encoding", "gzip")], r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"secret"}]}}"#)
            }
            Some("text") => whole(&[("content-type", "text/plain")], r#"["secret"]"#),
            Some("twice") => whole(&[json], r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[]},"result":{"tools":[{"name":"secret"}]}}"#),
            Some("other id") => whole(&[json], r#"{"jsonrpc":"2.0","id":2,"result":{"tools":[{"name":"secret"}]}}"#),
            Some("event") => whole(&[("content-type", "text/event-stream")], "data: {\"secret\n\n"),
            Some("other event") => whole(
                &[("content-type", "text/event-stream")],
                "data: {\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{\"tools\":[{\"name\":\"secret\"}]}}\n\n",
            ),
            _ => Reply::Whole(Response::builder().status(302).header("location", "/secret").body(Bytes::new()).unwrap()),
        }
    })
    .await;
    let sidecar = Sidecar::guarding(&server.url(), &json!({"default": "allow", "hide": ["secret"]}));
    for cursor in ["encoded", "text", "twice", "other id", "event", "other event", "redirect"] {
        let answer = sidecar.post(&json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"cursor": cursor}})).await;
        assert!(!answer.text().contains("secret") && !answer.text().contains("result"), "{cursor}: {}", answer.text());
        assert!(!answer.headers.contains_key("location"));
    }
}

#[tokio::test]
async fn a_list_on_the_stream_that_a_client_opened_is_filtered_too() {
    let server = Server::start(|got| {
        assert_eq!(got.headers["last-event-id"], "7");
        Reply::events(&[
            json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}),
            list(&json!(1), &["read", "secret"], None),
            json!({"jsonrpc": "2.0", "id": 2, "result": {"content": []}}),
        ])
    })
    .await;
    let sidecar = Sidecar::guarding(&server.url(), &json!({"default": "allow", "hide": ["secret"]}));
    let request = Request::get("/mcp")
        .header("host", "127.0.0.1")
        .header("accept", "text/event-stream")
        .header("last-event-id", "7")
        .body(Full::default())
        .unwrap();
    let events = sidecar.send(request).await.events();
    assert_eq!(events.len(), 3);
    assert_eq!(names(&events[1]), ["read"]);
}

#[tokio::test]
async fn a_name_that_the_server_listed_may_be_unusual_and_becomes_a_label() {
    let server = Server::with_tools(&["größe/µm"]).await;
    let sidecar = Sidecar::guarding(&server.url(), &json!({"default": "allow"}));
    assert_eq!(sidecar.call("größe/µm").await.denial()["code"], "malformed");
    assert_eq!(server.requests(), 0);
    sidecar.post(&json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})).await;
    assert!(sidecar.call("größe/µm").await.ran());
    assert!(sidecar.call("unlisted").await.ran());
    let metrics = sidecar.metrics().await;
    assert!(metrics.contains("tool=\"größe/µm\""), "{metrics}");
    assert!(metrics.contains("tool=\"other\""), "{metrics}");
    assert!(!metrics.contains("unlisted"), "{metrics}");
}

// Answers

#[tokio::test]
async fn events_pass_one_by_one_as_they_come() {
    let (sender, reply) = Reply::stream();
    let reply = Mutex::new(Some(reply));
    let server = Server::start(move |_| reply.lock().unwrap().take().unwrap()).await;
    let sidecar = Sidecar::guarding(&server.url(), &imaging());
    let mut client = Client::connect(sidecar.proxy).await;
    let mut response = client.open(mcp(call(1, EXPORT).to_string())).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    for event in [": hello\n\n", "id: 1\nretry: 5\ndata:\n\n", "event: message\ndata: {\"a\":1}\n\n"] {
        // The next is only sent when this one has arrived.
        sender.send(Bytes::from_static(event.as_bytes())).await.unwrap();
        assert_eq!(next_bytes(&mut response).await.unwrap(), event);
    }
    drop(sender);
    assert_eq!(next_bytes(&mut response).await, None);
}

#[tokio::test]
async fn a_caller_who_leaves_takes_the_call_along_and_keeps_it_counted() {
    let server = Server::start(|got| if got.json()["params"]["name"] == EXPORT { Reply::Never } else { ran(&got.json()) }).await;
    let sidecar = Sidecar::guarding(&server.url(), &limited(1));
    let proxy = sidecar.proxy;
    let waiting = tokio::spawn(async move { Client::connect(proxy).await.try_open(mcp(call(1, EXPORT).to_string())).await.is_ok() });
    eventually("the call arrives", async || server.requests() == 1).await;
    waiting.abort();
    eventually("the server sees the caller leave", async || server.abandoned() == 1).await;
    let line = &sidecar.audit.at_least(1).await[0];
    assert_eq!((line["code"].as_str(), &line["upstreamStatus"]), (Some("allowed"), &Value::Null));
    assert_eq!(sidecar.call(EXPORT).await.denial()["code"], "limit_exceeded", "hanging up must not give the call back");
}

#[tokio::test]
async fn a_caller_who_leaves_an_open_stream_closes_it_at_the_server() {
    let (sender, reply) = Reply::stream();
    let reply = Mutex::new(Some(reply));
    let server = Server::start(move |_| reply.lock().unwrap().take().unwrap()).await;
    let sidecar = Sidecar::guarding(&server.url(), &imaging());
    let mut client = Client::connect(sidecar.proxy).await;
    let mut response = client.open(mcp(call(1, EXPORT).to_string())).await;
    sender.send(Bytes::from_static(b": one\n\n")).await.unwrap();
    next_bytes(&mut response).await.unwrap();
    assert!(sidecar.metrics().await.contains("mcp_policy_requests_in_flight 1"));
    drop((response, client));
    eventually("the server sees the caller leave", async || server.abandoned() == 1).await;
    assert_eq!(sidecar.audit.at_least(1).await[0]["upstreamStatus"], 200);
    eventually("the request is over", async || sidecar.metrics().await.contains("mcp_policy_requests_in_flight 0")).await;
}

#[tokio::test]
async fn a_call_is_given_back_only_if_the_tool_certainly_did_not_run() {
    for (what, status, answer, given_back) in [
        ("a result", 200, json!({"jsonrpc": "2.0", "id": 1, "result": {"content": []}}), false),
        ("a result that is an error", 200, json!({"jsonrpc": "2.0", "id": 1, "result": {"content": [], "isError": true}}), false),
        ("an error", 200, json!({"jsonrpc": "2.0", "id": 1, "error": {"code": -32602, "message": "no such tool"}}), true),
        ("an error with another id", 200, json!({"jsonrpc": "2.0", "id": 2, "error": {"code": 1, "message": "x"}}), false),
        ("a 404", 404, json!({"error": "no session"}), true),
        ("a 500 that is no answer", 500, json!({"error": "crashed"}), false),
        ("a 500 with an error", 500, json!({"jsonrpc": "2.0", "id": 1, "error": {"code": -32603, "message": "x"}}), true),
    ] {
        for as_event in [false, true] {
            let reply = answer.clone();
            let server = Server::start(move |_| {
                let reply = if as_event { Reply::events(std::slice::from_ref(&reply)) } else { Reply::json(&reply) };
                let Reply::Whole(mut response) = reply else { unreachable!() };
                *response.status_mut() = StatusCode::from_u16(status).unwrap();
                Reply::Whole(response)
            })
            .await;
            let sidecar = Sidecar::guarding(&server.url(), &limited(1));
            let first = sidecar.call(EXPORT).await;
            assert_eq!(first.status.as_u16(), status, "{what}: the answer passes as it came");
            let second = sidecar.call(EXPORT).await;
            let again = second.status.as_u16() == status && !second.text().contains("limit_exceeded");
            assert_eq!(again, given_back, "{what}, as event: {as_event}");
            assert_eq!(server.requests(), if given_back { 2 } else { 1 }, "{what}");
        }
    }
}

#[tokio::test]
async fn a_server_that_is_down_gives_the_call_back_and_a_denial() {
    let address = Server::with_tools(&[]).await.address;
    let sidecar = Sidecar::guarding(&format!("http://{address}"), &limited(1));
    for _ in 0..2 {
        let answer = sidecar.call(EXPORT).await;
        assert_eq!(answer.denial()["code"], "upstream_unreachable");
    }
    let other = sidecar.post(&json!({"jsonrpc": "2.0", "id": 5, "method": "ping"})).await;
    assert_eq!((other.status, other.json()["id"].as_u64()), (StatusCode::OK, Some(5)));
    assert!(other.json()["error"]["code"].is_i64());

    let server = Server::start_at(address, |got| ran(&got.json())).await;
    assert!(sidecar.call(EXPORT).await.ran(), "the failed calls were given back");
    assert_eq!(sidecar.call(EXPORT).await.denial()["code"], "limit_exceeded");
    assert_eq!(server.requests(), 1);
    let codes: Vec<_> = sidecar.audit.at_least(4).await.iter().map(|line| line["code"].as_str().unwrap().to_owned()).collect();
    assert_eq!(codes, ["upstream_unreachable", "upstream_unreachable", "allowed", "limit_exceeded"]);
}

#[tokio::test]
async fn a_server_that_is_too_slow_keeps_the_call() {
    let server = Server::start(|_| Reply::Never).await;
    let sidecar = Sidecar::configured(&server.url(), &limited(1), |config| config.limits.answer_timeout = Duration::from_millis(50));
    assert_eq!(sidecar.call(EXPORT).await.denial()["code"], "upstream_unreachable");
    assert_eq!(sidecar.call(EXPORT).await.denial()["code"], "limit_exceeded");
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn no_redirect_is_followed_or_passed_on() {
    let server =
        Server::start(|_| Reply::Whole(Response::builder().status(307).header("location", "/elsewhere").body(Bytes::new()).unwrap())).await;
    let sidecar = Sidecar::guarding(&server.url(), &imaging());
    let answer = sidecar.call(EXPORT).await;
    assert_eq!(answer.denial()["code"], "upstream_unreachable");
    assert!(!answer.headers.contains_key("location"));
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn one_connection_of_a_caller_takes_one_to_the_server() {
    let server = Server::with_tools(&[]).await;
    let sidecar = Sidecar::guarding(&server.url(), &json!({"default": "allow"}));
    let mut client = Client::connect(sidecar.proxy).await;
    for id in 0..20 {
        assert!(client.send(mcp(call(id, "read").to_string())).await.ran());
    }
    assert_eq!((server.requests(), server.connections()), (20, 1));
    assert!(sidecar.call("read").await.ran());
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn a_connection_that_the_server_closed_is_not_used_again() {
    let server = Server::start(|got| {
        let Reply::Whole(mut response) = ran(&got.json()) else { unreachable!() };
        response.headers_mut().insert("connection", "close".parse().unwrap());
        Reply::Whole(response)
    })
    .await;
    let sidecar = Sidecar::guarding(&server.url(), &json!({"default": "allow"}));
    let mut client = Client::connect(sidecar.proxy).await;
    for id in 0..5 {
        assert!(client.send(mcp(call(id, "read").to_string())).await.ran());
    }
    assert_eq!((server.requests(), server.connections()), (5, 5));
}

// Policies and sessions

#[tokio::test]
async fn without_a_policy_calls_are_refused_and_the_sidecar_is_not_ready() {
    let server = Server::with_tools(&[]).await;
    let nowhere = std::env::temp_dir().join("mcp-policy-test-no-such-folder");
    let source = OperatorSource { host: "127.0.0.1".into(), port: 1, ca_file: nowhere.join("ca.crt"), token_file: nowhere.join("token") };
    let sidecar = Sidecar::following(&server.url(), Source::Operator(source));
    assert_eq!(sidecar.call(EXPORT).await.denial()["code"], "no_policy");
    let listed = sidecar.post(&json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})).await;
    assert_eq!(listed.status, StatusCode::OK);
    assert_eq!(listed.json()["error"]["data"]["mcp-policy.dev/denial"]["code"], "no_policy", "{}", listed.text());
    let read = sidecar.post(&json!({"jsonrpc": "2.0", "id": 1, "method": "resources/read", "params": {"uri": "file:///x"}})).await;
    assert_eq!(read.json()["error"]["data"]["mcp-policy.dev/denial"]["code"], "no_policy");
    for method in [http::Method::GET, http::Method::DELETE] {
        let request = Request::builder().method(method).uri("/mcp").header("host", "localhost").body(Full::default()).unwrap();
        assert_eq!(sidecar.send(request).await.status, StatusCode::METHOD_NOT_ALLOWED);
    }
    assert_eq!(server.requests(), 0);
    let ready = sidecar.get_admin("/readyz").await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(ready.text().contains("no policy was received"), "{}", ready.text());
    assert_eq!(sidecar.get_admin("/livez").await.status, StatusCode::OK);

    assert!(sidecar.post(&initialize()).await.json()["result"].is_object());
    let initialized = sidecar.post(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
    assert_eq!(initialized.status, StatusCode::ACCEPTED);
    assert!(sidecar.post(&json!({"jsonrpc": "2.0", "id": 1, "method": "ping"})).await.json()["result"].is_object());
    assert_eq!(server.requests(), 3);
}

#[tokio::test]
async fn a_changed_policy_file_is_in_force_without_a_restart_and_a_wrong_one_never() {
    let server = Server::with_tools(&[]).await;
    let sidecar = Sidecar::guarding(&server.url(), &json!({"tools": {"read": {}}}));
    assert_eq!(sidecar.get_admin("/readyz").await.status, StatusCode::OK);
    assert!(sidecar.call("read").await.ran());
    assert_eq!(sidecar.call("write").await.denial()["code"], "default_deny");
    let before = sidecar.get_admin("/snapshot").await.json();
    assert_eq!(before["policies"][0]["name"], "policy.json");

    std::fs::write(&sidecar.policy, json!({"tools": {"write": {}}}).to_string()).unwrap();
    eventually("the change is in force", async || sidecar.call("write").await.ran()).await;
    assert_eq!(sidecar.call("read").await.denial()["code"], "default_deny");
    let after = sidecar.get_admin("/snapshot").await.json();
    assert_ne!(before["sha256"], after["sha256"]);

    std::fs::write(&sidecar.policy, json!({"tools": {"write": {"limit": []}}}).to_string()).unwrap();
    // While the file is wrong nothing confirms what is enforced, so its age grows.
    eventually("the change was looked at", async || sidecar.get_admin("/snapshot").await.json()["ageSeconds"].as_u64() > Some(1)).await;
    assert!(sidecar.call("write").await.ran());
    assert_eq!(sidecar.get_admin("/snapshot").await.json()["sha256"], after["sha256"]);
}

#[tokio::test]
async fn a_call_that_takes_its_time_is_judged_by_the_policy_of_its_end() {
    let server = Server::with_tools(&[]).await;
    let sidecar = Sidecar::guarding(&server.url(), &json!({"tools": {"read": {}}}));
    let body = call(1, "read").to_string();
    let mut slow = TcpStream::connect(sidecar.proxy).await.unwrap();
    let head = "POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\n";
    slow.write_all(format!("{head}content-length: {}\r\n\r\n{}", body.len(), &body[..10]).as_bytes()).await.unwrap();
    eventually("the head is read", async || sidecar.metrics().await.contains("mcp_policy_requests_in_flight 1")).await;

    std::fs::write(&sidecar.policy, json!({"tools": {"write": {}}}).to_string()).unwrap();
    eventually("the change is in force", async || sidecar.call("write").await.ran()).await;
    let before = server.requests();
    slow.write_all(&body.as_bytes()[10..]).await.unwrap();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("default_deny"), "{answer}");
    assert_eq!(server.requests(), before);
}

#[tokio::test]
async fn only_a_session_that_was_opened_here_has_a_budget_of_its_own() {
    let server = Server::start(|got| {
        let message = got.json();
        match message["method"].as_str() {
            Some("initialize") => {
                let Reply::Whole(mut response) = Reply::json(&json!({"jsonrpc": "2.0", "id": message["id"], "result": {}})) else {
                    unreachable!()
                };
                let session = got.headers["x-session"].clone();
                response.headers_mut().insert("mcp-session-id", session);
                Reply::Whole(response)
            }
            Some(_) => ran(&message),
            None => Reply::Whole(Response::new(Bytes::new())),
        }
    })
    .await;
    let sidecar = Sidecar::guarding(&server.url(), &json!({"tools": {"read": {"rateLimit": {"max": 1, "window": "hour"}}}}));
    let open = async |session: &'static str| {
        let mut request = mcp(initialize().to_string());
        request.headers_mut().insert("x-session", session.parse().unwrap());
        assert_eq!(sidecar.send(request).await.headers["mcp-session-id"], session);
    };
    let read = async |session: &'static str| {
        let mut request = mcp(call(1, "read").to_string());
        request.headers_mut().insert("mcp-session-id", session.parse().unwrap());
        sidecar.send(request).await
    };
    open("one").await;
    open("two").await;
    assert!(read("one").await.ran());
    assert!(read("two").await.ran());
    assert_eq!(read("one").await.denial()["code"], "limit_exceeded");
    assert!(read("made-up").await.ran(), "the caller's own budget");
    assert_eq!(read("made-up-2").await.denial()["code"], "limit_exceeded", "not a budget for each made-up session");

    open("three").await;
    let end = Request::delete("/mcp").header("host", "localhost").header("mcp-session-id", "three").body(Full::default()).unwrap();
    assert_eq!(sidecar.send(end).await.status, StatusCode::OK);
    assert_eq!(read("three").await.denial()["code"], "limit_exceeded", "an ended session counts as none");
}

#[tokio::test]
async fn discovery_documents_pass_without_policy_and_other_paths_do_not() {
    let server = Server::start(|_| Reply::json(&json!({"resource": "x"}))).await;
    let sidecar = Sidecar::guarding(&server.url(), &imaging());
    let get = |path: &str| Request::get(path).header("host", "localhost").body(Full::default()).unwrap();
    assert_eq!(sidecar.send(get("/.well-known/oauth-protected-resource/mcp")).await.json()["resource"], "x");
    assert_eq!(server.got()[0].target, "/.well-known/oauth-protected-resource/mcp");
    for path in ["/.well-known/oauth-protected-resource/../admin", "/.well-known/other", "/metrics", "/captured"] {
        assert_eq!(sidecar.send(get(path)).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn a_page_from_elsewhere_cannot_use_a_server_on_this_machine() {
    let server = Server::with_tools(&[]).await;
    let sidecar = Sidecar::guarding(&server.url(), &json!({"default": "allow"}));
    for (name, value) in [("host", "evil.example:8080"), ("origin", "http://evil.example:8080")] {
        let mut request = mcp(call(1, "read").to_string());
        request.headers_mut().insert(name, value.parse().unwrap());
        assert_eq!(sidecar.send(request).await.status, StatusCode::FORBIDDEN, "{name}");
    }
    assert_eq!(server.requests(), 0);
}

// Metrics and audit

#[tokio::test]
async fn decisions_limits_and_durations_are_counted() {
    let server = Server::with_tools(&[]).await;
    let sidecar = Sidecar::guarding(&server.url(), &limited(2));
    for _ in 0..3 {
        sidecar.call(EXPORT).await;
    }
    sidecar.call("forbidden").await;
    let metrics = sidecar.metrics().await;
    for line in [
        "mcp_policy_decisions_total{policy=\"policy.json\",tool=\"start_dicom_export_job\",decision=\"allowed\",code=\"allowed\",mode=\"enforce\"} 2",
        "mcp_policy_decisions_total{policy=\"policy.json\",tool=\"start_dicom_export_job\",decision=\"refused\",code=\"limit_exceeded\",mode=\"enforce\"} 1",
        "mcp_policy_decisions_total{policy=\"policy.json\",tool=\"other\",decision=\"refused\",code=\"default_deny\",mode=\"enforce\"} 1",
        "mcp_policy_limit_max{policy=\"policy.json\",counter=\"start_dicom_export_job_rate\"} 2",
        "mcp_policy_limit_used_ratio{policy=\"policy.json\",counter=\"start_dicom_export_job_rate\"} 1.0",
        "mcp_policy_limit_refusals_total{policy=\"policy.json\",counter=\"start_dicom_export_job_rate\"} 1",
        "mcp_policy_decision_duration_seconds_count 4",
        "mcp_policy_upstream_duration_seconds_count{tool=\"start_dicom_export_job\"} 2",
        "mcp_policy_requests_in_flight 0",
        "mcp_policy_snapshot_info{version=\"1\",sha256=",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test]
async fn the_metrics_come_in_the_form_that_is_asked_for() {
    let server = Server::with_tools(&[]).await;
    let sidecar = Sidecar::guarding(&server.url(), &imaging());
    assert!(sidecar.get_admin("/metrics").await.headers["content-type"].to_str().unwrap().starts_with("text/plain"));
    let request = Request::get("/metrics")
        .header("host", "localhost")
        .header("accept", "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.1")
        .body(Full::default())
        .unwrap();
    let answer = Client::connect(sidecar.admin).await.send(request).await;
    assert_eq!(answer.headers["content-type"], "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(answer.text().ends_with("# EOF\n"));
}

#[tokio::test]
async fn an_audit_line_says_who_what_and_why_and_no_values() {
    let server = Server::with_tools(&[]).await;
    let sidecar = Sidecar::guarding(&server.url(), &limited(1));
    sidecar.call(EXPORT).await;
    let denial = sidecar.call(EXPORT).await.denial();
    let lines = sidecar.audit.at_least(2).await;
    let (allowed, refused) = (&lines[0], &lines[1]);
    assert_eq!(allowed["code"], "allowed");
    assert_eq!(allowed["upstreamStatus"], 200);
    assert_eq!(allowed["rule"], format!("/tools/{EXPORT}"));
    assert_eq!(refused["code"], "limit_exceeded");
    assert_eq!(refused["decisionId"], denial["decisionId"]);
    assert_eq!(refused["rule"], format!("/tools/{EXPORT}/limits/start_dicom_export_job_rate"));
    assert_eq!(refused["upstreamStatus"], Value::Null);
    for line in lines {
        assert_eq!(line["policy"], "policy.json");
        assert_eq!(line["revision"].as_str().unwrap().len(), 12);
        assert_eq!(line["caller"], "anonymous:127.0.0.1");
        assert_eq!(line["server"], server.address.to_string());
        assert_eq!((line["method"].as_str(), line["tool"].as_str()), (Some("tools/call"), Some(EXPORT)));
        assert_eq!(line["argumentKeys"], json!(["study"]));
        assert!(line["time"].as_str().unwrap().ends_with('Z'));
        assert!(line["durationMs"].as_f64().is_some());
        assert!(!line.to_string().contains("secret-value"));
    }
}
