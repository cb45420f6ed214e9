//! Logs: JSON on standard error, plain where that is a terminal. Audit lines are not logs: see [`crate::books::audit`].

use std::io::{IsTerminal, stderr};

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{ConfigError, ENV_LOG};

/// Starts logging with this filter (`info` if none). Call it once, before anything else. A wrong filter is an error, and `info`
/// holds so that the error can be logged.
pub fn init(filter: Option<&str>) -> Result<(), ConfigError> {
    let (filter, error) = match filter.map_or(Ok(Targets::new().with_default(LevelFilter::INFO)), str::parse) {
        Ok(filter) => (filter, None),
        Err(cause) => {
            (Targets::new().with_default(LevelFilter::INFO), Some(ConfigError::Invalid { name: ENV_LOG, reason: format!("{cause}") }))
        }
    };
    let logs = tracing_subscriber::fmt::layer().with_writer(stderr).with_target(false);
    let logs = if stderr().is_terminal() { logs.boxed() } else { logs.json().flatten_event(true).with_current_span(false).boxed() };
    tracing_subscriber::registry().with(logs.with_filter(filter)).init();
    error.map_or(Ok(()), Err)
}
