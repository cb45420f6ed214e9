//! What a real Prometheus sees.

use mcp_policy_e2e::{
    client::Client,
    cluster::{SYSTEM, kubectl},
    metrics::{complaints, offered, scraped},
    sandbox::Sandbox,
    wait::until_true,
};
use serde_json::{Value, json};

#[test]
fn prometheus_scrapes_decisions_and_the_policys_own_counters_and_promtool_finds_no_fault() {
    let sandbox = Sandbox::new("metrics");
    sandbox.policy(
        "imaging",
        "selector: {matchLabels: {app: healthimaging-mcp}}, tools: {list_datastores: {limits: [{counter: lists, window: hour, max: 4}]}}",
    );
    let pod = sandbox.imaging();
    sandbox.until_programmed("imaging");
    let (mut agent, _way) = pod.agent(Client::Python2);
    for number in 1..=6 {
        assert_eq!(agent.call("list_datastores", &json!({})).passed(), number <= 4);
    }
    assert_eq!(agent.list(), ["list_datastores"]);
    assert_eq!(agent.call("delete_image_set", &json!({"image_set_id": "i-0001"})).code(), "default_deny");
    assert_eq!(agent.call("a_name_that_the_attacker_chose", &json!({})).code(), "default_deny");
    assert_eq!(pod.executions(), [("list_datastores".to_owned(), 4)].into());

    let labels = format!("policy=\"{}/imaging\",pod=\"{}\"", sandbox.namespace(), pod.name);
    for (query, value) in [
        (
            format!(
                "mcp_policy_decisions_total{{{labels},tool=\"list_datastores\",decision=\"allowed\",code=\"allowed\",mode=\"enforce\"}}"
            ),
            4.0,
        ),
        (format!("mcp_policy_decisions_total{{{labels},tool=\"list_datastores\",code=\"limit_exceeded\"}}"), 2.0),
        (format!("mcp_policy_decisions_total{{{labels},tool=\"delete_image_set\",code=\"default_deny\"}}"), 1.0),
        (format!("mcp_policy_decisions_total{{{labels},tool=\"other\",code=\"default_deny\"}}"), 1.0),
        (format!("mcp_policy_limit_refusals_total{{{labels},counter=\"lists\"}}"), 2.0),
        (format!("mcp_policy_limit_max{{{labels},counter=\"lists\"}}"), 4.0),
        (format!("mcp_policy_limit_used_ratio{{{labels},counter=\"lists\"}}"), 1.0),
        (format!("count(mcp_policy_build_info{{pod=\"{}\"}})", pod.name), 1.0),
    ] {
        until_true(&format!("{query} is {value}"), || scraped(&query) == Some(value));
    }

    let metrics = offered(&pod.namespace, &pod.name);
    assert_eq!(complaints(&metrics), Ok(String::new()), "{metrics}");
    assert!(!metrics.contains("attacker"), "a name from the wire became a label");
}

#[test]
fn the_operators_metrics_are_scraped_and_promtool_finds_no_fault() {
    let sandbox = Sandbox::new("metrics-operator");
    until_true("both replicas are scraped", || scraped("count(mcp_policy_operator_build_info)") >= Some(2.0));
    sandbox.policy("imaging", "selector: {matchLabels: {app: healthimaging-mcp}}, default: deny");
    sandbox.imaging();
    sandbox.until_programmed("imaging");
    sandbox.policy("imaging", "selector: {matchLabels: {app: healthimaging-mcp}}, default: allow");
    sandbox.until_programmed("imaging");
    until_true("a propagation was measured", || scraped("mcp_policy_operator_propagation_seconds_count") >= Some(1.0));
    until_true("an injection was measured", || scraped("mcp_policy_operator_admission_duration_seconds_count") >= Some(1.0));
    let pods: Value =
        serde_json::from_str(&kubectl(&["-n", SYSTEM, "get", "pods", "-l", "app.kubernetes.io/name=mcp-policy", "-o", "json"])).unwrap();
    let names: Vec<_> = pods["items"].as_array().unwrap().iter().filter_map(|pod| pod["metadata"]["name"].as_str()).collect();
    assert!(!names.is_empty());
    for name in names {
        let metrics = offered(SYSTEM, name);
        assert_eq!(complaints(&metrics), Ok(String::new()), "{metrics}");
    }
}

#[test]
fn each_decision_is_one_line_of_json_in_the_sidecars_log() {
    let sandbox = Sandbox::new("audit");
    sandbox.policy("imaging", "selector: {matchLabels: {app: healthimaging-mcp}}, tools: {get_image_set: {}}");
    let pod = sandbox.imaging();
    sandbox.until_programmed("imaging");
    let (mut agent, _way) = pod.agent(Client::Python2);
    assert!(agent.call("get_image_set", &json!({"image_set_id": "i-0002"})).passed());
    let refused = agent.call("delete_image_set", &json!({"image_set_id": "i-0002"}));
    assert_eq!(refused.code(), "default_deny");
    assert_eq!(pod.executions(), [("get_image_set".to_owned(), 1)].into());

    let logs = pod.logs("mcp-policy-sidecar");
    let lines = logs.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).filter(|line| line["tool"].is_string());
    let decisions: Vec<_> = lines.map(|line| (line["tool"].clone(), line["code"].clone())).collect();
    assert_eq!(decisions, [(json!("get_image_set"), json!("allowed")), (json!("delete_image_set"), json!("default_deny"))], "{logs}");
    assert!(logs.contains("image_set_id") && !logs.contains("i-0002"), "keys of arguments are logged, values are not: {logs}");
    let id = refused.denial()["decisionId"].as_str().unwrap_or("none");
    assert!(logs.contains(id), "the agent's decision id is not in the log: {refused:?}\n{logs}");
}
