//! Values while an expression is evaluated. What comes from the arguments is borrowed and read when it is asked for.

use std::cmp::Ordering;
use std::rc::Rc;

use super::fault::{Fault, decide};
use super::steps::Steps;
use super::types::Type;
use crate::value::{Members, Value};

/// A value.
#[derive(Clone, Debug)]
pub(super) enum Item<'v> {
    Null,
    Bool(bool),
    Int(i64),
    /// Finite.
    Double(f64),
    Text(Text<'v>),
    List(List<'v>),
    Map(Map<'v>),
    Type(Type),
}

/// A string.
#[derive(Clone, Debug)]
pub(super) enum Text<'v> {
    Borrowed(&'v str),
    Made(Rc<str>),
}

/// A list.
#[derive(Clone, Debug)]
pub(super) enum List<'v> {
    Sent(&'v [Value<'v>]),
    Made(Rc<[Item<'v>]>),
}

/// A map.
#[derive(Clone, Debug)]
pub(super) enum Map<'v> {
    Sent(&'v Members<'v>),
    /// In the order of the keys, each of them once.
    Made(Rc<[(Key<'v>, Item<'v>)]>),
}

/// A key of a map.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key<'v> {
    Bool(bool),
    Int(i64),
    Text(Text<'v>),
}

impl<'v> Item<'v> {
    /// Reads a value of the arguments.
    pub fn read(value: &'v Value<'v>) -> Result<Self, Fault<'v>> {
        Ok(match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Number(number) => match number.to_i64() {
                Some(whole) if whole.unsigned_abs() <= 1 << 53 => Self::Int(whole),
                None if !number.is_beyond_exact() => Self::Double(number.to_f64()),
                _ => return Err(Fault::InexactNumber),
            },
            Value::String(text) => Self::Text(Text::Borrowed(text)),
            Value::Array(elements) => Self::List(List::Sent(elements)),
            Value::Object(members) => Self::Map(Map::Sent(members)),
        })
    }

    /// Reads the claims of a token; each value in them takes a step.
    pub fn claims(claims: &'v serde_json::Map<String, serde_json::Value>, steps: &mut Steps) -> Result<Self, Fault<'v>> {
        let mut members = Vec::with_capacity(claims.len());
        for (name, value) in claims {
            members.push((Key::Text(Text::Borrowed(name)), Self::claim(value, steps)?));
        }
        Map::made(members).map(Self::Map)
    }

    /// Reads a claim. A number that not every reader reads alike is of no use, so it is as close as a double can be.
    fn claim(value: &'v serde_json::Value, steps: &mut Steps) -> Result<Self, Fault<'v>> {
        use serde_json::Value;
        steps.spend(1)?;
        Ok(match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Number(number) => match number.as_i64() {
                Some(whole) if whole.unsigned_abs() <= 1 << 53 => Self::Int(whole),
                _ => Self::Double(number.as_f64().filter(|number| number.is_finite()).ok_or(Fault::InexactNumber)?),
            },
            Value::String(text) => Self::Text(Text::Borrowed(text)),
            Value::Array(elements) => {
                let elements: Result<Rc<[_]>, _> = elements.iter().map(|element| Self::claim(element, steps)).collect();
                Self::List(List::Made(elements?))
            }
            Value::Object(members) => return Self::claims(members, steps),
        })
    }

    pub fn kind(&self) -> Type {
        match self {
            Self::Null => Type::Null,
            Self::Bool(_) => Type::Bool,
            Self::Int(_) => Type::Int,
            Self::Double(_) => Type::Double,
            Self::Text(_) => Type::String,
            Self::List(_) => Type::List,
            Self::Map(_) => Type::Map,
            Self::Type(_) => Type::Type,
        }
    }

    /// Whether two values are equal. Values of different types are not, but an int and a double of one value are. Lists and maps are
    /// equal if all their members are, with Kleene's "and": the order of members never matters.
    pub fn equals(&self, other: &Self, steps: &mut Steps) -> Result<bool, Fault<'v>> {
        match (self, other) {
            (Self::Null, Self::Null) => Ok(true),
            (Self::Bool(a), Self::Bool(b)) => Ok(a == b),
            (Self::Int(_) | Self::Double(_), Self::Int(_) | Self::Double(_)) => Ok(self.order(other) == Some(Ordering::Equal)),
            (Self::Text(a), Self::Text(b)) => a.equals(b, steps),
            (Self::Type(a), Self::Type(b)) => Ok(a == b),
            (Self::List(a), Self::List(b)) => {
                if a.len() != b.len() {
                    return Ok(false);
                }
                decide(
                    false,
                    (0..a.len()).map(|index| {
                        steps.spend(1)?;
                        a.get(index)?.equals(&b.get(index)?, steps)
                    }),
                )
            }
            (Self::Map(a), Self::Map(b)) => {
                if a.len() != b.len() {
                    return Ok(false);
                }
                // By the keys that the expression made, if it made one of the maps: of those, the other may have look-alikes.
                let named = if let Map::Sent(_) = a { b } else { a };
                decide(
                    false,
                    named.keys().map(|key| {
                        steps.spend(1)?;
                        match (a.get(&key, steps)?, b.get(&key, steps)?) {
                            (Some(a), Some(b)) => a?.equals(&b?, steps),
                            _ => Ok(false),
                        }
                    }),
                )
            }
            _ => Ok(false),
        }
    }

    /// How two numbers, strings or bools are ordered; none for other values. Strings are ordered by code points.
    pub fn order(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => Some(a.cmp(b)),
            (Self::Double(a), Self::Double(b)) => a.partial_cmp(b),
            (Self::Int(a), Self::Double(b)) => Some(order_mixed(*a, *b)),
            (Self::Double(a), Self::Int(b)) => Some(order_mixed(*b, *a).reverse()),
            (Self::Text(a), Self::Text(b)) => Some(a.cmp(b)),
            (Self::Bool(a), Self::Bool(b)) => Some(a.cmp(b)),
            _ => None,
        }
    }

    /// The key that it is; none for a number that no key equals.
    pub fn key(&self) -> Result<Option<Key<'v>>, Fault<'v>> {
        match self {
            Self::Bool(value) => Ok(Some(Key::Bool(*value))),
            Self::Int(value) => Ok(Some(Key::Int(*value))),
            Self::Double(value) => Ok(whole(*value).map(Key::Int)),
            Self::Text(text) => Ok(Some(Key::Text(text.clone()))),
            _ => Err(Fault::NotAKey(self.kind())),
        }
    }
}

