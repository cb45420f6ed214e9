//! Answers of the sidecar's own where no MCP is spoken.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Method, Response, StatusCode, Uri};

use super::Peer;
use crate::answer::relay::{self, ProxyBody};
use crate::config::{CANARY_PATH, HttpGet};
use crate::front::probe;

const X_CONTENT_TYPE_OPTIONS: HeaderName = HeaderName::from_static("x-content-type-options");

/// A short text.
pub(super) fn plain(status: StatusCode, text: &'static str) -> Response<ProxyBody> {
    let mut response = Response::new(relay::whole(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Answers what there is no room for at this moment.
pub(super) fn come_back(text: &'static str) -> Response<ProxyBody> {
    let mut response = plain(StatusCode::SERVICE_UNAVAILABLE, text);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// Answers who wants a stream where there are enough.
pub(super) fn too_many_streams() -> Response<ProxyBody> {
    come_back("Too many open streams at this moment.\n")
}

/// The proof that the pod is captured: nobody listens on the port that this request was sent to.
pub(super) fn canary(method: &Method, uri: &Uri) -> Response<ProxyBody> {
    if *method == Method::GET && uri.path() == CANARY_PATH {
        plain(StatusCode::OK, "captured\n")
    } else {
        plain(StatusCode::NOT_FOUND, "Nothing is here.\n")
    }
}

/// Forwards a probe of the pod. Only the status comes back, so a probe's path is no way to read the server.
pub(super) async fn probe(peer: &Peer, get: &HttpGet, headers: &HeaderMap) -> Response<ProxyBody> {
    let Some(request) = probe::request(get, headers) else {
        return plain(StatusCode::BAD_GATEWAY, "The probe's headers cannot be sent.\n");
    };
    match peer.link.send(&request).await {
        Ok(answer) => {
            let mut response = Response::new(relay::whole(Bytes::new()));
            *response.status_mut() = answer.status();
            response
        }
        Err(_) => plain(StatusCode::BAD_GATEWAY, "The server did not answer.\n"),
    }
}
