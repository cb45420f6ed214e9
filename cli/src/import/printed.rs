//! Values that the neighbours take for equal, because they print alike, and that JSON tells apart: the number 10 and the text "10".

use mcp_policy::number::Decimal;
use serde_json::Value;

/// The other values that print as this one does, as far as they can be named.
pub fn twins(value: &Value) -> Vec<Value> {
    let mut twins: Vec<Value> = match value {
        Value::Null => vec!["<nil>".into(), "null".into()],
        Value::Bool(value) => vec![value.to_string().into()],
        Value::Number(number) => {
            let texts = [
                Some(number.to_string()),
                Decimal::parse(&number.to_string()).map(|number| number.to_string()),
                number.as_f64().map(shortest),
            ];
            texts.into_iter().flatten().map(Value::from).collect()
        }
        Value::String(text) => match text.as_str() {
            "true" => vec![true.into()],
            "false" => vec![false.into()],
            "<nil>" | "null" => vec![Value::Null],
            text => number(text).filter(can_be_written).map(Value::from).into_iter().collect(),
        },
        Value::Array(_) | Value::Object(_) => Vec::new(),
    };
    let mut named = Vec::new();
    twins.retain(|twin| {
        let is_new = !named.contains(twin);
        named.push(twin.clone());
        is_new
    });
    twins
}

/// Whether values that print as this one does cannot all be named: a list prints as `[a b]`, and so does a text.
pub fn has_unnamed_twins(value: &Value) -> bool {
    match value {
        Value::Array(_) | Value::Object(_) => true,
        Value::String(text) => {
            text.starts_with('[')
                || text.starts_with("map[")
                || number(text).is_some_and(|number| !can_be_written(&number) && !is_refused(&number))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// A policy's numbers have at most so many digits.
const MAX_DIGITS: usize = 15;

fn can_be_written(number: &serde_json::Number) -> bool {
    Decimal::parse(&number.to_string()).is_some_and(|number| number.significant_digits() <= MAX_DIGITS && !number.is_beyond_exact())
}

/// Whether such a number among the arguments refuses the call, whatever the condition.
fn is_refused(number: &serde_json::Number) -> bool {
    Decimal::parse(&number.to_string()).is_some_and(|number| number.is_beyond_exact())
}

/// The number that a text shows, in JSON or as YAML 1.1 writes integers: `010`, `0x1F`, `1_000`.
fn number(text: &str) -> Option<serde_json::Number> {
    if let Some(number) = Decimal::parse(text).and_then(|_| text.parse::<serde_json::Number>().ok()) {
        return Some(number);
    }
    let plain = text.replace('_', "").to_ascii_lowercase();
    let (negative, unsigned) = match plain.strip_prefix(['-', '+']) {
        Some(rest) => (plain.starts_with('-'), rest),
        None => (false, plain.as_str()),
    };
    let (digits, radix) = match unsigned {
        digits if digits.starts_with("0x") => (&digits[2..], 16),
        digits if digits.starts_with("0b") => (&digits[2..], 2),
        digits if digits.starts_with("0o") => (&digits[2..], 8),
        digits if digits.starts_with('0') && digits.len() > 1 => (&digits[1..], 8),
        digits => (digits, 10),
    };
    if digits.starts_with(['-', '+']) {
        return None;
    }
    let magnitude = i64::from_str_radix(digits, radix).ok()?;
    Some(if negative { -magnitude } else { magnitude }.into())
}

/// A number as Go's `%v` prints a float64: the fewest digits that tell it from all others, with an exponent below 1e-4 and from
/// 1e6 on.
fn shortest(number: f64) -> String {
    let scientific = format!("{number:e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    match exponent.parse::<i32>() {
        Ok(exponent) if !(-4..6).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{mantissa}e{sign}{:02}", exponent.abs())
        }
        _ => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_cannot_be_named_is_known() {
        for (value, expected) in [
            (json!([1]), true),
            (json!({}), true),
            (json!("[1 2]"), true),
            (json!("map[a:1]"), true),
            (json!("4242424242424242"), true),
            (json!("9999999999999999"), false),
            (json!("123456789012345"), false),
            (json!("main"), false),
            (json!(1), false),
            (json!(null), false),
        ] {
            assert_eq!(has_unnamed_twins(&value), expected, "{value}");
        }
    }

    #[test]
    fn what_prints_alike_is_named() {
        for (value, expected) in [
            (json!("main"), json!([])),
            (json!(1_000_000), json!(["1000000", "1e+06"])),
            (json!(0.00001), json!(["0.00001", "1e-05"])),
            (json!(""), json!([])),
            (json!("v1"), json!([])),
            (json!("10"), json!([10])),
            (json!("-1.5"), json!([-1.5])),
            (json!("010"), json!([8])),
            (json!("0x1F"), json!([31])),
            (json!("1_000"), json!([1000])),
            (json!("-"), json!([])),
            (json!("--1"), json!([])),
            (json!("true"), json!([true])),
            (json!("null"), json!([null])),
            (json!(null), json!(["<nil>", "null"])),
            (json!(false), json!(["false"])),
            (json!(10), json!(["10"])),
            (json!(0.5), json!(["0.5"])),
            (json!([1]), json!([])),
        ] {
            assert_eq!(Value::from(twins(&value)), expected, "{value}");
        }
    }
}
