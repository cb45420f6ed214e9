//! What each rule of the language does with a call, as a table.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use mcp_policy::{Call, Caller, Code, Counters, Decision, Mode, Policies, PolicyId, Refusal, ServerName, compile, read};
use serde_json::{Value, json};

fn policies(documents: &[(&str, Value)]) -> Policies {
    let compiled = documents.iter().map(|(name, value)| compile(PolicyId::new(Some("ns"), name), &read::document(value).unwrap()).unwrap());
    Policies::new(compiled.collect())
}

fn caller(n: u8) -> Caller {
    Caller::anonymous([10, 0, 0, n].into())
}

const SERVER: ServerName<'static> = ServerName { namespace: "ns", name: "server-0" };

/// A call without arguments.
fn call<'a>(tool: &'a str, caller: &'a Caller, session: Option<&'a str>) -> Call<'a> {
    Call { tool, arguments: "", caller, session, server: SERVER }
}

fn decide(policies: &Policies, tool: &str) -> Decision {
    policies.decide(&mut Counters::default(), &call(tool, &caller(1), None), Duration::ZERO).decision
}

fn refusal(decision: Decision) -> Refusal {
    match decision {
        Decision::Refused(refusal) => refusal,
        Decision::Allowed(allowed) => panic!("allowed by {:?}", allowed.rule),
    }
}

/// `code policy pointer` of a decision.
fn told(decision: Decision) -> String {
    match decision {
        Decision::Allowed(allowed) => {
            let policy = allowed.policy.map_or_else(|| "-".to_owned(), |policy| policy.to_string());
            format!("allowed {policy} {}", allowed.rule.unwrap_or_else(|| "-".to_owned()))
        }
        Decision::Refused(refusal) => {
            let policy = refusal.policy.map_or_else(|| "-".to_owned(), |policy| policy.to_string());
            format!("{} {policy} {}", refusal.code, refusal.rule.unwrap_or_else(|| "-".to_owned()))
        }
    }
}

#[test]
fn each_rule_decides_and_is_named() {
    let cases = [
        (json!({}), "a", "default_deny ns/p /default"),
        (json!({"default": "allow"}), "a", "allowed ns/p /default"),
        (json!({"tools": {"a": {}}}), "a", "allowed ns/p /tools/a"),
        (json!({"tools": {"a": {}}}), "A", "default_deny ns/p /default"),
        (json!({"tools": {"a": {}}}), "a ", "default_deny ns/p /default"),
        (json!({"tools": {"a": {"action": "deny"}}}), "a", "tool_denied ns/p /tools/a/action"),
        (json!({"tools": {"a": {"action": "hide"}}}), "a", "hidden ns/p /tools/a/action"),
        (json!({"tools": {"a/b~c": {"action": "deny"}}}), "a/b~c", "tool_denied ns/p /tools/a~1b~0c/action"),
        (json!({"hide": ["z", "a*"], "tools": {"ab": {}}}), "ab", "hidden ns/p /hide/1"),
        (json!({"tools": {"*": {"action": "deny"}, "get_*": {}, "get_secret": {"action": "hide"}}}), "get_it", "allowed ns/p /tools/get_*"),
        (
            json!({"tools": {"*": {"action": "deny"}, "get_*": {}, "get_secret": {"action": "hide"}}}),
            "put",
            "tool_denied ns/p /tools/*/action",
        ),
        (
            json!({"tools": {"*": {"action": "deny"}, "get_*": {}, "get_secret": {"action": "hide"}}}),
            "get_secret",
            "hidden ns/p /tools/get_secret/action",
        ),
        // Equal globs: all hold; the gravest action is told, else the first by key.
        (json!({"tools": {"a*": {"action": "deny"}, "*a": {}}}), "aa", "tool_denied ns/p /tools/a*/action"),
        (json!({"tools": {"a*": {"action": "deny"}, "*a": {"action": "hide"}}}), "aa", "hidden ns/p /tools/*a/action"),
        (json!({"tools": {"a*": {}, "*a": {}}}), "aa", "allowed ns/p /tools/*a"),
        (json!({"default": "allow", "allTools": {"action": "hide"}}), "a", "hidden ns/p /allTools/action"),
        (json!({"tools": {"a": {"action": "deny"}}, "allTools": {"action": "hide"}}), "a", "tool_denied ns/p /tools/a/action"),
        (
            json!({"default": "allow", "allTools": {"limits": [{"counter": "all", "window": "hour", "max": 0}]}}),
            "a",
            "limit_exceeded ns/p /allTools/limits/all",
        ),
        (json!({"tools": {"a": {"rateLimit": {"max": 0, "window": 1}}}}), "a", "limit_exceeded ns/p /tools/a/rateLimit"),
        (
            json!({"tools": {"a": {"limits": [{"counter": "own", "window": 1, "max": 0}]}}, "allTools": {"limits": [{"counter": "all", "window": 1, "max": 0}]}}),
            "a",
            "limit_exceeded ns/p /tools/a/limits/own",
        ),
    ];
    for (document, tool, expected) in cases {
        assert_eq!(told(decide(&policies(&[("p", document.clone())]), tool)), expected, "{tool} under {document}");
    }
}

