//! Strict JSON: a scanner that reads a text once, refuses what two parsers could read differently, and never builds a tree.
//!
//! The sidecar reads messages with it and the engine reads arguments with it, so both see the same. Rules 1 to 3 of the wire.
//!
//! Guarantees: no input panics; recursion ends at [`MAX_DEPTH`]; memory is bounded by the length of the text.

use std::borrow::Cow;
use std::ops::Range;

use crate::lookalike;

/// Arrays and objects within each other, the outermost included. Well below the 100 to 128 at which official servers begin to fail.
pub const MAX_DEPTH: usize = 64;
/// Digits of one number, exponent included. Servers agree on exact decimals of this length, not on longer ones.
const MAX_DIGITS: usize = 100;
/// A number is refused from 1e400 on, and below 1e-400 unless it is 0.
const MAX_EXPONENT: i64 = 400;

/// Why a text is not one unambiguous JSON text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Bytes that are not UTF-8.
    NotUtf8,
    /// A byte order mark.
    Bom,
    /// Not JSON.
    Syntax,
    /// More bytes after the JSON text.
    TrailingBytes,
    /// More bytes than offsets can count.
    TooLong,
    /// More than [`MAX_DEPTH`] levels.
    TooDeep,
    /// A key twice in one object, after unescaping.
    DuplicateKey,
    /// Two keys in one object of the arguments that some servers take for one.
    LookalikeKey,
    /// An escaped surrogate without its other half.
    LoneSurrogate,
    /// A number with too many digits or too large an exponent.
    Number,
}

/// What kind of value begins here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `{`
    Object,
    /// `[`
    Array,
    /// `"`
    String,
    /// `-` or a digit
    Number,
    /// `true` or `false`
    Bool,
    /// `null`
    Null,
}

/// A cursor over one JSON text.
///
/// An ambiguity ([`Fault::DuplicateKey`], [`Fault::LookalikeKey`], [`Fault::LoneSurrogate`], [`Fault::Number`]) does not stop the scan, so that the id of the
/// message can still be read; [`Scanner::finish`] reports the first one. Whoever scans must call it before believing anything.
pub struct Scanner<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    ambiguity: Option<Fault>,
    in_arguments: bool,
    /// Keys of the objects that are open, innermost last.
    keys: Vec<Key>,
    /// The unescaped text of those keys that have escapes.
    unescaped: String,
}

/// Where the text of a key stands. 32 bits keep the keys smaller than the text they come from.
struct Key {
    start: u32,
    end: u32,
    in_unescaped: bool,
    /// Within arguments: the key as [`lookalike::folded`] sees it.
    folded: u64,
}

impl Key {
    fn text<'t>(&self, text: &'t str, unescaped: &'t str) -> &'t [u8] {
        let source = if self.in_unescaped { unescaped } else { text };
        &source.as_bytes()[self.start as usize..self.end as usize]
    }
}

/// A string as it stands in the text, without its quotes.
struct RawString<'a> {
    text: &'a str,
    escaped: bool,
}

