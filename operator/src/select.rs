//! Pure: which policies govern which pod, and the snapshot of each pod.
//!
//! Guarantee: a snapshot is a function of the policies of the namespace and the pod's labels. The order in which policies and
//! pods became known never matters, so every replica computes the same.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use mcp_policy::Snapshot;

use crate::accept::Judged;
use crate::crd::McpPolicy;

/// The policies of the cluster, judged.
#[derive(Clone, Debug, Default)]
pub struct Policies {
    by_namespace: BTreeMap<String, BTreeMap<String, Arc<Judged>>>,
}

impl Policies {
    /// Takes a policy in its present form. True if that changes what sidecars get or who gets a sidecar: a new revision, or
    /// another one in force.
    pub fn apply(&mut self, policy: &McpPolicy) -> bool {
        let namespace = self.by_namespace.entry(policy.namespace().to_owned()).or_default();
        let before = namespace.get(policy.name());
        let judged = Judged::new(policy, before.map(AsRef::as_ref));
        let is_same = before.is_some_and(|before| before.is_same_revision(&judged));
        namespace.insert(policy.name().to_owned(), Arc::new(judged));
        !is_same
    }

    /// Forgets a policy.
    pub fn delete(&mut self, namespace: &str, name: &str) {
        if let Some(policies) = self.by_namespace.get_mut(namespace) {
            policies.remove(name);
            if policies.is_empty() {
                self.by_namespace.remove(namespace);
            }
        }
    }

    /// Keeps only the policies for which `keep(namespace, name)` holds.
    pub fn retain(&mut self, keep: impl Fn(&str, &str) -> bool) {
        self.by_namespace.retain(|namespace, policies| {
            policies.retain(|name, _| keep(namespace, name));
            !policies.is_empty()
        });
    }

    /// The namespaces that have policies, in order.
    pub fn namespaces(&self) -> impl Iterator<Item = &str> {
        self.by_namespace.keys().map(String::as_str)
    }

    /// All policies, by namespace and name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Judged>> {
        self.by_namespace.values().flat_map(BTreeMap::values)
    }

    /// The policies that govern a pod with these labels, by name.
    pub fn governing(&self, namespace: &str, labels: &BTreeMap<String, String>) -> impl Iterator<Item = &Arc<Judged>> {
        self.of(namespace).filter(|policy| policy.governs(labels))
    }

    /// Whether a new pod with these labels needs the sidecar.
    #[must_use]
    pub fn want_sidecar(&self, namespace: &str, labels: &BTreeMap<String, String>) -> bool {
        self.of(namespace).any(|policy| policy.wants_sidecar(labels))
    }

    fn of(&self, namespace: &str) -> impl Iterator<Item = &Arc<Judged>> {
        self.by_namespace.get(namespace).into_iter().flat_map(BTreeMap::values)
    }
}

/// Computes snapshots. Pods that the same policies govern share one, so the work grows with the policies, not with the pods.
#[derive(Debug)]
pub struct Snapshots<'a> {
    policies: &'a Policies,
    by_governing: HashMap<Vec<(&'a str, &'a str)>, Arc<Snapshot>>,
}

impl<'a> Snapshots<'a> {
    /// For these policies.
    #[must_use]
    pub fn new(policies: &'a Policies) -> Self {
        Self { policies, by_governing: HashMap::new() }
    }

