//! The members of a JSON-RPC message, as far as they matter: read in the order in which they come, judged when all are there.

use std::borrow::Cow;
use std::ops::Range;

use mcp_policy::json::{Fault, Kind, Scanner};
use mcp_policy::lookalike::is_lookalike;

use super::{CANCELLED, Capabilities, Id, Malformed, Message, MetaVersion, Notification, Reason, Request, Response, TOOLS_CALL, ToolCall};

/// Argument keys kept for the audit line, and the bytes kept of each: an attacker must not fill the log.
const MAX_ARGUMENT_KEYS: usize = 64;
const MAX_ARGUMENT_KEY: usize = 128;

const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const META_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";

/// Every key that a revision gives to the `params` of a client's message. A look-alike of one of them is refused.
const PARAMS_KEYS: &[&str] = &[
    "_meta",
    "name",
    "arguments",
    "uri",
    "cursor",
    "protocolVersion",
    "capabilities",
    "clientInfo",
    "taskId",
    "task",
    "ref",
    "argument",
    "context",
    "level",
    "requestId",
    "reason",
    "progressToken",
    "progress",
    "total",
    "message",
    "notifications",
    "inputResponses",
    "requestState",
];

const META_KEYS: &[&str] = &[
    META_VERSION,
    META_CAPABILITIES,
    "io.modelcontextprotocol/clientInfo",
    "io.modelcontextprotocol/logLevel",
    "io.modelcontextprotocol/subscriptionId",
    "io.modelcontextprotocol/related-task",
    "progressToken",
    "traceparent",
    "tracestate",
    "baggage",
];

/// A member that must have one type.
#[derive(Debug, Default)]
pub(super) enum Member<T> {
    #[default]
    Absent,
    WrongType,
    Is(T),
}

impl<T> Member<T> {
    pub(super) fn is_present(&self) -> bool {
        !matches!(self, Self::Absent)
    }
}

pub(super) fn skip(scanner: &mut Scanner<'_>) -> Result<(), Fault> {
    scanner.value().map(drop)
}

pub(super) fn string(scanner: &mut Scanner<'_>) -> Result<Member<String>, Fault> {
    if scanner.kind()? == Kind::String {
        scanner.string().map(Cow::into_owned).map(Member::Is)
    } else {
        scanner.value().map(|_| Member::WrongType)
    }
}

/// The top level of a message, as far as it was read.
#[derive(Default)]
pub(super) struct Envelope {
    pub(super) jsonrpc: Member<String>,
    ids: usize,
    pub(super) id: Member<Id>,
    pub(super) method: Member<String>,
    params: Member<Params>,
    pub(super) has_result: bool,
    pub(super) error: Member<()>,
    unknown_key: bool,
    pub(super) lookalike: bool,
}

const ENVELOPE_KEYS: &[&str] = &["jsonrpc", "id", "method", "params", "result", "error"];

