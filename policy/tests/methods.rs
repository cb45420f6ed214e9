//! `methods`: everything that is no tool call.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use mcp_policy::{Caller, Code, Mode, Policies, Policy, PolicyId, compile, read};
use serde_json::{Value, json};

fn compiled(document: &Value) -> Policy {
    compile(PolicyId::new(Some("ns"), "p"), &read::document(document).unwrap()).unwrap()
}

fn caller(n: u8) -> Caller {
    Caller::anonymous([10, 0, 0, n].into())
}

fn policy(document: &Value) -> Policies {
    Policies::new(vec![compiled(document)])
}

/// "`methods`: map pattern → `allow` | `deny`; known methods `allow`, unknown `deny`."
#[test]
fn methods_are_allowed_if_known_and_the_closest_pattern_decides() {
    let told = |document: Value, method: &str| {
        policy(&document)
            .decide_method(&caller(1), method)
            .refusal
            .map(|refusal| format!("{} {}", refusal.code, refusal.rule.unwrap_or_else(|| "-".to_owned())))
    };
    let cases = [
        (json!({}), "resources/read", None),
        (json!({}), "sampling/createMessage", None),
        (json!({}), "x/unknown", Some("method_denied -")),
        (json!({"methods": {"x/*": "allow"}}), "x/unknown", None),
        (json!({"methods": {"resources/read": "deny"}}), "resources/read", Some("method_denied /methods/resources~1read")),
        (json!({"methods": {"resources/*": "deny", "resources/list": "allow"}}), "resources/list", None),
        (json!({"methods": {"resources/*": "deny", "*": "allow"}}), "resources/read", Some("method_denied /methods/resources~1*")),
        (json!({"methods": {"*ad": "allow", "re*": "deny"}}), "read", Some("method_denied /methods/re*")),
        (json!({"methods": {"initialize": "deny"}}), "initialize", Some("method_denied /methods/initialize")),
    ];
    for (document, method, expected) in cases {
        assert_eq!(told(document.clone(), method).as_deref(), expected, "{method} under {document}");
    }
}

#[test]
fn without_an_accepted_policy_only_what_opens_a_connection_passes() {
    let never_accepted = Policies::new(vec![Policy::refusing(PolicyId::new(Some("ns"), "p"))]);
    for policies in [Policies::default(), never_accepted] {
        let refused = |method| policies.decide_method(&caller(1), method).refusal.map(|refusal| refusal.code);
        for method in ["initialize", "server/discover", "ping", "notifications/initialized"] {
            assert_eq!(refused(method), None, "{method}");
        }
        for method in ["resources/read", "tools/list", "sampling/createMessage", "x/unknown"] {
            assert_eq!(refused(method), Some(Code::NoPolicy), "{method}");
        }
    }
}

/// A method of no revision passes if a policy names it and none refuses it.
#[test]
fn an_unknown_method_passes_by_name_only() {
    let cases = [
        (json!({}), false),
        (json!({"methods": {"resources/*": "allow"}}), false),
        (json!({"methods": {"x/*": "allow"}}), true),
        (json!({"methods": {"x/unknown": "deny"}}), false),
        (json!({"methods": {"x/*": "allow", "x/unknown": "deny"}}), false),
    ];
    for (document, expected) in cases {
        assert_eq!(policy(&document).allows_by_name(&caller(1), "x/unknown"), expected, "{document}");
    }
    let denied = compiled(&json!({"methods": {"x/unknown": "deny"}}));
    let allowed = || compiled(&json!({"methods": {"x/unknown": "allow"}}));
    assert!(!Policies::new(vec![allowed(), denied]).allows_by_name(&caller(1), "x/unknown"), "one policy refuses it");
    assert!(!Policies::default().allows_by_name(&caller(1), "x/unknown"));
}

/// Only where something could be held back are a server's messages read.
#[test]
fn a_servers_messages_are_read_where_a_policy_refuses_one_that_it_may_send() {
    let cases = [
        (json!({}), false),
        (json!({"methods": {"sampling/createMessage": "allow"}}), false),
        (json!({"methods": {"sampling/*": "deny"}}), true),
        (json!({"methods": {"notifications/message": "deny", "resources/read": "allow"}}), true),
        // Only clients send these.
        (json!({"methods": {"resources/read": "deny", "prompts/*": "deny"}}), false),
        // No revision gives it to clients, so a server may have it.
        (json!({"methods": {"x/unknown": "deny"}}), true),
    ];
    for (document, expected) in cases {
        assert_eq!(policy(&document).governs_server(&caller(1)), expected, "{document}");
        let audited = Policies::new(vec![compiled(&document).in_mode(Mode::Audit)]);
        assert_eq!(audited.governs_server(&caller(1)), expected, "to be recorded it has to be read: {document}");
    }
    assert!(Policies::default().governs_server(&caller(1)), "nothing is let through");
    assert!(Policies::new(vec![Policy::refusing(PolicyId::new(None, "p"))]).governs_server(&caller(1)));
}
