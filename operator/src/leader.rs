//! What only the leading replica does for policies: writes their statuses, and events where somebody has to act.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::events::EventType;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use mcp_policy::PolicyId;

use crate::accept::{Judged, Verdict};
use crate::callers::Material;
use crate::callers::proofs::Proofs;
use crate::crd::{GROUP, Kind, PolicyStatus, StoredPolicy, VERSION};
use crate::distribute::Hub;
use crate::events::Events;
use crate::metrics::{Metrics, PodState, Step};
use crate::names::OPERATOR;
use crate::pod::Pod;
use crate::rollout::{self, Restarts};
use crate::status::{ACCEPTED, CALLERS_PROVABLE, Callers, Coverage, NOT_PROVABLE, status};
use crate::tally::Tally;
use crate::world::World;

/// No policy's status is written more often. Short enough to tell of a mistake within a second.
const PAUSE: Duration = Duration::from_millis(500);
/// Sidecars need this long to find another replica when one goes. A new leader does not take their silence for a change.
const SETTLE: Duration = Duration::from_secs(15);
/// Failed writes are tried again after this time even if nothing changes.
const RETRY: Duration = Duration::from_secs(10);
const REQUEST: Duration = Duration::from_secs(5);
/// Statuses written at one time.
const CONCURRENT: usize = 8;

/// Writes what came of the policies.
pub struct Leader {
    /// How the API server is reached.
    pub client: Client,
    /// Policies, namespaces and pods.
    pub world: Arc<World>,
    /// What each pod should enforce.
    pub hub: Arc<Hub>,
    /// What sidecars say that they enforce.
    pub tally: Arc<Tally>,
    /// Told when policies, namespaces or pods change.
    pub changed: watch::Receiver<()>,
    /// Publishes events.
    pub events: Events,
    /// Where failures are counted.
    pub metrics: Metrics,
}

/// What there is to say of all policies at one moment.
struct View {
    policies: Vec<(Arc<Judged>, Coverage)>,
    /// Pods that are governed and have no sidecar, with the first policy that governs each.
    uncovered: Vec<(Pod, PolicyId)>,
    /// What makes such pods and is to be restarted.
    restarts: Restarts,
}

impl Leader {
    /// Runs until its future is dropped.
    pub async fn run(mut self) {
        let start = Instant::now();
        let mut said = self.tally.changes();
        let mut complained = HashSet::new();
        let mut restarted = Restarts::new();
        loop {
            if self.world.is_complete() && self.hub.is_filled() {
                let view = self.view();
                self.write_statuses(&view, start.elapsed() >= SETTLE).await;
                self.complain(&view, &mut complained).await;
                self.restart(view.restarts, &mut restarted).await;
            }
            sleep(PAUSE).await;
            // What was said since is seen in the next turn.
            let before = std::mem::replace(&mut said, self.tally.changes());
            if !before.is_empty() {
                continue;
            }
            tokio::select! {
                // An error says that the controller has ended, and with it the process.
                _ = self.changed.changed() => {}
                // An error says that much was said at once.
                _ = said.recv() => {}
                () = sleep(RETRY) => {}
            }
        }
    }

    fn view(&self) -> View {
        let digests = self.hub.digests();
        let policies = self.world.policies();
        let mut coverages: HashMap<&PolicyId, Coverage> = HashMap::new();
        let mut uncovered = Vec::new();
        let mut restarts = Restarts::new();
        let mut totals = Coverage::default();
        let mut callers: HashMap<Vec<&PolicyId>, CallersOfPod> = HashMap::new();
        let is_proved = policies.iter().any(|policy| policy.authentication().is_some() || policy.from().is_some());
        for pod in self.world.pods().values().filter(|pod| !pod.is_terminating) {
            let digest = digests.get(&pod.uid).map(AsRef::as_ref);
            let said = self.tally.of(&pod.uid).zip(digest);
            let enforces = said.as_ref().is_some_and(|(said, digest)| said.enforces.as_deref() == Some(*digest));
            let refused = said.as_ref().and_then(|(said, digest)| said.refused.as_ref().filter(|(refused, _)| refused == digest));
            let governing: Vec<_> = policies.governing(&pod.namespace, &pod.labels).collect();
            let Some(first) = governing.first() else { continue };
            totals.selected += 1;
            totals.injected += u32::from(pod.is_injected);
            totals.enforcing += u32::from(pod.is_injected && enforces);
            if !pod.is_injected {
                uncovered.push((pod.clone(), first.id.clone()));
                restarts.extend(rollout::due(pod, governing.iter().copied()));
            }
            let found = is_proved.then(|| {
                let key = governing.iter().map(|policy| &policy.id).collect();
                &*callers.entry(key).or_insert_with(|| CallersOfPod::of(&governing, &policies.callers))
            });
            for policy in governing {
                if let Some(found) = found {
                    found.tell(policy, &mut coverages.entry(&policy.id).or_default().callers);
                }
                let coverage = coverages.entry(&policy.id).or_default();
                coverage.selected += 1;
                coverage.injected += u32::from(pod.is_injected);
                // What a sidecar enforces of a policy that is not accepted is an earlier generation.
                coverage.enforcing += u32::from(pod.is_injected && enforces && policy.is_accepted());
                if let Some((_, error)) = refused
                    && coverage.refused.as_ref().is_none_or(|(name, _)| *name > pod.name)
                {
                    coverage.refused = Some((pod.name.clone(), error.clone()));
                }
            }
        }
        self.metrics.set_pods(PodState::Selected, totals.selected);
        self.metrics.set_pods(PodState::Injected, totals.injected);
        self.metrics.set_pods(PodState::Enforcing, totals.enforcing);
        self.metrics.set_pods(PodState::Uncovered, totals.selected - totals.injected);
        let of = |policy: &Arc<Judged>| {
            let coverage = coverages.get(&policy.id).cloned().unwrap_or_default();
            let coverage = Coverage { shares_counters: policies.store.is_some(), ..coverage };
            match policy.namespace_selector() {
                None => Coverage { namespaces: usize::from(policy.id.namespace().is_some()), ..coverage },
                Some(selector) => Coverage {
                    namespaces: policies.namespaces.selected(selector).count(),
                    left_out: policies.namespaces.left_out(selector).map(str::to_owned).collect(),
                    ..coverage
                },
            }
        };
        View { policies: policies.iter().map(|policy| (Arc::clone(policy), of(policy))).collect(), uncovered, restarts }
    }

