//! The order of a decision, its codes and its pointers.

use serde_json::json;

use super::*;

/// A field that refuses the call `t` with the arguments `{"x": 1}`.
struct Step {
    /// `{rule}` stands for the rule's place.
    pointer: &'static str,
    code: &'static str,
    field: &'static str,
    value: fn(&str) -> Value,
}

/// "`action` → `arguments` → `require` → `denyIf` → is a limit already reached? → approval", one field for each, in this order.
const STEPS: [Step; 8] = [
    Step { pointer: "/action", code: "tool_denied", field: "action", value: |_| json!("deny") },
    Step { pointer: "/arguments/maxBytes", code: "arguments_invalid", field: "arguments", value: |_| json!({"maxBytes": 1}) },
    Step {
        pointer: "/arguments/schema",
        code: "arguments_invalid",
        field: "arguments",
        value: |_| json!({"schema": {"maxProperties": 0}}),
    },
    Step {
        pointer: "/require/0",
        code: "require_failed",
        field: "require",
        value: |_| json!([{"path": "args.x", "op": "eq", "value": 2}]),
    },
    Step {
        pointer: "/denyIf/0",
        code: "deny_if",
        field: "denyIf",
        value: |_| json!([{"conditions": [{"path": "args.x", "op": "eq", "value": 1}]}]),
    },
    Step { pointer: "/limits/{name}", code: "limit_exceeded", field: "limits", value: full },
    Step { pointer: "/rateLimit", code: "limit_exceeded", field: "rateLimit", value: |_| json!({"max": 0, "window": 1}) },
    Step { pointer: "/approveIf/0", code: "approval_required", field: "approveIf", value: |_| json!([{"conditions": []}]) },
];

