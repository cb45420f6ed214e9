//! The mutating webhook: `POST /mutate`, an `AdmissionReview` in and out.
//!
//! Guarantee: every request gets an answer of the form that the API server reads, unless this replica does not know the policies
//! yet: then 503, so that the admission policy decides.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use bytes::Bytes;
use http::StatusCode;
use kube::core::DynamicObject;
use kube::core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview};
use serde_json::Value;

use crate::inject::{self, Outcome, Settings, Skipped};
use crate::metrics::{Admission, AdmissionLabels, Metrics};
use crate::world::World;

/// A pod has at most 1.5 MiB (etcd's limit); the review holds it once, and the API server's own limit is 3 MiB.
const MAX_BODY: usize = 4 * 1024 * 1024;

/// What the handler needs.
pub struct Webhook {
    /// The policies.
    pub world: Arc<World>,
    /// What is injected.
    pub settings: Settings,
    /// Where requests are counted.
    pub metrics: Metrics,
}

/// The route.
pub fn router(webhook: Arc<Webhook>) -> Router {
    Router::new().route("/mutate", post(mutate)).layer(DefaultBodyLimit::max(MAX_BODY)).with_state(webhook)
}

async fn mutate(State(webhook): State<Arc<Webhook>>, body: Bytes) -> Response {
    let start = Instant::now();
    if !webhook.world.is_complete() {
        return (StatusCode::SERVICE_UNAVAILABLE, "this replica does not know the policies yet\n").into_response();
    }
    let (response, result) = webhook.answer(&body);
    webhook.metrics.admissions.get_or_create(&AdmissionLabels { result }).inc();
    webhook.metrics.admission_duration.observe(start.elapsed().as_secs_f64());
    Json(response.into_review()).into_response()
}

impl Webhook {
    fn answer(&self, body: &[u8]) -> (AdmissionResponse, Admission) {
        let invalid = |error: String| {
            tracing::warn!(error, "an admission request cannot be read");
            (AdmissionResponse::invalid(error), Admission::Error)
        };
        // The pod is taken as raw JSON: our types do not know every field of it.
        let review: Value = match serde_json::from_slice(body) {
            Ok(review) => review,
            Err(error) => return invalid(error.to_string()),
        };
        let pod = review.pointer("/request/object").cloned().unwrap_or_default();
        let request: AdmissionRequest<DynamicObject> = match serde_json::from_value::<AdmissionReview<DynamicObject>>(review) {
            Err(error) => return invalid(error.to_string()),
            Ok(review) => match review.try_into() {
                Err(_) => return invalid("the review has no request".to_owned()),
                Ok(request) => request,
            },
        };
        // A pod may have no namespace yet when it is created; the request always has.
        let namespace = request.namespace.as_deref().unwrap_or_default();
        let response = AdmissionResponse::from(&request);
        if !self.world.policies().want_sidecar(namespace, &labels(&pod)) {
            return (response, Admission::NotSelected);
        }
        match inject::inject(&pod, &self.settings) {
            Outcome::Skip(Skipped::Complete) => (response, Admission::Complete),
            Outcome::Skip(Skipped::MirrorPod) => (response, Admission::MirrorPod),
            Outcome::Reject(message) => {
                tracing::info!(pod.namespace = namespace, message, "rejected a pod");
                (response.deny(format!("mcp-policy cannot govern this pod: {message}")), Admission::Reject)
            }
            Outcome::Inject(operations) => match response.with_patch(json_patch::Patch(operations)) {
                Ok(response) => (response, Admission::Inject),
                Err(error) => invalid(error.to_string()),
            },
        }
    }
}

fn labels(pod: &Value) -> BTreeMap<String, String> {
    let labels = pod.pointer("/metadata/labels").and_then(Value::as_object);
    labels.into_iter().flatten().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}
