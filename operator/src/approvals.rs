//! Approvals by people: the custom resource, where sidecars ask, and what the leader keeps of it.
//!
//! [`state`] is pure; [`desk`] answers sidecars on every replica; [`keeper`] writes on the leader what there is to read, and has somebody
//! told of it ([`notify`]).

mod definition;
pub mod desk;
pub mod keeper;
pub mod known;
pub mod notify;
pub mod page;
pub mod resource;
pub mod state;

pub use definition::definition;
