//! The language's sentences on conditions, paths, numbers and schemas, each through whole policies. A test quotes its sentence.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::slice;
use std::time::Duration;

use mcp_policy::{Call, Caller, Counters, Decision, Policies, PolicyId, ServerName, compile, read};
use serde_json::{Value, json};

/// The policies of one document whose only tool `t` has this rule.
fn policy(rule: &Value) -> Policies {
    let document = read::document(&json!({"tools": {"t": rule}})).unwrap_or_else(|error| panic!("{rule}: {error}"));
    Policies::new(vec![compile(PolicyId::new(Some("ns"), "p"), &document).unwrap_or_else(|errors| panic!("{rule}: {errors}"))])
}

/// `allowed`, or the code and the pointer within the rule, of a call with these arguments.
fn told(rule: &Value, arguments: &str) -> String {
    let caller = Caller::anonymous([10, 0, 0, 1].into());
    let server = ServerName { namespace: "ns", name: "pod" };
    let call = Call { tool: "t", arguments, caller: &caller, session: None, server };
    match policy(rule).decide(&mut Counters::default(), &call, Duration::ZERO).decision {
        Decision::Allowed(_) => "allowed".to_owned(),
        Decision::Refused(refusal) => {
            let pointer = refusal.rule.unwrap();
            let reason = refusal.reason.map_or_else(String::new, |reason| format!(": {reason}"));
            format!("{} {}{reason}", refusal.code, pointer.strip_prefix("/tools/t").unwrap())
        }
    }
}

/// What is wrong with a rule: the field within it and the message.
fn refused(rule: &Value) -> String {
    let document = read::document(&json!({"tools": {"t": rule}})).unwrap();
    let errors = compile(PolicyId::new(Some("ns"), "p"), &document).unwrap_err();
    errors.to_string().replace("tools.t.", "")
}

fn require(conditions: &[Value]) -> Value {
    json!({"require": conditions})
}

fn deny_if(conditions: &[Value]) -> Value {
    json!({"denyIf": [{"conditions": conditions}]})
}

fn condition(path: &str, op: &str, value: impl Into<Value>) -> Value {
    json!({"path": path, "op": op, "value": value.into()})
}

/// What `require` and then `denyIf` do with one condition: `+` passes, `-` refuses, `!` cannot decide and refuses.
fn signs(condition: &Value, arguments: &str) -> String {
    [require(slice::from_ref(condition)), deny_if(slice::from_ref(condition))]
        .map(|rule| match told(&rule, arguments).as_str() {
            "allowed" => '+',
            "require_failed /require/0" | "deny_if /denyIf/0" => '-',
            "policy_error /require/0" | "policy_error /denyIf/0/conditions/0" => '!',
            other => panic!("{other}"),
        })
        .iter()
        .collect()
}

/// True, false and undecided, as `require` and `denyIf` treat them.
const TRUE: &str = "+-";
const FALSE: &str = "-+";
const ERROR: &str = "!!";

fn assert_signs(cases: &[(Value, &str, &str)]) {
    for (condition, arguments, expected) in cases {
        assert_eq!(signs(condition, arguments), *expected, "{condition} on {arguments}");
    }
}

