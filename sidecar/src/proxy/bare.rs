//! Requests that carry no message: the stream of a session, its end, and documents of discovery.

use bytes::Bytes;
use http::header::HeaderMap;
use http::{Method, Response, StatusCode};

use super::{Asking, LAST_EVENT_ID, Peer, Proxy, own};
use crate::answer::asked::Asked;
use crate::answer::relay::ProxyBody;
use crate::authenticate::metadata;
use crate::front::headers;
use crate::message::era::Era;
use crate::respond;
use crate::state::Enforced;

impl Proxy {
    /// Opens the stream from the server to the client.
    pub(super) async fn stream(&self, peer: &Peer, path: String, headers: HeaderMap) -> Response<ProxyBody> {
        let resumes = headers.contains_key(LAST_EVENT_ID);
        self.forward_bare(peer, Method::GET, path, headers, Asked::Stream { resumes }).await
    }

    /// Ends a session.
    pub(super) async fn end_session(&self, peer: &Peer, path: String, headers: HeaderMap) -> Response<ProxyBody> {
        let response = self.forward_bare(peer, Method::DELETE, path, headers.clone(), Asked::Document).await;
        self.note_end_of_session(&headers, response.status(), true);
        response
    }

    /// Answers a request for a document of discovery, which needs no proof.
    pub(super) async fn discover(&self, peer: &Peer, path: String, mut headers: HeaderMap, enforced: &Enforced) -> Response<ProxyBody> {
        if let Some(authenticator) = &enforced.authenticator {
            let endpoint = enforced.exposure.endpoint().unwrap_or_default();
            let is_here = path.strip_prefix(metadata::PATH).is_some_and(|rest| rest.is_empty() || rest == endpoint);
            if let Some(document) = authenticator.metadata(&headers, endpoint).filter(|_| is_here) {
                return own(respond::resource_metadata(&document));
            }
            authenticator.prepare(&mut headers, false);
        }
        self.forward_bare(peer, Method::GET, path, headers, Asked::Document).await
    }

    /// Forwards a request without a message.
    async fn forward_bare(&self, peer: &Peer, method: Method, path: String, headers: HeaderMap, asked: Asked) -> Response<ProxyBody> {
        let sent = peer.link.forward(method, &path, &headers, Bytes::new()).await;
        self.pass(sent, Asking { peer, path, headers, era: Era::Legacy, decision_id: String::new(), asked }).await
    }

    /// A session ends when its client deletes it, or when the server does not know it any more.
    pub(super) fn note_end_of_session(&self, request: &HeaderMap, status: StatusCode, deleted: bool) {
        if let Some(session) = headers::session_id(request)
            && (status == StatusCode::NOT_FOUND || (deleted && status.is_success()))
        {
            self.sessions.closed(session);
        }
    }
}
