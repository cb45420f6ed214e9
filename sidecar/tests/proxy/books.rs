//! What is counted and written down.

use ::http::Request;
use http_body_util::Full;
use serde_json::{Value, json};

use crate::support::{Client, Server, Sidecar};
use crate::{EXPORT, imaging, limited};

#[tokio::test]
async fn decisions_limits_and_durations_are_counted() {
    let server = Server::with_tools(&[]).await;
    let sidecar = Sidecar::guarding(&server.url(), &limited(2));
    for _ in 0..3 {
        sidecar.call(EXPORT).await;
    }
    sidecar.call("forbidden").await;
    let metrics = sidecar.metrics().await;
    for line in [
        "mcp_policy_decisions_total{policy=\"policy.json\",tool=\"start_dicom_export_job\",decision=\"allowed\",code=\"allowed\",mode=\"enforce\"} 2",
        "mcp_policy_decisions_total{policy=\"policy.json\",tool=\"start_dicom_export_job\",decision=\"refused\",code=\"limit_exceeded\",mode=\"enforce\"} 1",
        "mcp_policy_decisions_total{policy=\"policy.json\",tool=\"other\",decision=\"refused\",code=\"default_deny\",mode=\"enforce\"} 1",
        "mcp_policy_limit_max{policy=\"policy.json\",counter=\"start_dicom_export_job_rate\"} 2",
        "mcp_policy_limit_used_ratio{policy=\"policy.json\",counter=\"start_dicom_export_job_rate\"} 1.0",
        "mcp_policy_limit_refusals_total{policy=\"policy.json\",counter=\"start_dicom_export_job_rate\"} 1",
        "mcp_policy_decision_duration_seconds_count 4",
        "mcp_policy_upstream_duration_seconds_count{tool=\"start_dicom_export_job\"} 2",
        "mcp_policy_requests_in_flight 0",
        "mcp_policy_snapshot_info{version=\"1\",sha256=",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test]
async fn the_metrics_come_in_the_form_that_is_asked_for() {
    let server = Server::with_tools(&[]).await;
    let sidecar = Sidecar::guarding(&server.url(), &imaging());
    assert!(sidecar.get_admin("/metrics").await.headers["content-type"].to_str().unwrap().starts_with("text/plain"));
    let request = Request::get("/metrics")
        .header("host", "localhost")
        .header("accept", "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.1")
        .body(Full::default())
        .unwrap();
    let answer = Client::connect(sidecar.admin).await.send(request).await;
    assert_eq!(answer.headers["content-type"], "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(answer.text().ends_with("# EOF\n"));
}

/// A known mistake that this must not make: "limit refusals logged without the rule".
#[tokio::test]
async fn an_audit_line_says_who_what_and_why_and_no_values() {
    let server = Server::with_tools(&[]).await;
    let sidecar = Sidecar::guarding(&server.url(), &limited(1));
    sidecar.call(EXPORT).await;
    let denial = sidecar.call(EXPORT).await.denial();
    let lines = sidecar.audit.at_least(2).await;
    let (allowed, refused) = (&lines[0], &lines[1]);
    assert_eq!(allowed["code"], "allowed");
    assert_eq!(allowed["upstreamStatus"], 200);
    assert_eq!(allowed["rule"], format!("/tools/{EXPORT}"));
    assert_eq!(refused["code"], "limit_exceeded");
    assert_eq!(refused["decisionId"], denial["decisionId"]);
    assert_eq!(refused["rule"], format!("/tools/{EXPORT}/limits/start_dicom_export_job_rate"));
    assert_eq!(refused["upstreamStatus"], Value::Null);
    for line in lines {
        assert_eq!(line["policy"], "policy.json");
        assert_eq!(line["revision"].as_str().unwrap().len(), 12);
        assert_eq!(line["caller"], "anonymous:127.0.0.1");
        assert_eq!(line["server"], server.address.to_string());
        assert_eq!((line["method"].as_str(), line["tool"].as_str()), (Some("tools/call"), Some(EXPORT)));
        assert_eq!(line["argumentKeys"], json!(["study"]));
        assert!(line["time"].as_str().unwrap().ends_with('Z'));
        assert!(line["durationMs"].as_f64().is_some());
        assert!(!line.to_string().contains("secret-value"));
    }
}
