//! Three-valued logic, as Kleene defined it: what cannot be decided is neither true nor false, and the order of operands never
//! matters to the value.

use std::borrow::Cow;

/// Whether something holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Truth {
    True,
    False,
    /// It cannot be decided, and why. The text never holds values of arguments: it goes into logs.
    Undecided(Cow<'static, str>),
}

impl Truth {
    /// False if one is false, else undecided if one is, else true.
    pub fn all(values: impl IntoIterator<Item = Self>) -> Self {
        let mut undecided = None;
        for value in values {
            match value {
                Self::False => return Self::False,
                Self::Undecided(why) => {
                    undecided.get_or_insert(why);
                }
                Self::True => {}
            }
        }
        undecided.map_or(Self::True, Self::Undecided)
    }

    /// True if one is true, else undecided if one is, else false.
    pub fn any(values: impl IntoIterator<Item = Self>) -> Self {
        let mut undecided = None;
        for value in values {
            match value {
                Self::True => return Self::True,
                Self::Undecided(why) => {
                    undecided.get_or_insert(why);
                }
                Self::False => {}
            }
        }
        undecided.map_or(Self::False, Self::Undecided)
    }
}

impl From<bool> for Truth {
    fn from(value: bool) -> Self {
        if value { Self::True } else { Self::False }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn and_and_or_are_kleenes() {
        let values = [Truth::True, Truth::False, Truth::Undecided("?".into())];
        // "And" is the least, "or" the greatest.
        let order = |truth: &Truth| match truth {
            Truth::False => 0,
            Truth::Undecided(_) => 1,
            Truth::True => 2,
        };
        for a in &values {
            for b in &values {
                assert_eq!(order(&Truth::all([a.clone(), b.clone()])), order(a).min(order(b)), "{a:?} and {b:?}");
                assert_eq!(order(&Truth::any([a.clone(), b.clone()])), order(a).max(order(b)), "{a:?} or {b:?}");
            }
        }
        assert_eq!(Truth::all([]), Truth::True);
        assert_eq!(Truth::any([]), Truth::False);
    }
}
