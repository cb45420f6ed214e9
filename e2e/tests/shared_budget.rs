//! One budget over all replicas of a server, counted in a real store: `examples/shared-budget` and `examples/two-agents`, as they stand.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "how long it took, for `--nocapture`")]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use mcp_policy_e2e::{
    cli::mcp_policy,
    client::{Agent, Client},
    cluster::{SYSTEM, busybox, command, example, kubectl, root, run},
    forward::Forward,
    metrics::offered,
    pod::Pod,
    sandbox::Sandbox,
    wait::{until, until_true},
    wire,
};
use serde_json::{Value, json};

const STORE: &str = "deployment/valkey";
const REPLICAS: [&str; 6] = ["-n", SYSTEM, "get", "pods", "-l", "app=valkey"];
const EXPORT: &str = "start_dicom_export_job";
const NEW_PASSWORD: &str = "geheim-4711";
const LIST: &str = "list_datastores";
const DELETE: &str = "delete_image_set";
const CLIENTS: [Client; 3] = [Client::Python2, Client::TypeScript1, Client::Python1];

/// One test at a time: each of them has the only store of the cluster.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

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
}

/// The value of a metric; 0 as long as there is none.
fn metric(pod: &Pod, name: &str) -> f64 {
    offered(&pod.namespace, &pod.name).lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap_or(0.0)
}

