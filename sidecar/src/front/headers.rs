//! What the head of a request must be like before anyone believes its body, which protocol era it speaks, and what of the head goes
//! on. The body decides; headers only confirm it. mcp.md 1.2 and section 3, rules 7 to 14 and 16.
//!
//! Caveats: what of the framing leaves no trace in a header map is judged in `framing.rs`. What `Mcp-Param-*` headers repeat is known only
//! from the tool's schema: see [`crate::message::mirrored`].

use std::borrow::Cow;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Uri};

use crate::message::era::{self, Era, MODERN, REVISIONS};
use crate::message::{HEADER_MISMATCH, INVALID_PARAMS, Malformed, Message, MetaVersion, PARSE_ERROR, Reason};

const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const MCP_METHOD: HeaderName = HeaderName::from_static("mcp-method");
const MCP_NAME: HeaderName = HeaderName::from_static("mcp-name");
pub(crate) const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");

/// What a request asks of the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// One message to the endpoint.
    Post,
    /// The stream from server to client (legacy).
    Get,
    /// The end of a session (legacy).
    Delete,
    /// A public document by which clients find the authorization server. Passes without JSON-RPC.
    Discovery,
}

/// Judges the head of a request: rules 8 to 11, and 12 as far as headers show it. `endpoint` is the path of the MCP endpoint.
///
/// A request that passes must be forwarded to exactly `endpoint`, without the query; a [`Route::Discovery`] to its own path.
pub fn route(method: &Method, uri: &Uri, headers: &HeaderMap, endpoint: &str) -> Result<Route, Malformed> {
    check_once(headers)?;
    check_framing(uri, headers)?;
    let path = uri.path();
    if path != endpoint && !(method == Method::GET && is_discovery(path, endpoint)) {
        return Err(Malformed::bare(StatusCode::NOT_FOUND, Reason::Path, "there is no such path here"));
    }
    match *method {
        Method::POST => check_content(headers).map(|()| Route::Post),
        Method::GET | Method::DELETE => {
            check_no_body(headers)?;
            if path != endpoint {
                return Ok(Route::Discovery);
            }
            // The modern revision has only POST, and its clients know this answer.
            if headers.get(PROTOCOL_VERSION).is_some_and(|version| trim(version.as_bytes()) == MODERN.as_bytes()) {
                return Err(wrong_method());
            }
            Ok(if *method == Method::GET { Route::Get } else { Route::Delete })
        }
        _ => Err(wrong_method()),
    }
}

fn check_no_body(headers: &HeaderMap) -> Result<(), Malformed> {
    let is_empty = headers.get(header::CONTENT_LENGTH).is_none_or(|length| length == "0");
    if is_empty && !headers.contains_key(header::TRANSFER_ENCODING) {
        return Ok(());
    }
    Err(Malformed::bad_request(Reason::Framing, "GET and DELETE have no body"))
}

/// Refuses an HTTP method that is none of the path's.
pub(crate) fn wrong_method() -> Malformed {
    Malformed::bare(StatusCode::METHOD_NOT_ALLOWED, Reason::HttpMethod, "the endpoint does not have this HTTP method")
}

/// Whether the era's own headers are judged later, with the body at hand ([`era`]).
fn is_mirrored(name: &HeaderName) -> bool {
    [PROTOCOL_VERSION, MCP_METHOD, MCP_NAME].contains(name) || name.as_str().starts_with("mcp-param-")
}

/// Whether a header decides something, and so must be there once and mean one thing.
fn is_decisive(name: &str) -> bool {
    matches!(
        name,
        "host"
            | "content-type"
            | "content-length"
            | "content-encoding"
            | "transfer-encoding"
            | "authorization"
            | "origin"
            | "last-event-id"
    ) || name.starts_with("mcp-")
}

