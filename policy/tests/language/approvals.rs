//! Calls that wait for a person.

use mcp_policy::document::Shown;
use mcp_policy::{ApprovalNeeded, Approvals, Mode};
use serde_json::json;

use super::*;

/// What a call of `t` waits for; panics if it does not wait.
fn waits(policies: &Policies, arguments: &str) -> Approvals {
    let refusal = refusal(decide(policies, "t", arguments));
    assert_eq!(refusal.code.as_str(), "approval_required");
    *refusal.waits_for.unwrap()
}

/// What becomes of a call of `tool` with these approvals.
fn with(policies: &Policies, tool: &str, arguments: &str, approvals: &Approvals) -> String {
    let caller = caller(1);
    let call = Call { tool, arguments, caller: &caller, session: None, server: ServerName { namespace: "ns", name: "server-0" } };
    told(policies.judge(&call).approved(approvals).reserve(&mut Counters::default(), Duration::ZERO).decision)
}

/// "`approve`: each call waits for a person"; "`approveIf`: waits for a person when all conditions of one entry hold"; "an empty list
/// always holds". "`reason`: the entry's, else the rule's". The rule that is told first is the one that asks.
#[test]
fn the_first_rule_that_asks_is_told() {
    let large = json!({"path": "args.x", "op": "gt", "value": 10});
    let cases = [
        (json!({"action": "approve", "reason": "money"}), "/tools/t/action", Some("money"), 900),
        (
            json!({"approveIf": [{"conditions": [], "reason": "ask", "timeout": "2h"}], "reason": "money"}),
            "/tools/t/approveIf/0",
            Some("ask"),
            7200,
        ),
        (json!({"approveIf": [{"conditions": [], "timeout": 30}], "reason": "money"}), "/tools/t/approveIf/0", Some("money"), 30),
        (json!({"approveIf": [{"conditions": [{"cel": "false"}]}, {"conditions": [large]}]}), "/tools/t/approveIf/1", None, 900),
        (json!({"action": "approve", "approveIf": [{"conditions": []}]}), "/tools/t/action", None, 900),
    ];
    for (rule, pointer, reason, timeout_seconds) in cases {
        let policies = one(&json!({"tools": {"t": rule}, "allTools": {"action": "approve"}}));
        let reason = reason.map(str::to_owned);
        let needed = ApprovalNeeded {
            policy: PolicyId::new(Some("ns"), "p"),
            rule: pointer.to_owned(),
            reason,
            timeout_seconds,
            shown: Shown::Keys,
            wait_seconds: 0,
        };
        assert_eq!(waits(&policies, r#"{"x": 11}"#).needed, [needed], "{rule}");
    }
    let small = one(&json!({"tools": {"t": {"approveIf": [{"conditions": [large]}]}}}));
    assert_eq!(told(decide(&small, "t", r#"{"x": 10}"#)), "allowed /tools/t");
    let all = one(&json!({"default": "allow", "allTools": {"action": "approve"}}));
    assert_eq!(told(decide(&all, "t", "")), "approval_required /allTools/action");
}

/// "an error refuses the call, in `require`, in `denyIf` and in `approveIf` alike"; "`denyIf` and `approveIf` take any of them (an empty
/// array does not)".
#[test]
fn a_condition_that_cannot_be_decided_refuses_and_any_element_asks() {
    let rule = json!({"approveIf": [{"conditions": [{"path": "args.list[*]", "op": "gt", "value": 10}]}]});
    let policies = one(&json!({"tools": {"t": rule}}));
    let cases = [
        (r#"{"list": []}"#, "allowed /tools/t"),
        (r#"{"list": [1, 2]}"#, "allowed /tools/t"),
        (r#"{"list": [1, 11]}"#, "approval_required /tools/t/approveIf/0"),
        (r#"{"list": [1, "11"]}"#, "policy_error /tools/t/approveIf/0/conditions/0"),
        (r#"{"list": 1}"#, "policy_error /tools/t/approveIf/0/conditions/0"),
    ];
    for (arguments, expected) in cases {
        assert_eq!(told(decide(&policies, "t", arguments)), expected, "{arguments}");
    }
    // Whatever else was approved: an error is no question that a person could answer.
    let both = one(&json!({"tools": {"t": {"action": "approve", "approveIf": rule["approveIf"]}}}));
    let approvals = waits(&both, r#"{"list": [1]}"#);
    assert_eq!(with(&both, "t", r#"{"list": ["1"]}"#, &approvals), "policy_error /tools/t/approveIf/0/conditions/0");
}

/// "a limit already reached? → approval → reserve limits": "nobody is asked about a call that could not pass", and one that waits
/// takes nothing.
#[test]
fn a_call_that_waits_takes_nothing_from_its_limits() {
    let policies = one(&json!({"tools": {"t": {"approveIf": [{"conditions": [{"path": "args.ask", "op": "exists"}]}],
        "limits": [{"counter": "c", "window": "minute", "max": 1}]}}}));
    let mut counters = Counters::default();
    let mut call = |arguments: &str| told(decide_with(&policies, &mut counters, "t", arguments));
    assert_eq!(call(r#"{"ask": 1}"#), "approval_required /tools/t/approveIf/0");
    assert_eq!(call(r#"{"ask": 1}"#), "approval_required /tools/t/approveIf/0");
    assert_eq!(call("{}"), "allowed /tools/t");
    assert_eq!(call(r#"{"ask": 1}"#), "limit_exceeded /tools/t/limits/c");
}

/// An approval counts for the very arguments, however they are written, and for the rules that asked.
#[test]
fn an_approval_is_of_one_call_and_of_the_rules_that_asked() {
    let policies = one(&json!({"tools": {"t": {"action": "approve"}, "u": {"action": "approve"}}}));
    let approvals = waits(&policies, r#"{"to": "bob", "amount": 10}"#);
    for same in [r#"{"to": "bob", "amount": 10}"#, r#"{ "amount":1e1, "to":"bo\u0062" }"#] {
        assert_eq!(with(&policies, "t", same, &approvals), "allowed /tools/t", "{same}");
    }
    for other in ["", r#"{"to": "bob", "amount": 11}"#, r#"{"to": "bob", "amount": "10"}"#, r#"{"to": "bob", "amount": 10, "x": null}"#] {
        assert_eq!(with(&policies, "t", other, &approvals), "approval_required /tools/t/action", "{other}");
    }
    assert_eq!(with(&policies, "u", r#"{"to": "bob", "amount": 10}"#, &approvals), "approval_required /tools/u/action");
    let changed = one(&json!({"tools": {"t": {"action": "approve", "reason": "another one"}}}));
    assert_eq!(with(&changed, "t", r#"{"to": "bob", "amount": 10}"#, &approvals), "approval_required /tools/t/action");
    assert_eq!(waits(&policies, "").arguments_sha256, waits(&policies, "{}").arguments_sha256);
}

/// "All policies in force must agree": each that asks has a person asked.
#[test]
fn every_policy_that_asks_is_heard() {
    let asks = json!({"default": "allow", "allTools": {"action": "approve"}});
    let policies = Policies::new(vec![policy("a", &asks), policy("b", &asks), policy("c", &json!({"default": "allow"}))]);
    let all = waits(&policies, "{}");
    assert_eq!(all.needed.iter().map(|needed| needed.policy.to_string()).collect::<Vec<_>>(), ["ns/a", "ns/b"]);
    assert_eq!(with(&policies, "t", "{}", &all), "allowed /default");
    let first = Approvals { needed: all.needed[..1].to_vec(), ..all };
    let caller = caller(1);
    let call =
        Call { tool: "t", arguments: "{}", caller: &caller, session: None, server: ServerName { namespace: "ns", name: "server-0" } };
    let outcome = policies.judge(&call).approved(&first).reserve(&mut Counters::default(), Duration::ZERO);
    assert_eq!(refusal(outcome.decision).waits_for.unwrap().needed[0].policy.to_string(), "ns/b");
}

/// "A policy in `audit` mode is in force and never refuses or hides; its verdict is recorded beside the real one".
#[test]
fn in_audit_mode_nobody_is_asked_and_it_is_recorded() {
    let asks = policy("p", &json!({"tools": {"t": {"action": "approve"}}})).in_mode(Mode::Audit);
    let caller = caller(1);
    let call = Call { tool: "t", arguments: "", caller: &caller, session: None, server: ServerName { namespace: "ns", name: "server-0" } };
    let outcome = Policies::new(vec![asks]).decide(&mut Counters::default(), &call, Duration::ZERO);
    assert!(matches!(outcome.decision, Decision::Allowed(_)));
    let audited = &outcome.audited[0];
    assert_eq!((audited.code.as_str(), audited.rule.as_deref()), ("approval_required", Some("/tools/t/action")));
}

/// "`tools/list` shows what a call could pass: neither hidden nor denied."
#[test]
fn a_tool_that_waits_for_a_person_is_listed() {
    let policies = one(&json!({"tools": {"t": {"action": "approve"}, "u": {"approveIf": [{"conditions": []}]}, "v": {"action": "deny"}}}));
    assert_eq!(["t", "u", "v"].map(|tool| policies.lists(&caller(1), tool)), [true, true, false]);
}

/// "`approveIf`: [`{conditions: […], reason, timeout}`], ≤ 32"; from 1 second to 24 hours.
#[test]
fn what_cannot_be_asked_is_not_accepted() {
    let with = |entry: Value| errors(&json!({"tools": {"t": {"approveIf": [entry]}}}));
    for timeout in [json!(1), json!("24h"), json!("1d"), json!(86_400), json!("minute")] {
        assert_eq!(with(json!({"conditions": [], "timeout": timeout})), "nothing", "{timeout}");
    }
    let wrong = "tools.t.approveIf[0].timeout: is not a time to wait for a person: write a duration like 90s, 15m or 12h, or whole seconds; from \
                 1 second to 24 hours";
    for timeout in [json!(0), json!("25h"), json!("2d"), json!("soon")] {
        assert_eq!(with(json!({"conditions": [], "timeout": timeout})), wrong, "{timeout}");
    }
    assert_eq!(with(json!({})), "tools.t.approveIf[0].conditions: is required; `action: deny` refuses every call");
    assert_eq!(
        with(json!({"conditions": [{"path": "args.a", "op": "gt", "value": "x"}]})).split(": ").next(),
        Some("tools.t.approveIf[0].conditions[0].value")
    );
    let many = |count: usize| errors(&json!({"tools": {"t": {"approveIf": vec![json!({"conditions": []}); count]}}}));
    assert_eq!((many(32).as_str(), many(33).contains("at most 32")), ("nothing", true));
    let beside = policy("p", &json!({"tools": {"t": {"action": "deny", "approveIf": [{"conditions": []}]}}}));
    assert_eq!(beside.warnings(), ["tools.t.approveIf: never acts beside action: deny"]);
}

/// "`approvals`: `{arguments, approvers, wait}`": what people see of the arguments, how many must say yes, and for how long the call is
/// held open meanwhile.
#[test]
fn a_policy_says_what_people_see_how_many_must_agree_and_who_is_held() {
    for (settings, shown) in [
        (json!({}), Shown::Keys),
        (json!({"arguments": "digest"}), Shown::Digest),
        (json!({"arguments": "keys", "approvers": 1}), Shown::Keys),
        (json!({"arguments": "values", "approvers": 2}), Shown::Values),
    ] {
        let policies = one(&json!({"tools": {"t": {"action": "approve"}}, "approvals": settings}));
        assert_eq!(waits(&policies, "{}").needed[0].shown, shown, "{settings}");
    }
    for (wait, seconds) in [(json!(null), 0), (json!(1), 1), (json!("20s"), 20), (json!("1m"), 60), (json!("minute"), 60)] {
        let settings = if wait.is_null() { json!({}) } else { json!({"wait": wait}) };
        let policies = one(&json!({"tools": {"t": {"action": "approve"}}, "approvals": settings}));
        assert_eq!(waits(&policies, "{}").wait_seconds(), seconds, "{wait}");
    }
    for wait in [json!(0), json!(61), json!("2m"), json!("soon")] {
        let said = errors(&json!({"approvals": {"wait": wait}}));
        assert!(said.starts_with("approvals.wait: is not a time to hold a call open"), "{wait}: {said}");
    }
    for approvers in [0, 3] {
        let said = errors(&json!({"approvals": {"approvers": approvers}}));
        assert!(said.starts_with("approvals.approvers: must be"), "{approvers}: {said}");
    }
    assert_eq!(errors(&json!({"approvals": {"approver": 2}})), "approvals.approver: unknown field; did you mean `approvers`?");
}
