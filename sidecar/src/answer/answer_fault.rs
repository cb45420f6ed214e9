//! What can be wrong with a server's answer: a label of metrics and a field of audit lines. What the agent is told of it is less.

use crate::respond::UpstreamFailure;

/// Why a server's answer did not reach the caller, or not as a whole. The set is closed and its strings are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AnswerFault {
    /// No connection, or none in time. Nothing was sent.
    NotReached,
    /// The connection ended before an answer began.
    NoAnswer,
    /// What came is no head of an HTTP/1 answer, or one over the bounds.
    NotHttp,
    /// No answer began in time.
    AnswerTimeout,
    /// The answer began, and then nothing came for too long.
    IdleTimeout,
    /// The answer did not end in time.
    TotalTimeout,
    /// The connection ended before the answer did, or the answer's framing broke.
    CutOff,
    /// The sidecar ended before the answer did.
    Drained,
    /// The caller was proved no longer before the answer ended: its key was revoked, or what it showed is taken no more.
    ProofEnded,
    /// The answer sends the client elsewhere (rule 22), or is none of HTTP's final ones.
    Redirect,
    /// The answer is encoded where it has to be read (rule 16).
    Encoded,
    /// The answer, or one event of it, is too large to be held where it has to be read.
    TooLarge,
    /// There is no room at this moment for an answer that has to be held.
    NoRoom,
    /// The answer cannot be read in one way only where it has to be read.
    Unreadable,
}

impl AnswerFault {
    /// For metrics and audit lines.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotReached => "not_reached",
            Self::NoAnswer => "no_answer",
            Self::NotHttp => "not_http",
            Self::AnswerTimeout => "answer_timeout",
            Self::IdleTimeout => "idle_timeout",
            Self::TotalTimeout => "total_timeout",
            Self::CutOff => "cut_off",
            Self::Drained => "drained",
            Self::ProofEnded => "proof_ended",
            Self::Redirect => "redirect",
            Self::Encoded => "encoded",
            Self::TooLarge => "too_large",
            Self::NoRoom => "no_room",
            Self::Unreadable => "unreadable",
        }
    }

    /// What the agent is told.
    #[must_use]
    pub fn told(self) -> UpstreamFailure {
        match self {
            Self::NotReached => UpstreamFailure::NotReached,
            Self::NoAnswer
            | Self::AnswerTimeout
            | Self::IdleTimeout
            | Self::TotalTimeout
            | Self::CutOff
            | Self::Drained
            | Self::ProofEnded => UpstreamFailure::NoAnswer,
            Self::NotHttp | Self::Redirect | Self::Encoded | Self::TooLarge | Self::NoRoom | Self::Unreadable => UpstreamFailure::Unusable,
        }
    }
}
