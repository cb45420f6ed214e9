//! Probes of published charts, each sent as the kubelet sends it: it makes the same of a server with and without the sidecar, and gets
//! through before the first snapshot. In a network of their own: needs root, `ip` and `nft`, and no cluster.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests: whatever goes wrong fails the test")]

mod kubelet;
mod server;
mod sidecar;

use std::{collections::BTreeMap, fs};

use mcp_policy_e2e::{cluster::root, net::Net};
use mcp_policy_operator::probes;
use serde::Deserialize;
use serde_json::{Value, json};

use kubelet::Probe;
use server::{Server, State};
use sidecar::Sidecar;

/// One probe of a chart.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Spec {
    chart: String,
    /// Container and field.
    field: String,
    /// The container's ports by their names.
    #[serde(default)]
    ports: BTreeMap<String, u16>,
    probe: Value,
}

impl Spec {
    /// A pod with this probe alone.
    fn pod(&self) -> Value {
        let ports: Vec<_> = self.ports.iter().map(|(name, port)| json!({"name": name, "containerPort": port})).collect();
        json!({"spec": {"containers": [{"name": "app", "ports": ports, "readinessProbe": self.probe}]}})
    }

    fn name(&self) -> String {
        format!("{} {}", self.chart, self.field)
    }
}

fn corpus() -> Vec<Spec> {
    serde_saphyr::from_str(&fs::read_to_string(root().join("e2e/probes.yaml")).unwrap()).unwrap()
}

#[test]
fn there_are_probes_of_every_kind() {
    let specs = corpus();
    let of = |kind: &str| specs.iter().filter(|spec| spec.probe.get(kind).is_some()).count();
    let over_tls = specs.iter().filter(|spec| spec.probe.pointer("/httpGet/scheme").is_some_and(|scheme| scheme == "HTTPS")).count();
    let with_headers = specs.iter().filter(|spec| spec.probe.pointer("/httpGet/httpHeaders").is_some()).count();
    assert!(specs.len() >= 60 && of("httpGet") >= 40, "{}", specs.len());
    assert!(of("grpc") >= 8 && over_tls >= 10 && of("tcpSocket") >= 3 && of("exec") >= 3 && with_headers >= 3);
}

#[tokio::test]
async fn each_probe_says_the_same_with_and_without_the_sidecar_and_nothing_near_it_passes() {
    let (open, guarded) = (Net::new(), Net::new());
    guarded.capture();
    for spec in corpus() {
        let told = serde_json::to_string(&probes::of(&spec.pod())).unwrap();
        let Some(probe) = Probe::read(&spec.probe, &spec.ports) else {
            // The container runtime asks, not the network.
            assert_eq!((spec.probe.get("exec").is_some(), told.as_str()), (true, "[]"), "{}", spec.name());
            continue;
        };
        let _sidecar = Sidecar::start(&guarded, told);
        for state in [State::Up, State::Failing, State::Slow, State::OtherHost, State::Down] {
            let expected = state == State::Up || state != State::Down && probe.only_connects();
            let mut heard = Vec::new();
            for net in [&open, &guarded] {
                let server = Server::start(net, &probe, state);
                let healthy = probe.send(net, state.patience()).await;
                assert_eq!(
                    healthy,
                    expected,
                    "{}, {state:?}, {}",
                    spec.name(),
                    if net.pod == open.pod { "directly" } else { "through the sidecar" }
                );
                heard.push(server.stop().await);
            }
            // Whom nobody waits for may not have been asked yet.
            if state != State::Slow {
                assert_eq!(heard[0], heard[1], "{}, {state:?}: the server was asked otherwise", spec.name());
            }
        }
        let server = Server::start(&guarded, &probe, State::Up);
        for (what, near_miss) in probe.near_misses() {
            assert!(!near_miss.send(&guarded, State::Up.patience()).await, "{}: {what} passed", spec.name());
        }
        assert_eq!(server.stop().await, Vec::<String>::new(), "{}: near misses reached the server", spec.name());
    }
}
