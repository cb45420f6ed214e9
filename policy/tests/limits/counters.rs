//! Which calls share a budget, and how long a counter lives.

use serde_json::{Value, json};

use super::*;

/// "Two rules that name the same counter share it […]: that is how a group of tools gets one budget."
#[test]
fn rules_that_name_the_same_counter_share_it() {
    let limit = json!([{"counter": "group", "window": "minute", "max": 3}]);
    let mut server =
        Server::new(one(&json!({"tools": {"a": {"limits": limit}, "b": {"limits": limit}, "c*": {"limits": limit}, "free": {}}})));
    assert_eq!(server.call("a", ""), "allowed");
    assert_eq!(server.call("b", ""), "allowed");
    assert_eq!(server.call("cc", ""), "allowed");
    assert_eq!(server.call("a", ""), "limit_exceeded group 60 /tools/a/limits/group");
    assert_eq!(server.call("b", ""), "limit_exceeded group 60 /tools/b/limits/group");
    assert_eq!(server.call("c", ""), "limit_exceeded group 60 /tools/c*/limits/group");
    assert_eq!(server.call("free", ""), "allowed");
}

/// "`counter`: a name unique in the policy." So the same name in another policy is another counter.
#[test]
fn policies_do_not_share_counters() {
    let document = limits(&json!([{"counter": "c", "window": "minute", "max": 1}]));
    let mut server = Server::new(Policies::new(vec![policy("a", &document), policy("b", &document)]));
    assert_eq!(server.call("t", ""), "allowed");
    assert_eq!(server.used(), [("ns/a c".to_owned(), 1.0), ("ns/b c".to_owned(), 1.0)]);
}

/// "Two rules that name the same counter share it, and must agree on the rest".
#[test]
fn rules_that_share_a_counter_must_agree() {
    let first = json!({"counter": "c", "window": "minute", "max": 3, "scope": "grant", "incrementFrom": "args.n"});
    for (field, other) in [("window", json!("hour")), ("max", json!(4)), ("scope", json!("server")), ("incrementFrom", json!("args.m"))] {
        let mut second = first.clone();
        second[field] = other;
        let told = errors(&json!({"tools": {"a": {"limits": [first]}, "b": {"limits": [second]}}}));
        assert!(told.starts_with("tools.b.limits[0]: counter `c` is shared with tools.a.limits[0]"), "{field}: {told}");
    }
    let same_length = json!([{"counter": "c", "window": 60, "max": 3.0, "incrementFrom": "args.n"}]);
    policy("p", &json!({"tools": {"a": {"limits": [first]}, "b": {"limits": same_length}}}));
}

/// "`scope`: who shares the budget." `grant`: "one caller; an anonymous one is known by the address that it connects from (never
/// by its session: a client opens as many of those as it likes)". `session`: "one MCP session, and where there is none, as
/// `grant`". `server`: "all calls to this server."
#[test]
fn a_scope_says_who_shares_a_budget() {
    let (a, b) = ("10.0.0.1", "10.0.0.2");
    let (s, t) = (Some("s"), Some("t"));
    // The first call passes; the second passes if it has a budget of its own.
    let cases = [
        ("grant", (a, None), (a, None), false),
        ("grant", (a, s), (a, t), false),
        ("grant", (a, s), (a, None), false),
        ("grant", (a, s), (b, s), true),
        ("grant", (a, None), (b, None), true),
        ("grant", (a, None), ("::ffff:10.0.0.1", None), false),
        ("grant", (a, None), ("::10.0.0.1", None), true),
        ("session", (a, s), (a, s), false),
        ("session", (a, s), (a, t), true),
        ("session", (a, s), (b, s), false),
        ("session", (a, s), (a, None), true),
        ("session", (a, None), (a, None), false),
        ("session", (a, None), (b, None), true),
        ("session", (a, Some("10.0.0.2")), (b, None), true),
        ("server", (a, s), (b, t), false),
        ("server", (a, None), (b, None), false),
    ];
    for (scope, first, second, passes) in cases {
        let mut server = Server::new(one(&limits(&json!([{"counter": "c", "window": 1, "max": 1, "scope": scope}]))));
        assert_eq!(server.by(first.0, first.1).call("t", ""), "allowed");
        assert_eq!(server.by(second.0, second.1).call("t", "") == "allowed", passes, "{scope}: {first:?}, then {second:?}");
    }
    let mut server = Server::new(one(&limits(&json!([{"counter": "c", "window": 1, "max": 1}]))));
    assert_eq!(server.by(a, s).call("t", ""), "allowed");
    assert_eq!(server.by(a, t).call("t", ""), "limit_exceeded c 1 /tools/t/limits/c", "`grant` is the default");
}

