//! Whose a session or a task is.

use std::sync::Arc;

use mcp_policy::Caller;

/// Who opened something, and may use it. All who proved nothing are one: there is nothing to tell them apart by that a caller could not
/// change, or share with others, from one request to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner(Option<Arc<str>>);

impl Owner {
    /// As whom a caller owns what it opens.
    #[must_use]
    pub fn of(caller: &Caller) -> Self {
        Self((!caller.is_anonymous()).then(|| caller.to_string().into()))
    }
}
