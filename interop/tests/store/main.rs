//! One budget over several sidecars, in a real Redis: exact, and never more than `max` whatever happens to the store.
//!
//! The sidecars' half is asked directly, without the proxy around it: many of them, as fast as they can.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod budget;
mod exact;
mod faults;
mod laws;
mod server;
mod topologies;
