//! Thousands of approvals that wait slow no call, and a decision takes effect within a second.
//!
//! `MCP_POLICY_PENDING` says how many wait: some hundred where nothing is said, 10,000 in `make test-long`.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "the figures of docs/approvals.md, for `--nocapture`")]

use std::{env, time::Duration};

use mcp_policy_e2e::{
    cluster::{SYSTEM, command, kubectl, root, run},
    forward::Forward,
    metrics::offered,
    sandbox::Sandbox,
};
use mcp_policy_interop::wait::within;
use serde::Deserialize;

const OPERATOR: &str = "system:serviceaccount:mcp-policy-system:mcp-policy-operator";

/// Milliseconds.
#[derive(Debug, Deserialize)]
struct Quantiles {
    p50: f64,
    p99: f64,
}

/// What calls of each kind took: see approvals.py.
#[derive(Debug, Deserialize)]
struct Times {
    allowed: Quantiles,
    asking: Quantiles,
    retried: Quantiles,
    held: Quantiles,
}

fn approvals(arguments: &[&str]) -> String {
    run(command("python3").arg(root().join("e2e/approvals.py")).args(arguments), None).unwrap_or_else(|why| panic!("{why}"))
}

/// The sum of a metric over all replicas of the operator.
fn of_operator(metric: &str) -> f64 {
    let pods =
        kubectl(&["-n", SYSTEM, "get", "pods", "-l", "app.kubernetes.io/name=mcp-policy", "-o", "jsonpath={.items[*].metadata.name}"]);
    let metrics = pods.split_whitespace().map(|pod| offered(SYSTEM, pod)).collect::<String>();
    metrics.lines().filter_map(|line| line.strip_prefix(metric)?.trim().parse::<f64>().ok()).sum()
}

/// What each replica of the operator works with, in MiB, and the seconds of processor time that all of them have used, as the kubelet counts.
fn used_by_operator() -> (Vec<f64>, f64) {
    let node =
        kubectl(&["-n", SYSTEM, "get", "pods", "-l", "app.kubernetes.io/name=mcp-policy", "-o", "jsonpath={.items[0].spec.nodeName}"]);
    let told = kubectl(&["get", "--raw", &format!("/api/v1/nodes/{node}/proxy/metrics/resource")]);
    let samples = |metric: &str| {
        let of_operator = told.lines().filter(|line| {
            line.starts_with(metric) && line.contains("container=\"operator\"") && line.contains(&format!("namespace=\"{SYSTEM}\""))
        });
        of_operator.map(|line| line.rsplit('}').next().unwrap().split_whitespace().next().unwrap().parse().unwrap()).collect::<Vec<f64>>()
    };
    let memory = samples("container_memory_working_set_bytes").into_iter().map(|bytes| (bytes / 1024.0 / 1024.0).round()).collect();
    (memory, samples("container_cpu_usage_seconds_total").into_iter().sum())
}

#[test]
fn thousands_that_wait_slow_no_call_and_a_decision_takes_effect_within_a_second() {
    let pending: u32 = env::var("MCP_POLICY_PENDING").map_or(400, |count| count.parse().unwrap());
    let rounds = (pending / 50).clamp(20, 200);
    let sandbox = Sandbox::new("many-approvals");
    let namespace = sandbox.namespace();
    let selector = "selector: {matchLabels: {app: healthimaging-mcp}}, default: allow";
    sandbox.policy("retried", &format!("{selector}, tools: {{delete_image_set: {{action: approve}}}}"));
    sandbox.policy("held", &format!("{selector}, approvals: {{wait: 20s}}, tools: {{start_dicom_export_job: {{action: approve}}}}"));
    let pod = sandbox.imaging();
    sandbox.until_programmed("retried");
    sandbox.until_programmed("held");
    let user = kubectl(&["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"]);
    let (person, operator, way) = (Forward::api(None), Forward::api(Some(OPERATOR)), pod.forward(8080));
    let measure = || -> Times {
        let (_, before) = used_by_operator();
        let told = approvals(&["time", &person.api_url(), namespace, &way.url(), &user, &rounds.to_string()]);
        let (memory, after) = used_by_operator();
        println!("{told}  operator: {memory:?} MiB, {:.1} s of processor time", after - before);
        serde_json::from_str(&told).unwrap()
    };

    println!("nobody else waits, {rounds} rounds:");
    let alone = measure();
    let written = || of_operator("mcp_policy_operator_approvals_total{state=\"pending\"} ");
    let before = written();
    approvals(&["wait", &operator.api_url(), namespace, &pending.to_string()]);
    within(Duration::from_mins(5), "the operator has seen all of them", || {
        let seen = written() - before;
        if seen >= f64::from(pending) { Ok(()) } else { Err(format!("{seen} of {pending}")) }
    });
    assert!(of_operator("mcp_policy_operator_approvals_pending ") >= f64::from(pending));

    println!("{pending} others wait:");
    let among_many = measure();
    for times in [&alone, &among_many] {
        assert!(times.retried.p99 <= 1000.0 && times.held.p99 <= 1000.0, "{times:?}");
    }
    // A machine that does something else meanwhile is no fault.
    assert!(among_many.allowed.p50 <= 2.0 * alone.allowed.p50 + 2.0, "{alone:?} {among_many:?}");
    assert!(among_many.asking.p50 <= 2.0 * alone.asking.p50 + 10.0, "{alone:?} {among_many:?}");
    let executed = pod.executions();
    let approved = usize::try_from(2 * rounds).unwrap();
    assert_eq!((executed["delete_image_set"], executed["start_dicom_export_job"]), (approved, approved), "each yes let one call pass");
}
