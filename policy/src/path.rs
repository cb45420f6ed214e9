//! Paths into a call's arguments: `args`, then any of `.name`, `["any key"]`, `[0]`, `[*]`.
//!
//! An absent member or index, and anything under `null`, is missing. A step on a value that has no such parts cannot be decided,
//! nor can one to a member that is missing where a look-alike of it is there.

use std::fmt;
use std::slice;

use crate::lookalike::Lookalike;
use crate::value::Value;

mod parse;

/// A path.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Path {
    /// As it was written.
    text: Box<str>,
    steps: Box<[Step]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Member(Box<str>),
    Element(usize),
    EachElement,
}

/// What a path leads to; with `[*]`, one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    Value(&'a Value<'a>),
    Missing,
    /// A step could not be taken.
    Blocked(Obstacle),
}

/// Why a step cannot be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Obstacle {
    #[error(transparent)]
    NoSuchParts(#[from] NoSuchParts),
    #[error(transparent)]
    Lookalike(#[from] Lookalike),
}

/// A step that met a value without such parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a step needs {wanted} and meets {found}")]
pub(crate) struct NoSuchParts {
    /// What the step can be taken on.
    wanted: &'static str,
    /// What it was taken on, without its value.
    found: &'static str,
}

impl Path {
    /// Reads a path. The error says what is wrong, at which character, and what to write.
    pub fn parse(text: &str) -> Result<Self, String> {
        parse::path(text)
    }

    /// Whether it has `[*]`, and so may lead to several values.
    pub fn has_wildcard(&self) -> bool {
        self.steps.contains(&Step::EachElement)
    }

    /// What the path leads to. Without `[*]` that is one, with it any number.
    pub fn find<'p, 'a>(&'p self, args: &'a Value<'a>) -> Finder<'p, 'a> {
        Finder { steps: &self.steps, start: Some(args), open: Vec::new() }
    }

    /// The amount at this path, in units of 10^-18, rounded up. The error says what is wrong with it, without its value.
    pub fn amount(&self, args: &Value<'_>) -> Result<u128, String> {
        // A path of an amount has no `[*]`, and so leads to one.
        match self.find(args).next() {
            None | Some(Found::Missing) => Err(format!("{self} is missing")),
            Some(Found::Blocked(cause)) => Err(format!("{self} cannot be followed: {cause}")),
            Some(Found::Value(Value::Number(number))) if number.is_negative() => Err(format!("{self} is negative")),
            Some(Found::Value(Value::Number(number))) if number.is_beyond_exact() => Err(format!("{self} is beyond ±2^53")),
            Some(Found::Value(Value::Number(number))) => number.to_units().ok_or_else(|| format!("{self} cannot be counted")),
            Some(Found::Value(other)) => Err(format!("{self} is {}, not a number", other.describe())),
        }
    }
}

/// Follows a path.
pub(crate) struct Finder<'p, 'a> {
    steps: &'p [Step],
    /// The value that the path starts from, until it has been followed once.
    start: Option<&'a Value<'a>>,
    /// The arrays of `[*]` that are not at their end, outermost first, and the step that their elements take next. There are no
    /// more than the path has steps, and none without `[*]`.
    open: Vec<(usize, slice::Iter<'a, Value<'a>>)>,
}

impl<'a> Iterator for Finder<'_, 'a> {
    type Item = Found<'a>;

    fn next(&mut self) -> Option<Found<'a>> {
        if let Some(start) = self.start.take()
            && let Some(found) = self.follow(0, start)
        {
            return Some(found);
        }
        while let Some((step, elements)) = self.open.last_mut() {
            let step = *step;
            if let Some(element) = elements.next() {
                if let Some(found) = self.follow(step, element) {
                    return Some(found);
                }
            } else {
                self.open.pop();
            }
        }
        None
    }
}

impl<'a> Finder<'_, 'a> {
    /// Takes the steps from this one on, up to the next `[*]`.
    fn follow(&mut self, from: usize, value: &'a Value<'a>) -> Option<Found<'a>> {
        let mut value = value;
        for (i, step) in self.steps.iter().enumerate().skip(from) {
            let part = match (step, value) {
                (_, Value::Null) => None,
                (Step::Member(name), Value::Object(members)) => match members.get(name) {
                    Ok(member) => member,
                    Err(cause) => return Some(Found::Blocked(cause.into())),
                },
                (Step::Element(index), Value::Array(elements)) => elements.get(*index),
                (Step::EachElement, Value::Array(elements)) => {
                    self.open.push((i + 1, elements.iter()));
                    return None;
                }
                (step, other) => {
                    let wanted = if matches!(step, Step::Member(_)) { "an object" } else { "an array" };
                    return Some(Found::Blocked(NoSuchParts { wanted, found: other.describe() }.into()));
                }
            };
            let Some(part) = part else { return Some(Found::Missing) };
            value = part;
        }
        Some(Found::Value(value))
    }
}

impl fmt::Display for Path {
    /// The path as it was written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests;
