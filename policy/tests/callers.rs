//! The laws of `from`, on generated policies and callers: the engine agrees with the obvious reading, which shares nothing with it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use mcp_policy::caller_match::{CallerKind, CallerMatch};
use mcp_policy::{Call, Caller, Code, Counters, Decision, Document, Mode, Policies, PolicyId, ServerName, compile_resource};
use proptest::prelude::*;
use serde_json::{Value, json};

/// A policy: what it says of the tools `a` and `b`, and whom it speaks about.
type Generated = (Document, Option<Vec<CallerMatch>>);

fn text() -> impl Strategy<Value = String> {
    "[ab]{1,2}"
}

fn pattern() -> impl Strategy<Value = String> {
    "[ab*?]{1,2}"
}

fn claim() -> impl Strategy<Value = Value> {
    prop_oneof![text().prop_map(Value::from), (0..2).prop_map(Value::from), prop::collection::vec(text(), 0..3).prop_map(Value::from)]
}

fn caller() -> impl Strategy<Value = Caller> {
    let claims = prop::collection::btree_map("[ab]", claim(), 0..3);
    prop_oneof![
        (0u8..4).prop_map(|last| Caller::anonymous([10, 0, 0, last].into())),
        text().prop_map(|name| Caller::Key { name }),
        (text(), text()).prop_map(|(namespace, name)| Caller::ServiceAccount { namespace, name }),
        (text(), text(), claims).prop_map(|(issuer, subject, claims)| {
            let claims = Arc::new(claims.into_iter().collect());
            Caller::Jwt { issuer, subject, claims }
        }),
    ]
}

fn entry() -> impl Strategy<Value = CallerMatch> {
    let some = || prop::option::of(pattern());
    let wanted = prop_oneof![pattern().prop_map(Value::from), (0..2).prop_map(Value::from)];
    let entry = prop_oneof![
        prop::option::of((0u8..4, 30u8..=32)).prop_map(|range| match range {
            // The bits behind the prefix are zero.
            Some((last, bits)) => json!({"kind": "anonymous", "address": format!("10.0.0.{}/{bits}", last >> (32 - bits) << (32 - bits))}),
            None => json!({"kind": "anonymous"}),
        }),
        some().prop_map(|name| json!({"kind": "key", "name": name})),
        (pattern(), some()).prop_map(|(namespace, name)| json!({"kind": "serviceAccount", "namespace": namespace, "name": name})),
        (pattern(), some(), prop::collection::btree_map("[ab]", wanted, 0..2))
            .prop_map(|(issuer, subject, claims)| json!({"kind": "jwt", "issuer": issuer, "subject": subject, "claims": claims})),
    ];
    entry.prop_map(|entry| serde_json::from_value(entry).unwrap())
}

fn policy() -> impl Strategy<Value = Generated> {
    let action = || prop::sample::select(vec!["allow", "allow", "deny", "hide"]);
    let document =
        (action(), action()).prop_map(|(a, b)| serde_json::from_value(json!({"tools": {"a": {"action": a}, "b": {"action": b}}})).unwrap());
    (document, prop::option::weighted(0.7, prop::collection::vec(entry(), 0..3)))
}

fn matches(pattern: &str, text: &str) -> bool {
    match (pattern.chars().next(), text.chars().next()) {
        (None, None) => true,
        (Some('*'), _) => matches(&pattern[1..], text) || (!text.is_empty() && matches(pattern, &text[1..])),
        (Some('?'), Some(_)) => matches(&pattern[1..], &text[1..]),
        (Some(a), Some(b)) => a == b && matches(&pattern[1..], &text[1..]),
        _ => false,
    }
}

fn is_claimed(wanted: &Value, claimed: &Value) -> bool {
    match (wanted, claimed) {
        (_, Value::Array(elements)) => elements.iter().any(|element| is_claimed(wanted, element)),
        (Value::String(pattern), Value::String(text)) => matches(pattern, text),
        _ => wanted == claimed,
    }
}

