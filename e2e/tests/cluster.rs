//! Policies of the cluster: which namespaces they govern, and that those can only tighten.

use mcp_policy_e2e::{
    client::Client,
    cluster::{SYSTEM, command, kubectl, run},
    cluster_policy::ClusterPolicy,
    sandbox::{Sandbox, bare},
    wait::until_true,
};
use serde_json::json;

const SELECTOR: &str = "selector: {matchLabels: {app: healthimaging-mcp}}";

/// What a cluster policy says that selects namespaces by the label `team`.
fn of_team(team: &str, document: &str) -> String {
    format!("namespaceSelector: {{matchLabels: {{team: {team}}}}}, {SELECTOR}, {document}")
}

#[test]
fn a_cluster_policy_governs_the_namespaces_that_it_selects_and_their_own_policies_only_tighten() {
    let (plain, tight, other) = (Sandbox::new("cluster-plain"), Sandbox::new("cluster-tight"), Sandbox::new("cluster-other"));
    let team = plain.namespace().to_owned();
    plain.label(&format!("team={team}"));
    tight.label(&format!("team={team}"));
    let document = "default: allow, tools: {delete_image_set: {action: deny, reason: the platform forbids it}}";
    let guard = ClusterPolicy::new(&team, &of_team(&team, document));
    tight
        .policy("own", &format!("{SELECTOR}, default: allow, tools: {{delete_image_set: {{}}, list_dicom_export_jobs: {{action: deny}}}}"));
    let (plain_pod, tight_pod, other_pod) = (plain.imaging(), tight.imaging(), other.imaging());
    guard.until_programmed(2);
    tight.until_programmed("own");
    assert!(plain_pod.injected() && tight_pod.injected());
    assert!(!other_pod.injected(), "a namespace without the label is governed");

    let (none, image_set) = (json!({}), json!({"image_set_id": "i-0001"}));
    for (pod, exports_pass) in [(&plain_pod, true), (&tight_pod, false)] {
        let (mut agent, _way) = pod.agent(Client::Python2);
        let refused = agent.call("delete_image_set", &image_set);
        assert_eq!((refused.code(), &refused.denial()["policy"]), ("tool_denied", &json!(team)), "{refused:?}");
        assert!(refused.text().contains("the platform forbids it"), "{refused:?}");
        assert!(agent.call("list_datastores", &none).passed());
        let exports = agent.call("list_dicom_export_jobs", &none);
        assert_eq!(exports.passed(), exports_pass, "{exports:?}");
        if !exports_pass {
            assert_eq!(exports.denial()["policy"], format!("{}/own", tight.namespace()));
        }
        let listed = agent.list();
        assert!(!listed.contains(&"delete_image_set".to_owned()), "{listed:?}");
        assert_eq!(listed.contains(&"list_dicom_export_jobs".to_owned()), exports_pass, "{listed:?}");
    }
    let executed = |tool: &str| (tool.to_owned(), 1);
    assert_eq!(plain_pod.executions(), [executed("list_datastores"), executed("list_dicom_export_jobs")].into());
    assert_eq!(tight_pod.executions(), [executed("list_datastores")].into());

    let columns = kubectl(&["get", "cmcpp", &guard.name, "--no-headers"]);
    let columns: Vec<_> = columns.split_whitespace().collect();
    assert_eq!(columns[..6], [&team, "enforce", "True", "True", "2", "2"], "{columns:?}");
}

#[test]
fn a_namespace_is_governed_when_it_gets_the_label_and_refuses_when_it_loses_it() {
    let sandbox = Sandbox::new("cluster-label");
    let team = sandbox.namespace().to_owned();
    let guard = ClusterPolicy::new(&team, &of_team(&team, "tools: {list_datastores: {}}"));
    let message = guard.until_condition("Accepted", "True");
    assert!(message.contains("matches no namespace"), "{message}");
    let pod = sandbox.imaging();
    assert!(!pod.injected());

    sandbox.label(&format!("team={team}"));
    until_true("the older pod's event names the policy and the command", || {
        let events = sandbox.kubectl(&["get", "events", "-o", "jsonpath={range .items[*]}{.involvedObject.name} {.message}{\"\\n\"}{end}"]);
        let about = format!("{} ClusterMcpPolicy {team} selects this pod", pod.name);
        events.lines().any(|line| line.starts_with(&about) && line.contains("kubectl rollout restart deployment/healthimaging-mcp"))
    });
    sandbox.kubectl(&["rollout", "restart", "deployment/healthimaging-mcp"]);
    let pod = sandbox.rolled_out("healthimaging-mcp");
    assert!(pod.injected());
    until_true("only the new pod is left", || sandbox.kubectl(&["get", "pods", "-o", "name"]).lines().count() == 1);
    guard.until_programmed(1);
    let (mut agent, _way) = pod.agent(Client::TypeScript1);
    assert!(agent.call("list_datastores", &json!({})).passed());
    assert_eq!(agent.call("list_dicom_export_jobs", &json!({})).code(), "default_deny");

    sandbox.label("team-");
    let mut passed = 1;
    until_true("calls are refused with no_policy", || {
        let answer = agent.call("list_datastores", &json!({}));
        passed += usize::from(answer.passed());
        answer.code() == "no_policy"
    });
    assert_eq!(pod.executions(), [("list_datastores".to_owned(), passed)].into());
    // The API server knows of the label a moment later.
    until_true("a new pod is no longer governed", || {
        let _ = sandbox.try_kubectl(&["delete", "pod", "late", "--ignore-not-found", "--grace-period=0", "--force"]);
        sandbox.try_apply(&bare("late", "app: healthimaging-mcp", "sleep 1")).is_ok() && !sandbox.pod("late").injected()
    });
}

#[test]
fn the_first_pod_of_a_namespace_that_is_younger_than_the_policy_is_governed() {
    let sandbox = Sandbox::new("cluster-before");
    let team = sandbox.namespace().to_owned();
    let guard = ClusterPolicy::new(&team, &of_team(&team, "tools: {list_datastores: {}}"));
    guard.until_condition("Accepted", "True");
    let young = Sandbox::labelled("cluster-young", &format!("team: {team}"));
    let pod = young.imaging();
    assert!(pod.injected());
    guard.until_programmed(1);
    let (mut agent, _way) = pod.agent(Client::Python2);
    assert_eq!(agent.call("delete_image_set", &json!({"image_set_id": "i-0001"})).code(), "default_deny");
    assert_eq!(pod.executions(), [].into());
}

#[test]
fn namespaces_that_the_cluster_needs_are_selected_in_vain_and_the_status_says_so() {
    let sandbox = Sandbox::new("cluster-system");
    let guard = ClusterPolicy::new(
        sandbox.namespace(),
        &format!(
            "namespaceSelector: {{matchExpressions: [{{key: kubernetes.io/metadata.name, operator: In, values: [kube-system, {SYSTEM}]}}]}}, selector: {{}}"
        ),
    );
    let message = guard.until_condition("Accepted", "True");
    assert!(message.contains("Selected in vain") && message.contains(&format!("kube-system, {SYSTEM}")), "{message}");
    assert_eq!(guard.get()["status"]["selected"], 0);
    for namespace in ["kube-system", SYSTEM] {
        let mut create = command("kubectl");
        create.args(["-n", namespace, "create", "--dry-run=server", "-o", "json", "-f", "-"]);
        let created =
            run(&mut create, Some(bare("new", "app: healthimaging-mcp", "sleep 1").as_bytes())).unwrap_or_else(|why| panic!("{why}"));
        assert!(!created.contains("mcp-policy-sidecar"), "a pod of {namespace} was injected: {created}");
    }
}
