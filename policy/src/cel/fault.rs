//! Why an evaluation gives no value.

use super::types::Type;
use crate::lookalike::Lookalike;

/// Why an evaluation gives no value. Its text names what the expression says, and never holds values of arguments: it goes into logs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault<'v> {
    #[error("the expression takes more than 10,000 steps")]
    OutOfSteps,
    /// The name stands in the expression.
    #[error("the expression reads `{0}`, which is not there")]
    MissingMember(&'v str),
    #[error("the expression reads a key that is not there")]
    MissingKey,
    #[error(transparent)]
    Lookalike(#[from] Lookalike),
    #[error("the expression reads an index that is not there")]
    MissingIndex,
    #[error("the expression reads a number beyond ±2^53, which servers do not read alike")]
    InexactNumber,
    #[error("the expression gives {}, not a bool", .0.describe())]
    NotBool(Type),
    #[error("the condition of a macro gives {}, not a bool", .0.describe())]
    Condition(Type),
    #[error("a macro does not walk {}", .0.describe())]
    Range(Type),
    /// An operator or a function, and what it does not take.
    #[error("`{operator}` does not take {}", .given.describe())]
    Operand { operator: &'static str, given: Type },
    #[error("`{operator}` does not take {} and {}", .given.0.describe(), .given.1.describe())]
    Operands { operator: &'static str, given: (Type, Type) },
    /// The checker leaves no such call.
    #[error("`{0}` is called on too few or too many values")]
    Arity(&'static str),
    #[error("{} has no member `{name}`", .given.describe())]
    NoMembers { name: &'v str, given: Type },
    #[error("{} is not a key", .0.describe())]
    NotAKey(Type),
    #[error("a map is given a key twice")]
    DuplicateKey,
    #[error("an int does not fit into 64 bits")]
    Overflow,
    #[error("a double is too large")]
    NotFinite,
    #[error("the expression divides by zero")]
    DivisionByZero,
    #[error("`{0}` cannot convert what it is given")]
    Conversion(&'static str),
    #[error("`substring` reaches outside its string")]
    OutsideText,
}

impl Fault<'_> {
    /// Whether nothing can make up for it. Any other error does not matter where `false && error` already decides.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::OutOfSteps)
    }
}

/// Kleene's "or" where `decisive` is true, his "and" where it is false: an answer that decides does so whatever the others are;
/// else an error is an error. As `truth::any` and `truth::all`, but nothing is asked after an error that is final.
pub(super) fn decide<'v>(decisive: bool, answers: impl Iterator<Item = Result<bool, Fault<'v>>>) -> Result<bool, Fault<'v>> {
    let mut fault = None;
    for answer in answers {
        match answer {
            Ok(answer) if answer == decisive => return Ok(decisive),
            Ok(_) => {}
            Err(why) if why.is_final() => return Err(why),
            Err(why) => {
                fault.get_or_insert(why);
            }
        }
    }
    fault.map_or(Ok(!decisive), Err)
}
