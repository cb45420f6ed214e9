//! Bytes to one unambiguous JSON-RPC message, read once and strictly: what two servers could read differently is refused here, and
//! the bytes that were judged are the bytes that are forwarded. mcp.md section 3, rules 1 to 7.
//!
//! Guarantees: no I/O; no input panics; recursion and memory are bounded.

use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Range;

use http::StatusCode;
use mcp_policy::json::{Fault, Kind, Scanner, unescape};

use crate::lookalike::is_lookalike;

const TOOLS_CALL: &str = "tools/call";

/// The bytes are not one UTF-8 JSON text.
pub(crate) const PARSE_ERROR: i64 = -32700;
/// They are, but are refused.
pub(crate) const INVALID_REQUEST: i64 = -32600;
pub(crate) const INVALID_PARAMS: i64 = -32602;
pub(crate) const HEADER_MISMATCH: i64 = -32020;
pub(crate) const UNSUPPORTED_VERSION: i64 = -32022;

/// Longest tool name that need not be on the server's list (rule 5).
const MAX_TOOL_NAME: usize = 128;
/// Argument keys kept for the audit line, and the bytes kept of each: an attacker must not fill the log.
const MAX_ARGUMENT_KEYS: usize = 64;
const MAX_ARGUMENT_KEY: usize = 128;

const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";

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
    "io.modelcontextprotocol/clientCapabilities",
    "io.modelcontextprotocol/clientInfo",
    "io.modelcontextprotocol/logLevel",
    "io.modelcontextprotocol/subscriptionId",
    "io.modelcontextprotocol/related-task",
    "progressToken",
    "traceparent",
    "tracestate",
    "baggage",
];

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
    /// What `Mcp-Name` must repeat, for methods other than a call.
    pub(crate) target: Option<String>,
    pub(crate) version: MetaVersion,
}

/// A notification from a client. Its method begins with `notifications/`: anything else without an id would be a request that asks
/// not to be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Matched exactly, case included (rule 7).
    pub method: String,
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
    /// Where the value of `arguments` stands in the message; empty where there is none.
    pub arguments: Range<usize>,
}

impl ToolCall {
    fn new(name: Member<String>, arguments: Arguments) -> Result<Self, Malformed> {
        // Rule 5: status 200, which the client's session survives.
        let refuse = |message| Err(Malformed::bare(StatusCode::OK, Reason::Params, message).with_code(INVALID_PARAMS));
        match name {
            Member::Is(name) if !name.is_empty() => {
                if arguments.wrong_type {
                    return refuse("`arguments` is not an object");
                }
                Ok(Self { name, argument_keys: arguments.keys, argument_keys_left_out: arguments.left_out, arguments: arguments.place })
            }
            _ => refuse("`name` is missing, empty or not a string"),
        }
    }

    /// Whether the name is one that every part of the system writes alike: at most 128 of `[A-Za-z0-9_.-]`, or the very name that the
    /// server `listed` (rule 5).
    pub fn has_proper_name(&self, listed: impl FnOnce(&str) -> bool) -> bool {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        (self.name.len() <= MAX_TOOL_NAME && self.name.bytes().all(plain)) || listed(&self.name)
    }
}

/// The id of a message: a string or an integer. Equal ids are the same JSON value: `"a"` is `"\u0061"`, and `1` is not `"1"`.
#[derive(Clone)]
pub struct Id {
    json: Box<str>,
    /// The string that it stands for, where it is one that is written with escapes.
    unescaped: Option<Box<str>>,
}

impl Id {
    /// The id in the text of a JSON string or number. `-0` is none: to some servers it is `0`, and they would answer with that.
    fn from_json(json: &str) -> Option<Self> {
        let unescaped = match json.strip_prefix('"').and_then(|json| json.strip_suffix('"')) {
            Some(text) => text.contains('\\').then(|| unescape(text).into()),
            None if json == "-0" || json.contains(['.', 'e', 'E']) => return None,
            None => None,
        };
        Some(Self { json: json.into(), unescaped })
    }

    /// The id as it was sent: JSON text, to be put into an answer verbatim.
    #[must_use]
    pub fn as_json(&self) -> &str {
        &self.json
    }

    /// Whether it is a string, and its value.
    fn value(&self) -> (bool, &str) {
        match &self.unescaped {
            Some(text) => (true, text),
            None => self.json.strip_prefix('"').and_then(|json| json.strip_suffix('"')).map_or((false, &self.json), |text| (true, text)),
        }
    }
}

