//! Operators between two values, and which types they take.

use std::cmp::Ordering;

use super::types::Type;

/// `+ - * / %`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

/// `< <= > >=`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Arithmetic {
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
        }
    }

    /// The types of which it takes two.
    fn takes(self) -> (&'static [Type], &'static str) {
        match self {
            Self::Add => (&[Type::Int, Type::Double, Type::String, Type::List], "two ints, two doubles, two strings or two lists"),
            Self::Subtract | Self::Multiply | Self::Divide => (&[Type::Int, Type::Double], "two ints or two doubles"),
            Self::Remainder => (&[Type::Int], "two ints"),
        }
    }

    /// The type of its result. The error says what it takes.
    pub fn result(self, left: Type, right: Type) -> Result<Type, String> {
        let (types, words) = self.takes();
        let mut possible = types.iter().filter(|wanted| left.can_be(**wanted) && right.can_be(**wanted));
        match (possible.next(), possible.next()) {
            (Some(only), None) => Ok(*only),
            (Some(_), Some(_)) => Ok(Type::Dyn),
            (None, _) => {
                let convert = if left.is_number() && right.is_number() { ": convert one with `int(…)` or `double(…)`" } else { "" };
                Err(format!("`{}` takes {words}, not {} and {}{convert}", self.symbol(), left.describe(), right.describe()))
            }
        }
    }
}

impl Comparison {
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }

    /// Whether it holds between two values of this order.
    pub fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
        }
    }

    /// Whether it can compare two such values. The error says what it takes.
    pub fn check(self, left: Type, right: Type) -> Result<(), String> {
        let ordered = |side: Type| side.is_number() || matches!(side, Type::String | Type::Bool | Type::Dyn);
        if ordered(left) && ordered(right) && comparable(left, right) {
            return Ok(());
        }
        Err(format!("`{}` compares two numbers, two strings or two bools, not {} and {}", self.symbol(), left.describe(), right.describe()))
    }
}

/// Whether two values of these types can be equal.
pub(super) fn comparable(left: Type, right: Type) -> bool {
    left.can_be(right) || left.is_number() && right.is_number()
}

/// Whether a value of this type can be a key of a map. A double can be asked for: it stands for the int of its value.
pub(super) fn can_be_key(key: Type) -> bool {
    matches!(key, Type::Bool | Type::Int | Type::Double | Type::String | Type::Dyn)
}
