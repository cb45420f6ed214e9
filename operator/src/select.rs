//! Pure: which policies govern which pod, and the snapshot of each pod.
//!
//! Guarantee: a snapshot is a function of the policies, the labels of the pod's namespace and the pod's own. The order in which
//! all these became known never matters, so every replica computes the same.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use mcp_policy::snapshot::SnapshotStore;
use mcp_policy::{PolicyId, Snapshot};

use crate::accept::{Judged, Place};
use crate::callers::Material;
use crate::callers::proofs::Proofs;
use crate::crd::StoredPolicy;
use crate::namespaces::{Labels, Namespaces};

/// The policies of the cluster, judged, and the namespaces that they can select.
#[derive(Clone, Debug, Default)]
pub struct Policies {
    /// The namespaces.
    pub namespaces: Namespaces,
    /// Where counters are shared.
    pub store: Option<SnapshotStore>,
    /// What callers are proved with.
    pub callers: Material,
    of_cluster: BTreeMap<String, Arc<Judged>>,
    by_namespace: BTreeMap<String, BTreeMap<String, Arc<Judged>>>,
}

impl Policies {
    /// None yet, in these namespaces.
    #[must_use]
    pub fn new(namespaces: Namespaces) -> Self {
        Self { namespaces, ..Self::default() }
    }

    /// Takes a policy in its present form. True if that changes what sidecars get or who gets a sidecar: a new revision, or
    /// another one in force.
    pub fn apply(&mut self, policy: &StoredPolicy) -> bool {
        let id = policy.id();
        let siblings = match id.namespace() {
            Some(namespace) => self.by_namespace.entry(namespace.to_owned()).or_default(),
            None => &mut self.of_cluster,
        };
        let before = siblings.get(id.name());
        let judged = Judged::new(policy, before.map(AsRef::as_ref));
        let is_same = before.is_some_and(|before| before.is_same_revision(&judged));
        siblings.insert(id.name().to_owned(), Arc::new(judged));
        !is_same
    }

    /// Forgets a policy.
    pub fn delete(&mut self, id: &PolicyId) {
        self.retain(|other| other != id);
    }

    /// Keeps only the policies for which `keep` holds.
    pub fn retain(&mut self, keep: impl Fn(&PolicyId) -> bool) {
        self.of_cluster.retain(|_, policy| keep(&policy.id));
        self.by_namespace.retain(|_, policies| {
            policies.retain(|_, policy| keep(&policy.id));
            !policies.is_empty()
        });
    }

    /// All policies: those of the cluster, then the others by namespace and name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Judged>> {
        self.of_cluster.values().chain(self.by_namespace.values().flat_map(BTreeMap::values))
    }

    /// The namespaces in which a new pod may need the sidecar: those that have policies, and those that cluster policies select.
    #[must_use]
    pub fn governed_namespaces(&self) -> BTreeSet<&str> {
        let own = self.by_namespace.keys().map(String::as_str);
        let selectors = self.of_cluster.values().flat_map(|policy| policy.namespace_selectors());
        own.chain(selectors.flat_map(|selector| self.namespaces.selected(selector))).collect()
    }

    /// The policies that govern a pod with these labels: those of the cluster, then those of its namespace, by name.
    pub fn governing<'a: 'b, 'b>(&'a self, namespace: &'b str, labels: &'b Labels) -> impl Iterator<Item = &'a Arc<Judged>> + use<'a, 'b> {
        let place = self.place(namespace, labels);
        self.near(namespace).filter(move |policy| policy.governs(place))
    }

    /// Whether a new pod with these labels needs the sidecar.
    #[must_use]
    pub fn want_sidecar(&self, namespace: &str, labels: &Labels) -> bool {
        let place = self.place(namespace, labels);
        self.near(namespace).any(|policy| policy.wants_sidecar(place))
    }

    fn place<'a>(&'a self, namespace: &'a str, labels: &'a Labels) -> Place<'a> {
        Place { namespace, namespace_labels: self.namespaces.governable(namespace), labels }
    }

    /// The policies that can select pods of a namespace.
    fn near(&self, namespace: &str) -> impl Iterator<Item = &Arc<Judged>> + use<'_> {
        self.of_cluster.values().chain(self.by_namespace.get(namespace).into_iter().flat_map(BTreeMap::values))
    }
}

/// Computes snapshots. Pods that the same policies govern share one, so the work grows with the policies, not with the pods.
#[derive(Debug)]
pub struct Snapshots<'a> {
    policies: &'a Policies,
    by_governing: HashMap<Vec<&'a PolicyId>, Arc<Snapshot>>,
}

impl<'a> Snapshots<'a> {
    /// For these policies.
    #[must_use]
    pub fn new(policies: &'a Policies) -> Self {
        Self { policies, by_governing: HashMap::new() }
    }

