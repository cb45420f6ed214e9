//! What goes out on a connection.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::tcp::OwnedWriteHalf;

use crate::http1::deadline::Deadline;

/// The writing half of a caller's connection. Writes fail with [`io::ErrorKind::TimedOut`] once none has moved a byte for a time: a
/// caller who stops reading would hold a connection to the server, too, for ever.
#[derive(Debug)]
pub(crate) struct Writer {
    stream: OwnedWriteHalf,
    patience: Duration,
    deadline: Deadline,
    /// The caller has sent something while an answer was on its way: from then on its end cannot be seen behind that.
    sends_ahead: bool,
}

impl Writer {
    /// Gives the other side this long to take something.
    pub(crate) fn new(stream: OwnedWriteHalf, patience: Duration) -> Self {
        Self { stream, patience, deadline: Deadline::default(), sends_ahead: false }
    }

    /// Writes the parts one after the other, all of them.
    pub(crate) async fn write(&mut self, parts: [&[u8]; 3]) -> io::Result<()> {
        let length = parts.iter().map(|part| part.len()).sum();
        let (mut written, mut due) = (0, None);
        poll_fn(|cx| {
            while written < length {
                match poll_write(&mut self.stream, cx, parts, written) {
                    Poll::Ready(taken) => {
                        written += taken?;
                        due = None;
                    }
                    Poll::Pending => {
                        let due = *due.get_or_insert_with(|| Instant::now() + self.patience);
                        ready!(self.deadline.poll(cx, due));
                        return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                    }
                }
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// Ends when the other side has hung up.
    pub(crate) fn poll_hang_up(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.sends_ahead {
            return Poll::Pending;
        }
        match ready!(self.stream.as_ref().poll_peek(cx, &mut ReadBuf::new(&mut [0]))) {
            Ok(0) | Err(_) => Poll::Ready(()),
            Ok(_) => {
                self.sends_ahead = true;
                Poll::Pending
            }
        }
    }

    /// A new request has begun.
    pub(crate) fn begin(&mut self) {
        self.sends_ahead = false;
    }

    /// Says that nothing more comes.
    pub(crate) async fn shut(&mut self) {
        // Who is gone need not be told.
        let _ = self.stream.shutdown().await;
    }
}

/// Writes some of the parts, of which so much was `written`. Never 0.
pub(crate) fn poll_write(
    stream: &mut (impl AsyncWrite + Unpin),
    cx: &mut Context<'_>,
    parts: [&[u8]; 3],
    written: usize,
) -> Poll<io::Result<usize>> {
    let mut skip = written;
    let parts = parts.map(|part| {
        let here = skip.min(part.len());
        skip -= here;
        IoSlice::new(&part[here..])
    });
    match ready!(Pin::new(stream).poll_write_vectored(cx, &parts))? {
        0 => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
        taken => Poll::Ready(Ok(taken)),
    }
}
