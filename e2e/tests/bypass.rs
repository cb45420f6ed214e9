//! No way round the sidecar.

use mcp_policy_e2e::{
    client::Client,
    pod::Pod,
    sandbox::{Sandbox, bare},
    wire,
};
use serde_json::json;

/// A server that answers everything, on a declared port and on one that no manifest names, and writes a line for each request.
const TWO_PORTS: &str = "trap exit TERM; mkdir /tmp/w && echo reached > /tmp/w/index.html; \
    httpd -f -vv -p 8080 -h /tmp/w & httpd -f -vv -p 9000 -h /tmp/w & wait";

fn url(address: &str, port: u16, path: &str) -> String {
    if address.contains(':') { format!("http://[{address}]:{port}{path}") } else { format!("http://{address}:{port}{path}") }
}

fn fetch(from: &Pod, url: &str) -> Result<String, String> {
    // Not `wget -T`: Debian's static busybox crashes on it.
    from.shell(&format!("timeout 10 wget -q -O - {url}"))
}

#[test]
fn pod_address_undeclared_port_and_ipv6_reach_the_sidecar_and_not_the_server() {
    let sandbox = Sandbox::new("ports");
    let neighbour = sandbox.neighbour();
    let open = sandbox.bare("open", "app: open", TWO_PORTS);
    sandbox.policy("all", "selector: {matchLabels: {app: guarded}}, default: deny");
    let guarded = sandbox.bare("guarded", "app: guarded", TWO_PORTS);
    assert!(guarded.injected() && !open.injected());

    for v6 in [false, true] {
        for port in [8080, 9000] {
            for path in ["/", "/index.html"] {
                // The same pod without a policy answers: it is the sidecar that does not let through, not the network.
                assert_eq!(fetch(&neighbour, &url(&open.address(v6), port, path)).unwrap().trim(), "reached");
                let refused = fetch(&neighbour, &url(&guarded.address(v6), port, path)).expect_err("the server was reached");
                assert!(refused.contains("HTTP/1.1 4"), "not an answer of the sidecar: {refused}");
            }
        }
    }
    assert!(open.logs("server").contains("url:"), "the server without a policy did not log its requests");
    assert!(!guarded.logs("server").contains("url:"), "{}", guarded.logs("server"));
}

#[test]
fn another_container_of_the_pod_and_the_pod_itself_reach_the_sidecar_over_loopback() {
    let sandbox = Sandbox::new("loopback");
    sandbox.policy("all", "selector: {matchLabels: {app: guarded}}, default: deny");
    let guarded = sandbox.bare("guarded", "app: guarded", TWO_PORTS);
    for address in ["127.0.0.1".to_owned(), "::1".to_owned(), guarded.address(false), guarded.address(true)] {
        let refused = fetch(&guarded, &url(&address, 9000, "/")).expect_err("the server was reached");
        assert!(refused.contains("HTTP/1.1 4"), "not an answer of the sidecar: {refused}");
    }
    assert!(!guarded.logs("server").contains("url:"), "{}", guarded.logs("server"));
}

#[test]
fn calls_to_the_pod_address_over_ipv4_and_ipv6_are_judged() {
    let sandbox = Sandbox::new("address");
    sandbox.policy("imaging", "selector: {matchLabels: {app: healthimaging-mcp}}, tools: {list_datastores: {}}");
    let neighbour = sandbox.neighbour();
    let pod = sandbox.imaging();
    sandbox.until_programmed("imaging");
    for v6 in [false, true] {
        let post = |tool: &str| {
            let body = wire::call(1, tool, &json!({}));
            let headers = "--header 'Content-Type: application/json' --header 'Accept: application/json, text/event-stream'";
            neighbour
                .shell(&format!("timeout 10 wget -q -O - {headers} --post-data '{body}' '{}'", url(&pod.address(v6), 8080, "/mcp")))
                .unwrap()
        };
        let refused = post("list_dicom_export_jobs");
        assert!(refused.contains("default_deny"), "{refused}");
    }
    assert_eq!(pod.executions(), [].into());
}

#[test]
fn port_forward_reaches_the_sidecar() {
    let sandbox = Sandbox::new("forward");
    sandbox.policy("imaging", "selector: {matchLabels: {app: healthimaging-mcp}}, tools: {list_datastores: {}}");
    let pod = sandbox.imaging();
    sandbox.until_programmed("imaging");
    let (mut agent, _way) = pod.agent(Client::Python2);
    assert_eq!(agent.call("list_dicom_export_jobs", &json!({})).code(), "default_deny");
    assert_eq!(pod.executions(), [].into());
    assert!(agent.call("list_datastores", &json!({})).passed());
    assert_eq!(pod.executions(), [("list_datastores".to_owned(), 1)].into());
}

#[test]
fn pods_that_could_undo_capture_are_denied() {
    let sandbox = Sandbox::new("undo");
    sandbox.policy("imaging", "selector: {matchLabels: {app: guarded}}, default: deny");
    sandbox.until_condition("imaging", "Accepted", "True");
    let plain = bare("guarded", "app: guarded", "sleep 1");
    for (field, value) in [
        ("hostNetwork: true, ", ""),
        ("hostPID: true, ", ""),
        ("shareProcessNamespace: true, ", ""),
        ("", "securityContext: {privileged: true}, "),
        ("", "securityContext: {capabilities: {add: [NET_ADMIN]}}, "),
        ("", "securityContext: {capabilities: {add: [NET_RAW]}}, "),
        ("", "securityContext: {runAsUser: 14140}, "),
    ] {
        let manifest =
            plain.replace("spec: {", &format!("spec: {{{field}")).replace("{name: server, ", &format!("{{name: server, {value}"));
        assert_ne!(manifest, plain);
        let why = sandbox.try_apply(&manifest).expect_err(&manifest);
        assert!(why.contains("denied the request") && why.contains("mcp-policy"), "{why}");
    }
    assert!(
        sandbox.try_apply(&plain.replace("app: guarded", "app: other").replace("spec: {", "spec: {shareProcessNamespace: true, ")).is_ok()
    );
}

#[test]
fn a_debug_container_cannot_undo_capture() {
    let sandbox = Sandbox::new("debug");
    sandbox.policy("imaging", "selector: {matchLabels: {app: guarded}}, default: deny");
    let pod = sandbox.bare("guarded", "app: guarded", TWO_PORTS);
    let why = sandbox
        .try_kubectl(&["debug", &pod.name, "--image", mcp_policy_e2e::cluster::busybox(), "--profile=netadmin", "--", "true"])
        .unwrap_err();
    assert!(why.contains("McpPolicy") && why.contains("imaging"), "{why}");
    assert_eq!(pod.object()["spec"]["ephemeralContainers"], json!(null));
}

#[test]
fn the_pods_own_probes_pass_and_nothing_else_of_their_port_does() {
    let sandbox = Sandbox::new("probes");
    sandbox.policy("imaging", "selector: {matchLabels: {app: healthimaging-mcp}}, default: deny");
    // Its startup, readiness and liveness probes must pass the sidecar, or it would never be rolled out.
    let pod = sandbox.imaging();
    let neighbour = sandbox.neighbour();
    let refused = fetch(&neighbour, &url(&pod.address(false), 8080, "/healthz?more=1")).expect_err("more than the probe passed");
    assert!(refused.contains("HTTP/1.1 4"), "{refused}");
    assert_eq!(pod.lives().1, 0, "something was restarted");
}
