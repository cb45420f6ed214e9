//! What sidecars say that they enforce.
//!
//! A sidecar's stream and its reports may reach different replicas, and any replica may go. So each replica follows the tallies of
//! the others and keeps all that it hears: of two words of one sidecar the later counts. Whoever leads finds the whole in its own.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use mcp_policy::snapshot::{Report, ReportResult};

/// What one sidecar said last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Said {
    /// When it said so, in milliseconds since the epoch, or later: always more than of what it said before.
    pub at: i64,
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
    /// A sidecar said something new.
    Change {
        /// Uid of its pod.
        pod: String,
        /// What it said.
        said: Said,
    },
    /// Sent every 10 seconds, so that a dead stream is noticed.
    Heartbeat,
}

/// Room for a change of every governed pod of a big cluster at once. Who lags behind reads the whole tally anew.
const CHANGES: usize = 8192;
/// Another replica may hear of a pod before this one knows it: what is as new as this is kept.
const KEPT_MILLISECONDS: i64 = 60_000;
/// The reason of a refusal goes into a condition.
const MAX_ERROR_CHARACTERS: usize = 256;

/// All that was said, to this replica and to the others.
#[derive(Debug)]
pub struct Tally {
    pods: Mutex<HashMap<String, Said>>,
    changes: broadcast::Sender<TallyMessage>,
}

impl Default for Tally {
    fn default() -> Self {
        Self { pods: Mutex::default(), changes: broadcast::Sender::new(CHANGES) }
    }
}

impl Tally {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Said>> {
        // No code that holds the lock can panic halfway through a change.
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A sidecar answered to a snapshot, here and now (milliseconds since the epoch).
    pub fn reported(&self, pod: &str, report: Report, now: i64) {
        let mut pods = self.lock();
        let before = pods.get(pod);
        // Clocks of replicas differ; what comes after something known must count as later.
        let at = before.map_or(now, |before| now.max(before.at + 1));
        let said = match report.result {
            ReportResult::Ack => Said { at, enforces: Some(report.sha256), refused: None },
            ReportResult::Nack => {
                let error = report.error.unwrap_or_default().chars().take(MAX_ERROR_CHARACTERS).collect();
                Said { at, enforces: before.and_then(|before| before.enforces.clone()), refused: Some((report.sha256, error)) }
            }
        };
        self.keep(&mut pods, pod.to_owned(), said);
    }

    /// Another replica told something.
    pub fn heard(&self, message: TallyMessage) {
        let mut pods = self.lock();
        match message {
            TallyMessage::Tally { pods: told } => told.into_iter().for_each(|(pod, said)| self.keep(&mut pods, pod, said)),
            TallyMessage::Change { pod, said } => self.keep(&mut pods, pod, said),
            TallyMessage::Heartbeat => {}
        }
    }

    /// Keeps it if it is later than what is known, and then passes it on: so it goes round once.
    fn keep(&self, pods: &mut HashMap<String, Said>, pod: String, said: Said) {
        if pods.get(&pod).is_none_or(|known| known.at < said.at) {
            pods.insert(pod.clone(), said.clone());
            // An error says that nobody listens.
            let _ = self.changes.send(TallyMessage::Change { pod, said });
        }
    }

    /// Forgets pods that are not there any more.
    pub fn retain(&self, is_there: impl Fn(&str) -> bool, now: i64) {
        self.lock().retain(|pod, said| is_there(pod) || said.at > now - KEPT_MILLISECONDS);
    }

    /// The whole tally, and what changes from then on.
    pub fn subscribe(&self) -> (HashMap<String, Said>, broadcast::Receiver<TallyMessage>) {
        let pods = self.lock();
        (pods.clone(), self.changes.subscribe())
    }

    /// What changes from now on.
    pub fn changes(&self) -> broadcast::Receiver<TallyMessage> {
        self.changes.subscribe()
    }

