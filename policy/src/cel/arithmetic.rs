//! `+ - * / %`, and the order of values.

use std::rc::Rc;

use super::fault::Fault;
use super::item::{Item, List, Text};
use super::operator::{Arithmetic, Comparison};
use super::steps::Steps;
use super::types::Type;

/// The value of `left operator right`.
pub(super) fn compute<'v>(operator: Arithmetic, left: &Item<'v>, right: &Item<'v>, steps: &mut Steps) -> Result<Item<'v>, Fault<'v>> {
    match (operator, left, right) {
        (_, Item::Int(a), Item::Int(b)) => ints(operator, *a, *b).map(Item::Int),
        (_, Item::Double(a), Item::Double(b)) if operator != Arithmetic::Remainder => doubles(operator, *a, *b).map(Item::Double),
        (Arithmetic::Add, Item::Text(a), Item::Text(b)) => {
            let (a, b) = (a.as_str(), b.as_str());
            steps.text(a.len().saturating_add(b.len()))?;
            Ok(Item::Text(Text::Made([a, b].concat().into())))
        }
        (Arithmetic::Add, Item::List(a), Item::List(b)) => {
            steps.spend(a.len().saturating_add(b.len()))?;
            let elements = |list: &List<'v>| (0..list.len()).map(|index| list.get(index)).collect::<Vec<_>>();
            let joined: Result<Rc<[_]>, _> = elements(a).into_iter().chain(elements(b)).collect();
            Ok(Item::List(List::Made(joined?)))
        }
        _ => Err(Fault::Operands { operator: operator.symbol(), given: (left.kind(), right.kind()) }),
    }
}

/// The value of `-operand`.
pub(super) fn negate<'v>(operand: &Item<'v>) -> Result<Item<'v>, Fault<'v>> {
    match operand {
        Item::Int(value) => value.checked_neg().map(Item::Int).ok_or(Fault::Overflow),
        Item::Double(value) => Ok(Item::Double(-value)),
        _ => Err(Fault::Operand { operator: "-", given: operand.kind() }),
    }
}

/// Whether `left operator right` holds.
pub(super) fn compare<'v>(operator: Comparison, left: &Item<'v>, right: &Item<'v>, steps: &mut Steps) -> Result<bool, Fault<'v>> {
    if let (Item::Text(a), Item::Text(b)) = (left, right) {
        steps.text(a.as_str().len().min(b.as_str().len()))?;
    }
    let order = left.order(right).ok_or_else(|| Fault::Operands { operator: operator.symbol(), given: (left.kind(), right.kind()) })?;
    Ok(operator.holds(order))
}

fn ints<'v>(operator: Arithmetic, a: i64, b: i64) -> Result<i64, Fault<'v>> {
    match operator {
        Arithmetic::Divide | Arithmetic::Remainder if b == 0 => return Err(Fault::DivisionByZero),
        Arithmetic::Add => a.checked_add(b),
        Arithmetic::Subtract => a.checked_sub(b),
        Arithmetic::Multiply => a.checked_mul(b),
        Arithmetic::Divide => a.checked_div(b),
        Arithmetic::Remainder => a.checked_rem(b),
    }
    .ok_or(Fault::Overflow)
}

/// Doubles stay finite, so that any two of them are ordered.
fn doubles<'v>(operator: Arithmetic, a: f64, b: f64) -> Result<f64, Fault<'v>> {
    let value = match operator {
        Arithmetic::Divide if b == 0.0 => return Err(Fault::DivisionByZero),
        Arithmetic::Add => a + b,
        Arithmetic::Subtract => a - b,
        Arithmetic::Multiply => a * b,
        Arithmetic::Divide => a / b,
        Arithmetic::Remainder => return Err(Fault::Operands { operator: operator.symbol(), given: (Type::Double, Type::Double) }),
    };
    if value.is_finite() { Ok(value) } else { Err(Fault::NotFinite) }
}
