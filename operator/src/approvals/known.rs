//! The approvals of the cluster as this replica knows them. What is decided about a call is asked of the API server; this is for
//! counting, and for knowing where to begin.

use std::collections::HashMap;
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

/// The approvals that there are.
#[derive(Debug, Default)]
pub struct Known {
    approvals: Mutex<HashMap<Key, Arc<McpApproval>>>,
    changes: watch::Sender<()>,
}

impl Known {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Arc<McpApproval>>> {
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
        self.lock().iter().filter(|((of, _), _)| of == namespace).map(|(_, approval)| Arc::clone(approval)).collect()
    }

    /// The first number whose approval of a call is not known to be over.
    #[must_use]
    pub fn first_open(&self, namespace: &str, base: &str, now: Timestamp) -> u32 {
        let approvals = self.lock();
        let is_over = |number: &u32| {
            let found = approvals.get(&(namespace.to_owned(), format!("{base}-{number}")));
            found.is_some_and(|found| matches!(state(&found.spec, found.status.as_ref(), now), State::Used | State::Expired))
        };
        // Old ones are deleted before new ones, so what is left is a run that may begin anywhere.
        let numbers = approvals
            .keys()
            .filter(|(of, _)| of == namespace)
            .filter_map(|(_, name)| name.strip_prefix(base)?.strip_prefix('-')?.parse().ok());
        let mut number = numbers.min().unwrap_or(1);
        while is_over(&number) {
            number += 1;
        }
        number
    }

    /// Tells of each change, from now on.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Takes note of an approval that this replica has written itself.
    pub fn insert(&self, approval: McpApproval) {
        self.lock().insert(approval.key(), Arc::new(approval));
        self.changes.send_replace(());
    }

    fn take(&self, event: Event<McpApproval>, listed: &mut HashMap<Key, Arc<McpApproval>>) {
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(approval) => _ = listed.insert(approval.key(), Arc::new(approval)),
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
    let mut listed = HashMap::new();
    while let Some(event) = events.next().await {
        known.take(event, &mut listed);
    }
}