/// Runs the imaging server three times.
fn three_replicas(sandbox: &Sandbox) -> Vec<Pod> {
    sandbox.imaging();
    sandbox.kubectl(&["scale", "deployment", "healthimaging-mcp", "--replicas=3"]);
    sandbox.rolled_out("healthimaging-mcp");
    let names = sandbox.kubectl(&["get", "pods", "-l", "app=healthimaging-mcp", "-o", "name"]);
    let pods: Vec<_> = names.lines().map(|name| sandbox.pod(name.trim_start_matches("pod/"))).collect();
    assert_eq!(pods.len(), 3);
    pods
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
    let _alone = alone();
    let sandbox = Sandbox::new("shared");
    let _shared = Shared::now();
    sandbox.example("shared-budget/policy.yaml", "imaging");
    // Beside the example: what is not worth an outage.
    sandbox.policy(
        "lists",
        "selector: {matchLabels: {app: healthimaging-mcp}}, default: allow, \
         tools: {list_datastores: {limits: [{counter: lists, window: hour, max: 3, scope: server, onStoreError: local}]}}",
    );
    let pods = three_replicas(&sandbox);
    sandbox.until_programmed("shared-budget");
    let says = sandbox.until_condition("shared-budget", "LimitsPerPod", "False");
    println!("LimitsPerPod: {says}");
    let mut replicas: Vec<_> = pods
        .into_iter()
        .zip(CLIENTS)
        .map(|(pod, client)| {
            let (agent, way) = pod.agent(client);
            Replica { pod, agent, _way: way }
        })
        .collect();
    until_true("all are connected", || replicas.iter().all(|replica| metric(&replica.pod, "mcp_policy_store_connected ") > 0.5));
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
    let denied = |replica: &Replica| metric(&replica.pod, "mcp_policy_store_errors_total{kind=\"denied\"} ");
    until_true("all were turned away", || replicas.iter().all(|replica| denied(replica) > 0.5));
    assert_eq!(replicas[0].export(), "store_unavailable");

    let began = Instant::now();
    apply(&example("shared-budget/valkey.yaml").replace("change-me", NEW_PASSWORD));
    until_true("all are let in", || replicas.iter().all(|replica| metric(&replica.pod, "mcp_policy_store_connected ") > 0.5));
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

/// A call of an agent on one of the replicas: `passed`, or the code of the refusal.
fn said(agent: &mut Agent, tool: &str, arguments: &Value) -> String {
    let answer = agent.call(tool, arguments);
    if answer.code().is_empty() { "passed".to_owned() } else { answer.code().to_owned() }
}

#[test]
fn two_agents_have_tools_of_their_own_one_budget_over_three_replicas_and_a_person_who_says_yes() {
    let _alone = alone();
    let sandbox = Sandbox::new("agents");
    let namespace = sandbox.namespace().to_owned();
    let _shared = Shared::now();
    // The example as it stands, but for the namespace and the image that this cluster has.
    let here = |path: &str| example(path).replace("namespace: imaging", &format!("namespace: {namespace}")).replace("busybox:1", busybox());
    sandbox.apply(&here("two-agents/policy.yaml"));
    let pods = three_replicas(&sandbox);
    sandbox.apply(&here("two-agents/agents.yaml"));
    for policy in ["planner", "curator", "budget"] {
        sandbox.until_programmed(policy);
    }
    let token = |agent: &str| {
        until(&format!("{agent} runs"), || sandbox.try_kubectl(&["exec", agent, "--", "cat", "/var/run/imaging/token"])).trim().to_owned()
    };
    let tokens = [token("planner"), token("curator")];
    let mut agents =
        tokens.each_ref().map(|token| pods.iter().zip(CLIENTS).map(|(pod, client)| pod.agent_with(client, token)).collect::<Vec<_>>());
    let executed = |tool: &str| pods.iter().map(|pod| pod.executions().get(tool).copied().unwrap_or(0)).sum::<usize>();
    until_true("all are connected", || pods.iter().all(|pod| metric(pod, "mcp_policy_store_connected ") > 0.5));
    // A store that is new to everybody keeps everybody waiting for some seconds.
    until("the first call passes", || match said(&mut agents[0][0].0, LIST, &json!({})).as_str() {
        "passed" => Ok(()),
        code => Err(code.to_owned()),
    });

    let image = json!({"image_set_id": "i-0001"});
    let [planners, curators] = &mut agents;
    for ((planner, _), (curator, _)) in planners.iter_mut().zip(curators.iter_mut()) {
        assert_eq!(planner.list(), [LIST]);
        assert_eq!(curator.list().into_iter().collect::<BTreeSet<_>>(), [DELETE, LIST].map(str::to_owned).into());
        let refused = planner.call(DELETE, &image);
        assert_eq!((refused.code(), &refused.denial()["policy"]), ("default_deny", &json!(format!("{namespace}/planner"))));
    }

    let waits = curators[0].0.call(DELETE, &image);
    assert_eq!(waits.code(), "approval_required", "{waits:?}");
    let name = waits.denial()["approval"]["name"].as_str().unwrap().to_owned();
    assert_eq!(executed(DELETE), 0);
    let decide = ["approvals", "approve", &name, "-n", &namespace, "--reason", "a person looked"];
    mcp_policy(None, &decide).unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(said(&mut curators[1].0, DELETE, &image), "passed", "through whichever replica it comes");
    assert_eq!((said(&mut curators[2].0, DELETE, &image).as_str(), executed(DELETE)), ("approval_required", 1), "and once");

    // Two of the twelve are spent; what was refused has taken none.
    let mut counts = BTreeMap::new();
    for replica in [0, 1, 2, 0, 1, 2, 0, 1, 2] {
        for agents in [&mut *planners, &mut *curators] {
            *counts.entry(said(&mut agents[replica].0, LIST, &json!({}))).or_insert(0) += 1;
        }
    }
    assert_eq!(counts, self::counts([("passed", 10), ("limit_exceeded", 8)]));
    assert_eq!((executed(LIST), executed(DELETE)), (11, 1));
    assert_eq!(said(&mut curators[0].0, DELETE, &image), "limit_exceeded", "nobody is asked about what could not pass");
    let of_curator = format!("caller=\"serviceaccount:{namespace}/curator\"");
    assert!(offered(&namespace, &pods[0].name).contains(&of_curator), "{of_curator}");

    taken_back(&sandbox, &pods[0], &tokens);
    assert_eq!((executed(LIST), executed(DELETE)), (11, 1));
}

/// An account is deleted, and a pod: their tokens, which have not expired, prove nothing any more.
fn taken_back(sandbox: &Sandbox, pod: &Pod, [of_pod, of_account]: &[String; 2]) {
    let way = pod.forward(8080);
    let status =
        |token: &str| wire::post(&way.url(), &[&format!("authorization: Bearer {token}")], wire::call(1, LIST, &json!({})).as_bytes());
    assert!([of_pod, of_account].iter().all(|token| status(token).status == 200));
    sandbox.kubectl(&["delete", "serviceaccount", "curator"]);
    sandbox.kubectl(&["delete", "pod", "planner", "--grace-period=1"]);
    let began = Instant::now();
    for token in [of_pod, of_account] {
        until_true("the token proves nothing", || status(token).status == 401);
        println!("a token proved nothing {:?} after its account or pod was deleted", began.elapsed());
        let denial = status(token);
        assert_eq!(denial.message()["error"]["data"]["mcp-policy.dev/denial"]["code"], "unauthenticated", "{denial:?}");
        assert!(denial.headers["www-authenticate"].contains("taken back"), "{denial:?}");
    }
}
