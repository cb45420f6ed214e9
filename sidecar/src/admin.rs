//! Health, metrics and the enforced snapshot, on their own port. Nothing here changes what is enforced.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE, HeaderMap};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use mcp_policy::Mode;
use serde::Serialize;

use crate::books::Books;
use crate::books::metrics::{CLASSIC, OPENMETRICS};
use crate::drain::Drain;

/// The address of who asks, to be added to each request.
#[derive(Clone, Copy, Debug)]
pub struct From(pub SocketAddr);

#[derive(Clone)]
struct Admin {
    books: Arc<Books>,
    drain: Drain,
}

/// The paths of the admin port.
pub fn router(books: Arc<Books>, drain: Drain) -> Router {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/snapshot", get(snapshot))
        .route("/drain", post(announce))
        .with_state(Admin { books, drain })
}

async fn ready(State(admin): State<Admin>) -> (StatusCode, String) {
    let reason = if admin.drain.is_announced() { Some("draining".to_owned()) } else { admin.books.state.enforced().not_ready() };
    match reason {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

async fn metrics(State(admin): State<Admin>, headers: HeaderMap) -> Response {
    let asks =
        headers.get_all(ACCEPT).iter().any(|accept| accept.to_str().is_ok_and(|accept| accept.contains("application/openmetrics-text")));
    let (text, content_type) =
        if asks { (admin.books.metrics.openmetrics(), OPENMETRICS) } else { (admin.books.metrics.classic(), CLASSIC) };
    match text {
        Ok(text) => ([(CONTENT_TYPE, HeaderValue::from_static(content_type))], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    version: Option<String>,
    sha256: Option<String>,
    age_seconds: u64,
    policies: Vec<ShownPolicy>,
}

#[derive(Serialize)]
struct ShownPolicy {
    name: String,
    revision: String,
    mode: Mode,
    accepted: bool,
}

async fn snapshot(State(admin): State<Admin>) -> Json<Shown> {
    let enforced = admin.books.state.enforced();
    let id = enforced.snapshot.as_ref();
    Json(Shown {
        version: id.map(|id| id.version.clone()),
        sha256: id.map(|id| id.sha256.clone()),
        age_seconds: admin.books.state.age().as_secs(),
        policies: enforced
            .revisions
            .iter()
            .map(|one| ShownPolicy {
                name: one.policy.to_string(),
                revision: one.revision.to_string(),
                mode: one.mode,
                accepted: one.accepted,
            })
            .collect(),
    })
}

/// Only from within the pod: whoever reaches the pod's metrics must not be able to take it out of service.
async fn announce(State(admin): State<Admin>, Extension(From(peer)): Extension<From>) -> (StatusCode, &'static str) {
    if !peer.ip().to_canonical().is_loopback() {
        return (StatusCode::FORBIDDEN, "only from within the pod\n");
    }
    admin.drain.announce();
    (StatusCode::OK, "draining\n")
}