    /// What the sidecar of a pod said last.
    #[must_use]
    pub fn of(&self, pod: &str) -> Option<Said> {
        self.lock().get(pod).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ack(sha256: &str) -> Report {
        Report { sha256: sha256.to_owned(), result: ReportResult::Ack, error: None }
    }

    fn nack(sha256: &str, error: &str) -> Report {
        Report { sha256: sha256.to_owned(), result: ReportResult::Nack, error: Some(error.to_owned()) }
    }

    #[test]
    fn a_nack_keeps_what_was_in_force() {
        let tally = Tally::default();
        tally.reported("p", ack("one"), 5);
        tally.reported("p", nack("two", "unknown version"), 6);
        let refused = Some(("two".to_owned(), "unknown version".to_owned()));
        assert_eq!(tally.of("p"), Some(Said { at: 6, enforces: Some("one".to_owned()), refused }));
        tally.reported("p", ack("two"), 7);
        assert_eq!(tally.of("p"), Some(Said { at: 7, enforces: Some("two".to_owned()), refused: None }));
    }

    #[test]
    fn what_comes_after_counts_even_if_this_clock_is_behind() {
        let tally = Tally::default();
        let ahead = Said { at: 1_000_000, enforces: Some("old".to_owned()), refused: None };
        tally.heard(TallyMessage::Change { pod: "p".to_owned(), said: ahead });
        tally.reported("p", ack("new"), 5);
        assert_eq!(tally.of("p").unwrap().enforces.as_deref(), Some("new"));
    }

    #[test]
    fn a_pod_that_is_gone_is_forgotten_but_not_one_that_is_only_not_known_yet() {
        let tally = Tally::default();
        tally.reported("old", ack("x"), 0);
        tally.reported("here", ack("x"), 0);
        tally.reported("new", ack("x"), KEPT_MILLISECONDS);
        tally.retain(|pod| pod == "here", KEPT_MILLISECONDS + 1);
        assert_eq!((tally.of("old"), tally.of("here").is_some(), tally.of("new").is_some()), (None, true, true));
    }

    #[test]
    fn a_long_reason_is_cut() {
        let tally = Tally::default();
        tally.reported("p", nack("one", &"x".repeat(10_000)), 0);
        assert_eq!(tally.of("p").unwrap().refused.unwrap().1.len(), MAX_ERROR_CHARACTERS);
    }

    /// Passes on what each tally has to tell until nobody has anything new. Returns how many messages that took.
    fn gossip(tallies: &[Tally], changes: &mut [broadcast::Receiver<TallyMessage>]) -> usize {
        let mut messages = 0;
        loop {
            let before = messages;
            for (i, changes) in changes.iter_mut().enumerate() {
                while let Ok(change) = changes.try_recv() {
                    messages += 1;
                    tallies.iter().enumerate().filter(|(j, _)| *j != i).for_each(|(_, tally)| tally.heard(change.clone()));
                }
            }
            if messages == before {
                return messages;
            }
        }
    }

    proptest! {
        #[test]
        fn replicas_come_to_agree_on_the_last_word_and_then_fall_silent(
            words in prop::collection::vec((0..3usize, "[pq]", "[a-d]", any::<bool>(), -5..5i64), 1..20),
        ) {
            let tallies = [Tally::default(), Tally::default(), Tally::default()];
            let mut changes: Vec<_> = tallies.iter().map(Tally::changes).collect();
            let mut last = HashMap::new();
            for (i, (replica, pod, sha256, is_ack, skew)) in words.iter().enumerate() {
                let report = if *is_ack { ack(sha256) } else { nack(sha256, "no") };
                tallies[*replica].reported(pod, report, i64::try_from(i).unwrap() + skew);
                last.insert(pod.clone(), tallies[*replica].of(pod));
                let messages = gossip(&tallies, &mut changes);
                prop_assert!(messages <= tallies.len(), "each replica tells it once");
            }
            for (pod, said) in last {
                for tally in &tallies {
                    prop_assert_eq!(&tally.of(&pod), &said);
                }
            }
            let late = Tally::default();
            late.heard(TallyMessage::Tally { pods: tallies[0].subscribe().0 });
            prop_assert_eq!(late.subscribe().0, tallies[0].subscribe().0);
        }
    }
}
