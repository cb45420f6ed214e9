//! What the server says, on its way to the client: every message is looked at, whatever carries it, and what the client must not
//! see stays here.

pub mod answer_fault;
pub mod asked;
pub mod call_answer;
pub mod events;
pub mod from_server;
pub mod gate;
pub mod handshake;
pub mod progress;
pub mod relay;
pub mod sse;
pub mod task;
pub mod tools;
pub mod unknown_tool;
