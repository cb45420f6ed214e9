//! Policies from the operator: one long `GET /v1/watch` over TLS, and a `POST /v1/report` for each snapshot.
//!
//! Guarantees: nothing is put in force that was changed on the way, is of another version, or does not compile whole; each snapshot
//! is answered with an ack or a nack; a stream that falls silent, or that holds another snapshot than the enforced one, is given up
//! for a new one. Without an operator, what is in force stays in force.

pub(crate) mod client;

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use http::Method;
use http_body_util::BodyExt;
use mcp_policy::snapshot::{Report, ReportResult, WatchMessage};
use serde::Deserialize;
use tokio::time::{sleep, timeout};

use self::client::{RequestError, request};
use crate::config::OperatorSource;
use crate::state::{Enforced, State};

/// The operator sends a heartbeat every ten seconds; after two that did not come the stream is given up.
const SILENCE: Duration = Duration::from_secs(25);
/// The longest line that is read: many times a pod's policies at the bounds of their schema.
const MAX_LINE: usize = 8 * 1024 * 1024;
/// Waits between attempts: a random time up to a bound that doubles from the first of these to the second. Random, so that
/// hundreds of sidecars do not come back together.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum WatchError {
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("HTTP: {0}")]
    Http(#[from] hyper::Error),
    #[error("two heartbeats did not come")]
    Silent,
    #[error("a line is longer than {MAX_LINE} bytes")]
    LongLine,
    #[error("a line is no message: {0}")]
    Line(serde_json::Error),
    #[error("the operator holds another snapshot than the one that it sent")]
    Behind,
}

/// What must be known of a snapshot to refuse it.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "SCREAMING_SNAKE_CASE")]
enum Unread {
    Snapshot { sha256: String },
}

/// Follows the operator for ever.
pub async fn follow(source: OperatorSource, state: Arc<State>) {
    let mut bound = BACK_OFF.0;
    loop {
        let mut watch = Watch { source: &source, state: &state, received: None, reported: false };
        match watch.run().await {
            Ok(()) => tracing::info!("the operator ended the watch stream; connecting anew"),
            Err(error) => tracing::warn!(%error, age.seconds = state.age().as_secs(), "no watch stream from the operator; trying again"),
        }
        // Only an operator that sent and took something is well.
        bound = if watch.reported { BACK_OFF.0 } else { (bound * 2).min(BACK_OFF.1) };
        sleep(bound.mul_f64(fastrand::f64())).await;
    }
}

/// One watch stream.
struct Watch<'a> {
    source: &'a OperatorSource,
    state: &'a State,
    /// Digest of the last snapshot on this stream, in force or not.
    received: Option<String>,
    /// Whether the operator took a report about it.
    reported: bool,
}

impl Watch<'_> {
    async fn run(&mut self) -> Result<(), WatchError> {
        let response = request(self.source, Method::GET, "/v1/watch", None).await?;
        let mut body = response.into_body();
        let mut line = BytesMut::new();
        loop {
            let frame = timeout(SILENCE, body.frame()).await.map_err(|_| WatchError::Silent)?;
            let Some(frame) = frame else { return Ok(()) };
            let Ok(mut data) = frame?.into_data() else { continue };
            while let Some(end) = data.iter().position(|byte| *byte == b'\n') {
                line.extend_from_slice(&data.split_to(end + 1));
                let whole = line.split();
                self.message(&whole).await?;
            }
            line.extend_from_slice(&data);
            if line.len() > MAX_LINE {
                return Err(WatchError::LongLine);
            }
        }
    }

    async fn message(&mut self, line: &[u8]) -> Result<(), WatchError> {
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        match serde_json::from_slice(line) {
            Ok(WatchMessage::Snapshot(snapshot)) => {
                let enforced = Enforced::from_snapshot(&snapshot).map_err(|error| error.to_string());
                self.snapshot(snapshot.sha256, enforced).await
            }
            Ok(WatchMessage::Heartbeat { sha256 }) => {
                if self.state.enforces(&sha256) {
                    self.state.confirm();
                } else if self.received.as_ref() != Some(&sha256) {
                    return Err(WatchError::Behind);
                }
                Ok(())
            }
            // Another operator's version may write what this one cannot read. It must learn that.
            Err(cause) => match serde_json::from_slice::<Unread>(line) {
                Ok(Unread::Snapshot { sha256 }) => self.snapshot(sha256, Err(cause.to_string())).await,
                Err(_) => Err(WatchError::Line(cause)),
            },
        }
    }

    /// Puts a snapshot in force if it can be, and reports.
    async fn snapshot(&mut self, sha256: String, enforced: Result<Enforced, String>) -> Result<(), WatchError> {
        self.received = Some(sha256.clone());
        let report = match enforced {
            Ok(enforced) => {
                tracing::info!(snapshot.sha256 = sha256, policies = enforced.revisions.len(), "a snapshot is in force");
                self.state.share_counters(enforced.store.clone(), &self.source.namespace);
                self.state.apply(enforced);
                Report { sha256, result: ReportResult::Ack, error: None }
            }
            Err(error) => {
                tracing::error!(snapshot.sha256 = sha256, error, "a snapshot is not in force; the one before is");
                Report { sha256, result: ReportResult::Nack, error: Some(error) }
            }
        };
        // A report that does not arrive ends the stream: the next one begins with the snapshot, and so with a report.
        let json = serde_json::to_vec(&report).map_err(WatchError::Line)?;
        request(self.source, Method::POST, "/v1/report", Some(json)).await?;
        self.reported = true;
        Ok(())
    }
}
