//! MCP on stdio: one message a line (mcp.md 1.6).
//!
//! Guarantees: a line longer than its bound is never held; what was judged as one message is one line to everyone who reads it.

use std::borrow::Cow;
use std::io;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

/// A line, without its end.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// The whole line.
    Whole(Vec<u8>),
    /// It was longer than the bound, and is gone.
    TooLong,
}

/// Lines of at most so many bytes. Empty ones are left out.
#[derive(Debug)]
pub struct Lines<R> {
    reader: BufReader<R>,
    max: usize,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// The lines of `reader`, each of at most `max` bytes.
    pub fn new(reader: R, max: usize) -> Self {
        Self { reader: BufReader::new(reader), max }
    }

    /// The next line; none at the end. A last line that was not ended is one.
    pub async fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            match self.read().await? {
                Some(Line::Whole(line)) if line.iter().all(u8::is_ascii_whitespace) => {}
                line => return Ok(line),
            }
        }
    }

    async fn read(&mut self) -> io::Result<Option<Line>> {
        let mut line = Vec::new();
        let mut is_too_long = false;
        let mut has_begun = false;
        loop {
            let available = self.reader.fill_buf().await?;
            if available.is_empty() && !has_begun {
                return Ok(None);
            }
            has_begun = true;
            let end = available.iter().position(|byte| *byte == b'\n');
            let part = &available[..end.unwrap_or(available.len())];
            is_too_long |= line.len() + part.len() > self.max;
            if is_too_long {
                line = Vec::new();
            } else {
                line.extend_from_slice(part);
            }
            let (is_last, read) = (end.is_some() || available.is_empty(), part.len() + usize::from(end.is_some()));
            self.reader.consume(read);
            if is_last {
                return Ok(Some(if is_too_long { Line::TooLong } else { Line::Whole(line) }));
            }
        }
    }
}

/// The message as one line, without its end. Line breaks in a JSON text stand only between tokens, where a space means the same; but
/// there are readers that end a line at any of them, and they would find other messages within this one.
#[must_use]
pub fn one_line(message: &[u8]) -> Cow<'_, [u8]> {
    let breaks = |byte: &u8| matches!(byte, b'\r' | b'\n');
    if message.iter().any(breaks) { message.iter().map(|byte| if breaks(byte) { b' ' } else { *byte }).collect() } else { message.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(text: &[u8], max: usize) -> Vec<Line> {
        let mut lines = Lines::new(text, max);
        let mut read = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            read.push(line);
        }
        read
    }

    fn whole(text: &str) -> Line {
        Line::Whole(text.into())
    }

    #[tokio::test]
    async fn lines_end_at_line_feeds_and_at_the_end() {
        assert_eq!(lines(b"", 10).await, []);
        assert_eq!(lines(b"\n \r\n", 10).await, []);
        assert_eq!(lines(b"one\n\ntwo\r\nthree", 10).await, [whole("one"), whole("two\r"), whole("three")]);
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_gone_and_the_next_is_there() {
        assert_eq!(lines(b"12345\n1234\n123456", 4).await, [Line::TooLong, whole("1234"), Line::TooLong]);
        let long = [vec![b'x'; 100_000], b"\nnext\n".to_vec()].concat();
        assert_eq!(lines(&long, 50_000).await, [Line::TooLong, whole("next")]);
    }

    #[test]
    fn a_message_of_many_lines_becomes_one() {
        assert_eq!(one_line(b"{\r\n\"a\":\r1}"), &b"{  \"a\": 1}"[..]);
        assert!(matches!(one_line(b"{}"), Cow::Borrowed(b"{}")));
    }
}
