//! What happens to a running pod when its policy changes or goes, and to policies that make no sense.

use mcp_policy_e2e::{
    cli::mcp_policy,
    client::Client,
    cluster::{command, run},
    sandbox::{Sandbox, manifest},
    wait::until_true,
};
use serde_json::json;

const SELECTOR: &str = "selector: {matchLabels: {app: healthimaging-mcp}}";

#[test]
fn a_change_of_policy_is_in_force_on_the_running_pod_and_in_the_open_session() {
    let sandbox = Sandbox::new("change");
    sandbox.policy("imaging", &format!("{SELECTOR}, tools: {{list_datastores: {{}}}}"));
    let pod = sandbox.imaging();
    sandbox.until_programmed("imaging");
    let lives = pod.lives();
    let (mut agent, _way) = pod.agent(Client::TypeScript1);
    let none = json!({});
    assert!(agent.call("list_datastores", &none).passed());
    assert_eq!(agent.call("list_dicom_export_jobs", &none).code(), "default_deny");

    sandbox.policy(
        "imaging",
        &format!("{SELECTOR}, tools: {{list_dicom_export_jobs: {{}}, list_datastores: {{action: deny, reason: moved}}}}"),
    );
    sandbox.until_programmed("imaging");
    assert!(agent.call("list_dicom_export_jobs", &none).passed());
    let refused = agent.call("list_datastores", &none);
    assert_eq!(refused.code(), "tool_denied");
    assert!(refused.text().contains("moved"), "the author's reason is missing: {refused:?}");
    assert_eq!(agent.list(), ["list_dicom_export_jobs"]);

    assert_eq!(pod.executions(), [("list_datastores".to_owned(), 1), ("list_dicom_export_jobs".to_owned(), 1)].into());
    assert_eq!(pod.lives(), lives, "something was restarted");
}

#[test]
fn counters_go_on_when_another_part_of_the_policy_changes() {
    let sandbox = Sandbox::new("counters");
    let spec = |more: &str| format!("{SELECTOR}, tools: {{list_datastores: {{limits: [{{counter: lists, window: hour, max: 2}}]}}{more}}}");
    sandbox.policy("imaging", &spec(""));
    let pod = sandbox.imaging();
    sandbox.until_programmed("imaging");
    let (mut agent, _way) = pod.agent(Client::Python2);
    assert!(agent.call("list_datastores", &json!({})).passed());
    assert!(agent.call("list_datastores", &json!({})).passed());
    sandbox.policy("imaging", &spec(", get_image_set: {}"));
    sandbox.until_programmed("imaging");
    assert_eq!(agent.call("list_datastores", &json!({})).code(), "limit_exceeded");
    assert_eq!(pod.executions(), [("list_datastores".to_owned(), 2)].into());
}

#[test]
fn a_pod_whose_policy_is_deleted_keeps_its_sidecar_and_refuses_every_call() {
    let sandbox = Sandbox::new("deleted");
    sandbox.policy("imaging", &format!("{SELECTOR}, default: allow"));
    let pod = sandbox.imaging();
    sandbox.until_programmed("imaging");
    let (mut agent, _way) = pod.agent(Client::Python2);
    assert!(agent.call("list_datastores", &json!({})).passed());

    sandbox.kubectl(&["delete", "mcppolicy", "imaging"]);
    let mut passed = 1;
    until_true("calls are refused with no_policy", || {
        let answer = agent.call("list_datastores", &json!({}));
        passed += usize::from(answer.passed());
        answer.code() == "no_policy"
    });
    assert_eq!(pod.executions(), [("list_datastores".to_owned(), passed)].into());
    assert_eq!(agent.call("list_datastores", &json!({})).code(), "no_policy");
    assert_eq!(pod.executions(), [("list_datastores".to_owned(), passed)].into());
    assert!(pod.injected());
}

#[test]
fn two_policies_on_one_pod_must_agree() {
    let sandbox = Sandbox::new("two");
    sandbox.policy("a-allows", &format!("{SELECTOR}, default: allow"));
    sandbox.policy("b-denies", &format!("{SELECTOR}, default: allow, tools: {{delete_image_set: {{action: deny}}}}"));
    let pod = sandbox.imaging();
    sandbox.until_programmed("a-allows");
    sandbox.until_programmed("b-denies");
    let (mut agent, _way) = pod.agent(Client::Python1);
    let refused = agent.call("delete_image_set", &json!({"image_set_id": "i-0001"}));
    assert_eq!(refused.denial()["policy"], format!("{}/b-denies", sandbox.namespace()));
    assert!(agent.call("get_image_set", &json!({"image_set_id": "i-0001"})).passed());
    assert_eq!(pod.executions(), [("get_image_set".to_owned(), 1)].into());
}