impl Envelope {
    /// Reads the message's object; what `params` and `result` hold is for the caller to read.
    pub(super) fn read<'a>(
        &mut self,
        scanner: &mut Scanner<'a>,
        params: impl Fn(&mut Scanner<'a>) -> Result<Member<Params>, Fault>,
        mut result: impl FnMut(&mut Scanner<'a>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        scanner.object(|scanner, key| {
            match key {
                "jsonrpc" => self.jsonrpc = string(scanner)?,
                "id" => {
                    self.ids += 1;
                    self.id = read_id(scanner)?;
                }
                "method" => self.method = string(scanner)?,
                "params" => self.params = params(scanner)?,
                "result" => {
                    result(scanner)?;
                    self.has_result = true;
                }
                "error" => {
                    let is_object = scanner.kind()? == Kind::Object;
                    scanner.value()?;
                    self.error = if is_object { Member::Is(()) } else { Member::WrongType };
                }
                other => {
                    self.unknown_key = true;
                    self.lookalike |= is_lookalike(other, ENVELOPE_KEYS);
                    scanner.value()?;
                }
            }
            Ok(())
        })
    }

    /// The id that an answer can carry. The id of a response is the other side's: answered with it, a client would take that for the
    /// answer to a request of its own.
    pub(super) fn id_to_answer(&self) -> Option<Id> {
        let is_response = (self.has_result || self.error.is_present()) && !self.method.is_present();
        match &self.id {
            Member::Is(id) if self.ids == 1 && !is_response => Some(id.clone()),
            _ => None,
        }
    }

    /// The id, if there is one and only one.
    pub(super) fn unambiguous_id(&self) -> Option<Id> {
        match &self.id {
            Member::Is(id) if self.ids == 1 => Some(id.clone()),
            _ => None,
        }
    }

    pub(super) fn into_message(self) -> Result<Message, Malformed> {
        let envelope = |message| Malformed::bad_request(Reason::Envelope, message);
        if self.lookalike {
            return Err(Malformed::bad_request(Reason::LookalikeKey, "a key looks like a key of JSON-RPC and is none"));
        }
        if self.unknown_key {
            return Err(envelope("a message has no keys but those of JSON-RPC"));
        }
        if !matches!(&self.jsonrpc, Member::Is(version) if version == "2.0") {
            return Err(envelope("`jsonrpc` is not \"2.0\""));
        }
        if matches!(self.id, Member::WrongType) {
            return Err(Malformed::bad_request(Reason::Id, "`id` is neither a string nor an integer"));
        }
        if self.has_result || self.error.is_present() {
            return match self.id {
                _ if self.method.is_present() || self.params.is_present() => {
                    Err(envelope("a message is a request or a response, not both"))
                }
                _ if self.has_result && self.error.is_present() => Err(envelope("a response has either `result` or `error`")),
                _ if matches!(self.error, Member::WrongType) => Err(envelope("`error` is not an object")),
                Member::Is(id) => Ok(Message::Response(Response { id })),
                _ => Err(Malformed::bad_request(Reason::Id, "a response needs the id of its request")),
            };
        }
        let Member::Is(method) = self.method else { return Err(envelope("`method` is missing or not a string")) };
        let params = match self.params {
            Member::Is(params) => params,
            Member::Absent => Params::default(),
            Member::WrongType => return Err(Malformed::bad_request(Reason::Params, "`params` is not an object")),
        };
        if params.lookalike {
            return Err(Malformed::bad_request(Reason::LookalikeKey, "a key in `params` or `_meta` looks like a known one and is none"));
        }
        let version = match params.meta {
            Member::Absent => MetaVersion::Absent,
            Member::Is(version) => version,
            Member::WrongType => return Err(Malformed::bad_request(Reason::Params, "`_meta` is not an object")),
        };
        match self.id {
            Member::Is(id) => {
                let Params { task_id, listens_to_tools, meta_capabilities: capabilities, progress, .. } = params;
                let introduces = params.capabilities.filter(|_| method == "initialize").unwrap_or_default();
                let progress = progress.into_value();
                let task = task_id.into_value();
                let (call, target) = match method.as_str() {
                    TOOLS_CALL => (Some(ToolCall::new(params.name, params.arguments, params.goes_on)?), None),
                    "prompts/get" => (None, params.name.into_value()),
                    "resources/read" => (None, params.uri.into_value()),
                    "tasks/get" | "tasks/update" | "tasks/cancel" => (None, task.clone()),
                    _ => (None, None),
                };
                Ok(Message::Request(Request {
                    id,
                    method,
                    call,
                    task,
                    listens_to_tools,
                    target,
                    version,
                    capabilities,
                    introduces,
                    progress,
                }))
            }
            _ if method.starts_with("notifications/") => {
                let cancels = if method == CANCELLED { params.request_id.into_value() } else { None };
                Ok(Message::Notification(Notification { method, cancels, version }))
            }
            _ => Err(Malformed::bad_request(Reason::Id, "a request needs an id")),
        }
    }
}

impl<T> Member<T> {
    pub(super) fn into_value(self) -> Option<T> {
        if let Self::Is(value) = self { Some(value) } else { None }
    }
}

pub(super) fn read_id(scanner: &mut Scanner<'_>) -> Result<Member<Id>, Fault> {
    match scanner.kind()? {
        Kind::String | Kind::Number => {
            let place = scanner.value()?;
            Ok(Id::from_json(scanner.source(place)).map_or(Member::WrongType, Member::Is))
        }
        _ => scanner.value().map(|_| Member::WrongType),
    }
}

/// What matters in the `params` of any method. They may stand before the method that they belong to.
#[derive(Default)]
pub(super) struct Params {
    name: Member<String>,
    uri: Member<String>,
    task_id: Member<String>,
    listens_to_tools: bool,
    request_id: Member<Id>,
    arguments: Arguments,
    meta: Member<MetaVersion>,
    meta_capabilities: Option<Capabilities>,
    capabilities: Option<Capabilities>,
    /// Whether there are `inputResponses` or a `requestState`.
    goes_on: bool,
    progress: Member<Id>,
    lookalike: bool,
}