impl<'a> Scanner<'a> {
    /// A scanner at the start of these bytes.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Fault> {
        if u32::try_from(bytes.len()).is_err() {
            return Err(Fault::TooLong);
        }
        if bytes.starts_with(b"\xEF\xBB\xBF") {
            return Err(Fault::Bom);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| Fault::NotUtf8)?;
        Ok(Self { text, at: 0, depth: 0, ambiguity: None, in_arguments: false, keys: Vec::new(), unescaped: String::new() })
    }

    /// Ends the scan: nothing but white space may follow, and nothing may have been ambiguous.
    pub fn finish(&mut self) -> Result<(), Fault> {
        self.white_space();
        if self.at < self.text.len() {
            return Err(Fault::TrailingBytes);
        }
        self.ambiguity.map_or(Ok(()), Err)
    }

    /// The kind of the next value, which stays unread.
    pub fn kind(&mut self) -> Result<Kind, Fault> {
        self.white_space();
        match self.peek() {
            Some(b'{') => Ok(Kind::Object),
            Some(b'[') => Ok(Kind::Array),
            Some(b'"') => Ok(Kind::String),
            Some(b'-' | b'0'..=b'9') => Ok(Kind::Number),
            Some(b't' | b'f') => Ok(Kind::Bool),
            Some(b'n') => Ok(Kind::Null),
            _ => Err(Fault::Syntax),
        }
    }

    /// Reads any value and returns where it stands.
    pub fn value(&mut self) -> Result<Range<usize>, Fault> {
        let kind = self.kind()?;
        let start = self.at;
        match kind {
            Kind::Object => self.object(|scanner, _| scanner.value().map(drop))?,
            Kind::Array => self.array(|scanner| scanner.value().map(drop))?,
            Kind::String => self.raw_string().map(|_| ())?,
            Kind::Number => self.number()?,
            Kind::Bool if self.peek() == Some(b't') => self.literal("true")?,
            Kind::Bool => self.literal("false")?,
            Kind::Null => self.literal("null")?,
        }
        Ok(start..self.at)
    }

    /// Reads an object. `member` is called with each key and must read exactly the value.
    pub fn object(&mut self, mut member: impl FnMut(&mut Self, &str) -> Result<(), Fault>) -> Result<(), Fault> {
        self.white_space();
        self.expect(b'{')?;
        self.enter()?;
        let first_key = self.keys.len();
        let first_unescaped = self.unescaped.len();
        self.white_space();
        if !self.take(b'}') {
            loop {
                self.white_space();
                let key = self.key()?;
                self.white_space();
                self.expect(b':')?;
                member(self, &key)?;
                self.white_space();
                if self.take(b'}') {
                    break;
                }
                self.expect(b',')?;
            }
        }
        if let Some(fault) = if self.in_arguments { self.confusable(first_key) } else { self.duplicate(first_key) } {
            self.doubt(fault);
        }
        self.keys.truncate(first_key);
        self.unescaped.truncate(first_unescaped);
        self.depth -= 1;
        Ok(())
    }

    /// Reads an array. `element` must read exactly one value.
    pub fn array(&mut self, mut element: impl FnMut(&mut Self) -> Result<(), Fault>) -> Result<(), Fault> {
        self.white_space();
        self.expect(b'[')?;
        self.enter()?;
        self.white_space();
        if !self.take(b']') {
            loop {
                element(self)?;
                self.white_space();
                if self.take(b']') {
                    break;
                }
                self.expect(b',')?;
            }
        }
        self.depth -= 1;
        Ok(())
    }

    /// Reads a string, unescaped.
    pub fn string(&mut self) -> Result<Cow<'a, str>, Fault> {
        self.white_space();
        let raw = self.raw_string()?;
        Ok(if raw.escaped { unescape(raw.text).into() } else { raw.text.into() })
    }

    /// Reads arguments, in which no object may have two keys that some servers take for one: which of them such a server reads
    /// cannot be known.
    pub fn arguments<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> T {
        let outside = std::mem::replace(&mut self.in_arguments, true);
        let result = read(self);
        self.in_arguments = outside;
        result
    }

    /// Where the scan stands. After [`Scanner::kind`]: at the first byte of the value.
    #[must_use]
    pub fn position(&self) -> usize {
        self.at
    }

    /// The text at a place that [`Scanner::value`] returned.
    #[must_use]
    pub fn source(&self, place: Range<usize>) -> &'a str {
        &self.text[place]
    }

    fn number(&mut self) -> Result<(), Fault> {
        self.take(b'-');
        let whole = self.digits()?;
        if whole.len() > 1 && whole.starts_with('0') {
            return Err(Fault::Syntax);
        }
        let fraction = if self.take(b'.') { Some(self.digits()?) } else { None };
        let exponent = if self.take(b'e') || self.take(b'E') {
            let negative = self.take(b'-');
            if !negative {
                self.take(b'+');
            }
            Some((negative, self.digits()?))
        } else {
            None
        };
        let digits = whole.len() + fraction.map_or(0, str::len) + exponent.map_or(0, |(_, digits)| digits.len());
        if digits > MAX_DIGITS || !(-MAX_EXPONENT..MAX_EXPONENT).contains(&magnitude(whole, fraction.unwrap_or(""), exponent)) {
            self.doubt(Fault::Number);
        }
        Ok(())
    }

    fn key(&mut self) -> Result<Cow<'a, str>, Fault> {
        let raw = self.raw_string()?;
        // `new` made sure that offsets fit; unescaped text is never longer than its source.
        let offset = |at: usize| u32::try_from(at).map_err(|_| Fault::TooLong);
        if raw.escaped {
            let key = unescape(raw.text);
            let start = self.unescaped.len();
            self.unescaped.push_str(&key);
            let folded = self.folded(&key);
            self.keys.push(Key { start: offset(start)?, end: offset(self.unescaped.len())?, in_unescaped: true, folded });
            Ok(key.into())
        } else {
            let end = self.at - 1;
            let folded = self.folded(raw.text);
            self.keys.push(Key { start: offset(end - raw.text.len())?, end: offset(end)?, in_unescaped: false, folded });
            Ok(raw.text.into())
        }
    }

    fn folded(&self, key: &str) -> u64 {
        if self.in_arguments { lookalike::folded(key) } else { 0 }
    }

    /// Whether two of the keys from this one on are equal. Sorting keeps a body of many keys from costing quadratic time, and needs
    /// no memory that an attacker could make large.
    fn duplicate(&mut self, first_key: usize) -> Option<Fault> {
        let Self { text, keys, unescaped, .. } = self;
        let keys = keys.get_mut(first_key..)?;
        keys.sort_unstable_by(|a, b| a.text(text, unescaped).cmp(b.text(text, unescaped)));
        let is_twice = keys.windows(2).any(|pair| pair[0].text(text, unescaped) == pair[1].text(text, unescaped));
        is_twice.then_some(Fault::DuplicateKey)
    }

    /// The same, where two keys that some servers take for one are as bad as two that are equal.
    fn confusable(&mut self, first_key: usize) -> Option<Fault> {
        let Self { text, keys, unescaped, .. } = self;
        let keys = keys.get_mut(first_key..)?;
        keys.sort_unstable_by_key(|key| key.folded);
        let pair = keys.windows(2).find(|pair| pair[0].folded == pair[1].folded)?;
        let is_equal = pair[0].text(text, unescaped) == pair[1].text(text, unescaped);
        Some(if is_equal { Fault::DuplicateKey } else { Fault::LookalikeKey })
    }

    fn raw_string(&mut self) -> Result<RawString<'a>, Fault> {
        self.expect(b'"')?;
        let start = self.at;
        let mut escaped = false;
        loop {
            self.at += plain(&self.text.as_bytes()[self.at..]);
            match self.next()? {
                b'"' => break,
                b'\\' => {
                    escaped = true;
                    self.escape()?;
                }
                _ => return Err(Fault::Syntax),
            }
        }
        // Both ends are beside an ASCII quote, hence at character boundaries.
        Ok(RawString { text: &self.text[start..self.at - 1], escaped })
    }

    fn escape(&mut self) -> Result<(), Fault> {
        match self.next()? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Ok(()),
            b'u' => match self.hex4()? {
                0xD800..0xDC00 => {
                    let after = self.at;
                    if self.take(b'\\') && self.take(b'u') && (0xDC00..0xE000).contains(&self.hex4()?) {
                        return Ok(());
                    }
                    // What follows is no second half: it is judged by itself.
                    self.at = after;
                    self.doubt(Fault::LoneSurrogate);
                    Ok(())
                }
                0xDC00..0xE000 => {
                    self.doubt(Fault::LoneSurrogate);
                    Ok(())
                }
                _ => Ok(()),
            },
            _ => Err(Fault::Syntax),
        }
    }

    fn hex4(&mut self) -> Result<u32, Fault> {
        (0..4).try_fold(0, |unit, _| {
            let digit = char::from(self.next()?).to_digit(16).ok_or(Fault::Syntax)?;
            Ok(unit << 4 | digit)
        })
    }

    fn digits(&mut self) -> Result<&'a str, Fault> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { Err(Fault::Syntax) } else { Ok(&self.text[start..self.at]) }
    }

    fn literal(&mut self, literal: &str) -> Result<(), Fault> {
        literal.bytes().try_for_each(|byte| self.expect(byte))
    }

    fn enter(&mut self) -> Result<(), Fault> {
        self.depth += 1;
        if self.depth > MAX_DEPTH { Err(Fault::TooDeep) } else { Ok(()) }
    }

    fn doubt(&mut self, fault: Fault) {
        self.ambiguity.get_or_insert(fault);
    }

    fn white_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn next(&mut self) -> Result<u8, Fault> {
        let byte = self.peek().ok_or(Fault::Syntax)?;
        self.at += 1;
        Ok(byte)
    }

    fn take(&mut self, byte: u8) -> bool {
        let taken = self.peek() == Some(byte);
        self.at += usize::from(taken);
        taken
    }

    fn expect(&mut self, byte: u8) -> Result<(), Fault> {
        if self.take(byte) { Ok(()) } else { Err(Fault::Syntax) }
    }
}

