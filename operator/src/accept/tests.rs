use super::*;
use crate::crd::{AcceptedRevision, PolicyStatus};
use serde_json::json;

fn policy(generation: i64, spec: Value) -> StoredPolicy {
    let mut policy = cluster_policy(generation, spec);
    policy.metadata.namespace = Some("imaging".to_owned());
    policy
}

fn cluster_policy(generation: i64, spec: Value) -> StoredPolicy {
    let mut policy = StoredPolicy { spec, ..StoredPolicy::default() };
    policy.metadata.name = Some("calls".to_owned());
    policy.metadata.uid = Some("u1".to_owned());
    policy.metadata.generation = Some(generation);
    policy
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn app(value: &str) -> Labels {
    labels(&[("app", value)])
}

/// A pod of the namespace `imaging`.
fn pod(labels: &Labels) -> Place<'_> {
    Place { namespace: "imaging", namespace_labels: None, labels }
}

fn good() -> Value {
    json!({ "selector": { "matchLabels": { "app": "a" } }, "tools": { "t": { "limits": [{ "counter": "c", "window": "minute", "max": 10 }] } } })
}

fn bad() -> Value {
    json!({ "selector": { "matchLabels": { "app": "b" } }, "tools": { "t": { "limits": [{ "counter": "c", "widow": "minute", "max": 10 }] } } })
}

/// "a published policy with these fields can be pasted under `spec:` and works".
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

/// "A policy that does not compile is not accepted, its status says why, and the last accepted revision stays in force".
#[test]
fn an_invalid_revision_names_the_field_and_leaves_the_last_accepted_in_force() {
    let first = Judged::new(&policy(1, good()), None);
    let second = Judged::new(&policy(2, bad()), Some(&first));
    let Verdict::Invalid(message) = &second.verdict else { panic!("{:?}", second.verdict) };
    assert!(message.contains("spec.tools.t.limits[0].widow"), "{message}");
    assert_eq!(second.to_snapshot(), first.to_snapshot());
    assert_eq!(second.to_snapshot().generation, 1);
    assert!(second.governs(pod(&app("a"))), "the selector of the revision in force holds");
    assert!(!second.governs(pod(&app("b"))));
    assert!(second.wants_sidecar(pod(&app("b"))), "the API server demands the sidecar by the present selector");
}

#[test]
fn every_wrong_field_of_a_document_is_named_from_spec() {
    let spec = json!({ "selector": {}, "tools": {
        "t": { "limits": [{ "counter": "c", "window": "fortnight", "max": 1 }] },
        "u": { "limits": [{ "counter": "d", "window": "40d", "max": 1 }] } } });
    let Verdict::Invalid(message) = Judged::new(&policy(1, spec), None).verdict else { panic!("accepted") };
    assert!(message.contains("spec.tools.t.limits[0].window") && message.contains("spec.tools.u.limits[0].window"), "{message}");
}

/// "one that never compiled refuses every call to the pods it selects."
#[test]
fn a_policy_that_was_never_accepted_governs_by_its_selector_and_has_no_document() {
    let judged = Judged::new(&policy(1, bad()), None);
    assert!(judged.governs(pod(&app("b"))));
    assert_eq!(judged.to_snapshot().document, None);
    let unreadable = Judged::new(&policy(1, json!("nonsense")), None);
    assert!(!unreadable.governs(pod(&labels(&[]))), "without a selector there is nothing to govern");
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
    present.status = Some(PolicyStatus { observed_generation: Some(2), last_accepted: last_accepted.clone(), ..PolicyStatus::default() });
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

#[test]
fn the_mode_of_the_revision_in_force_holds() {
    let mut audit = good();
    audit["mode"] = json!("audit");
    let first = Judged::new(&policy(1, audit), None);
    assert_eq!((first.mode(), first.to_snapshot().mode), (Mode::Audit, Mode::Audit));
    let mut enforcing = bad();
    enforcing["mode"] = json!("enforce");
    let second = Judged::new(&policy(2, enforcing), Some(&first));
    assert_eq!(second.to_snapshot().mode, Mode::Audit, "the last accepted document stays in force with its mode");
}

#[test]
fn a_policy_that_was_never_accepted_refuses_whatever_its_mode() {
    let mut audit = bad();
    audit["mode"] = json!("audit");
    let judged = Judged::new(&policy(1, audit), None);
    assert_eq!((judged.mode(), judged.to_snapshot().mode, judged.to_snapshot().document), (Mode::Enforce, Mode::Enforce, None));
}

fn team(value: &str) -> Value {
    json!({ "matchLabels": { "team": value } })
}

/// "A `ClusterMcpPolicy` has `namespaceSelector` as well".
#[test]
fn a_cluster_policy_governs_the_pods_that_both_its_selectors_select() {
    let mut spec = good();
    spec["namespaceSelector"] = team("one");
    let judged = Judged::new(&cluster_policy(1, spec), None);
    assert!(judged.is_accepted(), "{:?}", judged.verdict);
    let snapshot = judged.to_snapshot();
    assert_eq!((snapshot.namespace, snapshot.name.as_str()), (None, "calls"));
    let (one, two) = (labels(&[("team", "one")]), labels(&[("team", "two")]));
    for (namespace_labels, app_label, governed) in
        [(Some(&one), "a", true), (Some(&one), "b", false), (Some(&two), "a", false), (None, "a", false)]
    {
        let labels = app(app_label);
        let pod = Place { namespace: "any", namespace_labels, labels: &labels };
        assert_eq!(judged.governs(pod), governed, "{pod:?}");
    }
}

#[test]
fn a_cluster_policy_that_is_not_accepted_selects_namespaces_as_the_api_server_does() {
    let (mut first, mut second) = (good(), bad());
    first["namespaceSelector"] = team("one");
    second["namespaceSelector"] = team("two");
    let first = Judged::new(&cluster_policy(1, first), None);
    let second = Judged::new(&cluster_policy(2, second), Some(&first));
    let (two, labels) = (labels(&[("team", "two")]), app("b"));
    let pod = Place { namespace: "any", namespace_labels: Some(&two), labels: &labels };
    assert!(!second.governs(pod) && second.wants_sidecar(pod));
    assert_eq!(second.namespace_selectors().count(), 2);
}

#[test]
fn each_kind_wants_its_own_selectors() {
    let Verdict::Invalid(message) = Judged::new(&cluster_policy(1, good()), None).verdict else { panic!("accepted") };
    assert!(message.starts_with("spec.namespaceSelector: is required"), "{message}");
    let mut spec = good();
    spec["namespaceSelector"] = json!({});
    let Verdict::Invalid(message) = Judged::new(&policy(1, spec), None).verdict else { panic!("accepted") };
    assert!(message.starts_with("spec.namespaceSelector"), "{message}");
}