/// Rule 11.
fn check_once(headers: &HeaderMap) -> Result<(), Malformed> {
    for name in headers.keys() {
        if is_decisive(name.as_str()) && !is_mirrored(name) {
            check_value(headers, name)?;
        }
    }
    for connection in headers.get_all(header::CONNECTION) {
        // Whoever drops such a header as asked to reads another request than the one that was judged.
        if list(connection).any(|name| is_decisive(&name) && !matches!(name.as_str(), "transfer-encoding" | "content-length")) {
            return Err(Malformed::bad_request(Reason::RepeatedHeader, "`Connection` names a header that must not be dropped"));
        }
    }
    Ok(())
}

/// The one value of a header; none if the header is absent.
pub(crate) fn check_value<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a [u8]>, Malformed> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Malformed::bad_request(Reason::RepeatedHeader, "a header that must be there once is there twice"));
    }
    if !value.as_bytes().iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~')) {
        return Err(Malformed::bad_request(Reason::HeaderBytes, "a header has bytes beyond visible ASCII"));
    }
    Ok(Some(trim(value.as_bytes())))
}

/// Rule 12, and a target that names another host than `Host` does.
fn check_framing(uri: &Uri, headers: &HeaderMap) -> Result<(), Malformed> {
    let refuse = |message| Err(Malformed::bad_request(Reason::Framing, message));
    if let Some(encoding) = headers.get(header::TRANSFER_ENCODING) {
        if headers.contains_key(header::CONTENT_LENGTH) {
            return refuse("`Content-Length` stands beside `Transfer-Encoding`");
        }
        if !trim(encoding.as_bytes()).eq_ignore_ascii_case(b"chunked") {
            return refuse("the only transfer encoding is `chunked`");
        }
    }
    let host = headers.get(header::HOST).map(|host| trim(host.as_bytes()));
    match uri.authority() {
        Some(authority) if host.is_some_and(|host| !host.eq_ignore_ascii_case(authority.as_str().as_bytes())) => {
            refuse("the request's target and `Host` differ")
        }
        _ => Ok(()),
    }
}

/// Rule 10. `Accept` passes as sent: servers differ in what they want there.
fn check_content(headers: &HeaderMap) -> Result<(), Malformed> {
    let unsupported = |reason, message| Err(Malformed::bare(StatusCode::UNSUPPORTED_MEDIA_TYPE, reason, message));
    let encoding = headers.get(header::CONTENT_ENCODING).map(|value| trim(value.as_bytes()));
    if encoding.is_some_and(|encoding| !encoding.eq_ignore_ascii_case(b"identity")) {
        return unsupported(Reason::ContentEncoding, "the body must not be encoded");
    }
    let media = headers.get(header::CONTENT_TYPE).and_then(MediaType::parse);
    let Some(media) = media.filter(|media| media.is("application/json")) else {
        return unsupported(Reason::ContentType, "the content type is not application/json");
    };
    if media.charset.is_some_and(|charset| !charset.eq_ignore_ascii_case("utf-8")) {
        return Err(Malformed::bad_request(Reason::ContentType, "the charset is not utf-8").with_code(PARSE_ERROR));
    }
    Ok(())
}

/// A `Content-Type`, read strictly.
struct MediaType<'a> {
    essence: &'a str,
    charset: Option<&'a str>,
}