#[test]
fn a_policy_with_a_field_that_does_not_exist_is_refused_at_apply_and_the_field_is_named() {
    let sandbox = Sandbox::new("unknown");
    let wrong = format!("{SELECTOR}, tools: {{start_dicom_export_job: {{limits: [{{counter: c, widow: minute, window: hour, max: 1}}]}}}}");
    let why = sandbox.try_apply(&manifest("wrong", &wrong)).unwrap_err();
    assert!(why.contains("widow"), "{why}");

    // Not every client asks for strictness, and without it an API server would drop the field, and the limit with it.
    let mut lax = command("kubectl");
    lax.args(["-n", sandbox.namespace(), "apply", "--validate=false", "-f", "-"]);
    let why = run(&mut lax, Some(manifest("wrong", &wrong).as_bytes())).unwrap_err();
    assert!(why.contains("widow"), "{why}");

    let why = sandbox.try_apply(&manifest("wrong", &format!("{SELECTOR}, defualt: allow"))).unwrap_err();
    assert!(why.contains("spec.defualt"), "{why}");
}

#[test]
fn a_policy_with_a_value_that_makes_no_sense_is_refused_at_apply_and_the_field_is_named() {
    let sandbox = Sandbox::new("wrong");
    for (field, spec) in [
        ("spec.default", format!("{SELECTOR}, default: maybe")),
        ("spec.version", format!("{SELECTOR}, version: \"2\"")),
        ("max", format!("{SELECTOR}, tools: {{t: {{limits: [{{counter: c, window: minute, max: -1}}]}}}}")),
        ("window", format!("{SELECTOR}, tools: {{t: {{limits: [{{counter: c, window: fortnight, max: 1}}]}}}}")),
        ("action", format!("{SELECTOR}, tools: {{t: {{action: forbid}}}}")),
        ("spec.selector", "default: deny".to_owned()),
    ] {
        let why = sandbox.try_apply(&manifest("wrong", &spec)).expect_err(&spec);
        assert!(why.contains(field), "{field} is not named: {why}");
    }
}

#[test]
fn a_selector_that_matches_nothing_is_accepted_and_the_condition_says_so() {
    let sandbox = Sandbox::new("nothing");
    sandbox.policy("imaging", "selector: {matchLabels: {app: nobody}}, default: deny");
    let message = sandbox.until_condition("imaging", "Accepted", "True");
    assert!(message.contains("matches no pod"), "{message}");
    let policy = sandbox.get_policy("imaging");
    assert_eq!(policy["status"]["selected"], 0);
}

#[test]
fn a_pod_that_is_older_than_its_policy_is_listed_with_the_command_that_mends_it_and_that_command_does() {
    let sandbox = Sandbox::new("older");
    let pod = sandbox.imaging();
    assert!(!pod.injected());
    sandbox.policy("imaging", &format!("{SELECTOR}, default: deny"));
    sandbox.until_condition("imaging", "Programmed", "False");
    until_true("the pod's event names the command", || {
        let events = sandbox.kubectl(&[
            "get",
            "events",
            "-o",
            "jsonpath={range .items[*]}{.involvedObject.kind}/{.involvedObject.name} {.message}{\"\\n\"}{end}",
        ]);
        events.lines().any(|line| line.starts_with(&format!("Pod/{}", pod.name)) && line.contains("rollout restart"))
    });
    let status = &sandbox.get_policy("imaging")["status"];
    assert_eq!((&status["selected"], &status["injected"], &status["enforcing"]), (&json!(1), &json!(0), &json!(0)));

    let told = mcp_policy(None, &["status", "-n", sandbox.namespace()]).unwrap_err();
    assert!(told.contains(&format!("{}/{}  has no sidecar", sandbox.namespace(), pod.name)), "{told}");

    sandbox.kubectl(&["rollout", "restart", "deployment/healthimaging-mcp"]);
    let pod = sandbox.rolled_out("healthimaging-mcp");
    sandbox.until_programmed("imaging");
    assert!(pod.injected());
    let told = mcp_policy(None, &["status", "-n", sandbox.namespace(), "imaging"]).unwrap();
    assert!(told.contains(&format!("{}/{}  enforcing", sandbox.namespace(), pod.name)), "{told}");
    let (mut agent, _way) = pod.agent(Client::Python2);
    assert_eq!(agent.call("list_datastores", &json!({})).code(), "default_deny");
    assert_eq!(pod.executions(), [].into());
}

