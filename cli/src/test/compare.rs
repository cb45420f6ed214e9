//! What a case expected, and what came.

use serde::Serialize;
use serde_json::{Map, Value};

/// A field of the decision that is not as expected.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The field: `code`, `rule`, `audited.imaging/calls`, …
    pub field: String,
    /// What the case expects.
    pub expected: Value,
    /// What came.
    pub got: Value,
}

/// Where they differ, of what is expected.
pub fn differences(expected: &Map<String, Value>, got: &Map<String, Value>) -> Vec<Difference> {
    let mut differences = Vec::new();
    for (field, expected) in expected {
        let got = got.get(field).unwrap_or(&Value::Null);
        match (expected, got) {
            (Value::Object(inner), Value::Object(got)) => differences.extend(
                self::differences(inner, got).into_iter().map(|inner| Difference { field: format!("{field}.{}", inner.field), ..inner }),
            ),
            _ if expected == got => {}
            _ => differences.push(Difference { field: field.clone(), expected: expected.clone(), got: got.clone() }),
        }
    }
    differences
}
