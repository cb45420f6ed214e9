//! The types of values.

/// The type of a value, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::enum_variant_names, reason = "a type is a value too, and CEL calls its type `type`")]
pub(super) enum Type {
    Null,
    Bool,
    Int,
    Double,
    String,
    List,
    Map,
    Type,
    /// Known only when a call comes. No value has it.
    Dyn,
}

impl Type {
    /// Those that an expression can name.
    const NAMED: [Self; 8] = [Self::Null, Self::Bool, Self::Int, Self::Double, Self::String, Self::List, Self::Map, Self::Type];

    /// What an expression calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Null => "null_type",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Double => "double",
            Self::String => "string",
            Self::List => "list",
            Self::Map => "map",
            Self::Type => "type",
            Self::Dyn => "dyn",
        }
    }

    /// The type that an expression means by a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMED.into_iter().find(|named| named.name() == name)
    }

    /// A value of it, in words that fit "is …".
    pub fn describe(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "a bool",
            Self::Int => "an int",
            Self::Double => "a double",
            Self::String => "a string",
            Self::List => "a list",
            Self::Map => "a map",
            Self::Type => "a type",
            Self::Dyn => "a value of any type",
        }
    }

    /// Whether its values are numbers.
    pub fn is_number(self) -> bool {
        matches!(self, Self::Int | Self::Double)
    }

    /// Whether a value of this type can stand where one of the other is wanted.
    pub fn can_be(self, wanted: Self) -> bool {
        self == wanted || self == Self::Dyn || wanted == Self::Dyn
    }
}
