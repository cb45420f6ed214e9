//! Injection: golden patches for whole pods, refusals, and the laws that hold for every pod.

#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers outside of test functions")]

use std::fs;
use std::path::{Path, PathBuf};

use json_patch::PatchOperation;
use proptest::prelude::*;
use serde_json::{Value, json};

use mcp_policy_operator::inject::{INJECTED, Outcome, Resources, Settings, Skipped, inject};

fn settings() -> Settings {
    Settings {
        image: "ghcr.io/mcp-policy/sidecar:test".to_owned(),
        pull_policy: "IfNotPresent".to_owned(),
        operator_url: "https://mcp-policy-operator.mcp-policy-system.svc:443".to_owned(),
        log: "info".to_owned(),
        otlp_endpoint: None,
        resources: Resources {
            cpu_request: "10m".to_owned(),
            cpu_limit: "1".to_owned(),
            memory_request: "32Mi".to_owned(),
            memory_limit: "64Mi".to_owned(),
        },
    }
}

fn operations(pod: &Value) -> Vec<PatchOperation> {
    match inject(pod, &settings()) {
        Outcome::Inject(operations) => operations,
        other => panic!("{other:?}"),
    }
}

fn injected(pod: &Value) -> Value {
    let mut patched = pod.clone();
    json_patch::patch(&mut patched, &operations(pod)).unwrap();
    patched
}

/// The version stands in the annotation; golden files must not change with each release.
fn without_version(patch: &str) -> String {
    patch.replace(&format!("\"{}\"", env!("CARGO_PKG_VERSION")), "\"VERSION\"")
}

#[test]
fn patches_are_those_of_the_golden_files() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/inject");
    let mut cases: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.to_string_lossy().ends_with(".pod.json"));
    assert!(cases.len() >= 6, "{cases:?}");
    for case in cases {
        let pod: Value = serde_json::from_str(&fs::read_to_string(&case).unwrap()).unwrap();
        let patch = without_version(&format!("{}\n", serde_json::to_string_pretty(&operations(&pod)).unwrap()));
        let golden = PathBuf::from(case.to_string_lossy().replace(".pod.json", ".patch.json"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&golden, &patch).unwrap();
        }
        let expected = fs::read_to_string(&golden).unwrap_or_else(|error| panic!("{}: {error}", golden.display()));
        assert_eq!(patch, expected, "{}: run with UPDATE_GOLDEN=1 and read the difference", golden.display());
    }
}

#[allow(clippy::needless_pass_by_value, reason = "a literal at each call")]
fn pod(spec: Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p" }, "spec": spec })
}

