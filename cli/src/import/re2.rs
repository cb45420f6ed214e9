//! Regular expressions as RE2 reads them (Go's `regexp`, which the neighbours match with), rewritten for the `regex` crate, which reads
//! some of them differently: `\d`, `\w`, `\s` and `\b` know all of Unicode there, `\<` is the start of a word, and `[` and `&&` mean
//! something within a class.

use std::iter::Peekable;
use std::str::Chars;

/// Rewrites an expression so that it matches the same texts. The error says what cannot be said.
pub fn rewrite(expression: &str) -> Result<String, String> {
    let mut rewriter = Rewriter { rest: expression.chars().peekable(), out: String::with_capacity(expression.len()) };
    while let Some(c) = rewriter.rest.next() {
        match c {
            '\\' => rewriter.escape()?,
            '[' => rewriter.class()?,
            '(' => rewriter.group()?,
            '{' => rewriter.brace(),
            c => rewriter.out.push(c),
        }
    }
    Ok(rewriter.out)
}

/// The characters of `\d`, `\w`, `\s` and their opposites, as RE2 has them: the vertical tab is no white space.
fn members(class: char) -> &'static str {
    match class {
        'd' | 'D' => "0-9",
        'w' | 'W' => "0-9A-Za-z_",
        _ => r"\t\n\f\r ",
    }
}

/// What stands before the next character of a class.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    /// A character that a range can begin with.
    Character,
    /// The dash of a range.
    Dash,
    /// A range or a set.
    Set,
}

impl Before {
    fn and_a_character(self) -> Self {
        if self == Self::Dash { Self::Set } else { Self::Character }
    }
}

fn is_meta(c: char) -> bool {
    matches!(c, '\\' | '.' | '+' | '*' | '?' | '(' | ')' | '|' | '[' | ']' | '{' | '}' | '^' | '$')
}

struct Rewriter<'a> {
    rest: Peekable<Chars<'a>>,
    out: String,
}

