//! The language's laws, on generated policies and calls. Alphabets are small, so that patterns match and counters fill.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use mcp_policy::document::{Action, DefaultAction, Document, Limit, RateLimit, Rule, Scope, Version, Window};
use mcp_policy::{Call, Caller, Code, Counters, Decision, Policies, Policy, PolicyId, ServerName, compile, read};
use proptest::prelude::*;

fn pattern() -> impl Strategy<Value = String> {
    "[ab*?]{1,3}"
}

fn rule() -> impl Strategy<Value = Rule> {
    let action = prop_oneof![4 => Just(Action::Allow), 1 => Just(Action::Deny), 1 => Just(Action::Hide)];
    // A counter's name says all of the limit, so that rules which share one always agree.
    let scope = prop_oneof![Just(Scope::Grant), Just(Scope::Session), Just(Scope::Server)];
    let limit = (1u64..4, 0u64..4, scope).prop_map(|(seconds, max, scope)| Limit {
        counter: format!("{seconds}-{max}-{}", scope.as_str()),
        window: Window::Seconds(seconds),
        max: max.into(),
        scope,
        increment_from: None,
    });
    let rate_limit = prop::option::of((1u64..4, 0u64..4).prop_map(|(seconds, max)| RateLimit { max, window: Window::Seconds(seconds) }));
    (action, prop::option::of("[a-z]{0,5}"), prop::collection::vec(limit, 0..3), rate_limit)
        .prop_map(|(action, reason, limits, rate_limit)| Rule { action, reason, limits, rate_limit, ..Rule::default() })
}

fn document() -> impl Strategy<Value = Document> {
    (
        prop_oneof![Just(DefaultAction::Deny), Just(DefaultAction::Allow)],
        prop::collection::vec(pattern(), 0..2),
        prop::option::weighted(0.3, rule()),
        prop::collection::btree_map(pattern(), rule(), 0..5),
    )
        .prop_map(|(default, hide, all_tools, tools)| Document { version: Version::V1, default, hide, all_tools, tools, ..Document::default() })
}

/// A call: seconds since the one before it, tool, caller, session, and whether the tool did not run after all.
type Step = (u64, String, u8, Option<u8>, bool);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec((0u64..3, "[ab]{1,2}", 0u8..2, prop::option::of(0u8..2), prop::bool::weighted(0.2)), 0..40)
}

fn compiled(documents: &[Document]) -> Vec<Policy> {
    documents.iter().enumerate().map(|(i, document)| compile(PolicyId::new(Some("ns"), &format!("p{i}")), document).unwrap()).collect()
}

const SERVER: ServerName<'static> = ServerName { namespace: "ns", name: "server-0" };

fn caller(n: u8) -> Caller {
    Caller::anonymous([10, 0, 0, n].into())
}

/// What a call was told: its code, the policy and the rule, and the seconds to wait.
type Told = (Code, Option<String>, Option<String>, Option<u64>);

fn run(policies: &Policies, steps: &[Step]) -> Vec<Told> {
    let mut counters = Counters::default();
    let mut now = 0;
    let mut told = Vec::new();
    for (after, tool, n, session, refunded) in steps {
        now += after;
        let session = session.map(|session| session.to_string());
        let call = Call { tool, arguments: "", caller: &caller(*n), session: session.as_deref(), server: SERVER };
        told.push(match policies.decide(&mut counters, &call, Duration::from_secs(now)).decision {
            Decision::Allowed(allowed) => {
                if *refunded {
                    counters.refund(allowed.reservation);
                }
                (Code::Allowed, allowed.policy.map(|policy| policy.to_string()), allowed.rule, None)
            }
            Decision::Refused(refusal) => {
                (refusal.code, refusal.policy.map(|policy| policy.to_string()), refusal.rule, refusal.retry_after_seconds)
            }
        });
    }
    told
}

/// The slow and obvious reading of the language: it shares nothing with the engine but the document.
struct Reference<'a> {
    documents: &'a [Document],
    /// Times of calls that count, by policy, counter, and who shares it.
    calls: HashMap<(usize, String, String), Vec<u64>>,
}