    /// The snapshot of a pod.
    pub fn of(&mut self, namespace: &str, labels: &BTreeMap<String, String>) -> Arc<Snapshot> {
        let policies: &'a Policies = self.policies;
        let governing: Vec<_> = policies.governing(namespace, labels).collect();
        let key = governing.iter().map(|policy| (policy.namespace.as_str(), policy.name.as_str())).collect();
        let snapshot = || Arc::new(Snapshot::new(governing.iter().map(|policy| policy.to_snapshot()).collect()));
        Arc::clone(self.by_governing.entry(key).or_insert_with(snapshot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn policy(namespace: &str, name: &str, selector: &Value) -> McpPolicy {
        let mut policy = McpPolicy { spec: json!({ "selector": selector }), ..McpPolicy::default() };
        policy.metadata.namespace = Some(namespace.to_owned());
        policy.metadata.name = Some(name.to_owned());
        policy.metadata.generation = Some(1);
        policy
    }

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn policies(list: &[McpPolicy]) -> Policies {
        let mut policies = Policies::default();
        for policy in list {
            assert!(policies.apply(policy));
            assert!(!policies.apply(policy), "the same again is no change");
        }
        policies
    }

    fn names(snapshot: &Snapshot) -> Vec<String> {
        snapshot.policies.iter().map(|policy| format!("{}/{}", policy.namespace.as_deref().unwrap_or_default(), policy.name)).collect()
    }

    #[test]
    fn a_pod_gets_the_policies_of_its_namespace_that_select_it() {
        let policies = policies(&[
            policy("a", "all", &json!({})),
            policy("a", "web", &json!({ "matchLabels": { "app": "web" } })),
            policy("a", "db", &json!({ "matchExpressions": [{ "key": "app", "operator": "In", "values": ["db"] }] })),
            policy("b", "all", &json!({})),
        ]);
        let mut snapshots = Snapshots::new(&policies);
        assert_eq!(names(&snapshots.of("a", &labels(&[("app", "web")]))), ["a/all", "a/web"]);
        assert_eq!(names(&snapshots.of("a", &labels(&[("app", "db")]))), ["a/all", "a/db"]);
        assert_eq!(names(&snapshots.of("b", &labels(&[]))), ["b/all"]);
        assert_eq!(names(&snapshots.of("c", &labels(&[]))), Vec::<String>::new());
        assert!(policies.want_sidecar("b", &labels(&[])));
        assert!(!policies.want_sidecar("c", &labels(&[])));
    }

    #[test]
    fn pods_under_the_same_policies_share_a_snapshot() {
        let policies = policies(&[policy("a", "all", &json!({}))]);
        let mut snapshots = Snapshots::new(&policies);
        let (one, other) = (snapshots.of("a", &labels(&[("x", "1")])), snapshots.of("a", &labels(&[("x", "2")])));
        assert!(Arc::ptr_eq(&one, &other));
    }

    #[test]
    fn a_namespace_without_policies_is_forgotten() {
        let mut policies = policies(&[policy("a", "p", &json!({})), policy("b", "p", &json!({}))]);
        policies.delete("a", "p");
        assert_eq!(policies.namespaces().collect::<Vec<_>>(), ["b"]);
        policies.retain(|_, _| false);
        assert_eq!(policies.namespaces().count(), 0);
    }

    proptest! {
        #[test]
        fn the_order_of_policies_never_matters(
            list in prop::collection::vec(("[ab]", "[pqr]", prop::option::of("[xy]")), 0..8),
            pod in ("[ab]", prop::option::of("[xy]")),
            seed in any::<prop::sample::Index>(),
        ) {
            let mut list: BTreeMap<_, _> = list.into_iter().map(|(namespace, name, app)| ((namespace, name), app)).collect();
            let list: Vec<_> = std::mem::take(&mut list).into_iter().map(|((namespace, name), app)| {
                policy(&namespace, &name, &app.map_or(json!({}), |app| json!({ "matchLabels": { "app": app } })))
            }).collect();
            let mut turned = list.clone();
            if !turned.is_empty() {
                let middle = seed.index(turned.len());
                turned.rotate_left(middle);
            }
            let labels = pod.1.map(|app| ("app".to_owned(), app)).into_iter().collect();
            let (policies, turned) = (policies(&list), policies(&turned));
            let (one, other) = (Snapshots::new(&policies).of(&pod.0, &labels), Snapshots::new(&turned).of(&pod.0, &labels));
            prop_assert!(one.is_intact());
            prop_assert_eq!(one, other);
        }
    }
}