impl<'a> MediaType<'a> {
    /// None for what is not one media type, or has two charsets. A comma would make it two, so there is none even within quotes; nor
    /// is there an escape within quotes, as readers treat it differently.
    fn parse(value: &'a HeaderValue) -> Option<Self> {
        // As almost everybody writes them.
        if let Some(essence) = ["application/json", "text/event-stream"].into_iter().find(|essence| value == essence) {
            return Some(Self { essence, charset: None });
        }
        let text = value.to_str().ok()?;
        if text.contains([',', '\\']) {
            return None;
        }
        let mut parts = text.split(';').map(|part| part.trim_matches([' ', '\t']));
        let essence = parts.next()?;
        let (kind, subtype) = essence.split_once('/')?;
        if !is_token(kind) || !is_token(subtype) {
            return None;
        }
        let mut charset = None;
        for parameter in parts {
            let (name, value) = parameter.split_once('=')?;
            let unquoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).filter(|value| !value.contains('"'));
            if !is_token(name) || (unquoted.is_none() && !is_token(value)) {
                return None;
            }
            if name.eq_ignore_ascii_case("charset") && charset.replace(unquoted.unwrap_or(value)).is_some() {
                return None;
            }
        }
        Some(Self { essence, charset })
    }

    fn is(&self, essence: &str) -> bool {
        self.essence.eq_ignore_ascii_case(essence)
    }
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// The documents of OAuth discovery, with and without the endpoint's path behind them (mcp.md 5.3).
fn is_discovery(path: &str, endpoint: &str) -> bool {
    ["oauth-protected-resource", "oauth-authorization-server", "openid-configuration"].into_iter().any(|document| {
        path.strip_prefix("/.well-known/")
            .and_then(|path| path.strip_prefix(document))
            .is_some_and(|rest| rest.is_empty() || rest == endpoint)
    })
}

/// The era of a message, by its body and its version header; and rule 14: the headers that repeat parts of the body must agree with it.
///
/// A notification need not repeat its version in `_meta`, nor its method: its era is that of the header.
pub fn era(headers: &HeaderMap, message: &Message) -> Result<Era, Malformed> {
    judge_era(headers, message).map_err(|malformed| malformed.with_id(message.id().cloned()))
}

fn judge_era(headers: &HeaderMap, message: &Message) -> Result<Era, Malformed> {
    let named = message.version();
    // A fault of a mirrored header has the mirrored headers' code where the body is modern, whichever fault it is.
    let code = if *named == MetaVersion::Absent { None } else { Some(HEADER_MISMATCH) };
    let coded = |malformed: Malformed| if let Some(code) = code { malformed.with_code(code) } else { malformed };
    let header = check_value(headers, &PROTOCOL_VERSION).map_err(coded)?;

    let era = match (named, header) {
        (MetaVersion::NotText, _) => return Err(era::not_text()),
        (MetaVersion::Named(named), header) => {
            if header != Some(named.as_bytes()) {
                return Err(mismatch(Era::Modern, "`MCP-Protocol-Version` is not the revision in `_meta`"));
            }
            if named != MODERN {
                return Err(era::unsupported(named));
            }
            era::check_meta(message)?;
            Era::Modern
        }
        (MetaVersion::Absent, None) => Era::Legacy,
        (MetaVersion::Absent, Some(header)) if header == MODERN.as_bytes() => match message {
            Message::Request(_) => {
                let missing = Malformed::bad_request(Reason::MissingVersion, "the revision is missing from `_meta`");
                return Err(missing.with_code(INVALID_PARAMS));
            }
            Message::Notification(_) => Era::Modern,
            Message::Response(_) => return Err(Malformed::bad_request(Reason::Envelope, "this revision has no responses from clients")),
        },
        (MetaVersion::Absent, Some(header)) if REVISIONS.iter().any(|revision| header == revision.as_bytes()) => Era::Legacy,
        (MetaVersion::Absent, Some(_)) => {
            return Err(Malformed::bad_request(Reason::UnsupportedVersion, "`MCP-Protocol-Version` is not a revision that is spoken here"));
        }
    };
    check_mirrors(headers, message, era)?;
    Ok(era)
}

fn mismatch(era: Era, message: &'static str) -> Malformed {
    let malformed = Malformed::bad_request(Reason::HeaderMismatch, message);
    if era == Era::Modern { malformed.with_code(HEADER_MISMATCH) } else { malformed }
}

