//! What is asked of the policies.

use crate::caller::Caller;
use crate::facts::ServerName;

/// One `tools/call`.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The tool's name, as the server will read it.
    pub tool: &'a str,
    /// The arguments as they were sent, a JSON text; empty where the call has none.
    pub arguments: &'a str,
    /// Who calls.
    pub caller: &'a Caller,
    /// The MCP session, if it was opened through the sidecar; any other id is as none.
    pub session: Option<&'a str>,
    /// The server that is called.
    pub server: ServerName<'a>,
}
