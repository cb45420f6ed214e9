//! What a message of the server is, read while it passes in pieces of any size: to whom it answers, and how. Rule 18 needs no more, and
//! so neither an answer's length nor what is in it matters here.
//!
//! Guarantees: bounded memory, whatever comes; what could be read as another kind of message, or as the answer to another request, is
//! unreadable. Caveat: what stands deeper than the envelope is skipped, not checked.

use std::borrow::Cow;

use mcp_policy::json::unescape;
use mcp_policy::lookalike::is_lookalike;

use super::{Id, Unreadable};

/// The longest key of the envelope that can be one of JSON-RPC's, with room for escapes and look-alikes.
const MAX_KEY_BYTES: usize = 64;

/// The longest id that is read. A client with a longer one gets no answer.
const MAX_ID_BYTES: usize = 4096;

const KEYS: &[&str] = &["jsonrpc", "id", "method", "params", "result", "error"];

/// What a message of the server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outline {
    /// Wants an answer from the client (legacy revisions).
    Request,
    /// Wants none.
    Notification,
    /// Answers a request with a result.
    Result(Id),
    /// Answers a request with an error; without an id where the server could not read it.
    Error(Option<Id>),
}

/// Reads the envelope of one message.
#[derive(Debug, Default)]
pub struct Glance {
    place: Place,
    /// Open objects and arrays.
    depth: usize,
    in_string: bool,
    after_backslash: bool,
    key: Vec<u8>,
    /// The member of the envelope whose value is being read.
    member: Member,
    id: Vec<u8>,
    seen: Seen,
    unreadable: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// Before the message.
    #[default]
    Start,
    /// In the envelope, before or in a key.
    Key,
    /// After a key.
    Colon,
    /// In a value, at whatever depth.
    Value,
    /// After the message.
    End,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Member {
    Id,
    Error,
    #[default]
    Other,
}

/// Which members there are.
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is one key of JSON-RPC")]
struct Seen {
    id: bool,
    method: bool,
    params: bool,
    result: bool,
    jsonrpc: bool,
    error: bool,
    /// The value of `error` is an object, not null.
    error_is_one: bool,
}

impl Glance {
    /// The outline of a message that is whole.
    pub fn at(message: &[u8]) -> Result<Outline, Unreadable> {
        let mut glance = Self::default();
        glance.read(message);
        glance.outline()
    }

    /// The next piece of the message.
    pub fn read(&mut self, mut piece: &[u8]) {
        while let Some((byte, rest)) = piece.split_first() {
            if self.unreadable {
                return;
            }
            piece = rest;
            if self.in_string && self.is_skipping() && !matches!(byte, b'"' | b'\\') && !self.after_backslash {
                // The inside of a long text. Nothing in it matters until it ends.
                piece = &rest[memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len())..];
            } else {
                self.step(*byte);
            }
        }
    }

    /// Whether it is known already that this is no answer to `expected`.
    #[must_use]
    pub fn is_astray(&self, expected: &Id) -> bool {
        let has_id = self.seen.id && (self.member != Member::Id || self.place != Place::Value);
        self.unreadable || self.seen.method || (has_id && self.read_id().is_some_and(|id| id != *expected))
    }

