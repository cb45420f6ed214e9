//! The kubelet is told the same of a server with and without the sidecar: while it is down, up, failing and slow.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests: whatever goes wrong fails the test")]

use std::collections::BTreeMap;

use mcp_policy_e2e::{cluster::busybox, pod::Pod, sandbox::Sandbox, wait::until};
use serde_json::{Value, json};

/// Readiness probes, each of a container of its own: name, probe, and whether it looks at what the server answers.
fn probes() -> Vec<(&'static str, Value, bool)> {
    let http = |more: Value| {
        let mut get = json!({"port": "web", "path": "/cgi-bin/probe"});
        get.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "httpGet": get })
    };
    vec![
        ("tcp-number", json!({"tcpSocket": {"port": 8000}}), false),
        ("tcp-name", json!({"tcpSocket": {"port": "web"}}), false),
        ("http-name", http(json!({})), true),
        ("http-number", http(json!({"port": 8003})), true),
        ("http-query", http(json!({"path": "/cgi-bin/probe?full=1&deep=%2F"})), true),
        ("http-relative", http(json!({"path": "cgi-bin/probe"})), true),
        ("http-header", http(json!({"httpHeaders": [{"name": "X-Token", "value": "$(A) b"}]})), true),
        ("http-host", http(json!({"httpHeaders": [{"name": "Host", "value": "example.org"}]})), true),
        ("http-space", http(json!({"path": "/cgi-bin/probe/a b"})), true),
        ("http-letters", http(json!({"path": "/cgi-bin/probe/caf\u{e9}"})), true),
        ("http-fragment", http(json!({"path": "/cgi-bin/probe#/health"})), true),
        ("http-escaped", http(json!({"path": "/cgi-bin/probe/%7Bid%7D?q=a;b"})), true),
        ("http-twice", http(json!({"httpHeaders": [{"name": "X-A", "value": "1"}, {"name": "x-a", "value": "2"}]})), true),
        ("http-blanks", http(json!({"httpHeaders": [{"name": "X-Forwarded-Proto", "value": " https "}]})), true),
        ("http-empty", http(json!({"httpHeaders": [{"name": "Accept", "value": ""}, {"name": "User-Agent", "value": ""}]})), true),
        ("http-auth", http(json!({"httpHeaders": [{"name": "Authorization", "value": "Basic dXNlcjpwYXNz"}]})), true),
        ("http-length", http(json!({"httpHeaders": [{"name": "Content-Length", "value": "7"}]})), true),
        ("http-agent", http(json!({"httpHeaders": [{"name": "User-Agent", "value": "probe/1"}]})), true),
    ]
}

/// What all servers of a pod do is written in a file that they share.
const SERVER: &str = r#"trap exit TERM; mkdir -p /tmp/w/cgi-bin; printf '%s\n' '#!/bin/sh' 'case $(cat /state/now) in
      slow) sleep 3 ;; failing) echo "Status: 500" ;; esac; echo; echo ok' >/tmp/w/cgi-bin/probe; chmod +x /tmp/w/cgi-bin/probe
    while :; do
      case $(cat /state/now 2>/dev/null) in
        up | slow | failing) [ -n "$server" ] || { httpd -f -p $PORT -h /tmp/w & server=$!; } ;;
        *) [ -z "$server" ] || { kill $server; wait $server; server=; } ;;
      esac
      sleep 0.1 & wait $!
    done"#;

fn pod(name: &str) -> String {
    let containers: Vec<_> = (8000..)
        .zip(probes())
        .map(|(port, (name, mut probe, _))| {
            probe.as_object_mut().unwrap().extend([("periodSeconds", 1), ("failureThreshold", 1)].map(|(key, value)| (key.to_owned(), json!(value))));
            json!({"name": name, "image": busybox(), "command": ["sh", "-c", SERVER], "env": [{"name": "PORT", "value": port.to_string()}],
                "ports": [{"name": "web", "containerPort": port}], "readinessProbe": probe, "volumeMounts": [{"name": "state", "mountPath": "/state"}]})
        })
        .collect();
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": {
        "terminationGracePeriodSeconds": 1, "containers": containers, "volumes": [{"name": "state", "emptyDir": {}}]}})
    .to_string()
}

/// Which of its containers are ready, by their names.
fn ready(pod: &Pod) -> BTreeMap<String, bool> {
    let object = pod.object();
    let statuses = object["status"]["containerStatuses"].as_array().into_iter().flatten();
    statuses.map(|status| (status["name"].as_str().unwrap().to_owned(), status["ready"] == true)).collect()
}

#[test]
fn probes_say_the_same_with_and_without_the_sidecar() {
    let sandbox = Sandbox::new("probes");
    sandbox.policy("all", "selector: {matchLabels: {app: guarded}}, default: deny");
    sandbox.until_condition("all", "Accepted", "True");
    let twins = ["open", "guarded"].map(|name| {
        until(&format!("{name} is admitted"), || sandbox.try_apply(&pod(name)));
        sandbox.pod(name)
    });
    for twin in &twins {
        until(&format!("{} runs", twin.name), || twin.shell_in("tcp-number", "true"));
    }
    assert!(twins[1].injected() && !twins[0].injected());
    for state in ["up", "down", "up", "failing", "up", "slow", "down"] {
        let expected: BTreeMap<_, _> =
            probes().into_iter().map(|(name, _, asks)| (name.to_owned(), state == "up" || state != "down" && !asks)).collect();
        for twin in &twins {
            twin.shell_in("tcp-number", &format!("echo {state} >/state/new; mv /state/new /state/now")).unwrap();
        }
        for twin in &twins {
            until(&format!("{}: the servers are {state}", twin.name), || {
                let ready = ready(twin);
                if ready == expected { Ok(()) } else { Err(format!("{ready:?}")) }
            });
        }
    }
}
