//! What this replica knows of the cluster: its policies and pods, kept current by the controller and read by everybody else.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::crd::PolicyStatus;
use crate::pod::Pod;
use crate::select::Policies;

/// The cluster as this replica knows it.
#[derive(Debug, Default)]
pub struct World {
    policies: RwLock<Policies>,
    statuses: RwLock<HashMap<PolicyKey, PolicyStatus>>,
    pods: RwLock<HashMap<PodKey, Pod>>,
    has_policies: AtomicBool,
    has_pods: AtomicBool,
}

/// Namespace and name of a policy.
pub type PolicyKey = (String, String);
/// Namespace and name of a pod.
pub type PodKey = (String, String);

/// A lock is held for a moment, never while waiting; no code that holds one can panic halfway through a change.
fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    /// The policies.
    pub fn policies(&self) -> RwLockReadGuard<'_, Policies> {
        read(&self.policies)
    }

    /// The policies, to be changed.
    pub fn policies_mut(&self) -> RwLockWriteGuard<'_, Policies> {
        write(&self.policies)
    }

    /// The statuses of the policies as they stand in the cluster.
    pub fn statuses(&self) -> RwLockReadGuard<'_, HashMap<PolicyKey, PolicyStatus>> {
        read(&self.statuses)
    }

    /// The statuses, to be changed.
    pub fn statuses_mut(&self) -> RwLockWriteGuard<'_, HashMap<PolicyKey, PolicyStatus>> {
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

    /// All policies were read.
    pub fn policies_are_complete(&self) {
        self.has_policies.store(true, Ordering::Relaxed);
    }

    /// All pods were read.
    pub fn pods_are_complete(&self) {
        self.has_pods.store(true, Ordering::Relaxed);
    }

    /// Whether all policies were read.
    pub fn has_policies(&self) -> bool {
        self.has_policies.load(Ordering::Relaxed)
    }

    /// Whether all pods were read.
    pub fn has_pods(&self) -> bool {
        self.has_pods.load(Ordering::Relaxed)
    }

    /// Whether all policies and pods were read.
    pub fn is_complete(&self) -> bool {
        self.has_policies() && self.has_pods()
    }
}
