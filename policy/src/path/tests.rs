use proptest::prelude::*;

use super::*;

fn steps(text: &str) -> Vec<Step> {
    Path::parse(text).unwrap().steps.into()
}

fn member(name: &str) -> Step {
    Step::Member(name.into())
}

/// What a path leads to, as text.
fn found(path: &str, args: &str) -> Vec<String> {
    let path = Path::parse(path).unwrap();
    let args = Value::parse(args).unwrap();
    let told = |found| match found {
        Found::Value(Value::Number(number)) => number.to_string(),
        Found::Value(other) => other.describe().to_owned(),
        Found::Missing => "missing".to_owned(),
        Found::Blocked(cause) => cause.to_string(),
    };
    path.find(&args).map(told).collect()
}

#[test]
fn a_path_is_read_as_documented() {
    assert_eq!(steps("args"), []);
    assert_eq!(steps("args.a"), [member("a")]);
    assert_eq!(steps("args._A-9z.b"), [member("_A-9z"), member("b")]);
    assert_eq!(steps("args[0][10][*]"), [Step::Element(0), Step::Element(10), Step::EachElement]);
    assert_eq!(steps(r#"args["a.b"]["]"]["\"\u00e9\\"].c"#), [member("a.b"), member("]"), member("\"é\\"), member("c")]);
    assert_eq!(steps(r#"args[""]"#), [member("")]);
}

#[test]
fn a_path_shows_as_it_was_written() {
    for text in ["args", r#"args["a"].b"#, "args[*]"] {
        let path = Path::parse(text).unwrap();
        assert_eq!((path.to_string(), format!("{path:?}")), (text.to_owned(), text.to_owned()));
    }
}

#[test]
fn what_is_no_path_says_what_to_write() {
    let cases = [
        ("", "a path is not empty; it begins with `args`, which alone is all the arguments"),
        ("amount", "a path begins with `args`; write `args.amount`"),
        ("argsx", "a path begins with `args`; write `args.argsx`"),
        ("arguments.x", "a path begins with `args`; write `args.x`"),
        ("$.x", "a path begins with `args`; write `args.x`"),
        ("$.x[*].y", "a path begins with `args`; write `args.x[*].y`"),
        ("/x/y", "a path begins with `args`; write `args.x.y`"),
        (".x", "a path begins with `args`; write `args.x`"),
        ("[0]", "a path begins with `args`; write `args[0]`"),
        ("Args.x", "a path begins with `args`; write `args.Args.x`"),
        ("a b", "a path begins with `args`"),
        (" args", "a path has no blanks at its ends"),
        ("args ", "at character 5: ` ` cannot follow `args`; write `.name`, `[\"any key\"]`, `[0]` or `[*]`"),
        ("args/x", "at character 5: `/` cannot follow `args`; write `.name`, `[\"any key\"]`, `[0]` or `[*]`"),
        ("args.", "at character 6: a name must follow `.`"),
        ("args..x", "at character 6: a name must follow `.`"),
        ("args.[0]", "at character 6: a name must follow `.`"),
        ("args.0", "at character 6: an element is written `[0]`, without a dot"),
        ("args.x.*", "at character 8: elements are written `[*]`, without a dot"),
        ("args.é", "at character 6: a name begins with a letter or `_`; write `[\"é\"]`"),
        ("args.-x", "at character 6: a name begins with a letter or `_`; write `[\"-x\"]`"),
        (
            "args.xé",
            "at character 7: `é` cannot stand here: each step is `.name`, `[\"any key\"]`, `[0]` or `[*]`; a key with other characters is written `[\"any key\"]`",
        ),
        ("args.x y", "at character 7: ` ` cannot stand here: each step is `.name`, `[\"any key\"]`, `[0]` or `[*]`"),
        ("args[x]", "at character 6: a key stands in double quotes: `[\"x\"]`"),
        ("args['x']", "at character 6: a key stands in double quotes: `[\"any key\"]`"),
        ("args[", "at character 6: write `[\"any key\"]`, `[0]` or `[*]`"),
        ("args[]", "at character 6: write `[\"any key\"]`, `[0]` or `[*]`"),
        ("args[0", "at character 7: `]` is missing"),
        ("args[*", "at character 7: `]` is missing"),
        ("args[**]", "at character 7: `]` is missing"),
        ("args[0 ]", "at character 7: `]` is missing"),
        ("args[ 0]", "at character 6: there are no blanks between brackets"),
        ("args[01]", "at character 6: an index has no leading zero"),
        ("args[-1]", "at character 6: an index counts from the start; there are no negative ones"),
        ("args[99999999999999999999999]", "at character 6: no array has so many elements"),
        ("args[?(@.x)]", "at character 6: there are no filters and no slices; use `cel`"),
        ("args[\"x]", "at character 6: the string does not end; a `\"` is missing"),
        ("args[\"x\"", "at character 9: `]` is missing"),
        (r#"args["\x"]"#, r"at character 6: between the brackets must stand a JSON string; a backslash is written `\\`"),
        (r#"args["\ud800"]"#, r"at character 6: between the brackets must stand a JSON string; a backslash is written `\\`"),
        ("args[\"a\nb\"]", r"at character 6: between the brackets must stand a JSON string; a backslash is written `\\`"),
    ];
    for (text, expected) in cases {
        assert_eq!(Path::parse(text).unwrap_err(), expected, "{text:?}");
    }
}

#[test]
fn paths_are_bounded() {
    let longest = format!("args.{}", "x".repeat(1019));
    assert!(Path::parse(&longest).is_ok());
    assert_eq!(Path::parse(&format!("{longest}x")).unwrap_err(), "a path has at most 1024 characters; this one has 1025");
    assert!(Path::parse(&format!("args{}", ".x".repeat(64))).is_ok());
    assert_eq!(Path::parse(&format!("args{}", ".x".repeat(65))).unwrap_err(), "a path has at most 64 steps: no argument is nested deeper");
    let multibyte = format!(r#"args["{}"]"#, "é".repeat(1016));
    assert!(Path::parse(&multibyte).is_ok(), "characters are counted, not bytes");
}

#[test]
fn absent_parts_and_all_under_null_are_missing() {
    for (path, args) in [
        ("args.a", "{}"),
        ("args.a.b.c", "{}"),
        ("args.a[0]", r#"{"a": []}"#),
        ("args.a.b", r#"{"a": null}"#),
        ("args.a[0]", r#"{"a": null}"#),
        ("args.a[*]", r#"{"a": null}"#),
        ("args.a[*].b", r#"{"a": null}"#),
        ("args.a[*].b", "{}"),
    ] {
        assert_eq!(found(path, args), ["missing"], "{path} in {args}");
    }
}

#[test]
fn a_step_to_a_missing_member_with_a_look_alike_cannot_be_taken() {
    let blocked = crate::lookalike::Lookalike.to_string();
    for (path, args) in [
        ("args.operation", r#"{"Operation": 1}"#),
        ("args.Operation", r#"{"operation": 1}"#),
        ("args.task.id", r#"{"task": {"\u0130d": 1, "name": 2}}"#),
        (r#"args["größe"]"#, r#"{"GRÖSSE": 1}"#),
        ("args.name", r#"{"na me": 1}"#),
        ("args.a[*].b", r#"{"a": [{"B": 1}]}"#),
    ] {
        assert_eq!(found(path, args), [blocked.as_str()], "{path} in {args}");
    }
    for (path, args) in [("args.operation", r#"{"operations": 1, "op": {"Operation": 1}}"#), ("args.task_id", r#"{"taskId": 1}"#)] {
        assert_eq!(found(path, args), ["missing"], "{path} in {args}");
    }
}

#[test]
fn a_step_on_a_value_without_such_parts_cannot_be_taken() {
    for (path, args, expected) in [
        ("args.a.b", r#"{"a": []}"#, "a step needs an object and meets an array"),
        ("args.a.b", r#"{"a": "x"}"#, "a step needs an object and meets a string"),
        ("args.a.b.c", r#"{"a": 1}"#, "a step needs an object and meets a number"),
        ("args[0]", "{}", "a step needs an array and meets an object"),
        ("args[*]", "{}", "a step needs an array and meets an object"),
        ("args.a[*]", r#"{"a": true}"#, "a step needs an array and meets a boolean"),
    ] {
        assert_eq!(found(path, args), [expected], "{path} in {args}");
    }
}

#[test]
fn a_wildcard_leads_to_each_element_by_itself() {
    assert_eq!(found("args.a[*]", r#"{"a": []}"#), [""; 0]);
    assert_eq!(found("args.a[*]", r#"{"a": [1, null, {}]}"#), ["1", "null", "an object"]);
    assert_eq!(
        found("args.a[*].b", r#"{"a": [{"b": 1}, {}, 5, null]}"#),
        ["1", "missing", "a step needs an object and meets a number", "missing"]
    );
    assert_eq!(found("args.a[*].b[*]", r#"{"a": [{"b": [1, 2]}, {"b": []}, {"b": [3]}, {}]}"#), ["1", "2", "3", "missing"]);
    assert_eq!(found("args.a[*][*]", r#"{"a": [[1], [2, 3]]}"#), ["1", "2", "3"]);
    assert!(Path::parse("args.a[*].b").unwrap().has_wildcard());
    assert!(!Path::parse(r#"args["[*]"][0]"#).unwrap().has_wildcard());
}

#[test]
fn an_amount_is_read_in_units_or_says_what_is_wrong_without_its_value() {
    const ONE: u128 = 1_000_000_000_000_000_000;
    for (path, args, expected) in [
        ("args.a", r#"{"a": 2}"#, Ok(2 * ONE)),
        ("args.a", r#"{"a": 2.0}"#, Ok(2 * ONE)),
        ("args.a", r#"{"a": 0}"#, Ok(0)),
        ("args.a", r#"{"a": -0}"#, Ok(0)),
        ("args.a", r#"{"a": 0.1}"#, Ok(ONE / 10)),
        ("args.a", r#"{"a": 1e-30}"#, Ok(1)),
        ("args.a", r#"{"a": 9007199254740992}"#, Ok(9_007_199_254_740_992 * ONE)),
        ("args.a[1].b", r#"{"a": [0, {"b": 3}]}"#, Ok(3 * ONE)),
        ("args.a", "{}", Err("args.a is missing")),
        (
            "args.a",
            r#"{"A": 1}"#,
            Err("args.a cannot be followed: a key that the policy names is missing, and one is there that some servers take for it: they \
                 overlook case, blanks and forms of letters"),
        ),
        ("args.a.b", r#"{"a": null}"#, Err("args.a.b is missing")),
        ("args.a", r#"{"a": null}"#, Err("args.a is null, not a number")),
        ("args.a", r#"{"a": "2"}"#, Err("args.a is a string, not a number")),
        ("args.a", r#"{"a": -0.001}"#, Err("args.a is negative")),
        ("args.a", r#"{"a": 9007199254740993}"#, Err("args.a is beyond ±2^53")),
        ("args.a", r#"{"a": 1e300}"#, Err("args.a is beyond ±2^53")),
        ("args.a.b", r#"{"a": 12345}"#, Err("args.a.b cannot be followed: a step needs an object and meets a number")),
    ] {
        let amount = Path::parse(path).unwrap().amount(&Value::parse(args).unwrap());
        assert_eq!(amount, expected.map_err(str::to_owned), "{path} in {args}");
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in "(args)?[a\\.\\[\\]\"*0-9\\\\é '$-]{0,24}") {
        if let Err(message) = Path::parse(&text) {
            prop_assert!(!message.is_empty());
        }
    }

    #[test]
    fn any_key_can_be_written_as_a_json_string(key in any::<String>().prop_filter("length", |key| key.chars().count() < 100)) {
        let path = format!("args[{}]", serde_json::Value::from(key.clone()));
        prop_assert_eq!(steps(&path), [Step::Member(key.into())]);
    }

    #[test]
    fn a_hint_can_be_pasted(text in "[a-z$/.\\[\\]0-9]{1,12}") {
        if let Err(message) = Path::parse(&text)
            && let Some(hint) = message.strip_prefix("a path begins with `args`; write `")
        {
            prop_assert!(Path::parse(hint.trim_end_matches('`')).is_ok(), "{}", message);
        }
    }
}