fn rejected(spec: &Value) -> String {
    match inject(&pod(spec.clone()), &settings()) {
        Outcome::Reject(message) => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_pod_is_annotated_for_scraping_unless_it_has_a_scrape_of_its_own() {
    let annotated = |annotations: Value| {
        let mut pod = pod(json!({ "containers": [{ "name": "app" }] }));
        pod["metadata"]["annotations"] = annotations;
        let mut after = injected(&pod)["metadata"]["annotations"].clone();
        after.as_object_mut().unwrap().remove(INJECTED);
        after
    };
    let ours = json!({ "prometheus.io/scrape": "true", "prometheus.io/port": "14141", "prometheus.io/path": "/metrics" });
    assert_eq!(annotated(Value::Null), ours);
    assert_eq!(annotated(json!({})), ours);
    let theirs = json!({ "prometheus.io/scrape": "true", "prometheus.io/port": "9090" });
    assert_eq!(annotated(theirs.clone()), theirs);
}

#[test]
fn what_could_undo_capture_is_rejected_with_the_field_to_change() {
    let app = |change: Value| {
        let mut container = json!({ "name": "app" });
        container.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        json!({ "containers": [container] })
    };
    let cases = [
        (json!({ "hostNetwork": true, "containers": [] }), "spec.hostNetwork: "),
        (json!({ "hostPID": true, "containers": [] }), "spec.hostPID: "),
        (json!({ "shareProcessNamespace": true, "containers": [] }), "spec.shareProcessNamespace: "),
        (json!({ "os": { "name": "windows" }, "containers": [] }), "spec.os.name: "),
        (json!({ "securityContext": { "runAsUser": 14140 }, "containers": [] }), "spec.securityContext.runAsUser: 14140"),
        (app(json!({ "securityContext": { "runAsUser": 14140 } })), "spec.containers[0].securityContext.runAsUser: 14140"),
        (app(json!({ "securityContext": { "privileged": true } })), "spec.containers[0].securityContext.privileged: "),
        (
            app(json!({ "securityContext": { "capabilities": { "add": ["NET_ADMIN"] } } })),
            "spec.containers[0].securityContext.capabilities.add: NET_ADMIN",
        ),
        (
            app(json!({ "securityContext": { "capabilities": { "add": ["CHOWN", "CAP_NET_RAW"] } } })),
            "spec.containers[0].securityContext.capabilities.add: CAP_NET_RAW",
        ),
        (
            app(json!({ "securityContext": { "capabilities": { "add": ["all"] } } })),
            "spec.containers[0].securityContext.capabilities.add: all",
        ),
        (
            app(json!({ "securityContext": { "capabilities": { "add": ["SYS_ADMIN"] } } })),
            "spec.containers[0].securityContext.capabilities.add: SYS_ADMIN",
        ),
        (
            json!({ "volumes": [{ "name": "a", "emptyDir": {} }, { "name": "b", "projected": { "sources": [
                { "serviceAccountToken": { "path": "t" } }, { "serviceAccountToken": { "path": "u", "audience": "mcp-policy-operator" } }] } }] }),
            "spec.volumes[1].projected.sources: ",
        ),
        (app(json!({ "ports": [{ "containerPort": 80 }, { "containerPort": 14142 }] })), "spec.containers[0].ports: 14142"),
        (app(json!({ "volumeMounts": [{ "name": "mcp-policy", "mountPath": "/x" }] })), "spec.containers[0].volumeMounts: "),
        (app(json!({ "name": "mcp-policy-sidecar" })), "spec.containers[0].name: mcp-policy-sidecar"),
        (
            json!({ "initContainers": [{ "name": "i", "securityContext": { "privileged": true } }] }),
            "spec.initContainers[0].securityContext.privileged: ",
        ),
    ];
    for (spec, start) in cases {
        let message = rejected(&spec);
        assert!(message.starts_with(start), "{spec}: {message}");
    }
}

#[test]
fn harmless_security_settings_are_not_rejected() {
    let spec = json!({ "containers": [{ "name": "app",
        "securityContext": { "runAsUser": 1000, "privileged": false, "capabilities": { "add": ["NET_BIND_SERVICE"], "drop": ["ALL"] } },
        "ports": [{ "containerPort": 14139 }, { "containerPort": 14143 }] }] });
    operations(&pod(spec));
}

#[test]
fn a_mirror_pod_is_left_alone() {
    let mut pod = pod(json!({ "containers": [{ "name": "app" }] }));
    pod["metadata"]["annotations"] = json!({ "kubernetes.io/config.mirror": "x" });
    assert_eq!(inject(&pod, &settings()), Outcome::Skip(Skipped::MirrorPod));
}

#[test]
fn a_container_of_our_name_is_replaced_whatever_it_says() {
    let forged =
        json!({ "name": "mcp-policy-sidecar", "restartPolicy": "Always", "image": "evil", "securityContext": { "privileged": true } });
    let after = injected(&pod(json!({ "initContainers": [{ "name": "first" }, forged], "containers": [{ "name": "app" }] })));
    let names: Vec<_> = after["spec"]["initContainers"].as_array().unwrap().iter().map(|container| container["name"].clone()).collect();
    assert_eq!(names, ["mcp-policy-capture", "mcp-policy-sidecar", "first"]);
    assert_eq!(after["spec"]["initContainers"][1]["image"], "ghcr.io/mcp-policy/sidecar:test");
}

#[test]
fn a_tampered_sidecar_is_put_right() {
    let whole = injected(&pod(json!({ "containers": [{ "name": "app" }] })));
    let mut tampered = whole.clone();
    tampered["spec"]["initContainers"][1]["env"].as_array_mut().unwrap().push(json!({ "name": "LD_PRELOAD", "value": "/x" }));
    assert_eq!(injected(&tampered), whole);
    let mut moved = whole.clone();
    moved["spec"]["initContainers"].as_array_mut().unwrap().rotate_left(1);
    assert_eq!(injected(&moved), whole);
}

#[test]
fn the_sidecar_is_told_of_a_collector_where_there_is_one() {
    let named = |otlp_endpoint: Option<&str>| {
        let settings = Settings { otlp_endpoint: otlp_endpoint.map(str::to_owned), ..settings() };
        let Outcome::Inject(operations) = inject(&pod(json!({"containers": [{"name": "a"}]})), &settings) else { panic!("not injected") };
        serde_json::to_string(&operations).unwrap().contains(r#"{"name":"OTEL_EXPORTER_OTLP_ENDPOINT","value":"http://otel:4318"}"#)
    };
    assert_eq!((named(None), named(Some("http://otel:4318"))), (false, true));
}

#[test]
fn a_dollar_in_a_probe_is_not_expanded() {
    let probe = json!({ "httpGet": { "path": "/a?b=$(HOME)", "port": 80 } });
    let after = injected(&pod(json!({ "containers": [{ "name": "app", "livenessProbe": probe }] })));
    let env = after["spec"]["initContainers"][1]["env"].as_array().unwrap();
    let probes = env.iter().find(|variable| variable["name"] == "MCP_POLICY_PROBES").unwrap()["value"].as_str().unwrap();
    assert_eq!(probes, r#"[{"port":80,"httpGet":{"path":"/a?b=$$(HOME)"}}]"#);
}

#[test]
fn a_guaranteed_pod_stays_guaranteed() {
    let equal = json!({ "requests": { "cpu": "1", "memory": "1Gi" }, "limits": { "cpu": "1", "memory": "1Gi" } });
    let after = injected(&pod(json!({ "containers": [{ "name": "app", "resources": equal }] })));
    for i in 0..2 {
        let ours = &after["spec"]["initContainers"][i]["resources"];
        assert_eq!(ours["requests"], ours["limits"]);
    }
}

/// Any JSON, small: what a newer API server may know and this build does not.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![any::<bool>().prop_map(Value::from), any::<u32>().prop_map(Value::from), "[a-z~/\"]{0,4}".prop_map(Value::from)];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-z~/]{1,3}", inner, 0..3).prop_map(|map| json!(map)),
        ]
    })
}

