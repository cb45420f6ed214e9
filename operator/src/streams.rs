//! `GET` by hand, without hyper: thousands of sidecars each hold an answer open for an hour, and for as long hyper would keep
//! two buffers of 8 KiB.
//!
//! Guarantees: only a whole and plain head is taken here; whatever else a connection begins with goes to hyper as it came, which
//! serves or refuses it. A connection that is taken carries one request. Who sends more, or takes nothing, is given up.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, EXPECT, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use http::{Request, Response, response};
use http_body_util::BodyExt;
use k8s_openapi::jiff::{Timestamp, fmt::rfc2822::DateTimePrinter};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::timeout;

/// No request of the operator's clients has a longer head; tokens take about 1.5 KiB.
pub const HEAD_BYTES: usize = 16 * 1024;
/// Time for a head, and for which hyper keeps an idle connection.
pub const HEAD: Duration = Duration::from_secs(30);
/// As many as hyper takes.
const MAX_HEADERS: usize = 100;
/// Time to take what is sent. Sidecars give a stream up sooner.
const WRITE: Duration = Duration::from_secs(30);

/// What a connection begins with.
#[derive(Debug)]
pub enum Beginning {
    /// A `GET` that is answered here.
    Get(Box<Request<Body>>),
    /// Anything else, as far as it was read.
    Other(Bytes),
}

/// Reads until it is clear what the connection begins with.
pub async fn beginning(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Beginning> {
    timeout(HEAD, read_beginning(stream)).await?
}

async fn read_beginning(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Beginning> {
    let mut read = BytesMut::with_capacity(2048);
    loop {
        let seen = read.len();
        let is_over = stream.read_buf(&mut read).await? == 0;
        if let Some(end) = end_of_head(&read, seen) {
            let plain = if end == read.len() { plain_get(&read) } else { None };
            return Ok(plain.map_or_else(|| Beginning::Other(read.freeze()), Beginning::Get));
        }
        let may_be_get = read.iter().zip(b"GET ").all(|(is, wanted)| is == wanted);
        if is_over || !may_be_get || read.len() >= HEAD_BYTES {
            return Ok(Beginning::Other(read.freeze()));
        }
    }
}

/// Behind the first empty line, of which the part before `seen` is known to have none.
fn end_of_head(read: &[u8], seen: usize) -> Option<usize> {
    let from = seen.saturating_sub(2);
    let ends = read.iter().enumerate().skip(from).filter(|(_, byte)| **byte == b'\n');
    ends.map(|(at, _)| at + 1).find_map(|after| match &read[after..] {
        [b'\n', ..] => Some(after + 1),
        [b'\r', b'\n', ..] => Some(after + 2),
        _ => None,
    })
}

/// The request of a whole head, if no reader could see a body behind it.
fn plain_get(head: &[u8]) -> Option<Box<Request<Body>>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let is_whole = parsed.parse(head).ok()?.is_complete();
    if !is_whole || parsed.method != Some("GET") || parsed.version != Some(1) {
        return None;
    }
    let mut request = Request::get(parsed.path?).body(Body::empty()).ok()?;
    for header in parsed.headers {
        let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
        request.headers_mut().append(name, HeaderValue::from_bytes(header.value).ok()?);
    }
    let is_plain = [CONTENT_LENGTH, TRANSFER_ENCODING, EXPECT, UPGRADE].iter().all(|name| !request.headers().contains_key(name));
    is_plain.then(|| Box::new(request))
}

/// Sends an answer until it ends. An error says that it could not be sent whole.
pub async fn answer(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), response: Response<Body>) -> io::Result<()> {
    let (head, mut body) = response.into_parts();
    let text = head_of(&head);
    // Not kept for as long as the answer takes.
    drop(head);
    send(stream, text).await?;
    let mut more = [0];
    loop {
        let frame = tokio::select! {
            frame = body.frame() => frame,
            // The end of the connection; or what nobody asked for, and then it ends too.
            _ = stream.read(&mut more) => return Ok(()),
        };
        let Some(frame) = frame else { break };
        let Ok(data) = frame.map_err(io::Error::other)?.into_data() else { continue };
        if !data.is_empty() {
            let size = Bytes::from(format!("{:x}\r\n", data.len()));
            send(stream, size.chain(data).chain(&b"\r\n"[..])).await?;
        }
    }
    send(stream, &b"0\r\n\r\n"[..]).await?;
    stream.shutdown().await
}

fn head_of(head: &response::Parts) -> Bytes {
    let reason = head.status.canonical_reason().unwrap_or_default();
    let mut text = format!("HTTP/1.1 {} {reason}\r\n", head.status.as_str()).into_bytes();
    for (name, value) in head.headers.iter().filter(|(name, _)| *name != CONTENT_LENGTH) {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    // A clock before year 0 has no date that HTTP could write.
    if let Ok(date) = DateTimePrinter::new().timestamp_to_rfc9110_string(&Timestamp::now()) {
        text.extend_from_slice(format!("date: {date}\r\n").as_bytes());
    }
    text.extend_from_slice(b"connection: close\r\ntransfer-encoding: chunked\r\n\r\n");
    text.into()
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), mut bytes: impl Buf) -> io::Result<()> {
    timeout(WRITE, async {
        stream.write_all_buf(&mut bytes).await?;
        stream.flush().await
    })
    .await?
}

/// A stream of which the beginning was read already.
#[derive(Debug)]
pub struct Rewound<S> {
    /// What was read.
    pub beginning: Bytes,
    /// What comes behind it.
    pub rest: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.beginning.is_empty() {
            return Pin::new(&mut self.rest).poll_read(context, buffer);
        }
        let length = self.beginning.len().min(buffer.remaining());
        buffer.put_slice(&self.beginning.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.rest).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.rest).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.rest).poll_shutdown(context)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.rest).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.rest.is_write_vectored()
    }
}
