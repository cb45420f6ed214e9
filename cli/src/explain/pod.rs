//! Which policies govern a running pod, and in which revision: as the operator finds them.

use anyhow::{Context as _, bail};
use mcp_policy::read;
use mcp_policy::resource::Selector;
use mcp_policy::{Policy, PolicyId, PolicySpec};
use serde::Deserialize;
use serde_json::Value;

use crate::kubectl::{Kubectl, Labels, SIDECAR, labels, text};
use crate::loaded::Loaded;

use super::Asked;

/// Asks the cluster for the policies of a pod.
pub fn asked(kubectl: &Kubectl<'_>, name: &str) -> anyhow::Result<Asked> {
    let pod = kubectl.get("pod", name)?;
    let namespace = pod.pointer("/metadata/namespace").and_then(Value::as_str).context("the pod has no namespace")?;
    let mut policies = kubectl.list("mcppolicies.mcp-policy.dev", Some(namespace))?;
    let mut notes = Vec::new();
    let namespace_labels = match of_cluster(kubectl, namespace) {
        Ok((found, labels)) => {
            policies.extend(found);
            labels
        }
        // Who may see a pod may not see what belongs to the cluster. Its policies can only tighten.
        Err(why) if Kubectl::is_forbidden(&why) => {
            notes.push(format!("policies of the cluster cannot be read, and may refuse more than is told here: {why}"));
            Labels::new()
        }
        Err(why) => return Err(why),
    };
    enforced(&pod, namespace, &namespace_labels, &policies, notes)
}

/// The policies of the cluster, and what their selectors of namespaces look at. Without such policies nobody needs the namespace.
fn of_cluster(kubectl: &Kubectl<'_>, namespace: &str) -> anyhow::Result<(Vec<Value>, Labels)> {
    let policies = kubectl.list("clustermcppolicies.mcp-policy.dev", None)?;
    let labels = if policies.is_empty() { Labels::new() } else { labels(&kubectl.get("namespace", namespace)?) };
    Ok((policies, labels))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Namespaced,
    Cluster,
}

impl Kind {
    fn of(policy: &Value) -> Self {
        if policy.pointer("/metadata/namespace").is_some() { Self::Namespaced } else { Self::Cluster }
    }
}

/// A policy of the cluster, judged as the operator judges it.
struct Judged {
    id: PolicyId,
    kind: Kind,
    generation: i64,
    /// The generation that the operator has judged.
    observed: i64,
    in_force: Option<Revision>,
    /// What the present revision selects, if that can be read by itself.
    present: Option<Selection>,
    /// Which revision is in force, and why not the present one.
    account: String,
    /// What the operator says while not all selected pods enforce what is in force.
    unenforced: Option<String>,
}

/// A revision that can be enforced.
struct Revision {
    selection: Selection,
    policy: Policy,
    /// Whether it enforces, and asks callers who they are.
    callers_prove: bool,
}

/// The pods that a revision governs.
struct Selection {
    /// Of a cluster policy: in which namespaces.
    namespaces: Option<Selector>,
    pods: Selector,
}

/// Chooses among the policies of the pod's namespace and of the cluster as the operator does.
fn enforced(pod: &Value, namespace: &str, namespace_labels: &Labels, policies: &[Value], mut notes: Vec<String>) -> anyhow::Result<Asked> {
    let name = text(pod, "/metadata/name").to_owned();
    let pod_labels = labels(pod);
    let mut each = Vec::new();
    let mut governing: Vec<_> = policies.iter().map(Judged::new).filter(|judged| judged.governs(namespace_labels, &pod_labels)).collect();
    governing.sort_by(|a, b| a.id.cmp(&b.id));
    if governing.is_empty() && !has_sidecar(pod) {
        bail!(
            "pod {name} of namespace {namespace} is not governed: no policy selects it, and it has no sidecar, so every call reaches its server"
        );
    }
    let callers_prove = governing.iter().filter_map(|judged| judged.in_force.as_ref()).any(|revision| revision.callers_prove);
    for judged in governing {
        let Judged { id, generation, observed, in_force, account, unenforced, .. } = judged;
        notes.push(account);
        if observed != generation {
            notes.push(format!("{id}: the operator has not judged generation {generation} yet; the pod may enforce an older one"));
        } else if let Some(message) = unenforced {
            notes.push(format!("{id}: {message}"));
        }
        each.push(in_force.map_or_else(|| Policy::refusing(id), |revision| revision.policy));
    }
    if !has_sidecar(pod) {
        notes.push(format!("the pod has no container {SIDECAR}: nothing of this is enforced until it is created anew"));
    }
    notes.push("what the pod's counters hold is not known here; they are taken as empty".to_owned());
    Ok(Asked { loaded: Loaded::of_cluster(each, callers_prove), namespace: namespace.to_owned(), name, notes })
}

