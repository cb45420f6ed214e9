//! Parts fail, and come back. The table in `docs/operations.md` shows what then happens, and the bounds that are checked here:
//! `UPDATE_GOLDEN=1` writes it anew.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests: whatever goes wrong fails the test")]
#![allow(clippy::print_stdout, reason = "how long it took, for `--nocapture`")]

use std::{
    env, fs,
    process::Command,
    time::{Duration, Instant},
};

use mcp_policy_e2e::{
    client::{Agent, Client},
    cluster::{SYSTEM, busybox, kubectl, run},
    forward::Forward,
    pod::Pod,
    sandbox::{Sandbox, bare},
    table::Table,
    wait::{until, until_true},
    wire,
};
use serde_json::json;

const OPERATOR: &str = "deployment/mcp-policy-operator";
const REPLICAS: [&str; 6] = ["-n", SYSTEM, "get", "pods", "-l", "app.kubernetes.io/component=operator"];
const IDLE: &str = "trap exit TERM; sleep 3600 & wait";
const SELECTOR: &str = "selector: {matchLabels: {app: healthimaging-mcp}}";

/// A governed server that is called all the while.
struct Scene {
    sandbox: Sandbox,
    pod: Pod,
    /// In the node's network, with the rights of its administrator.
    node: Pod,
    /// An agent, and its way to the server.
    agent: (Agent, Forward),
    allowed: usize,
    /// Which of two policies that allow the same call is applied next, so that each is a change.
    revision: usize,
    table: Table,
}

impl Scene {
    fn new() -> Self {
        let sandbox = Sandbox::new("faults");
        sandbox.policy("imaging", &format!("{SELECTOR}, tools: {{list_datastores: {{}}}}"));
        let pod = sandbox.imaging();
        sandbox.until_programmed("imaging");
        sandbox.apply(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: node}}, spec: {{hostNetwork: true, hostPID: true, terminationGracePeriodSeconds: 1, \
             containers: [{{name: server, image: '{}', securityContext: {{privileged: true}}, command: [sh, -c, '{IDLE}']}}]}}}}",
            busybox()
        ));
        sandbox.kubectl(&["wait", "--for=condition=Ready", "pod/node", "--timeout=60s"]);
        let agent = pod.agent(Client::Python2);
        let table = Table::new(&["fault", "meanwhile", "recovered within"]);
        Self { node: sandbox.pod("node"), sandbox, pod, agent, allowed: 0, revision: 0, table }
    }

    /// What is allowed passes and runs once, what is denied is denied and does not run.
    fn decides_as_before(&mut self) {
        assert!(self.agent.0.call("list_datastores", &json!({})).passed());
        self.allowed += 1;
        assert_eq!(self.agent.0.call("list_dicom_export_jobs", &json!({})).code(), "default_deny");
        assert_eq!(self.pod.executions(), [("list_datastores".to_owned(), self.allowed)].into());
    }

    /// Changes the policy and waits until that is enforced.
    fn a_change_arrives(&mut self) {
        self.revision += 1;
        let more = if self.revision.is_multiple_of(2) { "" } else { ", get_image_set: {}" };
        self.sandbox.policy("imaging", &format!("{SELECTOR}, tools: {{list_datastores: {{}}{more}}}"));
        self.sandbox.until_programmed("imaging");
    }

    fn selected_pod(&self) -> Result<String, String> {
        self.sandbox.try_apply(&bare("selected", "app: healthimaging-mcp", IDLE))
    }

    fn a_selected_pod_is_admitted_with_its_sidecar(&self) {
        until("a selected pod is admitted", || self.selected_pod());
        assert!(self.sandbox.pod("selected").injected());
        self.sandbox.kubectl(&["delete", "pod", "selected", "--grace-period=0", "--force", "--wait=true"]);
    }

    /// Writes a line of the table, if it did not take longer.
    fn row(&mut self, fault: &str, meanwhile: &str, since: Instant, seconds: u64) {
        println!("{fault}: recovered after {:.1?}", since.elapsed());
        assert!(since.elapsed() < Duration::from_secs(seconds), "{fault}: {:?}", since.elapsed());
        self.table.row(&[fault, meanwhile, &format!("{seconds} s")]);
        self.decides_as_before();
    }
}

/// How long no operator runs. By default longer than the two heartbeats after which sidecars look for another replica.
fn outage() -> Duration {
    Duration::from_secs(env::var("MCP_POLICY_OUTAGE_SECONDS").map_or(25, |seconds| seconds.parse().unwrap()))
}

/// The operator is scaled down for as long as this lives.
struct Down;

impl Drop for Down {
    fn drop(&mut self) {
        kubectl(&["-n", SYSTEM, "scale", OPERATOR, "--replicas=2"]);
        kubectl(&["-n", SYSTEM, "rollout", "status", OPERATOR, "--timeout=90s"]);
    }
}

/// The API server of the embedded cluster answers nothing for as long as this lives.
struct BlackHole(String);

impl BlackHole {
    fn now() -> Option<Self> {
        let state = env::var("MCP_POLICY_CLUSTER_STATE").unwrap_or_else(|_| "/run/mcp-policy-cluster".to_owned());
        // It is no process of ours in somebody else's cluster.
        let pid = env::var_os("KUBECONFIG").is_none().then(|| fs::read_to_string(format!("{state}/pid/kube-apiserver")).unwrap())?;
        run(Command::new("kill").args(["-STOP", pid.trim()]), None).unwrap();
        Some(Self(pid.trim().to_owned()))
    }
}

