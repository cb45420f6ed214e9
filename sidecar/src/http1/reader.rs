//! What comes on a connection, before it is known what it is.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::tcp::OwnedReadHalf;

/// Bytes of one read, and of an answer's head: what the other side can make one connection hold while nothing is taken from it.
pub(crate) const READ: usize = 16 * 1024;

thread_local! {
    /// Where everything is read first: buffers are then no larger than what they hold, and mostly small enough to cost nothing.
    static SCRATCH: RefCell<[u8; READ]> = const { RefCell::new([0; READ]) };
}

/// The reading half of a connection, and what was read and not yet taken.
#[derive(Debug)]
pub(crate) struct Reader<S = OwnedReadHalf> {
    pub(crate) stream: S,
    /// What was read, to be taken from its front.
    pub(crate) buffer: BytesMut,
}

impl<S: AsyncRead + Unpin> Reader<S> {
    /// Reads from this half.
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, buffer: BytesMut::new() }
    }

    /// Reads more into the buffer; 0 at the end. While nothing comes and nothing is held there is no buffer: most connections wait
    /// most of the time.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut read = ReadBuf::new(scratch);
            let polled = Pin::new(&mut self.stream).poll_read(cx, &mut read);
            if polled.is_pending() && self.buffer.is_empty() {
                self.buffer = BytesMut::new();
            }
            ready!(polled)?;
            self.buffer.extend_from_slice(read.filled());
            Poll::Ready(Ok(read.filled().len()))
        })
    }
}

impl Reader {
    /// Tells whoever waits to be told to send their body. True if that went out.
    pub(crate) fn say_continue(&self) -> bool {
        const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
        // Every answer before this one was taken by the kernel, so there is room for these few bytes.
        self.stream.as_ref().try_write(CONTINUE).is_ok_and(|written| written == CONTINUE.len())
    }
}
