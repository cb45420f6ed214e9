//! The operator goes away, comes back, is uninstalled. These tests disturb each other and are run one after the other.

use std::sync::{Mutex, MutexGuard, PoisonError};

use mcp_policy_e2e::{
    client::Client,
    cluster::{SYSTEM, command, kubectl, reinstall, root, run, try_kubectl},
    cluster_policy::ClusterPolicy,
    sandbox::{Sandbox, bare},
    wait::until_true,
};
use serde_json::json;

const OPERATOR: &str = "deployment/mcp-policy-operator";

/// One test at a time: each of them has the only operator of the cluster.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The operator is scaled down for as long as this lives.
struct Down;

impl Down {
    fn now() -> Self {
        kubectl(&["-n", SYSTEM, "scale", OPERATOR, "--replicas=0"]);
        until_true("no operator runs", || {
            kubectl(&["-n", SYSTEM, "get", "pods", "-l", "app.kubernetes.io/name=mcp-policy", "-o", "name"]).trim().is_empty()
        });
        Self
    }
}

impl Drop for Down {
    fn drop(&mut self) {
        kubectl(&["-n", SYSTEM, "scale", OPERATOR, "--replicas=2"]);
        kubectl(&["-n", SYSTEM, "rollout", "status", OPERATOR, "--timeout=90s"]);
    }
}

/// The charts are uninstalled for as long as this lives.
struct Uninstalled;

impl Uninstalled {
    fn now() -> Self {
        let uninstalled = Self;
        for chart in ["mcp-policy", "mcp-policy-crds"] {
            let told = run(command("helm").args(["uninstall", chart, "--namespace", SYSTEM, "--wait"]), None);
            assert!(told.is_ok(), "{told:?}");
        }
        uninstalled
    }
}

impl Drop for Uninstalled {
    fn drop(&mut self) {
        reinstall();
    }
}

#[test]
fn while_the_operator_is_down_selected_pods_are_denied_others_admitted_and_running_sidecars_enforce() {
    let _alone = alone();
    let sandbox = Sandbox::new("operator-down");
    sandbox.policy(
        "imaging",
        "selector: {matchLabels: {app: healthimaging-mcp}}, tools: {list_datastores: {limits: [{counter: c, window: hour, max: 2}]}}",
    );
    let pod = sandbox.imaging();
    sandbox.until_programmed("imaging");
    let (mut agent, _way) = pod.agent(Client::Python2);
    assert!(agent.call("list_datastores", &json!({})).passed());

    let team = sandbox.namespace().to_owned();
    let guarded = Sandbox::labelled("operator-down-cluster", &format!("team: {team}"));
    let guard = ClusterPolicy::new(
        &team,
        &format!("namespaceSelector: {{matchLabels: {{team: {team}}}}}, selector: {{matchLabels: {{app: guarded}}}}"),
    );
    guard.until_condition("Accepted", "True");

    let down = Down::now();
    let why = guarded.try_apply(&bare("selected", "app: guarded", "sleep 1")).unwrap_err();
    assert!(why.contains(&format!("ClusterMcpPolicy {team} selects this pod")) && why.contains("mcp-policy-sidecar"), "{why}");
    guarded.apply(&bare("unselected", "app: other", "sleep 1"));
    let why = sandbox.try_apply(&bare("selected", "app: healthimaging-mcp", "sleep 1")).unwrap_err();
    assert!(why.contains(&format!("McpPolicy {}/imaging", sandbox.namespace())), "the policy is not named: {why}");
    assert!(why.contains("mcp-policy-sidecar"), "{why}");
    sandbox.apply(&bare("unselected", "app: other", "sleep 1"));

    assert!(agent.call("list_datastores", &json!({})).passed());
    assert_eq!(agent.call("list_datastores", &json!({})).code(), "limit_exceeded");
    assert_eq!(agent.call("delete_image_set", &json!({"image_set_id": "i-0001"})).code(), "default_deny");
    assert_eq!(pod.executions(), [("list_datastores".to_owned(), 2)].into());

    drop(down);
    sandbox.bare("selected", "app: healthimaging-mcp", "trap exit TERM; sleep 3600 & wait");
    assert!(sandbox.pod("selected").injected());
    guarded.bare("selected", "app: guarded", "trap exit TERM; sleep 3600 & wait");
    assert!(guarded.pod("selected").injected());
    sandbox.policy("imaging", "selector: {matchLabels: {app: healthimaging-mcp}}, tools: {list_dicom_export_jobs: {}}");
    sandbox.until_programmed("imaging");
    assert!(agent.call("list_dicom_export_jobs", &json!({})).passed(), "a sidecar that was alone does not hear of changes again");
}

