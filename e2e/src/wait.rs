//! Waiting for a condition, with a deadline.

use std::{
    thread,
    time::{Duration, Instant},
};

/// Long enough for a pod to start on a machine with two busy cores.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Asks until there is an answer; fails with what was hoped for, and the last reason why not, after [`PATIENCE`].
pub fn until<T>(hope: &str, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(why) if Instant::now() > deadline => panic!("{hope}: not within {PATIENCE:?}; last seen: {why}"),
            Err(_) => thread::sleep(Duration::from_millis(200)),
        }
    }
}

/// Asks until the condition holds.
pub fn until_true(hope: &str, mut ask: impl FnMut() -> bool) {
    until(hope, || if ask() { Ok(()) } else { Err("no".into()) });
}
