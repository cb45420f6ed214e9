//! Pure: what becomes of a policy's present revision, and which revision is in force.
//!
//! A revision is accepted when the sidecar's own code reads and compiles it: accepted means enforceable. While the present one
//! is not, the last accepted one stays in force with all it says, its selector too; a policy of which none was ever accepted
//! refuses every call to the pods that it selects.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use mcp_policy::resource::Selector;
use mcp_policy::snapshot::SnapshotPolicy;
use mcp_policy::{PolicyId, PolicySpec};

use crate::crd::McpPolicy;

/// A policy whose present revision was judged.
#[derive(Clone, Debug)]
pub struct Judged {
    /// Namespace of the policy, and of the pods that it governs.
    pub namespace: String,
    /// Name of the policy.
    pub name: String,
    /// `metadata.uid`: another one is another policy of the same name.
    pub uid: String,
    /// `metadata.generation` of the present revision.
    pub generation: i64,
    /// Whether the present revision can be enforced.
    pub verdict: Verdict,
    /// The last revision that was accepted: the present one if its verdict says so.
    pub in_force: Option<Arc<Revision>>,
    /// The selector of the present revision, if it can be read by itself.
    present_selector: Option<Selector>,
}

/// Whether a revision can be enforced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It can.
    Accepted {
        /// What its author may not have meant. Each names the field.
        warnings: Vec<String>,
    },
    /// It cannot. The text names each field that is wrong.
    Invalid(String),
}

/// A revision that was accepted.
#[derive(Clone, Debug)]
pub struct Revision {
    /// `metadata.generation` of the revision.
    pub generation: i64,
    /// The spec as it was written.
    pub raw: Value,
    /// Whether any rule has a limit.
    pub has_limits: bool,
    spec: PolicySpec,
    warnings: Vec<String>,
}

impl Judged {
    /// Judges the present revision of a policy. `before` is what was said of it when it was last seen.
    #[must_use]
    pub fn new(policy: &McpPolicy, before: Option<&Self>) -> Self {
        let uid = policy.metadata.uid.clone().unwrap_or_default();
        let before = before.filter(|before| before.uid == uid);
        let generation = policy.generation();
        let id = PolicyId::new(Some(policy.namespace()), policy.name());
        let (verdict, in_force) = match Revision::accept(&id, generation, &policy.spec) {
            Ok(revision) => (Verdict::Accepted { warnings: revision.warnings.clone() }, Some(Arc::new(revision))),
            Err(message) => (Verdict::Invalid(message), last_accepted(&id, policy, before)),
        };
        let present_selector = policy.spec.get("selector").and_then(|selector| Selector::deserialize(selector).ok());
        Self {
            namespace: policy.namespace().to_owned(),
            name: policy.name().to_owned(),
            uid,
            generation,
            verdict,
            in_force,
            present_selector,
        }
    }

    /// Whether the present revision was accepted.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        matches!(self.verdict, Verdict::Accepted { .. })
    }

    /// Whether the other is about the same revision of the same policy, with the same one in force.
    #[must_use]
    pub fn is_same_revision(&self, other: &Self) -> bool {
        let in_force = |judged: &Self| judged.in_force.as_ref().map(|revision| revision.generation);
        self.uid == other.uid && self.generation == other.generation && in_force(self) == in_force(other)
    }

    /// Whether the policy governs a pod of its namespace with these labels: by the selector of the revision that is in force.
    #[must_use]
    pub fn governs(&self, labels: &BTreeMap<String, String>) -> bool {
        match (&self.in_force, &self.present_selector) {
            (Some(revision), _) => revision.spec.selector.matches(labels),
            (None, Some(selector)) => selector.matches(labels),
            (None, None) => false,
        }
    }

    /// Whether a new pod with these labels needs the sidecar: the policy governs it, or the selector of the present revision
    /// selects it. The second is what the admission policy of the API server sees, whether we accept the revision or not.
    #[must_use]
    pub fn wants_sidecar(&self, labels: &BTreeMap<String, String>) -> bool {
        self.governs(labels) || self.present_selector.as_ref().is_some_and(|selector| selector.matches(labels))
    }

    /// The policy as the sidecars get it.
    #[must_use]
    pub fn to_snapshot(&self) -> SnapshotPolicy {
        let spec = self.in_force.as_ref().map(|revision| &revision.spec);
        SnapshotPolicy {
            namespace: Some(self.namespace.clone()),
            name: self.name.clone(),
            generation: self.in_force.as_ref().map_or(self.generation, |revision| revision.generation),
            server: spec.map(|spec| spec.server.clone()).unwrap_or_default(),
            document: spec.map(|spec| spec.document.clone()),
        }
    }
}