fn any_container(names: &'static str) -> impl Strategy<Value = Value> {
    let probe = json!({ "httpGet": { "path": "/h", "port": 80 } });
    (names, any_json(), prop::option::of(Just(probe))).prop_map(|(name, unknown, probe)| {
        let mut container = json!({ "name": name, "unknownOfContainer": unknown });
        if let Some(probe) = probe {
            container["readinessProbe"] = probe;
        }
        container
    })
}

fn any_pod() -> impl Strategy<Value = Value> {
    let init = prop::option::of(prop::collection::vec(any_container("[ab]|mcp-policy-capture|mcp-policy-sidecar"), 0..5));
    let volumes = prop::option::of(prop::collection::vec(("[xy]|mcp-policy", any_json()), 0..4));
    let annotations = prop::option::of(prop::collection::btree_map("[ab]|mcp-policy.dev/injected", "[a-z]{0,3}", 0..3));
    (init, prop::collection::vec(any_container("[cd]"), 1..3), volumes, annotations, any_json()).prop_map(
        |(init, containers, volumes, annotations, unknown)| {
            let mut pod =
                json!({ "metadata": { "unknownOfMetadata": unknown }, "spec": { "containers": containers, "unknownOfSpec": unknown } });
            if let Some(init) = init {
                pod["spec"]["initContainers"] = json!(init);
            }
            if let Some(volumes) = volumes {
                let volumes: Vec<_> =
                    volumes.into_iter().map(|(name, unknown)| json!({ "name": name, "unknownOfVolume": unknown })).collect();
                pod["spec"]["volumes"] = json!(volumes);
            }
            if let Some(annotations) = annotations {
                pod["metadata"]["annotations"] = json!(annotations);
            }
            pod
        },
    )
}

/// The pod without all that is ours, and without lists and maps that are then empty.
fn of_others(mut pod: Value) -> Value {
    for (list, ours) in [("initContainers", vec!["mcp-policy-capture", "mcp-policy-sidecar"]), ("volumes", vec!["mcp-policy"])] {
        if let Some(Value::Array(items)) = pod["spec"].get_mut(list) {
            items.retain(|item| !ours.contains(&item["name"].as_str().unwrap()));
            if items.is_empty() {
                pod["spec"].as_object_mut().unwrap().remove(list);
            }
        }
    }
    if let Some(Value::Object(annotations)) = pod["metadata"].get_mut("annotations") {
        annotations.remove(INJECTED);
        // The strategy generates no annotation of Prometheus.
        annotations.retain(|key, _| !key.starts_with("prometheus.io/"));
        if annotations.is_empty() {
            pod["metadata"].as_object_mut().unwrap().remove("annotations");
        }
    }
    pod
}

proptest! {
    #[test]
    fn injecting_twice_changes_nothing(pod in any_pod()) {
        prop_assert_eq!(inject(&injected(&pod), &settings()), Outcome::Skip(Skipped::Complete));
    }

    #[test]
    fn what_is_not_ours_survives_in_its_order(pod in any_pod()) {
        prop_assert_eq!(of_others(injected(&pod)), of_others(pod));
    }

    #[test]
    fn ours_come_first(pod in any_pod()) {
        let after = injected(&pod);
        prop_assert_eq!(&after["spec"]["initContainers"][0]["name"], "mcp-policy-capture");
        prop_assert_eq!(&after["spec"]["initContainers"][1]["name"], "mcp-policy-sidecar");
    }
}