impl Rewriter<'_> {
    /// A character that stands for itself, outside of a class.
    fn literal(&mut self, c: char) {
        if is_meta(c) {
            self.out.push('\\');
        }
        self.out.push(c);
    }

    fn set(&mut self, open: &str, class: char) {
        self.out.push_str(open);
        self.out.push_str(members(class));
        self.out.push(']');
    }

    /// After a backslash, outside of a class.
    fn escape(&mut self) -> Result<(), String> {
        match self.rest.next() {
            Some(c @ ('d' | 'w' | 's')) => self.set("[", c),
            Some(c @ ('D' | 'W' | 'S')) => self.set("[^", c),
            Some('b') => self.out.push_str(r"(?-u:\b)"),
            Some('B') => return Err(r"`\B` goes by ASCII words there, which cannot be said here; write it without".to_owned()),
            Some('C') => return Err(r"`\C`, any one byte, cannot be said here; `.` is any one character".to_owned()),
            Some('Q') => self.quoted(),
            Some(c) => self.plain_escape(c)?,
            None => return Err("ends in a backslash".to_owned()),
        }
        Ok(())
    }

    /// `\Q…\E`: all of it stands for itself.
    fn quoted(&mut self) {
        while let Some(c) = self.rest.next() {
            if c == '\\' && self.rest.next_if_eq(&'E').is_some() {
                return;
            }
            self.literal(c);
        }
    }

    /// An escape that means the same within a class.
    fn plain_escape(&mut self, c: char) -> Result<(), String> {
        match c {
            'p' | 'P' | 'x' => {
                self.out.push('\\');
                self.out.push(c);
                // `{…}` belongs to the escape.
                if self.rest.next_if_eq(&'{').is_some() {
                    self.out.push('{');
                    for c in self.rest.by_ref() {
                        self.out.push(c);
                        if c == '}' {
                            break;
                        }
                    }
                }
            }
            'a' | 'f' | 't' | 'n' | 'r' | 'v' | 'A' | 'z' => {
                self.out.push('\\');
                self.out.push(c);
            }
            '0'..='9' => return Err(format!("`\\{c}` cannot be said here; write a character by its number as `\\x{{…}}`")),
            // The start and the end of a word here, the characters themselves there.
            '<' | '>' | '_' => self.out.push(c),
            c if c.is_ascii_punctuation() => {
                self.out.push('\\');
                self.out.push(c);
            }
            c => return Err(format!("`\\{c}` is not known there")),
        }
        Ok(())
    }

    /// After `(`.
    fn group(&mut self) -> Result<(), String> {
        self.out.push('(');
        if self.rest.next_if_eq(&'?').is_none() {
            return Ok(());
        }
        self.out.push('?');
        // A name, or flags up to their end. Look-around and what only the other side knows is left to the compiler to refuse.
        if matches!(self.rest.peek(), Some('P' | '<' | ':' | '=' | '!' | '#' | '>')) {
            return Ok(());
        }
        while let Some(c) = self.rest.next_if(|c| *c != ')' && *c != ':') {
            if !matches!(c, 'i' | 'm' | 's' | 'U' | '-') {
                return Err(format!("the flag `{c}` is not known there"));
            }
            self.out.push(c);
        }
        Ok(())
    }

    /// After `{`: the count of a repetition, or the character.
    fn brace(&mut self) {
        let count: String = self.rest.clone().take_while(|c| *c != '}').collect();
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let is_count = match count.split_once(',') {
            Some((least, most)) => is_number(least) && (most.is_empty() || is_number(most)),
            None => is_number(&count),
        };
        if is_count && self.rest.clone().any(|c| c == '}') {
            self.out.extend(["{", &count, "}"]);
            self.rest.nth(count.len());
        } else {
            self.literal('{');
        }
    }

    /// After `[`.
    fn class(&mut self) -> Result<(), String> {
        self.out.push('[');
        if self.rest.next_if_eq(&'^').is_some() {
            self.out.push('^');
        }
        let mut before = Before::Nothing;
        loop {
            let c = self.rest.next();
            before = match c {
                None => return Err("a class `[…]` does not end".to_owned()),
                Some(']') if before != Before::Nothing => break,
                Some('[') if self.rest.peek() == Some(&':') && self.named_class() => Before::Set,
                Some('-') if before == Before::Character && self.rest.peek() != Some(&']') => {
                    self.out.push('-');
                    Before::Dash
                }
                Some('\\') => self.class_escape(before)?,
                Some(c) => {
                    let next = self.rest.peek();
                    let is_special = match c {
                        '-' => before == Before::Dash || next == Some(&'-') || before != Before::Nothing && next != Some(&']'),
                        '^' => before == Before::Nothing,
                        '[' | ']' | '&' | '~' => true,
                        _ => false,
                    };
                    if is_special {
                        self.out.push('\\');
                    }
                    self.out.push(c);
                    before.and_a_character()
                }
            };
        }
        self.out.push(']');
        Ok(())
    }

    /// After a backslash within a class.
    fn class_escape(&mut self, before: Before) -> Result<Before, String> {
        match self.rest.next() {
            Some(c @ ('d' | 'w' | 's')) => self.out.push_str(members(c)),
            Some(c @ ('D' | 'W' | 'S')) => self.set("[^", c),
            Some('Q' | 'E' | 'b' | 'B' | 'C' | 'A' | 'z') => {
                return Err("has an escape in a class `[…]` that is not known there".to_owned());
            }
            Some(c @ ('p' | 'P')) => self.plain_escape(c)?,
            Some(c) => {
                self.plain_escape(c)?;
                return Ok(before.and_a_character());
            }
            None => return Err("ends in a backslash".to_owned()),
        }
        if before == Before::Dash { Err("has a range in a class `[…]` that ends in a set".to_owned()) } else { Ok(Before::Set) }
    }

    /// `[:alpha:]` and its like, at its colon.
    fn named_class(&mut self) -> bool {
        let name: String = self.rest.clone().skip(1).take_while(|c| c.is_ascii_lowercase() || *c == '^').collect();
        let after: String = self.rest.clone().skip(1 + name.chars().count()).take(2).collect();
        if after != ":]" {
            return false;
        }
        self.out.extend(["[:", &name, ":]"]);
        self.rest.nth(name.chars().count() + 2);
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_expression_matches_the_same_texts() {
        for (there, here) in [
            ("^feat/", "^feat/"),
            (r"^\d+$", "^[0-9]+$"),
            (r"[\w.-]+@example\.com", r"[0-9A-Za-z_.-]+@example\.com"),
            (r"[^\s\D]", r"[^\t\n\f\r [^0-9]]"),
            (r"(?i)\bdrop\b", r"(?i)(?-u:\b)drop(?-u:\b)"),
            (r"\<b\>", "<b>"),
            (r"\Qa.b\E.c", r"a\.b.c"),
            ("[[]", r"[\[]"),
            ("[]a]", r"[\]a]"),
            ("[^]a]", r"[^\]a]"),
            ("[a&&b~~]", r"[a\&\&b\~\~]"),
            ("[[:alpha:]_]", "[[:alpha:]_]"),
            ("[[:^digit:]]", "[[:^digit:]]"),
            ("[a-z-]", "[a-z-]"),
            ("[a-z-9]", r"[a-z\-9]"),
            (r"[\d-z]", r"[0-9\-z]"),
            ("[+--]", r"[+-\-]"),
            ("[--a]", r"[\--a]"),
            ("[^^]", r"[^\^]"),
            ("a{2,3}b{,2}c{x}", r"a{2,3}b\{,2}c\{x}"),
            (r"\p{Greek}\x{1F600}\x41", r"\p{Greek}\x{1F600}\x41"),
            ("(?P<name>a)(?:b)(?s:.)", "(?P<name>a)(?:b)(?s:.)"),
            (r"a\-b\_c", r"a\-b_c"),
            ("}]", "}]"),
        ] {
            assert_eq!(rewrite(there).as_deref(), Ok(here), "{there}");
            assert!(regex::Regex::new(here).is_ok(), "{here} does not compile");
        }
    }

    proptest! {
        #[test]
        fn no_expression_makes_it_panic(any in any::<String>(), odd in r"[\\\[\](){}?*+|^$.,:&~a-d0-9QEDWSBpPx<>=!-]{0,12}") {
            for expression in [any, odd] {
                if let Ok(rewritten) = rewrite(&expression) {
                    let _ = regex::Regex::new(&rewritten);
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_said_is_refused() {
        for expression in [r"\B", r"\C", r"\07", r"\y", r"a\", "[a", "(?x)a b", r"[\b]"] {
            assert!(rewrite(expression).is_err(), "{expression}");
        }
    }
}