#[test]
fn without_a_policy_every_call_is_refused() {
    assert_eq!(told(decide(&Policies::default(), "a")), "no_policy - -");
    assert!(!Policies::default().lists(&caller(1), "a"));
    assert!(!Policies::default().in_force(&caller(1)));
}

#[test]
fn a_policy_that_was_never_accepted_refuses_every_call_beside_whatever_else() {
    let hiding = compile(PolicyId::new(Some("ns"), "a"), &read::document(&json!({"default": "allow", "hide": ["b"]})).unwrap()).unwrap();
    assert!(Policies::new(vec![hiding.clone()]).in_force(&caller(1)));
    let broken = mcp_policy::Policy::refusing(PolicyId::new(Some("ns"), "b"));
    let policies = Policies::new(vec![hiding, broken]);
    assert_eq!(told(decide(&policies, "a")), "no_policy ns/b -");
    assert_eq!(told(decide(&policies, "b")), "no_policy ns/b -", "graver than hidden");
    assert!(!policies.in_force(&caller(1)));
}

#[test]
fn of_several_policies_the_gravest_is_told_then_the_first_by_name() {
    let allow = || json!({"default": "allow"});
    let full = || json!({"default": "allow", "allTools": {"limits": [{"counter": "c", "window": 1, "max": 0}]}});
    let deny = || json!({"default": "allow", "tools": {"t": {"action": "deny", "reason": "because"}}});
    let hide = || json!({"default": "allow", "hide": ["t"]});
    let cases = [
        (vec![("a", allow()), ("b", allow())], "allowed ns/a /default"),
        (vec![("a", allow()), ("b", full())], "limit_exceeded ns/b /allTools/limits/c"),
        (vec![("a", full()), ("b", deny())], "tool_denied ns/b /tools/t/action"),
        (vec![("a", deny()), ("b", hide())], "hidden ns/b /hide/0"),
        (vec![("b", deny()), ("a", deny())], "tool_denied ns/a /tools/t/action"),
        (vec![("b", full()), ("a", full())], "limit_exceeded ns/a /allTools/limits/c"),
    ];
    for (documents, expected) in cases {
        assert_eq!(told(decide(&policies(&documents), "t")), expected);
    }
    assert_eq!(refusal(decide(&policies(&[("p", deny())]), "t")).reason.as_deref(), Some("because"));
}

#[test]
fn the_eleventh_call_of_a_caller_is_refused_and_another_callers_first_passes() {
    let policies =
        policies(&[("imaging", json!({"tools": {"start": {"limits": [{"counter": "start_rate", "window": "minute", "max": 10}]}}}))]);
    let mut counters = Counters::default();
    let mut call = |n, second| policies.decide(&mut counters, &self::call("start", &caller(n), None), Duration::from_secs(second)).decision;
    for second in 0..10 {
        assert_eq!(told(call(1, second)), "allowed ns/imaging /tools/start");
    }
    let eleventh = refusal(call(1, 15));
    assert_eq!(
        (eleventh.code, eleventh.counter.as_deref(), eleventh.retry_after_seconds),
        (Code::LimitExceeded, Some("start_rate"), Some(45))
    );
    assert_eq!(told(call(2, 15)), "allowed ns/imaging /tools/start");
    assert_eq!(told(call(1, 60)), "allowed ns/imaging /tools/start");
    assert_eq!(refusal(call(1, 60)).retry_after_seconds, Some(1));
}