    /// The snapshot of a pod.
    pub fn of(&mut self, namespace: &str, labels: &Labels) -> Arc<Snapshot> {
        let policies: &'a Policies = self.policies;
        let governing: Vec<_> = policies.governing(namespace, labels).collect();
        let key = governing.iter().map(|policy| &policy.id).collect();
        let snapshot = || {
            let snapshot = Snapshot::new(governing.iter().map(|policy| policy.to_snapshot()).collect());
            // Where nothing is counted, nobody needs to be let in.
            let counts = governing.iter().any(|policy| policy.has_limits());
            let snapshot = match policies.store.clone().filter(|_| counts) {
                Some(store) => snapshot.counting_in(store),
                None => snapshot,
            };
            Arc::new(match Proofs::of(governing.iter().copied(), &policies.callers).authentication() {
                Some(authentication) => snapshot.proving_callers(authentication),
                None => snapshot,
            })
        };
        Arc::clone(self.by_governing.entry(key).or_insert_with(snapshot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn policy(namespace: &str, name: &str, selector: &Value) -> StoredPolicy {
        let mut policy = StoredPolicy { spec: json!({ "selector": selector }), ..StoredPolicy::default() };
        policy.metadata.namespace = Some(namespace.to_owned());
        policy.metadata.name = Some(name.to_owned());
        policy.metadata.generation = Some(1);
        policy
    }

    fn cluster_policy(name: &str, namespace_selector: &Value, selector: &Value) -> StoredPolicy {
        let mut policy = policy("", name, selector);
        policy.metadata.namespace = None;
        policy.spec["namespaceSelector"] = namespace_selector.clone();
        policy
    }

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    /// These policies, in the namespaces `a` and `c` of team one, `b` of team two, and `kube-system` of team one.
    fn policies(list: &[StoredPolicy]) -> Policies {
        let mut policies = Policies::new(Namespaces::new(["kube-system".to_owned()]));
        for (name, team) in [("a", "one"), ("b", "two"), ("c", "one"), ("kube-system", "one")] {
            policies.namespaces.apply(name.to_owned(), labels(&[("team", team)]));
        }
        for policy in list {
            assert!(policies.apply(policy));
            assert!(!policies.apply(policy), "the same again is no change");
        }
        policies
    }

    fn names(snapshot: &Snapshot) -> Vec<String> {
        snapshot.policies.iter().map(|policy| format!("{}/{}", policy.namespace.as_deref().unwrap_or_default(), policy.name)).collect()
    }

    fn team_one() -> Value {
        json!({ "matchLabels": { "team": "one" } })
    }

    #[test]
    fn a_pod_gets_the_policies_of_the_cluster_and_of_its_namespace() {
        let web = json!({ "matchLabels": { "app": "web" } });
        let policies = policies(&[
            policy("a", "own", &json!({})),
            cluster_policy("guard", &team_one(), &web),
            cluster_policy("wide", &json!({}), &web),
        ]);
        let mut snapshots = Snapshots::new(&policies);
        let mut of = |namespace: &str, app: &str| names(&snapshots.of(namespace, &labels(&[("app", app)])));
        assert_eq!(of("a", "web"), ["/guard", "/wide", "a/own"]);
        assert_eq!(of("a", "db"), ["a/own"]);
        assert_eq!(of("b", "web"), ["/wide"]);
        assert_eq!(of("c", "web"), ["/guard", "/wide"], "a cluster policy can be the only one");
        assert_eq!(of("kube-system", "web"), Vec::<String>::new(), "never governed");
        assert_eq!(of("unknown", "web"), Vec::<String>::new());
        for (namespace, app, wanted) in [("c", "web", true), ("c", "db", false), ("kube-system", "web", false), ("unknown", "web", false)] {
            assert_eq!(policies.want_sidecar(namespace, &labels(&[("app", app)])), wanted, "{namespace} {app}");
        }
    }

    #[test]
    fn the_governed_namespaces_follow_policies_and_labels() {
        let mut policies = policies(&[policy("b", "own", &json!({})), cluster_policy("guard", &team_one(), &json!({}))]);
        let of = |policies: &Policies| policies.governed_namespaces().into_iter().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(of(&policies), ["a", "b", "c"]);
        policies.namespaces.apply("a".to_owned(), labels(&[("team", "two")]));
        assert_eq!(of(&policies), ["b", "c"]);
        assert!(!policies.want_sidecar("a", &labels(&[])));
        policies.namespaces.apply("new".to_owned(), labels(&[("team", "one")]));
        assert_eq!(of(&policies), ["b", "c", "new"]);
        policies.delete(&PolicyId::new(None, "guard"));
        assert_eq!(of(&policies), ["b"]);
        policies.retain(|_| false);
        assert_eq!(of(&policies), Vec::<String>::new());
    }

    /// "`selector`: pods to inject and govern".
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

    proptest! {
        #[test]
        fn the_order_of_policies_never_matters(
            list in prop::collection::vec((prop::option::of("[ab]"), "[pqr]", prop::option::of("[xy]")), 0..8),
            pod in ("[abc]", prop::option::of("[xy]")),
            seed in any::<prop::sample::Index>(),
        ) {
            let list: BTreeMap<_, _> = list.into_iter().map(|(namespace, name, app)| ((namespace, name), app)).collect();
            let list: Vec<_> = list.into_iter().map(|((namespace, name), app)| {
                let selector = app.map_or(json!({}), |app| json!({ "matchLabels": { "app": app } }));
                match namespace {
                    Some(namespace) => policy(&namespace, &name, &selector),
                    None => cluster_policy(&name, &team_one(), &selector),
                }
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
