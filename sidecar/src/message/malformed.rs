//! What is refused before any rule is asked, and why.

use http::StatusCode;
use mcp_policy::json::Fault;

use super::{INVALID_PARAMS, INVALID_REQUEST, Id, PARSE_ERROR};

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

    /// A request whose id is that of another one that has no answer yet. It is answered without the id: that is the other's.
    #[must_use]
    pub fn id_in_use() -> Self {
        Self::bad_request(Reason::Id, "the id is that of a request that has no answer yet")
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
    /// A key that some parsers take for another: one that the protocol gives, or that stands beside it in the arguments.
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
    /// A request head that is not one of HTTP/1, or too large.
    Head,
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
    /// A modern request does not say what its client can do.
    MissingCapabilities,
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
        Self::Head,
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
            Self::Head => "head",
            Self::Path => "path",
            Self::HttpMethod => "http_method",
            Self::ContentType => "content_type",
            Self::ContentEncoding => "content_encoding",
            Self::HeaderMismatch => "header_mismatch",
            Self::MissingVersion => "missing_version",
            Self::MissingCapabilities => "missing_capabilities",
            Self::UnsupportedVersion => "unsupported_version",
        }
    }
}

impl From<Fault> for Malformed {
    fn from(fault: Fault) -> Self {
        let (reason, message) = match fault {
            Fault::NotUtf8 => (Reason::NotUtf8, "the body is not UTF-8"),
            Fault::Bom => (Reason::ByteOrderMark, "the body begins with a byte order mark"),
            Fault::Syntax => (Reason::Syntax, "the body is not JSON"),
            Fault::TrailingBytes => (Reason::TrailingBytes, "something follows the JSON text"),
            Fault::TooLong => return Self::too_large(),
            Fault::TooDeep => (Reason::TooDeep, "the message is nested more than 64 levels deep"),
            // A model can write such arguments, so its client keeps its session, as under rule 5.
            Fault::LookalikeKey => {
                let message =
                    "two keys of one object in `arguments` differ only in case, blanks or forms of letters, which some servers overlook";
                return Self::bare(StatusCode::OK, Reason::LookalikeKey, message).with_code(INVALID_PARAMS);
            }
            Fault::DuplicateKey => (Reason::DuplicateKey, "a key appears twice in one object"),
            Fault::LoneSurrogate => (Reason::LoneSurrogate, "a string has half of a surrogate pair"),
            Fault::Number => (Reason::Number, "a number has more than 100 digits, or is out of range"),
        };
        let not_json = matches!(fault, Fault::NotUtf8 | Fault::Bom | Fault::Syntax | Fault::TrailingBytes);
        Self::bad_request(reason, message).with_code(if not_json { PARSE_ERROR } else { INVALID_REQUEST })
    }
}
