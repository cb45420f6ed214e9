//! What a condition can look at.

use crate::caller::Caller;
use crate::value::Value;

/// The server that a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerName<'a> {
    /// Its namespace; empty without a cluster.
    pub namespace: &'a str,
    /// The name of its pod; without a cluster, the authority that it is reached at.
    pub name: &'a str,
}

/// One call, as conditions see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a> {
    /// The arguments; an empty object where the call has none.
    pub args: &'a Value<'a>,
    pub tool: &'a str,
    pub caller: &'a Caller,
    pub server: ServerName<'a>,
}
