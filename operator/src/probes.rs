//! Pure: the pod's own probes and hooks that the kubelet sends over the network, as the sidecar must recognise them.
//!
//! Capture catches the kubelet's connections too. Probes are not rewritten: the sidecar is told what they are and lets exactly
//! those through.

mod target;

use serde::Serialize;
use serde_json::Value;

/// One request of the kubelet that the sidecar lets through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Probe {
    port: u16,
    #[serde(flatten)]
    handler: Handler,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Handler {
    HttpGet {
        /// None for the usual one, `HTTP`.
        #[serde(skip_serializing_if = "Option::is_none")]
        scheme: Option<String>,
        /// Path and query.
        path: String,
        /// Names and values. A name may come twice.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        headers: Vec<(String, String)>,
    },
    Grpc {
        /// Empty for the server as a whole.
        service: String,
    },
}

/// The probes and hooks of a raw pod, those of its native sidecars included, each once.
#[must_use]
pub fn of(pod: &Value) -> Vec<Probe> {
    let mut probes = Vec::new();
    for list in ["initContainers", "containers"] {
        let containers = pod.pointer(&format!("/spec/{list}")).and_then(Value::as_array).into_iter().flatten();
        for container in containers {
            for field in ["/startupProbe", "/livenessProbe", "/readinessProbe", "/lifecycle/postStart", "/lifecycle/preStop"] {
                let probe = container.pointer(field).and_then(|handler| read(container, handler));
                probes.extend(probe.filter(|probe| !probes.contains(probe)));
            }
        }
    }
    probes
}

/// The request that a handler makes: none if it makes none to this pod.
fn read(container: &Value, handler: &Value) -> Option<Probe> {
    if let Some(grpc) = handler.get("grpc") {
        let service = grpc.get("service").and_then(Value::as_str).unwrap_or_default().to_owned();
        return Some(Probe { port: resolve(container, grpc.get("port")?)?, handler: Handler::Grpc { service } });
    }
    // The kernel itself answers a probe that only opens a connection: nothing is captured where nobody listens.
    let action = handler.get("httpGet")?;
    // With `host` the kubelet asks that host, not this pod.
    if action.get("host").and_then(Value::as_str).is_some_and(|host| !host.is_empty()) {
        return None;
    }
    let port = resolve(container, action.get("port")?)?;
    let scheme = action.get("scheme").and_then(Value::as_str).filter(|scheme| *scheme != "HTTP").map(str::to_owned);
    let path = target::of(action.get("path").and_then(Value::as_str).unwrap_or_default());
    Some(Probe { port, handler: Handler::HttpGet { scheme, path, headers: headers(action) } })
}

/// The headers of a probe as the kubelet sends them: it leaves out what Go's client writes by itself, takes the first of what there
/// can be one of, and sends nothing where such a value is empty.
fn headers(action: &Value) -> Vec<(String, String)> {
    let mut headers: Vec<(String, String)> = Vec::new();
    for header in action.get("httpHeaders").and_then(Value::as_array).into_iter().flatten() {
        let text = |field| header.get(field).and_then(Value::as_str).unwrap_or_default();
        let (name, value) = (text("name"), text("value").trim());
        let is = |names: &[&str]| names.iter().any(|one| name.eq_ignore_ascii_case(one));
        let is_there = || headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
        let is_left_out = is(&["Content-Length", "Transfer-Encoding", "Trailer"]) || (is(&["Host", "User-Agent"]) && is_there());
        if !is_left_out {
            headers.push((name.to_owned(), value.to_owned()));
        }
    }
    headers.retain(|(name, value)| !value.is_empty() || !["Host", "User-Agent", "Accept"].iter().any(|one| name.eq_ignore_ascii_case(one)));
    headers
}