#[test]
fn status_is_whole_after_the_replica_that_wrote_it_is_gone() {
    let _alone = alone();
    let sandbox = Sandbox::new("leader");
    let spec = |tool: &str| format!("selector: {{matchLabels: {{app: healthimaging-mcp}}}}, tools: {{{tool}: {{}}}}");
    sandbox.policy("imaging", &spec("list_datastores"));
    let pod = sandbox.imaging();
    sandbox.until_programmed("imaging");
    let leader = kubectl(&["-n", SYSTEM, "get", "lease", "mcp-policy-operator", "-o", "jsonpath={.spec.holderIdentity}"]);
    kubectl(&["-n", SYSTEM, "delete", "pod", &leader, "--wait=false"]);
    sandbox.policy("imaging", &spec("list_dicom_export_jobs"));
    sandbox.until_programmed("imaging");
    let status = &sandbox.get_policy("imaging")["status"];
    assert_eq!((&status["selected"], &status["injected"], &status["enforcing"]), (&json!(1), &json!(1), &json!(1)));
    let (mut agent, _way) = pod.agent(Client::Python2);
    assert_eq!(agent.list(), ["list_dicom_export_jobs"]);
    kubectl(&["-n", SYSTEM, "rollout", "status", OPERATOR, "--timeout=90s"]);
}

#[test]
fn helm_test_passes() {
    let _alone = alone();
    let _sandbox = Sandbox::new("helm-test");
    let told = run(command("helm").args(["test", "mcp-policy", "--namespace", SYSTEM]), None).unwrap_or_else(|why| panic!("{why}"));
    assert!(told.contains("Succeeded"), "{told}");
}

#[test]
fn a_value_that_the_chart_does_not_know_is_refused() {
    let _alone = alone();
    let _sandbox = Sandbox::new("values");
    let chart = root().join("charts/mcp-policy");
    let why = run(command("helm").args(["template", "mcp-policy"]).arg(chart).args(["--set", "replica=3"]), None).unwrap_err();
    assert!(why.contains("replica"), "{why}");
}

#[test]
fn uninstalling_leaves_no_webhook_and_no_admission_policy_behind_and_keeps_the_policies() {
    let _alone = alone();
    let sandbox = Sandbox::new("uninstall");
    sandbox.policy("imaging", "selector: {matchLabels: {app: healthimaging-mcp}}, default: deny");
    sandbox.until_condition("imaging", "Accepted", "True");
    let team = sandbox.namespace().to_owned();
    let guard =
        ClusterPolicy::new(&team, &format!("namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: {team}}}}}, selector: {{}}"));
    guard.until_condition("Accepted", "True");
    let ours = || {
        let kinds = "mutatingwebhookconfigurations,validatingwebhookconfigurations,validatingadmissionpolicies,validatingadmissionpolicybindings,clusterroles,clusterrolebindings";
        let names = kubectl(&["get", kinds, "-l", "app.kubernetes.io/name=mcp-policy", "-o", "name"]);
        names.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(ours().iter().any(|name| name.contains("mutatingwebhook")), "{:?}", ours());

    let uninstalled = Uninstalled::now();
    assert_eq!(ours(), Vec::<String>::new());
    assert!(sandbox.try_kubectl(&["get", "mcppolicy", "imaging"]).is_ok(), "the policies went with the charts");
    assert_eq!(guard.get()["metadata"]["name"], team);
    // Nothing is left that could deny it.
    until_true("a selected pod is admitted", || sandbox.try_apply(&bare("selected", "app: healthimaging-mcp", "sleep 1")).is_ok());

    drop(uninstalled);
    until_true("the policy is back in force", || {
        try_kubectl(&["-n", sandbox.namespace(), "delete", "pod", "selected", "--ignore-not-found", "--wait=true", "--grace-period=0"])
            .is_ok()
            && sandbox.try_apply(&bare("selected", "app: healthimaging-mcp", "sleep 1")).is_ok()
            && sandbox.pod("selected").injected()
    });
}
