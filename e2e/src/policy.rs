//! What policies of either kind have in common.

use serde_json::Value;

use crate::wait::until;

/// Waits until the operator has said this of the policy's present generation; gives the condition's message.
pub fn until_condition(name: &str, condition: &str, status: &str, get: impl Fn() -> Value) -> String {
    until(&format!("policy {name} has {condition}={status}"), || {
        let policy = get();
        let generation = &policy["metadata"]["generation"];
        let conditions = policy["status"]["conditions"].as_array().into_iter().flatten();
        conditions
            .filter(|entry| entry["type"] == condition && entry["status"] == status && entry["observedGeneration"] == *generation)
            .map(|entry| entry["message"].as_str().unwrap_or_default().to_owned())
            .next()
            .ok_or_else(|| format!("generation {generation}, status {}", policy["status"]))
    })
}