/// A port by number, or by the name that the same container gives it. Anything else the API server refuses.
fn resolve(container: &Value, port: &Value) -> Option<u16> {
    if let Some(number) = port.as_u64() {
        return u16::try_from(number).ok();
    }
    let name = port.as_str()?;
    let ports = container.get("ports")?.as_array()?;
    let named = ports.iter().find(|port| port.get("name").and_then(Value::as_str) == Some(name))?;
    named.get("containerPort")?.as_u64().and_then(|number| u16::try_from(number).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn found(container: &Value) -> Value {
        serde_json::to_value(of(&json!({ "spec": { "containers": [container] } }))).unwrap()
    }

    #[test]
    fn probes_are_read_with_named_ports_queries_and_headers() {
        let container = json!({
            "ports": [{ "name": "http", "containerPort": 8080 }],
            "readinessProbe": { "httpGet": { "path": "/healthz?full=1", "port": "http", "httpHeaders": [{ "name": "X-A", "value": "b" }] } },
            "livenessProbe": { "tcpSocket": { "port": 8080 }, "periodSeconds": 3 },
            "startupProbe": { "httpGet": { "path": "up", "port": 9090, "scheme": "HTTP" } },
        });
        let expected = json!([
            { "port": 9090, "httpGet": { "path": "/up" } },
            { "port": 8080, "httpGet": { "path": "/healthz?full=1", "headers": [["X-A", "b"]] } },
        ]);
        assert_eq!(found(&container), expected);
    }

    #[test]
    fn headers_are_those_that_the_kubelet_sends() {
        let sent = |headers: &[(&str, &str)]| {
            let headers: Vec<_> = headers.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
            let passed = found(&json!({ "livenessProbe": { "httpGet": { "port": 80, "httpHeaders": headers } } }));
            passed[0]["httpGet"]["headers"].clone()
        };
        for (declared, expected) in [
            (&[("X-A", "1"), ("x-a", "2")][..], json!([["X-A", "1"], ["x-a", "2"]])),
            (&[("Host", "a.example"), ("host", "b.example")], json!([["Host", "a.example"]])),
            (&[("X-Forwarded-Proto", " https ")], json!([["X-Forwarded-Proto", "https"]])),
            (&[("X-Empty", "")], json!([["X-Empty", ""]])),
            (&[("Accept", ""), ("User-Agent", ""), ("Host", "")], Value::Null),
            (&[("Content-Length", "7"), ("Transfer-Encoding", "chunked"), ("Trailer", "X")], Value::Null),
            (&[("Authorization", "Basic dXNlcjpwYXNz")], json!([["Authorization", "Basic dXNlcjpwYXNz"]])),
        ] {
            assert_eq!(sent(declared), expected, "{declared:?}");
        }
    }

    #[test]
    fn grpc_probes_are_read_with_their_service() {
        let container = json!({
            "livenessProbe": { "grpc": { "port": 9000, "service": null } },
            "readinessProbe": { "grpc": { "port": 9000, "service": "readiness" } },
        });
        let expected = json!([{ "port": 9000, "grpc": { "service": "" } }, { "port": 9000, "grpc": { "service": "readiness" } }]);
        assert_eq!(found(&container), expected);
    }

    #[test]
    fn hooks_over_http_are_the_kubelets_requests_too() {
        let container = json!({ "lifecycle": { "preStop": { "httpGet": { "path": "/quit", "port": 8080 } }, "postStart": { "exec": { "command": ["true"] } } } });
        assert_eq!(found(&container), json!([{ "port": 8080, "httpGet": { "path": "/quit" } }]));
    }

    #[test]
    fn what_does_not_reach_the_pod_is_left_out() {
        for probe in [
            json!({ "exec": { "command": ["true"] } }),
            json!({ "httpGet": { "host": "example.org", "port": 80 } }),
            json!({ "httpGet": { "port": "unknown" } }),
            json!({ "httpGet": { "port": 70_000 } }),
        ] {
            assert_eq!(found(&json!({ "livenessProbe": probe })), json!([]), "{probe}");
        }
    }

    #[test]
    fn https_probes_are_read_with_their_scheme() {
        let container = json!({ "readinessProbe": { "httpGet": { "port": 8443, "scheme": "HTTPS", "path": "/readyz" } } });
        assert_eq!(found(&container), json!([{ "port": 8443, "httpGet": { "scheme": "HTTPS", "path": "/readyz" } }]));
    }

    #[test]
    fn native_sidecars_have_probes_and_equal_ones_count_once() {
        let probe = json!({ "httpGet": { "port": 1 } });
        let pod = json!({ "spec": { "initContainers": [{ "startupProbe": probe }], "containers": [{ "livenessProbe": probe }] } });
        assert_eq!(of(&pod).len(), 1);
    }
}
