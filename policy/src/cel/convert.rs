//! `int(…)`, `double(…)` and `string(…)`.

use super::fault::Fault;
use super::item::{Item, Text, truncate};
use super::steps::Steps;

/// An int as it is, a double without its fraction, a string of decimal digits.
pub(super) fn int<'v>(item: &Item<'v>, steps: &mut Steps) -> Result<i64, Fault<'v>> {
    match item {
        Item::Int(value) => Ok(*value),
        Item::Double(value) => truncate(*value).ok_or(Fault::Overflow),
        Item::Text(text) => {
            steps.text(text.as_str().len())?;
            text.as_str().parse().map_err(|_| Fault::Conversion("int"))
        }
        _ => Err(Fault::Operand { operator: "int", given: item.kind() }),
    }
}

/// A double as it is, the double next to an int, a string that spells a finite number.
pub(super) fn double<'v>(item: &Item<'v>, steps: &mut Steps) -> Result<f64, Fault<'v>> {
    match item {
        #[expect(clippy::cast_precision_loss, reason = "CEL rounds to the nearest double")]
        Item::Int(value) => Ok(*value as f64),
        Item::Double(value) => Ok(*value),
        Item::Text(text) => {
            steps.text(text.as_str().len())?;
            text.as_str().parse().ok().filter(|value: &f64| value.is_finite()).ok_or(Fault::Conversion("double"))
        }
        _ => Err(Fault::Operand { operator: "double", given: item.kind() }),
    }
}

/// A string as it is, a bool or a number in decimal.
pub(super) fn string<'v>(item: &Item<'v>) -> Result<Text<'v>, Fault<'v>> {
    match item {
        Item::Text(text) => Ok(text.clone()),
        Item::Bool(value) => Ok(Text::made(&value.to_string())),
        Item::Int(value) => Ok(Text::made(&value.to_string())),
        Item::Double(value) => Ok(Text::made(&value.to_string())),
        _ => Err(Fault::Operand { operator: "string", given: item.kind() }),
    }
}
