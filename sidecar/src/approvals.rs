//! Calls that wait for people: whether one may pass is asked of the operator, each time anew.
//!
//! Guarantee: nothing is remembered here, so nothing is ever allowed by an approval that was used, changed or forgotten. No answer is
//! no approval.

use std::time::Duration;

use http::Method;
use http_body_util::{BodyExt, Limited};
use mcp_policy::approval::{ApprovalAnswer, ApprovalRequest, Needed};
use mcp_policy::document::Shown;
use mcp_policy::{ApprovalNeeded, Approvals, Call};
use tokio::time::timeout;

use crate::config::OperatorSource;
use crate::message::ToolCall;
use crate::source::operator::client;
use crate::state::Enforced;

/// From the question to the end of the answer.
const PATIENCE: Duration = Duration::from_secs(12);
/// Longer arguments are shown by their names only.
const MAX_SHOWN: usize = 16 * 1024;
/// Names and a person's words.
const MAX_ANSWER: usize = 16 * 1024;

/// Where people are asked.
#[derive(Debug)]
pub struct Desk {
    operator: OperatorSource,
}

impl Desk {
    /// Asks this operator.
    #[must_use]
    pub fn new(operator: OperatorSource) -> Self {
        Self { operator }
    }

    /// Whether the call may pass now. If it may, its approvals are used up.
    pub async fn ask(&self, call: &Call<'_>, tool_call: &ToolCall, approvals: &Approvals, enforced: &Enforced) -> ApprovalAnswer {
        let request = ApprovalRequest {
            caller: call.caller.to_string(),
            tool: call.tool.to_owned(),
            arguments_sha256: approvals.arguments_sha256.clone(),
            needed: approvals.needed.iter().map(|needed| self::needed(needed, call.arguments, tool_call, enforced)).collect(),
        };
        match timeout(PATIENCE, self.post(&request)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                tracing::warn!(error, "the operator could not be asked about an approval; the call does not pass");
                not_answered()
            }
            Err(_) => {
                tracing::warn!("the operator did not answer about an approval in time; the call does not pass");
                not_answered()
            }
        }
    }

    async fn post(&self, request: &ApprovalRequest) -> Result<ApprovalAnswer, String> {
        let json = serde_json::to_vec(request).map_err(|error| error.to_string())?;
        let response =
            client::request(&self.operator, Method::POST, "/v1/approvals", Some(json)).await.map_err(|error| error.to_string())?;
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(|error| error.to_string())?;
        serde_json::from_slice(&body.to_bytes()).map_err(|error| error.to_string())
    }
}

fn not_answered() -> ApprovalAnswer {
    ApprovalAnswer::NotAsked { why: "the operator could not be reached".to_owned() }
}

/// What one policy asks, as the operator is told.
fn needed(needed: &ApprovalNeeded, arguments: &str, call: &ToolCall, enforced: &Enforced) -> Needed {
    let ApprovalNeeded { policy, rule, reason, timeout_seconds, shown } = needed;
    Needed {
        namespace: policy.namespace().map(str::to_owned),
        name: policy.name().to_owned(),
        // Of a policy from the operator it is a generation. Of any other there is nobody to ask.
        generation: enforced.revision(policy).and_then(|revision| revision.parse().ok()).unwrap_or(0),
        rule: rule.clone(),
        reason: reason.clone(),
        timeout_seconds: *timeout_seconds,
        argument_keys: if *shown == Shown::Digest { Vec::new() } else { call.argument_keys.clone() },
        arguments: (*shown == Shown::Values && arguments.len() <= MAX_SHOWN).then(|| arguments.to_owned()),
    }
}
