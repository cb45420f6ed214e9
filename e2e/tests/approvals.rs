//! A destructive tool behind a person's yes, on a real cluster.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use mcp_policy_e2e::{cli::mcp_policy, client::Client, cluster::kubectl, sandbox::Sandbox};
use serde_json::json;

const POLICY: &str = "selector: {matchLabels: {app: healthimaging-mcp}}, \
    tools: {delete_image_set: {action: approve, reason: Deleted is gone.}, list_datastores: {}}";

/// Decides as whoever the tests are, who may do everything.
fn decide(sandbox: &Sandbox, verb: &str, name: &str) {
    mcp_policy(None, &["approvals", verb, name, "-n", sandbox.namespace(), "--reason", "a person looked"])
        .unwrap_or_else(|why| panic!("{why}"));
}

#[test]
fn a_destructive_tool_waits_for_a_person_and_then_runs_once() {
    let sandbox = Sandbox::new("approvals");
    sandbox.policy("imaging", POLICY);
    let pod = sandbox.imaging();
    sandbox.until_programmed("imaging");
    let (mut agent, _way) = pod.agent(Client::Python2);
    let image = |id: &str| json!({"image_set_id": id});
    assert!(agent.list().contains(&"delete_image_set".to_owned()));

    let mut slowest = Duration::ZERO;
    for round in 0..10 {
        let waits = agent.call("delete_image_set", &image("i-0001"));
        assert_eq!(waits.code(), "approval_required", "{waits:?}");
        let name = waits.denial()["approval"]["name"].as_str().unwrap().to_owned();
        assert_eq!(waits.denial()["approval"]["namespace"], sandbox.namespace());
        assert_eq!(agent.call("delete_image_set", &image("i-0001")).denial()["approval"]["name"], *name, "retries share one");
        assert_eq!(pod.executions().get("delete_image_set").copied().unwrap_or(0), round, "nothing ran without a yes");

        decide(&sandbox, "approve", &name);
        let decided = Instant::now();
        assert_eq!(agent.call("delete_image_set", &image("i-0002")).code(), "approval_required", "not for other arguments");
        let passed = Instant::now();
        let answer = agent.call("delete_image_set", &image("i-0001"));
        assert_ne!(answer.code(), "approval_required", "{answer:?}");
        slowest = slowest.max(passed.elapsed());
        assert!(decided.elapsed() < Duration::from_secs(10));
        assert_eq!(pod.executions()["delete_image_set"], round + 1);
    }
    eprintln!("a call with a fresh approval took {slowest:?} at most");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");

    let waits = agent.call("delete_image_set", &image("i-0003"));
    decide(&sandbox, "deny", waits.denial()["approval"]["name"].as_str().unwrap());
    let denied = agent.call("delete_image_set", &image("i-0003"));
    assert_eq!(denied.code(), "approval_denied");
    assert!(denied.text().contains("a person looked"), "{denied:?}");
    assert_eq!(pod.executions()["delete_image_set"], 10);
}

#[test]
fn nobody_without_the_right_lets_a_call_pass() {
    let sandbox = Sandbox::new("approvers");
    let namespace = sandbox.namespace();
    sandbox.policy("imaging", POLICY);
    let pod = sandbox.imaging();
    sandbox.until_programmed("imaging");
    let (mut agent, _way) = pod.agent(Client::TypeScript1);
    let arguments = json!({"image_set_id": "i-0001"});
    let waits = agent.call("delete_image_set", &arguments);
    let name = waits.denial()["approval"]["name"].as_str().unwrap().to_owned();

    kubectl(&[
        "-n",
        namespace,
        "create",
        "role",
        "editor",
        "--verb=get,list,update,patch",
        "--resource=mcpapprovals.mcp-policy.dev,mcpapprovals.mcp-policy.dev/status",
    ]);
    kubectl(&["-n", namespace, "create", "rolebinding", "editor", "--role=editor", "--user=mallory"]);
    kubectl(&["-n", namespace, "create", "rolebinding", "approver", "--clusterrole=mcp-policy-approver", "--user=ann"]);
    let patch = |user: &str, decision: &str, more: &[&str]| {
        let user = format!("--as={user}");
        sandbox.try_kubectl(&[&[user.as_str(), "patch", "mcpapproval", &name, "--type=merge", "--patch", decision], more].concat())
    };
    let by = |name: &str| json!({"spec": {"decisions": [{"verdict": "Approved", "by": name}]}}).to_string();
    for (user, decision, more, why) in [
        ("mallory", by("mallory"), &[][..], "may not approve"),
        ("mallory", by("ann"), &[], "own name"),
        ("ann", by("bob"), &[], "own name"),
        ("mallory", json!({"status": {"state": "Approved"}}).to_string(), &["--subresource=status"], "only mcp-policy-operator"),
        ("mallory", json!({"spec": {"arguments": {"sha256": "0".repeat(64)}}}).to_string(), &[], "nothing but decisions"),
    ] {
        let refused = patch(user, &decision, more).unwrap_err();
        assert!(refused.contains(why), "{user} {decision}: {refused}");
    }
    assert_eq!(agent.call("delete_image_set", &arguments).code(), "approval_required");
    assert_eq!(pod.executions().get("delete_image_set"), None);
    patch("ann", &by("ann"), &[]).unwrap();
    assert_ne!(agent.call("delete_image_set", &arguments).code(), "approval_required");
    assert_eq!(pod.executions()["delete_image_set"], 1);
}