impl Judged {
    /// The present revision is in force if it can be enforced, else the last one that was accepted.
    fn new(object: &Value) -> Self {
        let kind = Kind::of(object);
        let number = |pointer| object.pointer(pointer).and_then(Value::as_i64).unwrap_or_default();
        let id = PolicyId::new((kind == Kind::Namespaced).then(|| text(object, "/metadata/namespace")), text(object, "/metadata/name"));
        let generation = number("/metadata/generation");
        let spec = object.get("spec").unwrap_or(&Value::Null);
        let last = || object.pointer("/status/lastAccepted/spec").and_then(|spec| Revision::accept(&id, kind, spec).ok());
        let (in_force, account) = match Revision::accept(&id, kind, spec) {
            Ok(revision) => (Some(revision), format!("{id}: generation {generation} is in force")),
            Err(why) => match last() {
                Some(revision) => {
                    let last = number("/status/lastAccepted/generation");
                    (Some(revision), format!("{id}: generation {last} is in force, for generation {generation} is not accepted: {why}"))
                }
                None => (None, format!("{id}: no revision was ever accepted, so it refuses every call: {why}")),
            },
        };
        let selector = |field: &str| Selector::deserialize(spec.get(field)?).ok();
        let present = selector("selector").map(|pods| Selection { namespaces: selector("namespaceSelector"), pods });
        let mut conditions = object.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
        let unenforced = conditions
            .find(|condition| text(condition, "/type") == "Programmed" && text(condition, "/status") != "True")
            .map(|condition| text(condition, "/message").to_owned());
        Self { kind, generation, observed: number("/status/observedGeneration"), in_force, present, account, unenforced, id }
    }

    fn governs(&self, namespace: &Labels, pod: &Labels) -> bool {
        let selection = self.in_force.as_ref().map(|revision| &revision.selection).or(self.present.as_ref());
        selection.is_some_and(|Selection { namespaces, pods }| {
            let is_here = self.kind == Kind::Namespaced || namespaces.as_ref().is_some_and(|selector| selector.matches(namespace));
            is_here && pods.matches(pod)
        })
    }
}

impl Revision {
    fn accept(id: &PolicyId, kind: Kind, spec: &Value) -> Result<Self, String> {
        let read = match kind {
            Kind::Namespaced => read::spec(spec).map(|spec| (None, spec)),
            Kind::Cluster => read::cluster_spec(spec).map(|spec| (Some(spec.namespace_selector), spec.policy)),
        };
        let (namespaces, PolicySpec { selector: pods, server, from, mode, document, .. }) = read.map_err(|errors| errors.to_string())?;
        let policy = mcp_policy::compile_resource(id.clone(), from.as_deref(), mode, &document)
            .map_err(|errors| errors.0.iter().map(|error| format!("spec.{error}")).collect::<Vec<_>>().join("; "))?;
        let callers_prove = mode.is_enforce() && server.authentication.is_some();
        Ok(Self { selection: Selection { namespaces, pods }, policy, callers_prove })
    }
}

/// Sidecars are init containers that keep running.
fn has_sidecar(pod: &Value) -> bool {
    let containers = |field: &str| pod.pointer(field).and_then(Value::as_array).into_iter().flatten();
    containers("/spec/initContainers")
        .chain(containers("/spec/containers"))
        .any(|container| container.get("name").is_some_and(|name| name == SIDECAR))
}
