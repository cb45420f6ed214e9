//! Why the operator cannot run, or not go on.

use std::error::Error;
use std::fmt::Write as _;
use std::io;

/// An error and what it comes from, in one line.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        // Writing to a string cannot fail.
        let _ = write!(text, ": {error}");
        source = error.source();
    }
    text
}

/// Why [`crate::run()`] ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There is no way to the API server.
    #[error("failed to configure the Kubernetes client")]
    Client(#[source] Box<kube::Error>),
    /// A port cannot be bound.
    #[error("failed to listen on port {0}")]
    Listen(u16, #[source] io::Error),
    /// Signals cannot be received.
    #[error("failed to wait for signals")]
    Signals(#[source] io::Error),
    /// A part ended that must not.
    #[error("an essential task ended: {0}")]
    Ended(&'static str),
}
