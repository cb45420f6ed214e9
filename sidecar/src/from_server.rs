//! What a server sends of its own accord: requests to the client and notifications. What a policy denies by a key of `methods` is
//! held back, and the server gets an answer to a request that nobody will see. What no key matches passes.

use std::collections::VecDeque;
use std::fmt::{self, Debug};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{HeaderName, Method};
use http_body::{Body, Frame};
use mcp_policy::{Caller, MethodOutcome};

use crate::books::Books;
use crate::message::{Id, ServerMessage, parse_server};
use crate::proxy::send;
use crate::relay::Untouched;
use crate::respond;
use crate::sse::Decoder;
use crate::upstream::Link;

/// Judges what one server sends to one client.
#[derive(Debug)]
pub struct ServerGate {
    /// The policies, read anew for each message.
    pub books: Arc<Books>,
    /// Who would get it.
    pub caller: Caller,
    /// The server, for audit lines.
    pub server: String,
    /// The way back to it.
    pub link: Arc<Link>,
    /// Its endpoint.
    pub path: String,
    /// The headers of the request on whose stream it sends: they name the session.
    pub headers: HeaderMap,
}

impl ServerGate {
    /// Whether anything could be held back.
    #[must_use]
    pub fn is_closed_to_something(&self) -> bool {
        self.books.state.enforced().policies.governs_server()
    }

    /// Whether a message of the server passes. One that does not is written down, and answered if it is a request.
    #[must_use]
    pub fn passes(self: &Arc<Self>, message: &[u8]) -> bool {
        let enforced = self.books.state.enforced();
        if !enforced.policies.governs_server() {
            return true;
        }
        let (id, method) = match parse_server(message) {
            Ok(ServerMessage::Request { id, method }) => (Some(id), method),
            Ok(ServerMessage::Notification { method }) => (None, method),
            Ok(ServerMessage::Result { .. } | ServerMessage::Error { .. }) => return true,
            // It may be one that is denied.
            Err(_) => return false,
        };
        let MethodOutcome { refusal, audited } = enforced.policies.decide_method(&method);
        let refusal = refusal.filter(|refusal| refusal.rule.is_some());
        if refusal.is_none() && audited.iter().all(|one| one.rule.is_none()) {
            return true;
        }
        let passes = refusal.is_none();
        let gate = Arc::clone(self);
        tokio::spawn(async move {
            if let Ok(mut record) = gate.books.record(&gate.caller, &gate.server).await {
                record.method(&method);
                record.audited(audited, &enforced);
                match &refusal {
                    Some(refusal) => record.refused(refusal, &enforced),
                    None => record.passed_if_audited(),
                }
            }
            if let (Some(_), Some(id)) = (refusal, id) {
                gate.answer(&id).await;
            }
        });
        passes
    }

    /// Tells the server that its request was refused, so that it does not wait for the client.
    async fn answer(&self, id: &Id) {
        let mut headers = self.headers.clone();
        for mirrored in ["mcp-method", "mcp-name"] {
            headers.remove(HeaderName::from_static(mirrored));
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        // A server that cannot be told has its own timeouts; `send` has logged why.
        let _ = send(&self.link, Method::POST, &self.path, &headers, respond::refused_server_request(id)).await;
    }
}

/// An event stream without what the server may not send.
pub struct FromServer {
    answer: Untouched,
    decoder: Decoder,
    gate: Arc<ServerGate>,
    ready: VecDeque<Bytes>,
    ended: bool,
}

impl FromServer {
    /// Gates the events of `answer`.
    pub fn new(answer: Untouched, max_event: usize, gate: Arc<ServerGate>) -> Self {
        Self { answer, decoder: Decoder::new(max_event), gate, ready: VecDeque::new(), ended: false }
    }

    fn read(&mut self, data: &[u8]) {
        let mut frames = Vec::new();
        let decoded = self.decoder.decode(data, &mut frames);
        for frame in frames {
            if frame.data().is_none_or(|data| data.is_empty() || self.gate.passes(&data)) {
                self.ready.push_back(frame.into_raw());
            }
        }
        if decoded.is_err() {
            tracing::warn!("ended a stream of the server that cannot be read");
            self.ended = true;
        }
    }
}

impl Body for FromServer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            match Pin::new(&mut self.answer).poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.read(&data);
                    }
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => self.ended = true,
            }
        }
    }
}

impl Debug for FromServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromServer").field("gate", &self.gate).finish_non_exhaustive()
    }
}