impl PartialEq for Id {
    fn eq(&self, other: &Self) -> bool {
        self.value() == other.value()
    }
}

impl Eq for Id {}

impl Hash for Id {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.value().hash(state);
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.json)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Id({})", self.json)
    }
}

/// A request that is refused before any rule is asked. [`crate::respond::malformed`] answers it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Malformed {
    /// HTTP status of the answer.
    pub status: StatusCode,
    /// JSON-RPC code of the answer.
    pub code: i64,
    /// For metrics and audit lines.
    pub reason: Reason,
    /// For people. Holds nothing that the client sent.
    pub message: &'static str,
    /// The id of the message, where it could be read.
    pub id: Option<Id>,
    /// The revision that the client asked for, with [`Reason::UnsupportedVersion`].
    pub(crate) requested: Option<String>,
}

impl Malformed {
    /// A body over the limit.
    #[must_use]
    pub fn too_large() -> Self {
        Self::bare(StatusCode::PAYLOAD_TOO_LARGE, Reason::BodyTooLarge, "the body is over the size limit")
    }

    /// A body that did not arrive in time.
    #[must_use]
    pub fn body_timeout() -> Self {
        Self::bare(StatusCode::REQUEST_TIMEOUT, Reason::BodyTimeout, "the body did not arrive in time")
    }

    /// A refusal with the code for whatever has no code of its own.
    pub(crate) fn bare(status: StatusCode, reason: Reason, message: &'static str) -> Self {
        Self { status, code: INVALID_REQUEST, reason, message, id: None, requested: None }
    }

    pub(crate) fn bad_request(reason: Reason, message: &'static str) -> Self {
        Self::bare(StatusCode::BAD_REQUEST, reason, message)
    }

    pub(crate) fn with_code(self, code: i64) -> Self {
        Self { code, ..self }
    }

    pub(crate) fn with_id(self, id: Option<Id>) -> Self {
        Self { id, ..self }
    }
}

/// Why a request is malformed. The set is closed and its strings are stable: they are metric labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The bytes are not UTF-8.
    NotUtf8,
    /// The body begins with a byte order mark.
    ByteOrderMark,
    /// The body is not JSON.
    Syntax,
    /// Something follows the JSON text.
    TrailingBytes,
    /// The body is over the size limit.
    BodyTooLarge,
    /// The body did not arrive in time.
    BodyTimeout,
    /// Arrays and objects are nested too deeply.
    TooDeep,
    /// A key appears twice in one object.
    DuplicateKey,
    /// A key that some parsers take for another.
    LookalikeKey,
    /// Half of a surrogate pair.
    LoneSurrogate,
    /// A number that parsers read differently.
    Number,
    /// Several messages in one body.
    Batch,
    /// Not the form of a JSON-RPC message.
    Envelope,
    /// An id that is neither a string nor an integer.
    Id,
    /// `params`, or one of its parts, has the wrong type.
    Params,
    /// A header more than once, or in more than one way.
    RepeatedHeader,
    /// A header with bytes that it cannot have.
    HeaderBytes,
    /// A request whose end could be read in two ways.
    Framing,
    /// Not the path of the MCP endpoint.
    Path,
    /// An HTTP method that the endpoint does not have.
    HttpMethod,
    /// A body that is not declared as JSON in UTF-8.
    ContentType,
    /// A body that is declared as encoded.
    ContentEncoding,
    /// A header differs from the body that it repeats.
    HeaderMismatch,
    /// The revision is named in the header and not in the body.
    MissingVersion,
    /// A revision that is not spoken here.
    UnsupportedVersion,
}

impl Reason {
    /// Every reason.
    pub const ALL: &[Self] = &[
        Self::NotUtf8,
        Self::ByteOrderMark,
        Self::Syntax,
        Self::TrailingBytes,
        Self::BodyTooLarge,
        Self::BodyTimeout,
        Self::TooDeep,
        Self::DuplicateKey,
        Self::LookalikeKey,
        Self::LoneSurrogate,
        Self::Number,
        Self::Batch,
        Self::Envelope,
        Self::Id,
        Self::Params,
        Self::RepeatedHeader,
        Self::HeaderBytes,
        Self::Framing,
        Self::Path,
        Self::HttpMethod,
        Self::ContentType,
        Self::ContentEncoding,
        Self::HeaderMismatch,
        Self::MissingVersion,
        Self::UnsupportedVersion,
    ];

