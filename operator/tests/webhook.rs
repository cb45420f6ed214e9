//! The webhook over HTTP: what the API server sends, and what it reads.

#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers outside of test functions")]

mod support;

use std::sync::Arc;

use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use mcp_policy_operator::inject::{Resources, Settings};
use mcp_policy_operator::metrics::Metrics;
use mcp_policy_operator::webhook::{Webhook, router};
use mcp_policy_operator::world::{Part, World};

fn webhook(is_complete: bool) -> Arc<Webhook> {
    let world = Arc::<World>::default();
    world.policies_mut().apply(&support::policy("imaging", "web", 1, json!({ "selector": { "matchLabels": { "app": "web" } } })));
    {
        let mut policies = world.policies_mut();
        policies.namespaces.apply("guarded".to_owned(), [("team".to_owned(), "one".to_owned())].into());
        policies.namespaces.apply("elsewhere".to_owned(), std::collections::BTreeMap::default());
        let spec = json!({ "namespaceSelector": { "matchLabels": { "team": "one" } }, "selector": { "matchLabels": { "app": "web" } } });
        policies.apply(&support::cluster_policy("guard", 1, spec));
    }
    if is_complete {
        for part in Part::ALL {
            world.mark_read(part);
        }
    }
    let quantity = || "1".to_owned();
    let resources = Resources { cpu_request: quantity(), cpu_limit: quantity(), memory_request: quantity(), memory_limit: quantity() };
    let settings = Settings {
        image: "sidecar:1".to_owned(),
        pull_policy: "Always".to_owned(),
        operator_url: "https://operator".to_owned(),
        log: "info".to_owned(),
        otlp_endpoint: None,
        resources,
    };
    Arc::new(Webhook { world, settings, metrics: Metrics::default() })
}

async fn send(webhook: &Arc<Webhook>, body: impl Into<Body>) -> (StatusCode, Value) {
    let request = Request::post("/mutate").header("content-type", "application/json").body(body.into()).unwrap();
    let response = router(Arc::clone(webhook)).oneshot(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

/// Sends the creation of a pod. It itself has no namespace, as is usual for those that controllers make.
async fn create(webhook: &Arc<Webhook>, namespace: &str, labels: Value, spec: Value) -> Value {
    let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "generateName": "web-", "labels": labels }, "spec": spec });
    review(webhook, namespace, pod).await
}

async fn review(webhook: &Arc<Webhook>, namespace: &str, pod: Value) -> Value {
    let review = json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "review-1",
            "kind": { "group": "", "version": "v1", "kind": "Pod" },
            "resource": { "group": "", "version": "v1", "resource": "pods" },
            "namespace": namespace,
            "operation": "CREATE",
            "userInfo": {},
            "dryRun": false,
            "object": pod,
        },
    });
    let (status, answer) = send(webhook, review.to_string()).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(answer["kind"], "AdmissionReview");
    assert_eq!(answer["response"]["uid"], "review-1");
    answer["response"].clone()
}

fn app() -> Value {
    json!({ "containers": [{ "name": "app", "image": "app:1" }] })
}

#[tokio::test]
async fn a_selected_pod_is_patched() {
    let webhook = webhook(true);
    let response = create(&webhook, "imaging", json!({ "app": "web" }), app()).await;
    assert_eq!(response["allowed"], true);
    assert_eq!(response["patchType"], "JSONPatch");
    let patch: Vec<u8> = serde_json::from_value(response["patch"].clone()).unwrap();
    let patch: Value = serde_json::from_slice(&patch).unwrap();
    assert_eq!(patch[1]["path"], "/spec/initContainers");
    assert!(webhook.metrics.openmetrics().unwrap().contains("admissions_total{result=\"inject\"} 1"));
}

#[tokio::test]
async fn a_pod_that_only_a_cluster_policy_selects_is_patched() {
    let webhook = webhook(true);
    assert!(create(&webhook, "guarded", json!({ "app": "web" }), app()).await["patch"].is_array());
    for (namespace, app_label) in [("guarded", "db"), ("new-and-not-known-yet", "web")] {
        assert_eq!(create(&webhook, namespace, json!({ "app": app_label }), app()).await["patch"], Value::Null, "{namespace} {app_label}");
    }
}

#[tokio::test]
async fn other_pods_and_other_namespaces_are_left_alone() {
    let webhook = webhook(true);
    for (namespace, labels) in [("imaging", json!({ "app": "db" })), ("elsewhere", json!({ "app": "web" })), ("imaging", json!(null))] {
        let response = create(&webhook, namespace, labels, app()).await;
        assert_eq!(response["allowed"], true);
        assert_eq!(response["patch"], Value::Null);
    }
    assert!(webhook.metrics.openmetrics().unwrap().contains("admissions_total{result=\"not_selected\"} 3"));
}

#[tokio::test]
async fn a_pod_that_is_seen_again_is_left_alone_and_counted_by_its_own_name() {
    let webhook = webhook(true);
    let response = create(&webhook, "imaging", json!({ "app": "web" }), app()).await;
    let patch: Vec<u8> = serde_json::from_value(response["patch"].clone()).unwrap();
    let mut pod = json!({ "metadata": { "generateName": "web-", "labels": { "app": "web" } }, "spec": app() });
    json_patch::patch(&mut pod, &serde_json::from_slice::<json_patch::Patch>(&patch).unwrap()).unwrap();
    let mirror =
        json!({ "metadata": { "labels": { "app": "web" }, "annotations": { "kubernetes.io/config.mirror": "x" } }, "spec": app() });
    for (pod, reason) in [(pod, "complete"), (mirror, "mirror_pod")] {
        let response = review(&webhook, "imaging", pod).await;
        assert_eq!((&response["allowed"], &response["patch"]), (&json!(true), &Value::Null), "{reason}");
        let text = webhook.metrics.openmetrics().unwrap();
        assert!(text.contains(&format!("admissions_total{{result=\"{reason}\"}} 1")), "{text}");
    }
}

#[tokio::test]
async fn a_pod_that_cannot_be_governed_is_denied_with_the_field_to_change() {
    let response = create(&webhook(true), "imaging", json!({ "app": "web" }), json!({ "hostNetwork": true, "containers": [] })).await;
    assert_eq!(response["allowed"], false);
    let message = response["status"]["message"].as_str().unwrap();
    assert!(message.contains("spec.hostNetwork"), "{message}");
}

#[tokio::test]
async fn what_is_no_review_gets_an_answer_and_not_a_failure() {
    let webhook = webhook(true);
    for body in ["", "nonsense", "{}", r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}"#] {
        let (status, answer) = send(&webhook, body).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        assert_eq!(answer["response"]["allowed"], false, "{body}");
    }
    assert!(webhook.metrics.openmetrics().unwrap().contains("admissions_total{result=\"error\"} 4"));
}

#[tokio::test]
async fn a_replica_that_does_not_know_the_policies_says_so() {
    assert_eq!(send(&webhook(false), "{}").await.0, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_not_read() {
    assert_eq!(send(&webhook(true), vec![b' '; 5 * 1024 * 1024]).await.0, StatusCode::PAYLOAD_TOO_LARGE);
}
