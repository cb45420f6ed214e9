//! What comes on a connection, before it is known what it is.

use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::net::tcp::OwnedReadHalf;

/// Bytes of one read, and of an answer's head: what the other side can make one connection hold while nothing is taken from it.
pub(crate) const READ: usize = 16 * 1024;

/// The reading half of a connection, and what was read and not yet taken.
#[derive(Debug)]
pub(crate) struct Reader {
    stream: OwnedReadHalf,
    /// What was read, to be taken from its front.
    pub(crate) buffer: BytesMut,
}

impl Reader {
    /// Reads from this half.
    pub(crate) fn new(stream: OwnedReadHalf) -> Self {
        Self { stream, buffer: BytesMut::new() }
    }

    /// Reads more into the buffer; 0 at the end. While nothing comes and nothing is held there is no buffer: most connections wait
    /// most of the time.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let is_ready = self.stream.as_ref().poll_read_ready(cx);
        if is_ready.is_pending() && self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
        ready!(is_ready)?;
        self.buffer.reserve(READ);
        pin!(self.stream.read_buf(&mut self.buffer)).poll(cx)
    }

    /// Whether nothing is there that nobody asked for, and no end. Looks at no more than the runtime knows already.
    pub(crate) fn is_quiet(&self) -> bool {
        let nothing = matches!(self.stream.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        nothing && self.buffer.is_empty()
    }

    /// Tells whoever waits to be told to send their body. True if that went out.
    pub(crate) fn say_continue(&self) -> bool {
        const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
        // Every answer before this one was taken by the kernel, so there is room for these few bytes.
        self.stream.as_ref().try_write(CONTINUE).is_ok_and(|written| written == CONTINUE.len())
    }
}