    /// The reason as metrics and audit lines show it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotUtf8 => "not_utf8",
            Self::ByteOrderMark => "byte_order_mark",
            Self::Syntax => "syntax",
            Self::TrailingBytes => "trailing_bytes",
            Self::BodyTooLarge => "body_too_large",
            Self::BodyTimeout => "body_timeout",
            Self::TooDeep => "too_deep",
            Self::DuplicateKey => "duplicate_key",
            Self::LookalikeKey => "lookalike_key",
            Self::LoneSurrogate => "lone_surrogate",
            Self::Number => "number",
            Self::Batch => "batch",
            Self::Envelope => "envelope",
            Self::Id => "id",
            Self::Params => "params",
            Self::RepeatedHeader => "repeated_header",
            Self::HeaderBytes => "header_bytes",
            Self::Framing => "framing",
            Self::Path => "path",
            Self::HttpMethod => "http_method",
            Self::ContentType => "content_type",
            Self::ContentEncoding => "content_encoding",
            Self::HeaderMismatch => "header_mismatch",
            Self::MissingVersion => "missing_version",
            Self::UnsupportedVersion => "unsupported_version",
        }
    }
}

/// Reads a client's body. An error carries the status and code of the answer; nothing of the body may be forwarded then.
pub fn parse(body: &[u8]) -> Result<Message, Malformed> {
    let mut scanner = Scanner::new(body).map_err(malformed)?;
    match scanner.kind().map_err(malformed)? {
        Kind::Object => {}
        Kind::Array => return Err(Malformed::bad_request(Reason::Batch, "batches are not accepted: send one message per request")),
        _ => return Err(Malformed::bad_request(Reason::Envelope, "a message is a JSON object")),
    }
    let mut envelope = Envelope::default();
    let outcome = envelope.read(&mut scanner, Params::read, skip).and_then(|()| scanner.finish());
    let id = envelope.unambiguous_id();
    match outcome {
        Ok(()) => envelope.into_message().map_err(|malformed| malformed.with_id(id)),
        // Such a body may go on behind the fault with another id, or is no JSON at all.
        Err(fault @ (Fault::Syntax | Fault::TrailingBytes)) => Err(malformed(fault)),
        Err(fault) => Err(malformed(fault).with_id(id)),
    }
}

fn malformed(fault: Fault) -> Malformed {
    let (reason, message) = match fault {
        Fault::NotUtf8 => (Reason::NotUtf8, "the body is not UTF-8"),
        Fault::Bom => (Reason::ByteOrderMark, "the body begins with a byte order mark"),
        Fault::Syntax => (Reason::Syntax, "the body is not JSON"),
        Fault::TrailingBytes => (Reason::TrailingBytes, "something follows the JSON text"),
        Fault::TooLong => return Malformed::too_large(),
        Fault::TooDeep => (Reason::TooDeep, "the message is nested more than 64 levels deep"),
        Fault::DuplicateKey => (Reason::DuplicateKey, "a key appears twice in one object"),
        Fault::LoneSurrogate => (Reason::LoneSurrogate, "a string has half of a surrogate pair"),
        Fault::Number => (Reason::Number, "a number has more than 100 digits, or is out of range"),
    };
    let not_json = matches!(fault, Fault::NotUtf8 | Fault::Bom | Fault::Syntax | Fault::TrailingBytes);
    Malformed::bad_request(reason, message).with_code(if not_json { PARSE_ERROR } else { INVALID_REQUEST })
}

/// A member that must have one type.
#[derive(Debug, Default)]
enum Member<T> {
    #[default]
    Absent,
    WrongType,
    Is(T),
}

impl<T> Member<T> {
    fn is_present(&self) -> bool {
        !matches!(self, Self::Absent)
    }
}

fn skip(scanner: &mut Scanner<'_>) -> Result<(), Fault> {
    scanner.value().map(drop)
}

fn string(scanner: &mut Scanner<'_>) -> Result<Member<String>, Fault> {
    if scanner.kind()? == Kind::String {
        scanner.string().map(Cow::into_owned).map(Member::Is)
    } else {
        scanner.value().map(|_| Member::WrongType)
    }
}

