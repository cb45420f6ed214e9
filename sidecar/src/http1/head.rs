//! Heads of requests and answers: bytes to header maps and back. mcp.md section 3, rule 12.
//!
//! Guarantee: of a request that comes out of here, every reader sees the same lines and the same end of its body.

use std::io::Write;

use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, DATE, EXPECT, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::{Method, Request, Response, StatusCode, Uri, Version};
use httparse::{EMPTY_HEADER, Status};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;

use crate::http1::body::Framing;

/// Header lines of one head.
const MAX_LINES: usize = 96;

/// Digits of a length: those of the largest there is.
const MAX_DIGITS: usize = 20;

/// Why a head cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// It is not HTTP/1, or says of its body what nobody can follow.
    #[error("the head cannot be read")]
    Unreadable,
    /// It is too long, or has too many lines.
    #[error("the head is too large")]
    TooLarge,
    /// Of a request: some would read it, and not all alike.
    #[error("the head does not say in one way only where the body ends")]
    Ambiguous,
}

/// The head of a request.
#[derive(Debug)]
pub(crate) struct RequestHead {
    /// Method, target, version, headers.
    pub(crate) request: Request<()>,
    /// Where its body ends.
    pub(crate) framing: Framing,
    /// Whether another request may follow.
    pub(crate) keep_alive: bool,
    /// Whether the caller waits to be told to send the body.
    pub(crate) expects_continue: bool,
}

/// The head of an answer.
#[derive(Debug)]
pub(crate) struct AnswerHead {
    /// Status, version, headers.
    pub(crate) response: Response<()>,
    /// Where its body ends.
    pub(crate) framing: Framing,
    /// Whether another request may be sent behind it.
    pub(crate) keep_alive: bool,
}

/// Where the name and the value of a line stand.
type Place = [u32; 4];

/// Takes the head of a request from the front of `buffer`, if it is there, and at most `max` bytes long.
pub(crate) fn request(buffer: &mut BytesMut, max: usize) -> Result<Option<RequestHead>, Fault> {
    let mut lines = [EMPTY_HEADER; MAX_LINES];
    let mut parsed = httparse::Request::new(&mut lines);
    let length = parsed_length(parsed.parse(buffer), buffer.len(), max)?;
    let Some(length) = length else { return Ok(None) };
    let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version) else { return Err(Fault::Unreadable) };
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| Fault::Unreadable)?;
    let target = place(buffer, target.as_bytes());
    let (places, count) = places(buffer, parsed.headers);

    let head = buffer.split_to(length).freeze();
    let target = Uri::from_maybe_shared(head.slice(target[0] as usize..target[1] as usize)).map_err(|_| Fault::Unreadable)?;
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = target;
    *request.version_mut() = version_of(version);
    *request.headers_mut() = headers(&head, &places[..count])?;
    let framing = request_framing(request.headers(), request.version())?;
    // Of requests even the ends of lines are seen alike by all only if they are CRLF.
    if memchr::memchr_iter(b'\n', &head).any(|end| end == 0 || head[end - 1] != b'\r') {
        return Err(Fault::Ambiguous);
    }
    let expects_continue = request.headers().get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    Ok(Some(RequestHead {
        framing,
        keep_alive: keeps_alive(request.headers(), request.version()),
        expects_continue: expects_continue && request.version() == Version::HTTP_11,
        request,
    }))
}

/// Takes the head of an answer from the front of `buffer`, if it is there, and at most `max` bytes long.
pub(crate) fn answer(buffer: &mut BytesMut, max: usize) -> Result<Option<AnswerHead>, Fault> {
    let mut lines = [EMPTY_HEADER; MAX_LINES];
    let mut parsed = httparse::Response::new(&mut lines);
    let length = parsed_length(parsed.parse(buffer), buffer.len(), max)?;
    let Some(length) = length else { return Ok(None) };
    let (Some(status), Some(version)) = (parsed.code, parsed.version) else { return Err(Fault::Unreadable) };
    let (places, count) = places(buffer, parsed.headers);

    let head = buffer.split_to(length).freeze();
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(status).map_err(|_| Fault::Unreadable)?;
    *response.version_mut() = version_of(version);
    *response.headers_mut() = headers(&head, &places[..count])?;
    let framing = answer_framing(response.status(), response.headers())?;
    let keep_alive = framing != Framing::UntilClose && keeps_alive(response.headers(), response.version());
    Ok(Some(AnswerHead { response, framing, keep_alive }))
}

/// How long the head is; none if its end has not come.
fn parsed_length(parsed: httparse::Result<usize>, have: usize, max: usize) -> Result<Option<usize>, Fault> {
    match parsed {
        Ok(Status::Complete(length)) if length <= max => Ok(Some(length)),
        Ok(Status::Partial) if have < max => Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => Err(Fault::TooLarge),
        Err(_) => Err(Fault::Unreadable),
    }
}

