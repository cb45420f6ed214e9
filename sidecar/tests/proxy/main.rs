//! The proxy on real sockets: calls, their answers, policies that change, and what is written down of all that. What the rules of the
//! protocol demand is in the tests of the same name.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod answers;
mod books;
mod calls;
mod policies;

use serde_json::{Value, json};

const EXPORT: &str = "start_dicom_export_job";

/// Ten calls a minute to one tool, and nothing else.
fn imaging() -> Value {
    limited(10)
}

fn limited(max: u64) -> Value {
    json!({"version": "1", "default": "deny", "tools": {
        EXPORT: {"limits": [{"counter": "start_dicom_export_job_rate", "window": "minute", "max": max, "scope": "grant"}]}}})
}

fn initialize() -> Value {
    json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}})
}
