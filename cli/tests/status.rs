//! `mcp-policy status` as its users run it, with a `kubectl` that knows a small cluster.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};
use support::{command, folder, told};

fn pod(name: &str, app: &str, has_sidecar: bool) -> Value {
    let init = if has_sidecar { json!([{"name": "mcp-policy-sidecar", "restartPolicy": "Always"}]) } else { json!([]) };
    json!({
        "metadata": {"name": name, "namespace": "imaging", "labels": {"app": app}},
        "spec": {"initContainers": init}, "status": {"phase": "Running"},
    })
}

fn policy(name: &str, generation: u64, accepted: bool, app: &str) -> Value {
    let selector = json!({"matchLabels": {"app": app}});
    let status = if accepted { "True" } else { "False" };
    let in_force = if accepted { generation } else { generation - 1 };
    json!({
        "metadata": {"name": name, "namespace": "imaging", "generation": generation},
        "spec": {"selector": selector},
        "status": {
            "observedGeneration": generation, "mode": "enforce",
            "conditions": [{"type": "Accepted", "status": status, "message": format!("About {name}.")}],
            "lastAccepted": {"generation": in_force, "spec": {"selector": selector}},
        },
    })
}

fn snapshot(policies: &[(&str, &str)]) -> Value {
    let policies: Vec<_> =
        policies.iter().map(|(name, revision)| json!({"name": name, "revision": revision, "mode": "enforce", "accepted": true})).collect();
    json!({"version": "1", "sha256": "00", "ageSeconds": 3, "policies": policies})
}

