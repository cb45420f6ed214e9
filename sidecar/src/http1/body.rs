//! Where a body ends, read as strictly as can be said (mcp.md section 3, rule 12). What it cannot follow is an error, and nothing
//! behind that on the connection is believed.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};

use crate::http1::reader::Reader;

/// Bytes of a body that are not its content: extensions of chunks, and trailers.
const MAX_OVERHEAD: usize = 16 * 1024;

/// What a head says of the body's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked,
    /// With the connection. Only of answers.
    UntilClose,
}

impl Framing {
    /// There is none.
    pub(crate) const NONE: Self = Self::Length(0);
}

/// A body that cannot be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the framing of the body is broken")]
pub(crate) struct Broken;

impl From<Broken> for io::Error {
    fn from(broken: Broken) -> Self {
        Self::new(io::ErrorKind::InvalidData, broken)
    }
}

/// Takes the content of a body out of what was read.
#[derive(Debug)]
pub(crate) struct Decoder {
    at: At,
    overhead: usize,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Length(u64),
    UntilClose,
    ChunkSize,
    Chunk(u64),
    ChunkEnd,
    Trailers,
}

impl Decoder {
    /// At the beginning of a body.
    pub(crate) fn new(framing: Framing) -> Self {
        let at = match framing {
            Framing::Length(length) => At::Length(length),
            Framing::Chunked => At::ChunkSize,
            Framing::UntilClose => At::UntilClose,
        };
        Self { at, overhead: 0 }
    }

    /// Whether the body is over.
    pub(crate) fn is_over(&self) -> bool {
        self.at == At::Length(0)
    }

    /// Whether the end of the connection is the body's.
    pub(crate) fn ends_with_connection(&self) -> bool {
        self.at == At::UntilClose
    }

    /// How much is still to come, as far as that is known.
    pub(crate) fn size_hint(&self) -> SizeHint {
        if let At::Length(left) = self.at { SizeHint::with_exact(left) } else { SizeHint::default() }
    }

    /// The next piece; none if more has to be read, or if the body is over.
    pub(crate) fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Bytes>, Broken> {
        while !buffer.is_empty() {
            match self.at {
                At::Length(0) => return Ok(None),
                At::Length(left) => {
                    let (piece, left) = take(buffer, left);
                    self.at = At::Length(left);
                    return Ok(Some(piece));
                }
                At::UntilClose => return Ok(Some(buffer.split().freeze())),
                At::Chunk(left) => {
                    let (piece, left) = take(buffer, left);
                    self.at = if left == 0 { At::ChunkEnd } else { At::Chunk(left) };
                    return Ok(Some(piece));
                }
                At::ChunkSize | At::ChunkEnd | At::Trailers => {
                    let Some(line) = line(buffer, MAX_OVERHEAD - self.overhead)? else { return Ok(None) };
                    self.at = match self.at {
                        At::ChunkSize => {
                            let (size, extension) = chunk_size(&line)?;
                            self.overhead += extension;
                            if size == 0 { At::Trailers } else { At::Chunk(size) }
                        }
                        At::Trailers if line.is_empty() => At::Length(0),
                        At::Trailers => {
                            self.overhead += line.len();
                            At::Trailers
                        }
                        _ if line.is_empty() => At::ChunkSize,
                        _ => return Err(Broken),
                    };
                }
            }
        }
        Ok(None)
    }
}

/// As much of `left` as is there, and what is left then.
fn take(buffer: &mut BytesMut, left: u64) -> (Bytes, u64) {
    let here = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
    (buffer.split_to(here).freeze(), left - here as u64)
}

/// Takes a line without its end; none if its end has not come. A line ends in CRLF, and has neither of these within.
fn line(buffer: &mut BytesMut, max: usize) -> Result<Option<BytesMut>, Broken> {
    let Some(end) = memchr::memchr(b'\n', buffer) else { return if buffer.len() > max { Err(Broken) } else { Ok(None) } };
    let mut line = buffer.split_to(end);
    buffer.advance(1);
    match memchr::memchr(b'\r', &line) {
        Some(cr) if cr + 1 == end && end <= max => line.truncate(cr),
        _ => return Err(Broken),
    }
    Ok(Some(line))
}

/// The size that a chunk's line names, and how long its extension is, which nobody reads.
fn chunk_size(line: &[u8]) -> Result<(u64, usize), Broken> {
    let digits = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    let (size, extension) = line.split_at(digits);
    if !matches!(extension.trim_ascii_start().first(), None | Some(b';')) {
        return Err(Broken);
    }
    // Without digits, or with too many, it is no number.
    let size = std::str::from_utf8(size).ok().and_then(|size| u64::from_str_radix(size, 16).ok()).ok_or(Broken)?;
    Ok((size, extension.len()))
}

/// The body of a caller's request, as it comes.
#[derive(Debug)]
pub(crate) struct Incoming<'a> {
    reader: &'a mut Reader,
    decoder: Decoder,
    /// The caller waits to be told to send it.
    must_say_continue: bool,
    /// Told to whoever watches the connection meanwhile.
    over: &'a AtomicBool,
}

