//! Where requests begin and end on a connection, as strictly as can be said. mcp.md section 3, rule 12.
//!
//! hyper reads the same bytes, and forgives what leaves no trace in a header map: lines that end in LF alone, a `Content-Length` behind a
//! `Transfer-Encoding`, the same length twice. Something on the way here may have seen the end of such a request elsewhere. So the
//! bytes are read here too, on their way to hyper, and [`Heads`] tells of each request whether its head is one that all read alike.
//!
//! Guarantees: nothing is held back or changed; memory is bounded; what cannot be followed makes the next request a faulty one.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is kept of a line: enough for the two headers that matter, and for a chunk's size.
const LINE: usize = 64;

/// No request has this number.
const NONE: usize = usize::MAX;

/// A connection whose requests are watched.
#[derive(Debug)]
pub struct Watched<T> {
    stream: T,
    reader: Reader,
    faulty: Arc<AtomicUsize>,
}

/// What was found on a connection.
#[derive(Debug)]
pub struct Heads {
    faulty: Arc<AtomicUsize>,
    asked: AtomicUsize,
}

/// Watches the requests of a connection.
pub fn watch<T>(stream: T) -> (Watched<T>, Heads) {
    let faulty = Arc::new(AtomicUsize::new(NONE));
    (Watched { stream, reader: Reader::default(), faulty: Arc::clone(&faulty) }, Heads { faulty, asked: AtomicUsize::new(0) })
}

impl Heads {
    /// Whether the next request must be refused and its connection closed. To be asked once for each request, in order, when its head
    /// was read.
    pub fn next_is_faulty(&self) -> bool {
        // One task reads and asks, so the order of these needs no help.
        self.asked.fetch_add(1, Ordering::Relaxed) >= self.faulty.load(Ordering::Relaxed)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        this.reader.read(&buf.filled()[before..]);
        if let Some(number) = this.reader.faulty() {
            this.faulty.store(number, Ordering::Relaxed);
        }
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// Follows the bytes of a connection.
#[derive(Debug, Default)]
struct Reader {
    at: At,
    /// Heads that were read to their end.
    heads: usize,
    /// The beginning of the line so far, how long it is, and its last byte.
    line: Vec<u8>,
    line_length: usize,
    last: u8,
    /// Of the head so far.
    lines: usize,
    length: Option<u64>,
    chunked: bool,
}

/// What comes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    #[default]
    Head,
    /// Bytes of a body of known length.
    Body(u64),
    ChunkSize,
    Chunk(u64),
    ChunkEnd,
    Trailers,
    /// Something that others may read otherwise: nothing behind it can be trusted.
    Lost,
}

/// A line that is not what it has to be.
struct Faulty;

impl Reader {
    /// The number of the first request that is faulty, counted from 0.
    fn faulty(&self) -> Option<usize> {
        (self.at == At::Lost).then_some(self.heads)
    }

    fn read(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self.at {
                At::Lost => return,
                At::Body(left) | At::Chunk(left) => {
                    let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    bytes = &bytes[here..];
                    let left = left - here as u64;
                    self.at = match self.at {
                        At::Body(_) if left == 0 => At::Head,
                        At::Body(_) => At::Body(left),
                        _ if left == 0 => At::ChunkEnd,
                        _ => At::Chunk(left),
                    };
                }
                At::Head | At::ChunkSize | At::ChunkEnd | At::Trailers => {
                    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return self.keep(bytes) };
                    self.keep(&bytes[..end]);
                    bytes = &bytes[end + 1..];
                    self.at = self.end_line().unwrap_or(At::Lost);
                    self.line.clear();
                    self.line_length = 0;
                    self.last = 0;
                }
            }
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let Some(last) = bytes.last() else { return };
        self.last = *last;
        self.line_length += bytes.len();
        self.line.extend_from_slice(&bytes[..bytes.len().min(LINE - self.line.len())]);
    }

    /// What comes behind the line that has ended.
    fn end_line(&mut self) -> Result<At, Faulty> {
        if self.last != b'\r' {
            return Err(Faulty);
        }
        let is_empty = self.line_length == 1;
        match self.at {
            // Before a request, such lines mean nothing.
            At::Head if is_empty && self.lines == 0 => Ok(At::Head),
            At::Head if is_empty => Ok(self.end_head()),
            At::Head => {
                self.lines += 1;
                if self.lines > 1 {
                    self.header()?;
                }
                Ok(At::Head)
            }
            At::ChunkSize => {
                let digits = self.line.iter().position(|byte| !byte.is_ascii_hexdigit()).ok_or(Faulty)?;
                let size = std::str::from_utf8(&self.line[..digits]).ok().and_then(|digits| u64::from_str_radix(digits, 16).ok());
                Ok(if size.ok_or(Faulty)? == 0 { At::Trailers } else { At::Chunk(size.ok_or(Faulty)?) })
            }
            At::ChunkEnd if is_empty => Ok(At::ChunkSize),
            At::Trailers if is_empty => Ok(At::Head),
            At::Trailers => Ok(At::Trailers),
            At::ChunkEnd | At::Body(_) | At::Chunk(_) | At::Lost => Err(Faulty),
        }
    }

