//! "With a shared store, one count over all pods": a store that is told what a call wants concludes as counters in memory would, and
//! `onStoreError` says what happens without it.

use std::collections::HashMap;

use mcp_policy::{Found, Mode, Want};
use proptest::prelude::*;

use super::*;

/// The slowest store: it keeps every call.
#[derive(Default)]
struct Store(HashMap<String, Vec<(Duration, u128)>>);

impl Store {
    fn used(&self, want: &Want, now: Duration) -> u128 {
        let calls = self.0.get(&want.budget).into_iter().flatten();
        calls.filter(|(at, _)| now < *at + want.window).map(|(_, amount)| amount).sum()
    }

    fn ask(&mut self, wants: &[Want], now: Duration) -> Vec<Found> {
        let fits = |want: &Want, at| want.amount == 0 || self.used(want, at) + want.amount <= want.max;
        let found: Vec<Found> = wants
            .iter()
            .map(|want| {
                if fits(want, now) {
                    return Found::Room;
                }
                let calls = self.0.get(&want.budget).into_iter().flatten();
                let free = calls.map(|(at, _)| *at + want.window).filter(|at| *at > now && fits(want, *at)).min();
                Found::Full {
                    retry_after_seconds: free.map(|free| free.saturating_sub(now).as_millis().div_ceil(1000).try_into().unwrap()),
                }
            })
            .collect();
        let has_room = |group| wants.iter().zip(&found).all(|(want, found)| want.group != group || *found == Found::Room);
        for want in wants.iter().filter(|want| want.takes && has_room(0) && has_room(want.group)) {
            self.0.entry(want.budget.clone()).or_default().push((now, want.amount));
        }
        found
    }
}

fn call<'a>(tool: &'a str, arguments: &'a str, caller: &'a Caller, session: Option<&'a str>) -> Call<'a> {
    Call { tool, arguments, caller, session, server: ServerName { namespace: "ns", name: "pod" } }
}

fn told(outcome: &Outcome) -> String {
    match &outcome.decision {
        Decision::Allowed(allowed) => {
            format!("{:?} {:?} {:?} {:?}", allowed.policy, allowed.rule, allowed.without_session, outcome.audited)
        }
        Decision::Refused(refusal) => format!("{refusal:?} {:?}", outcome.audited),
    }
}

fn document() -> impl Strategy<Value = Value> {
    let limit = (0..3_u8, 1..4_u64, 0..4_u64, prop_oneof![Just("grant"), Just("session"), Just("server")]).prop_map(|(n, window, max, scope)| {
        if n == 0 {
            json!({"counter": format!("sum-{window}-{max}-{scope}"), "window": window, "max": max, "scope": scope, "incrementFrom": "args.n"})
        } else {
            json!({"counter": format!("{window}-{max}-{scope}"), "window": window, "max": max, "scope": scope})
        }
    });
    let limits = || prop::collection::vec(limit.clone(), 0..3);
    (limits(), limits(), any::<bool>(), prop::bool::weighted(0.2)).prop_map(|(a, all, denies, waits)| {
        let mut tools = json!({"a": {"limits": a}, "b*": {}});
        if denies {
            tools["b*"] = json!({"action": "deny"});
        } else if waits {
            tools["a"]["action"] = "approve".into();
        }
        json!({"tools": tools, "allTools": {"limits": all}})
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(500), ..ProptestConfig::default() })]

    /// In memory or in a store, the outcome is the same.
    #[test]
    fn a_store_concludes_as_memory_does(
        documents in prop::collection::vec((document(), any::<bool>()), 0..4),
        calls in prop::collection::vec((0..3_u64, any::<bool>(), 0..4_u8, any::<bool>(), any::<bool>()), 1..30),
    ) {
        let policies = documents.iter().enumerate().map(|(n, (document, audit))| {
            policy(&format!("p{n}"), document).in_mode(if *audit { Mode::Audit } else { Mode::Enforce })
        });
        let policies = Policies::new(policies.collect());
        let (mut counters, mut store, mut now) = (Counters::default(), Store::default(), Duration::ZERO);
        for (after, a, n, other, in_session) in calls {
            now += Duration::from_millis(after * 500);
            let caller = Caller::anonymous(if other { "10.0.0.2" } else { "10.0.0.1" }.parse().unwrap());
            let arguments = format!(r#"{{"n": {n}}}"#);
            let call = call(if a { "a" } else { "b" }, &arguments, &caller, in_session.then_some("s"));
            let here = policies.judge(&call).reserve(&mut counters, now);
            let judged = policies.judge(&call);
            let found = store.ask(&judged.wants(), now);
            prop_assert_eq!(told(&judged.conclude(&found)), told(&here));
        }
    }
}

/// One limit that counts here without the store, and one that refuses.
fn both() -> Policies {
    let limit = |counter: &str, error: &str| json!({"counter": counter, "window": 60, "max": 2, "onStoreError": error});
    one(&json!({"tools": {
        "local": {"limits": [limit("here", "local")]},
        "deny": {"limits": [{"counter": "there", "window": 60, "max": 2}]},
        "both": {"limits": [limit("here", "local"), limit("strict", "deny")], "reason": "Ask later."},
    }}))
}

