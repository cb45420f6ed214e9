//! What the whole language does on the wire: rules on arguments, methods, audit mode. Each way to refuse leaves the server untouched.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

mod support;

use serde_json::{Value, json};
use support::{Reply, Server, Sidecar, eventually, ran};

fn call_with(arguments: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"arguments":{arguments},"name":"pay"}}}}"#)
}

/// A policy file with a mode.
fn manifest(mode: &str, document: &Value) -> Value {
    let mut spec = document.clone();
    spec["mode"] = mode.into();
    json!({"apiVersion": "mcp-policy.dev/v1alpha1", "kind": "McpPolicy", "metadata": {"name": "p", "namespace": "ns"}, "spec": spec})
}

#[tokio::test]
async fn every_rule_on_arguments_refuses_without_reaching_the_server() {
    let cases = [
        (json!({"arguments": {"maxBytes": 10}}), r#"{"note": "0123456789"}"#, "arguments_invalid", "/tools/pay/arguments/maxBytes"),
        (
            json!({"arguments": {"schema": {"type": "object", "required": ["to"]}}}),
            r#"{"amount": 1}"#,
            "arguments_invalid",
            "/tools/pay/arguments/schema",
        ),
        (
            json!({"require": [{"path": "args.amount", "op": "lte", "value": 100}]}),
            r#"{"amount": 100.01}"#,
            "require_failed",
            "/tools/pay/require/0",
        ),
        (
            json!({"denyIf": [{"conditions": [{"path": "args.to", "op": "eq", "value": "mallory"}]}]}),
            r#"{"t\u006f": "mall\u006fry"}"#,
            "deny_if",
            "/tools/pay/denyIf/0",
        ),
        (
            json!({"require": [{"path": "args.amount", "op": "lte", "value": 100}]}),
            r#"{"amount": "1"}"#,
            "policy_error",
            "/tools/pay/require/0",
        ),
        (json!({"require": [{"cel": "args.amount < 10"}]}), r#"{"amount": 10}"#, "require_failed", "/tools/pay/require/0"),
        (
            json!({"limits": [{"counter": "spend", "window": "day", "max": 5, "incrementFrom": "args.amount"}]}),
            r#"{"amount": -1}"#,
            "arguments_invalid",
            "/tools/pay/limits/spend/incrementFrom",
        ),
        (
            json!({"limits": [{"counter": "spend", "window": "day", "max": 5, "incrementFrom": "args.amount"}]}),
            r#"{"amount": 5.5}"#,
            "limit_exceeded",
            "/tools/pay/limits/spend",
        ),
    ];
    for (mut rule, arguments, code, pointer) in cases {
        rule["reason"] = "ask finance".into();
        let server = Server::with_tools(&[]).await;
        let sidecar = Sidecar::guarding(&server.url(), &json!({"tools": {"pay": rule}}));
        let answer = sidecar.post_bytes(call_with(arguments)).await;
        let denial = answer.denial();
        assert_eq!((denial["code"].as_str(), denial["rule"].as_str()), (Some(code), Some(pointer)), "{arguments}");
        let text = answer.text();
        assert!(text.contains("Nothing was executed") && text.contains("ask finance"), "{text}");
        assert_eq!(server.requests(), 0, "{code}");
        assert_eq!(sidecar.audit.at_least(1).await[0]["rule"], pointer);
    }
}

#[tokio::test]
async fn arguments_that_every_rule_lets_pass_arrive_as_they_were_sent() {
    let server = Server::with_tools(&[]).await;
    let rule = json!({
        "arguments": {"schema": {"type": "object", "required": ["amount"]}, "maxBytes": 100},
        "require": [{"path": "args.amount", "op": "lte", "value": 100}, {"cel": "tool == 'pay' && args.amount > 0"}],
        "denyIf": [{"conditions": [{"path": "args.to", "op": "eq", "value": "mallory"}]}],
        "limits": [{"counter": "spend", "window": "day", "max": 150, "incrementFrom": "args.amount"}]});
    let sidecar = Sidecar::guarding(&server.url(), &json!({"tools": {"pay": rule}}));
    let body = call_with(r#"{ "amount" :1.0e2, "to":"\u0061lice" }"#);
    assert!(sidecar.post_bytes(body.clone()).await.ran());
    assert_eq!(server.got()[0].body, body.as_bytes());
    let denial = sidecar.post_bytes(body).await.denial();
    assert_eq!(denial["code"], "limit_exceeded", "100 and 100 are more than 150");
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn absent_and_null_arguments_are_empty() {
    let server = Server::with_tools(&[]).await;
    let sidecar = Sidecar::guarding(&server.url(), &json!({"tools": {"pay": {"require": [{"path": "args.x", "op": "exists", "value": false}]}}}));
    assert!(sidecar.post_bytes(call_with("null")).await.ran());
    assert!(sidecar.call("pay").await.ran() || server.requests() == 1);
    let without = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"pay"}}"#;
    assert!(sidecar.post_bytes(without).await.ran());
}

#[tokio::test]
async fn a_policy_in_audit_mode_lets_pass_and_says_what_it_would_have_done() {
    let server = Server::with_tools(&["pay", "gone"]).await;
    let document = json!({"hide": ["gone"], "tools": {"pay": {"require": [{"path": "args.amount", "op": "lte", "value": 100}]}}});
    let sidecar = Sidecar::guarding(&server.url(), &manifest("audit", &document));
    assert!(sidecar.post_bytes(call_with(r#"{"amount": 500}"#)).await.ran());
    let line = sidecar.audit.at_least(1).await[0].clone();
    assert_eq!(line["code"], "allowed");
    let audited = &line["audited"][0];
    assert_eq!((&audited["policy"], &audited["code"], &audited["rule"]), (&json!("ns/p"), &json!("require_failed"), &json!("/tools/pay/require/0")));
    assert_eq!(server.requests(), 1);
    let list = sidecar.post(&json!({"jsonrpc": "2.0", "id": 2, "method": "tools/list"})).await;
    assert_eq!(list.tools(), ["pay", "gone"], "nothing is hidden");
    let metrics = sidecar.metrics().await;
    for wanted in [
        r#"policy="ns/p",tool="pay",decision="refused",code="require_failed",mode="audit"} 1"#,
        r#"policy="",tool="pay",decision="allowed",code="allowed",mode="enforce"} 1"#,
    ] {
        assert!(metrics.contains(wanted), "{wanted} in\n{metrics}");
    }
}

#[tokio::test]
async fn a_denied_method_is_answered_and_does_not_reach_the_server() {
    let server = Server::with_tools(&[]).await;
    let sidecar = Sidecar::guarding(&server.url(), &json!({"default": "allow", "methods": {"resources/*": "deny", "vendor/*": "allow"}}));
    let answer = sidecar.post(&json!({"jsonrpc": "2.0", "id": 7, "method": "resources/read", "params": {"uri": "file:///etc/passwd"}})).await.json();
    assert_eq!(answer["error"]["data"]["mcp-policy.dev/denial"]["code"], "method_denied", "{answer}");
    assert_eq!(answer["error"]["data"]["mcp-policy.dev/denial"]["rule"], "/methods/resources~1*");
    let unknown = sidecar.post(&json!({"jsonrpc": "2.0", "id": 8, "method": "other/thing"})).await.json();
    assert_eq!(unknown["error"]["code"], -32601, "{unknown}");
    assert_eq!(server.requests(), 0);
    assert!(sidecar.post(&json!({"jsonrpc": "2.0", "id": 9, "method": "prompts/list"})).await.json()["error"].is_null());
    assert!(sidecar.post(&json!({"jsonrpc": "2.0", "id": 10, "method": "vendor/thing"})).await.json()["error"].is_null(), "allowed by name");
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn what_a_server_may_not_send_is_held_back_and_it_is_told() {
    let server = Server::start(|got| {
        let message = got.json();
        if message["method"] == "tools/call" {
            let Reply::Whole(answer) = ran(&message) else { unreachable!() };
            let answer: Value = serde_json::from_slice(answer.body()).unwrap();
            return Reply::events(&[
                json!({"jsonrpc": "2.0", "id": "s1", "method": "sampling/createMessage", "params": {}}),
                json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 1, "progress": 1}}),
                answer,
            ]);
        }
        Reply::Whole(http::Response::builder().status(202).body(bytes::Bytes::new()).unwrap())
    })
    .await;
    let sidecar = Sidecar::guarding(&server.url(), &json!({"default": "allow", "methods": {"sampling/*": "deny"}}));
    let answer = sidecar.call("pay").await;
    let events = answer.events();
    assert_eq!(events.len(), 2, "{events:?}");
    assert_eq!(events[0]["method"], "notifications/progress");
    assert!(events[1]["result"].is_object());
    eventually("the server is told", async || server.requests() == 2).await;
    let told = server.got()[1].json();
    assert_eq!((&told["id"], told["error"]["code"].as_i64()), (&json!("s1"), Some(-32601)), "{told}");
    let line = sidecar.audit.at_least(2).await.into_iter().find(|line| line["code"] == "method_denied").unwrap();
    assert_eq!(line["method"], "sampling/createMessage");
}