/// Rule 14. In the legacy era these headers mean nothing, but something on the way may trust them.
fn check_mirrors(headers: &HeaderMap, message: &Message, era: Era) -> Result<(), Malformed> {
    let read = |name: &HeaderName| {
        check_value(headers, name).map_err(|malformed| if era == Era::Modern { malformed.with_code(HEADER_MISMATCH) } else { malformed })
    };
    // What they repeat is asked later ([`crate::message::mirrored`]).
    for name in headers.keys().filter(|name| name.as_str().starts_with("mcp-param-")) {
        read(name)?;
    }
    let request = if let Message::Request(request) = message { Some(request) } else { None };
    let must_repeat = era == Era::Modern && request.is_some();

    match (read(&MCP_METHOD)?, message.method()) {
        (Some(header), Some(method)) if header == method.as_bytes() => {}
        (None, _) if !must_repeat => {}
        _ => return Err(mismatch(era, "`Mcp-Method` is not the method of the body")),
    }
    let target = request.and_then(|request| request.call.as_ref().map(|call| &call.name).or(request.target.as_ref()));
    match (read(&MCP_NAME)?, target) {
        (Some(header), Some(target)) if decode(header).is_some_and(|name| *name == *target.as_bytes()) => Ok(()),
        (None, Some(_)) if !must_repeat => Ok(()),
        // Not a method whose target is repeated: there is nothing to agree with, and servers ignore the header.
        (_, None) if request.is_none_or(|request| !repeats_target(&request.method)) => Ok(()),
        (None, None) => Ok(()),
        _ => Err(mismatch(era, "`Mcp-Name` is not what the body names")),
    }
}

fn repeats_target(method: &str) -> bool {
    matches!(method, "tools/call" | "prompts/get" | "resources/read" | "tasks/get" | "tasks/update" | "tasks/cancel")
}

/// The value of a mirrored header: plain, or `=?base64?…?=`. None where it looks encoded and is not.
pub(crate) fn decode(value: &[u8]) -> Option<Cow<'_, [u8]>> {
    match value.strip_prefix(b"=?base64?").and_then(|value| value.strip_suffix(b"?=")) {
        Some(encoded) => BASE64_STANDARD.decode(encoded).ok().map(Cow::Owned),
        None => Some(value.into()),
    }
}

/// The session that a request names; none where that is no session id (visible ASCII).
#[must_use]
pub fn session_id(headers: &HeaderMap) -> Option<&str> {
    let id = headers.get(SESSION_ID)?.to_str().ok()?;
    id.bytes().all(|byte| byte.is_ascii_graphic()).then_some(id).filter(|id| !id.is_empty())
}

/// The headers that a request takes to the server: without those of the connection, without a length (the body is framed anew), without
/// claims about who is asking or for what path and method (rule 13), and with the wish for an answer that is not encoded (rule 16).
pub fn to_upstream(headers: &HeaderMap) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
    static IDENTITY: HeaderValue = HeaderValue::from_static("identity");
    let is_dropped = |name: &str| matches!(name, "content-length" | "expect" | "accept-encoding") || is_claim(name);
    end_to_end(headers, is_dropped).chain(std::iter::once((&header::ACCEPT_ENCODING, &IDENTITY)))
}

/// Whether a client would say something by this header that only a trusted hop may say, or that overrides what was judged.
fn is_claim(name: &str) -> bool {
    name.starts_with("x-forwarded-")
        || name.starts_with("mcp-policy-")
        || matches!(
            name,
            "forwarded"
                | "x-real-ip"
                | "x-client-cert"
                | "x-spiffe-id"
                | "x-http-method"
                | "x-http-method-override"
                | "x-method-override"
                | "x-original-url"
                | "x-rewrite-url"
        )
}

