//! A JSON value as the engine reads it: exact numbers, members in the order of their keys, no copy of what needs no unescaping.

use std::borrow::Cow;
use std::sync::OnceLock;

use crate::json::{Fault, Kind, Scanner};
use crate::lookalike::{self, Lookalike};
use crate::number::Decimal;
use crate::truth;

/// A JSON value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number, exactly.
    Number(Decimal),
    /// A string, unescaped.
    String(Cow<'a, str>),
    /// An array.
    Array(Vec<Value<'a>>),
    /// An object.
    Object(Members<'a>),
}

/// The members of an object, in the order of their keys; no key appears twice.
#[derive(Clone, Debug, Default)]
pub struct Members<'a> {
    members: Vec<(Cow<'a, str>, Value<'a>)>,
    /// The keys as those see them who overlook the most, in order. Made when the first key is missing: most never are.
    folded: OnceLock<Box<[u64]>>,
}

impl<'a> Value<'a> {
    /// Reads the JSON text of arguments, as strictly as messages are read.
    pub fn parse(text: &'a str) -> Result<Self, Fault> {
        let mut scanner = Scanner::new(text.as_bytes())?;
        let value = scanner.arguments(read)?;
        scanner.finish()?;
        Ok(value)
    }

    /// What kind of value it is, in words that fit "is …".
    #[must_use]
    pub fn describe(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::String(_) => "a string",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }

    /// Whether it is what a policy writes. Where an object lacks one of the policy's keys and has a look-alike of it, that is not known.
    pub(crate) fn is(&self, written: &Value<'_>) -> Result<bool, Lookalike> {
        match (self, written) {
            (Self::Array(elements), Value::Array(others)) if elements.len() == others.len() => {
                truth::all(elements.iter().zip(others).map(|(element, other)| element.is(other)))
            }
            (Self::Object(members), Value::Object(others)) if members.len() == others.len() => {
                truth::all(others.iter().map(|(key, other)| members.get(key)?.map_or(Ok(false), |member| member.is(other))))
            }
            _ => Ok(self == written),
        }
    }

    /// The value as JSON in one form only: members by key, no blanks, numbers as [`Decimal`] writes them. Values are equal if these are.
    #[must_use]
    pub fn canonical(&self) -> String {
        let mut text = String::new();
        self.write_canonical(&mut text);
        text
    }

    fn write_canonical(&self, out: &mut String) {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Number(number) => out.push_str(&number.to_string()),
            Self::String(text) => out.push_str(&quoted(text)),
            Self::Array(elements) => {
                out.push('[');
                for (i, element) in elements.iter().enumerate() {
                    out.push_str(if i > 0 { "," } else { "" });
                    element.write_canonical(out);
                }
                out.push(']');
            }
            Self::Object(members) => {
                out.push('{');
                for (i, (key, value)) in members.iter().enumerate() {
                    out.push_str(if i > 0 { "," } else { "" });
                    out.push_str(&quoted(key));
                    out.push(':');
                    value.write_canonical(out);
                }
                out.push('}');
            }
        }
    }

    /// Whether it holds, at any depth, a number that servers do not read alike: one beyond ±2^53.
    #[must_use]
    pub fn has_inexact_number(&self) -> bool {
        match self {
            Self::Number(number) => number.is_beyond_exact(),
            Self::Array(elements) => elements.iter().any(Self::has_inexact_number),
            Self::Object(members) => members.iter().any(|(_, value)| value.has_inexact_number()),
            Self::Null | Self::Bool(_) | Self::String(_) => false,
        }
    }
}

/// What kind of value a policy holds, in words that fit "is …". A policy has lists where arguments have arrays.
#[must_use]
pub fn describe(value: &serde_json::Value) -> &'static str {
    match value {
        serde_json::Value::Null => "null",
        serde_json::Value::Bool(_) => "a boolean",
        serde_json::Value::Number(_) => "a number",
        serde_json::Value::String(_) => "a string",
        serde_json::Value::Array(_) => "a list",
        serde_json::Value::Object(_) => "an object",
    }
}

impl From<&serde_json::Value> for Value<'static> {
    /// A value of a policy. Its numbers are those that `serde_json` keeps.
    fn from(value: &serde_json::Value) -> Self {
        match value {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Bool(value) => Self::Bool(*value),
            // It prints as a JSON number.
            serde_json::Value::Number(number) => Self::Number(Decimal::parse(&number.to_string()).unwrap_or_else(Decimal::zero)),
            serde_json::Value::String(text) => Self::String(Cow::Owned(text.clone())),
            serde_json::Value::Array(elements) => Self::Array(elements.iter().map(Self::from).collect()),
            serde_json::Value::Object(members) => {
                Self::Object(members.iter().map(|(key, value)| (Cow::Owned(key.clone()), Self::from(value))).collect())
            }
        }
    }
}

