//! HTTP/1.1 as the way of a call speaks it, on both of its sides: one task for each caller, who alone reads and writes its connection
//! and the one to the server.
//!
//! Guarantees: a message ends where every reader sees its end, or it is refused ([`head`], [`body`]); a connection that waits holds
//! no buffer ([`reader`]); whoever takes nothing is given up ([`writer`]).

pub(crate) mod body;
pub(crate) mod deadline;
pub(crate) mod head;
pub(crate) mod reader;
pub(crate) mod writer;
