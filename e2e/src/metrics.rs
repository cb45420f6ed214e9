//! Metrics: as pods offer them, and as a real Prometheus has scraped them.

use std::{fs, sync::OnceLock};

use serde_json::Value;

use crate::cluster::{command, kubectl, root, run};

/// What the pod offers on its admin port, in the text format.
pub fn offered(namespace: &str, pod: &str) -> String {
    kubectl(&["get", "--raw", &format!("/api/v1/namespaces/{namespace}/pods/{pod}:14141/proxy/metrics")])
}

/// What `promtool` has to say about metrics in the text format: nothing, if they are well.
pub fn complaints(metrics: &str) -> Result<String, String> {
    run(command("promtool").args(["check", "metrics"]), Some(metrics.as_bytes()))
}

/// The value that Prometheus has for this query: the sum over all series, none if there is no series.
pub fn scraped(query: &str) -> Option<f64> {
    prometheus();
    let query = query.bytes().fold(String::new(), |encoded, byte| format!("{encoded}%{byte:02X}"));
    let answer =
        kubectl(&["get", "--raw", &format!("/api/v1/namespaces/monitoring/services/prometheus:9090/proxy/api/v1/query?query={query}")]);
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let series = answer["data"]["result"].as_array().unwrap();
    let values = series.iter().map(|one| one["value"][1].as_str().unwrap().parse::<f64>().unwrap());
    values.reduce(|sum, value| sum + value)
}

/// Sees to it, once per process, that Prometheus runs in the cluster.
fn prometheus() {
    static DONE: OnceLock<()> = OnceLock::new();
    DONE.get_or_init(|| {
        let manifest = fs::read_to_string(root().join("e2e/prometheus.yaml")).unwrap();
        let manifest = if std::env::var_os("KUBECONFIG").is_some() {
            manifest.replace("registry.local/prometheus:1", "prom/prometheus:v3.16.0")
        } else {
            manifest
        };
        run(command("kubectl").args(["apply", "-f", "-"]), Some(manifest.as_bytes())).unwrap_or_else(|why| panic!("{why}"));
        kubectl(&["-n", "monitoring", "rollout", "status", "deployment/prometheus", "--timeout=120s"]);
    });
}
