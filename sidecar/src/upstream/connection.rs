//! One connection to the server, and one exchange on it: the request goes out in one write where the kernel takes it, and the head of
//! the answer is read by whoever waits for it. No task of its own, and nothing to pass between tasks.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use std::io;
use tokio::io::AsyncWrite;

use super::SendError;
use super::halves::{ReadHalf, WriteHalf};
use crate::http1::deadline::Deadline;
use crate::http1::head::{self, AnswerHead, Fault};
use crate::http1::reader::{READ, Reader};
use crate::http1::writer::poll_write;

/// A request as it goes out.
#[derive(Clone, Debug)]
pub(super) struct Outgoing {
    head: Bytes,
    body: Bytes,
}

impl Outgoing {
    /// A request with these headers and the length of its body, which is sent byte for byte.
    pub(super) fn new<'a>(
        method: &Method,
        target: &str,
        headers: impl IntoIterator<Item = (&'a HeaderName, &'a HeaderValue)>,
        body: Bytes,
    ) -> Self {
        let mut head = Vec::with_capacity(512);
        for part in [method.as_str(), " ", target, " HTTP/1.1\r\n"] {
            head.extend_from_slice(part.as_bytes());
        }
        for (name, value) in headers {
            head::write_line(&mut head, name, value);
        }
        if !body.is_empty() || *method != Method::GET {
            head.extend_from_slice(CONTENT_LENGTH.as_str().as_bytes());
            head.extend_from_slice(b": ");
            head::write_number(&mut head, body.len() as u64);
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        Self { head: head.into(), body }
    }

    fn length(&self) -> usize {
        self.head.len() + self.body.len()
    }
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) reader: Reader<ReadHalf>,
    write: WriteHalf,
    pub(super) deadline: Deadline,
    /// A request that was answered before all of it went out, and how much of it did.
    unsent: Option<Box<(Outgoing, usize)>>,
}

impl Connection {
    /// A connection that was just opened.
    pub(super) fn new((read, write): (ReadHalf, WriteHalf)) -> Self {
        Self { reader: Reader::new(read), write, deadline: Deadline::default(), unsent: None }
    }

    /// Whether another request can be sent on it, as far as is known.
    pub(super) fn is_quiet(&mut self) -> bool {
        self.unsent.is_none() && self.reader.buffer.is_empty() && self.reader.stream.is_quiet()
    }

    /// Sends a request and reads the head of its answer.
    pub(super) async fn exchange(&mut self, outgoing: &Outgoing, due: Instant) -> Result<AnswerHead, SendError> {
        let mut written = 0;
        let mut outcome = None;
        let head = poll_fn(|cx| {
            if outcome.is_none()
                && let Poll::Ready(sent) = self.poll_write(cx, outgoing, &mut written)
            {
                match sent {
                    Err(cause) if written == 0 => return Poll::Ready(Err(SendError::NotSent(cause))),
                    // A server that does not read all of a request may still have answered it.
                    sent => outcome = Some(sent.is_ok()),
                }
            }
            match self.poll_head(cx) {
                Poll::Ready(head) => Poll::Ready(head),
                Poll::Pending => self.deadline.poll(cx, due).map(|()| Err(SendError::TimedOut)),
            }
        })
        .await?;
        if outcome != Some(true) {
            self.unsent = Some(Box::new((outgoing.clone(), written)));
        }
        Ok(head)
    }

    /// Goes on with a request that was answered early. Whether the server takes it is its own affair.
    pub(super) fn poll_unsent(&mut self, cx: &mut Context<'_>) {
        if let Some(mut unsent) = self.unsent.take() {
            let (outgoing, written) = &mut *unsent;
            // What failed stays unsent, and so the connection is not used again.
            if !matches!(self.poll_write(cx, outgoing, written), Poll::Ready(Ok(()))) {
                self.unsent = Some(unsent);
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, outgoing: &Outgoing, written: &mut usize) -> Poll<io::Result<()>> {
        while *written < outgoing.length() {
            match poll_write(&mut self.write, cx, [&outgoing.head, &outgoing.body, b""], *written) {
                Poll::Ready(taken) => *written += taken?,
                Poll::Pending => return Poll::Pending,
            }
        }
        // What TLS still holds.
        Pin::new(&mut self.write).poll_flush(cx)
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<AnswerHead, SendError>> {
        let mut has_more = !self.reader.buffer.is_empty();
        loop {
            while has_more && !self.reader.buffer.is_empty() {
                match head::answer(&mut self.reader.buffer, READ) {
                    // What comes before the answer says nothing that a caller needs.
                    Ok(Some(head)) if is_interim(head.response.status()) => {}
                    Ok(Some(head)) => return Poll::Ready(Ok(head)),
                    Ok(None) => has_more = false,
                    Err(Fault::Unreadable | Fault::TooLarge | Fault::Ambiguous) => return Poll::Ready(Err(SendError::NotHttp)),
                }
            }
            match self.reader.poll_read(cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(SendError::Lost(io::ErrorKind::UnexpectedEof.into()))),
                Poll::Ready(Ok(_)) => has_more = true,
                Poll::Ready(Err(cause)) => return Poll::Ready(Err(SendError::Lost(cause))),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// Whether an answer follows behind this one. Behind a switch of protocols comes none.
fn is_interim(status: StatusCode) -> bool {
    status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS
}
