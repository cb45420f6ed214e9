//! `mcp-policy explain --pod`: what it says is what the pod does.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;

use mcp_policy_e2e::{cli::mcp_policy, client::Client, cluster::try_kubectl, sandbox::Sandbox};
use serde_json::{Value, json};

const SELECTOR: &str = "selector: {matchLabels: {app: healthimaging-mcp}}";

/// What `explain` says of a call to a pod of the sandbox, as JSON.
fn explained(sandbox: &Sandbox, pod: &str, tool: &str, arguments: &Value) -> Value {
    let arguments = arguments.to_string();
    let asked = ["explain", "-n", sandbox.namespace(), "--pod", pod, "--tool", tool, "--arguments", &arguments, "--output", "json"];
    serde_json::from_str(&mcp_policy(None, &asked).unwrap_or_else(|why| panic!("{why}"))).unwrap()
}

#[test]
fn of_a_running_pod_it_says_what_the_pod_does() {
    let sandbox = Sandbox::new("explain");
    let rules = "tools: {list_datastores: {}, get_image_set: {require: [{path: args.image_set_id, op: regex, value: '^i-'}]}}";
    sandbox.policy("imaging", &format!("{SELECTOR}, {rules}"));
    let pod = sandbox.imaging();
    sandbox.until_programmed("imaging");
    let (mut agent, _way) = pod.agent(Client::Python2);
    let policy = json!(format!("{}/imaging", sandbox.namespace()));
    for (tool, arguments, code, rule) in [
        ("list_datastores", json!({}), "allowed", "/tools/list_datastores"),
        ("get_image_set", json!({"image_set_id": "i-0001"}), "allowed", "/tools/get_image_set"),
        ("get_image_set", json!({"image_set_id": "../i-0001"}), "require_failed", "/tools/get_image_set/require/0"),
        ("get_image_set", json!({"Image_Set_Id": "i-0001"}), "policy_error", "/tools/get_image_set/require/0"),
        ("delete_image_set", json!({"image_set_id": "i-0001"}), "default_deny", "/default"),
    ] {
        let said = &explained(&sandbox, &pod.name, tool, &arguments)["decision"];
        assert_eq!((&said["code"], &said["policy"], &said["rule"]), (&json!(code), &policy, &json!(rule)), "{tool} {arguments}");
        let before = pod.executions();
        let answer = agent.call(tool, &arguments);
        assert_eq!(answer.passed(), code == "allowed", "{tool} {arguments}: {answer:?}");
        if code != "allowed" {
            assert_eq!((answer.code(), &answer.denial()["rule"]), (code, &json!(rule)), "{answer:?}");
            assert_eq!(pod.executions(), before, "{tool} {arguments}");
        }
    }
}

#[test]
fn it_tells_which_revision_the_pod_enforces() {
    let sandbox = Sandbox::new("explain-revision");
    sandbox.policy("imaging", &format!("{SELECTOR}, tools: {{list_datastores: {{}}}}"));
    let pod = sandbox.imaging();
    sandbox.until_programmed("imaging");
    let notes = |tool: &str| {
        let said = explained(&sandbox, &pod.name, tool, &json!({}));
        (said["decision"]["code"].as_str().unwrap().to_owned(), said["notes"].to_string())
    };
    let id = format!("{}/imaging", sandbox.namespace());
    let (code, told) = notes("list_datastores");
    assert!(code == "allowed" && told.contains(&format!("{id}: generation 1 is in force\"")), "{code} {told}");
    sandbox.policy("imaging", &format!("{SELECTOR}, tools: {{list_datastores: {{action: deny}}}}"));
    sandbox.until_programmed("imaging");
    let (code, told) = notes("list_datastores");
    assert!(code == "tool_denied" && told.contains(&format!("{id}: generation 2 is in force\"")), "{code} {told}");
    // A revision that cannot work leaves the one before in force.
    sandbox.policy("imaging", &format!("{SELECTOR}, tools: {{list_datastores: {{require: [{{path: args.x, op: regex, value: '('}}]}}}}"));
    sandbox.until_condition("imaging", "Accepted", "False");
    let (code, told) = notes("list_datastores");
    assert!(
        code == "tool_denied" && told.contains(&format!("{id}: generation 2 is in force, for generation 3 is not accepted")),
        "{code} {told}"
    );
    let (mut agent, _way) = pod.agent(Client::Python2);
    assert_eq!(agent.call("list_datastores", &json!({})).code(), "tool_denied");
    assert_eq!(pod.executions(), [].into());
}

#[test]
fn what_cannot_be_explained_is_told_with_its_cause() {
    let sandbox = Sandbox::new("explain-cause");
    sandbox.policy("imaging", &format!("{SELECTOR}, tools: {{list_datastores: {{}}}}"));
    let pod = sandbox.imaging();
    let neighbour = sandbox.neighbour();
    let namespace = sandbox.namespace();
    let explain = |pod: &str| ["explain", "-n", namespace, "--tool", "t", "--pod", pod].map(str::to_owned);
    let refused = |pod: &str| mcp_policy(None, &explain(pod).each_ref().map(String::as_str)).unwrap_err();

    let why = refused("nothing");
    assert!(
        why.contains(&format!("--namespace={namespace} -- nothing failed: Error from server (NotFound): pods \"nothing\" not found")),
        "{why}"
    );
    let why = refused(&neighbour.name);
    assert!(why.contains("is not governed: no policy selects it, and it has no sidecar, so every call reaches its server"), "{why}");

    // Somebody who may see pods and policies of this namespace, and nothing of the cluster; and somebody who may see nothing.
    sandbox.kubectl(&["create", "role", "reader", "--verb=get,list", "--resource=pods,mcppolicies.mcp-policy.dev"]);
    for (account, may_read) in [("reader", true), ("stranger", false)] {
        sandbox.kubectl(&["create", "serviceaccount", account]);
        if may_read {
            let subject = format!("--serviceaccount={namespace}:{account}");
            sandbox.kubectl(&["create", "rolebinding", account, "--role=reader", &subject]);
        }
        let token = sandbox.kubectl(&["create", "token", account]);
        let file = std::env::temp_dir().join(format!("{namespace}-{account}.kubeconfig"));
        let path = file.to_str().unwrap();
        fs::write(&file, try_kubectl(&["config", "view", "--raw", "--minify", "--flatten"]).unwrap()).unwrap();
        try_kubectl(&["--kubeconfig", path, "config", "set-credentials", account, "--token", token.trim()]).unwrap();
        try_kubectl(&["--kubeconfig", path, "config", "set-context", "--current", "--user", account]).unwrap();
        let answer = mcp_policy(Some(&file), &explain(&pod.name).each_ref().map(String::as_str));
        fs::remove_file(&file).unwrap();
        if may_read {
            let told = answer.unwrap();
            assert!(told.contains("decision: default_deny by"), "{told}");
            assert!(told.contains("note: policies of the cluster cannot be read, and may refuse more than is told here: "), "{told}");
        } else {
            let why = answer.unwrap_err();
            let user = format!("User \"system:serviceaccount:{namespace}:{account}\" cannot get resource \"pods\"");
            assert!(why.contains("(Forbidden)") && why.contains(&user), "{why}");
        }
    }
}
