//! Logs: JSON on stderr.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// Sends the logs of the process to stderr, as the filter says.
pub fn init(filter: &str) -> Result<(), ParseError> {
    let filter = EnvFilter::builder().parse(filter)?;
    tracing_subscriber::fmt().json().flatten_event(true).with_env_filter(filter).with_writer(std::io::stderr).init();
    Ok(())
}
