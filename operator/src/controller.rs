//! Keeps the [`World`] current and the [`Hub`] with it: watches policies and pods, and publishes snapshots when they have come to
//! rest. Decides nothing itself.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::Api;
use kube::runtime::watcher::Event;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::crd::McpPolicy;
use crate::distribute::Hub;
use crate::metrics::{Metrics, Watched};
use crate::pod::{Pod, WatchedPod};
use crate::select::Snapshots;
use crate::tally::Tally;
use crate::watch::{Selection, Trouble};
use crate::world::{PodKey, PolicyKey, World};

/// Changes that come within this time of each other are published together …
const QUIET: Duration = Duration::from_millis(50);
/// … but none waits longer than this.
const LONGEST: Duration = Duration::from_millis(500);

/// Keeps what this replica knows.
pub struct Controller {
    /// What is known.
    pub world: Arc<World>,
    /// What sidecars get.
    pub hub: Arc<Hub>,
    /// What sidecars said.
    pub tally: Arc<Tally>,
    /// Told after each change.
    pub changed: watch::Sender<()>,
    /// Where failures are counted.
    pub metrics: Metrics,
    /// What is wrong with the watch of policies.
    pub policy_trouble: Trouble,
    /// What is wrong with the watch of pods.
    pub pod_trouble: Trouble,
}

/// What is to be published, and when.
#[derive(Debug, Default)]
struct Pending {
    first: Option<Instant>,
    last: Option<Instant>,
    /// When the first of the policies among it changed.
    policy: Option<Instant>,
}

impl Pending {
    fn add(&mut self, is_policy: bool) {
        let now = Instant::now();
        self.first.get_or_insert(now);
        self.last = Some(now);
        if is_policy {
            self.policy.get_or_insert(now);
        }
    }

    /// When to publish, if there is anything.
    fn due(&self) -> Option<Instant> {
        Some((self.last? + QUIET).min(self.first? + LONGEST))
    }
}

impl Controller {
    /// Runs until its future is dropped.
    pub async fn run(self, client: Client) {
        let policies = Api::<McpPolicy>::all(client.clone());
        let mut policies =
            pin!(crate::watch::watch(policies, Selection::all(), Watched::Policies, &self.metrics, self.policy_trouble.clone()));
        // Ended pods keep their name until they are deleted, and are governed by nobody.
        let living = Selection::fields("status.phase!=Succeeded,status.phase!=Failed");
        let pods = Api::<WatchedPod>::all(client);
        let mut pods = pin!(crate::watch::watch(pods, living, Watched::Pods, &self.metrics, self.pod_trouble.clone()));

        let mut pending = Pending::default();
        let mut listed_policies = HashSet::new();
        let mut listed_pods = HashSet::new();
        loop {
            let due = pending.due().filter(|_| self.world.is_complete());
            tokio::select! {
                Some(event) = policies.next() => {
                    if self.take_policy(event, &mut listed_policies) {
                        pending.add(true);
                    }
                    self.changed.send_replace(());
                }
                Some(event) = pods.next() => {
                    if self.take_pod(event, &mut listed_pods) {
                        pending.add(false);
                        self.changed.send_replace(());
                    }
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.publish(pending.policy);
                    pending = Pending::default();
                    self.changed.send_replace(());
                }
            }
        }
    }

    /// Takes an event about a policy. True if sidecars may have to know.
    fn take_policy(&self, event: Event<McpPolicy>, listed: &mut HashSet<PolicyKey>) -> bool {
        let key = |policy: &McpPolicy| (policy.namespace().to_owned(), policy.name().to_owned());
        match event {
            Event::Init => {
                listed.clear();
                false
            }
            Event::InitApply(policy) => {
                listed.insert(key(&policy));
                self.apply_policy(policy)
            }
            Event::Apply(policy) => self.apply_policy(policy),
            Event::Delete(policy) => {
                self.world.policies_mut().delete(policy.namespace(), policy.name());
                self.world.statuses_mut().remove(&key(&policy));
                tracing::info!(policy.namespace = policy.namespace(), policy.name = policy.name(), "policy deleted");
                true
            }
            Event::InitDone => {
                self.world.policies_mut().retain(|namespace, name| listed.contains(&(namespace.to_owned(), name.to_owned())));
                self.world.statuses_mut().retain(|key, _| listed.contains(key));
                self.world.policies_are_complete();
                true
            }
        }
    }

    fn apply_policy(&self, policy: McpPolicy) -> bool {
        let is_new = self.world.policies_mut().apply(&policy);
        if is_new {
            tracing::info!(
                policy.namespace = policy.namespace(),
                policy.name = policy.name(),
                policy.generation = policy.generation(),
                "policy changed"
            );
        }
        let key = (policy.namespace().to_owned(), policy.name().to_owned());
        match policy.status {
            Some(status) => self.world.statuses_mut().insert(key, status),
            None => self.world.statuses_mut().remove(&key),
        };
        is_new
    }

    /// Takes an event about a pod. True if anything about it has changed that counts here.
    fn take_pod(&self, event: Event<WatchedPod>, listed: &mut HashSet<PodKey>) -> bool {
        let apply = |pod: Pod| {
            let key = (pod.namespace.clone(), pod.name.clone());
            let mut pods = self.world.pods_mut();
            let is_same = pods.get(&key) == Some(&pod);
            if !is_same {
                pods.insert(key, pod);
            }
            !is_same
        };
        match event {
            Event::Init => {
                listed.clear();
                false
            }
            Event::InitApply(pod) => {
                let pod = Pod::from(pod);
                listed.insert((pod.namespace.clone(), pod.name.clone()));
                apply(pod)
            }
            Event::Apply(pod) => apply(pod.into()),
            Event::Delete(pod) => {
                let pod = Pod::from(pod);
                self.world.pods_mut().remove(&(pod.namespace, pod.name)).is_some()
            }
            Event::InitDone => {
                self.world.pods_mut().retain(|key, _| listed.contains(key));
                self.world.pods_are_complete();
                true
            }
        }
    }

    /// Every pod with a sidecar has a feed, whether a policy governs it or not: one that no policy governs any more must learn it.
    fn publish(&self, since: Option<Instant>) {
        let policies = self.world.policies();
        let pods = self.world.pods();
        let mut snapshots = Snapshots::new(&policies);
        let injected = pods.values().filter(|pod| pod.is_injected);
        let of_pods: Vec<_> = injected.map(|pod| (pod, snapshots.of(&pod.namespace, &pod.labels))).collect();
        self.hub.publish(of_pods.iter().map(|(pod, snapshot)| (*pod, snapshot.as_ref())), since);
        let present: HashSet<&str> = of_pods.iter().map(|(pod, _)| pod.uid.as_str()).collect();
        self.tally.retain(|pod| present.contains(pod), Timestamp::now().as_millisecond());
    }
}