/// The top level of a message, as far as it was read.
#[derive(Default)]
struct Envelope {
    jsonrpc: Member<String>,
    ids: usize,
    id: Member<Id>,
    method: Member<String>,
    params: Member<Params>,
    has_result: bool,
    error: Member<()>,
    unknown_key: bool,
    lookalike: bool,
}

const ENVELOPE_KEYS: &[&str] = &["jsonrpc", "id", "method", "params", "result", "error"];

impl Envelope {
    /// Reads the message's object; what `params` and `result` hold is for the caller to read.
    fn read<'a>(
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

    fn unambiguous_id(&self) -> Option<Id> {
        match &self.id {
            Member::Is(id) if self.ids == 1 => Some(id.clone()),
            _ => None,
        }
    }

    fn into_message(self) -> Result<Message, Malformed> {
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
                let (call, target) = match method.as_str() {
                    TOOLS_CALL => (Some(ToolCall::new(params.name, params.arguments)?), None),
                    "prompts/get" => (None, params.name.into_text()),
                    "resources/read" => (None, params.uri.into_text()),
                    "tasks/get" | "tasks/update" | "tasks/cancel" => (None, params.task_id.into_text()),
                    _ => (None, None),
                };
                Ok(Message::Request(Request { id, method, call, target, version }))
            }
            _ if method.starts_with("notifications/") => Ok(Message::Notification(Notification { method, version })),
            _ => Err(Malformed::bad_request(Reason::Id, "a request needs an id")),
        }
    }
}

impl Member<String> {
    fn into_text(self) -> Option<String> {
        if let Self::Is(text) = self { Some(text) } else { None }
    }
}

fn read_id(scanner: &mut Scanner<'_>) -> Result<Member<Id>, Fault> {
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
struct Params {
    name: Member<String>,
    uri: Member<String>,
    task_id: Member<String>,
    arguments: Arguments,
    meta: Member<MetaVersion>,
    lookalike: bool,
}

/// The `arguments` of a call. `null` is as absent.
#[derive(Default)]
struct Arguments {
    wrong_type: bool,
    keys: Vec<String>,
    left_out: usize,
    place: Range<usize>,
}

impl Params {
    fn read(scanner: &mut Scanner<'_>) -> Result<Member<Self>, Fault> {
        if scanner.kind()? != Kind::Object {
            return scanner.value().map(|_| Member::WrongType);
        }
        let mut params = Self::default();
        scanner.object(|scanner, key| {
            match key {
                "name" => params.name = string(scanner)?,
                "uri" => params.uri = string(scanner)?,
                "taskId" => params.task_id = string(scanner)?,
                "arguments" => params.arguments = Arguments::read(scanner)?,
                "_meta" => params.meta = params.read_meta(scanner)?,
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
                version = string(scanner)?.into_text().map_or(MetaVersion::NotText, MetaVersion::Named);
            } else {
                self.lookalike |= is_lookalike(key, META_KEYS);
                scanner.value()?;
            }
            Ok(())
        })?;
        Ok(Member::Is(version))
    }
}

impl Arguments {
    fn read(scanner: &mut Scanner<'_>) -> Result<Self, Fault> {
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
        arguments.place = start..scanner.position();
        Ok(arguments)
    }
}

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
    // Nobody looks into the params of a server's request.
    envelope.read(&mut scanner, |scanner| skip(scanner).map(|()| Member::Absent), result)?;
    scanner.finish()?;
    if envelope.lookalike || !matches!(&envelope.jsonrpc, Member::Is(version) if version == "2.0") {
        return Err(Unreadable(()));
    }
    match (envelope.method, envelope.id, envelope.has_result, envelope.error) {
        (Member::Is(method), Member::Is(id), false, Member::Absent) => Ok(ServerMessage::Request { id, method }),
        (Member::Is(method), Member::Absent, false, Member::Absent) => Ok(ServerMessage::Notification { method }),
        (Member::Absent, Member::Is(id), true, Member::Absent) => Ok(ServerMessage::Result { id }),
        (Member::Absent, Member::Is(id), false, Member::Is(())) => Ok(ServerMessage::Error { id: Some(id) }),
        // Older servers write `null` for an id that they could not read.
        (Member::Absent, Member::Absent | Member::WrongType, false, Member::Is(())) => Ok(ServerMessage::Error { id: None }),
        _ => Err(Unreadable(())),
    }
}

#[cfg(test)]
mod tests;
