//! What the whole language does on the wire to calls: rules on arguments, audit mode. Each way to refuse leaves the server untouched.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

mod support;

use http::StatusCode;
use serde_json::json;
use support::{Server, Sidecar, manifest};

/// A call whose `arguments` are this very text, and come before the tool's name.
fn call_with(arguments: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"arguments":{arguments},"name":"pay"}}}}"#)
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
        (json!({"action": "approve"}), "{}", "approval_required", "/tools/pay/action"),
        (
            json!({"approveIf": [{"conditions": [{"path": "args.amount", "op": "gt", "value": 10}]}]}),
            r#"{"amount": 11}"#,
            "approval_required",
            "/tools/pay/approveIf/0",
        ),
        (
            json!({"approveIf": [{"conditions": [{"path": "args.amount", "op": "gt", "value": 10}]}]}),
            r#"{"amount": "11"}"#,
            "policy_error",
            "/tools/pay/approveIf/0/conditions/0",
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

/// "`arguments: null` is as absent, and forwarded as sent."
#[tokio::test]
async fn absent_and_null_arguments_are_empty() {
    let server = Server::with_tools(&[]).await;
    let rule = json!({"require": [{"path": "args.study", "op": "exists", "value": false}], "arguments": {"maxBytes": 2}});
    let sidecar = Sidecar::guarding(&server.url(), &json!({"tools": {"pay": rule}}));
    let without = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"pay"}}"#.to_owned();
    for body in [call_with("null"), call_with("{}"), without] {
        assert!(sidecar.post_bytes(body.clone()).await.ran(), "{body}");
        assert_eq!(server.got().last().unwrap().body, body.as_bytes(), "forwarded as sent");
    }
    assert_eq!(sidecar.call("pay").await.denial()["code"], "arguments_invalid", "it is the arguments that count");
    assert_eq!(server.requests(), 3);
}