    async fn write_statuses(&self, view: &View, is_settled: bool) {
        let now = Timestamp::now();
        let changes: Vec<_> = {
            let statuses = self.world.statuses();
            let changes = view.policies.iter().filter_map(|(policy, coverage)| {
                let before = statuses.get(&policy.id);
                let after = status(policy, coverage, before, now);
                let is_new = before != Some(&after) && (is_settled || !is_silence(before, &after));
                is_new.then(|| (Arc::clone(policy), before.cloned(), after))
            });
            changes.collect()
        };
        let write = |(policy, before, after)| self.write_status(policy, before, after);
        futures::stream::iter(changes).for_each_concurrent(CONCURRENT, write).await;
    }

    async fn write_status(&self, policy: Arc<Judged>, before: Option<PolicyStatus>, after: PolicyStatus) {
        let kind = policy.kind();
        let api = match policy.id.namespace() {
            Some(namespace) => Api::<StoredPolicy>::namespaced_with(self.client.clone(), namespace, &kind),
            None => Api::all_with(self.client.clone(), &kind),
        };
        let body = json!({
            "apiVersion": format!("{GROUP}/{VERSION}"),
            "kind": kind.as_str(),
            // Not another policy that has come under the same name.
            "metadata": { "name": policy.id.name(), "uid": policy.uid },
            "status": after,
        });
        let params = PatchParams::apply(OPERATOR).force();
        match timeout(REQUEST, api.patch_status(policy.id.name(), &params, &Patch::Apply(&body))).await {
            Ok(Ok(_)) => {
                self.world.statuses_mut().insert(policy.id.clone(), after);
                self.tell_invalid(&policy, before.as_ref()).await;
                self.tell_unprovable(&policy, before.as_ref()).await;
            }
            Ok(Err(kube::Error::Api(status))) if status.is_not_found() || status.is_conflict() => {}
            Ok(Err(error)) => self.metrics.failed(Step::Status, &error),
            Err(error) => self.metrics.failed(Step::Status, &error),
        }
    }

    /// An event on a policy, once for each revision that is not accepted.
    async fn tell_invalid(&self, policy: &Judged, before: Option<&PolicyStatus>) {
        let Verdict::Invalid(errors) = &policy.verdict else { return };
        let is_told = before.is_some_and(|before| {
            before.observed_generation == Some(policy.generation)
                && before.conditions.iter().any(|condition| condition.type_ == ACCEPTED && condition.status == "False")
        });
        if !is_told {
            self.events.publish(EventType::Warning, &reference(policy), "Invalid", "Validate", errors).await;
        }
    }

    /// An event on a policy whose callers cannot prove who they are, once for each reason.
    async fn tell_unprovable(&self, policy: &Judged, before: Option<&PolicyStatus>) {
        let trouble = |status: &PolicyStatus| {
            let condition = status.conditions.iter().find(|condition| condition.type_ == CALLERS_PROVABLE)?;
            (condition.reason == NOT_PROVABLE).then(|| condition.message.clone())
        };
        let Some(message) = self.world.statuses().get(&policy.id).and_then(trouble) else { return };
        if before.and_then(trouble).as_ref() != Some(&message) {
            self.events.publish(EventType::Warning, &reference(policy), NOT_PROVABLE, "ProveCallers", &message).await;
        }
    }

