//! What this replica knows of the cluster: its policies, namespaces and pods, kept current by the controller and read by everybody else.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use mcp_policy::PolicyId;

use crate::crd::PolicyStatus;
use crate::namespaces::Namespaces;
use crate::pod::Pod;
use crate::select::Policies;

/// The cluster as this replica knows it.
#[derive(Debug, Default)]
pub struct World {
    policies: RwLock<Policies>,
    statuses: RwLock<HashMap<PolicyId, PolicyStatus>>,
    pods: RwLock<HashMap<PodKey, Pod>>,
    read: [AtomicBool; Part::ALL.len()],
}

/// Namespace and name of a pod.
pub type PodKey = (String, String);

/// What there is to know. Nothing is decided before all of it was read once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Policies of namespaces.
    Policies,
    /// Policies of the cluster.
    ClusterPolicies,
    /// Namespaces and their labels.
    Namespaces,
    /// Pods.
    Pods,
    /// The Secret of the counter store.
    Store,
    /// The Secrets with callers' keys and servers' credentials.
    Secrets,
    /// The keys of issuers: each was asked for once.
    Issuers,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Policies, Self::ClusterPolicies, Self::Namespaces, Self::Pods, Self::Store, Self::Secrets, Self::Issuers];
}

/// A lock is held for a moment, never while waiting; no code that holds one can panic halfway through a change.
fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    /// Nothing yet, but which namespaces cluster policies never govern.
    #[must_use]
    pub fn new(never_governed: impl IntoIterator<Item = String>) -> Self {
        Self { policies: RwLock::new(Policies::new(Namespaces::new(never_governed))), ..Self::default() }
    }

    /// The policies, and the namespaces that they can select.
    pub fn policies(&self) -> RwLockReadGuard<'_, Policies> {
        read(&self.policies)
    }

    /// The policies, to be changed.
    pub fn policies_mut(&self) -> RwLockWriteGuard<'_, Policies> {
        write(&self.policies)
    }

    /// The statuses of the policies as they stand in the cluster.
    pub fn statuses(&self) -> RwLockReadGuard<'_, HashMap<PolicyId, PolicyStatus>> {
        read(&self.statuses)
    }

    /// The statuses, to be changed.
    pub fn statuses_mut(&self) -> RwLockWriteGuard<'_, HashMap<PolicyId, PolicyStatus>> {
        write(&self.statuses)
    }

    /// The pods that have not ended.
    pub fn pods(&self) -> RwLockReadGuard<'_, HashMap<PodKey, Pod>> {
        read(&self.pods)
    }

    /// The pods, to be changed.
    pub fn pods_mut(&self) -> RwLockWriteGuard<'_, HashMap<PodKey, Pod>> {
        write(&self.pods)
    }

    /// All of a part was read.
    pub fn mark_read(&self, part: Part) {
        self.read[part as usize].store(true, Ordering::Relaxed);
    }

    /// Whether all of a part was read.
    pub fn has(&self, part: Part) -> bool {
        self.read[part as usize].load(Ordering::Relaxed)
    }

    /// Whether all parts were read.
    pub fn is_complete(&self) -> bool {
        Part::ALL.into_iter().all(|part| self.has(part))
    }
}
