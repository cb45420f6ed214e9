//! What a call counts where its amount is one of its arguments.

use serde_json::json;

use super::*;

/// "`incrementFrom`: a path whose value is added instead of 1 (money, tokens, rows). Negative, missing, not a number: refused." "A
/// bad amount is `arguments_invalid`". "beyond ±2^53 an error wherever a condition or an amount reads them". "negative amounts lowering a spend counter" is a known mistake.
#[test]
fn a_bad_amount_is_refused_and_takes_nothing() {
    let amounts = [
        r#"{"n": -1}"#,
        r#"{"n": -0.000001}"#,
        r#"{"n": -1e-30}"#,
        "{}",
        "",
        "null",
        r#"{"n": null}"#,
        r#"{"m": 1}"#,
        r#"{"N": 1}"#,
        r#"{"n": "5"}"#,
        r#"{"n": true}"#,
        r#"{"n": [5]}"#,
        r#"{"n": {"n": 5}}"#,
        r#"{"n": 9007199254740993}"#,
        r#"{"n": 9007199254740992.5}"#,
        r#"{"n": 1e300}"#,
        r#"{"n": -9007199254740993}"#,
    ];
    let spend = json!({"counter": "spent", "window": "day", "max": 100, "scope": "server", "incrementFrom": "args.n"});
    let calls = json!({"counter": "calls", "window": "day", "max": 100, "scope": "server"});
    let cases = [
        (json!({"tools": {"t": {"limits": [calls, spend]}}}), "/tools/t/limits/spent/incrementFrom"),
        (json!({"tools": {"t": {"limits": [calls]}}, "allTools": {"limits": [spend]}}), "/allTools/limits/spent/incrementFrom"),
    ];
    for (document, pointer) in cases {
        let mut server = Server::new(one(&document));
        for amount in amounts {
            assert_eq!(server.call("t", amount), format!("arguments_invalid {pointer}"), "{amount}");
        }
        assert_eq!(server.used(), [("ns/p calls".to_owned(), 0.0), ("ns/p spent".to_owned(), 0.0)]);
    }
}

/// "an amount of 0 passes". "Numbers compare as exact decimals", and "fractions truncated" is a known mistake that this must not
/// make.
#[test]
fn amounts_are_added_exactly() {
    let spend = |max| limits(&json!([{"counter": "c", "window": "day", "max": max, "incrementFrom": "args.n"}]));
    // What passes, one after the other, and what then does not.
    let cases = [
        (json!(1), vec!["0.1"; 10], "0.1"),
        (json!(1), vec!["0.1", "1e-1", "0.10", "0.7"], "0.000000000000000001"),
        (json!(1), vec!["0.999999999999999999"], "1.000000000000000001e-18"),
        (json!(0.3), vec!["0.1", "0.2"], "1e-300"),
        (json!(10), vec!["9.5", "0.5", "0", "-0", "0e5"], "0.01"),
        (json!(0), vec!["0", "0.0"], "1"),
        (json!(9_007_199_254_740_000_u64), vec!["9007199254740000", "0"], "0.5"),
        (json!(9_007_199_254_740_000_u64), vec!["9007199254739999.5", "0.5"], "9007199254740992"),
    ];
    for (max, passing, refused) in cases {
        let mut server = Server::new(one(&spend(max.clone())));
        for amount in &passing {
            assert_eq!(server.call("t", &format!(r#"{{"n": {amount}}}"#)), "allowed", "{amount} of {passing:?} of {max}");
        }
        let told = server.call("t", &format!(r#"{{"n": {refused}}}"#));
        assert!(told.starts_with("limit_exceeded c "), "{refused} after {passing:?} of {max}: {told}");
        assert_eq!(server.call("t", r#"{"n": 0}"#), "allowed", "an amount of 0 passes, though the counter is full");
    }
}

/// An amount that is more than all of `max` never passes, and one that fits has to wait until enough has left the window.
#[test]
fn an_amount_waits_until_enough_has_left() {
    let mut server = Server::new(one(&limits(&json!([{"counter": "c", "window": "minute", "max": 10, "incrementFrom": "args.n"}]))));
    for (second, amount) in [(0, 4), (10, 3), (20, 3)] {
        assert_eq!(server.at(second * 1_000).call("t", &format!(r#"{{"n": {amount}}}"#)), "allowed");
    }
    for (amount, wait) in [("1", " 30"), ("4", " 30"), ("4.5", " 40"), ("7", " 40"), ("7.5", " 50"), ("10", " 50"), ("10.5", "")] {
        let told = server.at(30_000).call("t", &format!(r#"{{"n": {amount}}}"#));
        assert_eq!(told, format!("limit_exceeded c{wait} /tools/t/limits/c"), "{amount}");
    }
}

/// "`incrementFrom` with `[*]` is refused when loaded".
#[test]
fn an_amount_is_one_value() {
    for path in ["args.items[*].n", "args[*]", "n", "args.", ""] {
        let told = errors(&limits(&json!([{"counter": "c", "window": 1, "max": 1, "incrementFrom": path}])));
        assert!(told.starts_with("tools.t.limits[0].incrementFrom: "), "{path}: {told}");
    }
    let document = limits(&json!([{"counter": "c", "window": 1, "max": 7, "incrementFrom": "args.items[1][\"the n\"]"}]));
    let mut server = Server::new(one(&document));
    assert_eq!(server.call("t", r#"{"items": [{"the n": 1}, {"the n": 5}]}"#), "allowed");
    assert_eq!(server.used(), [("ns/p c".to_owned(), 5.0)]);
}
