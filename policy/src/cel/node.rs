//! A checked expression.

use super::function::Function;
use super::operator::{Arithmetic, Comparison};
use super::types::Type;
use crate::regexp::Regexp;

/// A checked expression: what evaluation walks. At most as deep as the text may be.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Constant(Constant),
    Variable(Variable),
    /// The variable of a macro, counted from the outermost macro around it.
    Local(usize),
    /// Whether a member of `caller` is there: it depends on the kind.
    HasOfCaller(OfCaller),
    Select(Box<Node>, Box<str>),
    Has(Box<Node>, Box<str>),
    Index(Box<[Node; 2]>),
    Not(Box<Node>),
    Negate(Box<Node>),
    And(Box<[Node; 2]>),
    Or(Box<[Node; 2]>),
    /// Condition, value if it holds, value if not.
    Conditional(Box<[Node; 3]>),
    Equal(Box<[Node; 2]>),
    NotEqual(Box<[Node; 2]>),
    Compare(Comparison, Box<[Node; 2]>),
    Arithmetic(Arithmetic, Box<[Node; 2]>),
    In(Box<[Node; 2]>),
    List(Vec<Node>),
    Map(Vec<[Node; 2]>),
    Macro(Box<Macro>),
    /// The receiver, if there is one, comes first.
    Call(Function, Vec<Node>),
    Matches(Box<Node>, Regexp),
}

/// A literal, or the name of a type.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Constant {
    Null,
    Bool(bool),
    Int(i64),
    /// Finite.
    Double(f64),
    String(Box<str>),
    Type(Type),
}

/// What an expression can look at. Members are read without the map around them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variable {
    Args,
    Tool,
    Caller,
    OfCaller(OfCaller),
    Server,
    ServerNamespace,
    ServerName,
}

impl Variable {
    /// The members of `server`.
    pub const OF_SERVER: [(&'static str, Self); 2] = [("name", Self::ServerName), ("namespace", Self::ServerNamespace)];
}

/// A member of `caller`. `kind` is always there, the others where the kind has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OfCaller {
    Address,
    Claims,
    Issuer,
    Kind,
    Name,
    Namespace,
    Subject,
}

impl OfCaller {
    /// All of them, in the order of their names.
    pub const ALL: [Self; 7] = [Self::Address, Self::Claims, Self::Issuer, Self::Kind, Self::Name, Self::Namespace, Self::Subject];

    /// What an expression calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Claims => "claims",
            Self::Issuer => "issuer",
            Self::Kind => "kind",
            Self::Name => "name",
            Self::Namespace => "namespace",
            Self::Subject => "subject",
        }
    }

    /// The type that it has where it is there.
    pub fn given(self) -> Type {
        if self == Self::Claims { Type::Map } else { Type::String }
    }
}

/// A macro over the elements of a list or the keys of a map.
#[derive(Clone, Debug)]
pub(super) struct Macro {
    /// What is walked. It stands outside the scope of the macro's variable.
    pub range: Node,
    pub body: Body,
}

/// What a macro does with each element.
#[derive(Clone, Debug)]
pub(super) enum Body {
    All(Node),
    Exists(Node),
    ExistsOne(Node),
    /// `map` and `filter`: a list of `element`s, where `condition` holds.
    Collect {
        condition: Option<Node>,
        element: Node,
    },
}