#[test]
fn pods_that_are_older_than_their_policy_are_replaced_once_where_it_says_so() {
    let sandbox = Sandbox::new("restart");
    let old = sandbox.imaging();
    assert!(!old.injected());
    sandbox.policy("imaging", &format!("{SELECTOR}, rollout: restart, default: deny"));
    sandbox.until_programmed("imaging");
    let pod = sandbox.rolled_out("healthimaging-mcp");
    assert!(pod.injected() && pod.name != old.name);
    // Another revision of the policy finds all pods covered.
    sandbox.policy("imaging", &format!("{SELECTOR}, rollout: restart, default: allow"));
    sandbox.until_programmed("imaging");
    assert_eq!(sandbox.rolled_out("healthimaging-mcp").name, pod.name);
    let revision = sandbox.kubectl(&[
        "get",
        "deployment",
        "healthimaging-mcp",
        "-o",
        "jsonpath={.metadata.annotations.deployment\\.kubernetes\\.io/revision}",
    ]);
    assert_eq!(revision, "2");
}

#[test]
fn several_pods_behind_one_policy_are_said_to_count_each_for_itself() {
    let sandbox = Sandbox::new("several");
    sandbox.policy("imaging", &format!("{SELECTOR}, tools: {{list_datastores: {{limits: [{{counter: c, window: hour, max: 1}}]}}}}"));
    sandbox.imaging();
    sandbox.kubectl(&["scale", "deployment/healthimaging-mcp", "--replicas=2"]);
    sandbox.rolled_out("healthimaging-mcp");
    let message = sandbox.until_condition("imaging", "LimitsPerPod", "True");
    assert!(message.contains('2'), "{message}");
    sandbox.until_programmed("imaging");
    let columns = sandbox.kubectl(&["get", "mcpp", "imaging", "--no-headers"]);
    let columns: Vec<_> = columns.split_whitespace().collect();
    assert_eq!(columns[..6], ["imaging", "enforce", "True", "True", "2", "2"], "{columns:?}");
}

#[test]
fn kubectl_explains_every_level_of_a_policy() {
    let sandbox = Sandbox::new("explain");
    for field in [
        "mcpp",
        "mcpp.spec.tools",
        "mcpp.spec.tools.limits.window",
        "mcpp.spec.tools.require.value",
        "mcpp.spec.allTools.denyIf.conditions.op",
        "mcpp.status.enforcing",
        "cmcpp",
        "cmcpp.spec.namespaceSelector",
    ] {
        let text = sandbox.kubectl(&["explain", field]);
        let description = text.split("DESCRIPTION:").nth(1).unwrap_or_default();
        assert!(description.trim().len() > 10 && !description.contains("<empty>"), "{field}: {text}");
    }
}

/// Each example that is a policy can be applied as it is.
#[test]
fn the_policies_of_the_examples_are_accepted() {
    let sandbox = Sandbox::new("examples");
    for (path, namespace, name) in
        [("imaging/policy.yaml", "imaging", "imaging"), ("kubernetes-mcp-server/policy.yaml", "kubernetes-mcp", "kubernetes-mcp-server")]
    {
        sandbox.example(path, namespace);
        sandbox.until_condition(name, "Accepted", "True");
    }
    let gateway = json!({
        "apiVersion": "mcp-policy.dev/v1alpha1", "kind": "McpPolicy", "metadata": {"name": "pasted"},
        "spec": {"selector": {}, "version": "1", "default": "deny", "tools": {"start_dicom_export_job": {
            "limits": [{"counter": "start_dicom_export_job_rate", "window": "minute", "max": 10, "scope": "grant"}]}}}
    });
    run(command("kubectl").args(["-n", sandbox.namespace(), "apply", "-f", "-"]), Some(gateway.to_string().as_bytes())).unwrap();
    sandbox.until_condition("pasted", "Accepted", "True");
}