/// The `arguments` of a call. `null` is as absent.
#[derive(Default)]
pub(super) struct Arguments {
    pub(super) wrong_type: bool,
    pub(super) keys: Vec<String>,
    pub(super) left_out: usize,
    pub(super) place: Range<usize>,
}

impl Params {
    pub(super) fn read(scanner: &mut Scanner<'_>) -> Result<Member<Self>, Fault> {
        if scanner.kind()? != Kind::Object {
            return scanner.value().map(|_| Member::WrongType);
        }
        let mut params = Self::default();
        scanner.object(|scanner, key| {
            match key {
                "name" => params.name = string(scanner)?,
                "uri" => params.uri = string(scanner)?,
                "taskId" => params.task_id = string(scanner)?,
                "requestId" => params.request_id = read_id(scanner)?,
                "arguments" => params.arguments = scanner.arguments(Arguments::read)?,
                "notifications" => params.listens_to_tools = listens_to_tools(scanner)?,
                "_meta" => params.meta = params.read_meta(scanner)?,
                "capabilities" => params.capabilities = Capabilities::read(scanner)?,
                "inputResponses" | "requestState" => {
                    params.goes_on = true;
                    scanner.value()?;
                }
                other => {
                    params.lookalike |= is_lookalike(other, PARAMS_KEYS);
                    scanner.value()?;
                }
            }
            Ok(())
        })?;
        Ok(Member::Is(params))
    }

    fn read_meta(&mut self, scanner: &mut Scanner<'_>) -> Result<Member<MetaVersion>, Fault> {
        if scanner.kind()? != Kind::Object {
            return scanner.value().map(|_| Member::WrongType);
        }
        let mut version = MetaVersion::Absent;
        scanner.object(|scanner, key| {
            if key == META_VERSION {
                version = string(scanner)?.into_value().map_or(MetaVersion::NotText, MetaVersion::Named);
            } else if key == "progressToken" {
                self.progress = read_id(scanner)?;
            } else if key == META_CAPABILITIES {
                self.meta_capabilities = Capabilities::read(scanner)?;
            } else {
                self.lookalike |= is_lookalike(key, META_KEYS);
                scanner.value()?;
            }
            Ok(())
        })?;
        Ok(Member::Is(version))
    }
}

impl Capabilities {
    /// Reads capabilities; what is no object declares none.
    fn read(scanner: &mut Scanner<'_>) -> Result<Option<Self>, Fault> {
        if scanner.kind()? != Kind::Object {
            return scanner.value().map(|_| None);
        }
        let mut capabilities = Self::default();
        scanner.object(|scanner, key| {
            if key != "elicitation" || scanner.kind()? != Kind::Object {
                return scanner.value().map(drop);
            }
            scanner.object(|scanner, mode| {
                capabilities.opens_urls |= mode == "url" && scanner.kind()? == Kind::Object;
                scanner.value().map(drop)
            })
        })?;
        Ok(Some(capabilities))
    }
}

/// Reads which notifications a subscription is to bring.
fn listens_to_tools(scanner: &mut Scanner<'_>) -> Result<bool, Fault> {
    let mut listens = false;
    if scanner.kind()? != Kind::Object {
        return scanner.value().map(|_| false);
    }
    scanner.object(|scanner, key| {
        let place = scanner.value()?;
        listens |= key == "toolsListChanged" && scanner.source(place) == "true";
        Ok(())
    })?;
    Ok(listens)
}

impl Arguments {
    pub(super) fn read(scanner: &mut Scanner<'_>) -> Result<Self, Fault> {
        let mut arguments = Self::default();
        let kind = scanner.kind()?;
        let start = scanner.position();
        match kind {
            Kind::Object => scanner.object(|scanner, key| {
                if arguments.keys.len() < MAX_ARGUMENT_KEYS {
                    arguments.keys.push(key[..key.floor_char_boundary(MAX_ARGUMENT_KEY)].to_owned());
                } else {
                    arguments.left_out += 1;
                }
                scanner.value().map(drop)
            })?,
            kind => {
                arguments.wrong_type = kind != Kind::Null;
                scanner.value()?;
            }
        }
        if kind != Kind::Null {
            arguments.place = start..scanner.position();
        }
        Ok(arguments)
    }
}
