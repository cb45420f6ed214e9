//! One budget over all replicas of a server, counted in a real store: `examples/shared-budget`, as it stands.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "how long it took, for `--nocapture`")]

use std::{collections::BTreeMap, time::Instant};

use mcp_policy_e2e::{
    client::{Agent, Client},
    cluster::{SYSTEM, command, example, kubectl, root, run},
    forward::Forward,
    metrics::offered,
    pod::Pod,
    sandbox::Sandbox,
    wait::{until, until_true},
};
use serde_json::json;

const STORE: &str = "deployment/valkey";
const REPLICAS: [&str; 6] = ["-n", SYSTEM, "get", "pods", "-l", "app=valkey"];
const EXPORT: &str = "start_dicom_export_job";
const NEW_PASSWORD: &str = "geheim-4711";
const LIST: &str = "list_datastores";

/// Counters are in the store of the example for as long as this lives.
struct Shared;

impl Shared {
    fn now() -> Self {
        apply(&example("shared-budget/valkey.yaml"));
        let shared = Self;
        kubectl(&["-n", SYSTEM, "rollout", "status", STORE, "--timeout=90s"]);
        release(["store.url=redis://valkey.mcp-policy-system.svc:6379", "store.existingSecret=mcp-policy-store"]);
        shared
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        release(["store.url=", "store.existingSecret="]);
        kubectl(&["-n", SYSTEM, "delete", "--ignore-not-found", STORE, "service/valkey", "secret/valkey-users", "secret/mcp-policy-store"]);
    }
}

fn release(values: [&str; 2]) {
    let mut helm = command("helm");
    helm.args(["upgrade", "mcp-policy"]).arg(root().join("charts/mcp-policy")).args(["--namespace", SYSTEM, "--reset-then-reuse-values"]);
    helm.args(values.iter().flat_map(|value| ["--set", value])).args(["--wait", "--timeout", "120s"]);
    run(&mut helm, None).unwrap_or_else(|why| panic!("{why}"));
}

fn apply(manifest: &str) {
    run(command("kubectl").args(["apply", "-f", "-"]), Some(manifest.as_bytes())).unwrap_or_else(|why| panic!("{why}"));
}

/// A replica of the server, and an agent that calls this one.
struct Replica {
    pod: Pod,
    agent: Agent,
    _way: Forward,
}

impl Replica {
    /// Exports once: `passed`, or the code of the refusal.
    fn export(&mut self) -> String {
        let arguments = json!({"datastore_id": "d-radiology", "bucket": "s3://out"});
        let answer = self.agent.call(EXPORT, &arguments);
        if answer.code().is_empty() { "passed".to_owned() } else { answer.code().to_owned() }
    }

    fn list(&mut self) -> String {
        let answer = self.agent.call(LIST, &json!({}));
        if answer.passed() { "passed".to_owned() } else { answer.code().to_owned() }
    }

    /// The value of a metric; 0 as long as there is none.
    fn metric(&self, name: &str) -> f64 {
        let offered = offered(&self.pod.namespace, &self.pod.name);
        offered.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap_or(0.0)
    }
}

/// What came of so many calls of each replica, in turns.
fn calls(replicas: &mut [Replica], rounds: usize, mut call: impl FnMut(&mut Replica) -> String) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..rounds {
        for replica in &mut *replicas {
            *counts.entry(call(replica)).or_insert(0) += 1;
        }
    }
    counts
}

fn executed(replicas: &[Replica], tool: &str) -> usize {
    replicas.iter().map(|replica| replica.pod.executions().get(tool).copied().unwrap_or(0)).sum()
}

fn counts<const N: usize>(counts: [(&str, usize); N]) -> BTreeMap<String, usize> {
    counts.map(|(code, count)| (code.to_owned(), count)).into()
}

