//! Which names a pattern matches, and which of several entries speaks.

use serde_json::json;

use super::*;

/// "Patterns are an exact name, or a glob with `*` and `?`; case matters, nothing is trimmed or normalised." "`*` matches any
/// characters, `?` one Unicode scalar value; a key with either is always a glob."
#[test]
fn a_pattern_matches_whole_names_and_nothing_is_changed_before() {
    let cases = [
        ("read", "read", true),
        ("read", "Read", false),
        ("read", "read ", false),
        ("read", " read", false),
        ("read", "reads", false),
        // The same letter, composed and decomposed.
        ("r\u{e9}ad", "r\u{e9}ad", true),
        ("r\u{e9}ad", "re\u{301}ad", false),
        // Of full width, and Cyrillic.
        ("read", "\u{ff52}ead", false),
        ("read", "re\u{430}d", false),
        ("*", "", true),
        ("*", "anything at all/\n", true),
        ("read_*", "read_", true),
        ("read_*", "READ_x", false),
        ("read_*", "unread_x", false),
        ("*_read", "x_reads", false),
        ("r*d", "read", true),
        ("r*d", "rd", true),
        ("r?d", "red", true),
        ("r?d", "r\u{e9}d", true),
        ("r?d", "r\u{1f600}d", true),
        ("r?d", "re\u{301}d", false),
        ("r?d", "rd", false),
        // A key with either is a glob, also to a tool of that very name.
        ("r?d", "r?d", true),
        ("r*d", "r*d", true),
        ("[a-z]", "a", false),
        ("a|b", "a", false),
        ("a.c", "abc", false),
        ("\\*", "*", false),
    ];
    for (pattern, name, matches) in cases {
        for (document, if_it_matches) in
            [(json!({"tools": {pattern: {}}}), "allowed"), (json!({"default": "allow", "hide": [pattern]}), "hidden")]
        {
            let decided = told(decide(&one(&document), name, ""));
            assert_eq!(decided.starts_with(if_it_matches), matches, "{pattern} on {name:?}: {decided}");
        }
        // No revision of MCP has methods of these names: what no pattern allows is denied.
        let passes = one(&json!({"methods": {pattern: "allow"}})).decide_method(&caller(1), name).refusal.is_none();
        assert_eq!(passes, matches, "{pattern} on the method {name:?}");
    }
}

/// "The exact entry wins; otherwise the glob with the most literal characters; of equals, all hold."
#[test]
fn of_several_entries_the_closest_speaks() {
    let denied = json!({"action": "deny"});
    let cases = [
        // The exact entry wins, also over a glob of more literal characters.
        (json!({"ab": {}, "*": denied}), "ab", "allowed /tools/ab"),
        (json!({"ab": denied, "*": {}, "a*": {}, "ab*": {}}), "ab", "tool_denied /tools/ab/action"),
        (json!({"ab": {}, "*ab*": denied}), "ab", "allowed /tools/ab"),
        // The glob with the most literal characters, wherever they stand.
        (json!({"*": {}, "a*": denied}), "abc", "tool_denied /tools/a*/action"),
        (json!({"a*": denied, "ab*": {}}), "abc", "allowed /tools/ab*"),
        (json!({"a*": denied, "*bc": {}}), "abc", "allowed /tools/*bc"),
        (json!({"*a*": {}, "???": denied}), "abc", "allowed /tools/*a*"),
        (json!({"\u{e9}*": denied, "*bc": {}}), "\u{e9}bc", "allowed /tools/*bc"),
        // A glob that does not match says nothing.
        (json!({"abcd*": denied, "a*": {}}), "abc", "allowed /tools/a*"),
        (json!({"b*": {}}), "abc", "default_deny /default"),
    ];
    for (tools, tool, expected) in cases {
        assert_eq!(told(decide(&one(&json!({"tools": tools})), tool, "")), expected, "{tool} under {tools}");
    }
}

/// "of equals, all hold" and "Equal globs are asked in the order of their keys; the gravest action holds."
#[test]
fn of_equal_globs_all_hold() {
    let needs = |name: &str| json!({"require": [{"path": format!("args.{name}"), "op": "exists"}]});
    let both = one(&json!({"tools": {"a?c": needs("x"), "a*c": needs("y"), "*": {"action": "hide"}}}));
    for (arguments, expected) in [
        (r#"{"x": 1, "y": 1}"#, "allowed /tools/a*c"),
        (r#"{"x": 1}"#, "require_failed /tools/a*c/require/0"),
        (r#"{"y": 1}"#, "require_failed /tools/a?c/require/0"),
        ("{}", "require_failed /tools/a*c/require/0"),
    ] {
        assert_eq!(told(decide(&both, "abc", arguments)), expected, "{arguments}");
    }
    for (first, second, expected) in [
        ("deny", "allow", "tool_denied /tools/a*c/action"),
        ("allow", "deny", "tool_denied /tools/a?c/action"),
        ("deny", "hide", "hidden /tools/a?c/action"),
        ("hide", "deny", "hidden /tools/a*c/action"),
        ("deny", "deny", "tool_denied /tools/a*c/action"),
        ("allow", "allow", "allowed /tools/a*c"),
    ] {
        let policies = one(&json!({"tools": {"a?c": {"action": second}, "a*c": {"action": first}}}));
        assert_eq!(told(decide(&policies, "abc", "")), expected, "{first} and {second}");
    }
}

/// "`hide` comes before `tools`: what it matches is gone, whatever an entry says." "`hide`: not listed, and refused as if unknown".
#[test]
fn what_hide_matches_is_gone_whatever_an_entry_says() {
    for entry in [json!({}), json!({"action": "allow"}), json!({"action": "deny"}), json!({"limits": full("c")})] {
        let policies = one(&json!({"default": "allow", "hide": ["other", "sec*"], "tools": {"secret": entry}}));
        assert_eq!(told(decide(&policies, "secret", "")), "hidden /hide/1", "{entry}");
        assert!(!policies.lists(&caller(1), "secret"), "{entry}");
        assert!(policies.lists(&caller(1), "public"));
    }
}
