//! Event streams, as the HTML standard defines them: bytes in any pieces to frames that can be forwarded as they came or with other
//! data. mcp.md section 3, rule 17.
//!
//! Guarantees: the frames do not depend on how the stream was cut into pieces; memory is bounded; joined, the raw bytes of the frames are
//! those of the stream, with three exceptions that clients do not see: a line end of CR alone becomes CRLF (some clients do not know
//! it), a line that begins with a stray byte order mark is left out, and an event without its blank line never comes out.

use std::borrow::Cow;

use bytes::Bytes;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// A frame over the limit. The stream cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event is over the size limit")]
pub struct FrameTooLarge(());

/// One event; or a comment between events, which goes on at once to keep the connection alive; or the stream's byte order mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    raw: Bytes,
}

impl Frame {
    /// The bytes of the frame, to be forwarded where nothing changes.
    #[must_use]
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// As [`Frame::raw`].
    #[must_use]
    pub fn into_raw(self) -> Bytes {
        self.raw
    }

    /// The data of the event; none where it has no data, or empty data (a comment, a retry time, the id that primes a stream).
    #[must_use]
    pub fn data(&self) -> Option<Cow<'_, [u8]>> {
        let mut lines = self.lines().filter_map(data_of);
        let first = lines.next()?;
        let data = lines.fold(Cow::Borrowed(first), |data, line| {
            let mut data = data.into_owned();
            data.push(b'\n');
            data.extend_from_slice(line);
            data.into()
        });
        (!data.is_empty()).then_some(data)
    }

    /// The type that the event names; empty where it names none, which is that of messages.
    #[must_use]
    pub fn kind(&self) -> &[u8] {
        let kinds = self.lines().filter_map(|line| line.strip_prefix(b"event:"));
        kinds.last().map_or(b"", |kind| kind.strip_prefix(b" ").unwrap_or(kind))
    }

    /// Whether the event has an id, by which a client can ask for what follows it.
    #[must_use]
    pub fn has_id(&self) -> bool {
        self.lines().any(|line| line.starts_with(b"id:"))
    }

    /// The frame with other data, and everything else as it was. Line ends become LF.
    #[must_use]
    pub fn with_data(&self, data: &[u8]) -> Bytes {
        let mut raw = Vec::with_capacity(self.raw.len().max(data.len()) + 16);
        for line in self.lines().filter(|line| !line.is_empty() && data_of(line).is_none()) {
            raw.extend_from_slice(line);
            raw.push(b'\n');
        }
        push_data(&mut raw, data);
        raw.into()
    }

    /// The lines of the frame, without their ends.
    fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.raw.split_inclusive(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r\n").or(line.strip_suffix(b"\n")).unwrap_or(line))
    }
}

/// The value of a `data` line.
fn data_of(line: &[u8]) -> Option<&[u8]> {
    let rest = line.strip_prefix(b"data")?;
    match rest.strip_prefix(b":") {
        Some(value) => Some(value.strip_prefix(b" ").unwrap_or(value)),
        None => rest.is_empty().then_some(rest),
    }
}

/// Writes data and the end of the event. A line end within the data starts a new line of data, so it cannot start a field.
fn push_data(raw: &mut Vec<u8>, data: &[u8]) {
    // CRLF would give an empty line of data between its halves; in JSON, line ends are white space, and one is as good as two.
    for line in data.split(|byte| matches!(byte, b'\n' | b'\r')) {
        raw.extend_from_slice(b"data: ");
        raw.extend_from_slice(line);
        raw.push(b'\n');
    }
    raw.push(b'\n');
}

/// A new `message` event with this data.
#[must_use]
pub fn event(data: &[u8]) -> Bytes {
    let mut raw = b"event: message\n".to_vec();
    push_data(&mut raw, data);
    raw.into()
}

/// Cuts a stream into frames.
#[derive(Debug)]
pub struct Decoder {
    max_frame_bytes: usize,
    /// The frame so far.
    raw: Vec<u8>,
    /// Where its last line begins.
    line: usize,
    /// Whether a line of it is a field, so that it ends only with a blank line.
    has_field: bool,
    /// Whether the last byte was a CR: a LF that follows is part of its line end, which was written whole.
    after_cr: bool,
    at_start: bool,
}

