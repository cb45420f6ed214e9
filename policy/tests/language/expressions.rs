//! Expressions in CEL, as conditions of a rule. What the expressions themselves say has tests beside the evaluator.

use serde_json::json;

use super::*;

/// What `require` and then `denyIf` do with one expression: `+` passes, `-` refuses, `!` cannot decide and refuses.
fn signs(expression: &str, tool: &str, arguments: &str) -> String {
    let rules = [json!({"require": [{"cel": expression}]}), json!({"denyIf": [{"conditions": [{"cel": expression}]}]})];
    let sign = |rule: Value| match told(decide(&one(&json!({"default": "allow", "allTools": rule})), tool, arguments)).split(' ').next() {
        Some("allowed") => '+',
        Some("require_failed" | "deny_if") => '-',
        Some("policy_error") => '!',
        other => panic!("{other:?}"),
    };
    rules.map(sign).iter().collect()
}

const TRUE: &str = "+-";
const FALSE: &str = "-+";
const ERROR: &str = "!!";

fn refused(expression: &str) -> String {
    errors(&json!({"tools": {"t": {"require": [{"cel": expression}]}}}))
}

/// "`cel`: over `args`, `tool`, `caller`, `server`". "CEL: `tool` is the name, `caller` as in Callers, `server` is `{namespace, name}`".
#[test]
fn an_expression_sees_the_call() {
    for (expression, expected) in [
        ("args.n == 1", TRUE),
        ("args == {'n': 1, 's': ['a']}", TRUE),
        ("tool == 'pay'", TRUE),
        ("tool == 'Pay'", FALSE),
        ("caller == {'kind': 'anonymous', 'address': '10.0.0.1'}", TRUE),
        ("caller.kind == 'serviceAccount'", FALSE),
        ("server == {'namespace': 'ns', 'name': 'server-0'}", TRUE),
        ("server.name == 'server-1'", FALSE),
    ] {
        assert_eq!(signs(expression, "pay", r#"{"n": 1, "s": ["a"]}"#), expected, "{expression}");
    }
    for expression in ["session == 'a'", "policy == 'p'", "now > 0", "arguments.n == 1"] {
        assert!(refused(expression).starts_with("tools.t.require[0].cel: "), "{}", refused(expression));
    }
}

/// "must be boolean; […] compiled when the policy is accepted, not when a call comes."
#[test]
fn an_expression_that_cannot_be_boolean_is_refused_with_the_policy() {
    for expression in
        ["1", "'true'", "args", "size(tool)", "[true]", "tool", "1 + 1", "tool == ", "tool ===", "args.x < ", "nope(args)", ""]
    {
        let said = refused(expression);
        assert!(said.starts_with("tools.t.require[0].cel: "), "{expression}: {said}");
    }
    assert_eq!(refused("tool == 'x'"), "nothing");
}

/// "an expression whose type is known only at run time is accepted and errs when it is not boolean".
#[test]
fn a_type_that_is_known_only_at_run_time_is_judged_then() {
    assert_eq!(refused("args.flag"), "nothing");
    for (flag, expected) in [("true", TRUE), ("false", FALSE), ("1", ERROR), ("\"true\"", ERROR), ("null", ERROR), ("[true]", ERROR)] {
        assert_eq!(signs("args.flag", "t", &format!(r#"{{"flag": {flag}}}"#)), expected, "{flag}");
    }
}

/// "an expression that fails, is not boolean, or runs out of budget is an error, and **an error refuses the call**". "bounded cost";
/// "10,000 steps each, counted at run time."
#[test]
fn an_expression_that_fails_or_costs_too_much_refuses() {
    for expression in ["args.missing == 1", "1 / args.zero == 1", "args.list[9] == 1", "args.text > 1", "args.zero.x"] {
        assert_eq!(signs(expression, "t", r#"{"zero": 0, "list": [1], "text": "a"}"#), ERROR, "{expression}");
    }
    let list = |elements: usize| format!(r#"{{"l": [{}]}}"#, vec!["1"; elements].join(","));
    let costly = "args.l.all(x, x == 1)";
    assert_eq!(signs(costly, "t", &list(1_000)), TRUE);
    assert_eq!(signs(costly, "t", &list(10_000)), ERROR);
    // Each has steps of its own.
    let many = json!({"tools": {"t": {"require": vec![json!({"cel": costly}); 32]}}});
    assert_eq!(told(decide(&one(&many), "t", &list(1_000))), "allowed /tools/t");
}

/// "whole JSON numbers are `int`, others `double`, compared across both by value".
#[test]
fn numbers_are_ints_or_doubles_and_compare_by_value() {
    for (expression, number, expected) in [
        ("type(args.n) == int", "1", TRUE),
        ("type(args.n) == int", "1.0", TRUE),
        ("type(args.n) == int", "1e2", TRUE),
        ("type(args.n) == double", "1.5", TRUE),
        ("args.n == 1", "1.0", TRUE),
        ("args.n == 1.0", "1", TRUE),
        ("args.n < 1.5", "1", TRUE),
        ("args.n > 1", "1.5", TRUE),
        ("args.n in [1.0, 2.0]", "2", TRUE),
        ("args.n == 1", "9007199254740993", ERROR),
    ] {
        // Where the language has no `type`, the operators tell: only ints have a remainder.
        let expression =
            expression.replace("type(args.n) == int", "args.n % 1 == 0").replace("type(args.n) == double", "args.n * 2.0 == 3.0");
        assert_eq!(signs(&expression, "t", &format!(r#"{{"n": {number}}}"#)), expected, "{expression} of {number}");
    }
}

/// "to ask two things of one element, use `cel`."
#[test]
fn an_expression_asks_two_things_of_one_element() {
    let expression = "args.files.exists(file, file.kind == 'dir' && file.size > 5)";
    assert_eq!(signs(expression, "t", r#"{"files": [{"kind": "file", "size": 9}, {"kind": "dir", "size": 1}]}"#), FALSE);
    assert_eq!(signs(expression, "t", r#"{"files": [{"kind": "file", "size": 9}, {"kind": "dir", "size": 9}]}"#), TRUE);
}

/// "Conditions are **three-valued: true, false, error**." The same of paths and of expressions.
#[test]
fn a_condition_has_three_answers() {
    for (condition, expected) in [
        (json!({"path": "args.n", "op": "lt", "value": 5}), "allowed deny_if"),
        (json!({"path": "args.n", "op": "gt", "value": 5}), "require_failed allowed"),
        (json!({"path": "args.s", "op": "lt", "value": 5}), "policy_error policy_error"),
        (json!({"cel": "args.n < 5"}), "allowed deny_if"),
        (json!({"cel": "args.n > 5"}), "require_failed allowed"),
        (json!({"cel": "args.s < 5"}), "policy_error policy_error"),
    ] {
        let rules = [json!({"require": [condition]}), json!({"denyIf": [{"conditions": [condition]}]})];
        let said = rules.map(|rule| {
            let said = told(decide(&one(&json!({"tools": {"t": rule}})), "t", r#"{"n": 1, "s": "1"}"#));
            said.split(' ').next().unwrap().to_owned()
        });
        assert_eq!(said.join(" "), expected, "{condition}");
    }
}
