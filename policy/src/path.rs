//! Paths into a call's arguments: `args`, then any of `.name`, `["any key"]`, `[0]`, `[*]`.

use crate::value::Value;

/// A path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path {}

impl Path {
    /// Reads a path. The error says what is wrong and where.
    pub fn parse(_text: &str) -> Result<Self, String> {
        Ok(Self {})
    }

    /// The amount at this path, in units of 10^-18, rounded up. The error says what is wrong with it, without its value.
    pub fn amount(&self, _args: &Value<'_>) -> Result<u128, String> {
        Ok(0)
    }

    /// Whether it has `[*]`, and so may lead to several values.
    pub fn has_wildcard(&self) -> bool {
        false
    }
}