    /// Whether the whole message has been read.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.place == Place::End
    }

    /// Whether no client takes it for a message: it is no object or array, or one without any of a message's keys.
    #[must_use]
    pub fn is_no_message(&self) -> bool {
        self.place == Place::Start
            || (!self.unreadable && self.place == Place::End && !(self.seen.method || self.seen.result || self.seen.error))
    }

    /// What the message is.
    pub fn outline(&self) -> Result<Outline, Unreadable> {
        let seen = &self.seen;
        if self.unreadable || self.place != Place::End {
            return Err(Unreadable::new());
        }
        match (seen.method, seen.result, seen.error_is_one) {
            (true, false, false) if !seen.id => Ok(Outline::Notification),
            (true, false, false) => self.read_id().map(|_| Outline::Request).ok_or_else(Unreadable::new),
            (false, true, false) if !seen.params => self.read_id().map(Outline::Result).ok_or_else(Unreadable::new),
            (false, false, true) if !seen.params => Ok(Outline::Error(self.read_id())),
            _ => Err(Unreadable::new()),
        }
    }

    fn read_id(&self) -> Option<Id> {
        let text = std::str::from_utf8(self.id.trim_ascii()).ok()?;
        let is_string = text.len() > 1 && text.starts_with('"') && text.ends_with('"');
        let is_number = text.starts_with(|first: char| first == '-' || first.is_ascii_digit());
        if is_string || is_number { Id::from_json(text) } else { None }
    }

    /// Whether bytes are neither part of a key nor of the id.
    fn is_skipping(&self) -> bool {
        self.place == Place::Value && self.member != Member::Id
    }

    fn step(&mut self, byte: u8) {
        if self.member == Member::Id && self.place == Place::Value && !(self.depth == 1 && !self.in_string && matches!(byte, b',' | b'}')) {
            self.id.push(byte);
            self.unreadable |= self.id.len() > MAX_ID_BYTES;
        }
        if self.in_string {
            return self.step_in_string(byte);
        }
        match (self.place, byte) {
            (_, b' ' | b'\t' | b'\n' | b'\r') => {}
            (Place::Start, b'{') => {
                self.depth = 1;
                self.place = Place::Key;
            }
            (Place::Start, b'[') => {
                // Some clients take several messages at once.
                self.place = Place::Key;
                self.unreadable = true;
            }
            (Place::Key, b'"') => {
                self.in_string = true;
                self.key.clear();
            }
            (Place::Key | Place::Value, b'}') if self.depth == 1 => self.place = Place::End,
            (Place::Colon, b':') => self.place = Place::Value,
            (Place::Value, b',') if self.depth == 1 => {
                self.member = Member::Other;
                self.place = Place::Key;
            }
            (Place::Value, _) => {
                self.seen.error_is_one |= self.member == Member::Error && self.depth == 1 && byte == b'{';
                match byte {
                    b'"' => self.in_string = true,
                    b'{' | b'[' => self.depth += 1,
                    b'}' | b']' if self.depth > 1 => self.depth -= 1,
                    b'}' | b']' => self.unreadable = true,
                    _ => {}
                }
            }
            _ => self.unreadable = true,
        }
    }

    fn step_in_string(&mut self, byte: u8) {
        if !std::mem::take(&mut self.after_backslash) {
            match byte {
                b'\\' => self.after_backslash = true,
                b'"' => {
                    self.in_string = false;
                    if self.place == Place::Key {
                        self.end_key();
                    }
                    return;
                }
                _ => {}
            }
        }
        // Of a longer key the beginning is kept, which is none of JSON-RPC's.
        if self.place == Place::Key && self.key.len() <= MAX_KEY_BYTES {
            self.key.push(byte);
        }
    }

    fn end_key(&mut self) {
        self.place = Place::Colon;
        let Ok(key) = std::str::from_utf8(&self.key) else {
            // Also a long key that was cut within a character.
            self.unreadable |= self.key.len() <= MAX_KEY_BYTES;
            return;
        };
        let key: Cow<'_, str> = if key.contains('\\') { unescape(key).into() } else { key.into() };
        let seen = match key.as_ref() {
            "id" => &mut self.seen.id,
            "method" => &mut self.seen.method,
            "params" => &mut self.seen.params,
            "result" => &mut self.seen.result,
            "error" => &mut self.seen.error,
            "jsonrpc" => &mut self.seen.jsonrpc,
            other => {
                self.unreadable |= is_lookalike(other, KEYS);
                return;
            }
        };
        self.unreadable |= std::mem::replace(seen, true);
        self.member = match key.as_ref() {
            "id" => Member::Id,
            "error" => Member::Error,
            _ => Member::Other,
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{ServerMessage, parse_server};
    use super::*;

    fn id(json: &str) -> Id {
        Id::from_json(json).unwrap()
    }

    #[test]
    fn the_outline_is_told_wherever_the_id_stands_and_however_it_is_written() {
        for (message, outline) in [
            (r#"{"jsonrpc":"2.0","id":7,"result":{"id":8,"method":"x","error":{}}}"#, Outline::Result(id("7"))),
            (r#" { "result" : [ "}" , "\"{" , {} ] , "\u0069d" : "a\u0062" , "jsonrpc":"2.0" } "#, Outline::Result(id(r#""ab""#))),
            (r#"{"id":"1","result":null,"error":null,"vendor":[1]}"#, Outline::Result(id(r#""1""#))),
            (r#"{"jsonrpc":"2.0","error":{"code":1,"message":"id"},"id":-3}"#, Outline::Error(Some(id("-3")))),
            (r#"{"jsonrpc":"2.0","error":{},"id":null}"#, Outline::Error(None)),
            (r#"{"jsonrpc":"2.0","error":{}}"#, Outline::Error(None)),
            (r#"{"jsonrpc":"2.0","method":"ping","id":1}"#, Outline::Request),
            (r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"id":1,"result":{}}}"#, Outline::Notification),
        ] {
            assert_eq!(Glance::at(message.as_bytes()), Ok(outline), "{message}");
        }
    }

    #[test]
    fn what_could_be_another_answer_is_unreadable() {
        let long = format!(r#"{{"id":"{}","result":{{}}}}"#, "x".repeat(MAX_ID_BYTES));
        for message in [
            r#"{"id":1,"id":2,"result":{}}"#,
            r#"{"id":1,"\u0069d":2,"result":{}}"#,
            r#"{"id":1,"Id":2,"result":{}}"#,
            r#"{"id":1,"result":{},"result":{}}"#,
            r#"{"id":1,"result":{},"error":{}}"#,
            r#"{"id":1,"result":{},"method":"x"}"#,
            r#"{"id":1,"result":{},"params":{}}"#,
            r#"{"id":1.5,"result":{}}"#,
            r#"{"id":[1],"result":{}}"#,
            r#"{"id":null,"result":{}}"#,
            r#"{"result":{}}"#,
            r#"{"id":1}"#,
            r#"{"id":1,"error":null}"#,
            r#"{"id":1,"result":{}} {}"#,
            r#"{"id":1,"result":{}"#,
            r#"[{"id":1,"result":{}}]"#,
            "\u{feff}{\"id\":1,\"result\":{}}",
            "null",
            "",
            &long,
        ] {
            assert_eq!(Glance::at(message.as_bytes()), Err(Unreadable::new()), "{message}");
        }
    }

    #[test]
    fn a_wrong_id_is_known_as_soon_as_it_has_passed() {
        let mut glance = Glance::default();
        glance.read(br#"{"jsonrpc":"2.0","id":1"#);
        assert!(!glance.is_astray(&id("12")), "it may go on");
        glance.read(br#"2,"result":"#);
        assert!(!glance.is_astray(&id("12")));
        assert!(glance.is_astray(&id("1")));
        assert!(!glance.is_whole());
    }

    proptest! {
        #[test]
        fn the_cut_into_pieces_does_not_matter(
            message in r#"\{("(id|method|result|x|\\u0069d)":("a\\"\}"|1|\{"id":2\}|null|\[\]),?){0,4}\} ?"#,
            cut in any::<prop::sample::Index>(),
        ) {
            let (first, second) = message.as_bytes().split_at(cut.index(message.len()));
            let mut glance = Glance::default();
            glance.read(first);
            glance.read(second);
            prop_assert_eq!(glance.outline(), Glance::at(message.as_bytes()));
        }

        #[test]
        fn whatever_the_strict_reader_reads_is_told_alike(
            members in prop::collection::vec((prop::sample::select(vec!["id", "method", "result", "error", "params", "x"]),
                prop::sample::select(vec!["1", "\"a\"", "{}", "[]", "null"])), 0..4),
        ) {
            let members = members.iter().fold(String::new(), |text, (key, value)| text + &format!(r#","{key}":{value}"#));
            let message = format!(r#"{{"jsonrpc":"2.0"{members}}}"#);
            let glance = Glance::at(message.as_bytes());
            match parse_server(message.as_bytes()) {
                Ok(ServerMessage::Request { .. }) => prop_assert_eq!(glance, Ok(Outline::Request)),
                Ok(ServerMessage::Notification { .. }) => prop_assert_eq!(glance, Ok(Outline::Notification)),
                // The envelope of an answer has no params.
                Ok(_) if members.contains("params") => {}
                Ok(ServerMessage::Result { id }) => prop_assert_eq!(glance, Ok(Outline::Result(id))),
                Ok(ServerMessage::Error { id }) => prop_assert_eq!(glance, Ok(Outline::Error(id))),
                Err(_) => {}
            }
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Glance::at(&bytes);
        }
    }
}