#[test]
fn without_the_store_who_says_local_counts_here_and_who_says_nothing_refuses() {
    let (policies, caller) = (both(), Caller::anonymous("10.0.0.1".parse().unwrap()));
    let mut counters = Counters::default();
    let mut without =
        |tool: &str| match policies.judge(&call(tool, "", &caller, None)).without_store(&mut counters, Duration::ZERO, 3).decision {
            Decision::Allowed(_) => "allowed".to_owned(),
            Decision::Refused(r) => format!("{} {} {:?} {:?}", r.code, r.rule.unwrap(), r.retry_after_seconds, r.reason),
        };
    assert_eq!(without("deny"), "store_unavailable /tools/deny/limits/there Some(3) None");
    assert_eq!(without("both"), "store_unavailable /tools/both/limits/strict Some(3) Some(\"Ask later.\")", "and takes nothing here");
    assert_eq!([without("local"), without("local")], ["allowed", "allowed"]);
    assert_eq!(without("local"), "limit_exceeded /tools/local/limits/here Some(60) None");
    assert_eq!(without("both"), "limit_exceeded /tools/both/limits/here Some(60) Some(\"Ask later.\")", "what is known is told first");
}

#[test]
fn what_a_store_does_not_know_is_not_taken_for_room() {
    let (policies, caller) = (both(), Caller::anonymous("10.0.0.1".parse().unwrap()));
    for (found, expected) in [
        (&[Found::Room, Found::Room][..], None),
        (&[Found::Room, Found::Unknown { retry_after_seconds: 9 }], Some((Code::StoreUnavailable, Some(9)))),
        (&[Found::Full { retry_after_seconds: Some(4) }, Found::Unknown { retry_after_seconds: 9 }], Some((Code::LimitExceeded, Some(9)))),
        (&[Found::Unknown { retry_after_seconds: 9 }, Found::Full { retry_after_seconds: None }], Some((Code::LimitExceeded, None))),
        (&[Found::Room], Some((Code::StoreUnavailable, Some(1)))),
        (&[], Some((Code::StoreUnavailable, Some(1)))),
    ] {
        let outcome = policies.judge(&call("both", "", &caller, None)).conclude(found);
        let refused = match outcome.decision {
            Decision::Allowed(_) => None,
            Decision::Refused(refusal) => Some((refusal.code, refusal.retry_after_seconds)),
        };
        assert_eq!(refused, expected, "{found:?}");
    }
}

#[test]
fn a_budget_has_one_name_in_every_process_and_no_two_share_it() {
    let limits = |window: u64, scope: &str, counter: &str| json!({"tools": {"t": {"limits": [{"counter": counter, "window": window, "max": 9, "scope": scope}]}}});
    let budget = |name: &str, document: &Value, address: &str, session| {
        let (policies, caller) = (Policies::new(vec![policy(name, document)]), Caller::anonymous(address.parse().unwrap()));
        policies.judge(&call("t", "", &caller, session)).wants()[0].budget.clone()
    };
    let all = [
        budget("p", &limits(60, "grant", "c"), "10.0.0.1", None),
        budget("q", &limits(60, "grant", "c"), "10.0.0.1", None),
        budget("p", &limits(61, "grant", "c"), "10.0.0.1", None),
        budget("p", &limits(60, "server", "c"), "10.0.0.1", None),
        budget("p", &limits(60, "grant", "d"), "10.0.0.1", None),
        budget("p", &limits(60, "grant", "c"), "10.0.0.2", None),
        budget("p", &limits(60, "session", "c"), "10.0.0.1", Some("s")),
        budget("p", &limits(60, "session", "c"), "10.0.0.1", None),
    ];
    let distinct: std::collections::HashSet<_> = all.iter().collect();
    assert_eq!(distinct.len(), all.len());
    assert!(all.iter().all(|name| name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit())));
    // Part of what sidecars of different builds agree on.
    assert_eq!(all[0], budget("p", &limits(60, "grant", "c"), "10.0.0.1", Some("s")));
    let lowered = json!({"tools": {"t": {"limits": [{"counter": "c", "window": "minute", "max": 1}]}}});
    assert_eq!(all[0], budget("p", &lowered, "::ffff:10.0.0.1", None), "`max` may change");
}

#[test]
fn rules_that_share_a_counter_agree_on_what_happens_without_the_store() {
    let limit = |error: &str| json!({"limits": [{"counter": "c", "window": 60, "max": 2, "onStoreError": error}]});
    assert!(errors(&json!({"tools": {"a": limit("deny"), "b": limit("local")}})).contains("counter `c` is shared"));
    assert!(errors(&json!({"tools": {"a": limit("allow")}})).contains("onStoreError"));
    let _ = one(&json!({"tools": {"a": limit("local"), "b": limit("local")}}));
}
