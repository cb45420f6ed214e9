//! The reference's sections on documents, patterns, several policies, the order of a decision and expressions, sentence by sentence.
//! Each test quotes what it shows. Conditions and limits have files of their own.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod approvals;
mod callers;
mod documents;
mod expressions;
mod fields;
mod order;
mod patterns;
mod several;

use std::time::Duration;

use mcp_policy::{Call, Caller, Counters, Decision, Policies, Policy, PolicyId, Refusal, ServerName, compile, read};
use serde_json::{Value, json};

/// A policy of this name in the namespace `ns`.
fn policy(name: &str, document: &Value) -> Policy {
    named(PolicyId::new(Some("ns"), name), document)
}

fn named(id: PolicyId, document: &Value) -> Policy {
    let read = read::document(document).unwrap_or_else(|error| panic!("{document}: {error}"));
    compile(id, &read).unwrap_or_else(|error| panic!("{document}: {error}"))
}

/// The policy `p` alone.
fn one(document: &Value) -> Policies {
    Policies::new(vec![policy("p", document)])
}

/// What is wrong with a document.
fn errors(document: &Value) -> String {
    match read::document(document) {
        Err(error) => error.to_string(),
        Ok(document) => {
            compile(PolicyId::new(Some("ns"), "p"), &document).map_or_else(|errors| errors.to_string(), |_| "nothing".to_owned())
        }
    }
}

/// What the policies decide of the first call of a server's life.
fn decide(policies: &Policies, tool: &str, arguments: &str) -> Decision {
    decide_with(policies, &mut Counters::default(), tool, arguments)
}

fn decide_with(policies: &Policies, counters: &mut Counters, tool: &str, arguments: &str) -> Decision {
    let caller = caller(1);
    let call = Call { tool, arguments, caller: &caller, session: None, server: ServerName { namespace: "ns", name: "server-0" } };
    policies.decide(counters, &call, Duration::ZERO).decision
}

fn caller(n: u8) -> Caller {
    Caller::anonymous([10, 0, 0, n].into())
}

fn refusal(decision: Decision) -> Refusal {
    match decision {
        Decision::Refused(refusal) => refusal,
        Decision::Allowed(allowed) => panic!("allowed by {:?}", allowed.rule),
    }
}

/// `code pointer` of a decision, `-` for none.
fn told(decision: Decision) -> String {
    match decision {
        Decision::Allowed(allowed) => format!("allowed {}", allowed.rule.as_deref().unwrap_or("-")),
        Decision::Refused(refusal) => format!("{} {}", refusal.code, refusal.rule.as_deref().unwrap_or("-")),
    }
}

/// A limit that nothing passes.
fn full(counter: &str) -> Value {
    json!([{"counter": counter, "window": "minute", "max": 0}])
}
