//! A moment after which nobody waits any more, that can be moved for nothing.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::time::{Sleep, sleep_until};

/// A timer that is set anew only when it rings. Almost every wait ends early, and its deadline is followed by a later one: to register
/// each with the runtime would cost more than the wait.
#[derive(Debug, Default)]
pub(crate) struct Deadline(Option<Pin<Box<Sleep>>>);

impl Deadline {
    /// Whether `due` is over. If it is not, the task is woken then, or earlier.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, due: Instant) -> Poll<()> {
        let timer = self.0.get_or_insert_with(|| Box::pin(sleep_until(due.into())));
        if timer.deadline().into_std() > due {
            timer.as_mut().reset(due.into());
        }
        while timer.as_mut().poll(cx).is_ready() {
            if tokio::time::Instant::now().into_std() >= due {
                return Poll::Ready(());
            }
            timer.as_mut().reset(due.into());
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_over_when_the_last_moment_that_was_given_is() {
        let mut deadline = Deadline::default();
        let start = tokio::time::Instant::now().into_std();
        for seconds in [20, 30, 10] {
            let due = start + Duration::from_secs(seconds);
            assert!(poll_fn(|cx| Poll::Ready(deadline.poll(cx, due))).await.is_pending());
        }
        for seconds in [10, 15] {
            let due = start + Duration::from_secs(seconds);
            poll_fn(|cx| deadline.poll(cx, due)).await;
            assert_eq!(start.elapsed_on_the_runtime(), Duration::from_secs(seconds));
        }
    }

    trait OnTheRuntime {
        fn elapsed_on_the_runtime(&self) -> Duration;
    }

    impl OnTheRuntime for Instant {
        fn elapsed_on_the_runtime(&self) -> Duration {
            // The runtime's clock counts whole milliseconds, and rings after them.
            Duration::from_secs((tokio::time::Instant::now().into_std() - *self).as_secs())
        }
    }
}