#[test]
fn scopes_share_what_they_say() {
    let at = |scope: &str, calls: &[(u8, Option<&str>, bool)]| {
        let policies =
            policies(&[("p", json!({"tools": {"t": {"limits": [{"counter": "c", "window": "minute", "max": 1, "scope": scope}]}}}))]);
        let mut counters = Counters::default();
        for (i, (n, session, passes)) in calls.iter().enumerate() {
            let decision = policies.decide(&mut counters, &self::call("t", &caller(*n), *session), Duration::ZERO).decision;
            assert_eq!(matches!(decision, Decision::Allowed(_)), *passes, "scope {scope}, call {i}");
        }
    };
    at("grant", &[(1, Some("a"), true), (1, Some("b"), false), (2, None, true)]);
    at("session", &[(1, Some("a"), true), (1, Some("b"), true), (2, Some("a"), false), (1, None, true), (1, None, false)]);
    at("server", &[(1, Some("a"), true), (2, Some("b"), false)]);
}

#[test]
fn rules_that_name_one_counter_share_it_and_a_call_counts_once() {
    let shared = json!({"counter": "budget", "window": "day", "max": 2});
    let policies =
        policies(&[("p", json!({"tools": {"a": {"limits": [shared]}, "b": {"limits": [shared]}}, "allTools": {"limits": [shared]}}))]);
    let mut counters = Counters::default();
    let mut call = |tool| policies.decide(&mut counters, &self::call(tool, &caller(1), None), Duration::ZERO).decision;
    assert!(matches!(call("a"), Decision::Allowed(_)));
    assert!(matches!(call("b"), Decision::Allowed(_)));
    assert_eq!(refusal(call("a")).rule.as_deref(), Some("/tools/a/limits/budget"));
    let usage = policies.usage(&mut counters, Duration::ZERO);
    assert_eq!(usage.iter().map(|u| (&*u.counter, u.used, u.max)).collect::<Vec<_>>(), [("budget", 2.0, 2.0)]);
}

#[test]
fn a_rule_under_a_glob_has_one_counter_for_all_its_tools() {
    let policies = policies(&[("p", json!({"tools": {"get_*": {"rateLimit": {"max": 1, "window": "minute"}}}}))]);
    let mut counters = Counters::default();
    let mut call = |tool| policies.decide(&mut counters, &self::call(tool, &caller(1), None), Duration::ZERO).decision;
    assert!(matches!(call("get_a"), Decision::Allowed(_)));
    assert_eq!(refusal(call("get_b")).counter.as_deref(), Some("get_*_rate"));
}

#[test]
fn a_call_refused_by_one_counter_takes_nothing_from_the_others() {
    let limit = |counter: &str, max| json!({"counter": counter, "window": "minute", "max": max, "scope": "server"});
    let policies = policies(&[(
        "p",
        json!({"tools": {"a": {"limits": [limit("wide", 2), limit("narrow", 1)]}, "b": {"limits": [limit("wide", 2)]}}}),
    )]);
    let mut counters = Counters::default();
    let mut call = |tool| told(policies.decide(&mut counters, &self::call(tool, &caller(1), None), Duration::ZERO).decision);
    assert_eq!(call("a"), "allowed ns/p /tools/a");
    assert_eq!(call("a"), "limit_exceeded ns/p /tools/a/limits/narrow");
    assert_eq!(call("b"), "allowed ns/p /tools/b");
    assert_eq!(call("b"), "limit_exceeded ns/p /tools/b/limits/wide");
}

#[test]
fn the_seconds_are_those_of_the_last_full_counter_that_is_free_again() {
    let limit = |counter: &str, window: &str| json!({"counter": counter, "window": window, "max": 1});
    let policies = policies(&[("p", json!({"tools": {"t": {"limits": [limit("short", "minute"), limit("long", "hour")]}}}))]);
    let mut counters = Counters::default();
    let mut call = || policies.decide(&mut counters, &self::call("t", &caller(1), None), Duration::ZERO).decision;
    assert!(matches!(call(), Decision::Allowed(_)));
    let refusal = refusal(call());
    assert_eq!((refusal.counter.as_deref(), refusal.retry_after_seconds), (Some("short"), Some(3600)));
}

#[test]
fn counters_survive_a_change_of_policy_while_name_window_and_scope_stay() {
    let with =
        |window: &str, max: u64| policies(&[("p", json!({"tools": {"t": {"limits": [{"counter": "c", "window": window, "max": max}]}}}))]);
    let mut counters = Counters::default();
    let mut call = |policies: &Policies| {
        matches!(policies.decide(&mut counters, &self::call("t", &caller(1), None), Duration::ZERO).decision, Decision::Allowed(_))
    };
    assert!(call(&with("minute", 1)));
    assert!(!call(&with("minute", 1)), "the same policy again");
    assert!(call(&with("minute", 2)), "a greater max leaves room for one");
    assert!(!call(&with("minute", 2)));
    assert!(call(&with("hour", 1)), "another window is another counter");
}

