//! Calls that wait for people: whether one may pass is asked of the operator, each time anew.
//!
//! Guarantee: nothing is remembered here, so nothing is ever allowed by an approval that was used, changed or forgotten. No answer is
//! no approval.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use http_body_util::{BodyExt, Limited};
use mcp_policy::approval::{ApprovalAnswer, ApprovalRequest, Needed};
use mcp_policy::document::Shown;
use mcp_policy::url::is_url;
use mcp_policy::{ApprovalNeeded, Approvals, Call};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout};

use crate::config::OperatorSource;
use crate::message::ToolCall;
use crate::source::operator::client;
use crate::state::Enforced;

/// From the question to the end of the answer.
const PATIENCE: Duration = Duration::from_secs(12);
/// For how long one answer may be put off: who waits longer asks again, perhaps another replica.
const PUT_OFF: Duration = Duration::from_secs(5);
const HALF: Duration = Duration::from_millis(500);
/// The least time between two questions.
const BACK_OFF: Duration = Duration::from_secs(1);
/// Calls that are held open at one time; any more are answered at once.
const HELD: usize = 64;
/// Longer arguments are shown by their names only.
const MAX_SHOWN: usize = 16 * 1024;
/// Names and a person's words.
const MAX_ANSWER: usize = 16 * 1024;

/// Where people are asked.
#[derive(Debug)]
pub struct Desk {
    operator: OperatorSource,
    room: Arc<Semaphore>,
}

impl Desk {
    /// Asks this operator.
    #[must_use]
    pub fn new(operator: OperatorSource) -> Self {
        Self { operator, room: Arc::new(Semaphore::new(HELD)) }
    }

    /// Whether the call may pass now. If it may, its approvals are used up.
    pub async fn ask(&self, question: &ApprovalRequest) -> ApprovalAnswer {
        self.post(question).await.unwrap_or_else(|error| {
            tracing::warn!(error, "the operator could not be asked about an approval; the call does not pass");
            ApprovalAnswer::NotAsked { why: "the operator could not be reached".to_owned() }
        })
    }

    /// As [`Desk::ask`], once people have spoken; none if they have not until `end`.
    pub async fn wait(&self, question: &ApprovalRequest, end: Instant) -> Option<ApprovalAnswer> {
        let mut question = question.clone();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            // In whole seconds; what is less than half of one is not worth a question.
            question.wait_seconds = left.saturating_add(HALF).min(PUT_OFF).as_secs();
            if question.wait_seconds == 0 {
                return None;
            }
            let asked = Instant::now();
            match self.post(&question).await {
                Ok(ApprovalAnswer::Waiting { .. }) => {}
                Ok(answer) => return Some(answer),
                Err(error) => tracing::warn!(error, "the operator could not be asked about an approval; trying again"),
            }
            // An operator that has no room, or ends, does not put its answer off.
            sleep_until(end.min(asked + BACK_OFF)).await;
        }
    }

    /// Room for a call that is held open; none if there are enough.
    #[must_use]
    pub fn room(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.room).try_acquire_owned().ok()
    }

    async fn post(&self, question: &ApprovalRequest) -> Result<ApprovalAnswer, String> {
        let json = serde_json::to_vec(question).map_err(|error| error.to_string())?;
        let answer = async {
            let response =
                client::request(&self.operator, Method::POST, "/v1/approvals", Some(json)).await.map_err(|error| error.to_string())?;
            let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(|error| error.to_string())?;
            serde_json::from_slice(&body.to_bytes()).map_err(|error| error.to_string())
        };
        timeout(PATIENCE, answer).await.map_err(|_| "no answer in time".to_owned())?.map(without_other_pages)
    }
}

/// Clients send their users to pages, so only to ones that are what they say.
fn without_other_pages(mut answer: ApprovalAnswer) -> ApprovalAnswer {
    if let ApprovalAnswer::Waiting { approval } = &mut answer
        && approval.url.take_if(|url| !is_url(url, &["https"], &[])).is_some()
    {
        tracing::warn!("the operator named a page for an approval that is no https URL; nobody is sent there");
    }
    answer
}

/// What the operator is asked about a call.
#[must_use]
pub fn question(call: &Call<'_>, tool_call: &ToolCall, approvals: &Approvals, enforced: &Enforced) -> ApprovalRequest {
    ApprovalRequest {
        caller: call.caller.to_string(),
        tool: call.tool.to_owned(),
        arguments_sha256: approvals.arguments_sha256.clone(),
        needed: approvals.needed.iter().map(|needed| self::needed(needed, call.arguments, tool_call, enforced)).collect(),
        wait_seconds: 0,
    }
}

/// What one policy asks, as the operator is told.
fn needed(needed: &ApprovalNeeded, arguments: &str, call: &ToolCall, enforced: &Enforced) -> Needed {
    let ApprovalNeeded { policy, rule, reason, timeout_seconds, shown, wait_seconds: _ } = needed;
    Needed {
        namespace: policy.namespace().map(str::to_owned),
        name: policy.name().to_owned(),
        // Of a policy from the operator it is a generation. Of any other there is nobody to ask.
        generation: enforced.revision(policy).and_then(|one| one.revision.parse().ok()).unwrap_or(0),
        rule: rule.clone(),
        reason: reason.clone(),
        timeout_seconds: *timeout_seconds,
        argument_keys: if *shown == Shown::Digest { Vec::new() } else { call.argument_keys.clone() },
        arguments: (*shown == Shown::Values && arguments.len() <= MAX_SHOWN).then(|| arguments.to_owned()),
    }
}
