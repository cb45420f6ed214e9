//! What the server's answer to one request may bring to the client: no tool that a policy hides, nothing that `methods` deny, and on
//! the stream of a request no answer but its own (rule 18).
//!
//! What a client sends must be a method that some revision has, or that a policy allows. What a server sends needs no such leave:
//! it is held back only where a key of `methods` denies it. So answers are read only while there is such a key.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use mcp_policy::Policies;

use crate::from_server::{WayBack, Word};
use crate::headers::Era;
use crate::message::{Id, ServerWord, server_word};
use crate::respond::{self, UpstreamFailure};
use crate::state::Enforced;
use crate::tools::{self, Filtered};

/// Judges what comes back on one request. The policies are read anew for each message: an open stream obeys their changes.
#[derive(Debug)]
pub struct Gate {
    /// The server, and whom it talks to.
    pub way: Arc<WayBack>,
    /// What was sent to the server.
    pub asked: Asked,
    /// The era of the request.
    pub era: Era,
    /// For messages about this answer.
    pub decision_id: String,
}

/// What a server was asked.
#[derive(Clone, Debug)]
pub enum Asked {
    /// To run a tool.
    Call {
        /// The id of the request.
        id: Id,
        /// The tool.
        tool: String,
    },
    /// For its list of tools.
    List {
        /// The id of the request.
        id: Id,
    },
    /// Something else.
    Request {
        /// The id of the request.
        id: Id,
    },
    /// Nothing: it was told something.
    Nothing,
    /// For a stream of its own, where also an answer to an earlier request can come.
    Stream,
    /// For something that is no message: a public document, the end of a session.
    Document,
}

impl Asked {
    /// The id of the request that is to be answered.
    #[must_use]
    pub fn expects(&self) -> Option<&Id> {
        match self {
            Self::Call { id, .. } | Self::List { id } | Self::Request { id } => Some(id),
            Self::Nothing | Self::Stream | Self::Document => None,
        }
    }

    /// Whether lists of tools can come.
    #[must_use]
    pub fn may_bring_lists(&self) -> bool {
        matches!(self, Self::List { .. } | Self::Stream)
    }

    /// Whether what comes has to be read: lists of tools in any case, other messages while a policy governs what servers send.
    #[must_use]
    pub fn has_to_be_read(&self, policies: &Policies) -> bool {
        self.may_bring_lists() || (self.is_mcp() && policies.governs_server())
    }

    /// Whether clients look for messages in what comes.
    #[must_use]
    pub fn is_mcp(&self) -> bool {
        !matches!(self, Self::Document)
    }
}

/// What becomes of one message of the server.
#[derive(Debug)]
pub enum Passing {
    /// It passes as it came.
    AsItCame,
    /// It passes with these bytes.
    Changed(Bytes),
    /// It is dropped.
    Dropped,
    /// It cannot be read, so it must not pass.
    Unreadable,
}

/// What was found of one message: what becomes of it, and what has to be written down and answered.
#[derive(Debug)]
pub struct Judged {
    /// What becomes of it.
    pub passing: Passing,
    /// What policies have to say about it.
    pub words: Vec<Word>,
}

impl Gate {
    /// Whether messages have to be judged at this moment. If not, the answer may pass unread.
    #[must_use]
    pub fn reads(&self) -> bool {
        self.asked.has_to_be_read(&self.way.books.state.enforced().policies)
    }

    /// The id of the request that is to be answered.
    #[must_use]
    pub fn expects(&self) -> Option<&Id> {
        self.asked.expects()
    }

    /// What the client gets instead of an answer that cannot pass.
    #[must_use]
    pub fn unusable(&self) -> Response<Bytes> {
        match &self.asked {
            Asked::Call { id, tool } => respond::upstream_failed_call(id, self.era, tool, UpstreamFailure::Unusable, &self.decision_id),
            _ => respond::upstream_failed(self.expects(), UpstreamFailure::Unusable, &self.decision_id),
        }
    }

    /// Judges one message: a JSON body or the data of an event.
    #[must_use]
    pub fn judge(&self, message: &[u8]) -> Judged {
        let enforced = self.way.books.state.enforced();
        let mut words = Vec::new();
        if enforced.policies.governs_server() {
            let (asks, request, is_response) = match server_word(message) {
                Ok(ServerWord::Request { id, method }) => (vec![method], Some(id), false),
                Ok(ServerWord::Notification { method }) => (vec![method], None, false),
                Ok(ServerWord::Response { asks }) => (asks, None, true),
                Err(_) => return Judged { passing: Passing::Unreadable, words },
            };
            for method in asks {
                let Some(word) = Word::about(&self.way.books, &enforced, method, request.clone()) else { continue };
                let passing = word.is_refused().then(|| if is_response { self.instead(&word) } else { Passing::Dropped });
                words.push(word);
                if let Some(passing) = passing {
                    return Judged { passing, words };
                }
            }
        }
        let passing = if self.asked.may_bring_lists() { self.judge_list(&enforced, message) } else { Passing::AsItCame };
        Judged { passing, words }
    }

    /// What takes the place of an answer with which the server asks for something that is refused.
    fn instead(&self, word: &Word) -> Passing {
        let Some(refusal) = &word.refusal else { return Passing::AsItCame };
        let answer = match &self.asked {
            Asked::Call { id, tool } => respond::refused_need(id, self.era, tool, &word.method, refusal, &word.decision_id),
            Asked::List { id } | Asked::Request { id } => respond::denied_method(id, &word.method, refusal, &word.decision_id),
            Asked::Nothing | Asked::Stream | Asked::Document => return Passing::Dropped,
        };
        Passing::Changed(answer.into_body())
    }

    fn judge_list(&self, enforced: &Enforced, message: &[u8]) -> Passing {
        let expected = self.expects();
        match tools::filter(message, expected, self.era, |tool| enforced.policies.lists(&self.way.caller, tool)) {
            Ok(Filtered::List(list)) => {
                self.way.books.learn(&list.names);
                list.changed.map_or(Passing::AsItCame, |changed| Passing::Changed(changed.into()))
            }
            // Rule 18: on the stream of a request, nothing but its own answer.
            Ok(Filtered::OtherResponse) if expected.is_some() => Passing::Dropped,
            Ok(Filtered::Failed | Filtered::NotAResponse | Filtered::OtherResponse) => Passing::AsItCame,
            Err(_) => Passing::Unreadable,
        }
    }
}