impl<'a> Incoming<'a> {
    /// A body that `reader` reads next. `over` says when it was read.
    pub(crate) fn new(reader: &'a mut Reader, framing: Framing, expects_continue: bool, over: &'a AtomicBool) -> Self {
        let decoder = Decoder::new(framing);
        over.store(decoder.is_over(), Ordering::Relaxed);
        Self { must_say_continue: expects_continue && !decoder.is_over(), reader, decoder, over }
    }

    /// Throws away what has come of it. True if that was all.
    pub(crate) fn skip(mut self) -> bool {
        while !self.decoder.is_over() {
            if !matches!(self.decoder.decode(&mut self.reader.buffer), Ok(Some(_))) {
                break;
            }
        }
        self.decoder.is_over()
    }
}

impl Body for Incoming<'_> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        loop {
            let piece = this.decoder.decode(&mut this.reader.buffer)?;
            this.over.store(this.decoder.is_over(), Ordering::Relaxed);
            if let Some(piece) = piece {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            if this.decoder.is_over() {
                return Poll::Ready(None);
            }
            if std::mem::take(&mut this.must_say_continue) && !this.reader.say_continue() {
                return Poll::Ready(Some(Err(io::ErrorKind::WriteZero.into())));
            }
            if ready!(this.reader.poll_read(cx))? == 0 {
                return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.decoder.is_over()
    }

    fn size_hint(&self) -> SizeHint {
        self.decoder.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The content of a body, and what is left behind it.
    type Decoded = (Vec<u8>, Vec<u8>);

    /// None if the body does not end.
    fn decode<'a>(framing: Framing, pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Option<Decoded>, Broken> {
        let (mut decoder, mut buffer, mut content) = (Decoder::new(framing), BytesMut::new(), Vec::new());
        for piece in pieces {
            buffer.extend_from_slice(piece);
            while let Some(piece) = decoder.decode(&mut buffer)? {
                content.extend_from_slice(&piece);
            }
        }
        Ok(decoder.is_over().then(|| (content, buffer.to_vec())))
    }

    #[test]
    fn content_ends_where_its_framing_says() {
        let whole = |framing, text: &str| {
            let (content, rest) = decode(framing, [text.as_bytes()]).unwrap().unwrap();
            format!("{}|{}", String::from_utf8(content).unwrap(), String::from_utf8(rest).unwrap())
        };
        assert_eq!(whole(Framing::Length(4), "a\r\nbGET"), "a\r\nb|GET");
        assert_eq!(whole(Framing::NONE, "GET"), "|GET");
        assert_eq!(whole(Framing::Chunked, "3\r\na\n\n\r\n0A;x=y\r\n0123456789\r\n0\r\n\r\nGET"), "a\n\n0123456789|GET");
        assert_eq!(whole(Framing::Chunked, "0 \r\nX-Trailer: 1\r\nX: 2\r\n\r\n"), "|");
        assert_eq!(decode(Framing::Length(4), [&b"abc"[..]]), Ok(None));
        assert_eq!(decode(Framing::UntilClose, [&b"abc"[..]]), Ok(None));
    }

    #[test]
    fn chunks_that_cannot_be_followed_are_broken() {
        for chunks in [
            "3\nabc\r\n0\r\n\r\n",
            "3\r\nabcd\r\n0\r\n\r\n",
            "3\r\nabc\n0\r\n\r\n",
            "3\r\nabc\rx\n",
            "x\r\n",
            "\r\n",
            "-1\r\n",
            "+1\r\n",
            "0x1\r\n",
            "1 1\r\n",
            ";x\r\n",
            "11111111111111111\r\n",
            "1;a\rb\r\n",
            "0\r\nX-A: 1\n\r\n",
            "0\r\nX-A: 1\r\n\n",
        ] {
            assert_eq!(decode(Framing::Chunked, [chunks.as_bytes()]), Err(Broken), "{chunks:?}");
        }
    }

    #[test]
    fn what_is_no_content_is_bounded() {
        let extension = format!("1;{}\r\nx\r\n", "x".repeat(MAX_OVERHEAD / 4));
        assert_eq!(decode(Framing::Chunked, [extension.repeat(3).as_bytes()]), Ok(None));
        for endless in [extension.repeat(4), format!("0\r\n{}", "x: y\r\n".repeat(MAX_OVERHEAD)), "1;x".repeat(MAX_OVERHEAD)] {
            assert_eq!(decode(Framing::Chunked, [endless.as_bytes()]), Err(Broken));
        }
    }

    proptest! {
        #[test]
        fn what_is_found_does_not_depend_on_how_the_bytes_were_cut(
            noise in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..2),
            cuts in prop::collection::vec(1_usize..9, 1..64),
        ) {
            let mut bytes = b"3\r\na\n\n\r\n0A;x=y\r\n0123456789\r\n0\r\nX: 1\r\n\r\nGET / HTTP/1.1\r\n\r\n".to_vec();
            for (at, byte) in noise {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            let (mut pieces, mut rest) = (Vec::new(), bytes.as_slice());
            for cut in cuts.iter().cycle() {
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                pieces.push(piece);
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(decode(Framing::Chunked, [bytes.as_slice()]), decode(Framing::Chunked, pieces));
        }
    }
}
