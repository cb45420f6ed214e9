//! Answers on their way back, and how a call ends whose answer does not come.

use std::sync::Mutex;
use std::time::Duration;

use ::http::StatusCode;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::{Client, Reply, Server, Sidecar, call, eventually, mcp, next_bytes, ran};
use crate::{EXPORT, imaging, limited};

/// "so does a call whose answer never came, whoever hung up (else hanging up would be a way round the limit)": "quota given back
/// to who hangs up" is a known mistake.
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

/// "**refunded** only when the tool certainly did not run: the server could not be reached, or answered with a JSON-RPC error or
/// an HTTP 4xx. A result with `isError: true` ran and counts". "a JSON-RPC error with the call's id under any status, or a 4xx.
/// Everything else counts."
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

/// "Refunds: connect refused": "quota kept after a call that never ran" is a known mistake. "`upstream_unreachable`: allowed, and
/// the server could not be reached or gave no usable answer".
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

/// "Refunds: connect refused or timed out".
#[tokio::test]
async fn a_server_that_takes_no_connection_in_time_gives_the_call_back() {
    // A queue of connections that nobody takes: once it is full, the kernel answers no more.
    let full = TcpSocket::new_v4().unwrap();
    full.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let full = full.listen(1).unwrap();
    let address = full.local_addr().unwrap();
    let mut queued = Vec::new();
    while let Ok(connected) = tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
        queued.push(connected.unwrap());
    }
    let sidecar =
        Sidecar::configured(&format!("http://{address}"), &limited(1), |config| config.limits.connect_timeout = Duration::from_millis(50));
    for _ in 0..2 {
        assert_eq!(sidecar.call(EXPORT).await.denial()["code"], "upstream_unreachable", "not `limit_exceeded`");
    }
}

/// "Everything else counts.": a server that was reached and did not answer may have run the tool.
#[tokio::test]
async fn a_server_that_is_too_slow_keeps_the_call() {
    let server = Server::start(|_| Reply::Never).await;
    let sidecar = Sidecar::configured(&server.url(), &limited(1), |config| config.limits.answer_timeout = Duration::from_millis(50));
    assert_eq!(sidecar.call(EXPORT).await.denial()["code"], "upstream_unreachable");
    assert_eq!(sidecar.call(EXPORT).await.denial()["code"], "limit_exceeded");
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
