//! Waiting for a condition, with a deadline.

use std::thread;
use std::time::{Duration, Instant};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Asks until there is an answer; fails with what was hoped for, and the last reason why not, when `patience` is over.
pub fn within<T>(patience: Duration, hope: &str, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(why) if Instant::now() > deadline => panic!("{hope}: not within {patience:?}; last seen: {why}"),
            Err(_) => thread::sleep(PAUSE),
        }
    }
}
