//! What a sidecar asks the operator about a call that waits for people. `POST /v1/approvals` takes one [`ApprovalRequest`] and answers
//! with one [`ApprovalAnswer`].
//!
//! One request does everything, so that nothing can happen between its parts: it finds the approvals or has them made, and if all of them
//! are given, uses them up. Of many sidecars that ask about the same call, exactly one is told that it may pass.

use serde::{Deserialize, Serialize};

use crate::policy_id::PolicyId;

/// A call that waits. What it says of the call is the sidecar's word; pod and policies are what the operator knows of its sender.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApprovalRequest {
    /// Who calls, by the stable name.
    pub caller: String,
    /// The tool.
    pub tool: String,
    /// SHA-256 in hex of the arguments in canonical form.
    pub arguments_sha256: String,
    /// One for each policy that asks.
    pub needed: Vec<Needed>,
    /// For how long the answer may be put off while people are asked; 0: not at all.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub wait_seconds: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What one policy asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Needed {
    /// Namespace of the policy; none of a cluster policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name of the policy.
    pub name: String,
    /// `metadata.generation` of the revision that asks.
    pub generation: i64,
    /// JSON pointer (RFC 6901) to the field that asks.
    pub rule: String,
    /// The policy author's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// For how long people are asked.
    pub timeout_seconds: u64,
    /// Names of the arguments, if the policy shows them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub argument_keys: Vec<String>,
    /// The arguments as sent, if the policy shows them and they are not too long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<String>,
}

impl Needed {
    /// The policy that asks.
    #[must_use]
    pub fn policy(&self) -> PolicyId {
        PolicyId::new(self.namespace.as_deref(), &self.name)
    }
}

/// What becomes of the call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum ApprovalAnswer {
    /// It passes, now and once: the approvals are used up.
    Granted,
    /// People were asked.
    Waiting {
        /// The `McpApproval` that is waited for.
        approval: ApprovalName,
    },
    /// A person said no.
    Denied {
        /// The `McpApproval` that says so.
        approval: ApprovalName,
        /// The person's words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// Nobody was asked.
    NotAsked {
        /// Why not, in words for the agent.
        why: String,
    },
}

/// Names an `McpApproval`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApprovalName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Seconds until it expires.
    pub seconds_left: u64,
    /// The page where people decide about it, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_says_its_state() {
        let approval = ApprovalName { namespace: "imaging".to_owned(), name: "a-1".to_owned(), seconds_left: 9, url: None };
        let name = json!({"namespace": "imaging", "name": "a-1", "secondsLeft": 9});
        let with_page = ApprovalName { url: Some("https://approvals/a-1".to_owned()), ..approval.clone() };
        let name_with_page = json!({"namespace": "imaging", "name": "a-1", "secondsLeft": 9, "url": "https://approvals/a-1"});
        for (answer, expected) in [
            (ApprovalAnswer::Granted, json!({"state": "granted"})),
            (ApprovalAnswer::Waiting { approval: approval.clone() }, json!({"state": "waiting", "approval": name})),
            (ApprovalAnswer::Waiting { approval: with_page }, json!({"state": "waiting", "approval": name_with_page})),
            (ApprovalAnswer::Denied { approval, reason: None }, json!({"state": "denied", "approval": name})),
            (ApprovalAnswer::NotAsked { why: "x".to_owned() }, json!({"state": "notAsked", "why": "x"})),
        ] {
            assert_eq!(serde_json::to_value(&answer).unwrap(), expected);
            assert_eq!(serde_json::from_value::<ApprovalAnswer>(expected).unwrap(), answer);
        }
    }
}
