//! How long a window is, and how much passes in it.

use serde_json::{Value, json};

use super::*;

/// "`window`: `minute`, `hour`, `day`, a duration (`90s`, `15m`, `12h`), or a whole number of seconds; 1 s to 31 d." "A duration is
/// one number and one of `s m h d`; a bare number is an integer of seconds."
#[test]
fn a_window_is_as_long_as_it_says() {
    let windows = [
        (json!("minute"), 60),
        (json!("hour"), 3_600),
        (json!("day"), 86_400),
        (json!("90s"), 90),
        (json!("15m"), 900),
        (json!("12h"), 43_200),
        (json!("7d"), 604_800),
        (json!("31d"), 2_678_400),
        (json!("1s"), 1),
        (json!(1), 1),
        (json!(90), 90),
        (json!(2_678_400), 2_678_400),
    ];
    for (window, seconds) in windows {
        let mut server = Server::new(one(&limits(&json!([{"counter": "c", "window": window, "max": 1}]))));
        assert_eq!(server.at(5).call("t", ""), "allowed");
        assert_eq!(server.at(5).call("t", ""), format!("limit_exceeded c {seconds} /tools/t/limits/c"), "{window}");
        assert_eq!(server.at(seconds * 1_000 + 4).call("t", ""), "limit_exceeded c 1 /tools/t/limits/c", "{window}");
        assert_eq!(server.at(seconds * 1_000 + 5).call("t", ""), "allowed", "{window}");
    }
    let bad =
        ["0s", "32d", "745h", "1w", "1h30m", "1.5h", "-1s", " 90s", "90 s", "90S", "s", "", "90", "minutes", "Minute"].map(Value::from);
    for window in bad.into_iter().chain([json!(0), json!(-1), json!(1.5), json!(2_678_401), json!(null), json!([60])]) {
        let told = errors(&limits(&json!([{"counter": "c", "window": window, "max": 1}])));
        assert!(told.starts_with("tools.t.limits[0].window: "), "{window}: {told}");
    }
}

/// "Windows **slide**: no interval of that length ever sees more than `max`, not even across the turn of a minute."
/// "fixed windows that allow twice the limit across a boundary" is a known mistake.
#[test]
fn no_minute_sees_more_than_max() {
    let mut server = Server::new(one(&limits(&json!([{"counter": "c", "window": "minute", "max": 10}]))));
    let mut passed = Vec::new();
    for millisecond in (50_000..200_000).step_by(500) {
        if server.at(millisecond).call("t", "") == "allowed" {
            passed.push(millisecond);
        }
    }
    for first in &passed {
        assert!(passed.iter().filter(|at| (*first..first + 60_000).contains(*at)).count() <= 10, "from {first}");
    }
    assert_eq!(passed.len(), 30, "ten at 50 s, ten at 110 s, ten at 170 s");
}

/// "State is bounded whatever `max` is."
#[test]
fn any_max_can_be_counted() {
    let mut server = Server::new(one(&limits(&json!([{"counter": "c", "window": "31d", "max": 9_007_199_254_740_000_u64}]))));
    assert_eq!(server.passed(5_000, "t"), 5_000);
    assert_eq!(server.used(), [("ns/p c".to_owned(), 5_000.0)]);
}

/// "`max`: a whole number, 0 included; a decimal where `incrementFrom` is given." "Numbers: in a policy at most 15 significant
/// digits, and within ±2^53 if whole".
#[test]
fn max_is_whole_or_a_decimal_of_amounts() {
    for max in [json!(0), json!(1), json!(1.0), json!(123_456_789_012_345_u64), json!(9_007_199_254_740_000_u64)] {
        policy("p", &limits(&json!([{"counter": "c", "window": 1, "max": max}])));
    }
    policy("p", &limits(&json!([{"counter": "c", "window": 1, "max": 0.5, "incrementFrom": "args.n"}])));
    let bad = [
        (json!(0.5), "a whole number"),
        (json!(-1), "negative"),
        (json!(9_007_199_254_750_000_u64), "2^53"),
        (json!(1_234_567_890_123_456_u64), "15 significant digits"),
        (json!("1"), ""),
    ];
    for (max, why) in bad {
        let told = errors(&limits(&json!([{"counter": "c", "window": 1, "max": max}])));
        assert!(told.starts_with("tools.t.limits[0].max: ") && told.contains(why), "{max}: {told}");
    }
    let mut server = Server::new(one(&limits(&json!([{"counter": "c", "window": 1, "max": 0}]))));
    assert_eq!(server.call("t", ""), "limit_exceeded c /tools/t/limits/c");
}

/// "While at most 1,000 calls are in a window the limiter is exact".
#[test]
fn a_thousand_calls_are_counted_exactly() {
    let mut server = Server::new(one(&limits(&json!([{"counter": "c", "window": "minute", "max": 1_000}]))));
    for call in 0..1_000 {
        assert_eq!(server.at(50 * call).call("t", ""), "allowed");
    }
    for call in 0..1_000 {
        assert_eq!(server.at(60_000 + 50 * call - 1).call("t", ""), "limit_exceeded c 1 /tools/t/limits/c", "call {call}");
        assert_eq!(server.at(60_000 + 50 * call).call("t", ""), "allowed", "call {call}");
    }
}

/// "above, it may hold a call for up to 1 % of the window longer than needed, never let one pass too early."
#[test]
fn more_than_a_thousand_calls_are_held_a_little_longer_and_never_pass_too_early() {
    let mut server = Server::new(one(&limits(&json!([{"counter": "c", "window": "minute", "max": 3_000}]))));
    let mut passed = Vec::new();
    for millisecond in (0..180_000).step_by(10) {
        if server.at(millisecond).call("t", "") == "allowed" {
            passed.push(millisecond);
        }
    }
    let between = |from: u64, to: u64| passed.iter().filter(|at| (from..to).contains(at)).count();
    for from in (0..120_000).step_by(10) {
        assert!(between(from, from + 60_000) <= 3_000, "from {from}");
    }
    // The first 3,000 pass within 30 s. As many pass in each further minute, none more than 600 ms late.
    assert_eq!(between(0, 30_000), 3_000);
    assert_eq!(between(60_000, 90_600), 3_000);
    assert_eq!(between(120_000, 151_200), 3_000);
}
