//! What a call takes, when it is given back, and what a refusal says.

use serde_json::json;

use super::*;

/// "A call **reserves** in all its counters or in none".
#[test]
fn a_call_reserves_in_all_its_counters_or_in_none() {
    let own = json!([{"counter": "many", "window": "minute", "max": 10}, {"counter": "one", "window": "minute", "max": 1}]);
    let all = json!([{"counter": "all", "window": "minute", "max": 10, "scope": "server"}]);
    let here = policy("a", &json!({"tools": {"t": {"limits": own}}, "allTools": {"limits": all}}));
    let there = policy("b", &json!({"default": "allow", "allTools": {"limits": all}}));
    let mut server = Server::new(Policies::new(vec![here, there]));
    assert_eq!(server.call("t", ""), "allowed");
    for _ in 0..20 {
        assert_eq!(server.call("t", ""), "limit_exceeded one 60 /tools/t/limits/one");
    }
    let names = ["ns/a all", "ns/a many", "ns/a one", "ns/b all"];
    assert_eq!(server.used(), names.map(|name| (name.to_owned(), 1.0)));
}

/// A call that is refused for anything else takes nothing either: the rules are asked before "reserve limits".
#[test]
fn a_refused_call_takes_nothing() {
    let limit = json!([{"counter": "c", "window": "minute", "max": 5, "scope": "server"}]);
    let allow = policy("a", &json!({"default": "allow", "allTools": {"limits": limit}}));
    let deny = policy("b", &json!({"default": "allow", "hide": ["hidden"], "tools": {"denied": {"action": "deny"}}}));
    let mut server = Server::new(Policies::new(vec![allow, deny]));
    assert_eq!(server.call("hidden", ""), "hidden /hide/0");
    assert_eq!(server.call("denied", ""), "tool_denied /tools/denied/action");
    assert_eq!(server.used(), [("ns/a c".to_owned(), 0.0)]);
    assert_eq!(server.passed(9, "t"), 5);
}

/// "**refunded** only when the tool certainly did not run": a reservation that is given back is as if it had not been, and one that
/// is dropped counts.
#[test]
fn a_refund_gives_back_in_all_counters_what_was_taken() {
    let document = limits(&json!([
        {"counter": "calls", "window": "minute", "max": 2},
        {"counter": "all", "window": "minute", "max": 2, "scope": "server"},
    ]));
    let mut server = Server::new(one(&document));
    let (first, second) = (server.reservation("t"), server.reservation("t"));
    assert_eq!(server.call("t", ""), "limit_exceeded calls 60 /tools/t/limits/calls");
    drop(first);
    assert_eq!(server.call("t", ""), "limit_exceeded calls 60 /tools/t/limits/calls");
    server.counters.refund(second);
    assert_eq!(server.used(), [("ns/p all".to_owned(), 1.0), ("ns/p calls".to_owned(), 1.0)]);
    assert_eq!(server.passed(9, "t"), 1);
}

/// "A refusal says which counter, and after how many seconds a retry can succeed." "`retryAfterSeconds` is whole, rounded up, null
/// if no retry can ever pass." "if several counters are over, the seconds are those of the last that is free again".
#[test]
fn of_several_full_counters_the_first_is_named_and_the_last_tells_the_seconds() {
    let limit = |counter: &str, window, max| json!({"counter": counter, "window": window, "max": max});
    let cases = [
        (vec![limit("a", 10, 1), limit("b", 30, 1)], "a 29"),
        (vec![limit("b", 30, 1), limit("a", 10, 1)], "b 29"),
        (vec![limit("free", 90, 5), limit("a", 10, 1), limit("b", 30, 1)], "a 29"),
        (vec![limit("a", 10, 1), limit("b", 30, 9)], "a 9"),
    ];
    for (wanted, told) in cases {
        let mut server = Server::new(one(&limits(&json!(wanted))));
        assert_eq!(server.call("t", ""), "allowed");
        let counter = told.split(' ').next().unwrap();
        assert_eq!(server.at(1_001).call("t", ""), format!("limit_exceeded {told} /tools/t/limits/{counter}"));
    }
    let never = json!({"counter": "n", "window": 10, "max": 1, "incrementFrom": "args.n"});
    let mut server = Server::new(one(&limits(&json!([limit("a", 10, 1), never]))));
    assert_eq!(server.call("t", r#"{"n": 1}"#), "allowed");
    assert_eq!(server.call("t", r#"{"n": 1}"#), "limit_exceeded a 10 /tools/t/limits/a");
    assert_eq!(server.call("t", r#"{"n": 2}"#), "limit_exceeded a /tools/t/limits/a", "no retry of this call can ever pass");
}

/// Of several policies "the gravest […], then the first by namespace and name" is told; the seconds are still those of the last.
#[test]
fn the_seconds_are_those_of_all_policies() {
    let limit = |window| limits(&json!([{"counter": "c", "window": window, "max": 1}]));
    let mut server = Server::new(Policies::new(vec![policy("b", &limit("hour")), policy("a", &limit("minute"))]));
    assert_eq!(server.call("t", ""), "allowed");
    assert_eq!(server.call("t", ""), "limit_exceeded c 3600 /tools/t/limits/c");
    assert_eq!(server.at(60_000).call("t", ""), "limit_exceeded c 3540 /tools/t/limits/c");
    assert_eq!(server.at(3_600_000).call("t", ""), "allowed");
}

/// "A call that passes counts at the moment of its reservation": however long it then takes.
#[test]
fn a_call_counts_from_its_reservation() {
    let mut server = Server::new(one(&limits(&json!([{"counter": "c", "window": "minute", "max": 1}]))));
    let slow = server.reservation("t");
    assert_eq!(server.at(59_999).call("t", ""), "limit_exceeded c 1 /tools/t/limits/c");
    assert_eq!(server.at(60_000).call("t", ""), "allowed", "while the first may still run");
    server.counters.refund(slow);
    assert_eq!(server.at(60_000).call("t", ""), "limit_exceeded c 60 /tools/t/limits/c", "it was given back too late to give room");
}
