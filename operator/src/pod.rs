//! Pure: what the operator needs to know of a pod, and nothing else of it, so that thousands fit into little memory.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::core::NamespaceResourceScope;
use serde::Deserialize;

/// Name of the init container that loads the ruleset.
pub const CAPTURE: &str = "mcp-policy-capture";
/// Name of the native sidecar.
pub const SIDECAR: &str = "mcp-policy-sidecar";

/// A pod as the watch reads it: every other field is dropped while it is decoded.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct WatchedPod {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: WatchedSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WatchedSpec {
    #[serde(default)]
    init_containers: Vec<WatchedContainer>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WatchedContainer {
    #[serde(default)]
    name: String,
    #[serde(default)]
    restart_policy: Option<String>,
}

impl kube::Resource for WatchedPod {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind(&(): &()) -> Cow<'_, str> {
        "Pod".into()
    }
    fn group(&(): &()) -> Cow<'_, str> {
        "".into()
    }
    fn version(&(): &()) -> Cow<'_, str> {
        "v1".into()
    }
    fn plural(&(): &()) -> Cow<'_, str> {
        "pods".into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// A pod as the operator keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it has the native sidecar.
    pub is_injected: bool,
    /// Whether it is being deleted: it is then neither counted nor complained of, but still served.
    pub is_terminating: bool,
    /// What makes its successor.
    owner: Option<Owner>,
}

/// What makes pods.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// `Deployment`, `StatefulSet`, `Job`, …
    pub kind: String,
    /// Its name, in the namespace of the pod.
    pub name: String,
}

impl From<WatchedPod> for Pod {
    fn from(pod: WatchedPod) -> Self {
        let WatchedPod { metadata, spec } = pod;
        let labels = metadata.labels.unwrap_or_default();
        let owner = metadata.owner_references.unwrap_or_default().into_iter().find(|owner| owner.controller == Some(true));
        Self {
            owner: owner.map(|owner| Owner::new(owner, labels.get("pod-template-hash"))),
            namespace: metadata.namespace.unwrap_or_default(),
            name: metadata.name.unwrap_or_default(),
            uid: metadata.uid.unwrap_or_default(),
            is_injected: spec
                .init_containers
                .iter()
                .any(|container| container.name == SIDECAR && container.restart_policy.as_deref() == Some("Always")),
            is_terminating: metadata.deletion_timestamp.is_some(),
            labels,
        }
    }
}

impl Owner {
    /// A `ReplicaSet` that a `Deployment` made is named after it and the hash of its template: so the `Deployment` is known
    /// without a right to read it.
    fn new(owner: OwnerReference, template_hash: Option<&String>) -> Self {
        if owner.kind == "ReplicaSet"
            && let Some(deployment) = template_hash.and_then(|hash| owner.name.strip_suffix(hash.as_str())?.strip_suffix('-'))
        {
            return Self { kind: "Deployment".to_owned(), name: deployment.to_owned() };
        }
        Self { kind: owner.kind, name: owner.name }
    }
}

impl Pod {
    /// What can be told to replace its pods one after the other, if the pod belongs to such.
    #[must_use]
    pub fn restartable_owner(&self) -> Option<&Owner> {
        self.owner.as_ref().filter(|owner| ["Deployment", "StatefulSet", "DaemonSet"].contains(&owner.kind.as_str()))
    }

    /// What runs in it, the same for all pods of one workload: what owns the pod, as `Deployment/web`; else the pod itself.
    #[must_use]
    pub fn workload(&self) -> String {
        match &self.owner {
            Some(Owner { kind, name }) => format!("{kind}/{name}"),
            None => format!("Pod/{}", self.name),
        }
    }

    /// The command that replaces a pod that runs without the sidecar by one that has it.
    #[must_use]
    pub fn mending_command(&self) -> String {
        let Self { namespace, name, owner, .. } = self;
        if let Some(Owner { kind, name }) = self.restartable_owner() {
            return format!("kubectl rollout restart {}/{name} -n {namespace}", kind.to_lowercase());
        }
        match owner {
            Some(_) => format!("kubectl delete pod {name} -n {namespace}"),
            None => format!("kubectl get pod {name} -n {namespace} -o yaml | kubectl replace --force -f -"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(value: Value) -> Pod {
        serde_json::from_value::<WatchedPod>(value).unwrap().into()
    }

    fn owned_by(kind: &str, name: &str, labels: &Value) -> Pod {
        let owner = json!({ "apiVersion": "apps/v1", "kind": kind, "name": name, "uid": "1", "controller": true });
        pod(json!({ "metadata": { "namespace": "n", "name": "p", "labels": labels, "ownerReferences": [owner] } }))
    }

    #[test]
    fn a_pod_is_injected_only_with_a_native_sidecar_of_our_name() {
        let with = |init: Value| pod(json!({ "metadata": {}, "spec": { "initContainers": init } })).is_injected;
        assert!(with(json!([{ "name": "mcp-policy-capture" }, { "name": "mcp-policy-sidecar", "restartPolicy": "Always" }])));
        assert!(!with(json!([{ "name": "mcp-policy-sidecar" }])));
        assert!(!with(json!([])));
        assert!(
            !pod(json!({ "metadata": {}, "spec": { "containers": [{ "name": "mcp-policy-sidecar", "restartPolicy": "Always" }] } }))
                .is_injected
        );
    }

    #[test]
    fn the_mending_command_restarts_what_owns_the_pod() {
        let hashed = json!({ "pod-template-hash": "5d4f" });
        let cases = [
            (owned_by("ReplicaSet", "web-5d4f", &hashed), "kubectl rollout restart deployment/web -n n"),
            (owned_by("ReplicaSet", "web", &json!({})), "kubectl delete pod p -n n"),
            (owned_by("StatefulSet", "db", &json!({})), "kubectl rollout restart statefulset/db -n n"),
            (owned_by("DaemonSet", "agent", &json!({})), "kubectl rollout restart daemonset/agent -n n"),
            (owned_by("Job", "once", &json!({})), "kubectl delete pod p -n n"),
            (
                pod(json!({ "metadata": { "namespace": "n", "name": "p" } })),
                "kubectl get pod p -n n -o yaml | kubectl replace --force -f -",
            ),
        ];
        for (pod, command) in cases {
            assert_eq!(pod.mending_command(), command);
        }
    }

    #[test]
    fn a_pod_that_is_being_deleted_says_so() {
        assert!(pod(json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" } })).is_terminating);
        assert!(!pod(json!({ "metadata": {} })).is_terminating);
    }
}