/// A cluster with these policies, pods and sidecars.
struct Cluster {
    policies: Vec<Value>,
    guards: Vec<Value>,
    pods: Vec<Value>,
    /// What the sidecars of pods answer.
    sidecars: Vec<(&'static str, Value)>,
}

impl Cluster {
    fn status(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let items = |items: &[Value]| json!({ "items": items });
        let sidecars: Vec<_> =
            self.sidecars.iter().map(|(pod, answer)| format!("*/pods/{pod}:14141/proxy/snapshot) echo '{answer}';;\n")).collect();
        let sidecars = sidecars.concat();
        let admission = json!({"spec": {"matchConstraints": {"namespaceSelector": {
            "matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["kube-system"]}]
        }}}});
        let namespaces = json!([
            {"metadata": {"name": "imaging", "labels": {"team": "one", "kubernetes.io/metadata.name": "imaging"}}},
            {"metadata": {"name": "kube-system", "labels": {"kubernetes.io/metadata.name": "kube-system"}}},
        ]);
        let script = format!(
            "#!/bin/sh\ncase \"$2 $3\" in\nmcppolicies*) echo '{}';;\nclustermcppolicies*) echo '{}';;\npods*) echo '{}';;\n\
             namespaces*) echo '{{\"items\": {namespaces}}}';;\nvalidatingadmissionpolicies*) echo '{admission}';;\n{sidecars}\
             *) echo \"Error from server (ServiceUnavailable): $3\" >&2; exit 1;;\nesac\n",
            items(&self.policies),
            items(&self.guards),
            items(&self.pods),
        );
        let folder = folder(&[("kubectl", &script)]);
        std::fs::set_permissions(folder.path().join("kubectl"), Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
        told(&command(folder.path(), &[&["status"], arguments].concat()).env("PATH", path).output().unwrap())
    }
}

#[test]
fn each_pod_is_told_by_what_its_own_sidecar_says() {
    let cluster = Cluster {
        policies: vec![policy("calls", 4, true, "mcp")],
        guards: Vec::new(),
        pods: vec![
            pod("web-0", "mcp", true),
            pod("web-1", "mcp", true),
            pod("web-2", "mcp", true),
            pod("web-3", "mcp", false),
            pod("web-4", "mcp", true),
            pod("db-0", "db", false),
        ],
        sidecars: vec![
            ("web-0", snapshot(&[("imaging/calls", "4")])),
            ("web-1", snapshot(&[("imaging/calls", "3")])),
            ("web-2", snapshot(&[])),
        ],
    };
    let (code, out, errors) = cluster.status(&[]);
    assert_eq!((code, errors.as_str()), (Some(1), ""));
    assert_eq!(
        out,
        "imaging/calls  enforce, accepted, generation 4 in 1 of 5 pods
  About calls.
  imaging/web-0  enforcing, heard of the operator 3 s ago
  imaging/web-1  enforces generation 3, not 4, heard of the operator 3 s ago
  imaging/web-2  knows nothing of this policy, heard of the operator 3 s ago
  imaging/web-3  has no sidecar: calls reach it unchecked; its events name the command that mends it
  imaging/web-4  cannot be asked: kubectl get --raw /api/v1/namespaces/imaging/pods/web-4:14141/proxy/snapshot failed: Error from server (ServiceUnavailable): /api/v1/namespaces/imaging/pods/web-4:14141/proxy/snapshot
"
    );
    let (_, out, _) = cluster.status(&["--output", "json"]);
    let told: Value = serde_json::from_str(&out).unwrap();
    let states: Vec<_> = told["policies"][0]["pods"].as_array().unwrap().iter().map(|pod| pod["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["enforcing", "stale", "stale", "uncovered", "unknown"]);
}

#[test]
fn all_is_well_when_every_selected_pod_enforces_the_present_generation() {
    let mut cluster = Cluster {
        policies: vec![policy("calls", 2, true, "mcp")],
        guards: Vec::new(),
        pods: vec![pod("web-0", "mcp", true)],
        sidecars: vec![("web-0", snapshot(&[("imaging/calls", "2")]))],
    };
    assert_eq!(cluster.status(&[]).0, Some(0));
    // A sidecar that enforces what the operator has not judged is no proof of anything.
    cluster.policies[0]["status"]["observedGeneration"] = json!(1);
    let (code, out, _) = cluster.status(&[]);
    assert_eq!(code, Some(1));
    assert!(out.contains("not judged yet: is the operator running?"), "{out}");
}

#[test]
fn a_revision_that_is_not_accepted_is_never_well() {
    let cluster = Cluster {
        policies: vec![policy("calls", 2, false, "mcp")],
        guards: Vec::new(),
        pods: vec![pod("web-0", "mcp", true)],
        sidecars: vec![("web-0", snapshot(&[("imaging/calls", "1")]))],
    };
    let (code, out, _) = cluster.status(&["calls"]);
    assert_eq!(code, Some(1));
    assert!(out.contains("not accepted: generation 1 is in force, generation 2 in 0 of 1 pods"), "{out}");
}

#[test]
fn policies_of_the_cluster_count_where_they_can_govern() {
    let mut guard = policy("guard", 1, true, "mcp");
    guard["metadata"].as_object_mut().unwrap().remove("namespace");
    guard["status"]["lastAccepted"]["spec"]["namespaceSelector"] = json!({});
    guard["spec"]["namespaceSelector"] = json!({});
    let mut of_the_system = pod("dns", "mcp", false);
    of_the_system["metadata"]["namespace"] = json!("kube-system");
    let mut over = pod("job-0", "mcp", false);
    over["status"]["phase"] = json!("Succeeded");
    let cluster = Cluster {
        policies: Vec::new(),
        guards: vec![guard],
        pods: vec![of_the_system, over, pod("web-0", "mcp", true)],
        sidecars: vec![("web-0", snapshot(&[("guard", "1")]))],
    };
    let (code, out, errors) = cluster.status(&["-A"]);
    assert_eq!((code, errors.as_str()), (Some(0), ""), "{out}");
    assert!(out.starts_with("guard  enforce, accepted, generation 1 in 1 of 1 pods\n"), "{out}");
    assert!(!out.contains("dns") && !out.contains("job-0"), "{out}");
}

#[test]
fn a_name_that_no_policy_has_is_told() {
    let cluster = Cluster { policies: vec![policy("calls", 1, true, "mcp")], guards: Vec::new(), pods: Vec::new(), sidecars: Vec::new() };
    let (code, _, errors) = cluster.status(&["cals"]);
    assert_eq!(
        (code, errors.as_str()),
        (Some(2), "error: no policy is called cals; `kubectl get mcpp,cmcpp --all-namespaces` lists them\n")
    );
    let (code, out, _) = cluster.status(&["imaging/calls"]);
    assert_eq!(code, Some(0));
    assert!(out.contains("0 of 0 pods"), "{out}");
}
