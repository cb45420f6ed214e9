//! Conditions `{path, op, value}` of the neighbours, whose operators have our names and a different meaning where values of different
//! types meet: they compare what values print as, take a wrong type for "not true", and `null` for absent.

use mcp_policy::document::{Condition, Op};
use serde_json::Value;

use super::difference::{NULL, REWRITTEN, STRICT, UNNAMED, WIDENED};
use super::draft::Noted;
use super::printed;
use super::re2;
use super::source::{Field, Fields, Refusals};

/// The fields of a condition.
pub const FIELDS: [&str; 3] = ["path", "op", "value"];

const OPERATORS: [(&str, Op); 11] = [
    ("eq", Op::Eq),
    ("neq", Op::Neq),
    ("in", Op::In),
    ("not_in", Op::NotIn),
    ("lt", Op::Lt),
    ("lte", Op::Lte),
    ("gt", Op::Gt),
    ("gte", Op::Gte),
    ("regex", Op::Regex),
    ("contains", Op::Contains),
    ("exists", Op::Exists),
];

/// What a condition is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// It must hold, or the call is refused.
    Require,
    /// It refuses the call where it holds.
    Refuse,
}

/// A condition of the original, in conditions of ours: for [`Purpose::Require`] all of them together, for [`Purpose::Refuse`] each as an
/// alternative.
pub type Translated = Vec<Noted<Condition>>;

/// Reads the condition's operator.
pub fn operator(fields: &Fields<'_>, whole: &Field<'_>, refusals: &mut Refusals) -> Option<Op> {
    let Some(field) = fields.get("op") else { return whole.refuse(refusals, "has no `op`") };
    let text = field.text(refusals)?;
    match OPERATORS.iter().find(|(name, _)| *name == text) {
        Some((_, op)) => Some(*op),
        None => field.refuse(refusals, format!("`{text}` is no operator; write one of {}", OPERATORS.map(|(name, _)| name).join(", "))),
    }
}

/// Translates a condition on an argument.
pub fn argument(whole: &Field<'_>, purpose: Purpose, refusals: &mut Refusals) -> Option<Translated> {
    let fields = whole.fields(&FIELDS, refusals)?;
    let path = match fields.get("path") {
        Some(path) => self::path(path, refusals),
        None => whole.refuse(refusals, "has no `path`"),
    };
    let op = operator(&fields, whole, refusals);
    let (path, op) = (path?, op?);
    let value = match (fields.written("value"), op) {
        (Some(value), _) => value.value().clone(),
        (None, Op::Exists) => Value::Bool(true),
        (None, _) => return whole.refuse(refusals, "has no `value`"),
    };
    let field = fields.written("value").unwrap_or(whole);
    let make =
        |op, value: Value| Noted::new(Condition { path: Some(path.clone()), op: Some(op), value: Some(value), cel: None }, whole.path());
    match op {
        Op::Eq | Op::Neq | Op::In | Op::NotIn => {
            let listed = match (op, &value) {
                (Op::In | Op::NotIn, Value::Array(list)) => list.clone(),
                (Op::In | Op::NotIn, _) => return field.refuse(refusals, format!("must be a list, but is {}", field.describe())),
                _ => vec![value.clone()],
            };
            Some(vec![equality(op, value, listed, purpose, make)])
        }
        Op::Lt | Op::Lte | Op::Gt | Op::Gte => {
            field.number(refusals)?;
            Some(vec![make(op, value)])
        }
        Op::Regex => {
            let text = field.text(refusals)?;
            let rewritten = match re2::rewrite(text) {
                Ok(rewritten) => rewritten,
                Err(message) => return field.refuse(refusals, message),
            };
            if rewritten == text {
                return Some(vec![make(op, value)]);
            }
            let mut condition = make(op, rewritten.into()).differing(&REWRITTEN);
            condition.note(format!("there: {text}"));
            Some(vec![condition])
        }
        Op::Contains => {
            let is_ambiguous = printed::has_unnamed_twins(&value) || !printed::twins(&value).is_empty();
            let condition = make(op, value);
            Some(vec![match purpose {
                _ if !is_ambiguous => condition,
                Purpose::Require => condition.differing(&STRICT),
                Purpose::Refuse => condition.differing(&UNNAMED),
            }])
        }
        Op::Exists => match (value, purpose) {
            // Whether it is there and not null, in one condition.
            (Value::Bool(true), Purpose::Require) => Some(vec![make(Op::Neq, Value::Null).differing(&NULL)]),
            (Value::Bool(false), Purpose::Refuse) => {
                Some(vec![make(Op::Exists, false.into()).differing(&NULL), make(Op::Eq, Value::Null).differing(&NULL)])
            }
            (Value::Bool(wanted), _) => Some(vec![make(Op::Exists, wanted.into()).differing(&NULL)]),
            _ => field.refuse(refusals, format!("must be true or false, but is {}", field.describe())),
        },
    }
}

/// Where equality refuses, what prints alike must be refused too; where it lets pass, to be strict is to be safe.
fn equality(
    op: Op,
    value: Value,
    mut listed: Vec<Value>,
    purpose: Purpose,
    make: impl Fn(Op, Value) -> Noted<Condition>,
) -> Noted<Condition> {
    let is_unnamed = listed.iter().any(printed::has_unnamed_twins);
    let twins: Vec<Value> = listed.iter().flat_map(printed::twins).filter(|twin| !listed.contains(twin)).collect();
    let wants_equal = matches!(op, Op::Eq | Op::In);
    if wants_equal == (purpose == Purpose::Require) {
        let condition = make(op, value);
        return if is_unnamed || !twins.is_empty() { condition.differing(&STRICT) } else { condition };
    }
    let condition = if twins.is_empty() {
        make(op, value)
    } else {
        for twin in twins {
            if !listed.contains(&twin) {
                listed.push(twin);
            }
        }
        make(if wants_equal { Op::In } else { Op::NotIn }, listed.into()).differing(&WIDENED)
    };
    if is_unnamed { condition.differing(&UNNAMED) } else { condition }
}

/// Translates a path: `args`, then names after dots, in which any other character stands for itself there.
pub fn path(field: &Field<'_>, refusals: &mut Refusals) -> Option<String> {
    let text = field.text(refusals)?;
    let Some(rest) = text.strip_prefix("args.") else {
        return field.refuse(refusals, format!("`{text}` is no path to an argument; write `args.` and its name"));
    };
    if rest.contains(['[', ']']) {
        return field.refuse(
            refusals,
            format!(
                "`{text}`: brackets are a part of the name there, which no argument has; leave the condition out, and write it into the \
                 imported policy, where `[0]` and `[*]` lead to elements"
            ),
        );
    }
    let is_plain = |name: &str| {
        let mut bytes = name.bytes();
        bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
    };
    let steps = rest.split('.').map(|name| if is_plain(name) { format!(".{name}") } else { format!("[{}]", Value::from(name)) });
    Some(std::iter::once("args".to_owned()).chain(steps).collect())
}
