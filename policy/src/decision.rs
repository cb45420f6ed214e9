//! What the engine answers: a [`Decision`] with a closed set of [`Code`]s, whose strings are API (metrics, audit lines,
//! denials).

use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::compiled::Policy;
use crate::document::Shown;
use crate::limit::Reservation;
use crate::policy_id::PolicyId;

/// Why a call was decided as it was. The strings are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Code {
    /// Forwarded.
    Allowed,
    /// The tool does not exist for this caller.
    Hidden,
    /// No entry matches, and the default is `deny`.
    DefaultDeny,
    /// The entry's action is `deny`.
    ToolDenied,
    /// The arguments are not what the rule demands as a whole, or an amount cannot be counted.
    ArgumentsInvalid,
    /// A condition of `require` does not hold.
    RequireFailed,
    /// All conditions of an entry of `denyIf` hold.
    DenyIf,
    /// A condition could not be decided.
    PolicyError,
    /// Denied by `methods`.
    MethodDenied,
    /// A counter is full.
    LimitExceeded,
    /// The call waits for a person.
    ApprovalRequired,
    /// A person said no.
    ApprovalDenied,
    /// The shared counter store cannot tell what is used, and the limit says `deny`.
    StoreUnavailable,
    /// The call cannot be written into the audit log, and a policy says `deny`.
    AuditUnavailable,
    /// No policy is in force.
    NoPolicy,
    /// The caller proved nothing, where callers prove who they are.
    Unauthenticated,
    /// Refused before any rule.
    Malformed,
    /// Allowed, and the server could not be reached or gave no usable answer.
    UpstreamUnreachable,
}

impl Code {
    /// The code as metrics, audit lines and denials show it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Hidden => "hidden",
            Self::DefaultDeny => "default_deny",
            Self::ToolDenied => "tool_denied",
            Self::ArgumentsInvalid => "arguments_invalid",
            Self::RequireFailed => "require_failed",
            Self::DenyIf => "deny_if",
            Self::PolicyError => "policy_error",
            Self::MethodDenied => "method_denied",
            Self::LimitExceeded => "limit_exceeded",
            Self::ApprovalRequired => "approval_required",
            Self::ApprovalDenied => "approval_denied",
            Self::StoreUnavailable => "store_unavailable",
            Self::AuditUnavailable => "audit_unavailable",
            Self::NoPolicy => "no_policy",
            Self::Unauthenticated => "unauthenticated",
            Self::Malformed => "malformed",
            Self::UpstreamUnreachable => "upstream_unreachable",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is to be done with a call, and what policies in audit mode would have done.
#[derive(Debug)]
pub struct Outcome {
    /// What is to be done.
    pub decision: Decision,
    /// What each policy in audit mode says, by namespace and name.
    pub audited: Vec<Audited>,
}

/// What a policy in audit mode would have said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audited {
    /// The policy.
    pub policy: PolicyId,
    /// Its verdict.
    pub code: Code,
    /// JSON pointer (RFC 6901) to the field that would have refused; none if nothing would have.
    pub rule: Option<String>,
    /// The counter that is full, with [`Code::LimitExceeded`], or not known, with [`Code::StoreUnavailable`].
    pub counter: Option<Arc<str>>,
}

/// What is to be done with a call.
#[derive(Debug)]
pub enum Decision {
    /// Forward it, then settle the reservation.
    Allowed(Allowed),
    /// Answer it; the server must not see it.
    Refused(Refusal),
}

/// An allowed call: which rule allowed it, and what it reserved.
#[derive(Debug)]
pub struct Allowed {
    /// The first policy in force, by namespace and name; none if all of them are in audit mode.
    pub policy: Option<PolicyId>,
    /// JSON pointer (RFC 6901) to that policy's rule: `/tools/<key>` or `/default`.
    pub rule: Option<String>,
    /// The counters of scope `session` that counted the call by its caller, since it belongs to no session. Empty in a session.
    pub without_session: Vec<(PolicyId, Arc<str>)>,
    /// What the call took from its counters. Give it to [`crate::Counters::refund`] if the tool certainly did not run.
    pub reservation: Reservation,
}

/// A refused call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub code: Code,
    /// The policy that refused; none with [`Code::NoPolicy`] where no policy is in force.
    pub policy: Option<PolicyId>,
    /// JSON pointer (RFC 6901) into the policy's document, to the deepest field that refused.
    pub rule: Option<String>,
    /// The policy author's words for the agent.
    pub reason: Option<String>,
    /// The counter that is full, with [`Code::LimitExceeded`], or not known, with [`Code::StoreUnavailable`].
    pub counter: Option<Arc<str>>,
    /// Whole seconds, rounded up, after which a retry can succeed; none if no retry ever can.
    pub retry_after_seconds: Option<u64>,
    /// What would let the very call pass, with [`Code::ApprovalRequired`]: who forgets to ask refuses.
    pub waits_for: Option<Box<Approvals>>,
}

/// The approvals that a call waits for. With all of them it is decided anew: [`crate::Judged::approved`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approvals {
    /// What is approved: SHA-256 in hex of the call's arguments in canonical form ([`crate::value::Value::canonical`]).
    pub arguments_sha256: String,
    /// One for each policy that asks, by namespace and name.
    pub needed: Vec<ApprovalNeeded>,
}

/// What one policy asks a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApprovalNeeded {
    /// The policy.
    pub policy: PolicyId,
    /// JSON pointer (RFC 6901) to the field that asks.
    pub rule: String,
    /// The policy author's words.
    pub reason: Option<String>,
    /// For how long a person is asked.
    pub timeout_seconds: u64,
    /// What people see of the arguments.
    pub shown: Shown,
    /// For how long the call is held open meanwhile; 0: not at all.
    pub wait_seconds: u64,
}

impl Approvals {
    /// For how long the call is held open while people are asked: as long as any policy that asks says.
    #[must_use]
    pub fn wait_seconds(&self) -> u64 {
        self.needed.iter().map(|needed| needed.wait_seconds).max().unwrap_or(0)
    }
}

impl Refusal {
    /// A refusal that no rule of a policy spoke.
    #[must_use]
    pub fn of(code: Code) -> Self {
        Self { code, policy: None, rule: None, reason: None, counter: None, retry_after_seconds: None, waits_for: None }
    }

    /// `pointer` is empty where no field refused.
    pub(crate) fn by(policy: &Policy, code: Code, pointer: String, reason: Option<&str>) -> Self {
        Self {
            policy: Some(policy.id.clone()),
            rule: (!pointer.is_empty()).then_some(pointer),
            reason: reason.map(str::to_owned),
            ..Self::of(code)
        }
    }
}
