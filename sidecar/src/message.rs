//! Bytes to one unambiguous JSON-RPC message, read once and strictly: what two servers could read differently is refused here, and
//! the bytes that were judged are the bytes that are forwarded. mcp.md section 3, rules 1 to 7.
//!
//! Guarantees: no I/O; no input panics; recursion and memory are bounded.

pub(crate) mod edit;
mod envelope;
pub mod era;
mod glance;
mod id;
mod malformed;
pub mod mirrored;
mod rename;
mod server;
mod trace;

use std::ops::Range;

use http::StatusCode;
use mcp_policy::json::{Fault, Kind, Scanner};

use envelope::{Arguments, Envelope, Member, Params, skip};
pub use glance::{Glance, Outline};
pub use id::Id;
pub use malformed::{Malformed, Reason};
pub(crate) use rename::{Renamed, SUBSCRIPTION_ID, rename, rename_back};
pub(crate) use server::parse_server_with;
pub use server::{ServerMessage, ServerWord, Unreadable, parse_server, server_word};
pub use trace::trace_context;

const TOOLS_CALL: &str = "tools/call";
const CANCELLED: &str = "notifications/cancelled";

/// The bytes are not one UTF-8 JSON text.
pub(crate) const PARSE_ERROR: i64 = -32700;
/// They are, but are refused.
pub(crate) const INVALID_REQUEST: i64 = -32600;
pub(crate) const INVALID_PARAMS: i64 = -32602;
pub(crate) const HEADER_MISMATCH: i64 = -32020;
pub(crate) const UNSUPPORTED_VERSION: i64 = -32022;

/// Longest tool name that need not be on the server's list (rule 5).
const MAX_TOOL_NAME: usize = 128;

/// Whether some supported revision lets a client send this method. Nobody has judged what others do: they pass only where a policy
/// names them.
#[must_use]
pub fn is_known_method(method: &str) -> bool {
    mcp_policy::method::FROM_CLIENT.contains(&method)
}

/// A message from a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Wants an answer.
    Request(Request),
    /// Wants none.
    Notification(Notification),
    /// Answers a request of the server (legacy revisions).
    Response(Response),
}

impl Message {
    /// The id that the message carries.
    #[must_use]
    pub fn id(&self) -> Option<&Id> {
        match self {
            Self::Request(request) => Some(&request.id),
            Self::Notification(_) => None,
            Self::Response(response) => Some(&response.id),
        }
    }

    /// The call that the message is, and its id.
    #[must_use]
    pub fn call(&self) -> Option<(&Id, &ToolCall)> {
        match self {
            Self::Request(request) => request.call.as_ref().map(|call| (&request.id, call)),
            Self::Notification(_) | Self::Response(_) => None,
        }
    }

    /// What `_meta` says of the protocol's revision.
    pub(crate) fn version(&self) -> &MetaVersion {
        match self {
            Self::Request(request) => &request.version,
            Self::Notification(notification) => &notification.version,
            Self::Response(_) => &MetaVersion::Absent,
        }
    }

    /// The method that the message names.
    #[must_use]
    pub fn method(&self) -> Option<&str> {
        match self {
            Self::Request(request) => Some(&request.method),
            Self::Notification(notification) => Some(&notification.method),
            Self::Response(_) => None,
        }
    }
}

/// A request from a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// To be echoed in the answer.
    pub id: Id,
    /// Matched exactly, case included (rule 7).
    pub method: String,
    /// The call, exactly if the method is `tools/call`.
    pub call: Option<ToolCall>,
    /// The task that the request is about, if it names one by `params.taskId`.
    pub task: Option<String>,
    /// Whether the client wants to be told of changes of the list of tools (`subscriptions/listen`).
    pub listens_to_tools: bool,
    /// What `Mcp-Name` must repeat, for methods other than a call.
    pub(crate) target: Option<String>,
    pub(crate) version: MetaVersion,
    /// What the client can do by the word of `_meta`, where every modern request must say it.
    pub(crate) capabilities: Option<Capabilities>,
    /// What the client can do in the session that this `initialize` opens.
    pub(crate) introduces: Capabilities,
    /// By what the client wants to be told of progress, a string or a whole number.
    pub progress: Option<Id>,
}

