//! The kubelet is told the same of a server with and without the sidecar: while it is down, up, failing and slow.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests: whatever goes wrong fails the test")]

use std::{collections::BTreeMap, env};

use mcp_policy_e2e::{cluster::busybox, pod::Pod, sandbox::Sandbox, wait::until};
use serde_json::{Value, json};

/// A readiness probe, of a container of its own.
struct Probed {
    name: &'static str,
    probe: Value,
    /// Whether it looks at what the server answers.
    asks: bool,
    /// The server, while it is up.
    server: &'static str,
}

/// Speaks HTTP, and looks into a file that all servers of a pod share how it shall answer.
const HTTPD: &str = "httpd -f -p $PORT -h /tmp/w";
/// Speaks gRPC.
const ETCD: &str = "etcd --data-dir /tmp/etcd --log-level error --unsafe-no-fsync --heartbeat-interval 10 --election-timeout 100 \
    --enable-grpc-gateway=false --listen-peer-urls $peer --initial-advertise-peer-urls $peer --initial-cluster default=$peer \
    --listen-client-urls $scheme://0.0.0.0:$PORT --advertise-client-urls $scheme://127.0.0.1:$PORT --auto-tls";

fn probes() -> Vec<Probed> {
    let http = |name, more: Value| {
        let mut get = json!({"port": "web", "path": "/cgi-bin/probe"});
        get.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Probed { name, probe: json!({ "httpGet": get }), asks: true, server: HTTPD }
    };
    let tcp = |name, port: Value| Probed { name, probe: json!({"tcpSocket": {"port": port}}), asks: false, server: HTTPD };
    let header = |name: &str, value: &str| json!({"name": name, "value": value});
    let mut probes = vec![
        tcp("tcp-number", json!(8000)),
        tcp("tcp-name", json!("web")),
        http("http-name", json!({})),
        http("http-number", json!({"port": 8003})),
        http("http-query", json!({"path": "/cgi-bin/probe?full=1&deep=%2F"})),
        http("http-relative", json!({"path": "cgi-bin/probe"})),
        http("http-header", json!({"httpHeaders": [header("X-Token", "$(A) b")]})),
        http("http-host", json!({"httpHeaders": [header("Host", "example.org")]})),
        http("http-space", json!({"path": "/cgi-bin/probe/a b"})),
        http("http-letters", json!({"path": "/cgi-bin/probe/caf\u{e9}"})),
        http("http-fragment", json!({"path": "/cgi-bin/probe#/health"})),
        http("http-escaped", json!({"path": "/cgi-bin/probe/%7Bid%7D?q=a;b"})),
        http("http-twice", json!({"httpHeaders": [header("X-A", "1"), header("x-a", "2")]})),
        http("http-blanks", json!({"httpHeaders": [header("X-Forwarded-Proto", " https ")]})),
        http("http-empty", json!({"httpHeaders": [header("Accept", ""), header("User-Agent", "")]})),
        http("http-auth", json!({"httpHeaders": [header("Authorization", "Basic dXNlcjpwYXNz")]})),
        http("http-length", json!({"httpHeaders": [header("Content-Length", "7")]})),
        http("http-agent", json!({"httpHeaders": [header("User-Agent", "probe/1")]})),
    ];
    // Elsewhere there is no image of etcd with a shell.
    if env::var_os("KUBECONFIG").is_none() {
        probes.push(Probed { name: "grpc", probe: json!({"grpc": {"port": 8018}}), asks: true, server: ETCD });
        probes.push(Probed { server: ETCD, ..http("https", json!({"path": "/health?serializable=true", "scheme": "HTTPS"})) });
    }
    probes
}

/// What all servers of a pod do is written in a file that they share. In place of a server that cannot be slow or fail, one that accepts
/// and says nothing, and one that speaks another protocol.
const SERVER: &str = r#"trap exit TERM; mkdir -p /tmp/w/cgi-bin; printf '%s\n' '#!/bin/sh' 'case $(cat /state/now) in
      slow) sleep 3 ;; failing) echo "Status: 500" ;; esac; echo; echo ok' >/tmp/w/cgi-bin/probe; chmod +x /tmp/w/cgi-bin/probe
    peer=http://127.0.0.1:1$PORT
    while :; do
      now=$(cat /state/now 2>/dev/null)
      if [ "$now" != "$at" ]; then
        [ -z "$server" ] || { kill -9 $server; wait $server; server=; }
        at=$now
        case $at:$UP in
          up:*) eval "exec $UP" & server=$! ;;
          slow:etcd*) nc -ll -p $PORT -e sleep 3 & server=$! ;;
          slow:* | failing:*) httpd -f -p $PORT -h /tmp/w & server=$! ;;
        esac
      fi
      sleep 0.1 & wait $!
    done"#;

fn pod(name: &str) -> String {
    let containers: Vec<_> = (8000..)
        .zip(probes())
        .map(|(port, Probed { name, mut probe, server, .. })| {
            let often = [("periodSeconds", 1), ("failureThreshold", 1)];
            probe.as_object_mut().unwrap().extend(often.map(|(key, value)| (key.to_owned(), json!(value))));
            let image = if server == ETCD { "registry.local/etcd:1" } else { busybox() };
            let scheme = if name == "https" { "https" } else { "http" };
            json!({"name": name, "image": image, "command": ["sh", "-c", SERVER],
                "env": [{"name": "PORT", "value": port.to_string()}, {"name": "UP", "value": server}, {"name": "scheme", "value": scheme}],
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
            probes().into_iter().map(|one| (one.name.to_owned(), state == "up" || state != "down" && !one.asks)).collect();
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
