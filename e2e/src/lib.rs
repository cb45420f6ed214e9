//! The product on a real cluster: what the end-to-end tests in `tests/` share.
//!
//! Everything is driven from outside, as a person would: `kubectl`, `helm`, and clients written with official MCP SDKs, all of them
//! child processes. Each test has a namespace of its own. Nothing waits for a time to pass; everything waits for a condition.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    clippy::print_stderr,
    reason = "helpers of tests: whatever goes wrong fails the test"
)]
#![allow(clippy::must_use_candidate, reason = "helpers of tests: nobody depends on them")]

pub use mcp_policy_interop::client;

pub mod cli;
pub mod cluster;
pub mod cluster_policy;
pub mod forward;
pub mod issuer;
pub mod metrics;
pub mod net;
pub mod pod;
pub mod policy;
pub mod sandbox;
pub mod table;
pub mod traffic;
pub mod wait;
pub mod wire;
