//! Conditions: a document's condition becomes one that can be asked, and is asked about a call.

use crate::document;
use crate::facts::Facts;
use crate::truth::Truth;

/// Which elements of `[*]` decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Elements {
    /// All of them: an empty array holds. For `require`.
    All,
    /// Any of them: an empty array does not hold. For `denyIf`.
    Any,
}

/// A condition that can be asked.
#[derive(Clone, Debug)]
pub(crate) struct Condition {}

impl Condition {
    /// Compiles a condition. Errors name the field within it (`path`, `op`, `value`, `cel`, or nothing for the whole) and say what
    /// would be right.
    pub fn compile(_condition: &document::Condition) -> Result<Self, Vec<(&'static str, String)>> {
        Ok(Self {})
    }

    /// Whether the condition holds for the call.
    pub fn holds(&self, _facts: &Facts<'_>, _elements: Elements) -> Truth {
        Truth::True
    }

    /// What the condition wants and what it found, in one line, with values: for people who explain a decision, never for logs.
    pub fn account(&self, _facts: &Facts<'_>) -> String {
        String::new()
    }
}
