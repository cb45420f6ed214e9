//! Pure: the namespaces of the cluster by their labels, and which of them a cluster policy can never govern.

use std::collections::{BTreeMap, BTreeSet};

use mcp_policy::resource::Selector;

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// The namespaces of the cluster.
#[derive(Clone, Debug, Default)]
pub struct Namespaces {
    labels: BTreeMap<String, Labels>,
    never_governed: BTreeSet<String>,
}

impl Namespaces {
    /// None yet. Those of these names are never governed by a cluster policy: a mistake there could stop the cluster.
    #[must_use]
    pub fn new(never_governed: impl IntoIterator<Item = String>) -> Self {
        Self { labels: BTreeMap::new(), never_governed: never_governed.into_iter().collect() }
    }

    /// Takes a namespace in its present form. True if it is new or its labels are.
    pub fn apply(&mut self, name: String, labels: Labels) -> bool {
        self.labels.get(&name) != Some(&labels) && {
            self.labels.insert(name, labels);
            true
        }
    }

    /// Forgets a namespace. True if it was known.
    pub fn delete(&mut self, name: &str) -> bool {
        self.labels.remove(name).is_some()
    }

    /// Keeps only the namespaces for which `keep` holds.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.labels.retain(|name, _| keep(name));
    }

    /// Whether there is a namespace of this name, as far as was read.
    #[must_use]
    pub fn is_known(&self, name: &str) -> bool {
        self.labels.contains_key(name)
    }

    /// The labels of a namespace by which a cluster policy may select it. None if none may, or if it is not known yet.
    #[must_use]
    pub fn governable(&self, name: &str) -> Option<&Labels> {
        self.labels.get(name).filter(|_| !self.never_governed.contains(name))
    }

    /// The namespaces that the selector selects and that can be governed, in order.
    pub fn selected<'a>(&'a self, selector: &'a Selector) -> impl Iterator<Item = &'a str> {
        self.matching(selector).filter(|name| !self.never_governed.contains(*name))
    }

    /// The namespaces that the selector selects in vain, in order.
    pub fn left_out<'a>(&'a self, selector: &'a Selector) -> impl Iterator<Item = &'a str> {
        self.matching(selector).filter(|name| self.never_governed.contains(*name))
    }

    fn matching<'a>(&'a self, selector: &'a Selector) -> impl Iterator<Item = &'a str> {
        self.labels.iter().filter(|(_, labels)| selector.matches(labels)).map(|(name, _)| name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn namespaces() -> Namespaces {
        let mut namespaces = Namespaces::new(["kube-system".to_owned()]);
        for (name, team) in [("a", "one"), ("b", "two"), ("kube-system", "one")] {
            assert!(namespaces.apply(name.to_owned(), labels(&[("team", team)])));
        }
        namespaces
    }

    #[test]
    fn only_a_change_of_labels_is_one() {
        let mut namespaces = namespaces();
        assert!(!namespaces.apply("a".to_owned(), labels(&[("team", "one")])));
        assert!(namespaces.apply("a".to_owned(), labels(&[("team", "two")])));
        assert!(namespaces.delete("a") && !namespaces.delete("a"));
    }

    #[test]
    fn what_is_never_governed_is_selected_in_vain() {
        let namespaces = namespaces();
        for (selector, selected, left_out) in [
            (json!({}), vec!["a", "b"], vec!["kube-system"]),
            (json!({ "matchLabels": { "team": "one" } }), vec!["a"], vec!["kube-system"]),
            (json!({ "matchExpressions": [{ "key": "team", "operator": "NotIn", "values": ["one"] }] }), vec!["b"], vec![]),
        ] {
            let selector: Selector = serde_json::from_value(selector).unwrap();
            assert_eq!(namespaces.selected(&selector).collect::<Vec<_>>(), selected);
            assert_eq!(namespaces.left_out(&selector).collect::<Vec<_>>(), left_out);
        }
        assert!(namespaces.is_known("kube-system") && namespaces.governable("kube-system").is_none());
        assert!(namespaces.governable("a").is_some() && namespaces.governable("unknown").is_none());
    }
}
