//! Pure: what state an approval is in, what it is called, and whether another may be asked for.

use std::collections::BTreeSet;

use k8s_openapi::jiff::Timestamp;
use mcp_policy::approval::{ApprovalRequest, Needed};
use mcp_policy::snapshot::hex_sha256;

use super::resource::{ApprovalSpec, ApprovalStatus, McpApproval, State, Verdict};

/// Approvals that one caller may have waiting under one policy.
pub const MAX_PENDING_OF_CALLER: usize = 20;
/// Approvals that may wait under one policy: callers without a name can be as many as there are addresses.
pub const MAX_PENDING_OF_POLICY: usize = 200;

/// The state of an approval. It follows from what people and operator have written, and from the time: never from the state that is
/// written for people to read.
#[must_use]
pub fn state(spec: &ApprovalSpec, status: Option<&ApprovalStatus>, now: Timestamp) -> State {
    if status.is_some_and(|status| status.used_at.is_some()) {
        return State::Used;
    }
    // A time that cannot be read has passed.
    if spec.expires_at().is_none_or(|expires| now >= expires) {
        return State::Expired;
    }
    if spec.decisions.iter().any(|decision| decision.verdict == Verdict::Denied) {
        return State::Denied;
    }
    let approvers: BTreeSet<_> = spec.decisions.iter().map(|decision| &decision.by).collect();
    if approvers.len() >= usize::from(spec.approvers.max(1)) { State::Approved } else { State::Pending }
}

/// The first part of the name of all approvals of a call: the same for the same caller, server, tool, arguments, policy, revision and
/// rule.
#[must_use]
pub fn base_name(server: &str, request: &ApprovalRequest, needed: &Needed) -> String {
    let ApprovalRequest { caller, tool, arguments_sha256, .. } = request;
    let Needed { namespace, name, generation, rule, .. } = needed;
    // An array of strings and numbers always prints, and no two print alike.
    let call = serde_json::json!([server, caller, tool, arguments_sha256, namespace, name, generation, rule]);
    hex_sha256(call.to_string().as_bytes())[..20].to_owned()
}

/// Whether an approval is of this very call. Its name says so in short; this in full.
#[must_use]
pub fn is_of(spec: &ApprovalSpec, server: &str, request: &ApprovalRequest, needed: &Needed) -> bool {
    let ApprovalRequest { caller, tool, arguments_sha256, .. } = request;
    let Needed { namespace, name, generation, rule, .. } = needed;
    spec.server == server
        && spec.caller == *caller
        && spec.tool == *tool
        && spec.arguments.sha256 == *arguments_sha256
        && spec.policy.namespace == *namespace
        && spec.policy.name == *name
        && spec.policy.generation == *generation
        && spec.policy.rule == *rule
}

/// Why nobody more is asked, if that is so, among all approvals of the namespace.
#[must_use]
pub fn too_many<'a>(
    approvals: impl Iterator<Item = &'a McpApproval>,
    request: &ApprovalRequest,
    needed: &Needed,
    now: Timestamp,
) -> Option<&'static str> {
    let (mut of_policy, mut of_caller) = (0, 0);
    for approval in approvals {
        let spec = &approval.spec;
        let same = spec.policy.namespace == needed.namespace && spec.policy.name == needed.name;
        if same && state(spec, approval.status.as_ref(), now) == State::Pending {
            of_policy += 1;
            of_caller += usize::from(spec.caller == request.caller);
        }
    }
    if of_caller >= MAX_PENDING_OF_CALLER {
        Some("too many calls of this caller wait for approval already")
    } else if of_policy >= MAX_PENDING_OF_POLICY {
        Some("too many calls wait for approval already")
    } else {
        None
    }
}

#[cfg(test)]
pub(super) mod tests;
