//! Logs: JSON on standard error, plain where that is a terminal. Audit lines are not logs: see [`crate::books::audit`].
//!
//! Guarantee: no call waits for whoever reads the log. Lines for which there is no room are lost, and counted in the log.

use std::io::{self, IsTerminal, Write, stderr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::timeout;
use tracing_subscriber::filter::{LevelFilter, ParseError, Targets};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::books::lines::Lines;
use crate::config::{ConfigError, ENV_LOG};

/// How long the end of the process waits for lines that are not written yet.
const FAREWELL: Duration = Duration::from_secs(1);

/// The log of this process.
#[derive(Clone, Debug)]
pub struct Log {
    lines: Arc<Lines>,
    /// Lines for which there was no room, and of which the log does not tell yet.
    untold: Arc<AtomicU64>,
}

impl Log {
    /// Starts logging with this filter (`info` if none). Call it once, before anything else. With a wrong filter, `info` holds so that
    /// the error can be logged.
    pub fn start(filter: Option<&str>) -> io::Result<(Self, Result<(), ConfigError>)> {
        let log = Self { lines: Arc::new(Lines::start("log", stderr())?), untold: Arc::default() };
        let default = Targets::new().with_default(LevelFilter::INFO);
        let wrong = |cause: ParseError| ConfigError::Invalid { name: ENV_LOG, reason: cause.to_string() };
        let (filter, outcome) = match filter.map_or(Ok(default.clone()), str::parse) {
            Ok(filter) => (filter, Ok(())),
            Err(cause) => (default, Err(wrong(cause))),
        };
        let writer = log.clone();
        let logs = tracing_subscriber::fmt::layer().with_writer(move || writer.clone()).with_target(false);
        let logs = if stderr().is_terminal() { logs.boxed() } else { logs.json().flatten_event(true).with_current_span(false).boxed() };
        tracing_subscriber::registry().with(logs.with_filter(filter)).init();
        Ok((log, outcome))
    }

    /// Waits a moment for the lines that are not written yet. To be called outside of any runtime, at the end.
    pub fn finish(&self) {
        if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_time().build() {
            // Nobody is left to tell if that takes too long.
            let _ = runtime.block_on(async { timeout(FAREWELL, self.lines.flush()).await });
        }
    }
}

impl Write for Log {
    /// Takes a whole line: an event is written by one call.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let Some(room) = self.lines.room() else {
            self.untold.fetch_add(1, Ordering::Relaxed);
            return Ok(line.len());
        };
        let lost = self.untold.swap(0, Ordering::Relaxed);
        if lost > 0 {
            tracing::warn!(lost, "nobody took the log; some lines are lost");
        }
        self.lines.append(room, |bytes| bytes.extend_from_slice(line));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
