//! The sidecar between servers and clients that others wrote.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    missing_docs,
    reason = "helpers of tests: whatever goes wrong fails the test, and nobody depends on them"
)]

pub mod client;
pub mod conformance;
pub mod fixture;
pub mod golden;
pub mod prepared;
pub mod recorder;
pub mod server;
pub mod sidecar;
pub mod wait;
pub mod wire;
