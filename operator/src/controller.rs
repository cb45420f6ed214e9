//! Keeps the [`World`] current and the [`Hub`] with it: watches policies, namespaces and pods, and publishes snapshots when they
//! have come to rest. Decides nothing itself.

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::jiff::Timestamp;
use kube::api::Api;
use kube::runtime::watcher::Event;
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use mcp_policy::PolicyId;

use crate::callers;
use crate::callers::issuers::Issuers;
use crate::callers::secrets::{self, Secrets};
use crate::crd::{Kind, StoredPolicy};
use crate::distribute::Hub;
use crate::metrics::{Metrics, Watched};
use crate::pod::{Pod, WatchedPod};
use crate::select::Snapshots;
use crate::store;
use crate::tally::Tally;
use crate::watch::{Selection, Troubles};
use crate::world::{Part, PodKey, World};

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
    /// What is wrong with the watches.
    pub troubles: Troubles,
    /// Where counters are shared, and in which namespace its Secret is.
    pub store: Option<(store::Settings, String)>,
    /// How callers prove who they are.
    pub callers: callers::Settings,
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
        let (refreshed, keys) = watch::channel(());
        let issuers = Issuers {
            client: client.clone(),
            world: Arc::clone(&self.world),
            changes: self.changed.subscribe(),
            refreshed,
            refresh: self.callers.refresh,
            allow_private: self.callers.allow_private,
            metrics: self.metrics.clone(),
        };
        tokio::join!(self.follow(client, keys), issuers.run());
    }

    /// Follows what is watched, and the keys of issuers.
    async fn follow(&self, client: Client, mut keys: watch::Receiver<()>) {
        let [of_namespaces, of_cluster] = Kind::ALL.map(|kind| self.watch_policies(client.clone(), kind));
        let mut policies = pin!(stream::select(of_namespaces, of_cluster));
        let namespaces = Api::<Namespace>::all(client.clone());
        let mut namespaces = pin!(self.watch(namespaces, Selection::all(), Part::Namespaces));
        // Ended pods keep their name until they are deleted, and are governed by nobody.
        let living = Selection::fields("status.phase!=Succeeded,status.phase!=Failed");
        let mut pods = pin!(self.watch(Api::<WatchedPod>::all(client.clone()), living, Part::Pods));
        let mut store_secrets = pin!(self.watch_secret(client.clone()));
        let mut caller_secrets = pin!(self.watch_caller_secrets(&client));

        let mut pending = Pending::default();
        let mut listed_policies = HashMap::new();
        let mut listed_namespaces = HashSet::new();
        let mut listed_pods = HashSet::new();
        let mut is_secret_listed = false;
        let mut callers = Secrets::new(&self.callers.secret_names);
        callers.mark(&self.world);
        loop {
            let due = pending.due().filter(|_| self.world.is_complete());
            tokio::select! {
                Some((kind, event)) = policies.next() => {
                    if self.take_policy(kind, event, listed_policies.entry(kind).or_default()) {
                        pending.add(true);
                    }
                    self.changed.send_replace(());
                }
                Some(event) = namespaces.next() => {
                    if self.take_namespace(event, &mut listed_namespaces) {
                        pending.add(false);
                        self.changed.send_replace(());
                    }
                }
                Some(event) = pods.next() => {
                    if self.take_pod(event, &mut listed_pods) {
                        pending.add(false);
                        self.changed.send_replace(());
                    }
                }
                Some(event) = store_secrets.next() => {
                    if self.take_secret(event, &mut is_secret_listed) {
                        pending.add(false);
                        self.changed.send_replace(());
                    }
                }
                Some((name, event)) = caller_secrets.next() => {
                    if callers.take(&self.world, &name, event) {
                        pending.add(false);
                        self.changed.send_replace(());
                    }
                }
                Ok(()) = keys.changed() => pending.add(false),
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.publish(pending.policy);
                    pending = Pending::default();
                    self.changed.send_replace(());
                }
            }
        }
    }

    fn watch_policies(&self, client: Client, kind: Kind) -> impl Stream<Item = (Kind, Event<StoredPolicy>)> + use<> {
        let events = self.watch(Api::<StoredPolicy>::all_with(client, &kind), Selection::all(), part_of(kind));
        events.map(move |event| (kind, event))
    }

    fn watch<K>(&self, api: Api<K>, selection: Selection, part: Part) -> impl Stream<Item = Event<K>> + Send + use<K>
    where
        K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        let watched = match part {
            Part::Policies => Watched::Policies,
            Part::ClusterPolicies => Watched::ClusterPolicies,
            Part::Namespaces => Watched::Namespaces,
            Part::Pods => Watched::Pods,
            Part::Store => Watched::StoreSecret,
            // The keys of issuers are asked for, not watched.
            Part::Secrets | Part::Issuers => Watched::CallerSecrets,
        };
        crate::watch::watch(api, selection, watched, &self.metrics, self.troubles.of(part).clone())
    }

    /// The Secret of the counter store; without one, what is known is all there is.
    fn watch_secret(&self, client: Client) -> impl Stream<Item = Event<Secret>> + use<> {
        if let Some((store::Settings { secret: Some(secret), .. }, namespace)) = &self.store {
            let api = Api::namespaced(client, namespace);
            return self.watch(api, Selection::fields(&format!("metadata.name={secret}")), Part::Store).left_stream();
        }
        self.share_counters(None);
        stream::pending().right_stream()
    }

    /// Takes an event about the Secret of the counter store. True if sidecars have to know.
    fn take_secret(&self, event: Event<Secret>, is_listed: &mut bool) -> bool {
        match event {
            Event::Init => {
                *is_listed = false;
                return false;
            }
            Event::InitApply(secret) | Event::Apply(secret) => {
                *is_listed = true;
                self.share_counters(Some(&secret));
            }
            Event::InitDone if *is_listed => return false,
            Event::InitDone | Event::Delete(_) => {
                tracing::warn!("the Secret of the counter store is not there; a store that asks for credentials lets no sidecar in");
                self.share_counters(None);
            }
        }
        true
    }

    fn share_counters(&self, secret: Option<&Secret>) {
        self.world.policies_mut().store = self.store.as_ref().map(|(settings, _)| settings.store(secret));
        self.world.mark_read(Part::Store);
    }

    /// The Secrets with callers' keys and servers' credentials, in all namespaces.
    fn watch_caller_secrets(&self, client: &Client) -> impl Stream<Item = (String, Event<Secret>)> + use<> {
        let watches = self.callers.secret_names.iter().map(|name| {
            let selection = Selection::fields(&format!("metadata.name={name}"));
            (name.clone(), self.watch(Api::<Secret>::all(client.clone()), selection, Part::Secrets))
        });
        secrets::together(watches.collect::<Vec<_>>())
    }

    /// Takes an event about a policy of this kind. True if sidecars may have to know.
    fn take_policy(&self, kind: Kind, event: Event<StoredPolicy>, listed: &mut HashSet<PolicyId>) -> bool {
        match event {
            Event::Init => {
                listed.clear();
                false
            }
            Event::InitApply(policy) => {
                listed.insert(policy.id());
                self.apply_policy(policy)
            }
            Event::Apply(policy) => self.apply_policy(policy),
            Event::Delete(policy) => {
                let id = policy.id();
                self.world.policies_mut().delete(&id);
                self.world.statuses_mut().remove(&id);
                tracing::info!(policy = %id, "policy deleted");
                true
            }
            Event::InitDone => {
                let stays = |id: &PolicyId| Kind::of(id) != kind || listed.contains(id);
                self.world.policies_mut().retain(stays);
                self.world.statuses_mut().retain(|id, _| stays(id));
                self.world.mark_read(part_of(kind));
                true
            }
        }
    }

    fn apply_policy(&self, policy: StoredPolicy) -> bool {
        let is_new = self.world.policies_mut().apply(&policy);
        let (id, generation) = (policy.id(), policy.generation());
        if is_new {
            tracing::info!(policy = %id, policy.generation = generation, "policy changed");
        }
        match policy.status {
            Some(status) => self.world.statuses_mut().insert(id, status),
            None => self.world.statuses_mut().remove(&id),
        };
        is_new
    }

    /// Takes an event about a namespace. True if cluster policies may select another set of them than before.
    fn take_namespace(&self, event: Event<Namespace>, listed: &mut HashSet<String>) -> bool {
        let apply = |namespace: Namespace| {
            let (name, labels) = (name(&namespace), namespace.metadata.labels.unwrap_or_default());
            self.world.policies_mut().namespaces.apply(name, labels)
        };
        match event {
            Event::Init => {
                listed.clear();
                false
            }
            Event::InitApply(namespace) => {
                listed.insert(name(&namespace));
                apply(namespace)
            }
            Event::Apply(namespace) => apply(namespace),
            Event::Delete(namespace) => self.world.policies_mut().namespaces.delete(&name(&namespace)),
            Event::InitDone => {
                self.world.policies_mut().namespaces.retain(|name| listed.contains(name));
                self.world.mark_read(Part::Namespaces);
                true
            }
        }
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
                self.world.mark_read(Part::Pods);
                true
            }
        }
    }

    /// Every pod with a sidecar has a feed, whether a policy governs it or not: one that no policy governs any more must learn it.
    /// Only one whose namespace is not known yet waits for it: a cluster policy may govern it, and must not be left out.
    fn publish(&self, since: Option<Instant>) {
        let policies = self.world.policies();
        let pods = self.world.pods();
        let mut snapshots = Snapshots::new(&policies);
        let injected = pods.values().filter(|pod| pod.is_injected && policies.namespaces.is_known(&pod.namespace));
        let of_pods: Vec<_> = injected.map(|pod| (pod, snapshots.of(&pod.namespace, &pod.labels))).collect();
        self.hub.publish(of_pods.iter().map(|(pod, snapshot)| (*pod, snapshot.as_ref())), since);
        let present: HashSet<&str> = of_pods.iter().map(|(pod, _)| pod.uid.as_str()).collect();
        self.tally.retain(|pod| present.contains(pod), Timestamp::now().as_millisecond());
    }
}

fn part_of(kind: Kind) -> Part {
    match kind {
        Kind::Namespaced => Part::Policies,
        Kind::Cluster => Part::ClusterPolicies,
    }
}

fn name(namespace: &Namespace) -> String {
    namespace.metadata.name.clone().unwrap_or_default()
}
