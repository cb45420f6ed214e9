//! What passes and what is refused of calls, and how much is held for them at one time.

use ::http::StatusCode;
use serde_json::{Value, json};

use crate::support::{Client, Server, Sidecar, call, mcp};
use crate::{EXPORT, imaging};

/// "ten calls a minute for each caller to one tool, and nothing else."
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

/// "`deny`: never, and the agent is told why; `hide`: never, as if the tool did not exist". "A hidden call is answered as an
/// unknown tool, without `_meta`".
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
