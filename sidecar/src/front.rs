//! What callers meet first: a connection is accepted, its requests are delimited, and their heads are judged, before anyone reads a
//! body. Here is decided which ports and paths there are at all.

pub(crate) mod connection;
pub mod exposure;
pub mod headers;
pub mod origin;
pub mod probe;
pub(crate) mod probe_connection;
pub mod server;
pub mod write_timeout;
