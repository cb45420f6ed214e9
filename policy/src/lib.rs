//! The mcp-policy language: a [`Document`] is what people write, a [`Policy`] is what [`compile()`] made of it, and
//! [`Policies::decide`] answers a [`Call`] with a [`Decision`].
//!
//! Guarantees: the same inputs give the same output. No I/O, no clock, no randomness, no Kubernetes; time and counters are
//! arguments. No input panics. A [`Policy`] cannot be invalid: only [`compile()`] makes one, and it is the same function in the
//! operator that accepts a policy, in the sidecar that enforces it, and in the command line that checks it.
//!
//! The lines that refuse a call are in `judge.rs` (rules) and `decide.rs` (counters).

pub mod approval;
pub mod authentication;
mod call;
mod caller;
pub mod caller_match;
mod cel;
mod compile;
mod compiled;
mod condition;
mod coverage;
mod decide;
mod decision;
pub mod document;
mod facts;
pub mod json;
mod judge;
pub mod key;
mod limit;
pub mod lookalike;
pub mod method;
pub mod number;
mod path;
mod pattern;
mod pointer;
mod policy_id;
pub mod read;
mod regexp;
mod reserve;
pub mod resource;
mod schema;
pub mod snapshot;
pub mod token_review;
mod trace;
mod truth;
pub mod url;
pub mod value;
mod whom;

pub use call::Call;
pub use caller::Caller;
pub use compile::error::{CompileError, CompileErrors};
pub use compile::{compile, compile_resource};
pub use compiled::Policy;
pub use coverage::Point;
pub use decide::{CounterUsage, Judged, MethodOutcome, Policies};
pub use decision::{Allowed, ApprovalNeeded, Approvals, Audited, Code, Decision, Outcome, Refusal};
pub use document::Document;
pub use facts::ServerName;
pub use limit::{Counters, Reservation};
pub use policy_id::PolicyId;
pub use reserve::{Found, Want};
pub use resource::{ClusterPolicySpec, Mode, PolicySpec, Rollout, Server};
pub use snapshot::Snapshot;
pub use trace::{Step, Verdict};