/// What a client says that it can do, as far as it matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// It shows its user pages that it is sent to (`elicitation.url`).
    pub opens_urls: bool,
}

/// A notification from a client. Its method begins with `notifications/`: anything else without an id would be a request that asks
/// not to be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Matched exactly, case included (rule 7).
    pub method: String,
    /// The request that is not waited for any more, with `notifications/cancelled`.
    pub cancels: Option<Id>,
    pub(crate) version: MetaVersion,
}

/// A client's answer to a request of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The id of the server's request.
    pub id: Id,
}

/// What `_meta` says of the protocol's revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum MetaVersion {
    /// Nothing.
    #[default]
    Absent,
    /// Something that is not a string.
    NotText,
    /// This.
    Named(String),
}

/// A `tools/call`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolCall {
    /// Unescaped and not empty; otherwise as sent: not trimmed, not normalised.
    pub name: String,
    /// The first keys of `arguments`, for the audit line; long ones are cut.
    pub argument_keys: Vec<String>,
    /// How many more keys `arguments` has.
    pub argument_keys_left_out: usize,
    /// Whether the call answers what was asked about an earlier one (`inputResponses`, `requestState`).
    pub goes_on: bool,
    /// Where the value of `arguments` stands in the message; empty where there is none, or `null`.
    arguments: Range<usize>,
}

impl ToolCall {
    fn new(name: Member<String>, arguments: Arguments, goes_on: bool) -> Result<Self, Malformed> {
        // Rule 5: status 200, which the client's session survives.
        let refuse = |message| Err(Malformed::bare(StatusCode::OK, Reason::Params, message).with_code(INVALID_PARAMS));
        match name {
            Member::Is(name) if !name.is_empty() => {
                if arguments.wrong_type {
                    return refuse("`arguments` is not an object");
                }
                let Arguments { keys, left_out, place, .. } = arguments;
                Ok(Self { name, argument_keys: keys, argument_keys_left_out: left_out, goes_on, arguments: place })
            }
            _ => refuse("`name` is missing, empty or not a string"),
        }
    }

    /// The very text of `arguments` in the message that this call was read from; empty where there is none, or `null`.
    #[must_use]
    pub fn arguments<'a>(&self, body: &'a [u8]) -> &'a str {
        // The body was read as UTF-8, and the place is that of a value in it. Of another body, what comes out is no object, which
        // refuses the call.
        body.get(self.arguments.clone()).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or("[]")
    }

    /// Whether the name is one that every part of the system writes alike: at most 128 of `[A-Za-z0-9_.-]`, or the very name that the
    /// server `listed` (rule 5).
    pub fn has_proper_name(&self, listed: impl FnOnce(&str) -> bool) -> bool {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        (self.name.len() <= MAX_TOOL_NAME && self.name.bytes().all(plain)) || listed(&self.name)
    }
}

/// Reads a client's body. An error carries the status and code of the answer; nothing of the body may be forwarded then.
pub fn parse(body: &[u8]) -> Result<Message, Malformed> {
    let mut scanner = Scanner::new(body)?;
    match scanner.kind()? {
        Kind::Object => {}
        Kind::Array => return Err(Malformed::bad_request(Reason::Batch, "batches are not accepted: send one message per request")),
        _ => return Err(Malformed::bad_request(Reason::Envelope, "a message is a JSON object")),
    }
    let mut envelope = Envelope::default();
    let outcome = envelope.read(&mut scanner, Params::read, skip).and_then(|()| scanner.finish());
    let id = envelope.id_to_answer();
    match outcome {
        Ok(()) => envelope.into_message().map_err(|malformed| malformed.with_id(id)),
        // Such a body may go on behind the fault with another id, or is no JSON at all.
        Err(fault @ (Fault::Syntax | Fault::TrailingBytes)) => Err(fault.into()),
        Err(fault) => Err(Malformed::from(fault).with_id(id)),
    }
}

#[cfg(test)]
mod tests;
