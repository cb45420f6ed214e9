//! What a server was asked, and so what may come back.

use bytes::Bytes;
use http::Response;
use mcp_policy::{Caller, Policies};

use crate::answer::answer_fault::AnswerFault;
use crate::message::era::Era;
use crate::message::{Capabilities, Id, Request};
use crate::respond;

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
    /// What it can do: `initialize` or `server/discover`.
    Handshake {
        /// The id of the request.
        id: Id,
        /// What the client said that it can do, with `initialize`.
        client: Capabilities,
    },
    /// To tell of changes, among them of its list of tools (`subscriptions/listen`).
    Listen {
        /// The id of the request, which names the subscription.
        id: Id,
    },
    /// Something else.
    Request {
        /// The id of the request.
        id: Id,
    },
    /// Nothing: it was told something.
    Nothing,
    /// For a stream of its own. If it resumes an earlier one, the answer to an earlier request can come on it.
    Stream {
        /// Whether it resumes one.
        resumes: bool,
    },
    /// For something that is no message: a public document, the end of a session.
    Document,
}

impl Asked {
    /// What this request asks.
    #[must_use]
    pub fn by(request: &Request) -> Self {
        let id = request.id.clone();
        match request.method.as_str() {
            "tools/list" => Self::List { id },
            "initialize" | "server/discover" => Self::Handshake { id, client: request.introduces },
            "subscriptions/listen" if request.listens_to_tools => Self::Listen { id },
            _ => match &request.call {
                Some(call) => Self::Call { id, tool: call.name.clone() },
                None => Self::Request { id },
            },
        }
    }

    /// The id of the request that is to be answered.
    #[must_use]
    pub fn expects(&self) -> Option<&Id> {
        match self {
            Self::Call { id, .. } | Self::List { id } | Self::Handshake { id, .. } | Self::Listen { id } | Self::Request { id } => Some(id),
            Self::Nothing | Self::Stream { .. } | Self::Document => None,
        }
    }

    /// Whether the inside of what comes has to be read: what may be changed in any case, all else while a policy governs what servers
    /// send. If not, only its outside is.
    #[must_use]
    pub fn has_to_be_read(&self, policies: &Policies, caller: &Caller) -> bool {
        matches!(self, Self::List { .. } | Self::Handshake { .. }) || (self.is_mcp() && policies.governs_server(caller))
    }

    /// What the client gets in place of an answer that failed.
    #[must_use]
    pub fn instead_of_answer(&self, era: Era, fault: AnswerFault, decision_id: &str) -> Response<Bytes> {
        match self {
            Self::Call { id, tool } => respond::upstream_failed_call(id, era, tool, fault.told(), decision_id),
            _ => respond::upstream_failed(self.expects(), fault.told(), decision_id),
        }
    }

    /// Whether clients look for messages in what comes.
    #[must_use]
    pub fn is_mcp(&self) -> bool {
        !matches!(self, Self::Document)
    }

    /// Whether what comes is a stream without an end of its own.
    #[must_use]
    pub fn is_endless(&self) -> bool {
        matches!(self, Self::Listen { .. } | Self::Stream { .. })
    }
}
