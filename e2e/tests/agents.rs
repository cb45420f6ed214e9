//! Agents written with official SDKs, and a server that others wrote.

use mcp_policy_e2e::{client::Client, sandbox::Sandbox};
use serde_json::json;

const TWO_EXPORTS: &str = "selector: {matchLabels: {app: healthimaging-mcp}}, default: deny, tools: {list_datastores: {}, \
    start_dicom_export_job: {limits: [{counter: exports, window: minute, max: 2, scope: grant}]}}";

/// Two exports pass, the third is refused, a tool that is not allowed is refused, and the session goes on.
fn keeps_its_session_after_a_refusal(purpose: &str, client: Client) {
    let sandbox = Sandbox::new(purpose);
    sandbox.policy("exports", TWO_EXPORTS);
    let pod = sandbox.imaging();
    sandbox.until_programmed("exports");
    let (mut agent, _way) = pod.agent(client);
    let export = json!({"datastore_id": "d-radiology", "bucket": "research"});

    assert_eq!(agent.list(), ["list_datastores", "start_dicom_export_job"]);
    for _ in 0..2 {
        let answer = agent.call("start_dicom_export_job", &export);
        assert!(answer.passed(), "{answer:?}");
    }

    let third = agent.call("start_dicom_export_job", &export);
    assert_eq!(third.code(), "limit_exceeded", "{third:?}");
    assert_eq!(third.denial()["policy"], format!("{}/exports", sandbox.namespace()));
    assert_eq!(third.denial()["rule"], "/tools/start_dicom_export_job/limits/exports");
    let seconds = third.denial()["retryAfterSeconds"].as_u64().unwrap_or_default();
    assert!((1..=60).contains(&seconds), "{third:?}");
    assert!(third.text().contains(&seconds.to_string()), "the model is not told when to try again: {third:?}");

    let deletion = agent.call("delete_image_set", &json!({"image_set_id": "i-0001"}));
    assert_eq!(deletion.code(), "default_deny", "{deletion:?}");
    assert_eq!(pod.executions(), [("start_dicom_export_job".to_owned(), 2)].into());

    let after = agent.call("list_datastores", &json!({}));
    assert!(after.passed(), "the session did not survive: {after:?}");
    assert_eq!(agent.list(), ["list_datastores", "start_dicom_export_job"]);
    assert_eq!(pod.executions(), [("list_datastores".to_owned(), 1), ("start_dicom_export_job".to_owned(), 2)].into());
}

#[test]
fn an_agent_of_the_first_python_sdk_keeps_its_session_after_a_refusal() {
    keeps_its_session_after_a_refusal("python1", Client::Python1);
}

#[test]
fn an_agent_of_the_second_python_sdk_keeps_its_session_after_a_refusal() {
    keeps_its_session_after_a_refusal("python2", Client::Python2);
}

#[test]
fn an_agent_of_the_typescript_sdk_keeps_its_session_after_a_refusal() {
    keeps_its_session_after_a_refusal("typescript", Client::TypeScript1);
}

#[test]
fn a_hidden_tool_of_a_server_that_others_wrote_is_refused_and_the_pod_it_would_delete_is_still_there() {
    let sandbox = Sandbox::new("others");
    let namespace = sandbox.namespace().to_owned();
    // The rights of the example, under names of this test's own; what is the cluster's goes with the namespace.
    let uid = sandbox.kubectl(&["get", "namespace", &namespace, "--output=jsonpath={.metadata.uid}"]);
    let metadata = format!("{{name: {namespace}, ownerReferences: [{{apiVersion: v1, kind: Namespace, name: {namespace}, uid: {uid}}}]}}");
    let rbac = "apiVersion: rbac.authorization.k8s.io/v1";
    sandbox.kubectl(&["create", "serviceaccount", "kubernetes-mcp-server"]);
    sandbox.apply(&format!(
        "{{{rbac}, kind: ClusterRole, metadata: {metadata}, rules: [{{apiGroups: [''], resources: [pods], verbs: [get, list]}}]}}\n---\n\
         {{{rbac}, kind: ClusterRoleBinding, metadata: {metadata}, roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {namespace}}}, \
         subjects: [{{kind: ServiceAccount, name: kubernetes-mcp-server, namespace: {namespace}}}]}}"
    ));
    sandbox.kubectl(&["create", "role", "pods", "--verb=delete", "--resource=pods"]);
    sandbox.kubectl(&["create", "rolebinding", "pods", "--role=pods", &format!("--serviceaccount={namespace}:kubernetes-mcp-server")]);
    sandbox.example("kubernetes-mcp-server/policy.yaml", "kubernetes-mcp");
    sandbox.example_of_kind("kubernetes-mcp-server/server.yaml", "kubernetes-mcp", &["Deployment", "Service"]);
    let server = sandbox.rolled_out("kubernetes-mcp-server");
    sandbox.until_programmed("kubernetes-mcp-server");
    let victim = sandbox.neighbour();
    let delete = json!({"name": victim.name, "namespace": namespace});

    // Without the policy's sidecar the same server, with the same account, would delete it.
    let may =
        sandbox.kubectl(&["auth", "can-i", "delete", "pods", &format!("--as=system:serviceaccount:{namespace}:kubernetes-mcp-server")]);
    assert_eq!(may.trim(), "yes");

    for client in [Client::Python1, Client::Python2, Client::TypeScript1] {
        let (mut agent, _way) = server.agent(client);
        let tools = agent.list();
        assert!(tools.iter().any(|tool| tool == "pods_list"), "{tools:?}");
        assert!(!tools.iter().any(|tool| tool.ends_with("_delete") || tool.ends_with("_exec") || tool.ends_with("_run")), "{tools:?}");

        let answer = agent.call("pods_delete", &delete);
        assert_eq!(answer.0["error"]["code"], -32602, "{client:?}: {answer:?}");
        assert!(answer.0.to_string().contains("Unknown tool: pods_delete"), "{client:?}: {answer:?}");
        assert_eq!(victim.object()["metadata"]["deletionTimestamp"], json!(null));

        let answer = agent.call("pods_list", &json!({}));
        assert!(answer.passed() && answer.text().contains(&victim.name), "{client:?}: {answer:?}");
    }
}
