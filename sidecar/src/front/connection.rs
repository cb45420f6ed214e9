//! One connection of a caller: requests in, answers out, one after the other. See [`crate::http1`].
//!
//! Guarantees: a request that is being answered is given up, and with it the server's part, as soon as its caller hangs up; behind a
//! request that could end elsewhere nothing is read.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONNECTION, HeaderMap};
use http::{Method, Response, StatusCode, Version};
use http_body::{Body, Frame};
use tokio::net::TcpStream;

use crate::answer::relay::ProxyBody;
use crate::config::Limits;
use crate::drain::Drain;
use crate::http1::body::{Framing, Incoming};
use crate::http1::deadline::Deadline;
use crate::http1::head::{self, Fault, RequestHead};
use crate::http1::reader::Reader;
use crate::http1::writer::Writer;
use crate::proxy::{Peer, Proxy};
use crate::upstream::AnswerError;

/// Pieces of an answer up to this size are gathered, so that head and body go out together.
const SMALL: usize = 4 * 1024;

/// How long a connection that is closed is still read, while its caller sends.
const LINGER: Duration = Duration::from_secs(1);

/// What comes next on a connection.
enum Next {
    Request(Box<RequestHead>),
    Faulty(Fault),
    /// The caller has hung up or sends nothing, or the sidecar ends.
    Nothing,
}

/// What an answer's body does.
enum Step {
    Frame(Option<Result<Frame<Bytes>, AnswerError>>),
    /// It waits: what is gathered goes out.
    Flush,
    HungUp,
}

/// How an answer goes out.
#[derive(Clone, Copy)]
struct Manner {
    /// Of the request: to `HEAD`, an answer has no body.
    is_head: bool,
    version: Version,
    closes: bool,
}

/// Answers the requests of a connection until it ends, or until the sidecar closes and the one in flight is answered.
pub(crate) async fn serve(stream: TcpStream, proxy: &Arc<Proxy>, peer: &Peer, limits: &Limits, drain: &Drain) {
    let (read, write) = stream.into_split();
    let (mut reader, mut writer) = (Reader::new(read), Writer::new(write, limits.write_timeout));
    let mut deadline = Deadline::default();
    let mut closing = pin!(drain.closing());
    loop {
        let head = match next(&mut reader, &mut deadline, limits, closing.as_mut()).await {
            Next::Request(head) => *head,
            Next::Nothing => return,
            Next::Faulty(fault) => {
                // Nobody reads the error: the connection ends.
                let _ = refuse(&mut writer, proxy, peer, fault).await;
                writer.shut().await;
                return linger(&mut reader, &mut deadline).await;
            }
        };
        writer.begin();
        let RequestHead { request, framing, keep_alive, expects_continue } = head;
        let (is_head, version) = (*request.method() == Method::HEAD, request.version());
        let over = AtomicBool::new(false);
        let mut body = Incoming::new(&mut reader, framing, expects_continue, &over);
        let answered = {
            // In a box of its own, so that a connection that waits or streams does not keep the room that judging takes.
            let mut answering = Box::pin(proxy.handle(peer, request.map(|()| &mut body)));
            poll_fn(|cx| match answering.as_mut().poll(cx) {
                Poll::Ready(answered) => Poll::Ready(answered.ok()),
                Poll::Pending if over.load(Ordering::Relaxed) => writer.poll_hang_up(cx).map(|()| None),
                Poll::Pending => Poll::Pending,
            })
            .await
        };
        // The caller did not send all, or has hung up.
        let Some(response) = answered else { return };
        let all_came = body.skip();
        let closes = !keep_alive || !all_came || response.headers().get(CONNECTION).is_some_and(|value| value == "close");
        let sent = send(&mut writer, response, Manner { is_head, version, closes }).await;
        if sent.is_err() {
            return;
        }
        if closes {
            writer.shut().await;
            if !all_came {
                linger(&mut reader, &mut deadline).await;
            }
            return;
        }
    }
}

/// Waits for the next request.
async fn next(reader: &mut Reader, deadline: &mut Deadline, limits: &Limits, mut closing: Pin<&mut impl Future<Output = ()>>) -> Next {
    let due = Instant::now() + limits.head_timeout;
    let mut has_more = !reader.buffer.is_empty();
    poll_fn(|cx| {
        loop {
            if has_more {
                match head::request(&mut reader.buffer, limits.head_bytes) {
                    Ok(Some(head)) => return Poll::Ready(Next::Request(Box::new(head))),
                    Ok(None) => {}
                    Err(fault) => return Poll::Ready(Next::Faulty(fault)),
                }
            }
            match reader.poll_read(cx) {
                Poll::Ready(Ok(1..)) => has_more = true,
                Poll::Ready(_) => return Poll::Ready(Next::Nothing),
                Poll::Pending => break,
            }
        }
        has_more = false;
        let ends = reader.buffer.is_empty() && closing.as_mut().poll(cx).is_ready();
        if ends || deadline.poll(cx, due).is_ready() { Poll::Ready(Next::Nothing) } else { Poll::Pending }
    })
    .await
}

