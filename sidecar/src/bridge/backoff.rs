//! When a server may be started again, after others ended sooner than anyone told them to.

use std::time::Duration;

use tokio::time::Instant;

/// A server that lived at least so long was one that works.
const SETTLED: Duration = Duration::from_secs(10);
const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(30);

/// The servers that ended of their own accord since the last that worked.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
    not_before: Option<Instant>,
}

impl Backoff {
    /// When the next server may be started: never earlier than `now`.
    #[must_use]
    pub fn not_before(&self, now: Instant) -> Instant {
        self.not_before.map_or(now, |not_before| not_before.max(now))
    }

    /// A server that was started at `begun` ended `now`, because it was `told` to or not.
    pub fn ended(&mut self, begun: Instant, told: bool, now: Instant) {
        if told {
            return;
        }
        if now.duration_since(begun) >= SETTLED {
            self.failures = 0;
        }
        let pause = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures += 1;
        self.not_before = Some(now + pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_early_end_doubles_the_pause_up_to_half_a_minute() {
        let mut backoff = Backoff::default();
        let now = Instant::now();
        assert_eq!(backoff.not_before(now), now);
        let pauses: Vec<u128> = (0..10)
            .map(|_| {
                backoff.ended(now, false, now);
                (backoff.not_before(now) - now).as_millis()
            })
            .collect();
        assert_eq!(pauses, [200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000]);
        assert_eq!(backoff.not_before(now + LONGEST), now + LONGEST, "the pause ends");
    }

    #[test]
    fn a_server_that_worked_or_was_told_to_end_is_no_failure() {
        let mut backoff = Backoff::default();
        let begun = Instant::now();
        backoff.ended(begun, true, begun);
        assert_eq!(backoff.not_before(begun), begun);
        for _ in 0..5 {
            backoff.ended(begun, false, begun);
        }
        let later = begun + SETTLED;
        backoff.ended(begun, false, later);
        assert_eq!(backoff.not_before(later) - later, FIRST);
    }
}