impl Reference<'_> {
    fn glob(pattern: &[char], name: &[char]) -> bool {
        match (pattern, name) {
            ([], []) => true,
            (['*', rest @ ..], _) => Self::glob(rest, name) || !name.is_empty() && Self::glob(pattern, &name[1..]),
            (['?', rest @ ..], [_, tail @ ..]) => Self::glob(rest, tail),
            ([p, rest @ ..], [n, tail @ ..]) => p == n && Self::glob(rest, tail),
            _ => false,
        }
    }

    fn matches(pattern: &str, name: &str) -> bool {
        Self::glob(&pattern.chars().collect::<Vec<_>>(), &name.chars().collect::<Vec<_>>())
    }

    fn entries<'d>(document: &'d Document, tool: &str) -> Vec<(&'d String, &'d Rule)> {
        if let Some(exact) = document.tools.get_key_value(tool) {
            return vec![exact];
        }
        let literal = |key: &str| key.chars().filter(|c| *c != '*' && *c != '?').count();
        let matching: Vec<_> = document.tools.iter().filter(|(key, _)| Self::matches(key, tool)).collect();
        let best = matching.iter().map(|(key, _)| literal(key)).max();
        matching.into_iter().filter(|(key, _)| Some(literal(key)) == best).collect()
    }

    /// Whether all policies admit the call; if so it is counted, and the counted places are given back.
    fn admits(&mut self, step: &Step, now: u64) -> Option<Vec<(usize, String, String)>> {
        let (_, tool, n, session, _) = step;
        let mut places: BTreeMap<(usize, String, String), (u64, u64)> = BTreeMap::new();
        for (i, document) in self.documents.iter().enumerate() {
            if document.hide.iter().any(|hidden| Self::matches(hidden, tool)) {
                return None;
            }
            let entries = Self::entries(document, tool);
            if entries.is_empty() && document.default == DefaultAction::Deny {
                return None;
            }
            let all = "allTools".to_owned();
            for (key, rule) in entries.into_iter().chain(document.all_tools.iter().map(|rule| (&all, rule))) {
                if rule.action != Action::Allow {
                    return None;
                }
                let short = rule.rate_limit.iter().map(|short| (format!("{key}_rate"), &short.window, short.max, Scope::Session));
                let long = rule.limits.iter().map(|limit| (limit.counter.clone(), &limit.window, limit.max.as_u64().unwrap(), limit.scope));
                for (counter, window, max, scope) in long.chain(short) {
                    let who = match (scope, session) {
                        (Scope::Server, _) => "everybody".to_owned(),
                        (Scope::Session, Some(session)) => format!("session {session}"),
                        _ => format!("caller {n}"),
                    };
                    places.insert((i, counter, who), (window.seconds().unwrap(), max));
                }
            }
        }
        let fits = places.iter().all(|(place, (window, max))| {
            let recent = self.calls.get(place).map_or(0, |times| times.iter().filter(|time| now - **time < *window).count());
            (recent as u64) < *max
        });
        fits.then(|| {
            for place in places.keys() {
                self.calls.entry(place.clone()).or_default().push(now);
            }
            places.into_keys().collect()
        })
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    /// With it, no interval of a window sees more than `max`, and a refund gives back exactly what was taken.
    #[test]
    fn the_engine_agrees_with_the_obvious_reading(documents in prop::collection::vec(document(), 1..3), steps in steps()) {
        let told = run(&Policies::new(compiled(&documents)), &steps);
        let mut reference = Reference { documents: &documents, calls: HashMap::new() };
        let mut now = 0;
        for (step, told) in steps.iter().zip(told) {
            now += step.0;
            let places = reference.admits(step, now);
            prop_assert_eq!(told.0 == Code::Allowed, places.is_some(), "{:?} at {}", step, now);
            if step.4 {
                for place in places.into_iter().flatten() {
                    reference.calls.get_mut(&place).unwrap().pop();
                }
            }
        }
    }

    #[test]
    fn adding_a_policy_never_allows_more(documents in prop::collection::vec(document(), 0..3), added in document(), tool in "[ab]{1,2}") {
        let call = |documents: &[Document]| run(&Policies::new(compiled(documents)), &[(0, tool.clone(), 0, None, false)])[0].0;
        let before = call(&documents);
        let after = call(&[documents, vec![added]].concat());
        prop_assert!(after != Code::Allowed || before == Code::Allowed || before == Code::NoPolicy);
    }

    #[test]
    fn the_order_of_policies_never_matters(documents in prop::collection::vec(document(), 2..4), steps in steps()) {
        let forwards = compiled(&documents);
        let backwards = forwards.iter().rev().cloned().collect();
        prop_assert_eq!(run(&Policies::new(forwards), &steps), run(&Policies::new(backwards), &steps));
    }

    #[test]
    fn what_is_listed_is_what_no_rule_refuses(documents in prop::collection::vec(document(), 1..3), tool in "[ab]{1,2}") {
        let policies = Policies::new(compiled(&documents));
        let code = run(&policies, &[(0, tool.clone(), 0, None, false)])[0].0;
        prop_assert_eq!(policies.lists(&caller(0), &tool), matches!(code, Code::Allowed | Code::LimitExceeded));
    }

    #[test]
    fn a_refused_call_passes_after_the_seconds_that_it_was_told(document in document(), steps in steps()) {
        let policies = Policies::new(compiled(std::slice::from_ref(&document)));
        let mut counters = Counters::default();
        let mut now = 0;
        for (after, tool, n, session, _) in &steps {
            now += after;
            let session = session.map(|session| session.to_string());
            let call = Call { tool, arguments: "", caller: &caller(*n), session: session.as_deref(), server: SERVER };
            if let Decision::Refused(refusal) = policies.decide(&mut counters, &call, Duration::from_secs(now)).decision
                && let Some(wait) = refusal.retry_after_seconds
            {
                prop_assert!(wait > 0);
                let early = policies.decide(&mut counters, &call, Duration::from_millis((now + wait) * 1000 - 1)).decision;
                prop_assert!(matches!(early, Decision::Refused(_)), "passed before the time it was told");
                now += wait;
                let retry = policies.decide(&mut counters, &call, Duration::from_secs(now)).decision;
                prop_assert!(matches!(retry, Decision::Allowed(_)), "refused after the time it was told");
            }
        }
    }

    #[test]
    fn what_is_printed_reads_back_and_decides_the_same(document in document(), steps in steps()) {
        let again = read::document(&serde_json::to_value(&document).unwrap()).unwrap();
        prop_assert_eq!(&again, &document);
        prop_assert_eq!(run(&Policies::new(compiled(&[again])), &steps), run(&Policies::new(compiled(&[document])), &steps));
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "(tools|limits|window|: |\\{|\\}|\\[|\\]|\n|  |- |\\*|&a|\"|1|null|deny){0,30}") {
        if let Ok(manifests) = read::file("p.yaml", &text) {
            for manifest in manifests {
                let _ = compile(manifest.id, &manifest.document);
            }
        }
    }
}