impl Drop for BlackHole {
    fn drop(&mut self) {
        run(Command::new("kill").args(["-CONT", &self.0]), None).unwrap();
    }
}

#[test]
fn whatever_fails_no_decision_changes_and_it_recovers_in_time() {
    let mut scene = Scene::new();
    scene.decides_as_before();
    the_operator_fails(&mut scene);
    the_sidecar_is_killed(&mut scene);
    somebody_else_writes_the_status(&mut scene);
    the_api_server_is_silent(&mut scene);
    scene.table.compare("operations.md", "faults");
}

fn the_operator_fails(scene: &mut Scene) {
    let since = Instant::now();
    kubectl(&["-n", SYSTEM, "rollout", "restart", OPERATOR]);
    scene.decides_as_before();
    scene.a_change_arrives();
    scene.row("the operator is restarted, one replica after the other", "decisions stand, changes arrive", since, 30);
    kubectl(&["-n", SYSTEM, "rollout", "status", OPERATOR, "--timeout=90s"]);

    let since = Instant::now();
    let replicas = kubectl(&[&REPLICAS[..], &["-o", "jsonpath={.items[*].metadata.name}"]].concat());
    let names: Vec<_> = replicas.split_whitespace().collect();
    kubectl(&[&["-n", SYSTEM, "delete", "pod", "--grace-period=0", "--force"], &names[..]].concat());
    scene.decides_as_before();
    scene.a_selected_pod_is_admitted_with_its_sidecar();
    scene.a_change_arrives();
    scene.row("both replicas of the operator crash", "decisions stand", since, 60);
    kubectl(&["-n", SYSTEM, "rollout", "status", OPERATOR, "--timeout=90s"]);

    let down = Down;
    kubectl(&["-n", SYSTEM, "scale", OPERATOR, "--replicas=0"]);
    until_true("no operator runs", || kubectl(&[&REPLICAS[..], &["-o", "name"]].concat()).trim().is_empty());
    scene.sandbox.apply(&bare("unselected", "app: other", IDLE));
    let end = Instant::now() + outage();
    while Instant::now() < end {
        scene.decides_as_before();
        let why = scene.selected_pod().expect_err("a selected pod was admitted without its sidecar");
        assert!(why.contains("mcp-policy-sidecar"), "{why}");
    }
    let since = Instant::now();
    drop(down);
    scene.a_selected_pod_is_admitted_with_its_sidecar();
    scene.a_change_arrives();
    scene.row(
        "no operator for half a minute (`make test-long`: ten minutes)",
        "decisions stand; selected pods are denied, others admitted",
        since,
        45,
    );
}

fn the_sidecar_is_killed(scene: &mut Scene) {
    let kill = format!(
        "for p in /proc/[0-9]*; do grep -qz '^MCP_POLICY_POD_NAME={}$' $p/environ 2>/dev/null && kill -9 ${{p#/proc/}} && exit; done; exit 1",
        scene.pod.name
    );
    let address = scene.pod.address(false);
    let dial = |node: &Pod| node.shell(&format!("timeout 5 wget -q -O - http://{address}:8080/none"));
    let before = scene.pod.lives().1;
    scene.node.shell(&kill).unwrap();
    let since = Instant::now();
    until("the sidecar answers again", || match dial(&scene.node) {
        Err(why) if why.contains("404") && scene.pod.lives().1 > before => Ok(()),
        other => Err(format!("{other:?}")),
    });
    println!("the sidecar answers again after {:.1?}", since.elapsed());
    until_true("it has its policies again", || scene.node.shell(&format!("wget -q -O - http://{address}:14141/readyz")).is_ok());
    println!("the sidecar has its policies after {:.1?}", since.elapsed());
    // Its connections went with it, and the sessions of the server are still there.
    scene.agent = scene.pod.agent(Client::Python2);
    scene.row("the sidecar is killed", "the kernel refuses every connection", since, 30);
}

fn somebody_else_writes_the_status(scene: &mut Scene) {
    let since = Instant::now();
    let lie = r#"{"status": {"enforcing": 7, "selected": 7}}"#;
    scene.sandbox.kubectl(&["patch", "mcppolicy", "imaging", "--subresource=status", "--type=merge", "-p", lie]);
    until("the status is true again", || {
        let status = &scene.sandbox.get_policy("imaging")["status"];
        if status["selected"] == 1 && status["enforcing"] == 1 { Ok(()) } else { Err(status.to_string()) }
    });
    scene.row("somebody else writes into the status", "decisions stand", since, 15);
}

fn the_api_server_is_silent(scene: &mut Scene) {
    let url = format!("http://{}:8080/mcp", scene.pod.address(false));
    let Some(silent) = BlackHole::now() else { return };
    let end = Instant::now() + Duration::from_secs(20);
    while Instant::now() < end {
        let answer = wire::post(&url, &[], wire::call(1, "list_dicom_export_jobs", &json!({})).as_bytes());
        assert!(answer.body.contains("default_deny"), "{answer:?}");
    }
    drop(silent);
    let since = Instant::now();
    until_true("the API server answers", || scene.sandbox.try_kubectl(&["get", "pods"]).is_ok());
    scene.agent = scene.pod.agent(Client::Python2);
    scene.a_change_arrives();
    scene.row("the API server answers nothing for 20 s", "decisions stand", since, 60);
}
