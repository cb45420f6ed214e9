//! An API server for tests: answers each request as a function says, and remembers what was asked.

#![allow(dead_code, reason = "shared by test crates that each use a part of it")]
#![allow(clippy::unwrap_used, clippy::needless_pass_by_value, reason = "helpers outside of test functions")]

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

/// One request that was made.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: Method,
    /// Path and query.
    pub uri: String,
    pub body: Value,
}

pub type Log = Arc<Mutex<Vec<Asked>>>;

/// A client whose requests are answered by `answer`, and the log of them.
pub fn api(answer: impl Fn(&Asked) -> (StatusCode, Value) + Clone + Send + Sync + 'static) -> (Client, Log) {
    let log = Log::default();
    let seen = Arc::clone(&log);
    let service = tower::service_fn(move |request: Request<Body>| {
        let (answer, seen) = (answer.clone(), Arc::clone(&seen));
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let asked = Asked {
                method: parts.method,
                uri: parts.uri.to_string(),
                body: if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() },
            };
            let (status, value) = answer(&asked);
            seen.lock().unwrap().push(asked);
            let response = Response::builder().status(status).header("content-type", "application/json");
            Ok::<_, std::convert::Infallible>(response.body(Full::new(Bytes::from(value.to_string()))).unwrap())
        }
    });
    (Client::new(service, "default"), log)
}

/// What the API server says when something is not as it should be.
pub fn failure(status: StatusCode, reason: &str) -> (StatusCode, Value) {
    (
        status,
        json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": reason, "code": status.as_u16() }),
    )
}

/// A policy as the API server stores it.
pub fn policy(namespace: &str, name: &str, generation: i64, spec: Value) -> mcp_policy_operator::crd::StoredPolicy {
    serde_json::from_value(json!({
        "metadata": { "namespace": namespace, "name": name, "uid": format!("uid-of-{name}"), "generation": generation },
        "spec": spec,
    }))
    .unwrap()
}

/// A cluster policy as the API server stores it.
pub fn cluster_policy(name: &str, generation: i64, spec: Value) -> mcp_policy_operator::crd::StoredPolicy {
    let metadata = json!({ "name": name, "uid": format!("uid-of-{name}"), "generation": generation });
    serde_json::from_value(json!({ "metadata": metadata, "spec": spec })).unwrap()
}

/// A pod as the operator keeps it, with the label `app: web`.
pub fn pod(namespace: &str, name: &str, is_injected: bool) -> mcp_policy_operator::pod::Pod {
    let init = if is_injected { json!([{ "name": "mcp-policy-sidecar", "restartPolicy": "Always" }]) } else { json!([]) };
    let watched: mcp_policy_operator::pod::WatchedPod = serde_json::from_value(json!({
        "metadata": {
            "namespace": namespace, "name": name, "uid": format!("uid-of-{name}"), "labels": { "app": "web", "pod-template-hash": "5d4f" },
            "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d4f", "uid": "1", "controller": true }],
        },
        "spec": { "initContainers": init },
    }))
    .unwrap();
    watched.into()
}