#[test]
fn three_replicas_have_one_budget_and_never_pass_more_while_the_store_is_away_and_its_password_changes() {
    let sandbox = Sandbox::new("shared");
    let _shared = Shared::now();
    sandbox.example("shared-budget/policy.yaml", "imaging");
    // Beside the example: what is not worth an outage.
    sandbox.policy(
        "lists",
        "selector: {matchLabels: {app: healthimaging-mcp}}, default: allow, \
         tools: {list_datastores: {limits: [{counter: lists, window: hour, max: 3, scope: server, onStoreError: local}]}}",
    );
    sandbox.imaging();
    sandbox.kubectl(&["scale", "deployment", "healthimaging-mcp", "--replicas=3"]);
    sandbox.rolled_out("healthimaging-mcp");
    sandbox.until_programmed("shared-budget");
    let says = sandbox.until_condition("shared-budget", "LimitsPerPod", "False");
    println!("LimitsPerPod: {says}");
    let names = sandbox.kubectl(&["get", "pods", "-l", "app=healthimaging-mcp", "-o", "name"]);
    let clients = [Client::Python2, Client::TypeScript1, Client::Python1];
    let mut replicas: Vec<_> = names
        .lines()
        .zip(clients)
        .map(|(name, client)| {
            let pod = sandbox.pod(name.trim_start_matches("pod/"));
            let (agent, way) = pod.agent(client);
            Replica { pod, agent, _way: way }
        })
        .collect();
    assert_eq!(replicas.len(), 3);

    until_true("all are connected", || replicas.iter().all(|replica| replica.metric("mcp_policy_store_connected ") > 0.5));
    // A store that is new to everybody keeps everybody waiting for some seconds.
    until("the first call passes", || match replicas[0].export().as_str() {
        "passed" => Ok(()),
        code => Err(code.to_owned()),
    });
    assert_eq!(calls(&mut replicas, 5, Replica::export), counts([("passed", 9), ("limit_exceeded", 6)]));
    assert_eq!(calls(&mut replicas, 2, Replica::list), counts([("passed", 3), ("limit_exceeded", 3)]));
    assert_eq!((executed(&replicas, EXPORT), executed(&replicas, LIST)), (10, 3));

    the_store_is_killed(&mut replicas);
    it_is_back_with_another_password(&sandbox, &mut replicas);
}

fn the_store_is_killed(replicas: &mut [Replica]) {
    kubectl(&["-n", SYSTEM, "scale", STORE, "--replicas=0"]);
    kubectl(&[&["-n", SYSTEM, "delete", "pod", "-l", "app=valkey"], &["--grace-period=0", "--force"][..]].concat());
    until_true("no store runs", || kubectl(&[&REPLICAS[..], &["-o", "name"]].concat()).trim().is_empty());
    assert_eq!(calls(replicas, 5, Replica::export), counts([("store_unavailable", 15)]));
    assert_eq!(executed(replicas, EXPORT), 10);
    // Each counts by itself what may be counted so: no more than `max` each.
    assert_eq!(calls(replicas, 5, Replica::list), counts([("passed", 9), ("limit_exceeded", 6)]));
    assert_eq!(executed(replicas, LIST), 3 + 9);
}

fn it_is_back_with_another_password(sandbox: &Sandbox, replicas: &mut [Replica]) {
    apply(&example("shared-budget/valkey.yaml").replace(">change-me", &format!(">{NEW_PASSWORD}")));
    kubectl(&["-n", SYSTEM, "rollout", "status", STORE, "--timeout=90s"]);
    let denied = |replica: &Replica| replica.metric("mcp_policy_store_errors_total{kind=\"denied\"} ");
    until_true("all were turned away", || replicas.iter().all(|replica| denied(replica) > 0.5));
    assert_eq!(replicas[0].export(), "store_unavailable");

    let began = Instant::now();
    apply(&example("shared-budget/valkey.yaml").replace("change-me", NEW_PASSWORD));
    until_true("all are let in", || replicas.iter().all(|replica| replica.metric("mcp_policy_store_connected ") > 0.5));
    println!("connected {:?} after the Secret was changed", began.elapsed());
    sandbox.until_programmed("shared-budget");
    // What the store has forgotten is still in the window of somebody: until it has left, nobody passes.
    assert_eq!(calls(replicas, 1, Replica::export), counts([("store_unavailable", 3)]));
    assert_eq!(executed(replicas, EXPORT), 10);
    until("a call passes again", || match replicas[0].export().as_str() {
        "passed" => Ok(()),
        code => Err(code.to_owned()),
    });
    assert_eq!(calls(replicas, 5, Replica::export), counts([("passed", 9), ("limit_exceeded", 6)]));
    assert_eq!(executed(replicas, EXPORT), 20);
    let told = sandbox.kubectl(&["get", "pods,mcppolicies", "-o", "yaml"]);
    let logs = replicas.iter().map(|replica| replica.pod.logs("mcp-policy-sidecar")).collect::<String>();
    assert!(!told.contains(NEW_PASSWORD) && !logs.contains(NEW_PASSWORD), "the password was told");
}
