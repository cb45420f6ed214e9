//! What sidecars say that they enforce: the tally of one replica, and the union of all replicas' that the leader counts.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;
use tokio::time::Instant;

use mcp_policy::snapshot::{Report, ReportResult};

/// What one sidecar said last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Said {
    /// Digest of the snapshot that it enforces. None while it has said of none that it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforces: Option<String>,
    /// Digest of the snapshot that it refused since, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<(String, String)>,
}

/// One line of `GET /v1/tally`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TallyMessage {
    /// The whole tally, by uid of the pod; sent at once.
    Tally {
        /// What each sidecar said.
        pods: HashMap<String, Said>,
    },
    /// One entry is new or changed, or (none) gone.
    Change {
        /// Uid of the pod.
        pod: String,
        /// What its sidecar said.
        said: Option<Said>,
    },
    /// Sent every 10 seconds, so that a dead stream is noticed.
    Heartbeat,
}

/// Room for a change of every governed pod of a big cluster at once. Who lags behind reads the whole tally anew.
const CHANGES: usize = 8192;
/// A sidecar that comes back within this time was never gone: streams end each hour, and replicas restart.
const GRACE: Duration = Duration::from_secs(15);
/// The reason of a refusal goes into a condition.
const MAX_ERROR_CHARACTERS: usize = 256;

/// The tally of this replica.
#[derive(Debug)]
pub struct Tally {
    pods: Mutex<HashMap<String, Entry>>,
    changes: broadcast::Sender<TallyMessage>,
}

#[derive(Debug, Default)]
struct Entry {
    said: Option<Said>,
    streams: usize,
    gone_since: Option<Instant>,
}

impl Default for Tally {
    fn default() -> Self {
        Self { pods: Mutex::default(), changes: broadcast::Sender::new(CHANGES) }
    }
}

impl Tally {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Entry>> {
        // No code that holds the lock can panic halfway through a change.
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A sidecar opened a stream.
    pub fn opened(&self, pod: &str) {
        let mut pods = self.lock();
        let entry = pods.entry(pod.to_owned()).or_default();
        entry.streams += 1;
        entry.gone_since = None;
    }

    /// A stream of a sidecar ended.
    pub fn closed(&self, pod: &str) {
        if let Some(entry) = self.lock().get_mut(pod) {
            entry.streams = entry.streams.saturating_sub(1);
            if entry.streams == 0 {
                entry.gone_since = Some(Instant::now());
            }
        }
    }

    /// A sidecar answered to a snapshot. False, and nothing is kept, if it holds no stream here: then another replica sent the
    /// snapshot, and counts.
    pub fn reported(&self, pod: &str, report: Report) -> bool {
        let mut pods = self.lock();
        let Some(entry) = pods.get_mut(pod) else { return false };
        let before = entry.said.take();
        let said = match report.result {
            ReportResult::Ack => Said { enforces: Some(report.sha256), refused: None },
            ReportResult::Nack => {
                let error = report.error.unwrap_or_default().chars().take(MAX_ERROR_CHARACTERS).collect();
                Said { enforces: before.as_ref().and_then(|before| before.enforces.clone()), refused: Some((report.sha256, error)) }
            }
        };
        let is_new = before.as_ref() != Some(&said);
        entry.said = Some(said.clone());
        if is_new {
            self.tell(TallyMessage::Change { pod: pod.to_owned(), said: Some(said) });
        }
        true
    }

    /// Forgets the sidecars that have been gone for longer than a reconnect takes.
    pub fn sweep(&self) {
        let mut pods = self.lock();
        let gone: Vec<_> = pods.extract_if(|_, entry| entry.gone_since.is_some_and(|since| since.elapsed() >= GRACE)).collect();
        for (pod, _) in gone {
            self.tell(TallyMessage::Change { pod, said: None });
        }
    }

    /// The whole tally, and what changes from then on.
    pub fn subscribe(&self) -> (HashMap<String, Said>, broadcast::Receiver<TallyMessage>) {
        let pods = self.lock();
        let whole = pods.iter().filter_map(|(pod, entry)| Some((pod.clone(), entry.said.clone()?))).collect();
        (whole, self.changes.subscribe())
    }

    /// Called with the lock held, so that nobody who subscribes misses a change or sees it twice.
    fn tell(&self, message: TallyMessage) {
        // An error says that nobody listens.
        let _ = self.changes.send(message);
    }
}

/// What all replicas' sidecars say, as the leader has heard it.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    by_replica: HashMap<String, HashMap<String, Said>>,
}