/// "A call counts once in a counter, however many rules name it."
#[test]
fn a_call_counts_once_in_a_counter() {
    let limit = json!([{"counter": "c", "window": "minute", "max": 2, "scope": "server"}]);
    let documents = [
        json!({"tools": {"t": {"limits": limit}}, "allTools": {"limits": limit}}),
        json!({"tools": {"t": {"limits": [limit[0], limit[0]]}}}),
        json!({"tools": {"t*": {"limits": limit}, "*t": {"limits": limit}}, "allTools": {"limits": limit}}),
    ];
    for document in documents {
        let mut server = Server::new(one(&document));
        assert_eq!(server.passed(5, "t"), 2, "{document}");
        assert_eq!(server.used(), [("ns/p c".to_owned(), 2.0)]);
    }
    let spend = json!([{"counter": "c", "window": "minute", "max": 10, "incrementFrom": "args.n"}]);
    let mut server = Server::new(one(&json!({"tools": {"t": {"limits": spend}}, "allTools": {"limits": spend}})));
    assert_eq!(server.call("t", r#"{"n": 10}"#), "allowed");
    assert_eq!(server.used(), [("ns/p c".to_owned(), 10.0)]);
}

/// "A rule under a glob is one rule: its counters are shared by all the tools that it matches."
#[test]
fn tools_of_one_glob_share_its_counters() {
    let mut server = Server::new(one(&json!({"tools": {"get_*": {"rateLimit": {"max": 2, "window": 60}}}})));
    assert_eq!(server.call("get_a", ""), "allowed");
    assert_eq!(server.call("get_b", ""), "allowed");
    assert_eq!(server.call("get_c", ""), "limit_exceeded get_*_rate 60 /tools/get_*/rateLimit");
}

/// "`rateLimit` names its counter `<key>_rate` (`allTools_rate` there)"; it is "short for one limit, […] scope `session`".
#[test]
fn a_rate_limit_is_short_for_a_limit_of_each_session() {
    let rate = json!({"max": 1, "window": "minute"});
    let cases = [
        (json!({"tools": {"t": {"rateLimit": rate}}}), "limit_exceeded t_rate 60 /tools/t/rateLimit"),
        (json!({"tools": {"*": {"rateLimit": rate}}}), "limit_exceeded *_rate 60 /tools/*/rateLimit"),
        (json!({"default": "allow", "allTools": {"rateLimit": rate}}), "limit_exceeded allTools_rate 60 /allTools/rateLimit"),
    ];
    for (document, refused) in cases {
        let mut server = Server::new(one(&document));
        assert_eq!(server.by("10.0.0.1", Some("s")).call("t", ""), "allowed");
        assert_eq!(server.by("10.0.0.2", Some("s")).call("t", ""), refused);
        assert_eq!(server.by("10.0.0.1", Some("other")).call("t", ""), "allowed");
        assert_eq!(server.by("10.0.0.1", None).call("t", ""), "allowed");
        assert_eq!(server.by("10.0.0.1", None).call("t", ""), refused);
    }
    // It is a counter like any other, so a limit may share it by its name.
    let same = json!([{"counter": "t_rate", "window": 60, "max": 1, "scope": "session"}]);
    let mut server = Server::new(one(&json!({"tools": {"t": {"rateLimit": rate}, "u": {"limits": same}}})));
    assert_eq!(server.call("t", ""), "allowed");
    assert_eq!(server.call("u", ""), "limit_exceeded t_rate 60 /tools/u/limits/t_rate");
    let told = errors(&json!({"tools": {"t": {"rateLimit": {"max": 2, "window": 60}}, "u": {"limits": same}}}));
    assert!(told.starts_with("tools.u.limits[0]: counter `t_rate` is shared with tools.t.rateLimit"), "{told}");
}

/// "Counters survive a change of policy as long as their name, window and scope stay." "A counter lives on while name, window,
/// scope and `incrementFrom` stay; a renamed policy is a new one."
#[test]
fn a_counter_lives_on_while_what_names_it_stays() {
    let limit = json!({"counter": "c", "window": "minute", "max": 2});
    let with = |field: &str, value: Value| {
        let mut limit = limit.clone();
        limit[field] = value;
        limit
    };
    let cases = [
        ("the same", limit.clone(), "p", 0),
        ("max raised", with("max", json!(3)), "p", 1),
        ("max lowered", with("max", json!(1)), "p", 0),
        ("written otherwise", with("window", json!("60s")), "p", 0),
        ("the default written out", with("scope", json!("grant")), "p", 0),
        ("window", with("window", json!("90s")), "p", 2),
        ("name", with("counter", json!("d")), "p", 2),
        ("scope", with("scope", json!("server")), "p", 2),
        ("incrementFrom", with("incrementFrom", json!("args.n")), "p", 2),
        ("policy", limit.clone(), "q", 2),
    ];
    for (what, changed, name, more) in cases {
        let mut server = Server::new(one(&limits(&json!([limit]))));
        assert_eq!(server.passed(5, "t"), 2);
        server.policies = Policies::new(vec![policy(name, &limits(&json!([changed])))]);
        let passed = (0..5).filter(|_| server.call("t", r#"{"n": 1}"#) == "allowed").count();
        assert_eq!(passed, more, "{what}");
    }
}

/// A counter outlives the rule that names it, and may move to another.
#[test]
fn a_counter_is_there_again_with_its_rule() {
    let document = limits(&json!([{"counter": "c", "window": "minute", "max": 2}]));
    let mut server = Server::new(one(&document));
    assert_eq!(server.passed(1, "t"), 1);
    server.policies = one(&json!({"tools": {"t": {}}}));
    assert_eq!(server.at(10_000).passed(5, "t"), 5);
    server.policies = Policies::default();
    assert_eq!(server.at(20_000).code("t"), Code::NoPolicy);
    server.policies = one(&json!({"tools": {"other*": {"limits": document["tools"]["t"]["limits"]}}}));
    assert_eq!(server.at(30_000).passed(5, "other_tool"), 1);
    assert_eq!(server.at(59_999).call("other", ""), "limit_exceeded c 1 /tools/other*/limits/c");
    assert_eq!(server.at(60_000).call("other", ""), "allowed");
}

/// "no session: per caller, with a metric", which names the counters that wanted one.
#[test]
fn a_call_without_a_session_tells_which_counters_wanted_one() {
    let limit = |counter: &str, scope: &str| json!({"counter": counter, "window": 1, "max": 9, "scope": scope});
    let document = limits(&json!([limit("a", "grant"), limit("b", "session"), limit("c", "server"), limit("d", "session")]));
    let mut server = Server::new(one(&document));
    let wanted = |server: &mut Server| match server.outcome("t", "").decision {
        Decision::Allowed(allowed) => allowed.without_session.iter().map(|(policy, counter)| format!("{policy} {counter}")).collect(),
        Decision::Refused(refusal) => vec![refusal.code.to_string()],
    };
    assert_eq!(wanted(server.by("10.0.0.1", None)), ["ns/p b", "ns/p d"]);
    assert!(wanted(server.by("10.0.0.1", Some("s"))).is_empty());
}
