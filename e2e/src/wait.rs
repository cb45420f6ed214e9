//! Waiting for a condition, with a deadline.

use std::time::Duration;

use mcp_policy_interop::wait::within;

/// Long enough for a pod to start on a machine with two busy cores.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Asks until there is an answer; fails with what was hoped for, and the last reason why not, after [`PATIENCE`].
pub fn until<T>(hope: &str, ask: impl FnMut() -> Result<T, String>) -> T {
    within(PATIENCE, hope, ask)
}

/// Asks until the condition holds.
pub fn until_true(hope: &str, mut ask: impl FnMut() -> bool) {
    until(hope, || if ask() { Ok(()) } else { Err("no".into()) });
}
