//! What is counted of the shared counter store.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// From a store on the same node to one that is given up.
const BUCKETS: [f64; 10] = [1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 0.1, 0.25];

/// Handles of what is counted of the store. Clones count into the same.
#[derive(Clone, Debug)]
pub struct StoreMetrics {
    duration: Histogram,
    errors: Family<KindLabels, Counter>,
    fallbacks: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

impl Default for StoreMetrics {
    fn default() -> Self {
        Self { duration: Histogram::new(BUCKETS), errors: Family::default(), fallbacks: Counter::default() }
    }
}

impl StoreMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("store_duration_seconds", "Time for the counter store to answer a call", self.duration.clone());
        registry.register("store_errors", "Times the counter store gave no usable answer, by kind", self.errors.clone());
        let help = "Calls that were decided without the counter store, by limits that say local or deny";
        registry.register("store_fallbacks", help, self.fallbacks.clone());
    }

    /// The store answered a call.
    pub fn answered(&self, time: Duration) {
        self.duration.observe(time.as_secs_f64());
    }

    /// The store gave no usable answer.
    pub fn failed(&self, kind: &'static str) {
        self.errors.get_or_create(&KindLabels { kind }).inc();
    }

    /// A call was decided without the store.
    pub fn fell_back(&self) {
        self.fallbacks.inc();
    }
}
