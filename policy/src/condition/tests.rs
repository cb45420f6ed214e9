use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::caller::Caller;
use crate::facts::ServerName;

fn written(condition: serde_json::Value) -> document::Condition {
    serde_json::from_value(condition).unwrap()
}

fn compiled(condition: serde_json::Value) -> Condition {
    Condition::compile(&written(condition), &mut Regexps::default()).unwrap()
}

fn errors(condition: serde_json::Value) -> Vec<String> {
    Condition::compile(&written(condition), &mut Regexps::default())
        .unwrap_err()
        .into_iter()
        .map(|(field, message)| format!("{field}: {message}"))
        .collect()
}

fn with_facts<R>(args: &str, ask: impl FnOnce(&Facts<'_>) -> R) -> R {
    let caller = Caller::anonymous([10, 0, 0, 1].into());
    ask(&Facts { args: &Value::parse(args).unwrap(), tool: "t", caller: &caller, server: ServerName { namespace: "ns", name: "pod" } })
}

fn holds(condition: &Condition, args: &str, elements: Elements) -> Truth {
    with_facts(args, |facts| condition.holds(facts, elements))
}

/// `T`, `F` or `?`.
fn letter(truth: &Truth) -> char {
    match truth {
        Truth::True => 'T',
        Truth::False => 'F',
        Truth::Undecided(_) => '?',
    }
}

fn account(condition: serde_json::Value, args: &str) -> String {
    with_facts(args, |facts| compiled(condition).account(facts))
}

/// What one operator says of each of these, in this order.
const VALUES: [&str; 16] = [
    "{}",
    r#"{"x": null}"#,
    r#"{"x": true}"#,
    r#"{"x": 10}"#,
    r#"{"x": 10.0}"#,
    r#"{"x": 1e1}"#,
    r#"{"x": 9.5}"#,
    r#"{"x": "10"}"#,
    r#"{"x": "a10b"}"#,
    r#"{"x": []}"#,
    r#"{"x": [10, "10"]}"#,
    r#"{"x": {}}"#,
    r#"{"x": {"a": [10]}}"#,
    r#"{"x": 9007199254740993}"#,
    r#"{"x": [1, {"a": -9007199254740993}]}"#,
    r#"{"x": {"y": {"z": 1e300}}}"#,
];

#[test]
fn each_operator_says_of_each_value_what_the_reference_says() {
    let table = [
        ("eq", json!(10), "FFFTTTFFFFFFF???"),
        ("neq", json!(10), "FTTFFFTTTTTTT???"),
        ("eq", json!("10"), "FFFFFFFTFFFFF???"),
        ("eq", json!(null), "FTFFFFFFFFFFF???"),
        ("eq", json!([10.0, "10"]), "FFFFFFFFFFTFF???"),
        ("eq", json!({"a": [10]}), "FFFFFFFFFFFFT???"),
        ("neq", json!({}), "FTTTTTTTTTTFT???"),
        ("in", json!([true, 10, "a10b"]), "FFTTTTFFTFFFF???"),
        ("not_in", json!([true, 10, "a10b"]), "FTFFFFTTFTTTT???"),
        ("in", json!([null, []]), "FTFFFFFFFTFFF???"),
        ("lt", json!(10), "F??FFFT?????????"),
        ("lte", json!(10), "F??TTTT?????????"),
        ("gt", json!(9.5), "F??TTTF?????????"),
        ("gte", json!(9.5), "F??TTTT?????????"),
        ("gte", json!(-1), "F??TTTT?????????"),
        ("regex", json!("10"), "F??????TT???????"),
        ("regex", json!("^10$"), "F??????TF???????"),
        ("contains", json!("10"), "F??????TTFT?????"),
        ("contains", json!(10), "F????????FT?????"),
        ("exists", json!(true), "FTTTTTTTTTTTTTTT"),
        ("exists", json!(false), "TFFFFFFFFFFFFFFF"),
    ];
    for (op, value, expected) in table {
        let condition = compiled(json!({"path": "args.x", "op": op, "value": value}));
        for elements in [Elements::All, Elements::Any] {
            let found: String = VALUES.iter().map(|args| letter(&holds(&condition, args, elements))).collect();
            assert_eq!(found, expected, "{op} {value}");
        }
    }
    let condition = compiled(json!({"path": "args.x", "op": "exists"}));
    assert_eq!(holds(&condition, "{}", Elements::All), Truth::False);
    assert_eq!(holds(&condition, r#"{"x": null}"#, Elements::All), Truth::True);
}

#[test]
fn contains_is_a_substring_of_a_string_and_a_member_of_an_array() {
    let table = [
        (json!("a"), r#"{"x": "bab"}"#, 'T'),
        (json!(""), r#"{"x": ""}"#, 'T'),
        (json!("A"), r#"{"x": "bab"}"#, 'F'),
        (json!("a"), r#"{"x": ["a"]}"#, 'T'),
        (json!("a"), r#"{"x": ["ba"]}"#, 'F'),
        (json!([1]), r#"{"x": [[1.0], 2]}"#, 'T'),
        (json!({"a": 1}), r#"{"x": [{"a": 1, "b": 2}]}"#, 'F'),
        (json!(1), r#"{"x": "1"}"#, '?'),
        (json!("a"), r#"{"x": {"a": 1}}"#, '?'),
        (json!("a"), r#"{"x": null}"#, '?'),
        (json!("a"), r#"{"x": ["a", 1e20]}"#, '?'),
        (json!("a"), r#"{"x": "a", "y": 1e20}"#, 'T'),
    ];
    for (value, args, expected) in table {
        let condition = compiled(json!({"path": "args.x", "op": "contains", "value": value}));
        assert_eq!(letter(&holds(&condition, args, Elements::Any)), expected, "{value} in {args}");
    }
}

#[test]
fn numbers_compare_exactly() {
    let lte = compiled(json!({"path": "args.x", "op": "lte", "value": 0.3}));
    assert_eq!(holds(&lte, r#"{"x": 0.3}"#, Elements::All), Truth::True);
    assert_eq!(holds(&lte, r#"{"x": 0.30000000000000000000000000001}"#, Elements::All), Truth::False, "no digit is lost");
    let lt = compiled(json!({"path": "args.x", "op": "lt", "value": 0}));
    assert_eq!(holds(&lt, r#"{"x": -1e-300}"#, Elements::All), Truth::True);
}

#[test]
fn the_elements_of_a_wildcard_are_asked_each_by_itself() {
    // Value is at least 3, of all and of any.
    let table = [
        ("[]", 'T', 'F'),
        ("[3]", 'T', 'T'),
        ("[2]", 'F', 'F'),
        ("[3, 2]", 'F', 'T'),
        (r#"["x"]"#, '?', '?'),
        (r#"[3, "x"]"#, '?', 'T'),
        (r#"["x", 3]"#, '?', 'T'),
        (r#"[2, "x"]"#, 'F', '?'),
        (r#"["x", 2]"#, 'F', '?'),
        (r#"[3, 2, "x"]"#, 'F', 'T'),
        ("[3, 1e20]", '?', 'T'),
        ("null", 'F', 'F'),
        ("{}", '?', '?'),
    ];
    let condition = compiled(json!({"path": "args.a[*]", "op": "gte", "value": 3}));
    for (array, all, any) in table {
        let args = format!(r#"{{"a": {array}}}"#);
        assert_eq!(letter(&holds(&condition, &args, Elements::All)), all, "all of {array}");
        assert_eq!(letter(&holds(&condition, &args, Elements::Any)), any, "any of {array}");
    }
    let exists = compiled(json!({"path": "args.a[*].b", "op": "exists"}));
    let some = r#"{"a": [{"b": 1}, {}]}"#;
    assert_eq!((letter(&holds(&exists, some, Elements::All)), letter(&holds(&exists, some, Elements::Any))), ('F', 'T'));
    let absent = compiled(json!({"path": "args.a[*].b", "op": "exists", "value": false}));
    assert_eq!((letter(&holds(&absent, some, Elements::All)), letter(&holds(&absent, some, Elements::Any))), ('F', 'T'));
}

#[test]
fn what_cannot_be_decided_says_why_without_the_value() {
    let table = [
        (json!({"path": "args.x", "op": "lt", "value": 1}), r#"{"x": "secret"}"#, "args.x is a string, not a number"),
        (json!({"path": "args.x", "op": "regex", "value": "a"}), r#"{"x": 4711}"#, "args.x is a number, not a string"),
        (json!({"path": "args.x", "op": "contains", "value": "a"}), r#"{"x": 4711}"#, "args.x is a number, not a string or an array"),
        (
            json!({"path": "args.x", "op": "contains", "value": 1}),
            r#"{"x": "secret"}"#,
            "args.x is a string, not an array, in which alone such a value can be",
        ),
        (
            json!({"path": "args.x.y", "op": "eq", "value": 1}),
            r#"{"x": 4711}"#,
            "args.x.y cannot be followed: a step needs an object and meets a number",
        ),
        (
            json!({"path": "args.x", "op": "eq", "value": 1}),
            r#"{"x": 12345678901234567890}"#,
            "args.x is beyond ±2^53, where servers do not read numbers alike",
        ),
        (
            json!({"path": "args", "op": "neq", "value": {}}),
            r#"{"x": 12345678901234567890}"#,
            "args holds a number beyond ±2^53, where servers do not read numbers alike",
        ),
    ];
    for (condition, args, expected) in table {
        assert_eq!(holds(&compiled(condition), args, Elements::Any), Truth::Undecided(expected.into()), "{args}");
    }
}

#[test]
fn what_cannot_be_asked_says_what_to_write() {
    let cases = [
        (json!({}), vec![": needs `path`, `op` and `value`, or `cel`"]),
        (json!({"op": "eq", "value": 1}), vec![": needs `path`, `op` and `value`, or `cel`"]),
        (
            json!({"path": "args", "cel": "true"}),
            vec![": has both `path` and `cel`; a condition is one of the two, and two conditions ask both"],
        ),
        (json!({"cel": "true", "op": "eq", "value": null}), vec!["op: means nothing beside `cel`", "value: means nothing beside `cel`"]),
        (
            json!({"path": "args.x"}),
            vec!["op: is required beside `path`: write eq, neq, in, not_in, lt, lte, gt, gte, regex, contains or exists"],
        ),
        (
            json!({"path": "x", "op": "lt", "value": "5"}),
            vec!["path: a path begins with `args`; write `args.x`", "value: is a string; write a number; leave the quotes out"],
        ),
        (json!({"path": "args.x", "op": "eq"}), vec!["value: is required: write any JSON value"]),
        (json!({"path": "args.x", "op": "in"}), vec!["value: is required: write a list of values"]),
        (json!({"path": "args.x", "op": "lt", "value": null}), vec!["value: is null; write a number"]),
        (json!({"path": "args.x", "op": "gte", "value": "five"}), vec!["value: is a string; write a number"]),
        (
            json!({"path": "args.x", "op": "in", "value": "a"}),
            vec!["value: is a string; write a list of values; for one value write `op: eq`"],
        ),
        (
            json!({"path": "args.x", "op": "not_in", "value": 1}),
            vec!["value: is a number; write a list of values; for one value write `op: neq`"],
        ),
        (
            json!({"path": "args.x", "op": "in", "value": []}),
            vec!["value: is an empty list, so that the condition never holds; name the values"],
        ),
        (
            json!({"path": "args.x", "op": "not_in", "value": []}),
            vec!["value: is an empty list, so that the condition always holds; name the values"],
        ),
        (json!({"path": "args.x", "op": "regex", "value": 1}), vec!["value: is a number; write a regular expression, a string"]),
        (json!({"path": "args.x", "op": "regex", "value": "a("}), vec!["value: is no regular expression: at character 2: unclosed group"]),
        (
            json!({"path": "args.x", "op": "exists", "value": "false"}),
            vec!["value: is a string; write true or false; leave the quotes out"],
        ),
        (json!({"path": "args.x", "op": "exists", "value": null}), vec!["value: is null; write true or false"]),
        (
            json!({"path": "args.x", "op": "eq", "value": {"a": [9_007_199_254_740_993_i64]}}),
            vec![
                "value: 9007199254740993 is beyond ±2^53, where servers do not read numbers alike; identifiers of that length are best kept as strings",
            ],
        ),
        (
            json!({"path": "args.x", "op": "lt", "value": 0.123_456_789_012_345_6}),
            vec!["value: 0.1234567890123456 has more than 15 significant digits; identifiers of that length are best kept as strings"],
        ),
        (
            json!({"path": "args.x", "op": "in", "value": [1e300]}),
            vec![
                "value: 1e300 is beyond ±2^53, where servers do not read numbers alike; identifiers of that length are best kept as strings",
            ],
        ),
    ];
    for (condition, expected) in cases {
        assert_eq!(errors(condition.clone()), expected, "{condition}");
    }
}

#[test]
fn the_value_of_a_condition_is_bounded_in_depth() {
    let nested = |levels| (0..levels).fold(json!(1), |inner, _| json!([inner]));
    compiled(json!({"path": "args.x", "op": "eq", "value": nested(64)}));
    assert_eq!(errors(json!({"path": "args.x", "op": "eq", "value": nested(65)})), ["value: has more than 64 levels; no argument has"]);
}

#[test]
fn an_account_says_what_was_found_and_what_was_asked() {
    let region = json!({"path": "args.region", "op": "in", "value": ["eu-west-1"]});
    assert_eq!(account(region.clone(), r#"{"region": "us-west-2"}"#), r#"args.region is "us-west-2"; asked: in ["eu-west-1"]"#);
    assert_eq!(account(region.clone(), "{}"), r#"args.region is missing; asked: in ["eu-west-1"]"#);
    assert_eq!(
        account(json!({"path": "args.a.b", "op": "lte", "value": 5.50}), r#"{"a": []}"#),
        "args.a.b is not to be reached; asked: lte 5.5"
    );
    let each = json!({"path": "args.a[*]", "op": "regex", "value": "^\"x"});
    assert_eq!(account(each.clone(), r#"{"a": [1, null, {"b": [true]}]}"#), r#"args.a[*] is 1, null, {"b":[true]}; asked: regex "^\"x""#);
    assert_eq!(account(each.clone(), r#"{"a": [1, 2, 3, 4, 5, 6]}"#), r#"args.a[*] is 1, 2, 3, 4 and 2 more; asked: regex "^\"x""#);
    assert_eq!(account(each, r#"{"a": []}"#), r#"args.a[*] has no elements; asked: regex "^\"x""#);
    assert_eq!(account(json!({"path": "args.x", "op": "exists"}), "{}"), "args.x is missing; asked: exists true");
}

#[test]
fn an_account_is_short_whatever_the_value() {
    let long = format!(r#"{{"region": ["{}", {{"{}": 1}}, {}]}}"#, "é".repeat(1000), "k".repeat(1000), "1,".repeat(9999) + "1");
    let text = account(json!({"path": "args", "op": "eq", "value": vec!["z"; 9999]}), &long);
    let (found, asked) = text.strip_prefix("args is ").unwrap().split_once("; asked: eq ").unwrap();
    assert_eq!((found.chars().count(), asked.chars().count()), (81, 81));
    assert!(found.ends_with('…') && asked.ends_with('…'));
}

fn json_value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|value| json!(value)),
        (-3_i64..4).prop_map(|value| json!(value)),
        Just(json!(0.5)),
        "[ab]{0,2}".prop_map(|value| json!(value)),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(|value| json!(value)),
            prop::collection::btree_map("[ab]", inner, 0..3).prop_map(|value| json!(value)),
        ]
    })
}

const OPS: [&str; 11] = ["eq", "neq", "in", "not_in", "lt", "lte", "gt", "gte", "regex", "contains", "exists"];

fn any_condition() -> impl Strategy<Value = serde_json::Value> {
    let path = prop_oneof!["args(\\.[ab]|\\[0\\]|\\[\\*\\]){0,3}", "[a-z.\\[\\]*\"0-9]{0,8}"];
    (path, prop::sample::select(&OPS[..]), prop::option::of(json_value())).prop_map(|(path, op, value)| match value {
        Some(value) => json!({"path": path, "op": op, "value": value}),
        None => json!({"path": path, "op": op}),
    })
}

/// The obvious reading of a condition: every element's answer, and of all of them the least or the greatest.
fn obvious(path: &Path, test: &Test, args: &Value<'_>, elements: Elements) -> char {
    let answers = path.find(args).map(|found| match found {
        Found::Missing => {
            if test.op == document::Op::Exists && matches!(test.operand, test::Operand::Present(false)) {
                2
            } else {
                0
            }
        }
        Found::Blocked(_) => 1,
        Found::Value(value) => match test.ask(value) {
            Ok(false) => 0,
            Err(_) => 1,
            Ok(true) => 2,
        },
    });
    match elements {
        Elements::All => ['F', '?', 'T'][answers.min().unwrap_or(2)],
        Elements::Any => ['F', '?', 'T'][answers.max().unwrap_or(0)],
    }
}

proptest! {
    #[test]
    fn no_condition_and_no_arguments_panic(condition in any_condition(), args in json_value()) {
        if let Ok(condition) = Condition::compile(&written(condition), &mut Regexps::default()) {
            for elements in [Elements::All, Elements::Any] {
                with_facts(&args.to_string(), |facts| (condition.holds(facts, elements), condition.account(facts)));
            }
        }
    }

    #[test]
    fn stopping_early_never_changes_the_answer(condition in any_condition(), args in json_value()) {
        let Ok(condition) = Condition::compile(&written(condition), &mut Regexps::default()) else { return Ok(()) };
        let Question::Argument { path, test } = &condition.0 else { unreachable!() };
        let args = args.to_string();
        for elements in [Elements::All, Elements::Any] {
            let expected = obvious(path, test, &Value::parse(&args).unwrap(), elements);
            prop_assert_eq!(letter(&holds(&condition, &args, elements)), expected);
        }
    }

    /// "One more element never helps an attacker."
    #[test]
    fn one_more_element_never_helps(op in prop::sample::select(&OPS[..8]), bound in -2_i64..3, elements in prop::collection::vec(json_value(), 0..4), more in json_value(), at in any::<prop::sample::Index>()) {
        let value = if op.ends_with("in") { json!([bound]) } else { json!(bound) };
        let condition = compiled(json!({"path": "args.a[*]", "op": op, "value": value}));
        let mut longer = elements.clone();
        longer.insert(at.index(elements.len() + 1), more);
        let ask = |array: &[serde_json::Value], elements| letter(&holds(&condition, &json!({"a": array}).to_string(), elements));
        // `require` passes only what is true; `denyIf` passes only what is false.
        prop_assert!(ask(&longer, Elements::All) != 'T' || ask(&elements, Elements::All) == 'T');
        prop_assert!(ask(&longer, Elements::Any) != 'F' || ask(&elements, Elements::Any) == 'F');
    }

    #[test]
    fn an_operator_and_its_opposite_never_hold_together(value in json_value(), x in json_value()) {
        for (op, opposite, operand) in [("eq", "neq", value.clone()), ("in", "not_in", json!([value]))] {
            let [a, b] = [op, opposite].map(|op| holds(&compiled(json!({"path": "args.x", "op": op, "value": operand})), &json!({"x": x}).to_string(), Elements::All));
            prop_assert!((a == Truth::True) != (b == Truth::True));
        }
    }
}