/// Where a part of `whole` stands in it.
fn place(whole: &[u8], part: &[u8]) -> [u32; 2] {
    let start = part.as_ptr().addr().wrapping_sub(whole.as_ptr().addr());
    // Heads are far shorter than 4 GiB.
    [start, start + part.len()].map(|at| u32::try_from(at).unwrap_or(u32::MAX))
}

fn places(whole: &[u8], lines: &[httparse::Header<'_>]) -> ([Place; MAX_LINES], usize) {
    let mut places = [[0; 4]; MAX_LINES];
    for (into, line) in places.iter_mut().zip(lines) {
        let ([a, b], [c, d]) = (place(whole, line.name.as_bytes()), place(whole, line.value));
        *into = [a, b, c, d];
    }
    (places, lines.len())
}

/// The lines as a map, whose values are parts of `head`.
fn headers(head: &Bytes, places: &[Place]) -> Result<HeaderMap, Fault> {
    let mut headers = HeaderMap::with_capacity(places.len());
    for [a, b, c, d] in places {
        let name = HeaderName::from_bytes(&head[*a as usize..*b as usize]).map_err(|_| Fault::Unreadable)?;
        let mut value = HeaderValue::from_maybe_shared(head.slice(*c as usize..*d as usize)).map_err(|_| Fault::Unreadable)?;
        // No `Debug` shows it.
        value.set_sensitive(name == AUTHORIZATION);
        headers.append(name, value);
    }
    Ok(headers)
}

fn version_of(minor: u8) -> Version {
    if minor == 0 { Version::HTTP_10 } else { Version::HTTP_11 }
}

fn request_framing(headers: &HeaderMap, version: Version) -> Result<Framing, Fault> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next_back() else {
        let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
        let Some(first) = lengths.next() else { return Ok(Framing::NONE) };
        let length = digits(first)?;
        return match lengths.next() {
            None => Ok(Framing::Length(length)),
            Some(other) if digits(other)? == length => Err(Fault::Ambiguous),
            Some(_) => Err(Fault::Unreadable),
        };
    };
    let last = coding.as_bytes().rsplit(|byte| *byte == b',').next().unwrap_or_default();
    if version == Version::HTTP_10 || !last.trim_ascii().eq_ignore_ascii_case(b"chunked") {
        return Err(Fault::Unreadable);
    }
    if codings.next().is_some() || headers.contains_key(CONTENT_LENGTH) || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return Err(Fault::Ambiguous);
    }
    Ok(Framing::Chunked)
}

/// A length beside a coding counts for nothing, as RFC 9112 has it: the answer is framed anew for the caller.
fn answer_framing(status: StatusCode, headers: &HeaderMap) -> Result<Framing, Fault> {
    // What follows is no HTTP any more.
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(Framing::UntilClose);
    }
    if status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        return Ok(Framing::NONE);
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => {}
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => return Ok(Framing::Chunked),
        _ => return Err(Fault::Unreadable),
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let Some(first) = lengths.next() else { return Ok(Framing::UntilClose) };
    let length = digits(first)?;
    if lengths.any(|other| digits(other) != Ok(length)) { Err(Fault::Unreadable) } else { Ok(Framing::Length(length)) }
}

/// A length: digits and nothing else.
fn digits(value: &HeaderValue) -> Result<u64, Fault> {
    let text = value.to_str().map_err(|_| Fault::Unreadable)?;
    if text.len() > MAX_DIGITS || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Fault::Unreadable);
    }
    text.parse().map_err(|_| Fault::Unreadable)
}

/// Whether the connection goes on behind this message.
fn keeps_alive(headers: &HeaderMap, version: Version) -> bool {
    let says = |word: &[u8]| {
        let mut words = headers.get_all(CONNECTION).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        words.any(|said| said.trim_ascii().eq_ignore_ascii_case(word))
    };
    !says(b"close") && (version == Version::HTTP_11 || says(b"keep-alive"))
}

/// Writes a header line.
pub(crate) fn write_line(out: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Writes a number's digits.
pub(crate) fn write_number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; MAX_DIGITS];
    let mut at = MAX_DIGITS;
    loop {
        at -= 1;
        // Below ten.
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Writes the line before a chunk.
pub(crate) fn write_chunk_size(out: &mut Vec<u8>, size: usize) {
    // Writing into a vector does not fail.
    let _ = write!(out, "{size:x}\r\n");
}

/// Writes the head of an answer up to where its body's framing and the end of its connection are said, which are this hop's own.
pub(crate) fn write_answer(out: &mut Vec<u8>, status: StatusCode, headers: &HeaderMap) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    for (name, value) in headers {
        if ![CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING].contains(name) {
            write_line(out, name, value);
        }
    }
    if !headers.contains_key(DATE) {
        out.extend_from_slice(b"date: ");
        // Of this century's moments there is none that it cannot write.
        let _ = DateTimePrinter::new().print_timestamp_rfc9110(&Timestamp::now(), &mut *out);
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests;
