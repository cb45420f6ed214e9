//! Messages of the server.

use mcp_policy::json::{Fault, Kind, Scanner};
use mcp_policy::lookalike::is_lookalike;

use super::Id;
use super::envelope::{Envelope, Member, Params, skip, string};

/// A message from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerMessage {
    /// Wants an answer from the client (legacy revisions).
    Request {
        /// To be echoed in the client's answer.
        id: Id,
        /// What is asked.
        method: String,
    },
    /// Wants none.
    Notification {
        /// What is told.
        method: String,
    },
    /// Answers a request with a result.
    Result {
        /// The id of the request.
        id: Id,
    },
    /// Answers a request with an error.
    Error {
        /// The id of the request; none where the server could not read it.
        id: Option<Id>,
    },
}

/// Something from the server that is not one unambiguous JSON-RPC message. Where it had to be judged, it must not be forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server's message cannot be read in one way only")]
pub struct Unreadable(());

impl Unreadable {
    pub(crate) fn new() -> Self {
        Self(())
    }
}

impl From<Fault> for Unreadable {
    fn from(_: Fault) -> Self {
        Self(())
    }
}

/// What a message of the server asks of the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerWord {
    /// A request (legacy revisions).
    Request {
        /// To be echoed in the answer.
        id: Id,
        /// What is asked.
        method: String,
    },
    /// A notification.
    Notification {
        /// What is told.
        method: String,
    },
    /// A response. It asks something if the server wants more before it goes on (`inputRequests` of the modern revision).
    Response {
        /// The id of the request that is answered; none where the server could not read it, or where it could be read in two ways.
        id: Option<Id>,
        /// The methods of what is asked.
        asks: Vec<String>,
    },
}

/// Reads what a message of the server asks of the client. What asks, or could be read as asking, is read as strictly as by
/// [`parse_server`]; a plain response may hold anything that is JSON, for servers put texts of all kinds into their results.
pub fn server_word(body: &[u8]) -> Result<ServerWord, Unreadable> {
    let mut asks = Asks::default();
    let mut scanner = Scanner::new(body)?;
    let mut envelope = Envelope::default();
    envelope.read(&mut scanner, unread_params, |scanner| asks.read_result(scanner))?;
    let ended = scanner.finish();
    if !envelope.method.is_present() && !envelope.lookalike && !asks.lookalike && ended != Err(Fault::TrailingBytes) {
        return Ok(ServerWord::Response { id: envelope.unambiguous_id(), asks: asks.methods });
    }
    ended?;
    match envelope.into_server_message()? {
        ServerMessage::Request { id, method } => Ok(ServerWord::Request { id, method }),
        ServerMessage::Notification { method } => Ok(ServerWord::Notification { method }),
        ServerMessage::Result { .. } | ServerMessage::Error { .. } => Err(Unreadable(())),
    }
}

const INPUT_REQUESTS: &str = "inputRequests";

/// What a result asks before the server goes on.
#[derive(Default)]
struct Asks {
    methods: Vec<String>,
    lookalike: bool,
}

impl Asks {
    fn read_result(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Fault> {
        self.members(scanner, INPUT_REQUESTS, |asks, scanner| {
            if scanner.kind()? != Kind::Object {
                return skip(scanner);
            }
            scanner.object(|scanner, _| {
                asks.members(scanner, "method", |asks, scanner| {
                    if let Member::Is(method) = string(scanner)? {
                        asks.methods.push(method);
                    }
                    Ok(())
                })
            })
        })
    }

    /// Reads an object, and each of its members of this name by `read`.
    fn members<'a>(
        &mut self,
        scanner: &mut Scanner<'a>,
        name: &str,
        read: impl Fn(&mut Self, &mut Scanner<'a>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        if scanner.kind()? != Kind::Object {
            return skip(scanner);
        }
        scanner.object(|scanner, key| {
            if key == name {
                return read(self, scanner);
            }
            self.lookalike |= is_lookalike(key, &[name]);
            skip(scanner)
        })
    }
}

/// Nobody looks into the params of a server's request.
fn unread_params(scanner: &mut Scanner<'_>) -> Result<Member<Params>, Fault> {
    skip(scanner).map(|()| Member::Absent)
}

/// Reads a message of the server: a JSON body, or the data of one event. As strict as [`parse`], but for keys beside those of
/// JSON-RPC, which are let be.
pub fn parse_server(body: &[u8]) -> Result<ServerMessage, Unreadable> {
    parse_server_with(body, skip)
}

/// As [`parse_server`], with a reader of the `result`.
pub(crate) fn parse_server_with<'a>(
    body: &'a [u8],
    result: impl FnMut(&mut Scanner<'a>) -> Result<(), Fault>,
) -> Result<ServerMessage, Unreadable> {
    let mut scanner = Scanner::new(body)?;
    let mut envelope = Envelope::default();
    envelope.read(&mut scanner, unread_params, result)?;
    scanner.finish()?;
    envelope.into_server_message()
}

impl Envelope {
    fn into_server_message(self) -> Result<ServerMessage, Unreadable> {
        if self.lookalike || !matches!(&self.jsonrpc, Member::Is(version) if version == "2.0") {
            return Err(Unreadable(()));
        }
        match (self.method, self.id, self.has_result, self.error) {
            (Member::Is(method), Member::Is(id), false, Member::Absent) => Ok(ServerMessage::Request { id, method }),
            (Member::Is(method), Member::Absent, false, Member::Absent) => Ok(ServerMessage::Notification { method }),
            (Member::Absent, Member::Is(id), true, Member::Absent) => Ok(ServerMessage::Result { id }),
            (Member::Absent, Member::Is(id), false, Member::Is(())) => Ok(ServerMessage::Error { id: Some(id) }),
            // Older servers write `null` for an id that they could not read.
            (Member::Absent, Member::Absent | Member::WrongType, false, Member::Is(())) => Ok(ServerMessage::Error { id: None }),
            _ => Err(Unreadable(())),
        }
    }
}
