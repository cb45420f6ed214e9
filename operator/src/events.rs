//! Events, as every part of the leader publishes them: in time, and no longer than the API server takes them.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder};
use tokio::time::timeout;

use crate::metrics::{Metrics, Step};

const REQUEST: Duration = Duration::from_secs(5);
/// The API server takes no longer note of an event.
const MAX_NOTE_BYTES: usize = 1024;

/// Publishes events, and counts those that cannot be.
#[derive(Clone)]
pub struct Events {
    /// Writes them.
    pub recorder: Recorder,
    /// Where failures are counted.
    pub metrics: Metrics,
}

impl Events {
    /// Publishes an event about an object. What fails is counted and logged: nothing depends on an event.
    pub async fn publish(&self, type_: EventType, about: &ObjectReference, reason: &str, action: &str, note: &str) {
        let note = note[..note.floor_char_boundary(MAX_NOTE_BYTES)].to_owned();
        let event = Event { type_, reason: reason.to_owned(), note: Some(note), action: action.to_owned(), secondary: None };
        match timeout(REQUEST, self.recorder.publish(&event, about)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.metrics.failed(Step::Event, &error),
            Err(error) => self.metrics.failed(Step::Event, &error),
        }
    }
}