impl Decoder {
    /// A decoder at the start of a stream that refuses frames of more than `max_frame_bytes`.
    #[must_use]
    pub fn new(max_frame_bytes: usize) -> Self {
        Self { max_frame_bytes, raw: Vec::new(), line: 0, has_field: false, after_cr: false, at_start: true }
    }

    /// Takes the next piece of the stream and appends the frames that it completes, also before an error.
    pub fn decode(&mut self, piece: &[u8], frames: &mut Vec<Frame>) -> Result<(), FrameTooLarge> {
        let mut rest = piece;
        while !rest.is_empty() {
            if std::mem::take(&mut self.after_cr) && rest[0] == b'\n' {
                rest = &rest[1..];
                continue;
            }
            let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
                return self.push(rest);
            };
            self.push(&rest[..end])?;
            self.after_cr = rest[end] == b'\r';
            self.push(if self.after_cr { b"\r\n" } else { b"\n" })?;
            rest = &rest[end + 1..];
            self.end_line(frames);
        }
        Ok(())
    }

    /// How many bytes are held of the frame that has begun.
    #[must_use]
    pub fn held(&self) -> usize {
        self.raw.len()
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), FrameTooLarge> {
        if self.raw.len() + bytes.len() > self.max_frame_bytes {
            return Err(FrameTooLarge(()));
        }
        self.raw.extend_from_slice(bytes);
        Ok(())
    }

    fn end_line(&mut self, frames: &mut Vec<Frame>) {
        if std::mem::take(&mut self.at_start) && self.raw.starts_with(BYTE_ORDER_MARK) {
            frames.push(Frame { raw: Bytes::from_static(BYTE_ORDER_MARK) });
            self.raw.drain(..BYTE_ORDER_MARK.len());
        }
        let line = &self.raw[self.line..];
        if line.starts_with(BYTE_ORDER_MARK) {
            // Within the stream it makes the field an unknown one. Were it to come first, because what stood before it was changed or
            // dropped, the field would become a known one that nobody has looked at.
            self.raw.truncate(self.line);
            return;
        }
        let is_blank = matches!(line, b"\n" | b"\r\n");
        let is_comment = line.first() == Some(&b':');
        self.has_field |= !is_blank && !is_comment;
        self.line = self.raw.len();
        if is_blank || !self.has_field {
            frames.push(Frame { raw: std::mem::take(&mut self.raw).into() });
            self.line = 0;
            self.has_field = false;
        }
    }
}

/// Follows a stream that passes unread, so that it is known where one event has ended and the next has not begun.
#[derive(Debug)]
pub struct Boundary {
    line_is_empty: bool,
    /// Whether the last byte was a CR: a LF that follows belongs to the same line end.
    after_cr: bool,
    is_between: bool,
}

impl Default for Boundary {
    fn default() -> Self {
        Self { line_is_empty: true, after_cr: false, is_between: true }
    }
}

impl Boundary {
    /// The longest end of an event: two line ends of two bytes. What is before it does not matter.
    const LONGEST_END: usize = 4;

    /// Whether no event has begun.
    #[must_use]
    pub fn is_between_events(&self) -> bool {
        self.is_between
    }

    /// The next piece of the stream has passed.
    pub fn pass(&mut self, mut piece: &[u8]) {
        if piece.len() > Self::LONGEST_END {
            piece = &piece[piece.len() - Self::LONGEST_END..];
            *self = Self { line_is_empty: false, after_cr: false, is_between: false };
        }
        for byte in piece {
            self.step(*byte);
        }
    }

    /// Passes the rest of the event that has begun, and returns how many bytes that is: all of them if it does not end here.
    pub fn pass_to_end(&mut self, piece: &[u8]) -> usize {
        let mut passed = 0;
        while !self.is_between && passed < piece.len() {
            self.step(piece[passed]);
            passed += 1;
        }
        passed
    }

    fn step(&mut self, byte: u8) {
        if std::mem::take(&mut self.after_cr) && byte == b'\n' {
            return;
        }
        let ends_line = matches!(byte, b'\n' | b'\r');
        self.is_between = ends_line && self.line_is_empty;
        self.line_is_empty = ends_line;
        self.after_cr = byte == b'\r';
    }
}

#[cfg(test)]
mod tests;
