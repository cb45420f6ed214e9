//! Every way to a pod that the sidecar could not guard: refused, in words that say what to change.

use mcp_policy_e2e::{
    cluster::{SYSTEM, busybox, command, run, try_kubectl},
    pod::Pod,
    sandbox::{Sandbox, bare},
    table::Table,
    wait::{until, until_true},
};
use serde_json::{Value, json};

const IDLE: &str = "trap exit TERM; sleep 3600 & wait";

/// Pods with one thing that is not admitted: what a person would call it, where in the pod's spec, and what.
fn pods() -> Vec<(&'static str, &'static str, Value)> {
    let token = json!([{"name": "mine", "projected": {"sources": [{"serviceAccountToken": {"path": "token", "audience": "mcp-policy-operator"}}]}}]);
    vec![
        ("`hostNetwork`", "/hostNetwork", json!(true)),
        ("`hostPID`", "/hostPID", json!(true)),
        ("`shareProcessNamespace`", "/shareProcessNamespace", json!(true)),
        ("a privileged container", "/containers/0/securityContext", json!({"privileged": true})),
        ("a container with `NET_ADMIN`", "/containers/0/securityContext", json!({"capabilities": {"add": ["NET_ADMIN"]}})),
        ("a container with `NET_RAW`", "/containers/0/securityContext", json!({"capabilities": {"add": ["NET_RAW"]}})),
        ("a container with `SYS_ADMIN`", "/containers/0/securityContext", json!({"capabilities": {"add": ["CAP_SYS_ADMIN"]}})),
        ("a container that runs as the sidecar's user", "/containers/0/securityContext", json!({"runAsUser": 14140})),
        ("a pod that runs as the sidecar's user", "/securityContext", json!({"runAsUser": 14140})),
        ("a container that declares the sidecar's port", "/containers/0/ports", json!([{"containerPort": 14140}])),
        (
            "a container that mounts the sidecar's token",
            "/containers/0/volumeMounts",
            json!([{"name": "mcp-policy", "mountPath": "/token"}]),
        ),
        ("a token of its own for the operator", "/volumes", token),
        ("a container with the sidecar's name", "/containers/0/name", json!("mcp-policy-sidecar")),
    ]
}

/// A pod that asks for nothing special.
fn plain(name: &str, label: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": label}}, "spec": {
        "terminationGracePeriodSeconds": 1, "containers": [{"name": "server", "image": busybox(), "command": ["sh", "-c", IDLE]}]}})
}

fn set(pod: &mut Value, pointer: &str, value: Value) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    pod.pointer_mut(&format!("/spec{parent}")).unwrap()[key] = value;
}

/// Containers that somebody forged to look like ours.
fn forged() -> Value {
    json!([{"name": "mcp-policy-capture", "image": busybox(), "command": ["true"]},
        {"name": "mcp-policy-sidecar", "image": busybox(), "command": ["sh", "-c", IDLE], "restartPolicy": "Always"}])
}

/// The part of a refusal that is meant for people, without what differs from run to run.
fn words(sandbox: &Sandbox, told: Result<String, String>) -> String {
    let why = told.expect_err("it was admitted");
    let line = why.lines().find(|line| line.contains("denied")).unwrap_or_else(|| panic!("no denial: {why}"));
    let said = line.rsplit("denied the request: ").next().unwrap().rsplit("denied request: ").next().unwrap();
    let said = said.replace(sandbox.namespace(), "NAMESPACE");
    // Which image it is differs from release to release.
    let Some((before, rest)) = said.split_once(" (image ") else { return said };
    format!("{before}{}", rest.split_once(')').map_or("", |(_, after)| after))
}

