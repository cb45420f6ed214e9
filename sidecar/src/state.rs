//! What is enforced now, and the counters that outlive it. A change of policy swaps one pointer; a message that is being judged
//! keeps the one it began with.

mod enforced;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use mcp_policy::{Approvals, Call, CounterUsage, Counters, Judged, Outcome, Policies, Reservation};
use tokio::sync::watch;

pub use self::enforced::{ApplyError, Enforced, FilePolicy, Revision, SnapshotId};
use crate::authenticate::Reviews;
use crate::books::store_metrics::StoreMetrics;
use crate::config::OperatorSource;
use crate::store::{self, Answer, Receipt, Store, StoreAddress};

/// A decision, and what it took of shared counters.
#[derive(Debug)]
pub struct Decided {
    /// The decision; what it holds is what was taken in memory.
    pub outcome: Outcome,
    /// What was taken in the store.
    pub receipt: Receipt,
}

/// The enforced policies, the counters and the clock. One for the life of the process.
#[derive(Debug)]
pub struct State {
    enforced: ArcSwap<Enforced>,
    counters: Mutex<Counters>,
    /// Where counters are shared with other sidecars.
    store: ArcSwapOption<Store>,
    store_metrics: StoreMetrics,
    /// What the API server says of callers' tokens; none without an operator.
    reviews: Option<Reviews>,
    started: Instant,
    changes: watch::Sender<()>,
    /// Nanoseconds after `started` when the source last confirmed what is enforced.
    confirmed: AtomicU64,
}

impl Default for State {
    fn default() -> Self {
        Self {
            enforced: ArcSwap::default(),
            counters: Mutex::default(),
            store: ArcSwapOption::empty(),
            store_metrics: StoreMetrics::default(),
            reviews: None,
            started: Instant::now(),
            changes: watch::Sender::new(()),
            confirmed: AtomicU64::new(0),
        }
    }
}

impl State {
    /// Nothing is enforced yet; this operator is to be asked about callers' tokens.
    #[must_use]
    pub fn under(operator: OperatorSource) -> Self {
        Self { reviews: Some(Reviews::new(operator)), ..Self::default() }
    }

    /// What the API server says of callers' tokens; none without an operator.
    #[must_use]
    pub fn reviews(&self) -> Option<&Reviews> {
        self.reviews.as_ref()
    }

    /// What is enforced now. Take it once for each message.
    #[must_use]
    pub fn enforced(&self) -> Arc<Enforced> {
        self.enforced.load_full()
    }

    /// Whether what is enforced is the snapshot, or the file, of this digest.
    #[must_use]
    pub fn enforces(&self, sha256: &str) -> bool {
        self.enforced().snapshot.as_ref().is_some_and(|id| id.sha256 == sha256)
    }

    /// Puts a snapshot in force for every message from now on.
    pub fn apply(&self, enforced: Enforced) {
        for warning in &enforced.warnings {
            tracing::warn!("{warning}");
        }
        self.enforced.store(Arc::new(enforced));
        self.changes.send_replace(());
        self.confirm();
    }

    /// Tells of each change of what is enforced, from now on.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Ends when something else is enforced than this.
    pub async fn changed_from(&self, enforced: &Enforced) {
        let mut changes = self.changes();
        while self.enforced().snapshot == enforced.snapshot {
            changes = next_change(changes).await;
        }
    }

    /// The source still says what is enforced.
    pub fn confirm(&self) {
        let nanos = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.confirmed.store(nanos, Ordering::Relaxed);
    }

    /// Time since the source last confirmed what is enforced; since the start if it never did.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.started.elapsed().saturating_sub(Duration::from_nanos(self.confirmed.load(Ordering::Relaxed)))
    }

    /// Counts in this store from now on, or each sidecar by itself. `namespace` is that of the server. To be called within a tokio
    /// runtime.
    pub fn share_counters(&self, address: Option<StoreAddress>, namespace: &str) {
        // A connection that serves is kept.
        if self.store().as_ref().map(|store| store.address()) != address.as_ref() {
            let open = |address| Arc::new(Store::open(address, namespace, self.store_metrics.clone()));
            self.store.store(address.map(open));
        }
    }

    /// Where counters are shared.
    #[must_use]
    pub fn store(&self) -> Option<Arc<Store>> {
        self.store.load_full()
    }

    /// What is counted of the store.
    #[must_use]
    pub fn store_metrics(&self) -> &StoreMetrics {
        &self.store_metrics
    }

    /// Decides a call by these policies, and reserves: in memory, or in the store. No rule is asked while counters are held or waited
    /// for.
    pub async fn decide(&self, policies: &Policies, call: &Call<'_>) -> Decided {
        self.reserve(policies.judge(call)).await
    }

    async fn reserve(&self, judged: Judged<'_>) -> Decided {
        let Some(store) = self.store() else {
            let outcome = judged.reserve(&mut self.counters(), self.started.elapsed());
            return Decided { outcome, receipt: Receipt::default() };
        };
        let wants = judged.wants();
        if wants.is_empty() {
            return Decided { outcome: judged.conclude(&[]), receipt: Receipt::default() };
        }
        match store.take(&wants).await {
            Ok(Answer { found, receipt }) => Decided { outcome: judged.conclude(&found), receipt },
            Err(error) => {
                tracing::debug!(%error, "a call is decided without the counter store");
                self.store_metrics.fell_back();
                let outcome = judged.without_store(&mut self.counters(), self.started.elapsed(), store::RETRY_AFTER_SECONDS);
                Decided { outcome, receipt: Receipt::default() }
            }
        }
    }

    /// Decides a call anew with what was approved of it, and reserves.
    pub async fn decide_approved(&self, policies: &Policies, call: &Call<'_>, approvals: &Approvals) -> Decided {
        self.reserve(policies.judge(call).approved(approvals)).await
    }

    /// Gives back what a call took that certainly did not run.
    pub fn refund(&self, reservation: Reservation, receipt: &Receipt) {
        self.counters().refund(reservation);
        if let Some(store) = self.store() {
            store.refund(receipt);
        }
    }

    /// How full the counters of the enforced policies are.
    #[must_use]
    pub fn usage(&self) -> Vec<CounterUsage> {
        self.enforced().policies.usage(&mut self.counters(), self.started.elapsed())
    }

    // Never held across an await. The engine does not panic, and if it did, its counters would still be counters.
    fn counters(&self) -> MutexGuard<'_, Counters> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for the next change of what is enforced.
pub async fn next_change(mut changes: watch::Receiver<()>) -> watch::Receiver<()> {
    if changes.changed().await.is_err() {
        // Nothing can change any more.
        std::future::pending::<()>().await;
    }
    changes
}
