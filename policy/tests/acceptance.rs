//! What is accepted as a policy, and what is said of the rest.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use mcp_policy::{Policy, PolicyId, compile, read};
use serde_json::{Value, json};

fn compiled(document: &Value) -> Result<Policy, String> {
    compile(PolicyId::new(None, "p"), &read::document(document).unwrap()).map_err(|errors| errors.to_string())
}

fn errors(document: &Value) -> String {
    compiled(document).err().unwrap_or_default()
}

fn warnings(document: &Value) -> Vec<String> {
    compiled(document).unwrap().warnings().to_vec()
}

#[test]
fn what_cannot_be_enforced_does_not_compile_and_all_of_it_is_told() {
    let limit = |counter: &str, window: Value, max: u64| json!({"limits": [{"counter": counter, "window": window, "max": max}]});
    let cases = [
        (json!({"hide": [""]}), "hide[0]: a pattern must not be empty"),
        (json!({"tools": {"": {}}}), "tools.: a pattern must not be empty"),
        (json!({"tools": {"t".repeat(129): {}}}), "a pattern has at most 128 characters; this one has 129"),
        (json!({"hide": vec!["a"; 257]}), "hide: has 257 patterns; at most 256"),
        (json!({"tools": {"t": {"reason": "x".repeat(513)}}}), "tools.t.reason: has at most 512 characters"),
        (json!({"tools": {"t": limit("c", json!("week"), 1)}}), "tools.t.limits[0].window: `week` is not a window"),
        (json!({"tools": {"t": limit("c", json!(0), 1)}}), "tools.t.limits[0].window: `0` is not a window"),
        (json!({"tools": {"t": limit("c", json!("32d"), 1)}}), "`32d` is not a window"),
        (json!({"tools": {"t": limit("c", json!("1h30m"), 1)}}), "`1h30m` is not a window"),
        (json!({"tools": {"t": limit("c", json!("é"), 1)}}), "`é` is not a window"),
        (json!({"tools": {"t": limit("", json!(1), 1)}}), "tools.t.limits[0].counter: "),
        (json!({"tools": {"t": limit("c", json!(1), (1 << 53) + 1)}}), "tools.t.limits[0].max: is at most"),
        (
            json!({"tools": {"a": limit("c", json!("minute"), 1), "b": limit("c", json!("hour"), 1)}}),
            "tools.b.limits[0]: counter `c` is shared with tools.a.limits[0], which says window 60s, max 1",
        ),
        (
            json!({"tools": {"a": limit("c", json!("minute"), 1), "b": limit("c", json!("minute"), 2)}}),
            "tools.b.limits[0]: counter `c` is shared",
        ),
    ];
    for (document, expected) in cases {
        let said = errors(&document);
        assert!(said.contains(expected), "{document}\n  said: {said}\n  expected: {expected}");
    }
    assert_eq!(
        errors(&json!({"hide": ["", "a", "x".repeat(129)]})),
        "hide[0]: a pattern must not be empty; `*` matches every tool; hide[2]: a pattern has at most 128 characters; this one has 129"
    );
    assert_eq!(errors(&json!({"tools": {"a": limit("c", json!("minute"), 1), "b": limit("c", json!(60), 1)}})), "", "60 is a minute");
}

/// "`hide`: [pattern], ≤ 256", "`tools`: map pattern → rule, ≤ 512", "`reason`: string ≤ 512" (and "512 Unicode characters each"), "`require`:
/// [condition], ≤ 32", "`denyIf`: [`{conditions: […], reason}`], ≤ 32", "`limits`: [limit], ≤ 16": as large as it may be, and one more.
#[test]
fn each_bound_is_where_it_says() {
    type Sized = fn(usize) -> Value;
    let cases: [(usize, Sized, &str); 12] = [
        (256, |n| json!({"hide": vec!["a"; n]}), "hide: has 257 patterns; at most 256 are allowed"),
        (128, |n| json!({"hide": ["é".repeat(n)]}), "hide[0]: a pattern has at most 128 characters; this one has 129"),
        (512, |n| json!({"tools": named(n, &json!({}))}), "tools: has 513 entries; at most 512 are allowed"),
        (128, |n| json!({"methods": named(n, &json!("allow"))}), "methods: has 129 entries; at most 128 are allowed"),
        (32, |n| rule(&json!({"require": vec![exists(); n]})), "tools.t.require: has 33 conditions; at most 32 are allowed"),
        (
            32,
            |n| rule(&json!({"denyIf": vec![json!({"conditions": [exists()]}); n]})),
            "tools.t.denyIf: has 33 entries; at most 32 are allowed",
        ),
        (
            32,
            |n| rule(&json!({"denyIf": [{"conditions": vec![exists(); n]}]})),
            "tools.t.denyIf[0].conditions: has 33 conditions; at most 32 are allowed",
        ),
        (16, |n| rule(&json!({"limits": vec![limit("c", 1); n]})), "tools.t.limits: has 17 limits; at most 16 are allowed"),
        (4 << 20, |n| rule(&json!({"arguments": {"maxBytes": n}})), "tools.t.arguments.maxBytes: is at most 4194304: no message is longer"),
        (
            256,
            |n| rule(&json!({"limits": [limit(&"é".repeat(n), 1)]})),
            "tools.t.limits[0].counter: a counter's name has 1 to 256 characters",
        ),
        (512, |n| rule(&json!({"reason": "é".repeat(n)})), "tools.t.reason: has at most 512 characters; this one has 513"),
        (
            512,
            |n| rule(&json!({"denyIf": [{"reason": "é".repeat(n), "conditions": [exists()]}]})),
            "tools.t.denyIf[0].reason: has at most 512 characters; this one has 513",
        ),
    ];
    for (max, sized, expected) in cases {
        assert_eq!(errors(&sized(max)), "", "{expected}");
        assert_eq!(errors(&sized(max + 1)), expected);
    }
}