#[test]
fn what_could_not_be_guarded_is_refused_and_told_what_to_change() {
    let sandbox = Sandbox::new("admission");
    sandbox.policy("all", "selector: {matchLabels: {app: guarded}}, default: deny");
    let guarded = sandbox.bare("guarded", "app: guarded", IDLE);
    assert!(guarded.injected());
    let mut table = Table::new(&["what is tried", "answer"]);
    for (what, pointer, value) in pods() {
        let mut pod = plain("new", "guarded");
        set(&mut pod, pointer, value);
        let said = words(&sandbox, sandbox.try_apply(&pod.to_string()));
        table.row(&[what, &said]);
        // Where no policy selects it, it is nobody's business, but for what looks like ours.
        pod["metadata"] = json!({"name": "new", "labels": {"app": "other"}});
        let unselected = sandbox.try_kubectl(&["apply", "--dry-run=server", "-f", &file(&pod)]);
        assert!(unselected.is_ok() || what.contains("mounts the sidecar's token"), "{what}: {unselected:?}");
    }
    forgeries(&sandbox, &mut table);
    changes(&sandbox, &guarded, &mut table);
    table.compare("threat-model.md", "admission");
}

/// kubectl reads a dry run from a file.
fn file(object: &Value) -> String {
    let path = std::env::temp_dir().join(format!("mcp-policy-{}.json", std::process::id()));
    std::fs::write(&path, object.to_string()).unwrap();
    path.to_str().unwrap().to_owned()
}

fn forgeries(sandbox: &Sandbox, table: &mut Table) {
    let mut pod = plain("forged", "guarded");
    pod["spec"]["initContainers"] = forged();
    sandbox.apply(&pod.to_string());
    let (made, ours) = (sandbox.pod("forged").object(), sandbox.pod("guarded").object());
    for i in 0..2 {
        for part in ["image", "command", "args", "securityContext"] {
            assert_eq!(made["spec"]["initContainers"][i][part], ours["spec"]["initContainers"][i][part], "{part}");
        }
    }
    sandbox.kubectl(&["delete", "pod", "forged", "--wait=false"]);
    table.row(&["a pod that brings its own `mcp-policy-sidecar`", "admitted with the operator's in its place"]);

    pod = plain("forged-early", "other");
    pod["spec"]["initContainers"] = forged();
    let said = words(sandbox, sandbox.try_apply(&pod.to_string()));
    table.row(&["the same, before a policy selects it", &said]);

    sandbox.apply(&bare("bare", "app: other", IDLE));
    let said = words(sandbox, sandbox.try_kubectl(&["label", "--overwrite", "pod", "bare", "app=guarded"]));
    table.row(&["a label that moves a running pod into the selection", &said]);
}

fn changes(sandbox: &Sandbox, guarded: &Pod, table: &mut Table) {
    let image = format!("mcp-policy-sidecar={}", busybox());
    let debug = |more: &[&str]| sandbox.try_kubectl(&[&["debug", "guarded", "--image", busybox()], more, &["--", "true"]].concat());
    let set_image = || sandbox.try_kubectl(&["set", "image", "pod/guarded", &image]);
    table.row(&["another image in a running sidecar", &words(sandbox, set_image())]);
    table.row(&["`kubectl debug --profile=netadmin`", &words(sandbox, debug(&["--profile=netadmin"]))]);
    table.row(&["`kubectl debug --profile=sysadmin`", &words(sandbox, debug(&["--profile=sysadmin"]))]);
    table.row(&["`kubectl debug --target=mcp-policy-sidecar`", &words(sandbox, debug(&["--target=mcp-policy-sidecar"]))]);
    let exec = || sandbox.try_kubectl(&["exec", "guarded", "-c", "mcp-policy-sidecar", "--", "/mcp-policy-sidecar", "--version"]);
    table.row(&["`kubectl exec -c mcp-policy-sidecar`", &words(sandbox, exec())]);
    let attach = sandbox.try_kubectl(&["attach", "guarded", "-c", "mcp-policy-sidecar"]);
    table.row(&["`kubectl attach -c mcp-policy-sidecar`", &words(sandbox, attach)]);
    let patch = r#"{"data": {"ca.crt": "another"}}"#;
    let other_ca = sandbox.try_kubectl(&["patch", "configmap", "mcp-policy-ca", "--type=merge", "-p", patch]);
    table.row(&["another certificate in the ConfigMap `mcp-policy-ca`", &words(sandbox, other_ca)]);

    sandbox.kubectl(&["label", "pod", "guarded", "app-"]);
    table.row(&["first the label is taken away, then the sidecar's image changed", &words(sandbox, set_image())]);
    let said = words(sandbox, debug(&["--profile=netadmin"]));
    table.row(&["first the label is taken away, then `kubectl debug --profile=netadmin`", &said]);
    sandbox.kubectl(&["delete", "mcppolicy", "all"]);
    table.row(&["first the policy is deleted, then the sidecar's image changed", &words(sandbox, set_image())]);
    assert_eq!(guarded.object()["spec"]["ephemeralContainers"], json!(null));
}