    fn end_head(&mut self) -> At {
        self.heads += 1;
        self.lines = 0;
        match (std::mem::take(&mut self.chunked), self.length.take()) {
            (true, _) => At::ChunkSize,
            (false, None | Some(0)) => At::Head,
            (false, Some(length)) => At::Body(length),
        }
    }

    /// Looks at a header line: one of the two that say where the body ends is there once, and readable.
    fn header(&mut self) -> Result<(), Faulty> {
        let colon = self.line.iter().position(|byte| *byte == b':').unwrap_or(self.line.len());
        let name = &self.line[..colon];
        let is_length = name.eq_ignore_ascii_case(b"content-length");
        if !is_length && !name.eq_ignore_ascii_case(b"transfer-encoding") {
            return Ok(());
        }
        if self.length.is_some() || self.chunked || self.line_length > LINE {
            return Err(Faulty);
        }
        let value = self.line[colon..].strip_prefix(b":").unwrap_or_default().trim_ascii();
        if is_length {
            let is_number = value.iter().all(u8::is_ascii_digit);
            let length = std::str::from_utf8(value).ok().filter(|_| is_number).and_then(|length| length.parse().ok());
            self.length = Some(length.ok_or(Faulty)?);
        } else if value.eq_ignore_ascii_case(b"chunked") {
            self.chunked = true;
        } else {
            return Err(Faulty);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The number of the first faulty request, and how many heads were read.
    fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Option<usize>, usize) {
        let mut reader = Reader::default();
        pieces.into_iter().for_each(|piece| reader.read(piece));
        (reader.faulty(), reader.heads)
    }

    const GOOD: &[&str] = &[
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-LENGTH:\t4 \r\n\r\na\r\nb",
        "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\na\n\n\r\n0A;x=y\r\n0123456789\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Trailer: 1\r\n\r\n",
        "POST / HTTP/1.1\r\nX-Content-Length: a\r\nX-Transfer-Encoding: gzip\r\n\r\n",
    ];

    #[test]
    fn ordinary_requests_follow_one_another() {
        for first in GOOD {
            for second in GOOD {
                assert_eq!(read([first.as_bytes(), second.as_bytes()]), (None, 2), "{first:?} {second:?}");
            }
        }
    }

    #[test]
    fn a_request_that_could_end_elsewhere_is_faulty_and_so_is_all_behind_it() {
        for faulty in [
            "POST / HTTP/1.1\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\n\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 0, 0\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: +0\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length:\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 18446744073709551616\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding:                                                                      chunked\r\n\r\n",
        ] {
            assert_eq!(read([faulty.as_bytes()]).0, Some(0), "{faulty:?}");
            assert_eq!(read([GOOD[4].as_bytes(), faulty.as_bytes(), GOOD[0].as_bytes()]).0, Some(1), "{faulty:?}");
        }
    }

    #[test]
    fn behind_chunks_that_cannot_be_followed_the_next_request_is_faulty() {
        for chunks in
            ["3\nabc\r\n0\r\n\r\n", "3\r\nabcd\r\n0\r\n\r\n", "x\r\n", "\r\n", "-1\r\n", "11111111111111111\r\n", "0\r\nX-A: 1\n\r\n"]
        {
            let request = format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
            assert_eq!(read([request.as_bytes(), GOOD[0].as_bytes()]), (Some(1), 1), "{chunks:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_found_does_not_depend_on_how_the_bytes_were_cut(
            requests in prop::collection::vec(prop::sample::select(GOOD), 1..4),
            noise in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..2),
            cuts in prop::collection::vec(1_usize..9, 1..64),
        ) {
            let mut bytes = requests.concat().into_bytes();
            for (at, byte) in noise {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            let mut pieces = Vec::new();
            let mut rest = bytes.as_slice();
            for cut in cuts.iter().cycle() {
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                pieces.push(piece);
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(read([bytes.as_slice()]), read(pieces));
        }
    }
}
