//! What an explanation tells beyond the decision: every rule that was asked, also after the first that refuses.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use mcp_policy::{Call, Caller, Counters, Policies, PolicyId, ServerName, Verdict, compile, read};
use serde_json::{Value, json};

/// Each step of a call to `t`: `- pointer`, `+ pointer` or `? pointer` for what refuses, passes and cannot be decided; and its account.
fn steps(document: &Value, arguments: &str) -> Vec<(String, String)> {
    let policy = compile(PolicyId::new(None, "p"), &read::document(document).unwrap()).unwrap();
    let caller = Caller::anonymous([10, 0, 0, 1].into());
    let call = Call { tool: "t", arguments, caller: &caller, session: None, server: ServerName { namespace: "", name: "server" } };
    let (_, steps) = Policies::new(vec![policy]).explain(&mut Counters::default(), &call, Duration::ZERO);
    let sign = |verdict| match verdict {
        Verdict::Passes => '+',
        Verdict::Refuses => '-',
        Verdict::Waits => '!',
        Verdict::Undecided => '?',
    };
    steps.into_iter().map(|step| (format!("{} {}", sign(step.verdict), step.pointer), step.account)).collect()
}

#[test]
fn every_rule_is_asked_though_an_earlier_one_refuses() {
    let condition = |path: &str, op: &str, value: i32| json!({"path": path, "op": op, "value": value});
    let rule = json!({
        "arguments": {"maxBytes": 1, "schema": {"required": ["x"]}},
        "require": [condition("args.n", "eq", 5), condition("args.s", "lt", 5), condition("args.n", "eq", -1)],
        "denyIf": [
            {"conditions": [condition("args.n", "lt", 0)]},
            {"conditions": [condition("args.s", "gt", 1)]},
            {"conditions": [condition("args.n", "gt", 0)]}],
        "limits": [
            {"counter": "a", "window": 1, "max": 1, "incrementFrom": "args.n"},
            {"counter": "b", "window": 1, "max": 1, "incrementFrom": "args.s"}]});
    let steps = steps(&json!({"allTools": {"require": [condition("args.n", "eq", 6)]}, "tools": {"t": rule}}), r#"{"n": -1, "s": "x"}"#);
    let asked: Vec<_> = steps.iter().map(|(asked, _)| asked.as_str()).collect();
    assert_eq!(
        asked,
        [
            "+ /tools/t",
            "- /tools/t/arguments/maxBytes",
            "- /tools/t/arguments/schema",
            "- /tools/t/require/0",
            "? /tools/t/require/1",
            "+ /tools/t/require/2",
            "- /allTools/require/0",
            "- /tools/t/denyIf/0",
            "? /tools/t/denyIf/1",
            "+ /tools/t/denyIf/2",
            "- /tools/t/limits/a/incrementFrom",
            "- /tools/t/limits/b/incrementFrom",
        ]
    );
    let account = |pointer: &str| steps.iter().find(|(asked, _)| asked.ends_with(pointer)).unwrap().1.as_str();
    assert_eq!(account("t/require/0"), "args.n is -1; asked: eq 5");
    assert_eq!(account("t/require/1"), "args.s is \"x\"; asked: lt 5: args.s is a string, not a number");
}

#[test]
fn an_expression_is_told_with_what_it_read() {
    let steps = steps(&json!({"tools": {"t": {"require": [{"cel": "args.n < 0"}]}}}), r#"{"n": 1}"#);
    assert_eq!(steps[1], ("- /tools/t/require/0".to_owned(), "args is {\"n\":1}; asked: args.n < 0".to_owned()));
}

#[test]
fn a_value_is_told_as_json_and_a_long_one_is_cut() {
    let told = |argument: &Value| {
        let rule = json!({"require": [{"path": "args.a", "op": "eq", "value": 1}]});
        steps(&json!({"tools": {"t": rule}}), &json!({"a": argument}).to_string())[1].1.clone()
    };
    for value in [json!({"a": {"b": [1, "x", null]}, "c": []}), json!([[1, 2], [true, {}]]), json!("x".repeat(78))] {
        assert_eq!(told(&value), format!("args.a is {value}; asked: eq 1"));
    }
    let cut = |shown: &str| format!("args.a is {}…; asked: eq 1", shown.chars().take(80).collect::<String>());
    let long = format!("\"{}", "é".repeat(1000));
    assert_eq!(told(&json!("é".repeat(79))), cut(&long));
    assert_eq!(told(&json!("é".repeat(1000))), cut(&long));
    assert_eq!(told(&json!(vec![1; 1000])), cut(&json!(vec![1; 1000]).to_string()));
    let wide: serde_json::Map<_, _> = (0..1000).map(|i| (format!("k{i:0>4}"), json!(i))).collect();
    assert_eq!(told(&json!(wide)), cut(&json!(wide).to_string()));
}
