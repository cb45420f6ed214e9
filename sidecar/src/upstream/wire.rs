//! The body of an answer from a connection.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::SizeHint;
use std::io;

use super::connection::Connection;
use super::{AnswerError, Link};
use crate::http1::body::{Decoder, Framing};

/// The body of an answer. Read to its end, it gives its connection back; dropped before, it closes it.
#[derive(Debug)]
pub struct Wire {
    /// None once the body is over.
    source: Option<Source>,
    decoder: Decoder,
    patience: Patience,
}

/// Where it comes from.
#[derive(Debug)]
struct Source {
    connection: Connection,
    link: Arc<Link>,
    keep_alive: bool,
}

/// How long an answer is waited for. Time counts only while it is: a caller who takes the answer slowly is not the server's fault.
#[derive(Debug)]
pub(super) struct Patience {
    /// For the next piece.
    pub(super) silence: Duration,
    /// For the last.
    pub(super) end: Option<Instant>,
    /// When the wait for the next piece is over; none while nothing is waited for.
    pub(super) waiting: Option<Instant>,
}

impl Wire {
    /// A body that comes next on `connection`.
    pub(super) fn new(connection: Connection, link: Arc<Link>, framing: Framing, keep_alive: bool, patience: Patience) -> Self {
        let mut wire = Self { source: Some(Source { connection, link, keep_alive }), decoder: Decoder::new(framing), patience };
        wire.give_back_at_end();
        wire
    }

    /// Whether nothing more comes.
    pub(super) fn is_over(&self) -> bool {
        self.source.is_none()
    }

    /// How much is still to come.
    pub(super) fn size_hint(&self) -> SizeHint {
        if self.is_over() { SizeHint::with_exact(0) } else { self.decoder.size_hint() }
    }

    /// The next piece; none at the end.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, AnswerError>>> {
        loop {
            let Some(Source { connection, .. }) = &mut self.source else { return Poll::Ready(None) };
            connection.poll_unsent(cx);
            match self.decoder.decode(&mut connection.reader.buffer) {
                Ok(Some(piece)) => {
                    self.patience.waiting = None;
                    self.give_back_at_end();
                    return Poll::Ready(Some(Ok(piece)));
                }
                Ok(None) => {}
                Err(broken) => return self.failed(AnswerError::CutOff(broken.into())),
            }
            if self.decoder.is_over() {
                self.give_back_at_end();
                return Poll::Ready(None);
            }
            match connection.reader.poll_read(cx) {
                Poll::Ready(Ok(0)) if self.decoder.ends_with_connection() => {
                    self.source = None;
                    return Poll::Ready(None);
                }
                Poll::Ready(Ok(0)) => return self.failed(AnswerError::CutOff(io::ErrorKind::UnexpectedEof.into())),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(cause)) => return self.failed(AnswerError::CutOff(cause)),
                Poll::Pending => {
                    let due = self.patience.due();
                    return match connection.deadline.poll(cx, due) {
                        Poll::Ready(()) => self.failed(self.patience.lost()),
                        Poll::Pending => Poll::Pending,
                    };
                }
            }
        }
    }

    fn give_back_at_end(&mut self) {
        if self.decoder.is_over()
            && let Some(Source { mut connection, link, keep_alive }) = self.source.take()
            && keep_alive
            && connection.is_quiet()
        {
            link.give_back(connection);
        }
    }

    /// Nothing more of it passes, and its connection is closed.
    fn failed(&mut self, error: AnswerError) -> Poll<Option<Result<Bytes, AnswerError>>> {
        if let Some(Source { link, .. }) = self.source.take() {
            link.metrics.answer_failed(error.fault());
            tracing::warn!(server = %link.destination, %error, "the server's answer failed");
        }
        Poll::Ready(Some(Err(error)))
    }
}

impl Patience {
    /// Nothing has come: when that has lasted too long. However fast pieces come, there is a moment without one now and then.
    fn due(&mut self) -> Instant {
        let silence = self.silence;
        let silent = *self.waiting.get_or_insert_with(|| Instant::now() + silence);
        self.end.map_or(silent, |end| silent.min(end))
    }

    fn lost(&self) -> AnswerError {
        if self.end.is_some_and(|end| Instant::now() >= end) { AnswerError::TooLong } else { AnswerError::Idle }
    }
}