/// The headers of a message of our own to the server, sent in the name of the client that sent a request with these: its session, its
/// credentials and its revision, and nothing that says what that request was.
#[must_use]
pub fn of_own_message(request: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(request.len() + 2);
    for (name, value) in request {
        if !says_what_it_is(name.as_str()) || [PROTOCOL_VERSION, SESSION_ID].contains(name) {
            headers.append(name, value.clone());
        }
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
    headers
}

/// Whether a header is about the very request that it came with.
fn says_what_it_is(name: &str) -> bool {
    ["mcp-", "content-", "if-", "repr-", "want-"].iter().any(|prefix| name.starts_with(prefix))
        || matches!(name, "accept" | "digest" | "last-event-id" | "prefer" | "range" | "signature" | "signature-input" | "te")
}

/// Whether an answer's body goes on as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// Byte for byte.
    Untouched,
    /// With other bytes, or as a stream that may change: what the head says of length and digest no longer holds.
    Replaced,
}

/// The headers that an answer of the server takes to the client.
#[must_use]
pub fn to_client(mut headers: HeaderMap, body: Body) -> HeaderMap {
    let is_dropped = |name: &str| {
        body == Body::Replaced
            && matches!(name, "content-length" | "content-digest" | "repr-digest" | "digest" | "content-md5" | "etag" | "accept-ranges")
    };
    let named = named_by_connection(&headers);
    let gone: Vec<HeaderName> = headers.keys().filter(|name| !goes_on(name.as_str(), &named, is_dropped)).cloned().collect();
    for name in gone {
        headers.remove(name);
    }
    headers
}

/// The headers without those of the connection, without those that `Connection` names, and without what is dropped.
fn end_to_end(headers: &HeaderMap, is_dropped: impl Fn(&str) -> bool) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
    let named = named_by_connection(headers);
    headers.iter().filter(move |(name, _)| goes_on(name.as_str(), &named, &is_dropped))
}

fn named_by_connection(headers: &HeaderMap) -> Vec<String> {
    headers.get_all(header::CONNECTION).iter().flat_map(list).collect()
}

fn goes_on(name: &str, named: &[String], is_dropped: impl Fn(&str) -> bool) -> bool {
    let ends_here = is_hop_by_hop(name) || named.iter().any(|named| named == name) || is_dropped(name);
    !ends_here && !hides(name, is_dropped)
}

/// Whether a name with `_` is, to servers that take `_` for `-` (CGI and its heirs), a header that is dropped or that decides.
fn hides(name: &str, dropped: impl Fn(&str) -> bool) -> bool {
    name.contains('_') && {
        let name = name.replace('_', "-");
        is_hop_by_hop(&name) || is_decisive(&name) || dropped(&name)
    }
}

fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "http2-settings"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// The elements of a comma-separated header, in lower case.
fn list(value: &HeaderValue) -> impl Iterator<Item = String> {
    value.as_bytes().split(|byte| *byte == b',').map(|name| String::from_utf8_lossy(trim(name)).to_ascii_lowercase())
}

/// What an answer's body carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// One JSON text.
    Json,
    /// An event stream.
    EventStream,
    /// Something that no client takes for an answer of MCP.
    Other,
}

/// What the body of an answer carries, by its content type.
#[must_use]
pub fn carrier(headers: &HeaderMap) -> Carrier {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    match (values.next().and_then(MediaType::parse), values.next()) {
        (Some(media), None) if media.is("application/json") => Carrier::Json,
        (Some(media), None) if media.is("text/event-stream") => Carrier::EventStream,
        _ => Carrier::Other,
    }
}

/// Whether the body of an answer is encoded, so that it cannot be looked into (rule 16).
#[must_use]
pub fn is_encoded(headers: &HeaderMap) -> bool {
    headers.get_all(header::CONTENT_ENCODING).iter().any(|value| !trim(value.as_bytes()).eq_ignore_ascii_case(b"identity"))
}

/// Without optional white space.
fn trim(value: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().take_while(|byte| is_space(byte)).count();
    let value = &value[start..];
    let end = value.len() - value.iter().rev().take_while(|byte| is_space(byte)).count();
    &value[..end]
}

#[cfg(test)]
mod tests;