/// The obvious reading of one entry.
fn speaks_of(entry: &CallerMatch, caller: &Caller) -> bool {
    let is = |pattern: &Option<String>, text: &str| pattern.as_ref().is_none_or(|pattern| matches(pattern, text));
    match (entry.kind, caller) {
        (CallerKind::Key, Caller::Key { name }) => is(&entry.name, name),
        (CallerKind::ServiceAccount, Caller::ServiceAccount { namespace, name }) => {
            is(&entry.namespace, namespace) && is(&entry.name, name)
        }
        (CallerKind::Jwt, Caller::Jwt { issuer, subject, claims }) => {
            let claims = entry.claims.iter().all(|(name, wanted)| claims.get(name).is_some_and(|claimed| is_claimed(wanted, claimed)));
            is(&entry.issuer, issuer) && is(&entry.subject, subject) && claims
        }
        (CallerKind::Anonymous, Caller::Anonymous { address }) => entry.address.as_ref().is_none_or(|range| {
            let (network, bits) = range.split_once('/').unwrap();
            let last = |text: &str| text.rsplit('.').next().unwrap().parse::<u8>().unwrap();
            let shift = 32 - bits.parse::<u32>().unwrap();
            last(network) >> shift == last(&address.to_string()) >> shift
        }),
        _ => false,
    }
}

fn compiled<'a>(policies: impl Iterator<Item = (&'a Document, Option<&'a [CallerMatch]>)>) -> Policies {
    let compile = |(n, (document, from)): (usize, (&Document, Option<&[CallerMatch]>))| {
        compile_resource(PolicyId::new(Some("ns"), &format!("p{n}")), from, Mode::Enforce, document).unwrap()
    };
    Policies::new(policies.enumerate().map(compile).collect())
}

fn all(policies: &[Generated]) -> Policies {
    compiled(policies.iter().map(|(document, from)| (document, from.as_deref())))
}

fn code(policies: &Policies, caller: &Caller, tool: &str) -> Code {
    let server = ServerName { namespace: "ns", name: "server-0" };
    let call = Call { tool, arguments: "", caller, session: None, server };
    match policies.decide(&mut Counters::default(), &call, Duration::ZERO).decision {
        Decision::Allowed(_) => Code::Allowed,
        Decision::Refused(refusal) => refusal.code,
    }
}

proptest! {
    /// A policy that does not speak about a caller is as if it were not there; and who proves nothing where callers prove is let in
    /// only where an entry says so.
    #[test]
    fn the_engine_agrees_with_the_obvious_reading(
        policies in prop::collection::vec(policy(), 0..4), caller in caller(), tool in "[ab]", prove in any::<bool>(),
    ) {
        let engine = if prove { all(&policies).with_callers_that_prove() } else { all(&policies) };
        let names = |from: &Vec<CallerMatch>| from.iter().any(|entry| speaks_of(entry, &caller));
        let in_force = || policies.iter().filter(|(_, from)| from.as_ref().is_none_or(names));
        let is_named = policies.iter().any(|(_, from)| from.as_ref().is_some_and(names));
        let expected = if prove && caller.is_anonymous() && !is_named {
            Code::Unauthenticated
        } else if in_force().next().is_none() {
            Code::NoPolicy
        } else {
            code(&compiled(in_force().map(|(document, _)| (document, None))), &caller, &tool)
        };
        prop_assert_eq!(code(&engine, &caller, &tool), expected);
        prop_assert_eq!(engine.lists(&caller, &tool), expected == Code::Allowed);
        let is_shut_out = matches!(expected, Code::Unauthenticated | Code::NoPolicy);
        prop_assert_eq!(engine.shut_out(&caller).map(|refusal| refusal.code), is_shut_out.then_some(expected));
        prop_assert_eq!(engine.in_force(&caller), !is_shut_out);
    }

    #[test]
    fn to_ask_for_proofs_never_allows_more(policies in prop::collection::vec(policy(), 0..4), caller in caller(), tool in "[ab]") {
        let before = code(&all(&policies), &caller, &tool);
        let after = code(&all(&policies).with_callers_that_prove(), &caller, &tool);
        prop_assert!(after == before || (after == Code::Unauthenticated && caller.is_anonymous()));
    }

    #[test]
    fn the_order_of_entries_and_policies_never_matters(
        policies in prop::collection::vec(policy(), 0..4), caller in caller(), tool in "[ab]",
    ) {
        let mut turned = policies.clone();
        turned.reverse();
        turned.iter_mut().flat_map(|(_, from)| from).for_each(|from| from.reverse());
        prop_assert_eq!(code(&all(&turned), &caller, &tool), code(&all(&policies), &caller, &tool));
    }
}
