//! The approvals of the cluster as this replica knows them. What is decided about a call is asked of the API server; this is for
//! counting, and for knowing where to begin.
//!
//! However many wait, a call looks only at those of its own name: they are kept in order.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::Api;
use kube::runtime::watcher::Event;
use tokio::sync::watch;

use super::resource::{McpApproval, State};
use super::state::state;
use crate::metrics::{Metrics, Watched};
use crate::watch::{Selection, Trouble, watch};

/// Namespace and name of an approval.
pub type Key = (String, String);

type Approvals = BTreeMap<Key, Arc<McpApproval>>;

/// The approvals that there are.
#[derive(Debug, Default)]
pub struct Known {
    approvals: Mutex<Approvals>,
    changes: watch::Sender<()>,
}

/// Those of a namespace whose names begin so, without the beginning.
fn beginning<'a>(approvals: &'a Approvals, namespace: &'a str, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a Arc<McpApproval>)> {
    approvals
        .range((namespace.to_owned(), prefix.to_owned())..)
        .map_while(move |((of, name), approval)| Some((name.strip_prefix(prefix).filter(|_| of == namespace)?, approval)))
}

impl Known {
    fn lock(&self) -> MutexGuard<'_, Approvals> {
        self.approvals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<McpApproval>> {
        self.lock().values().cloned().collect()
    }

    /// Those of a namespace.
    #[must_use]
    pub fn of_namespace(&self, namespace: &str) -> Vec<Arc<McpApproval>> {
        beginning(&self.lock(), namespace, "").map(|(_, approval)| Arc::clone(approval)).collect()
    }

    /// The first number whose approval of a call is not known to be over.
    #[must_use]
    pub fn first_open(&self, namespace: &str, base: &str, now: Timestamp) -> u32 {
        let approvals = self.lock();
        let prefix = format!("{base}-");
        let of_call = beginning(&approvals, namespace, &prefix).filter_map(|(number, found)| Some((number.parse::<u32>().ok()?, found)));
        let is_over = |found: &McpApproval| matches!(state(&found.spec, found.status.as_ref(), now), State::Used | State::Expired);
        // A new one is made only when all before it are over.
        of_call.filter(|(_, found)| is_over(found)).map(|(number, _)| number + 1).max().unwrap_or(1)
    }

    /// Whether people are known to have answered about this approval, or not to be asked any more. One of which nothing was heard yet is
    /// waited for.
    #[must_use]
    pub fn is_decided(&self, key: &Key, now: Timestamp) -> bool {
        self.lock().get(key).is_some_and(|known| state(&known.spec, known.status.as_ref(), now) != State::Pending)
    }

    /// Tells of each change, from now on.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Takes note of an approval, unless a newer version of it is known: what this replica writes itself it hears of twice, in any order.
    pub fn insert(&self, mut approval: McpApproval) {
        approval.metadata.managed_fields = None;
        // Versions of one object are numbers that grow.
        let version = |approval: &McpApproval| approval.metadata.resource_version.as_ref().and_then(|version| version.parse::<u64>().ok());
        let mut approvals = self.lock();
        let is_old = approvals
            .get(&approval.key())
            .is_some_and(|known| known.metadata.uid == approval.metadata.uid && version(known) > version(&approval));
        if !is_old {
            approvals.insert(approval.key(), Arc::new(approval));
        }
        drop(approvals);
        self.changes.send_replace(());
    }

    fn take(&self, event: Event<McpApproval>, listed: &mut Approvals) {
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(mut approval) => {
                approval.metadata.managed_fields = None;
                listed.insert(approval.key(), Arc::new(approval));
            }
            Event::InitDone => *self.lock() = std::mem::take(listed),
            Event::Apply(approval) => return self.insert(approval),
            Event::Delete(approval) => _ = self.lock().remove(&approval.key()),
        }
        self.changes.send_replace(());
    }
}

/// Follows the approvals of the cluster. Runs until its future is dropped.
pub async fn follow(client: Client, known: Arc<Known>, metrics: Metrics) {
    let mut events = pin!(watch(Api::all(client), Selection::all(), Watched::Approvals, &metrics, Trouble::default()));
    let mut listed = Approvals::new();
    while let Some(event) = events.next().await {
        known.take(event, &mut listed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::approvals::resource::ApprovalStatus;
    use crate::approvals::state::tests::approval;

    #[test]
    fn what_is_heard_late_changes_nothing_and_the_next_number_follows_the_last_that_is_over() {
        let known = Known::default();
        let now = Timestamp::from_second(0).unwrap();
        let insert = |number: u32, version: u32, used: bool| {
            let mut approval = approval(100);
            approval.metadata.name = Some(format!("a-{number}"));
            approval.metadata.resource_version = Some(version.to_string());
            approval.status =
                used.then(|| ApprovalStatus { used_at: Some("1970-01-01T00:00:00Z".to_owned()), ..ApprovalStatus::default() });
            known.insert(approval);
        };
        assert_eq!(known.first_open("imaging", "a", now), 1);
        insert(1, 9, true);
        assert_eq!(known.first_open("imaging", "a", now), 2);
        insert(1, 8, false);
        assert_eq!(known.first_open("imaging", "a", now), 2, "an older version came late");
        insert(40, 100, true);
        insert(41, 99, false);
        assert_eq!((known.first_open("imaging", "a", now), known.first_open("other", "a", now)), (41, 1));
    }
}