impl<'a> Members<'a> {
    /// The value of a key, if it is there. An error: it is not, and some servers take another key for it.
    pub fn get(&self, key: &str) -> Result<Option<&Value<'a>>, Lookalike> {
        if let Ok(at) = self.members.binary_search_by(|(other, _)| other.as_ref().cmp(key)) {
            return Ok(self.members.get(at).map(|(_, value)| value));
        }
        let fold = || {
            let mut folded: Box<[_]> = self.members.iter().map(|(key, _)| lookalike::folded(key)).collect();
            folded.sort_unstable();
            folded
        };
        match self.folded.get_or_init(fold).binary_search(&lookalike::folded(key)) {
            Ok(_) => Err(Lookalike),
            Err(_) => Ok(None),
        }
    }

    /// The members, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value<'a>)> {
        self.members.iter().map(|(key, value)| (key.as_ref(), value))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
}

impl<'a> FromIterator<(Cow<'a, str>, Value<'a>)> for Members<'a> {
    fn from_iter<T: IntoIterator<Item = (Cow<'a, str>, Value<'a>)>>(members: T) -> Self {
        let mut members: Vec<_> = members.into_iter().collect();
        members.sort_by(|(a, _), (b, _)| a.cmp(b));
        Self { members, folded: OnceLock::new() }
    }
}

impl PartialEq for Members<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.members == other.members
    }
}

impl Eq for Members<'_> {}

fn read<'a>(scanner: &mut Scanner<'a>) -> Result<Value<'a>, Fault> {
    Ok(match scanner.kind()? {
        Kind::Null => {
            scanner.value()?;
            Value::Null
        }
        Kind::Bool => {
            let place = scanner.value()?;
            Value::Bool(scanner.source(place) == "true")
        }
        Kind::Number => {
            let place = scanner.value()?;
            Value::Number(Decimal::parse(scanner.source(place)).ok_or(Fault::Number)?)
        }
        Kind::String => Value::String(scanner.string()?),
        Kind::Array => {
            let mut elements = Vec::new();
            scanner.array(|scanner| {
                elements.push(read(scanner)?);
                Ok(())
            })?;
            Value::Array(elements)
        }
        Kind::Object => {
            let mut members = Vec::new();
            scanner.object(|scanner, key| {
                let key = Cow::Owned(key.to_owned());
                members.push((key, read(scanner)?));
                Ok(())
            })?;
            Value::Object(members.into_iter().collect())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_read_strictly_and_exactly() {
        let value = Value::parse(r#"{"b": [1.0, "x\u0041", true, null], "a": {}}"#).unwrap();
        let Value::Object(members) = &value else { panic!("{value:?}") };
        assert_eq!(members.iter().map(|(key, _)| key).collect::<Vec<_>>(), ["a", "b"]);
        let expected = serde_json::json!({"a": {}, "b": [1, "xA", true, null]});
        assert_eq!(value, Value::from(&expected));
        assert_eq!((members.get("c"), members.get("B")), (Ok(None), Err(Lookalike)));
    }

    #[test]
    fn what_two_parsers_could_read_differently_is_refused() {
        for (text, fault) in [
            (r#"{"a": 1, "a": 2}"#, Fault::DuplicateKey),
            (r#"[{"b": {"a": 1, "A": 2}}]"#, Fault::LookalikeKey),
            (r#""\ud800""#, Fault::LoneSurrogate),
            ("1e400", Fault::Number),
            ("1 2", Fault::TrailingBytes),
            ("", Fault::Syntax),
        ] {
            assert_eq!(Value::parse(text), Err(fault), "{text}");
        }
    }

    #[test]
    fn equal_values_have_one_canonical_form_and_others_have_others() {
        let canonical = |text: &str| Value::parse(text).unwrap().canonical();
        let same = [
            (r#"{"b": [1.0, -0, 1e2], "a": "x\u0041\/\n"}"#, r#"{"a":"xA/\n","b":[1,0,100]}"#),
            (r#"{"n": 9007199254740993.5}"#, r#"{"n":9007199254740993.5}"#),
            (r#"[null, true, {}, [], ""]"#, r#"[null,true,{},[],""]"#),
        ];
        for (text, expected) in same {
            assert_eq!(canonical(text), expected);
            assert_eq!(Value::parse(&canonical(text)), Value::parse(text), "{text}");
        }
        let all = [
            "1",
            r#""1""#,
            "true",
            r#""true""#,
            "[1]",
            r#"{"a":1}"#,
            r#"{"a":"1"}"#,
            r#"{"a":[1]}"#,
            r#"{"a,b":1}"#,
            r#"["a","b"]"#,
            r#"["a,b"]"#,
        ];
        for (i, one) in all.iter().enumerate() {
            assert!(all[..i].iter().all(|other| canonical(one) != canonical(other)), "{one}");
        }
    }

    #[test]
    fn numbers_that_servers_read_differently_are_found_at_any_depth() {
        assert!(Value::parse(r#"{"a": [{"b": 9007199254740993}]}"#).unwrap().has_inexact_number());
        assert!(!Value::parse(r#"{"a": [{"b": 9007199254740992}]}"#).unwrap().has_inexact_number());
    }
}
