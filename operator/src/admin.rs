//! Health and metrics, over plain HTTP on a port of their own.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, StatusCode, header};
use tokio_util::sync::CancellationToken;

use crate::distribute::Hub;
use crate::metrics::Metrics;
use crate::tls::Served;
use crate::watch::Troubles;
use crate::world::{Part, World};

/// What readiness depends on.
pub struct Health {
    /// Policies, namespaces and pods.
    pub world: Arc<World>,
    /// Snapshots.
    pub hub: Arc<Hub>,
    /// The certificate.
    pub served: Arc<Served>,
    /// What is wrong with the watches.
    pub troubles: Troubles,
    /// The process is ending.
    pub draining: CancellationToken,
    /// The metrics.
    pub metrics: Metrics,
}

impl Health {
    /// What keeps this replica from serving, each in one sentence. Empty if nothing does.
    fn obstacles(&self) -> Vec<String> {
        let mut obstacles = Vec::new();
        let mut unless = |holds: bool, what: &str, trouble: Option<String>| {
            if !holds {
                obstacles.push(trouble.map_or_else(|| what.to_owned(), |trouble| format!("{what}: {trouble}")));
            }
        };
        unless(!self.draining.is_cancelled(), "shutting down", None);
        for part in Part::ALL {
            let lack = match part {
                Part::Policies => "the policies are not read (is the CustomResourceDefinition mcppolicies.mcp-policy.dev installed?)",
                Part::ClusterPolicies => {
                    "the cluster policies are not read (is the CustomResourceDefinition clustermcppolicies.mcp-policy.dev installed?)"
                }
                Part::Namespaces => "the namespaces are not read",
                Part::Pods => "the pods are not read",
                Part::Store => "the Secret of the counter store is not read",
                Part::Secrets => "the Secrets with callers' keys are not read",
                Part::Issuers => "the keys of issuers were not asked for yet",
            };
            unless(self.world.has(part), lack, self.troubles.of(part).get());
        }
        unless(self.hub.is_filled(), "no snapshots are computed yet", None);
        unless(self.served.is_set(), "there is no certificate yet", None);
        obstacles
    }
}

/// The routes.
pub fn router(health: Arc<Health>) -> Router {
    Router::new()
        // Answers as long as the runtime does. When an essential task ends, so does the process.
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(health)
}

async fn ready(State(health): State<Arc<Health>>) -> Response {
    let obstacles = health.obstacles();
    if obstacles.is_empty() {
        return "ok\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", obstacles.join("\n"))).into_response()
}

async fn metrics(State(health): State<Arc<Health>>, headers: HeaderMap) -> Response {
    let mut accepted = headers.get_all(header::ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
    let (text, content_type) = if accepted.any(|accept| accept.contains("application/openmetrics-text")) {
        (health.metrics.openmetrics(), "application/openmetrics-text; version=1.0.0; charset=utf-8")
    } else {
        (health.metrics.classic(), "text/plain; version=0.0.4; charset=utf-8")
    };
    match text {
        Ok(text) => ([(header::CONTENT_TYPE, content_type)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    fn health() -> Arc<Health> {
        Arc::new(Health {
            world: Arc::default(),
            hub: Arc::default(),
            served: Arc::default(),
            troubles: Troubles::default(),
            draining: CancellationToken::new(),
            metrics: Metrics::default(),
        })
    }

    async fn ask(health: Arc<Health>, path: &str) -> (StatusCode, String) {
        let response = router(health).oneshot(http::Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
        let status = response.status();
        (status, String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_replica_that_knows_nothing_is_alive_and_says_what_it_lacks() {
        let health = health();
        assert_eq!(ask(health.clone(), "/livez").await.0, StatusCode::OK);
        let (status, text) = ask(health, "/readyz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        for lack in [
            " mcppolicies.mcp-policy.dev installed?",
            "clustermcppolicies.mcp-policy.dev installed?",
            "namespaces are",
            "pods are",
            "no certificate",
        ] {
            assert!(text.contains(lack), "{text}");
        }
    }

    #[tokio::test]
    async fn a_whole_replica_is_ready_until_it_drains() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let health = health();
        for part in Part::ALL {
            health.world.mark_read(part);
        }
        health.hub.publish(std::iter::empty(), None);
        health
            .served
            .set(crate::certs::Certificates::issue("h", crate::certs::lifetimes::Lifetimes::default(), 0).unwrap().leaf())
            .unwrap();
        assert_eq!(ask(health.clone(), "/readyz").await, (StatusCode::OK, "ok\n".to_owned()));
        health.draining.cancel();
        assert_eq!(ask(health, "/readyz").await, (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n".to_owned()));
    }

    #[tokio::test]
    async fn metrics_are_served_in_the_form_that_is_asked_for() {
        let (status, text) = ask(health(), "/metrics").await;
        assert_eq!(status, StatusCode::OK);
        assert!(!text.contains("# EOF"), "{text}");
        let request = http::Request::get("/metrics").header("accept", "application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1");
        let response = router(health()).oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/openmetrics-text; version=1.0.0; charset=utf-8");
        let text = response.into_body().collect().await.unwrap().to_bytes();
        assert!(text.ends_with(b"# EOF\n"), "{text:?}");
    }
}
