//! A decision as fields with names, as tests compare them and machines read them.

use mcp_policy::{Audited, Code, Decision, MethodOutcome, Outcome, Refusal};
use serde_json::{Map, Value, json};

/// A decision, field by field.
pub fn decision(outcome: &Outcome) -> Map<String, Value> {
    let fields = match &outcome.decision {
        Decision::Allowed(allowed) => json!({
            "code": "allowed",
            "policy": allowed.policy.as_ref().map(ToString::to_string),
            "rule": allowed.rule,
            "reason": null,
            "counter": null,
            "retryAfterSeconds": null,
            "audited": audited(&outcome.audited),
        }),
        Decision::Refused(refusal) => refused(refusal, &outcome.audited),
    };
    members(fields)
}

/// What the sidecar says of a message that it cannot read in one way only, field by field.
pub fn malformed() -> Map<String, Value> {
    members(refused(&Refusal::of(Code::Malformed), &[]))
}

/// The decision on a method, field by field.
pub fn method(outcome: &MethodOutcome) -> Map<String, Value> {
    members(match &outcome.refusal {
        Some(refusal) => refused(refusal, &outcome.audited),
        None => json!({
            "code": "allowed",
            "policy": null,
            "rule": null,
            "reason": null,
            "counter": null,
            "retryAfterSeconds": null,
            "audited": audited(&outcome.audited),
        }),
    })
}

fn refused(refusal: &Refusal, audits: &[Audited]) -> Value {
    json!({
        "code": refusal.code,
        "policy": refusal.policy.as_ref().map(ToString::to_string),
        "rule": refusal.rule,
        "reason": refusal.reason,
        "counter": refusal.counter.as_deref(),
        "retryAfterSeconds": refusal.retry_after_seconds,
        "audited": audited(audits),
    })
}

fn audited(audits: &[Audited]) -> Map<String, Value> {
    audits.iter().map(|audited| (audited.policy.to_string(), json!(audited.code))).collect()
}

fn members(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}
