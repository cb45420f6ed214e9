//! One rule, asked about one call. Deciding twice says the same.

use std::time::Duration;

use mcp_policy::{Call, Caller, Counters, Decision, Policies, PolicyId, ServerName, compile, read};
use serde_json::{Value, json};

/// Arguments of many shapes.
#[allow(dead_code, reason = "not every target has fixed arguments")]
pub const SHAPES: &str = r#"{"a": {"b": [1, "x", null, {"c": true}]}, "s": "text", "n": 12.5, "huge": 9007199254740993, "l": [[], {}, "é"], "": {"": 0}}"#;

/// Decides a call under this rule, if it compiles.
pub fn decide(rule: &Value, arguments: &str) {
    let Ok(document) = read::document(&json!({"tools": {"t": rule}})) else { return };
    let Ok(policy) = compile(PolicyId::new(None, "p"), &document) else { return };
    let policies = Policies::new(vec![policy]);
    let caller = Caller::anonymous([10, 0, 0, 1].into());
    let server = ServerName { namespace: "ns", name: "server-0" };
    let call = Call { tool: "t", arguments, caller: &caller, session: None, server };
    let told = || match policies.decide(&mut Counters::default(), &call, Duration::ZERO).decision {
        Decision::Allowed(_) => None,
        Decision::Refused(refusal) => Some(refusal),
    };
    assert_eq!(told(), told());
}
