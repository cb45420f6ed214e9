//! Text -> path. People come from other path languages, so each error says what to write here instead.

use std::borrow::Cow;

use super::{Path, Step};
use crate::json::MAX_DEPTH;
use crate::value::Value;

const MAX_CHARACTERS: usize = 1024;
/// No argument is nested deeper than a message may be.
const MAX_STEPS: usize = MAX_DEPTH;

/// Reads a path.
pub(super) fn path(text: &str) -> Result<Path, String> {
    let characters = text.chars().count();
    if characters > MAX_CHARACTERS {
        return Err(format!("a path has at most {MAX_CHARACTERS} characters; this one has {characters}"));
    }
    let steps = root(text)?;
    let mut reader = Reader { text, at: text.len() - steps.len() };
    let mut steps = Vec::new();
    while reader.at < text.len() {
        if steps.len() == MAX_STEPS {
            return Err(format!("a path has at most {MAX_STEPS} steps: no argument is nested deeper"));
        }
        steps.push(reader.step()?);
    }
    Ok(Path { text: text.into(), steps: steps.into() })
}

/// What follows `args`.
fn root(text: &str) -> Result<&str, String> {
    let begins_step = |rest: &str| rest.is_empty() || rest.starts_with(['.', '[']);
    if let Some(rest) = text.strip_prefix("args") {
        if begins_step(rest) {
            return Ok(rest);
        }
        let next = rest.chars().next().unwrap_or_default();
        if !is_name_character(next) {
            return Err(format!("at character 5: `{next}` cannot follow `args`; write `.name`, `[\"any key\"]`, `[0]` or `[*]`"));
        }
    }
    if text.is_empty() {
        return Err("a path is not empty; it begins with `args`, which alone is all the arguments".to_owned());
    }
    if text.trim() != text {
        return Err("a path has no blanks at its ends".to_owned());
    }
    let foreign = ["$args", "$", "@", "arguments", "params.arguments", "input"];
    let rest = foreign.iter().find_map(|root| text.strip_prefix(root).filter(|rest| begins_step(rest)));
    let hint = match rest {
        Some(rest) => format!("args{rest}"),
        None if text.starts_with('/') => format!("args{}", text.replace('/', ".")),
        None if text.starts_with(['.', '[']) => format!("args{text}"),
        None => format!("args.{text}"),
    };
    let hint = if path(&hint).is_ok() { format!("; write `{hint}`") } else { String::new() };
    Err(format!("a path begins with `args`{hint}"))
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// The character that a person counts to.
    fn error(&self, at: usize, message: &str) -> String {
        format!("at character {}: {message}", self.text[..at].chars().count() + 1)
    }

    fn step(&mut self) -> Result<Step, String> {
        let rest = self.rest();
        if let Some(name) = rest.strip_prefix('.') {
            self.member(name)
        } else if let Some(inside) = rest.strip_prefix('[') {
            self.bracket(inside)
        } else {
            let next = rest.chars().next().unwrap_or_default();
            let key = if next.is_alphanumeric() { "; a key with other characters is written `[\"any key\"]`" } else { "" };
            Err(self.error(self.at, &format!("`{next}` cannot stand here: each step is `.name`, `[\"any key\"]`, `[0]` or `[*]`{key}")))
        }
    }

    fn member(&mut self, rest: &'a str) -> Result<Step, String> {
        let length = rest.find(|c| !is_name_character(c)).unwrap_or(rest.len());
        let name = &rest[..length];
        if !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            // What was meant, up to where the next step would begin.
            let meant = &rest[..rest.find(['.', '[']).unwrap_or(rest.len())];
            let hint = match meant {
                "" => "a name must follow `.`".to_owned(),
                "*" => "elements are written `[*]`, without a dot".to_owned(),
                index if index.bytes().all(|byte| byte.is_ascii_digit()) => format!("an element is written `[{index}]`, without a dot"),
                key => format!("a name begins with a letter or `_`; write `[{}]`", serde_json::Value::from(key)),
            };
            return Err(self.error(self.at + 1, &hint));
        }
        self.at += 1 + length;
        Ok(Step::Member(name.into()))
    }

    fn bracket(&mut self, inside: &'a str) -> Result<Step, String> {
        let start = self.at + 1;
        let (step, length) = match inside.as_bytes().first() {
            Some(b'*') => (Step::EachElement, 1),
            Some(b'0'..=b'9') => {
                let length = inside.find(|c: char| !c.is_ascii_digit()).unwrap_or(inside.len());
                let digits = &inside[..length];
                if length > 1 && digits.starts_with('0') {
                    return Err(self.error(start, "an index has no leading zero"));
                }
                let index = digits.parse().map_err(|_| self.error(start, "no array has so many elements"))?;
                (Step::Element(index), length)
            }
            Some(b'"') => {
                let length = string_length(inside).ok_or_else(|| self.error(start, "the string does not end; a `\"` is missing"))?;
                let Ok(Value::String(key)) = Value::parse(&inside[..length]) else {
                    return Err(self.error(start, "between the brackets must stand a JSON string; a backslash is written `\\\\`"));
                };
                (Step::Member(key.into()), length)
            }
            Some(b'\'') => return Err(self.error(start, "a key stands in double quotes: `[\"any key\"]`")),
            Some(b'-') => return Err(self.error(start, "an index counts from the start; there are no negative ones")),
            Some(b' ' | b'\t' | b'\n' | b'\r') => return Err(self.error(start, "there are no blanks between brackets")),
            Some(b'?' | b':') => return Err(self.error(start, "there are no filters and no slices; use `cel`")),
            Some(b']') | None => return Err(self.error(start, "write `[\"any key\"]`, `[0]` or `[*]`")),
            Some(_) => {
                let key: Cow<'_, str> = inside.split(']').next().unwrap_or_default().into();
                return Err(self.error(start, &format!("a key stands in double quotes: `[{}]`", serde_json::Value::from(key))));
            }
        };
        if !inside[length..].starts_with(']') {
            return Err(self.error(start + length, "`]` is missing"));
        }
        self.at = start + length + 1;
        Ok(step)
    }
}

/// The length of the string that begins here, quotes included.
fn string_length(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (i, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(i + 1),
            _ => {}
        }
    }
    None
}

fn is_name_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-')
}