impl Revision {
    fn accept(id: &PolicyId, generation: i64, raw: &Value) -> Result<Self, String> {
        let spec = mcp_policy::read::spec(raw).map_err(|error| error.to_string())?;
        let policy = mcp_policy::compile(id.clone(), &spec.document).map_err(|errors| {
            let errors: Vec<_> = errors.0.iter().map(|error| format!("spec.{error}")).collect();
            errors.join("; ")
        })?;
        let warnings = policy.warnings().iter().map(|warning| format!("spec.{warning}")).collect();
        Ok(Self { generation, raw: raw.clone(), has_limits: policy.has_limits(), spec, warnings })
    }
}

/// The revision that stays in force: what the leader wrote into the status, once it has judged this very generation, else what
/// this replica remembers, else what the status says. So replicas agree even if one of them missed a revision.
fn last_accepted(id: &PolicyId, policy: &McpPolicy, before: Option<&Judged>) -> Option<Arc<Revision>> {
    let remembered = before.and_then(|before| before.in_force.clone());
    let status = policy.status.as_ref();
    let written = || {
        let revision = status?.last_accepted.as_ref()?;
        if let Some(remembered) = remembered.as_ref().filter(|remembered| remembered.generation == revision.generation) {
            return Some(Arc::clone(remembered));
        }
        // It was accepted once; another build of the operator may read it otherwise, and then it is not enforceable here.
        Revision::accept(id, revision.generation, &revision.spec).ok().map(Arc::new)
    };
    let is_judged = status.and_then(|status| status.observed_generation) == Some(policy.generation());
    if is_judged { written().or_else(|| remembered.clone()) } else { remembered.clone().or_else(written) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::{AcceptedRevision, PolicyStatus};
    use serde_json::json;

    fn policy(generation: i64, spec: Value) -> McpPolicy {
        let mut policy = McpPolicy { spec, ..McpPolicy::default() };
        policy.metadata.namespace = Some("imaging".to_owned());
        policy.metadata.name = Some("calls".to_owned());
        policy.metadata.uid = Some("u1".to_owned());
        policy.metadata.generation = Some(generation);
        policy
    }

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn good() -> Value {
        json!({ "selector": { "matchLabels": { "app": "a" } }, "tools": { "t": { "limits": [{ "counter": "c", "window": "minute", "max": 10 }] } } })
    }

    fn bad() -> Value {
        json!({ "selector": { "matchLabels": { "app": "b" } }, "tools": { "t": { "limits": [{ "counter": "c", "widow": "minute", "max": 10 }] } } })
    }

    #[test]
    fn a_gateways_json_beside_a_selector_is_accepted_unchanged() {
        let mut spec: Value = serde_json::from_str(
            r#"{ "version": "1", "default": "deny",
              "tools": { "start_dicom_export_job": {
                "limits": [ { "counter": "start_dicom_export_job_rate", "window": "minute", "max": 10, "scope": "grant" } ] } } }"#,
        )
        .unwrap();
        spec["selector"] = json!({ "matchLabels": { "app": "healthimaging-mcp" } });
        let judged = Judged::new(&policy(1, spec.clone()), None);
        assert_eq!(judged.verdict, Verdict::Accepted { warnings: vec![] });
        let revision = judged.in_force.unwrap();
        assert_eq!(revision.raw, spec);
        assert!(revision.has_limits);
    }

    #[test]
    fn an_invalid_revision_names_the_field_and_leaves_the_last_accepted_in_force() {
        let first = Judged::new(&policy(1, good()), None);
        let second = Judged::new(&policy(2, bad()), Some(&first));
        let Verdict::Invalid(message) = &second.verdict else { panic!("{:?}", second.verdict) };
        assert!(message.contains("spec.tools.t.limits[0].widow"), "{message}");
        assert_eq!(second.to_snapshot(), first.to_snapshot());
        assert_eq!(second.to_snapshot().generation, 1);
        assert!(second.governs(&labels(&[("app", "a")])), "the selector of the revision in force holds");
        assert!(!second.governs(&labels(&[("app", "b")])));
        assert!(second.wants_sidecar(&labels(&[("app", "b")])), "the API server demands the sidecar by the present selector");
    }

    #[test]
    fn every_wrong_field_of_a_document_is_named_from_spec() {
        let spec = json!({ "selector": {}, "tools": {
            "t": { "limits": [{ "counter": "c", "window": "fortnight", "max": 1 }] },
            "u": { "limits": [{ "counter": "d", "window": "40d", "max": 1 }] } } });
        let Verdict::Invalid(message) = Judged::new(&policy(1, spec), None).verdict else { panic!("accepted") };
        assert!(message.contains("spec.tools.t.limits[0].window") && message.contains("spec.tools.u.limits[0].window"), "{message}");
    }

    #[test]
    fn a_policy_that_was_never_accepted_governs_by_its_selector_and_has_no_document() {
        let judged = Judged::new(&policy(1, bad()), None);
        assert!(judged.governs(&labels(&[("app", "b")])));
        assert_eq!(judged.to_snapshot().document, None);
        let unreadable = Judged::new(&policy(1, json!("nonsense")), None);
        assert!(!unreadable.governs(&labels(&[])), "without a selector there is nothing to govern");
    }

    #[test]
    fn the_last_accepted_revision_survives_a_restart_in_the_status() {
        let mut present = policy(2, bad());
        let last_accepted = Some(AcceptedRevision { generation: 1, spec: good() });
        present.status = Some(PolicyStatus { observed_generation: Some(2), last_accepted, ..PolicyStatus::default() });
        let judged = Judged::new(&present, None);
        assert!(!judged.is_accepted());
        assert_eq!(judged.to_snapshot(), Judged::new(&policy(1, good()), None).to_snapshot());
    }

    #[test]
    fn a_replica_that_saw_another_revision_follows_the_status_once_it_speaks_of_this_generation() {
        let mut other = good();
        other["default"] = json!("allow");
        let remembered = Judged::new(&policy(2, other), None);
        let mut present = policy(3, bad());
        let last_accepted = Some(AcceptedRevision { generation: 1, spec: good() });
        present.status =
            Some(PolicyStatus { observed_generation: Some(2), last_accepted: last_accepted.clone(), ..PolicyStatus::default() });
        assert_eq!(Judged::new(&present, Some(&remembered)).to_snapshot().generation, 2);
        present.status = Some(PolicyStatus { observed_generation: Some(3), last_accepted, ..PolicyStatus::default() });
        assert_eq!(Judged::new(&present, Some(&remembered)).to_snapshot().generation, 1);
    }

    #[test]
    fn a_policy_created_anew_under_the_same_name_inherits_nothing() {
        let first = Judged::new(&policy(1, good()), None);
        let mut anew = policy(1, bad());
        anew.metadata.uid = Some("u2".to_owned());
        assert!(Judged::new(&anew, Some(&first)).in_force.is_none());
    }

    #[test]
    fn warnings_are_kept() {
        let spec = json!({ "selector": {}, "tools": { "t": { "action": "deny", "rateLimit": { "max": 1, "window": "minute" } } } });
        let Verdict::Accepted { warnings } = Judged::new(&policy(1, spec), None).verdict else { panic!("refused") };
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].starts_with("spec.tools.t.rateLimit"), "{warnings:?}");
    }
}