/// "`require`: every one must hold, else refused"
#[test]
fn every_requirement_must_hold() {
    let rule = require(&[condition("args.a", "eq", 1), condition("args.b", "eq", 2)]);
    assert_eq!(told(&rule, r#"{"a": 1, "b": 2}"#), "allowed");
    assert_eq!(told(&rule, r#"{"a": 0, "b": 2}"#), "require_failed /require/0");
    assert_eq!(told(&rule, r#"{"a": 1, "b": 0}"#), "require_failed /require/1");
}

/// "`denyIf`: refused when all conditions of one entry hold; **an empty list always holds**"
#[test]
fn one_entry_of_which_all_conditions_hold_refuses() {
    let rule = json!({"denyIf": [
        {"conditions": [condition("args.a", "eq", 1), condition("args.b", "eq", 2)]},
        {"conditions": [condition("args.c", "eq", 3)]},
    ]});
    assert_eq!(told(&rule, r#"{"a": 1, "b": 0}"#), "allowed");
    assert_eq!(told(&rule, r#"{"a": 1, "b": 2}"#), "deny_if /denyIf/0");
    assert_eq!(told(&rule, r#"{"c": 3}"#), "deny_if /denyIf/1");
    assert_eq!(told(&json!({"denyIf": [{"conditions": []}]}), "{}"), "deny_if /denyIf/0");
}

/// "`path`: `args`, then any of `.name`, `["any key"]`, `[0]`, `[*]`."
#[test]
fn a_path_leads_through_keys_and_indexes() {
    let arguments = r#"{"a": {"b c": [10, {"d-e": "x"}]}}"#;
    assert_signs(&[
        (condition(r#"args.a["b c"][1].d-e"#, "eq", "x"), arguments, TRUE),
        (condition(r#"args["a"]["b c"][0]"#, "eq", 10), arguments, TRUE),
        (condition(r#"args.a["b c"][1]["d\u002de"]"#, "eq", "x"), arguments, TRUE),
        (condition(r#"args.a["b c"]"#, "eq", json!([10, {"d-e": "x"}])), arguments, TRUE),
    ]);
}

/// "Known mistakes … that this one must not make: … duplicate or case-variant keys judged differently from how the server reads them"
#[test]
fn a_key_that_some_servers_take_for_the_rules_is_not_judged() {
    for arguments in
        [r#"{"Operation": "delete"}"#, r#"{"OPERATION": "read"}"#, r#"{"operation\u0000": "read"}"#, r#"{"operat\u0131on": 1}"#]
    {
        assert_signs(&[
            (condition("args.operation", "eq", "delete"), arguments, ERROR),
            (condition("args.operation", "neq", "delete"), arguments, ERROR),
            (condition("args.operation", "in", json!(["read"])), arguments, ERROR),
            (condition("args.operation", "exists", true), arguments, ERROR),
            (condition("args.operation", "exists", false), arguments, ERROR),
            (condition("args", "eq", json!({"operation": "delete"})), arguments, ERROR),
            (condition("args.other", "exists", false), arguments, TRUE),
        ]);
    }
    assert_signs(&[
        (condition("args.a", "eq", json!({"x": {"y": 1}})), r#"{"a": {"x": {"Y": 1}}}"#, ERROR),
        (condition("args.a", "not_in", json!([{"x": 1}, 2])), r#"{"a": {"X": 1}}"#, ERROR),
        (condition("args.a", "contains", json!({"x": 1})), r#"{"a": [{"X": 1}]}"#, ERROR),
        (condition("args.a", "contains", json!({"x": 1})), r#"{"a": [{"X": 1}, {"x": 1}]}"#, TRUE),
        (condition("args.a", "eq", json!({"x": 1, "y": 1})), r#"{"a": {"X": 1, "y": 2}}"#, FALSE),
    ]);
    // Both keys: nothing in these arguments can be believed.
    let call = |rule: &Value| {
        let caller = Caller::anonymous([10, 0, 0, 1].into());
        let server = ServerName { namespace: "ns", name: "pod" };
        let arguments = r#"{"operation": "read", "Operation": "delete"}"#;
        let call = Call { tool: "t", arguments, caller: &caller, session: None, server };
        policy(rule).decide(&mut Counters::default(), &call, Duration::ZERO).decision
    };
    for (rule, code) in [
        (require(&[condition("args.operation", "eq", "read")]), "malformed"),
        (json!({"arguments": {"schema": {"required": ["operation"]}}}), "arguments_invalid"),
    ] {
        let Decision::Refused(refusal) = call(&rule) else { panic!("{rule}") };
        assert_eq!(refusal.code.as_str(), code, "{rule}");
    }
    let schema = json!({"arguments": {"schema": {"properties": {"operation": {"enum": ["read"]}}}}});
    assert_eq!(told(&schema, r#"{"Operation": "delete"}"#), "arguments_invalid /arguments/schema");
}

/// The first field that does not fit is named, wherever expressions can stand.
#[test]
fn the_regular_expressions_of_a_policy_are_bounded_in_all() {
    let large = |i: usize| format!(r"^{i}[\pL]{{20}}$");
    let rule = |i: usize| match i % 3 {
        0 => require(&[condition("args.a", "regex", large(i))]),
        1 => require(&[json!({"cel": format!("args.a.matches('{}')", large(i).replace('\\', "\\\\"))})]),
        _ => json!({"arguments": {"schema": {"properties": {"a": {"pattern": large(i)}}}}}),
    };
    let compiled = |count: usize, of: &dyn Fn(usize) -> Value| {
        let tools: serde_json::Map<String, Value> = (0..count).map(|i| (format!("t{i:03}"), of(i))).collect();
        compile(PolicyId::new(Some("ns"), "p"), &read::document(&json!({"tools": tools})).unwrap())
    };
    let errors = compiled(100, &rule).unwrap_err();
    let (tool, field) = errors.0[0].path.strip_prefix("tools.t").unwrap().split_once('.').unwrap();
    let full: usize = tool.parse().unwrap();
    assert_eq!(field, ["require[0].value", "require[0].cel", "arguments.schema.properties.a.pattern"][full % 3]);
    compiled(full, &rule).unwrap();
    assert!(errors.0[0].message.contains("take more than 16 MiB in all, counted up to this one"), "{errors}");
    // The same words are compiled once.
    compiled(300, &|i| require(&[condition("args.a", "regex", large(i % 2))])).unwrap();
}

/// "Absent `arguments` are `{}`." and "`arguments: null` is as absent"
#[test]
fn absent_arguments_are_an_empty_object() {
    for arguments in ["", "null", "{}"] {
        assert_signs(&[(condition("args", "eq", json!({})), arguments, TRUE), (condition("args.a", "exists", false), arguments, TRUE)]);
    }
}

/// "`[*]` stands for each element: `require` needs it to hold for all of them (an empty array holds), `denyIf` and `approveIf` take any
/// of them (an empty array does not), so one more element never helps an attacker."
#[test]
fn a_wildcard_is_all_for_require_and_any_for_deny_if() {
    let below = condition("args.a[*].n", "lt", 5);
    assert_signs(&[
        (below.clone(), r#"{"a": []}"#, "++"),
        (below.clone(), r#"{"a": [{"n": 1}]}"#, "+-"),
        (below.clone(), r#"{"a": [{"n": 9}]}"#, "-+"),
        (below.clone(), r#"{"a": [{"n": 1}, {"n": 9}]}"#, "--"),
        (below, r#"{"a": [{"n": 9}, {"n": 1}, {"n": 9}]}"#, "--"),
    ]);
}

/// "`eq` is JSON equality (values of different types are unequal, which is no error)"; "Numbers compare as exact decimals; `"10"` is not
/// `10`; `1.0` is `1`."
#[test]
fn equality_is_that_of_json() {
    let ten = condition("args.x", "eq", 10);
    assert_signs(&[
        (ten.clone(), r#"{"x": 10}"#, TRUE),
        (ten.clone(), r#"{"x": 10.0}"#, TRUE),
        (ten.clone(), r#"{"x": 1e1}"#, TRUE),
        (ten.clone(), r#"{"x": "10"}"#, FALSE),
        (ten.clone(), r#"{"x": 10.00000000000000000000000001}"#, FALSE),
        (ten, r#"{"x": [10]}"#, FALSE),
        (condition("args.x", "eq", json!({"a": 1, "b": [null]})), r#"{"x": {"b": [null], "a": 1.0}}"#, TRUE),
        (condition("args.x", "eq", "é"), r#"{"x": "\u00e9"}"#, TRUE),
        (condition("args.x", "eq", "é"), "{\"x\": \"e\u{301}\"}", FALSE),
        (condition("args.x", "eq", json!(null)), r#"{"x": null}"#, TRUE),
        (condition("args.x", "neq", 10), r#"{"x": "10"}"#, TRUE),
        (condition("args.x", "neq", 10), r#"{"x": 10.0}"#, FALSE),
    ]);
}

/// "`in` and `not_in` take a list"
#[test]
fn membership_is_equality_with_one_of_a_list() {
    let regions = json!(["eu-west-1", 3, null]);
    assert_signs(&[
        (condition("args.x", "in", regions.clone()), r#"{"x": "eu-west-1"}"#, TRUE),
        (condition("args.x", "in", regions.clone()), r#"{"x": 3.0}"#, TRUE),
        (condition("args.x", "in", regions.clone()), r#"{"x": null}"#, TRUE),
        (condition("args.x", "in", regions.clone()), r#"{"x": "EU-west-1"}"#, FALSE),
        (condition("args.x", "in", regions.clone()), r#"{"x": ["eu-west-1"]}"#, FALSE),
        (condition("args.x", "not_in", regions.clone()), r#"{"x": "us-west-2"}"#, TRUE),
        (condition("args.x", "not_in", regions), r#"{"x": 3}"#, FALSE),
    ]);
    assert_eq!(
        refused(&require(&[condition("args.x", "in", "a")])),
        "require[0].value: is a string; write a list of values; for one value write `op: eq`"
    );
}

/// "`lt` to `gte` take numbers"
#[test]
fn order_is_that_of_numbers() {
    assert_signs(&[
        (condition("args.x", "lt", 2), r#"{"x": 1.999}"#, TRUE),
        (condition("args.x", "lt", 2), r#"{"x": 2.0}"#, FALSE),
        (condition("args.x", "lte", 2), r#"{"x": 2.0}"#, TRUE),
        (condition("args.x", "gt", -2), r#"{"x": -2}"#, FALSE),
        (condition("args.x", "gte", -2), r#"{"x": -2}"#, TRUE),
        (condition("args.x", "gte", 0.1), r#"{"x": 0.09999999999999999999999}"#, FALSE),
        (condition("args.x", "lt", 2), r#"{"x": "1"}"#, ERROR),
        (condition("args.x", "lt", 2), r#"{"x": null}"#, ERROR),
    ]);
    assert_eq!(refused(&require(&[condition("args.x", "lt", "2")])), "require[0].value: is a string; write a number; leave the quotes out");
}

/// "`regex` takes strings, matches anywhere unless anchored, in linear time"; "`regex`: the syntax of Rust's `regex` crate with its
/// defaults, at most 1,024 characters."
#[test]
fn a_regular_expression_matches_anywhere_unless_anchored() {
    assert_signs(&[
        (condition("args.x", "regex", "b+"), r#"{"x": "abbc"}"#, TRUE),
        (condition("args.x", "regex", "^b+$"), r#"{"x": "abbc"}"#, FALSE),
        (condition("args.x", "regex", "^bb$"), r#"{"x": "bb\n"}"#, FALSE),
        (condition("args.x", "regex", r"^\d$"), r#"{"x": "٣"}"#, TRUE),
        (condition("args.x", "regex", "(?i)^drop "), r#"{"x": "DROP TABLE"}"#, TRUE),
        (condition("args.x", "regex", "1"), r#"{"x": 1}"#, ERROR),
        (condition("args.x", "regex", "a"), r#"{"x": {"a": 1}}"#, ERROR),
    ]);
    let wrong = |pattern: String| refused(&require(&[condition("args.x", "regex", pattern)]));
    assert_eq!(
        wrong("a(?=b)".to_owned()),
        "require[0].value: is no regular expression: at character 2: look-around, including look-ahead and look-behind, is not supported; it could not \
         be matched in linear time: ask with two conditions instead"
    );
    assert_eq!(wrong("a".repeat(1025)), "require[0].value: a regular expression has at most 1024 characters; this one has 1025");
    assert!(wrong("((a{100}){100}){100}".to_owned()).starts_with("require[0].value: the regular expression would be slow"));
}

/// "`contains`: substring of a string, member of an array."; "`contains`: on a string, `value` must be a string, else an error; on an array
/// any JSON value."
#[test]
fn contains_asks_strings_and_arrays() {
    assert_signs(&[
        (condition("args.x", "contains", "b"), r#"{"x": "abc"}"#, TRUE),
        (condition("args.x", "contains", "B"), r#"{"x": "abc"}"#, FALSE),
        (condition("args.x", "contains", "b"), r#"{"x": ["a", "b"]}"#, TRUE),
        (condition("args.x", "contains", "b"), r#"{"x": ["abc"]}"#, FALSE),
        (condition("args.x", "contains", json!({"a": 1})), r#"{"x": [{"a": 1.0}]}"#, TRUE),
        (condition("args.x", "contains", 1), r#"{"x": "1"}"#, ERROR),
        (condition("args.x", "contains", "a"), r#"{"x": {"a": 1}}"#, ERROR),
    ]);
}

/// "`exists` takes `true` (default) or `false`; `null` exists."
#[test]
fn null_exists() {
    assert_signs(&[
        (json!({"path": "args.x", "op": "exists"}), r#"{"x": null}"#, TRUE),
        (json!({"path": "args.x", "op": "exists"}), "{}", FALSE),
        (condition("args.x", "exists", true), r#"{"x": 0}"#, TRUE),
        (condition("args.x", "exists", false), r#"{"x": null}"#, FALSE),
        (condition("args.x", "exists", false), "{}", TRUE),
    ]);
}

/// "A missing path is false for every operator but `exists: false`."
#[test]
fn a_missing_path_is_false() {
    for (op, value) in [
        ("eq", json!(null)),
        ("neq", json!(1)),
        ("in", json!([null])),
        ("not_in", json!([1])),
        ("lt", json!(1)),
        ("lte", json!(1)),
        ("gt", json!(1)),
        ("gte", json!(1)),
        ("regex", json!("")),
        ("contains", json!("")),
        ("exists", json!(true)),
    ] {
        assert_signs(&[(condition("args.x", op, value), "{}", FALSE)]);
    }
}

/// "A value of the wrong type for its operator (a string where a number is compared, an object under `regex`), any comparison of a number
/// beyond ±2^53 (servers read it differently) […] is an error, and **an error refuses the call**, in `require`, in `denyIf` and in
/// `approveIf` alike."
#[test]
fn what_cannot_be_decided_refuses() {
    assert_signs(&[
        (condition("args.x", "gt", 1), r#"{"x": "2"}"#, ERROR),
        (condition("args.x", "regex", "a"), r#"{"x": {}}"#, ERROR),
        (condition("args.x", "gt", 1), r#"{"x": 9007199254740992}"#, TRUE),
        (condition("args.x", "gt", 1), r#"{"x": 9007199254740993}"#, ERROR),
        (condition("args.x", "neq", 1), r#"{"x": -9007199254740993}"#, ERROR),
    ]);
}

/// "Numbers: in a policy at most 15 significant digits, and within ±2^53 if whole; in arguments beyond ±2^53 an error wherever a condition
/// or an amount reads them, at any depth"
#[test]
fn numbers_are_those_that_all_read_alike() {
    assert_signs(&[
        (condition("args.x", "eq", json!({})), r#"{"x": {"a": [{"b": 1e17}]}}"#, ERROR),
        (condition("args.x", "in", json!(["a"])), r#"{"x": [9007199254740993]}"#, ERROR),
        (condition("args.x", "contains", "a"), r#"{"x": ["a", 9007199254740993]}"#, ERROR),
        (condition("args.x", "exists", true), r#"{"x": 9007199254740993}"#, TRUE),
        (condition("args.x", "eq", 1), r#"{"x": 1, "y": 9007199254740993}"#, TRUE),
    ]);
    let wrong = |value: Value| refused(&require(&[condition("args.x", "eq", value)]));
    assert!(wrong(json!([{"a": 9_007_199_254_740_993_u64}])).starts_with("require[0].value: 9007199254740993 is beyond ±2^53"));
    assert!(wrong(json!(1.234_567_890_123_456)).starts_with("require[0].value: 1.234567890123456 has more than 15 significant digits"));
    let amount = json!({"limits": [{"counter": "c", "window": "day", "max": 10, "incrementFrom": "args.x"}]});
    assert_eq!(told(&amount, r#"{"x": 9007199254740993}"#), "arguments_invalid /limits/c/incrementFrom");
}

/// "And and or are Kleene's, so order never matters: a list of conditions is false if one is false, else an error if one errs; a list of
/// entries is true if one is true, else an error if one errs"
#[test]
fn the_order_of_conditions_and_entries_never_matters() {
    let (yes, no, error) = (condition("args.x", "eq", 1), condition("args.x", "eq", 2), condition("args.x", "regex", "a"));
    let arguments = r#"{"x": 1}"#;
    for (conditions, required, denied) in [
        ([&no, &error], "require_failed", "allowed"),
        ([&error, &no], "require_failed", "allowed"),
        ([&yes, &error], "policy_error", "policy_error"),
        ([&error, &yes], "policy_error", "policy_error"),
        ([&yes, &yes], "allowed", "deny_if"),
        ([&yes, &no], "require_failed", "allowed"),
    ] {
        let conditions = conditions.map(Clone::clone);
        assert!(told(&require(&conditions), arguments).starts_with(required), "{conditions:?}");
        assert!(told(&deny_if(&conditions), arguments).starts_with(denied), "{conditions:?}");
    }
    for (entries, expected) in [
        ([&yes, &error], "deny_if /denyIf/0"),
        ([&error, &yes], "deny_if /denyIf/1"),
        ([&error, &no], "policy_error /denyIf/0/conditions/0"),
        ([&no, &error], "policy_error /denyIf/1/conditions/0"),
        ([&no, &no], "allowed"),
    ] {
        let rule = json!({"denyIf": entries.map(|condition| json!({"conditions": [condition]}))});
        assert_eq!(told(&rule, arguments), expected);
    }
}

/// "the elements of `[*]` likewise (all: and; any: or)."
#[test]
fn the_elements_of_a_wildcard_are_joined_as_conditions_are() {
    let below = condition("args.a[*]", "lt", 5);
    assert_signs(&[
        (below.clone(), r#"{"a": [1, "x"]}"#, "!-"),
        (below.clone(), r#"{"a": ["x", 1]}"#, "!-"),
        (below.clone(), r#"{"a": [9, "x"]}"#, "-!"),
        (below.clone(), r#"{"a": ["x", 9]}"#, "-!"),
        (below, r#"{"a": ["x"]}"#, "!!"),
    ]);
}

/// "Told is the first true entry, else the first that errs."
#[test]
fn the_first_true_entry_is_told() {
    let entry = |op: &str, reason: &str| json!({"conditions": [condition("args.x", op, "a")], "reason": reason});
    let rule = json!({"reason": "the rule's", "denyIf": [entry("regex", "errs"), entry("neq", "first"), entry("neq", "second")]});
    assert_eq!(told(&rule, r#"{"x": 1}"#), "deny_if /denyIf/1: first");
    let rule = json!({"reason": "the rule's", "denyIf": [entry("eq", "is false"), entry("regex", "errs"), entry("regex", "errs too")]});
    assert_eq!(told(&rule, r#"{"x": 1}"#), "policy_error /denyIf/1/conditions/0: errs");
}

/// "A path step on a value that has no such parts (`.name` on an array or string, `[0]` on an object) is an error."
#[test]
fn a_step_on_a_value_without_such_parts_is_an_error() {
    assert_signs(&[
        (condition("args.x.y", "eq", 1), r#"{"x": []}"#, ERROR),
        (condition("args.x.y", "eq", 1), r#"{"x": "s"}"#, ERROR),
        (condition("args.x[0]", "eq", 1), r#"{"x": {"0": 1}}"#, ERROR),
        (condition("args.x[*]", "eq", 1), r#"{"x": {}}"#, ERROR),
        (condition("args.x.y", "exists", false), r#"{"x": 1}"#, ERROR),
    ]);
}

/// "An absent member or index, and anything under `null`, is a missing path."
#[test]
fn what_is_absent_or_under_null_is_missing() {
    assert_signs(&[
        (condition("args.x.y", "exists", false), "{}", TRUE),
        (condition("args.x[3]", "exists", false), r#"{"x": [1]}"#, TRUE),
        (condition("args.x.y[0][*]", "exists", false), r#"{"x": null}"#, TRUE),
        (condition("args.x[*].y", "neq", 1), r#"{"x": null}"#, FALSE),
    ]);
}

/// "Each condition takes its elements by itself"
#[test]
fn each_condition_takes_its_elements_by_itself() {
    let rule = deny_if(&[condition("args.a[*].kind", "eq", "file"), condition("args.a[*].size", "gt", 5)]);
    assert_eq!(told(&rule, r#"{"a": [{"kind": "file", "size": 1}, {"kind": "dir", "size": 9}]}"#), "deny_if /denyIf/0");
    assert_eq!(told(&rule, r#"{"a": [{"kind": "file", "size": 1}]}"#), "allowed");
}

/// "`.name` is `[A-Za-z_][A-Za-z0-9_-]*`; `["…"]` is a JSON string; an index has no leading zero; `args` alone is the whole object; no
/// blanks."
#[test]
fn what_is_no_path_is_refused() {
    for (path, hint) in [
        ("amount", "a path begins with `args`; write `args.amount`"),
        ("$.amount", "a path begins with `args`; write `args.amount`"),
        ("args.1a", "at character 6: a name begins with a letter or `_`; write `[\"1a\"]`"),
        ("args['a']", "at character 6: a key stands in double quotes: `[\"any key\"]`"),
        ("args[a]", "at character 6: a key stands in double quotes: `[\"a\"]`"),
        ("args[01]", "at character 6: an index has no leading zero"),
        ("args[ 1 ]", "at character 6: there are no blanks between brackets"),
    ] {
        assert_eq!(refused(&require(&[condition(path, "eq", 1)])), format!("require[0].path: {hint}"));
    }
    assert_signs(&[(condition("args", "eq", json!({"a": 1})), r#"{"a": 1}"#, TRUE)]);
}

/// "A condition is either `{path, op, value}` or `{cel: "…"}`."
#[test]
fn a_condition_is_one_of_two() {
    for (condition, expected) in [
        (json!({}), "require[0]: needs `path`, `op` and `value`, or `cel`"),
        (
            json!({"path": "args", "op": "exists", "cel": "true"}),
            "require[0]: has both `path` and `cel`; a condition is one of the two, and two conditions ask both",
        ),
        (json!({"cel": "true", "op": "eq"}), "require[0].op: means nothing beside `cel`"),
        (
            json!({"path": "args.x", "value": 1}),
            "require[0].op: is required beside `path`: write eq, neq, in, not_in, lt, lte, gt, gte, regex, contains or exists",
        ),
        (json!({"path": "args.x", "op": "eq"}), "require[0].value: is required: write any JSON value"),
        (
            json!({"path": "args.x", "op": "in", "value": []}),
            "require[0].value: is an empty list, so that the condition never holds; name the values",
        ),
    ] {
        assert_eq!(refused(&require(&[condition])), expected);
    }
}

/// "`arguments`: the arguments must validate (2020-12; no remote `$ref`; bounded depth)"
#[test]
fn the_arguments_must_validate() {
    let rule = json!({"arguments": {"schema": {
        "type": "object",
        "properties": {"id": {"$ref": "#/$defs/id"}},
        "required": ["id"],
        "additionalProperties": false,
        "$defs": {"id": {"type": "string", "maxLength": 3}},
    }}});
    assert_eq!(told(&rule, r#"{"id": "abc"}"#), "allowed");
    for arguments in [r#"{"id": "abcd"}"#, r#"{"id": 1}"#, "{}", "", "null", r#"{"id": "abc", "x": 1}"#] {
        assert_eq!(told(&rule, arguments), "arguments_invalid /arguments/schema", "{arguments}");
    }
    let schema = |schema: Value| refused(&json!({"arguments": {"schema": schema}}));
    assert!(
        schema(json!({"properties": {"a": {"$ref": "https://example.com/a"}}}))
            .starts_with("arguments.schema.properties.a.$ref: `https://example.com/a` leads out of this schema, and nothing is fetched")
    );
    assert!(schema(json!({"$ref": "#"})).starts_with("arguments.schema: a `$ref` leads back here"));
    assert_eq!(schema(json!({"minimun": 1})), "arguments.schema.minimun: is no keyword of JSON Schema; did you mean `minimum`?");
}

/// "Schemas: 2020-12 only; `format` is asserted, an unknown one is refused when loaded; `pattern` is as `regex`; at most 32 levels."
#[test]
fn schemas_are_of_one_draft_and_assert_formats() {
    let rule = |schema: Value| json!({"arguments": {"schema": schema}});
    let date = rule(json!({"properties": {"d": {"format": "date"}}}));
    assert_eq!(told(&date, r#"{"d": "2026-02-28"}"#), "allowed");
    assert_eq!(told(&date, r#"{"d": "2026-02-30"}"#), "arguments_invalid /arguments/schema");
    let digit = rule(json!({"properties": {"d": {"pattern": r"^\d$"}}}));
    assert_eq!(told(&digit, r#"{"d": "٣"}"#), "allowed");
    assert_eq!(told(&digit, r#"{"d": "x"}"#), "arguments_invalid /arguments/schema");
    assert!(
        refused(&rule(json!({"format": "dat"})))
            .starts_with("arguments.schema.format: `dat` is no format that can be checked; did you mean `date`?")
    );
    assert!(refused(&rule(json!({"$schema": "http://json-schema.org/draft-07/schema#"}))).contains("is another draft than 2020-12"));
    let nested = |levels| (1..levels).fold(json!({}), |inner, _| json!({"properties": {"a": inner}}));
    policy(&rule(nested(32)));
    assert!(refused(&rule(nested(33))).ends_with("is too deep: at most 32 schemas can be within each other"));
}

/// "`maxBytes` counts the bytes of `arguments` as sent."
#[test]
fn the_bytes_of_the_arguments_are_counted_as_sent() {
    let rule = json!({"arguments": {"maxBytes": 10}});
    assert_eq!(told(&rule, r#"{"a": "é"}"#).as_str(), "arguments_invalid /arguments/maxBytes", "11 bytes");
    assert_eq!(told(&rule, r#"{"a":"é"}"#), "allowed", "10 bytes");
    assert_eq!(told(&rule, r#"{"a": 123}"#), "allowed");
    assert_eq!(told(&rule, "{}         "), "arguments_invalid /arguments/maxBytes");
}

/// "`reason`: the entry's, else the rule's"
#[test]
fn a_refusal_tells_the_reason_of_its_entry_or_else_of_its_rule() {
    let never = || condition("args.x", "exists", true);
    let rule = json!({"reason": "rule", "require": [never()]});
    assert_eq!(told(&rule, "{}"), "require_failed /require/0: rule");
    let rule = json!({"reason": "rule", "denyIf": [{"conditions": [never()], "reason": "entry"}, {"conditions": []}]});
    assert_eq!(told(&rule, r#"{"x": 1}"#), "deny_if /denyIf/0: entry");
    assert_eq!(told(&rule, "{}"), "deny_if /denyIf/1: rule");
}

/// "`conditions` is required where it can stand."
#[test]
fn conditions_are_required() {
    let error = read::document(&json!({"tools": {"t": {"denyIf": [{"reason": "r"}]}}})).unwrap_err();
    assert!(error.to_string().contains("conditions"), "{error}");
}

/// "`incrementFrom` with `[*]` is refused when loaded" and "`incrementFrom`: […] Negative, missing, not a number: refused."
#[test]
fn an_amount_is_one_number_that_is_not_negative() {
    let rule = |path: &str| json!({"limits": [{"counter": "c", "window": "day", "max": 10, "incrementFrom": path}]});
    assert_eq!(told(&rule("args.x"), r#"{"x": 10}"#), "allowed");
    assert_eq!(told(&rule("args.x"), r#"{"x": 0}"#), "allowed");
    assert_eq!(told(&rule("args.x"), r#"{"x": 10.01}"#), "limit_exceeded /limits/c");
    for arguments in [r#"{"x": -1}"#, "{}", r#"{"x": null}"#, r#"{"x": "1"}"#, r#"{"x": [1]}"#] {
        assert_eq!(told(&rule("args.x"), arguments), "arguments_invalid /limits/c/incrementFrom", "{arguments}");
    }
    assert_eq!(refused(&rule("args.x[*]")), "limits[0].incrementFrom: must lead to one value, so `[*]` cannot stand in it");
    assert_eq!(refused(&rule("x")), "limits[0].incrementFrom: a path begins with `args`; write `args.x`");
}
