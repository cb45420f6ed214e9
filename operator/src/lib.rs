//! The operator of mcp-policy: watches policies and pods, injects the sidecar, tells each sidecar what to enforce, and writes
//! down what came of it.
//!
//! Pure, without client and without a clock of their own: [`accept`], [`select`], [`namespaces`], [`status`], [`inject`], [`probes`],
//! [`pod`], [`certs`], and what [`callers`] prove themselves with. Around them: [`controller`] keeps [`world`] and feeds current; [`webhook`] and [`distribute`] serve on every
//! replica; [`approvals`] asks people; [`leader`], [`trust`] and [`peers`] do what only the holder of the [`lease`] does.

pub mod accept;
pub mod admin;
pub mod approvals;
pub mod args;
pub mod callers;
pub mod certs;
pub mod check;
pub mod controller;
pub mod crd;
pub mod dial;
pub mod distribute;
pub mod error;
pub mod events;
pub mod inject;
pub mod leader;
pub mod lease;
pub mod metrics;
pub mod names;
pub mod namespaces;
pub mod peers;
pub mod pod;
pub mod probes;
pub mod review;
pub mod rollout;
pub mod run;
pub mod select;
pub mod server;
pub mod status;
pub mod store;
pub mod streams;
pub mod tally;
pub mod telemetry;
pub mod tls;
pub mod trust;
pub mod watch;
pub mod webhook;
pub mod world;

pub use run::run;
