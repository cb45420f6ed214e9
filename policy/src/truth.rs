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

/// Kleene's "and": false if one is false, else undecided if one is, else true. Asks no further than it must, and tells the first
/// reason.
pub(crate) fn all<E>(answers: impl IntoIterator<Item = Result<bool, E>>) -> Result<bool, E> {
    join(answers, false)
}

/// Kleene's "or": true if one is true, else undecided if one is, else false. Asks no further than it must, and tells the first
/// reason.
pub(crate) fn any<E>(answers: impl IntoIterator<Item = Result<bool, E>>) -> Result<bool, E> {
    join(answers, true)
}

/// The answer that decides, if one is that, else undecided if one is, else the opposite.
fn join<E>(answers: impl IntoIterator<Item = Result<bool, E>>, decides: bool) -> Result<bool, E> {
    let mut undecided = None;
    for answer in answers {
        match answer {
            Ok(answer) if answer == decides => return Ok(decides),
            Ok(_) => {}
            Err(why) => {
                undecided.get_or_insert(why);
            }
        }
    }
    undecided.map_or(Ok(!decides), Err)
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
        let values = [Ok(true), Ok(false), Err("?")];
        // "And" is the least, "or" the greatest.
        let order = |answer: &Result<bool, &str>| match answer {
            Ok(false) => 0,
            Err(_) => 1,
            Ok(true) => 2,
        };
        for a in values {
            for b in values {
                assert_eq!(order(&all([a, b])), order(&a).min(order(&b)), "{a:?} and {b:?}");
                assert_eq!(order(&any([a, b])), order(&a).max(order(&b)), "{a:?} or {b:?}");
                assert_eq!(all([a, b]), any([a.map(|a| !a), b.map(|b| !b)]).map(|or| !or), "De Morgan's law on {a:?} and {b:?}");
            }
        }
        assert_eq!(all::<&str>([]), Ok(true));
        assert_eq!(any::<&str>([]), Ok(false));
    }

    #[test]
    fn the_first_reason_is_told_and_nothing_is_asked_in_vain() {
        assert_eq!((all([Ok(true), Err(1), Err(2)]), any([Ok(false), Err(1), Err(2)])), (Err(1), Err(1)));
        let mut asked = 0;
        let answers = [Err(1), Ok(false), Ok(true)].into_iter().inspect(|_| asked += 1);
        assert_eq!(all(answers), Ok(false));
        assert_eq!(asked, 2);
    }
}
