//! Why the operator cannot run, or not go on.

use std::io;

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
