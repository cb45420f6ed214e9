use std::fmt::Write;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn compiled(schema: &Value) -> ArgumentsSchema {
    ArgumentsSchema::compile(schema, &mut Regexps::default()).unwrap_or_else(|(place, message)| panic!("{schema}: {place}: {message}"))
}

fn refusal(schema: &Value) -> String {
    let (place, message) = ArgumentsSchema::compile(schema, &mut Regexps::default()).unwrap_err();
    format!("{place}: {message}")
}

fn accepts(schema: &Value, arguments: &str) -> bool {
    compiled(schema).check(arguments).is_ok()
}

fn wrong(schema: &Value, arguments: &str) -> String {
    compiled(schema).check(arguments).unwrap_err()
}

#[test]
fn a_look_alike_of_a_member_that_the_schema_names_there_is_refused() {
    let schema = json!({
        "properties": {
            "operation": {"enum": ["read"]},
            "env": {"type": "object", "additionalProperties": {"type": "string"}},
            "steps": {"type": "array", "items": {"$ref": "#/$defs/step"}},
            "not": {"not": {"properties": {"mode": {"const": "all"}}, "required": ["mode"]}},
        },
        "required": ["id"],
        "dependentRequired": {"from": ["to"]},
        "dependentSchemas": {"since": {"properties": {"until": {}}}},
        "anyOf": [{"properties": {"kind": {"const": 1}}}, true],
        "$defs": {"step": {"properties": {"do": {}, "then": {"$ref": "#/$defs/step"}}}},
    });
    for (arguments, place) in [
        (r#"{"id": 1, "Operation": "delete"}"#, "args"),
        (r#"{"ID": 1}"#, "args"),
        (r#"{"id": 1, "From": 1}"#, "args"),
        (r#"{"id": 1, "TO": 1}"#, "args"),
        (r#"{"id": 1, "since\u0000": 1}"#, "args"),
        (r#"{"id": 1, "Until": 1}"#, "args"),
        (r#"{"id": 1, "\u212aind": 2}"#, "args"),
        (r#"{"id": 1, "steps": [{"do": 1}, {"Do": 1}]}"#, "args.steps[1]"),
        (r#"{"id": 1, "steps": [{"then": {"then": {"DO": 1}}}]}"#, "args.steps[0].then.then"),
        (r#"{"id": 1, "not": {"Mode": "all"}}"#, "args.not"),
    ] {
        assert_eq!(wrong(&schema, arguments), format!("{place}: {Lookalike}"), "{arguments}");
    }
    for arguments in [
        r#"{"id": 1, "operation": "read", "other": 1}"#,
        r#"{"id": 1, "env": {"OPERATION": "delete", "Id": "x", "do": "x"}, "more": {"ID": 1}}"#,
        r#"{"id": 1, "steps": [{"do": {"Do": 1}, "ID": 1}]}"#,
    ] {
        assert_eq!(compiled(&schema).check(arguments), Ok(()), "{arguments}");
    }
    let both = json!({"properties": {"a": {"const": 1}, "A": {"const": 2}}});
    assert!(accepts(&both, r#"{"A": 2}"#) && !accepts(&both, r#"{"A": 1}"#), "both are named");
}

#[test]
fn arguments_must_satisfy_the_schema_and_each_error_names_its_argument() {
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://example.com/job",
        "title": "A job",
        "type": "object",
        "properties": {
            "region": {"enum": ["eu-west-1", "eu-west-3"]},
            "id": {"type": "string", "pattern": r"^[a-z]+-\d{1,5}$"},
            "tags": {"type": "array", "items": {"type": "string", "maxLength": 3}, "x-note": "ours"},
            "odd key": {"type": "boolean", "description": "…", "default": true},
        },
        "required": ["region"],
        "additionalProperties": false,
    });
    assert_eq!(compiled(&schema).check(r#"{"region": "eu-west-1", "id": "job-1", "tags": ["a"], "odd key": false}"#), Ok(()));
    let cases = [
        (r#"{"region": "us-west-2"}"#, r#"args.region: "us-west-2" is not one of "eu-west-1" or "eu-west-3""#),
        ("{}", r#"args: "region" is a required property"#),
        (r#"{"region": "eu-west-1", "id": "job"}"#, r#"args.id: "job" does not match "^[a-z]+-\d{1,5}$""#),
        (
            r#"{"region": "eu-west-1", "tags": ["a", "long"], "odd key": 1}"#,
            r#"args["odd key"]: 1 is not of type "boolean"; args.tags[1]: "long" is longer than 3 characters"#,
        ),
        (r#"{"region": "eu-west-1", "force": true}"#, "args: Additional properties are not allowed ('force' was unexpected)"),
        (
            r#"{"region": "eu-west-1", "tags": [1, 2, 3, 4, 5]}"#,
            "args.tags[0]: 1 is not of type \"string\"; args.tags[1]: 2 is not of type \"string\"; args.tags[2]: 3 is not of type \"string\"; and 2 more",
        ),
    ];
    for (arguments, expected) in cases {
        assert_eq!(wrong(&schema, arguments), expected, "{arguments}");
    }
}

#[test]
fn a_schema_that_would_not_do_what_it_says_is_refused() {
    let cases = [
        (json!(true), ": must be a JSON Schema, an object; `{}` holds for every value"),
        (json!({"minimun": 1}), "minimun: is no keyword of JSON Schema; did you mean `minimum`?"),
        (json!({"properties": {"a": {"maxlength": 1}}}), "properties.a.maxlength: is no keyword of JSON Schema; did you mean `maxLength`?"),
        (
            json!({"amount": {"type": "number"}}),
            "amount: is no keyword of JSON Schema; arguments are described under `properties`, and notes of your own begin with `x-`",
        ),
        (
            json!({"properties": {"a": {"required": true}}}),
            "properties.a.required: is a list of names, and stands beside `properties`, not within one of them",
        ),
        (json!({"type": "int"}), "type: `int` is no type; did you mean `integer`?"),
        (json!({"type": ["string", "nul"]}), "type: `nul` is no type; did you mean `null`?"),
        (json!({"type": "file"}), "type: `file` is no type; write one of array, boolean, integer, null, number, object, string"),
        (json!({"items": {"format": "uid"}}), "items.format: `uid` is no format that can be checked; did you mean `uuid`?"),
        (json!({"format": "date_time"}), "format: `date_time` is no format that can be checked; did you mean `date-time`?"),
        (json!({"pattern": "a("}), "pattern: is no regular expression: at character 2: unclosed group"),
        (
            json!({"pattern": "^(?!x)"}),
            "pattern: is no regular expression: at character 2: look-around, including look-ahead and look-behind, is not supported; it could not be \
             matched in linear time: ask with two conditions instead",
        ),
        (
            json!({"patternProperties": {"[": {}}}),
            "patternProperties.[: is no regular expression: at character 1: unclosed character class",
        ),
        (json!({"pattern": "x".repeat(1025)}), "pattern: a regular expression has at most 1024 characters; this one has 1025"),
        (json!({"pattern": r"[^\s\S]"}), "pattern: a class of characters in this regular expression has none, so it never matches"),
        (
            json!({"$schema": "http://json-schema.org/draft-07/schema#"}),
            "$schema: \"http://json-schema.org/draft-07/schema#\" is another draft than 2020-12, the only one that is read: leave it out, or write \
             https://json-schema.org/draft/2020-12/schema",
        ),
        (
            json!({"properties": {"a": {"$schema": "https://json-schema.org/draft/2020-12/schema"}}}),
            "properties.a.$schema: stands at the top of a schema only",
        ),
        (
            json!({"$ref": "https://example.com/schema.json"}),
            "$ref: `https://example.com/schema.json` leads out of this schema, and nothing is fetched; copy what it names under `$defs` and write \
             `#/$defs/name`",
        ),
        (
            json!({"items": {"$ref": "other.json#/$defs/a"}}),
            "items.$ref: `other.json#/$defs/a` leads out of this schema, and nothing is fetched; copy what it names under `$defs` and write \
             `#/$defs/name`",
        ),
        (
            json!({"$ref": "https://json-schema.org/draft/2020-12/schema"}),
            "$ref: `https://json-schema.org/draft/2020-12/schema` leads out of this schema, and nothing is fetched; copy what it names under `$defs` and \
             write `#/$defs/name`",
        ),
        (
            json!({"$ref": "#/$defs/a", "$defs": {"b": {}}}),
            "$ref: `#/$defs/a` leads to no schema in this one; what is referred to stands under `$defs`",
        ),
        (
            json!({"$ref": "#/const", "const": {}}),
            "$ref: `#/const` leads to no schema in this one; what is referred to stands under `$defs`",
        ),
        (json!({"$ref": 1}), "$ref: must be a string like `#/$defs/name`, but is a number"),
        (json!({"$dynamicRef": "#a"}), "$dynamicRef: is not read here; write `$ref`"),
        (
            json!({"items": {"$id": "a"}}),
            "items.$id: stands at the top of a schema only: it changes what `$ref` means; write `$anchor`, and `$ref: '#name'`",
        ),
        (json!({"$defs": {"a": {"$anchor": "x"}, "b": {"$anchor": "x"}}}), "$defs.b.$anchor: `x` is already the name of another schema"),
        (json!({"items": [{}]}), "items: is one schema for all elements; a list of schemas, one for each, is `prefixItems`"),
        (
            json!({"additionalItems": false}),
            "additionalItems: is of older drafts; write `prefixItems` for the first elements and `items` for all others",
        ),
        (
            json!({"minimum": 0, "exclusiveMinimum": true}),
            "exclusiveMinimum: is the bound itself, a number, instead of `minimum` or `maximum`",
        ),
        (json!({"then": {"required": ["a"]}}), "then: means nothing without `if`"),
        (json!({"minContains": 1}), "minContains: means nothing without `contains`"),
        (json!({"enum": []}), "enum: is an empty list, which no value is in; name the values"),
        (json!({"allOf": [{}, 1]}), "allOf[1]: must be a schema, an object or a boolean, but is a number"),
        (json!({"allOf": {}}), "allOf: must be a list of schemas, but is an object"),
        (json!({"properties": []}), "properties: must be an object of schemas by name, but is a list"),
        (json!({"properties": {"a": {"minLength": "3"}}}), "properties.a.minLength: \"3\" is not of type \"integer\""),
        (json!({"allOf": [{"minLength": -1}]}), "allOf[0].minLength: -1 is less than the minimum of 0"),
        (json!({"type": 1}), "type: 1 is not valid under any of the schemas listed in the 'anyOf' keyword"),
    ];
    for (schema, expected) in cases {
        assert_eq!(refusal(&schema), expected, "{schema}");
    }
}

#[test]
fn annotations_pass() {
    compiled(&json!({
        "title": "t", "description": "d", "default": 1, "examples": [{"$ref": "no reference"}], "$comment": "c", "deprecated": true, "readOnly": true,
        "writeOnly": false, "x-anything": {"minimun": 1}, "contentMediaType": "text/plain",
    }));
    // The names of arguments are not keywords.
    compiled(&json!({"properties": {"minimun": {}, "$ref": {}, "id": {}}, "$defs": {"pattern": {"type": "string"}}}));
    compiled(&json!({"const": {"minimun": 1}, "enum": [{"$ref": 1}]}));
}

#[test]
fn references_within_the_schema_are_followed() {
    let schema = json!({
        "properties": {"a": {"$ref": "#/$defs/small"}, "b": {"$ref": "#even"}, "c": {"$ref": "#/properties/a"}, "d": {"$ref": "#/$defs/a%25~1b"}},
        "$defs": {"small": {"maximum": 9}, "two": {"$anchor": "even", "multipleOf": 2}, "a%/b": {"const": 1}},
    });
    for (arguments, expected) in [
        (r#"{"a": 9, "b": 2, "c": 1, "d": 1}"#, true),
        (r#"{"a": 10}"#, false),
        (r#"{"b": 3}"#, false),
        (r#"{"c": 10}"#, false),
        (r#"{"d": 2}"#, false),
    ] {
        assert_eq!(accepts(&schema, arguments), expected, "{arguments}");
    }
}

#[test]
fn formats_are_asserted() {
    for (format, good, bad) in [
        ("date", "2026-11-23", "2026-02-30"),
        ("date-time", "2026-11-23T10:00:00Z", "2026-11-23"),
        ("time", "10:00:00Z", "10:00"),
        ("duration", "P1D", "1d"),
        ("email", "a@example.com", "a"),
        ("hostname", "example.com", "-a-"),
        ("ipv4", "10.0.0.1", "10.0.0"),
        ("ipv6", "::1", "10.0.0.1"),
        ("uri", "https://example.com/a", "a b"),
        ("uuid", "0e37f27d-f77c-4887-8dbc-5f5a59ecd8e5", "0e37f27d"),
        ("regex", "^a$", "("),
        ("json-pointer", "/a", "a"),
    ] {
        let schema = json!({"properties": {"x": {"format": format}}});
        assert!(accepts(&schema, &json!({"x": good}).to_string()), "{format} {good}");
        assert!(!accepts(&schema, &json!({"x": bad}).to_string()), "{format} {bad}");
        assert!(accepts(&schema, r#"{"x": 1}"#), "a format says nothing of a number");
    }
}

#[test]
fn every_format_of_a_hint_is_known() {
    for format in keyword::format_error("zzzzzzzzzzzzzzzz").rsplit("one of ").next().unwrap().split(", ") {
        compiled(&json!({"format": format}));
    }
}

#[test]
fn patterns_mean_what_they_mean_in_a_condition() {
    for (pattern, text, expected) in [
        (r"^\d$", "٣", true),
        (r"^\w+$", "é", true),
        (r"^\s$", "\u{feff}", false),
        ("^.$", "\r", true),
        ("^.$", "\n", false),
        ("^[a-z&&[^b]]$", "b", false),
        ("^[a-z&&[^b]]$", "c", true),
        ("^[a-z&&[^b]]$", "&", false),
        ("(?i)^abc$", "ABC", true),
        ("b", "abc", true),
        ("^a$", "a\n", false),
        (r"\ba\b", "x-a", true),
        (r"(?m)^a$", "b\na", true),
    ] {
        assert_eq!(
            accepts(&json!({"properties": {"x": {"pattern": pattern}}}), &json!({"x": text}).to_string()),
            expected,
            "{pattern} on {text:?}"
        );
        let keys = json!({"patternProperties": {pattern: false}});
        assert_eq!(!accepts(&keys, &json!({text: 1}).to_string()), expected, "the key {text:?} for {pattern}");
        let others = json!({"patternProperties": {pattern: true}, "additionalProperties": false});
        assert_eq!(accepts(&others, &json!({text: 1}).to_string()), expected, "the key {text:?} beside {pattern}");
    }
    let twice = json!({"patternProperties": {r"^\d$": {"minimum": 2}, r"^\p{Nd}$": {"maximum": 3}}});
    assert!(accepts(&twice, r#"{"1": 2}"#) && !accepts(&twice, r#"{"1": 1}"#) && !accepts(&twice, r#"{"1": 4}"#));
}

#[test]
fn a_schema_is_bounded() {
    let nested = |levels| (1..levels).fold(json!({}), |inner, _| json!({"items": inner}));
    compiled(&nested(32));
    assert!(refusal(&nested(33)).ends_with("items: is too deep: at most 32 schemas can be within each other"));
    let deep = (0..200).fold(json!(1), |inner, _| json!([inner]));
    assert_eq!(refusal(&json!({"const": deep})), ": is too deep: at most 32 schemas can be within each other");
    compiled(&json!({"enum": (0..19_000).collect::<Vec<_>>()}));
    assert_eq!(refusal(&json!({"enum": (0..20_000).collect::<Vec<_>>()})), ": is too large: a schema has at most 20000 values in all");
}

#[test]
fn references_that_would_never_end_are_refused() {
    for schema in [
        json!({"$ref": "#"}),
        json!({"allOf": [{"$ref": "#"}]}),
        json!({"$ref": "#/$defs/a", "$defs": {"a": {"not": {"$ref": "#/$defs/b"}}, "b": {"anyOf": [{"$ref": "#/$defs/a"}, true]}}}),
        json!({"$defs": {"a": {"$ref": "#/$defs/a"}}}),
    ] {
        assert!(
            refusal(&schema).ends_with(": a `$ref` leads back here without looking at any part of the value, so it says nothing"),
            "{schema}"
        );
    }
    let row = |length: usize| {
        let definitions: serde_json::Map<_, _> =
            (0..length).map(|i| (format!("d{i}"), json!({"$ref": format!("#/$defs/d{}", i + 1)}))).collect();
        let mut schema = json!({"$ref": "#/$defs/d0", "$defs": definitions});
        schema["$defs"][format!("d{length}")] = json!({"type": "object"});
        schema
    };
    compiled(&row(30));
    assert!(refusal(&row(31)).ends_with("more than 32 schemas would be asked one after the other about the same value; refer to fewer"));
    assert!(refusal(&row(5000)).ends_with("more than 32 schemas would be asked one after the other about the same value; refer to fewer"));
}

#[test]
fn references_that_would_grow_beyond_bounds_are_refused() {
    let doubling = |length: usize| {
        let twice =
            |i: usize| json!({"items": {"$ref": format!("#/$defs/d{}", i + 1)}, "contains": {"$ref": format!("#/$defs/d{}", i + 1)}});
        let mut definitions: serde_json::Map<_, _> = (0..length).map(|i| (format!("d{i}"), twice(i))).collect();
        definitions.insert(format!("d{length}"), json!({}));
        json!({"$ref": "#/$defs/d0", "$defs": definitions})
    };
    compiled(&doubling(10));
    assert!(refusal(&doubling(40)).contains("has more than 100000 schemas when every `$ref` is followed; refer to fewer"));
    // A row through parts of the value is as long as the value is deep, and no longer.
    let row: serde_json::Map<_, _> =
        (0..5000).map(|i| (format!("d{i}"), json!({"items": {"$ref": format!("#/$defs/d{}", (i + 1) % 5000)}}))).collect();
    compiled(&json!({"$ref": "#/$defs/d0", "$defs": row}));
}

/// `{"a": {"a": … 1}}`, as deep as a message may be.
fn deep(key: &str, levels: usize, innermost: &str) -> String {
    let mut text = String::new();
    for _ in 0..levels {
        write!(text, r#"{{"{key}":"#).unwrap();
    }
    text + innermost + &"}".repeat(levels)
}

#[test]
fn hostile_arguments_end_a_recursive_schema_soon() {
    // Without a memory of what was asked before, each level would double the work.
    let doubling = json!({
        "$ref": "#/$defs/node",
        "$defs": {"node": {"oneOf": [
            {"type": "integer"},
            {"type": "object", "properties": {"a": {"$ref": "#/$defs/node"}}, "required": ["b"]},
            {"type": "object", "properties": {"a": {"$ref": "#/$defs/node"}}, "required": ["a"]},
        ]}},
    });
    let schema = compiled(&doubling);
    assert_eq!(schema.check(&deep("a", 63, "1")), Ok(()));
    assert_eq!(
        schema.check(&deep("a", 63, r#""x""#)),
        Err("args: do not satisfy the schema; what is wrong is told of short arguments only".to_owned())
    );
    assert!(schema.check(&deep("a", 3, r#""x""#)).unwrap_err().starts_with("args: "));
}

#[test]
fn the_deepest_arguments_do_not_exhaust_the_stack_of_the_longest_chain() {
    let mut definitions: serde_json::Map<_, _> =
        (0..14).map(|i| (format!("d{i}"), json!({"allOf": [{"$ref": format!("#/$defs/d{}", i + 1)}]}))).collect();
    definitions.insert("d14".to_owned(), json!({"properties": {"a": {"$ref": "#/$defs/d0"}}, "type": ["object", "integer"]}));
    let schema = compiled(&json!({"$ref": "#/$defs/d0", "$defs": definitions}));
    assert_eq!(schema.check(&deep("a", 63, "1")), Ok(()));
    assert!(schema.check(&deep("a", 63, r#""x""#)).is_err());
}

#[test]
fn what_is_wrong_with_long_arguments_is_not_spelled_out() {
    let schema = compiled(&json!({"properties": {"a": {"items": {"type": "string"}}}}));
    let arguments = format!(r#"{{"a": [{}]}}"#, vec!["1"; 100_000].join(","));
    assert_eq!(schema.check(&arguments), Err("args: do not satisfy the schema; what is wrong is told of short arguments only".to_owned()));
    let long = format!(r#"{{"a": ["x", ["{}"]]}}"#, "y".repeat(1000));
    assert!(schema.check(&long).unwrap_err().chars().count() < 200);
}

#[test]
fn numbers_are_read_as_validators_read_them() {
    let schema = json!({"properties": {"x": {"type": "integer", "maximum": 9_223_372_036_854_775_807_i64}}});
    assert!(accepts(&schema, r#"{"x": 9223372036854775807}"#) && !accepts(&schema, r#"{"x": 9223372036854775808}"#));
    assert!(accepts(&schema, r#"{"x": 1.0}"#) && !accepts(&schema, r#"{"x": 1.5}"#));
    assert_eq!(wrong(&schema, r#"{"x": 1e399}"#), "args: a number is out of the range of doubles");
}

fn pattern() -> impl Strategy<Value = String> {
    let atom = prop_oneof![
        Just(r"\d".to_owned()),
        Just(r"\w".to_owned()),
        Just(r"\S".to_owned()),
        Just(".".to_owned()),
        Just("a".to_owned()),
        Just(r"\.".to_owned()),
        "\\[\\^?[a\\-b&~!\\\\d]{1,5}\\]",
        Just("^".to_owned()),
        Just("$".to_owned()),
        Just(r"\b".to_owned()),
        Just("(a|b)".to_owned()),
        Just("(?i:B)".to_owned()),
    ];
    let repeated = (atom, prop::sample::select(&["", "", "*", "+?", "{1,2}"][..])).prop_map(|(atom, count)| atom + count);
    prop::collection::vec(repeated, 1..5).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn a_pattern_matches_what_the_regex_crate_matches(pattern in pattern(), text in "[ab1٣é&~!.\\- \r\n\\\\]{0,4}") {
        let Ok(regex) = regex::Regex::new(&pattern) else { return Ok(()) };
        let Ok(schema) = ArgumentsSchema::compile(&json!({"properties": {"x": {"pattern": pattern}}}), &mut Regexps::default()) else { return Ok(()) };
        prop_assert_eq!(schema.check(&json!({"x": text}).to_string()).is_ok(), regex.is_match(&text));
    }

    #[test]
    fn no_schema_panics(schema in schema()) {
        if let Ok(compiled) = ArgumentsSchema::compile(&schema, &mut Regexps::default()) {
            for arguments in ["{}", r#"{"a": [1, {"a": "x"}], "b": null}"#, r#"{"a": {"a": {"b": 1.5}}}"#] {
                let _ = compiled.check(arguments);
            }
        }
    }
}

/// Schemas, most of them with something wrong.
fn schema() -> impl Strategy<Value = Value> {
    const KEYS: [&str; 16] = [
        "items",
        "not",
        "if",
        "then",
        "contains",
        "additionalProperties",
        "unevaluatedProperties",
        "propertyNames",
        "enum",
        "const",
        "$ref",
        "type",
        "format",
        "required",
        "minLength",
        "x-a",
    ];
    let leaf = prop_oneof![
        Just(json!(true)),
        Just(json!({})),
        Just(json!({"type": "string"})),
        Just(json!({"pattern": "a"})),
        Just(json!({"$ref": "#"})),
        Just(json!({"$ref": "#/properties/a"})),
        Just(json!({"$ref": "#/$defs/b"})),
        Just(json!({"minimum": 1})),
        Just(json!(1)),
        Just(json!("x")),
        Just(json!(null)),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::btree_map(prop::sample::select(&KEYS[..]), inner.clone(), 0..4).prop_map(|map| json!(map)),
            (prop::sample::select(&["allOf", "anyOf", "oneOf", "prefixItems", "enum"][..]), prop::collection::vec(inner.clone(), 0..3))
                .prop_map(|(key, schemas)| json!({key: schemas})),
            (
                prop::sample::select(&["properties", "$defs", "patternProperties", "dependentSchemas"][..]),
                prop::collection::btree_map("[ab]", inner, 0..3)
            )
                .prop_map(|(key, schemas)| json!({key: schemas})),
        ]
    })
}