/// How many bytes there are before the first quote, backslash or control character. Most of a long message is text, so eight are
/// looked at at a time: a borrow out of a byte marks it if it is one of them, and perhaps bytes behind it, never one before.
fn plain(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGHS: u64 = ONES << 7;
    let mut at = 0;
    for chunk in bytes.chunks_exact(8) {
        // Chunks have this length.
        let word = u64::from_le_bytes(chunk.try_into().unwrap_or_default());
        let (quote, backslash) = (word ^ (ONES * 0x22), word ^ (ONES * 0x5C));
        let control = word.wrapping_sub(ONES * 0x20) & !word;
        let marks = (quote.wrapping_sub(ONES) & !quote | backslash.wrapping_sub(ONES) & !backslash | control) & HIGHS;
        if marks != 0 {
            return at + (marks.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    at + bytes[at..].iter().take_while(|byte| !matches!(byte, b'"' | b'\\' | 0..0x20)).count()
}

/// The decimal exponent of a number's first significant digit. That of zero is its exponent as written.
fn magnitude(whole: &str, fraction: &str, exponent: Option<(bool, &str)>) -> i64 {
    let length = |digits: &str| i64::try_from(digits.len()).unwrap_or(i64::MAX);
    let first = if whole != "0" {
        length(whole) - 1
    } else if let Some(zeros) = fraction.find(|digit| digit != '0') {
        -1 - length(&fraction[..zeros])
    } else {
        0
    };
    let exponent = exponent.map_or(0, |(negative, digits)| {
        // An exponent too long for an integer is out of range, as the largest integer is.
        let exponent = digits.parse().unwrap_or(i64::MAX);
        if negative { -exponent } else { exponent }
    });
    first.saturating_add(exponent)
}

/// Unescapes the inside of a string that the scanner has read. A lone surrogate, which the scanner has noted, becomes U+FFFD.
pub fn unescape(raw: &str) -> String {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((plain, escape)) = rest.split_once('\\') {
        text.push_str(plain);
        let mut chars = escape.chars();
        match chars.next() {
            Some('b') => text.push('\u{8}'),
            Some('f') => text.push('\u{c}'),
            Some('n') => text.push('\n'),
            Some('r') => text.push('\r'),
            Some('t') => text.push('\t'),
            Some('u') => {
                let unit = code_unit(chars.as_str());
                let pair = chars.as_str().get(4..).and_then(|rest| rest.strip_prefix("\\u")).map(code_unit);
                let (decoded, length) = match (unit, pair) {
                    (0xD800..0xDC00, Some(low @ 0xDC00..0xE000)) => (0x1_0000 + ((unit - 0xD800) << 10 | (low - 0xDC00)), 10),
                    _ => (unit, 4),
                };
                text.push(char::from_u32(decoded).unwrap_or(char::REPLACEMENT_CHARACTER));
                chars = chars.as_str().get(length..).unwrap_or_default().chars();
            }
            // A quote, a backslash or a slash stands for itself.
            Some(same) => text.push(same),
            None => {}
        }
        rest = chars.as_str();
    }
    text.push_str(rest);
    text
}

fn code_unit(hex: &str) -> u32 {
    hex.get(..4).and_then(|hex| u32::from_str_radix(hex, 16).ok()).unwrap_or(u32::from(char::REPLACEMENT_CHARACTER))
}

#[cfg(test)]
mod tests;
