//! A server on stdio, as its command is given.

use std::ffi::OsString;
use std::fmt;
use std::path::Path;

/// How a stdio server is started.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerCommand {
    /// The program: a path, or a name that is looked for in `PATH`.
    pub program: OsString,
    /// What it is told.
    pub arguments: Vec<OsString>,
}

/// Without the arguments: one may be a secret, and the configuration is logged.
impl fmt::Debug for ServerCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerCommand").field("program", &self.program).finish_non_exhaustive()
    }
}

impl ServerCommand {
    /// The server, as audit lines and conditions name it: the last part of the program's path.
    #[must_use]
    pub fn name(&self) -> String {
        let path = Path::new(&self.program);
        path.file_name().unwrap_or(&self.program).to_string_lossy().into_owned()
    }
}