#[test]
fn a_list_shows_what_a_call_could_pass() {
    let policies = policies(&[
        (
            "p",
            json!({"hide": ["secret_*"], "tools": {"open": {}, "full": {"limits": [{"counter": "c", "window": 1, "max": 0}]}, "no": {"action": "deny"}, "gone": {"action": "hide"}, "secret_a": {}}}),
        ),
        ("q", json!({"default": "allow", "tools": {"elsewhere": {"action": "deny"}}})),
    ]);
    let listed = ["open", "full", "no", "gone", "secret_a", "other"].map(|tool| policies.lists(&caller(1), tool));
    assert_eq!(listed, [true, true, false, false, false, false]);
}

#[test]
fn only_names_that_a_policy_wrote_are_safe_labels() {
    let policies = policies(&[("p", json!({"default": "allow", "hide": ["h"], "tools": {"a": {}, "get_*": {}}}))]);
    assert_eq!(["a", "h", "get_*", "get_x", "z"].map(|tool| policies.names(tool)), [true, true, true, false, false]);
}

#[test]
fn a_caller_is_shown_by_its_address_and_ipv4_in_ipv6_is_ipv4() {
    let caller = Caller::anonymous("::ffff:10.0.0.1".parse().unwrap());
    assert_eq!((caller.to_string().as_str(), &caller), ("anonymous:10.0.0.1", &self::caller(1)));
}

/// "A policy in `audit` mode is in force and never refuses or hides; its verdict is recorded beside the real one, and its counters
/// run as if it had spoken."
#[test]
fn a_policy_in_audit_mode_is_recorded_and_never_heeded() {
    let compiled = |name: &str, document: Value| compile(PolicyId::new(Some("ns"), name), &read::document(&document).unwrap()).unwrap();
    let allow = compiled("a", json!({"default": "allow"}));
    let audit = compiled("b", json!({"hide": ["h"], "tools": {"t": {"limits": [{"counter": "c", "window": "minute", "max": 1}]}}}))
        .in_mode(Mode::Audit);
    let mut counters = Counters::default();
    let mut told = |policies: &Policies, tool: &str| {
        let outcome = policies.decide(&mut counters, &call(tool, &caller(1), None), Duration::ZERO);
        let audited: Vec<_> =
            outcome.audited.iter().map(|one| format!("{} {} {}", one.policy, one.code, one.rule.as_deref().unwrap_or("-"))).collect();
        format!("{}; {}", self::told(outcome.decision), audited.join(", "))
    };
    let both = Policies::new(vec![allow, audit.clone()]);
    assert_eq!(told(&both, "t"), "allowed ns/a /default; ns/b allowed -");
    assert_eq!(told(&both, "t"), "allowed ns/a /default; ns/b limit_exceeded /tools/t/limits/c");
    assert_eq!(told(&both, "u"), "allowed ns/a /default; ns/b default_deny /default");
    assert_eq!(told(&both, "h"), "allowed ns/a /default; ns/b hidden /hide/0");
    assert!(both.lists(&caller(1), "h"));
    let alone = Policies::new(vec![audit]);
    assert_eq!(told(&alone, "u"), "allowed - -; ns/b default_deny /default");
    assert!(alone.in_force(&caller(1)) && alone.lists(&caller(1), "h"));
    assert!(!both.names("never") && both.names("h"));
}

/// "Counters of an `audit` policy count the calls that were forwarded and that the policy itself would have allowed."
#[test]
fn counters_of_an_audit_policy_count_what_was_forwarded_and_it_would_have_allowed() {
    let compiled = |name: &str, document: Value| compile(PolicyId::new(Some("ns"), name), &read::document(&document).unwrap()).unwrap();
    let limit = |max: u64| json!({"tools": {"t": {"limits": [{"counter": "c", "window": "minute", "max": max}]}}});
    let policies = Policies::new(vec![compiled("a", limit(1)), compiled("b", limit(5)).in_mode(Mode::Audit)]);
    let mut counters = Counters::default();
    for _ in 0..3 {
        let _ = policies.decide(&mut counters, &call("t", &caller(1), None), Duration::ZERO);
    }
    let usage = policies.usage(&mut counters, Duration::ZERO);
    assert_eq!(
        usage.iter().map(|one| (one.policy.to_string(), one.used)).collect::<Vec<_>>(),
        [("ns/a".to_owned(), 1.0), ("ns/b".to_owned(), 1.0)]
    );
}