/// A maximum has at most fifteen significant digits, and is at most 2^53: all readers of JSON read it alike.
#[test]
fn a_maximum_is_one_that_all_read_alike() {
    let said = |max: Value| errors(&rule(&json!({"limits": [limit("c", max)]})));
    for exact in [0, 999_999_999_999_999, 9_007_199_254_740_990_u64] {
        assert_eq!(said(json!(exact)), "", "{exact}");
    }
    assert_eq!(said(json!(9_007_199_254_740_991_u64)), "tools.t.limits[0].max: has at most 15 significant digits");
    assert_eq!(said(json!(9_007_199_254_741_000_u64)), "tools.t.limits[0].max: is at most 2^53");
}

fn named(count: usize, value: &Value) -> BTreeMap<String, Value> {
    (0..count).map(|i| (format!("n{i}"), value.clone())).collect()
}

fn exists() -> Value {
    json!({"path": "args.a", "op": "exists"})
}

fn limit(counter: &str, max: impl Into<Value>) -> Value {
    let max = max.into();
    json!({"counter": counter, "window": 1, "max": max})
}

fn rule(rule: &Value) -> Value {
    json!({"tools": {"t": rule}})
}

#[test]
fn a_policy_knows_whether_it_has_limits() {
    let has_limits = |document: Value| compiled(&document).unwrap().has_limits();
    assert!(!has_limits(json!({"tools": {"t": {}}, "allTools": {}})));
    assert!(has_limits(json!({"tools": {"t*": {"rateLimit": {"max": 1, "window": 1}}}})));
    assert!(has_limits(json!({"tools": {"t": {"limits": [{"counter": "c", "max": 1, "window": 1}]}}})));
    assert!(has_limits(json!({"allTools": {"rateLimit": {"max": 1, "window": 1}}})));
}

/// A rule that denies or hides needs nothing else; what stands beside it is warned of, field by field.
#[test]
fn fields_that_never_act_are_warned_of() {
    let fields = [
        ("arguments", json!({"maxBytes": 1})),
        ("require", json!([exists()])),
        ("denyIf", json!([{"conditions": [exists()]}])),
        ("limits", json!([limit("c", 1)])),
        ("rateLimit", json!({"max": 1, "window": 1})),
    ];
    for action in ["deny", "hide"] {
        for (field, value) in &fields {
            let document = rule(&json!({"action": action, *field: value}));
            assert_eq!(warnings(&document), [format!("tools.t.{field}: never acts beside action: {action}")]);
            assert!(warnings(&rule(&json!({"action": "allow", *field: value}))).is_empty(), "{field}");
        }
        assert!(warnings(&rule(&json!({"action": action}))).is_empty());
    }
    let never_told = "tools.t.reason: never told, since a hidden tool is answered as an unknown one";
    assert_eq!(warnings(&rule(&json!({"action": "hide", "reason": "r"}))), [never_told]);
    assert!(warnings(&rule(&json!({"action": "deny", "reason": "r"}))).is_empty());
    let always = "tools.t.denyIf[1].conditions: an empty list always holds, so every call is refused; `action: deny` says so";
    assert_eq!(warnings(&rule(&json!({"denyIf": [{"conditions": [exists()]}, {"conditions": []}]}))), [always]);
}

/// "`hide` comes before `tools`: what it matches is gone, whatever an entry says."
#[test]
fn entries_that_hide_always_wins_over_are_warned_of() {
    let document = read::document(&json!({"hide": ["secret_*"], "tools": {"secret_a": {}, "secret_b*": {}, "s*": {}}})).unwrap();
    let policy = compile(PolicyId::new(None, "p"), &document).unwrap();
    assert_eq!(
        policy.warnings(),
        [
            "tools.secret_a: never acts: hide[0] hides every tool that it matches",
            "tools.secret_b*: never acts: hide[0] hides every tool that it matches"
        ]
    );
}

/// What no argument can be, or servers read differently, is nothing to compare with.
#[test]
fn a_value_to_compare_with_is_one_that_arguments_can_have() {
    let said = |op: &str, value: Value| errors(&rule(&json!({"require": [{"path": "args.a", "op": op, "value": value}]})));
    let lists = |levels: usize| (0..levels).fold(json!(1), |value, _| json!([value]));
    let objects = |levels: usize| (0..levels).fold(json!(1), |value, _| json!({"k": value}));
    for nested in [lists, objects as fn(usize) -> Value] {
        assert_eq!(said("eq", nested(64)), "");
        assert_eq!(said("eq", nested(65)), "tools.t.require[0].value: has more than 64 levels; no argument has");
    }
    assert_eq!(said("eq", json!(999_999_999_999_999_u64)), "");
    assert_eq!(
        said("eq", json!(1_111_111_111_111_111_u64)),
        "tools.t.require[0].value: 1111111111111111 has more than 15 significant digits; identifiers of that length are best kept as strings"
    );
    let exists = |text: &str| said("exists", json!(text));
    assert_eq!(exists("true"), "tools.t.require[0].value: is a string; write true or false; leave the quotes out");
    assert_eq!(exists("yes"), "tools.t.require[0].value: is a string; write true or false");
}