/// Throws away what still comes, for a moment: who is sending when a connection closes finds it reset, and may never read why.
async fn linger(reader: &mut Reader, deadline: &mut Deadline) {
    let due = Instant::now() + LINGER;
    poll_fn(|cx| {
        loop {
            reader.buffer.clear();
            match reader.poll_read(cx) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(_) => return Poll::Ready(()),
                // However fast it comes, the runtime lets others have their turn now and then.
                Poll::Pending => return deadline.poll(cx, due),
            }
        }
    })
    .await;
}

/// Answers a head that cannot be used, and writes that down.
async fn refuse(writer: &mut Writer, proxy: &Proxy, peer: &Peer, fault: Fault) -> io::Result<()> {
    let manner = Manner { is_head: false, version: Version::HTTP_11, closes: true };
    let status = match fault {
        Fault::Ambiguous => return send(writer, proxy.refuse_framing(peer).await.map_err(io::Error::other)?, manner).await,
        Fault::Unreadable => StatusCode::BAD_REQUEST,
        Fault::TooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    };
    proxy.note_unreadable(peer).await;
    let mut out = Vec::new();
    head::write_answer(&mut out, status, &HeaderMap::new());
    out.extend_from_slice(b"content-length: 0\r\nconnection: close\r\n\r\n");
    writer.write([&out, b"", b""]).await
}

/// Sends an answer. An error means that it did not go out as a whole, and that nothing may follow it.
async fn send(writer: &mut Writer, response: Response<ProxyBody>, manner: Manner) -> io::Result<()> {
    let (head, mut body) = response.into_parts();
    let has_body = !manner.is_head && !matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let framing = match body.size_hint().exact() {
        Some(length) => Framing::Length(length),
        None if manner.version == Version::HTTP_10 => Framing::UntilClose,
        None => Framing::Chunked,
    };
    let mut out = Vec::with_capacity(512);
    head::write_answer(&mut out, head.status, &head.headers);
    write_framing(&mut out, head.status, framing, manner);
    if !has_body {
        return writer.write([&out, b"", b""]).await;
    }
    let mut left = if let Framing::Length(length) = framing { length } else { u64::MAX };
    while left > 0 && !body.is_end_stream() {
        let data = match step(writer, &mut body, out.is_empty()).await {
            Step::Flush => {
                writer.write([&out, b"", b""]).await?;
                out.clear();
                continue;
            }
            Step::HungUp => return Err(io::ErrorKind::ConnectionReset.into()),
            Step::Frame(None) => break,
            Step::Frame(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
            Step::Frame(Some(Err(error))) => {
                // What came before it goes out; that no end follows tells the caller.
                writer.write([&out, b"", b""]).await?;
                return Err(io::Error::other(error));
            }
        };
        if data.is_empty() {
            continue;
        }
        left = left.checked_sub(data.len() as u64).ok_or(io::ErrorKind::InvalidData)?;
        let end: &[u8] = if framing == Framing::Chunked { b"\r\n" } else { b"" };
        if framing == Framing::Chunked {
            head::write_chunk_size(&mut out, data.len());
        }
        if data.len() <= SMALL {
            out.extend_from_slice(&data);
            out.extend_from_slice(end);
        } else {
            writer.write([&out, &data, end]).await?;
            out.clear();
        }
        if out.len() > SMALL {
            writer.write([&out, b"", b""]).await?;
            out.clear();
        }
    }
    // What it holds is free before its caller has the last byte.
    drop(body);
    match framing {
        Framing::Length(_) if left > 0 => {
            writer.write([&out, b"", b""]).await?;
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Framing::Length(_) => {}
        Framing::Chunked => out.extend_from_slice(b"0\r\n\r\n"),
        Framing::UntilClose => return writer.write([&out, b"", b""]).await.and(Err(io::ErrorKind::UnexpectedEof.into())),
    }
    writer.write([&out, b"", b""]).await
}

/// The next step of a body, while it is watched whether the caller is still there.
async fn step(writer: &mut Writer, body: &mut ProxyBody, is_flushed: bool) -> Step {
    poll_fn(|cx| match Pin::new(&mut *body).poll_frame(cx) {
        Poll::Ready(frame) => Poll::Ready(Step::Frame(frame)),
        Poll::Pending if !is_flushed => Poll::Ready(Step::Flush),
        Poll::Pending => writer.poll_hang_up(cx).map(|()| Step::HungUp),
    })
    .await
}

/// Ends a head with what is said of this hop.
fn write_framing(out: &mut Vec<u8>, status: StatusCode, framing: Framing, manner: Manner) {
    match framing {
        _ if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) => {}
        Framing::Length(length) => {
            out.extend_from_slice(b"content-length: ");
            head::write_number(out, length);
            out.extend_from_slice(b"\r\n");
        }
        Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Framing::UntilClose => {}
    }
    if manner.closes || framing == Framing::UntilClose {
        out.extend_from_slice(b"connection: close\r\n");
    } else if manner.version == Version::HTTP_10 {
        out.extend_from_slice(b"connection: keep-alive\r\n");
    }
    out.extend_from_slice(b"\r\n");
}