impl Heard {
    /// Takes a line of a replica's tally.
    pub fn take(&mut self, replica: &str, message: TallyMessage) {
        match message {
            TallyMessage::Tally { pods } => {
                self.by_replica.insert(replica.to_owned(), pods);
            }
            TallyMessage::Change { pod, said } => {
                let pods = self.by_replica.entry(replica.to_owned()).or_default();
                match said {
                    Some(said) => pods.insert(pod, said),
                    None => pods.remove(&pod),
                };
            }
            TallyMessage::Heartbeat => {}
        }
    }

    /// Forgets a replica.
    pub fn forget(&mut self, replica: &str) {
        self.by_replica.remove(replica);
    }

    /// Whether the pod's sidecar enforces the snapshot, by what any replica heard.
    #[must_use]
    pub fn enforces(&self, pod: &str, sha256: &str) -> bool {
        self.of(pod).any(|said| said.enforces.as_deref() == Some(sha256))
    }

    /// Why the pod's sidecar refused the snapshot, if it did.
    #[must_use]
    pub fn refusal(&self, pod: &str, sha256: &str) -> Option<&str> {
        self.of(pod).filter_map(|said| said.refused.as_ref()).find(|(digest, _)| digest == sha256).map(|(_, error)| error.as_str())
    }

    fn of(&self, pod: &str) -> impl Iterator<Item = &Said> {
        self.by_replica.values().filter_map(move |pods| pods.get(pod))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(sha256: &str) -> Report {
        Report { sha256: sha256.to_owned(), result: ReportResult::Ack, error: None }
    }

    fn nack(sha256: &str, error: &str) -> Report {
        Report { sha256: sha256.to_owned(), result: ReportResult::Nack, error: Some(error.to_owned()) }
    }

    /// What a leader that followed the tally from the start knows.
    fn heard(tally: &Tally, (whole, mut changes): (HashMap<String, Said>, broadcast::Receiver<TallyMessage>)) -> Heard {
        let mut heard = Heard::default();
        heard.take("r", TallyMessage::Tally { pods: whole });
        while let Ok(change) = changes.try_recv() {
            heard.take("r", change);
        }
        assert_eq!(heard.by_replica["r"], tally.subscribe().0, "following the changes gives the whole");
        heard
    }

    #[test]
    fn an_ack_is_heard_and_a_nack_keeps_what_was_in_force() {
        let tally = Tally::default();
        let from_start = tally.subscribe();
        tally.opened("p");
        assert!(tally.reported("p", ack("one")));
        tally.reported("p", nack("two", "unknown version"));
        let heard = heard(&tally, from_start);
        assert!(heard.enforces("p", "one") && !heard.enforces("p", "two"));
        assert_eq!(heard.refusal("p", "two"), Some("unknown version"));
        assert_eq!(heard.refusal("p", "one"), None);
    }

    #[test]
    fn a_report_without_a_stream_is_not_kept() {
        let tally = Tally::default();
        assert!(!tally.reported("p", ack("one")));
        assert!(tally.subscribe().0.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_sidecar_is_forgotten_only_after_the_time_of_a_reconnect() {
        let tally = Tally::default();
        let from_start = tally.subscribe();
        tally.opened("p");
        tally.reported("p", ack("one"));
        tally.closed("p");
        tally.opened("p");
        tokio::time::advance(GRACE * 2).await;
        tally.sweep();
        assert_eq!(tally.subscribe().0.len(), 1, "it came back");
        tally.closed("p");
        tokio::time::advance(GRACE / 2).await;
        tally.sweep();
        assert_eq!(tally.subscribe().0.len(), 1);
        tokio::time::advance(GRACE / 2).await;
        tally.sweep();
        assert!(!heard(&tally, from_start).enforces("p", "one"));
    }

    #[test]
    fn the_union_is_over_all_replicas_and_a_replica_can_go() {
        let said = |sha256: &str| Some(Said { enforces: Some(sha256.to_owned()), refused: None });
        let mut heard = Heard::default();
        heard.take("a", TallyMessage::Change { pod: "p".to_owned(), said: said("old") });
        heard.take("b", TallyMessage::Change { pod: "p".to_owned(), said: said("new") });
        assert!(heard.enforces("p", "new"));
        heard.forget("b");
        assert!(!heard.enforces("p", "new"));
    }

    #[test]
    fn a_long_reason_is_cut() {
        let tally = Tally::default();
        tally.opened("p");
        tally.reported("p", nack("one", &"x".repeat(10_000)));
        assert_eq!(tally.subscribe().0["p"].refused.as_ref().unwrap().1.len(), MAX_ERROR_CHARACTERS);
    }
}
