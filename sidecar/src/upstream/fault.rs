//! Why an answer does not come, or does not end.

use std::io;

use crate::answer::answer_fault::AnswerFault;
use crate::stdio::child::WriteError;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// No connection: nothing was sent.
    #[error("cannot connect: {0}")]
    NotReached(io::Error),
    /// The connection ended before anything was sent on it.
    #[error("the connection ended: {0}")]
    NotSent(io::Error),
    /// The server on stdio cannot be started.
    #[error("{0}")]
    NotStarted(String),
    /// The server on stdio ended too often to be started again at once.
    #[error("the server ends again and again; it is started again later")]
    Backoff,
    /// So many sessions are in use that there is no room for another server on stdio.
    #[error("too many sessions")]
    TooManySessions,
    /// The server on stdio did not take the message.
    #[error(transparent)]
    NotWritten(#[from] WriteError),
    /// Sent, and the server on stdio ended before an answer began.
    #[error("the server has ended")]
    Ended,
    /// Sent, and the connection ended before an answer began.
    #[error("no answer: {0}")]
    Lost(io::Error),
    /// Sent, and what came is no answer of HTTP.
    #[error("the answer is not HTTP")]
    NotHttp,
    /// Sent, and no answer began in time.
    #[error("no answer in time")]
    TimedOut,
    /// Sent, and the sidecar ended before an answer began.
    #[error("no answer before the end of the sidecar")]
    Drained,
}

impl SendError {
    /// Whether the server certainly saw nothing.
    #[must_use]
    pub fn nothing_was_sent(&self) -> bool {
        self.fault() == AnswerFault::NotReached
    }

    /// The same for metrics, audit lines and the agent.
    #[must_use]
    pub fn fault(&self) -> AnswerFault {
        match self {
            Self::NotReached(_) | Self::NotSent(_) | Self::NotStarted(_) | Self::Backoff | Self::TooManySessions => AnswerFault::NotReached,
            Self::NotWritten(error) => error.fault(),
            Self::NotHttp => AnswerFault::NotHttp,
            Self::Lost(_) | Self::Ended => AnswerFault::NoAnswer,
            Self::TimedOut => AnswerFault::AnswerTimeout,
            Self::Drained => AnswerFault::Drained,
        }
    }
}

/// Why an answer that has begun does not end.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// The connection ended, or the framing broke.
    #[error("the answer was cut off: {0}")]
    CutOff(io::Error),
    /// The server on stdio has ended.
    #[error("the server has ended")]
    Ended,
    /// Nothing came for too long.
    #[error("the answer stopped coming")]
    Idle,
    /// It took too long.
    #[error("the answer did not end in time")]
    TooLong,
}

impl AnswerError {
    /// The same for metrics, audit lines and the agent.
    #[must_use]
    pub fn fault(&self) -> AnswerFault {
        match self {
            Self::CutOff(_) | Self::Ended => AnswerFault::CutOff,
            Self::Idle => AnswerFault::IdleTimeout,
            Self::TooLong => AnswerFault::TotalTimeout,
        }
    }
}
