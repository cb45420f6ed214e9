//! What the cluster says of itself.

use anyhow::Context;
use http::Request;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Client;
use kube::api::{Api, ListParams};

/// The operator's namespace.
const SYSTEM: &str = "mcp-policy-system";
/// What the operator asks for: everything about these is its work, but for the patch that is the change itself.
const RESOURCES: [&str; 6] = ["mcppolicies", "clustermcppolicies", "tokenreviews", "configmaps", "events", "mutatingwebhookconfigurations"];
/// Reads that go on all the time, whatever changes.
const IDLE: [&str; 3] = ["WATCH", "GET", "LIST"];

async fn text(client: &Client, path: &str) -> anyhow::Result<String> {
    let request = Request::get(path).body(Vec::new())?;
    client.request_text(request).await.with_context(|| path.to_owned())
}

/// Samples of a metric whose labels contain all of these texts.
fn samples<'a>(text: &'a str, name: &'a str, labels: &'a [&'a str]) -> impl Iterator<Item = (&'a str, f64)> {
    let lines = text.lines().filter(move |line| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])) && labels.iter().all(|label| line.contains(label))
    });
    // The kubelet adds the time of each sample.
    lines.filter_map(|line| {
        let (labels, rest) = line.rsplit_once('}')?;
        Some((labels, rest.split_whitespace().next()?.parse().ok()?))
    })
}

/// Requests that changed something, or asked for a review, since the API server began.
pub async fn api_requests(client: &Client) -> anyhow::Result<u64> {
    let text = text(client, "/metrics").await?;
    let all = samples(&text, "apiserver_request_total", &[]);
    let of_operator = all.filter(|(labels, _)| {
        RESOURCES.iter().any(|resource| labels.contains(&format!("resource=\"{resource}\"")))
            && !IDLE.iter().any(|verb| labels.contains(&format!("verb=\"{verb}\"")))
    });
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
    Ok(of_operator.map(|(_, count)| count as u64).sum())
}

/// Of each replica of the operator, as the kubelet counts it: bytes that it works with, and seconds of CPU with the time (in seconds)
/// at which they were read.
pub async fn operator(client: &Client) -> anyhow::Result<Vec<(u64, f64, f64)>> {
    let mut replicas = Vec::new();
    for node in Api::<Node>::all(client.clone()).list(&ListParams::default()).await? {
        let name = node.metadata.name.unwrap_or_default();
        let text = text(client, &format!("/api/v1/nodes/{name}/proxy/metrics/resource")).await?;
        let labels = [&*format!("namespace=\"{SYSTEM}\""), "container=\"operator\""];
        let memory = samples(&text, "container_memory_working_set_bytes", &labels);
        let of_cpu = samples(&text, "container_cpu_usage_seconds_total", &labels);
        for ((_, bytes), (labels, seconds)) in memory.zip(of_cpu) {
            let line = text.lines().find(|line| line.starts_with(labels)).unwrap_or_default();
            let milliseconds: f64 = line.rsplit(' ').next().unwrap_or_default().parse().context("a sample without a time")?;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
            replicas.push((bytes as u64, seconds, milliseconds / 1000.0));
        }
    }
    Ok(replicas)
}

/// The bound below which 99 of 100 admission requests were answered, over all replicas.
pub async fn admission_p99(client: &Client) -> anyhow::Result<String> {
    let pods = Api::<Pod>::namespaced(client.clone(), SYSTEM);
    let mut buckets: Vec<(f64, f64)> = Vec::new();
    for pod in pods.list(&ListParams::default()).await? {
        let name = pod.metadata.name.unwrap_or_default();
        let text = text(client, &format!("/api/v1/namespaces/{SYSTEM}/pods/{name}:14141/proxy/metrics")).await?;
        for (labels, count) in samples(&text, "mcp_policy_operator_admission_duration_seconds_bucket", &[]) {
            let bound = labels.rsplit("le=\"").next().and_then(|rest| rest.split('"').next()).context("a bucket without a bound")?;
            let bound: f64 = if bound == "+Inf" { f64::INFINITY } else { bound.parse()? };
            match buckets
                .iter_mut()
                .find(|(known, _)| (*known - bound).abs() < f64::EPSILON || (known.is_infinite() && bound.is_infinite()))
            {
                Some((_, sum)) => *sum += count,
                None => buckets.push((bound, count)),
            }
        }
    }
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    let all = buckets.last().map_or(0.0, |(_, count)| *count);
    let within = buckets.iter().find(|(_, count)| *count >= all * 0.99);
    Ok(within.map_or("–".to_owned(), |(bound, _)| format!("≤ {} ms", bound * 1000.0)))
}