/// The int that a finite double equals.
pub(super) fn whole(double: f64) -> Option<i64> {
    let truncated = truncate(double)?;
    (order_mixed(truncated, double) == Ordering::Equal).then_some(truncated)
}

/// A finite double without its fraction, if that fits into 64 bits.
pub(super) fn truncate(double: f64) -> Option<i64> {
    // ±2^63 are doubles; the greatest int is not.
    const BOUND: f64 = 9_223_372_036_854_775_808.0;
    #[expect(clippy::cast_possible_truncation, reason = "it is within the bounds, and its fraction is what should go")]
    (-BOUND..BOUND).contains(&double).then_some(double as i64)
}

/// How an int and a finite double are ordered, exactly.
fn order_mixed(int: i64, double: f64) -> Ordering {
    match truncate(double) {
        Some(truncated) => int.cmp(&truncated).then_with(|| 0.0_f64.partial_cmp(&double.fract()).unwrap_or(Ordering::Equal)),
        None if double > 0.0 => Ordering::Less,
        None => Ordering::Greater,
    }
}

impl<'v> Text<'v> {
    pub fn as_str(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Made(text) => text,
        }
    }

    pub fn made(text: &str) -> Self {
        Self::Made(text.into())
    }

    /// A part of it.
    pub fn part(&self, part: impl Fn(&str) -> &str) -> Self {
        match self {
            Self::Borrowed(text) => Self::Borrowed(part(text)),
            Self::Made(text) => Self::made(part(text)),
        }
    }

    fn equals(&self, other: &Self, steps: &mut Steps) -> Result<bool, Fault<'v>> {
        let (a, b) = (self.as_str(), other.as_str());
        if a.len() != b.len() {
            return Ok(false);
        }
        steps.text(a.len())?;
        Ok(a == b)
    }
}

impl PartialEq for Text<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Text<'_> {}

impl PartialOrd for Text<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Text<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        // UTF-8 keeps the order of code points.
        self.as_str().cmp(other.as_str())
    }
}

impl<'v> List<'v> {
    pub fn len(&self) -> usize {
        match self {
            Self::Sent(elements) => elements.len(),
            Self::Made(elements) => elements.len(),
        }
    }

    pub fn get(&self, index: usize) -> Result<Item<'v>, Fault<'v>> {
        match self {
            Self::Sent(elements) => elements.get(index).map(Item::read),
            Self::Made(elements) => elements.get(index).cloned().map(Ok),
        }
        .unwrap_or(Err(Fault::MissingIndex))
    }
}

impl<'v> Map<'v> {
    /// A map of these members, in any order.
    pub fn made(mut members: Vec<(Key<'v>, Item<'v>)>) -> Result<Self, Fault<'v>> {
        members.sort_by(|(a, _), (b, _)| a.cmp(b));
        if members.is_sorted_by(|(a, _), (b, _)| a < b) { Ok(Self::Made(members.into())) } else { Err(Fault::DuplicateKey) }
    }

    pub fn len(&self) -> usize {
        match self {
            Self::Sent(members) => members.len(),
            Self::Made(members) => members.len(),
        }
    }

    /// The value of a key, unread. An error: a map of the arguments has a look-alike of the key only.
    pub fn get(&self, key: &Key<'v>, steps: &mut Steps) -> Result<Option<Result<Item<'v>, Fault<'v>>>, Fault<'v>> {
        if let Key::Text(text) = key {
            steps.text(text.as_str().len())?;
        }
        Ok(match (self, key) {
            (Self::Sent(members), Key::Text(text)) => members.get(text.as_str())?.map(Item::read),
            (Self::Sent(_), _) => None,
            (Self::Made(members), key) => {
                let found = members.binary_search_by(|(other, _)| other.cmp(key)).ok();
                found.and_then(|index| members.get(index)).map(|(_, value)| Ok(value.clone()))
            }
        })
    }

    pub fn keys(&self) -> Box<dyn Iterator<Item = Key<'v>> + 'v> {
        match self {
            Self::Sent(members) => Box::new(members.iter().map(|(key, _)| Key::Text(Text::Borrowed(key)))),
            Self::Made(members) => {
                let members = Rc::clone(members);
                Box::new((0..members.len()).map(move |index| members[index].0.clone()))
            }
        }
    }
}

impl<'v> From<Key<'v>> for Item<'v> {
    fn from(key: Key<'v>) -> Self {
        match key {
            Key::Bool(value) => Self::Bool(value),
            Key::Int(value) => Self::Int(value),
            Key::Text(text) => Self::Text(text),
        }
    }
}
