//! No way round the sidecar. The tables of `docs/threat-model.md` show what these tests found: `UPDATE_GOLDEN=1` writes them anew.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests: whatever goes wrong fails the test")]

mod admission;
mod paths;

use mcp_policy_e2e::{client::Client, pod::Pod, sandbox::Sandbox, wire};
use serde_json::json;

fn url(address: &str, port: u16, path: &str) -> String {
    if address.contains(':') { format!("http://[{address}]:{port}{path}") } else { format!("http://{address}:{port}{path}") }
}

fn fetch(from: &Pod, url: &str) -> Result<String, String> {
    // Not `wget -T`: Debian's static busybox crashes on it.
    from.shell(&format!("timeout 10 wget -q -O - {url}"))
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
