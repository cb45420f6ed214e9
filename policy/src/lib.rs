//! The mcp-policy language: a [`Document`] is what people write, a [`Policy`] is what [`compile()`] made of it, and
//! [`Policies::decide`] answers a [`Call`] with a [`Decision`].
//!
//! Guarantees: the same inputs give the same output. No I/O, no clock, no randomness, no Kubernetes; time and counters are
//! arguments. No input panics. A [`Policy`] cannot be invalid: only [`compile()`] makes one, and it is the same function in the
//! operator that accepts a policy, in the sidecar that enforces it, and in the command line that checks it.
//!
//! The line that refuses a call is in [`Policies::decide`].

mod caller;
mod compile;
mod decide;
mod decision;
pub mod document;
mod limit;
mod pattern;
mod policy_id;
pub mod read;
pub mod resource;
pub mod snapshot;

pub use caller::Caller;
pub use compile::{CompileError, CompileErrors, Policy, compile};
pub use decide::{Call, CounterUsage, Policies};
pub use decision::{Allowed, Code, Decision, Refusal};
pub use document::Document;
pub use limit::{Counters, Reservation};
pub use policy_id::PolicyId;
pub use resource::{PolicySpec, Server};
pub use snapshot::Snapshot;
