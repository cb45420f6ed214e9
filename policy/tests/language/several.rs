//! Several policies on one pod.

use mcp_policy::Mode;
use serde_json::json;

use super::*;

/// Policies from the one that lets pass to the gravest that refuses.
fn by_gravity() -> Vec<(&'static str, Value)> {
    vec![
        ("allowed", json!({"default": "allow"})),
        ("approval_required", json!({"default": "allow", "allTools": {"action": "approve"}})),
        ("limit_exceeded", json!({"default": "allow", "allTools": {"limits": full("c")}})),
        ("tool_denied", json!({"default": "allow", "tools": {"t": {"action": "deny"}}})),
        ("hidden", json!({"default": "allow", "hide": ["t"]})),
    ]
}

/// "All policies in force must agree: hidden beats denied beats over the limit beats waiting for approval beats allowed. The order of
/// creation never matters." And "of several policies, the gravest (hidden, denied, over the limit, waiting), then the first by
/// namespace and name."
#[test]
fn the_gravest_is_told_in_whatever_order_they_come() {
    let all = by_gravity();
    for (i, (_, lighter)) in all.iter().enumerate() {
        for (code, graver) in &all[i..] {
            // The names are such that the lighter is the first by name, and then such that the graver is.
            for (first, second) in [("a", "b"), ("b", "a")] {
                let (one, other) = (policy(first, lighter), policy(second, graver));
                for policies in [vec![one.clone(), other.clone()], vec![other.clone(), one.clone()]] {
                    let decision = decide(&Policies::new(policies), "t", "");
                    let said = told(decision);
                    assert!(said.starts_with(code), "{code} beside a lighter: {said}");
                }
            }
        }
    }
}

/// "then the first by namespace and name", where refusals are equally grave: whatever refuses as denied is.
#[test]
fn of_equals_the_first_by_namespace_and_name_is_told() {
    let denials = [
        (json!({}), "default_deny"),
        (json!({"tools": {"t": {"action": "deny"}}}), "tool_denied"),
        (json!({"tools": {"t": {"arguments": {"maxBytes": 0}}}}), "arguments_invalid"),
        (json!({"tools": {"t": {"require": [{"path": "args.x", "op": "exists"}]}}}), "require_failed"),
        (json!({"tools": {"t": {"denyIf": [{"conditions": []}]}}}), "deny_if"),
        (json!({"tools": {"t": {"require": [{"path": "args.y.z", "op": "exists"}]}}}), "policy_error"),
    ];
    for (one, code) in &denials {
        for (other, _) in &denials {
            let cases = [
                (PolicyId::new(Some("a"), "z"), PolicyId::new(Some("b"), "a")),
                (PolicyId::new(Some("ns"), "a"), PolicyId::new(Some("ns"), "b")),
                // "a cluster policy has no namespace and comes first"
                (PolicyId::new(None, "z"), PolicyId::new(Some("a"), "a")),
            ];
            for (first, second) in cases {
                let policies = vec![named(second, other), named(first.clone(), one)];
                let refusal = refusal(decide(&Policies::new(policies), "t", r#"{"y": 1}"#));
                assert_eq!((refusal.code.as_str(), refusal.policy), (*code, Some(first)), "{one} beside {other}");
            }
        }
    }
}

/// "`policy` is `namespace/name`; a cluster policy has no namespace and comes first".
#[test]
fn a_policy_is_told_by_namespace_and_name() {
    assert_eq!(PolicyId::new(Some("shop"), "limits").to_string(), "shop/limits");
    assert_eq!(PolicyId::new(None, "guardrails").to_string(), "guardrails");
    assert!(PolicyId::new(None, "z") < PolicyId::new(Some("a"), "a"));
}

/// "A `ClusterMcpPolicy` […] can only tighten": whatever it and the namespaces' own policies say, no call passes that one of them
/// refuses, and none passes more often.
#[test]
fn a_cluster_policy_can_only_tighten() {
    for (own_code, own) in by_gravity() {
        for (cluster_code, cluster) in by_gravity() {
            let alone = told(decide(&one(&own), "t", ""));
            assert!(alone.starts_with(own_code));
            let both = Policies::new(vec![policy("p", &own), named(PolicyId::new(None, "guardrails"), &cluster)]);
            let allowed = told(decide(&both, "t", "")).starts_with("allowed");
            assert_eq!(allowed, own_code == "allowed" && cluster_code == "allowed", "{own_code} under a cluster policy of {cluster_code}");
        }
    }
}

/// "If none is in force, the call is refused (`no_policy`)." "`no_policy` holds for every method but `initialize`, `server/discover`,
/// `ping` and notifications." "while no policy is in force, the list is empty."
#[test]
fn where_no_policy_is_in_force_only_what_opens_a_connection_passes() {
    let none = Policies::default();
    assert_eq!(told(decide(&none, "t", "")), "no_policy -");
    assert!(!none.lists(&caller(1), "t"));
    for method in mcp_policy::method::FROM_CLIENT.iter().filter(|method| **method != "tools/call") {
        let passes = ["initialize", "server/discover", "ping"].contains(method) || method.starts_with("notifications/");
        let refused = none.decide_method(&caller(1), method).refusal.map(|refusal| refusal.code.as_str());
        assert_eq!(refused, (!passes).then_some("no_policy"), "{method}");
    }
}

/// "A policy that does not compile is not accepted […]; one that never compiled refuses every call to the pods it selects."
#[test]
fn a_policy_that_never_compiled_refuses_every_call() {
    let broken = Policy::refusing(PolicyId::new(Some("ns"), "broken"));
    for (_, beside) in by_gravity() {
        for mode in [Mode::Enforce, Mode::Audit] {
            let policies = Policies::new(vec![policy("a", &beside).in_mode(mode), broken.clone()]);
            assert_eq!(told(decide(&policies, "t", "")), "no_policy -", "{beside}");
            assert!(!policies.lists(&caller(1), "t"));
        }
    }
}

/// "`tools/list` shows what a call could pass: neither hidden nor denied." "With `allTools: {action: hide}` […] the list is empty."
#[test]
fn a_list_shows_what_is_neither_hidden_nor_denied() {
    let listed = |document: Value| one(&document).lists(&caller(1), "t");
    for document in [
        json!({"default": "allow"}),
        json!({"tools": {"t": {}}}),
        json!({"tools": {"t": {"limits": full("c")}}}),
        json!({"tools": {"t": {"require": [{"cel": "false"}]}}}),
        json!({"tools": {"t": {"arguments": {"maxBytes": 0}}}}),
    ] {
        assert!(listed(document.clone()), "{document}");
    }
    for document in [
        json!({}),
        json!({"default": "allow", "hide": ["t"]}),
        json!({"tools": {"t": {"action": "deny"}}}),
        json!({"tools": {"t": {"action": "hide"}}}),
        json!({"tools": {"t": {}}, "allTools": {"action": "deny"}}),
        json!({"default": "allow", "tools": {"t": {}}, "allTools": {"action": "hide"}}),
    ] {
        assert!(!listed(document.clone()), "{document}");
    }
    let agree = |second: Value| Policies::new(vec![policy("a", &json!({"default": "allow"})), policy("b", &second)]).lists(&caller(1), "t");
    assert!(agree(json!({"tools": {"t": {}}})) && !agree(json!({})), "all policies must agree");
}