    /// An event on each pod that a policy governs and that has no sidecar, once in a leader's time.
    async fn complain(&self, view: &View, complained: &mut HashSet<String>) {
        complained.retain(|uid| view.uncovered.iter().any(|(pod, _)| pod.uid == *uid));
        for (pod, policy) in &view.uncovered {
            if !complained.insert(pod.uid.clone()) {
                continue;
            }
            let note = format!(
                "{} {} selects this pod, but it has no mcp-policy-sidecar: calls reach it unchecked. Replace it: {}",
                Kind::of(policy).as_str(),
                policy.name(),
                pod.mending_command()
            );
            let about = ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                namespace: Some(pod.namespace.clone()),
                name: Some(pod.name.clone()),
                uid: Some(pod.uid.clone()),
                ..ObjectReference::default()
            };
            self.events.publish(EventType::Warning, &about, "NotCovered", "Inject", &note).await;
        }
    }

    /// Restarts what was not restarted for that policy before.
    async fn restart(&self, due: Restarts, restarted: &mut Restarts) {
        restarted.retain(|owner, _| due.contains_key(owner));
        for (owner, policy) in due {
            if restarted.get(&owner) == Some(&policy) {
                continue;
            }
            let note = match timeout(REQUEST, rollout::restart(&self.client, &owner, &policy.uid)).await {
                Ok(Ok(())) => {
                    tracing::info!(policy = %policy.id, %owner, "restarted: its pods are older than the policy");
                    restarted.insert(owner, policy);
                    continue;
                }
                Ok(Err(kube::Error::Api(status))) if status.is_forbidden() => format!(
                    "McpPolicy {} asks for a restart of {owner}, but the operator has no right to it: install the chart with restartOwners=true, or restart it yourself.",
                    policy.id
                ),
                Ok(Err(error)) => {
                    self.metrics.failed(Step::Restart, &error);
                    continue;
                }
                Err(error) => {
                    self.metrics.failed(Step::Restart, &error);
                    continue;
                }
            };
            self.events.publish(EventType::Warning, &owner.reference(), "RestartForbidden", "Restart", &note).await;
            restarted.insert(owner, policy);
        }
    }
}

/// A policy, as events name it.
fn reference(policy: &Judged) -> ObjectReference {
    ObjectReference {
        api_version: Some(format!("{GROUP}/{VERSION}")),
        kind: Some(policy.kind().as_str().to_owned()),
        namespace: policy.id.namespace().map(str::to_owned),
        name: Some(policy.id.name().to_owned()),
        uid: Some(policy.uid.clone()),
        ..ObjectReference::default()
    }
}

/// What the policies of one pod come to for its callers.
struct CallersOfPod {
    found: Callers,
    /// What a `from` names in vain.
    unproved: HashMap<PolicyId, Vec<String>>,
}

impl CallersOfPod {
    fn of(governing: &[&Arc<Judged>], material: &Material) -> Self {
        let proofs = Proofs::of(governing.iter().copied(), material);
        let unproved = governing.iter().map(|policy| (policy.id.clone(), proofs.unproved(policy).collect())).collect();
        let found = Callers { troubles: proofs.troubles().into_iter().collect(), awaited: proofs.awaited().collect() };
        Self { found, unproved }
    }

    /// Adds what is for the author of a policy: of proofs, to those who ask for them.
    fn tell(&self, policy: &Judged, callers: &mut Callers) {
        if policy.authentication().is_some() {
            callers.troubles.extend(self.found.troubles.iter().cloned());
            callers.awaited.extend(self.found.awaited.iter().cloned());
        }
        callers.troubles.extend(self.unproved.get(&policy.id).into_iter().flatten().cloned());
    }
}

/// Whether the new status only says that fewer sidecars were heard of, about the same revision and the same pods.
fn is_silence(before: Option<&PolicyStatus>, after: &PolicyStatus) -> bool {
    before.is_some_and(|before| {
        before.observed_generation == after.observed_generation
            && before.selected == after.selected
            && before.injected == after.injected
            && before.enforcing > after.enforcing
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(generation: i64, selected: u32, enforcing: u32) -> PolicyStatus {
        PolicyStatus {
            observed_generation: Some(generation),
            selected: Some(selected),
            injected: Some(selected),
            enforcing: Some(enforcing),
            ..PolicyStatus::default()
        }
    }

    #[test]
    fn only_fewer_voices_about_the_same_thing_are_silence() {
        let before = counted(1, 2, 2);
        assert!(is_silence(Some(&before), &counted(1, 2, 0)));
        assert!(!is_silence(Some(&before), &counted(2, 2, 0)), "a new revision is news");
        assert!(!is_silence(Some(&before), &counted(1, 3, 2)), "another pod is news");
        assert!(!is_silence(Some(&counted(1, 2, 1)), &counted(1, 2, 2)), "more voices are news");
        assert!(!is_silence(None, &counted(1, 2, 0)));
    }
}