/// A pod as injected, made by hand where nothing is governed: so that it can be wrong.
struct ByHand(Pod);

impl ByHand {
    fn new(name: &str, injected: &Pod, change: impl FnOnce(&mut Value)) -> Self {
        let mut spec = injected.object()["spec"].take();
        spec["nodeName"].take();
        spec["serviceAccountName"] = json!("default");
        let volumes = spec["volumes"].as_array_mut().unwrap();
        volumes.retain(|volume| volume["name"] == "mcp-policy");
        volumes[0] = json!({"name": "mcp-policy", "emptyDir": {}});
        spec["automountServiceAccountToken"] = json!(false);
        for list in ["initContainers", "containers"] {
            for container in spec[list].as_array_mut().unwrap() {
                if let Some(mounts) = container["volumeMounts"].as_array_mut() {
                    mounts.retain(|mount| mount["name"] == "mcp-policy");
                }
            }
        }
        change(&mut spec);
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": SYSTEM}, "spec": spec});
        run(command("kubectl").args(["create", "-f", "-"]), Some(pod.to_string().as_bytes())).unwrap();
        Self(Pod { namespace: SYSTEM.to_owned(), name: name.to_owned() })
    }

    fn app_has_started(&self) -> bool {
        let object = self.0.object();
        let state = &object["status"]["containerStatuses"][0];
        state["started"] == true || !state["state"]["running"].is_null() || !state["state"]["terminated"].is_null()
    }
}

impl Drop for ByHand {
    fn drop(&mut self) {
        let _ = try_kubectl(&["-n", SYSTEM, "delete", "pod", &self.0.name, "--wait=false", "--grace-period=0", "--force"]);
    }
}

#[test]
fn a_pod_whose_capture_fails_or_is_missing_never_starts_its_app() {
    let sandbox = Sandbox::new("uncaptured");
    sandbox.policy("all", "selector: {matchLabels: {app: guarded}}, default: deny");
    let injected = sandbox.bare("guarded", "app: guarded", IDLE);
    let suffix = std::process::id();
    let whole = ByHand::new(&format!("whole-{suffix}"), &injected, |_| {});
    let failing = ByHand::new(&format!("failing-{suffix}"), &injected, |spec| {
        spec["initContainers"][0]["securityContext"]["capabilities"] = json!({"drop": ["ALL"]});
    });
    let missing = ByHand::new(&format!("missing-{suffix}"), &injected, |spec| {
        spec["initContainers"].as_array_mut().unwrap().remove(0);
    });
    until_true("with the capture its app starts", || whole.app_has_started());
    until("the capture says what it lacks", || {
        let status = failing.0.object()["status"]["initContainerStatuses"][0].take();
        let said =
            ["state", "lastState"].map(|state| status[state]["terminated"]["message"].as_str().unwrap_or_default().to_owned()).concat();
        if said.contains("NET_ADMIN") { Ok(()) } else { Err(status.to_string()) }
    });
    until("the canary says that the pod is not captured", || {
        let events = try_kubectl(&["-n", SYSTEM, "get", "events", "--field-selector", &format!("involvedObject.name={}", missing.0.name)])?;
        if events.contains("Startup probe failed") { Ok(()) } else { Err(events) }
    });
    assert!(!failing.app_has_started() && !missing.app_has_started());
}