/// "`audit` decides and records, and lets the call pass".
#[tokio::test]
async fn a_policy_in_audit_mode_lets_pass_and_says_what_it_would_have_done() {
    let server = Server::with_tools(&["pay", "gone"]).await;
    let document = json!({"hide": ["gone"], "tools": {"pay": {"require": [{"path": "args.amount", "op": "lte", "value": 100}]}}});
    let sidecar = Sidecar::guarding(&server.url(), &manifest("audit", &document));
    assert!(sidecar.post_bytes(call_with(r#"{"amount": 500}"#)).await.ran());
    let line = sidecar.audit.at_least(1).await[0].clone();
    assert_eq!(line["code"], "allowed");
    let audited = &line["audited"][0];
    assert_eq!(
        (&audited["policy"], &audited["code"], &audited["rule"]),
        (&json!("ns/p"), &json!("require_failed"), &json!("/tools/pay/require/0"))
    );
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

/// A known mistake that this must not make: "policy errors in a `deny` rule read as "no match"".
#[tokio::test]
async fn a_call_that_cannot_be_decided_is_logged_by_its_rule_and_not_by_its_values() {
    let server = Server::with_tools(&[]).await;
    let rule = json!({"denyIf": [{"conditions": [{"path": "args.items[*].price", "op": "gt", "value": 1000}]}]});
    let sidecar = Sidecar::guarding(&server.url(), &json!({"tools": {"pay": rule}}));
    let (secret, huge) = (r#"{"items": [{"price": "secret-value"}]}"#, r#"{"items": [{"price": 1}, {"price": 9007199254740993}]}"#);
    for (count, arguments) in [secret, huge].into_iter().enumerate() {
        let denial = sidecar.post_bytes(call_with(arguments)).await.denial();
        assert_eq!((&denial["code"], &denial["rule"]), (&json!("policy_error"), &json!("/tools/pay/denyIf/0/conditions/0")), "{arguments}");
        let line = &sidecar.audit.at_least(count + 1).await[count];
        assert_eq!((&line["code"], &line["rule"]), (&json!("policy_error"), &json!("/tools/pay/denyIf/0/conditions/0")));
        assert!(!line.to_string().contains("secret-value") && !line.to_string().contains("9007199254740993"), "{line}");
    }
    assert_eq!(server.requests(), 0);
}

#[tokio::test]
async fn an_audit_policy_counts_as_if_it_had_spoken_and_changes_no_answer() {
    let server = Server::with_tools(&[]).await;
    let trial = json!({"tools": {"read": {"limits": [{"counter": "few", "window": "hour", "max": 1}]}}});
    let sidecar = Sidecar::guarding(&server.url(), &manifest("audit", &trial));
    for _ in 0..3 {
        assert!(sidecar.call("read").await.ran());
    }
    let lines = sidecar.audit.at_least(3).await;
    let audited: Vec<_> = lines.iter().map(|line| (line["code"].clone(), line["audited"][0]["code"].clone())).collect();
    assert_eq!(
        audited,
        [("allowed", "allowed"), ("allowed", "limit_exceeded"), ("allowed", "limit_exceeded")].map(|(a, b)| (json!(a), json!(b)))
    );
    let last = &lines[2]["audited"][0];
    assert_eq!((&last["counter"], &last["rule"], last["revision"].is_string()), (&json!("few"), &json!("/tools/read/limits/few"), true));
    let metrics = sidecar.metrics().await;
    assert!(metrics.contains(r#"policy="ns/p",tool="read",decision="refused",code="limit_exceeded",mode="audit"} 2"#), "{metrics}");
    assert!(metrics.contains(r#"policy="ns/p",tool="read",decision="allowed",code="allowed",mode="audit"} 1"#), "{metrics}");
    assert!(metrics.contains(r#"policy="",tool="read",decision="allowed",code="allowed",mode="enforce"} 3"#), "{metrics}");
    assert!(!metrics.contains("mcp_policy_limit_refusals_total{"), "nothing was refused: {metrics}");
    assert_eq!(sidecar.get_admin("/readyz").await.status, StatusCode::OK);
    assert_eq!(sidecar.get_admin("/snapshot").await.json()["policies"][0]["mode"], "audit");
    assert_eq!(server.requests(), 3);
}

#[tokio::test]
async fn a_limit_for_sessions_says_when_it_counts_callers() {
    let server = Server::with_tools(&[]).await;
    let policy =
        json!({"tools": {"read": {"rateLimit": {"max": 5, "window": "hour"}, "limits": [{"counter": "all", "window": "hour", "max": 5}]}}});
    let sidecar = Sidecar::guarding(&server.url(), &policy);
    for _ in 0..2 {
        assert!(sidecar.call("read").await.ran());
    }
    let metrics = sidecar.metrics().await;
    let counted: Vec<_> = metrics.lines().filter(|line| line.starts_with("mcp_policy_limit_without_session_total{")).collect();
    assert_eq!(counted, [r#"mcp_policy_limit_without_session_total{policy="policy.json",counter="read_rate"} 2"#]);
}

/// "in arguments […] over 100 digits or outside 1e±400 the message is `malformed`."
#[tokio::test]
async fn a_number_that_is_too_long_or_too_large_is_malformed() {
    // It does not read the numbers: its library knows none of that size.
    let server = Server::start(|_| support::ran(&json!({"id": 1}))).await;
    let sidecar = Sidecar::guarding(&server.url(), &json!({"default": "allow"}));
    let (longest, longer) = ("9".repeat(100), "9".repeat(101));
    for number in [longest.as_str(), "9e399", "-9e399", "1e-400", "0.0"] {
        let answer = sidecar.post_bytes(call_with(&format!(r#"{{"n": {number}}}"#))).await;
        assert!(answer.ran(), "{number}: {}", answer.text());
    }
    let before = server.requests();
    let refused = [longer.as_str(), "1e400", "-1e400", "9e-401", "10e399"];
    for number in refused {
        for arguments in [format!(r#"{{"n": {number}}}"#), format!(r#"{{"deep": [{{"n": [{number}]}}]}}"#)] {
            let answer = sidecar.post_bytes(call_with(&arguments)).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{number}: {}", answer.text());
        }
    }
    assert_eq!(server.requests(), before);
    let lines = sidecar.audit.at_least(5 + 2 * refused.len()).await;
    assert_eq!(lines.iter().filter(|line| line["code"] == "malformed").count(), 2 * refused.len());
}

/// "A hidden call is answered as an unknown tool, without `_meta`; `hidden` stands in the log and in metrics only." "With `allTools:
/// {action: hide}` […] the list is empty."
#[tokio::test]
async fn what_is_hidden_is_told_to_the_log_and_to_metrics_only() {
    for policy in [json!({"default": "allow", "hide": ["read"]}), json!({"tools": {"read": {}}, "allTools": {"action": "hide"}})] {
        let server = Server::with_tools(&["read"]).await;
        let sidecar = Sidecar::guarding(&server.url(), &policy);
        let answer = sidecar.call("read").await;
        let unknown = json!({"jsonrpc": "2.0", "id": answer.json()["id"], "error": {"code": -32602, "message": "Unknown tool: read"}});
        assert_eq!(answer.json(), unknown);
        assert_eq!(server.requests(), 0);
        let line = &sidecar.audit.at_least(1).await[0];
        assert_eq!((&line["code"], &line["tool"]), (&json!("hidden"), &json!("read")));
        let metrics = sidecar.metrics().await;
        assert!(metrics.contains(r#"decision="refused",code="hidden",mode="enforce"} 1"#), "{metrics}");
        let list = sidecar.post(&json!({"jsonrpc": "2.0", "id": 2, "method": "tools/list"})).await;
        assert_eq!(list.tools(), [""; 0], "{policy}");
    }
}

/// "`server`: all calls to this server." And "counters of two servers colliding" is a known mistake.
#[tokio::test]
async fn two_servers_under_one_policy_have_counters_of_their_own() {
    let policy = json!({"tools": {"read": {"limits": [{"counter": "c", "window": "hour", "max": 1, "scope": "server"}]}}});
    let (one, other) = (Server::with_tools(&[]).await, Server::with_tools(&[]).await);
    for server in [&one, &other] {
        let sidecar = Sidecar::guarding(&server.url(), &policy);
        assert!(sidecar.call("read").await.ran());
        assert_eq!(sidecar.call("read").await.denial()["code"], "limit_exceeded");
        assert_eq!(server.requests(), 1);
    }
}