fn call(document: &Value) -> String {
    told(decide(&one(document), "t", r#"{"x": 1}"#))
}

/// "Order, the same for every call: parse → caller → `methods` → `hide` → entry or `default` → `action` → `arguments` → `require` →
/// `denyIf` → is a limit already reached? → approval" "In each step the tool's own rule comes before `allTools`. The first refusal in that order is
/// the one that is told". "Pointers are RFC 6901, to the deepest field that refused (`…/action`, `…/arguments/schema`,
/// `…/denyIf/0/conditions/1`, `…/rateLimit`, `/methods/<key>`)".
#[test]
fn the_first_refusal_in_the_order_of_the_steps_is_told() {
    // In which place a step stands, the tool's own rule or allTools; with what it says.
    let mut in_order = Vec::new();
    for (i, step) in STEPS.iter().enumerate() {
        for (place, prefix) in [("tools", "/tools/t"), ("allTools", "/allTools")] {
            in_order.push((i, place, format!("{} {prefix}{}", step.code, step.pointer.replace("{name}", place))));
        }
    }
    let put = |document: &mut Value, step: &Step, place: &str| {
        let rule = if place == "tools" { &mut document["tools"]["t"] } else { &mut document["allTools"] };
        rule[step.field] = (step.value)(place);
    };
    for (a, (i, first_place, first)) in in_order.iter().enumerate() {
        let mut alone = json!({"tools": {"t": {}}, "allTools": {}});
        put(&mut alone, &STEPS[*i], first_place);
        assert_eq!(call(&alone), *first, "alone");
        for (j, second_place, second) in &in_order[a..] {
            let same_field = STEPS[*i].field == STEPS[*j].field && first_place == second_place;
            if same_field {
                continue;
            }
            // Within a step the tool's own rule comes first; the two fields of `arguments` are one step, and so are the two of limits.
            let same_step =
                |field: &str| ["arguments", "limits"].iter().position(|step| field == *step || (field == "rateLimit" && *step == "limits"));
            let one_step = same_step(STEPS[*i].field).is_some() && same_step(STEPS[*i].field) == same_step(STEPS[*j].field);
            let expected = if one_step && *first_place == "allTools" && *second_place == "tools" { second } else { first };
            let mut both = alone.clone();
            put(&mut both, &STEPS[*j], second_place);
            assert_eq!(call(&both), *expected, "{first} beside {second}");
        }
        // `hide` and the entry or the default come before all of them.
        let mut hidden = alone.clone();
        hidden["hide"] = json!(["t"]);
        assert_eq!(call(&hidden), "hidden /hide/0");
        if *first_place == "allTools" {
            alone["tools"] = json!({});
            assert_eq!(call(&alone), "default_deny /default", "{first}");
        }
    }
}

/// "by the rule that its pointer names (`/tools/<key>/denyIf/0`, `/allTools/limits/<counter>`, `/default`, `/hide/0`)". "Pointers are RFC
/// 6901": `~` and `/` of a name are escaped, nothing else is.
#[test]
fn a_pointer_leads_to_the_field_in_the_document_itself() {
    for key in ["t", "a/b", "a~b", "~1", "~0/", "with blank", "\u{e9}\"", "0", "-", "t.u[0]", "*"] {
        let document = json!({
            "tools": {key: {"denyIf": [{"conditions": [{"cel": "false"}]}, {"conditions": []}], "reason": "here"}},
        });
        let refusal = refusal(decide(&one(&document), key, ""));
        let pointer = refusal.rule.unwrap();
        assert_eq!(document.pointer(&pointer), Some(&json!({"conditions": []})), "{key}: {pointer}");
    }
    for (counter, token) in [("c", "c"), ("a/b", "a~1b"), ("a~b", "a~0b")] {
        let document = json!({"default": "allow", "allTools": {"limits": full(counter)}});
        assert_eq!(call(&document), format!("limit_exceeded /allTools/limits/{token}"));
    }
}

/// "`…/denyIf/0/conditions/1`": a condition that cannot be decided is named itself; "`policy_error`: a condition could not be decided".
#[test]
fn a_condition_that_cannot_be_decided_is_named() {
    let (holds, errs) = (json!({"path": "args.x", "op": "eq", "value": 1}), json!({"path": "args.x", "op": "regex", "value": "a"}));
    for (rule, pointer) in [
        (json!({"denyIf": [{"conditions": [holds, errs]}]}), "/denyIf/0/conditions/1"),
        (json!({"denyIf": [{"conditions": [{"cel": "false"}]}, {"conditions": [errs]}]}), "/denyIf/1/conditions/0"),
        (json!({"require": [holds, errs]}), "/require/1"),
    ] {
        assert_eq!(call(&json!({"tools": {"t": rule}})), format!("policy_error /tools/t{pointer}"));
        assert_eq!(call(&json!({"default": "allow", "allTools": rule})), format!("policy_error /allTools{pointer}"));
    }
}

/// "is a limit already reached? → approval → reserve limits": a call that a rule refuses reserves nothing, and of several limits the
/// tool's own is told before that of `allTools`. "So nobody is asked about a call that could not pass."
#[test]
fn a_call_that_is_refused_before_reserves_nothing() {
    let limit = json!([{"counter": "c", "window": "minute", "max": 1}]);
    for step in &STEPS[..5] {
        let mut document = json!({"tools": {"t": {"limits": limit}, "u": {"limits": limit}}});
        document["tools"]["t"][step.field] = (step.value)("tools");
        let policies = one(&document);
        let mut counters = Counters::default();
        for _ in 0..3 {
            let said = told(decide_with(&policies, &mut counters, "t", r#"{"x": 1}"#));
            assert!(said.starts_with(step.code), "{said}");
        }
        assert_eq!(told(decide_with(&policies, &mut counters, "u", "")), "allowed /tools/u", "after {}", step.code);
    }
}

/// The table of codes: what each is called is part of the interface.
#[test]
fn codes_are_called_as_the_table_says() {
    use mcp_policy::Code;
    let codes = [
        (Code::Allowed, "allowed"),
        (Code::Hidden, "hidden"),
        (Code::DefaultDeny, "default_deny"),
        (Code::ToolDenied, "tool_denied"),
        (Code::ArgumentsInvalid, "arguments_invalid"),
        (Code::RequireFailed, "require_failed"),
        (Code::DenyIf, "deny_if"),
        (Code::LimitExceeded, "limit_exceeded"),
        (Code::PolicyError, "policy_error"),
        (Code::NoPolicy, "no_policy"),
        (Code::Malformed, "malformed"),
        (Code::MethodDenied, "method_denied"),
        (Code::UpstreamUnreachable, "upstream_unreachable"),
    ];
    for (code, text) in codes {
        assert_eq!((code.as_str(), serde_json::to_value(code).unwrap()), (text, json!(text)));
    }
}

/// "null without a rule"
#[test]
fn without_a_rule_there_is_no_pointer() {
    assert_eq!(told(decide(&Policies::default(), "t", "")), "no_policy -");
    let unknown = one(&json!({})).decide_method(&caller(1), "x/unknown").refusal.unwrap();
    assert_eq!((unknown.code.as_str(), unknown.rule), ("method_denied", None));
}

/// The table of risk categories: the rule that each suggests does what the category needs.
#[test]
fn the_rule_that_suits_each_category_does_what_it_is_for() {
    let hourly = json!({"limits": [{"counter": "writes", "window": "hour", "max": 30, "scope": "grant"}]});
    let checked = json!({
        "limits": [{"counter": "runs", "window": "minute", "max": 10, "scope": "grant"}],
        "require": [{"path": "args.command", "op": "in", "value": ["status"]}],
    });
    let policies = one(&json!({"tools": {"read": {}, "write": hourly, "execute": checked, "destroy": {"action": "hide"}}}));
    let mut counters = Counters::default();
    let mut passed = |tool: &str, arguments: &str| {
        (0..100).filter(|_| told(decide_with(&policies, &mut counters, tool, arguments)).starts_with("allowed")).count()
    };
    assert_eq!(passed("read", ""), 100, "`{{}}`");
    assert_eq!(passed("write", ""), 30, "30 an hour per grant");
    assert_eq!(passed("execute", r#"{"command": "rm"}"#), 0, "and argument checks");
    assert_eq!(passed("execute", r#"{"command": "status"}"#), 10, "10 a minute per grant");
    assert_eq!(passed("destroy", ""), 0, "`action: hide`");
    assert!(!policies.lists(&caller(1), "destroy"));
}
