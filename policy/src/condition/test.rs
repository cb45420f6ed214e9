//! The operators: what a policy writes beside `op` becomes a test of one value.

use crate::document::Op;
use crate::json::MAX_DEPTH;
use crate::lookalike::Lookalike;
use crate::number::Decimal;
use crate::path::Path;
use crate::regexp::{Regexp, Regexps};
use crate::truth;
use crate::value::Value;

const MAX_DIGITS: usize = 15;

/// A test of one value.
#[derive(Clone, Debug)]
pub(super) struct Test {
    pub op: Op,
    /// What the policy compares with.
    pub operand: Operand,
}

#[derive(Clone, Debug)]
pub(super) enum Operand {
    Value(Value<'static>),
    List(Vec<Value<'static>>),
    Number(Decimal),
    Regex(Regexp),
    Present(bool),
}

/// Whether the test holds, or why that cannot be known.
pub(super) type Answer = Result<bool, Unreadable>;

/// Why a value does not decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// The operator reads another type: what it reads.
    Type(&'static str),
    /// It is or holds a number beyond ±2^53.
    Inexact,
    /// It holds a look-alike of a key that the policy writes.
    Lookalike,
}

impl Unreadable {
    /// The reason in words, without the value.
    pub fn told(self, path: &Path, value: &Value<'_>) -> String {
        match self {
            Self::Type(wanted) => format!("{path} is {}, not {wanted}", value.describe()),
            Self::Inexact if matches!(value, Value::Number(_)) => {
                format!("{path} is beyond ±2^53, where servers do not read numbers alike")
            }
            Self::Lookalike => format!("{path} cannot be compared: {Lookalike}"),
            Self::Inexact => format!("{path} holds a number beyond ±2^53, where servers do not read numbers alike"),
        }
    }
}

impl From<Lookalike> for Unreadable {
    fn from(_: Lookalike) -> Self {
        Self::Lookalike
    }
}

impl Test {
    /// Compiles an operator and its operand. The error names the field.
    pub fn compile(op: Option<Op>, value: Option<&serde_json::Value>, regexps: &mut Regexps) -> Result<Self, (&'static str, String)> {
        let Some(op) = op else {
            let all = "eq, neq, in, not_in, lt, lte, gt, gte, regex, contains or exists";
            return Err(("op", format!("is required beside `path`: write {all}")));
        };
        let operand = operand(op, value, regexps).map_err(|message| ("value", message))?;
        Ok(Self { op, operand })
    }

    /// Asks about a value that is there.
    pub fn ask(&self, value: &Value<'_>) -> Answer {
        match (&self.operand, self.op) {
            (Operand::Present(wanted), _) => Ok(*wanted),
            (Operand::Value(member), Op::Contains) => contains(value, member),
            (Operand::Value(expected), op) => Ok(readable(value)?.is(expected)? == (op == Op::Eq)),
            (Operand::List(list), op) => {
                let value = readable(value)?;
                Ok(truth::any(list.iter().map(|listed| value.is(listed)))? == (op == Op::In))
            }
            (Operand::Number(bound), op) => {
                let Value::Number(number) = readable(value)? else { return Err(Unreadable::Type("a number")) };
                Ok(match op {
                    Op::Lt => number < bound,
                    Op::Lte => number <= bound,
                    Op::Gt => number > bound,
                    _ => number >= bound,
                })
            }
            (Operand::Regex(regex), _) => match value {
                Value::String(text) => Ok(regex.is_match(text)),
                _ => Err(Unreadable::Type("a string")),
            },
        }
    }

    /// What it says of a missing path: false, unless it asks just that.
    pub fn holds_for_missing(&self) -> bool {
        matches!(self.operand, Operand::Present(false))
    }
}

/// The value, if every number in it is one that servers read alike.
fn readable<'a, 'v>(value: &'a Value<'v>) -> Result<&'a Value<'v>, Unreadable> {
    if value.has_inexact_number() { Err(Unreadable::Inexact) } else { Ok(value) }
}

fn contains(value: &Value<'_>, member: &Value<'_>) -> Answer {
    match (value, member) {
        (Value::String(text), Value::String(part)) => Ok(text.contains(part.as_ref())),
        (Value::String(_), _) => Err(Unreadable::Type("an array, in which alone such a value can be")),
        (Value::Array(elements), member) => {
            readable(value)?;
            Ok(truth::any(elements.iter().map(|element| element.is(member)))?)
        }
        _ => Err(Unreadable::Type("a string or an array")),
    }
}

fn operand(op: Op, value: Option<&serde_json::Value>, regexps: &mut Regexps) -> Result<Operand, String> {
    use serde_json::Value as Written;

    let Some(value) = value else {
        return match op {
            Op::Exists => Ok(Operand::Present(true)),
            op => Err(format!("is required: write {}", wanted(op))),
        };
    };
    check_depth(value, MAX_DEPTH)?;
    let compared = Value::from(value);
    check_numbers(&compared)?;
    match (op, compared) {
        (Op::Eq | Op::Neq | Op::Contains, value) => Ok(Operand::Value(value)),
        (Op::In | Op::NotIn, Value::Array(list)) if list.is_empty() => {
            let always = if op == Op::In { "never" } else { "always" };
            Err(format!("is an empty list, so that the condition {always} holds; name the values"))
        }
        (Op::In | Op::NotIn, Value::Array(list)) => Ok(Operand::List(list)),
        (Op::Lt | Op::Lte | Op::Gt | Op::Gte, Value::Number(number)) => Ok(Operand::Number(number)),
        (Op::Regex, Value::String(text)) => regexps.compile(&text).map(Operand::Regex),
        (Op::Exists, Value::Bool(wanted)) => Ok(Operand::Present(wanted)),
        (op, found) => {
            let quotes = match (op, value) {
                (Op::Lt | Op::Lte | Op::Gt | Op::Gte, Written::String(text)) if Decimal::parse(text).is_some() => "; leave the quotes out",
                (Op::Exists, Written::String(text)) if matches!(text.as_str(), "true" | "false") => "; leave the quotes out",
                (Op::In, _) => "; for one value write `op: eq`",
                (Op::NotIn, _) => "; for one value write `op: neq`",
                _ => "",
            };
            Err(format!("is {}; write {}{quotes}", found.describe(), wanted(op)))
        }
    }
}

/// What an operator compares with.
fn wanted(op: Op) -> &'static str {
    match op {
        Op::Eq | Op::Neq | Op::Contains => "any JSON value",
        Op::In | Op::NotIn => "a list of values",
        Op::Lt | Op::Lte | Op::Gt | Op::Gte => "a number",
        Op::Regex => "a regular expression, a string",
        Op::Exists => "true or false",
    }
}

fn check_depth(value: &serde_json::Value, levels: usize) -> Result<(), String> {
    let too_deep = || format!("has more than {MAX_DEPTH} levels; no argument has");
    match value {
        serde_json::Value::Array(elements) if levels > 0 => elements.iter().try_for_each(|element| check_depth(element, levels - 1)),
        serde_json::Value::Object(members) if levels > 0 => members.values().try_for_each(|member| check_depth(member, levels - 1)),
        serde_json::Value::Array(_) | serde_json::Value::Object(_) => Err(too_deep()),
        _ => Ok(()),
    }
}

fn check_numbers(value: &Value<'_>) -> Result<(), String> {
    match value {
        Value::Number(number) if number.is_beyond_exact() => Err(format!(
            "{number} is beyond ±2^53, where servers do not read numbers alike; identifiers of that length are best kept as strings"
        )),
        Value::Number(number) if number.significant_digits() > MAX_DIGITS => {
            Err(format!("{number} has more than {MAX_DIGITS} significant digits; identifiers of that length are best kept as strings"))
        }
        Value::Array(elements) => elements.iter().try_for_each(check_numbers),
        Value::Object(members) => members.iter().try_for_each(|(_, member)| check_numbers(member)),
        _ => Ok(()),
    }
}
