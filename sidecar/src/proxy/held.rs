//! Calls that are held open while people are asked. Who wants to be told of progress is told that people are asked, on the stream that
//! later brings the answer; anybody else just waits.
//!
//! Guarantees: a call whose caller hangs up or cancels it, whose policy changes, or that meets the end of the sidecar, is not waited for
//! any more, and has not run.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use http::Response;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue};
use http_body_util::BodyExt;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Arrived, Peer, Proxy};
use crate::answer::progress::{self, Progress};
use crate::answer::relay::ProxyBody;
use crate::message::{Id, Message};
use crate::respond;
use crate::verdict::{Held, Received, Verdict, wait};

/// The calls that are held, by caller, session and id.
#[derive(Debug, Default)]
pub(super) struct HeldCalls(Mutex<HashMap<(String, String, Id), CancellationToken>>);

impl HeldCalls {
    /// Ends when the call is cancelled. What is not held any more is forgotten when another one is.
    fn hold(&self, received: &Received<'_>) -> (CancellationToken, DropGuard) {
        let token = CancellationToken::new();
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        calls.retain(|_, token| !token.is_cancelled());
        if let Some(id) = received.message.id() {
            calls.insert(key(received, id), token.clone());
        }
        (token.clone(), token.drop_guard())
    }

    /// The caller does not wait for this call any more.
    pub(super) fn cancel(&self, received: &Received<'_>, id: &Id) {
        if let Some(token) = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&key(received, id)) {
            token.cancel();
        }
    }
}

fn key(received: &Received<'_>, id: &Id) -> (String, String, Id) {
    (received.caller.to_string(), received.session.unwrap_or_default().to_owned(), id.clone())
}

impl Proxy {
    /// Holds a call open, then answers it.
    pub(super) async fn hold(self: &Arc<Self>, peer: &Peer, arrived: Arrived, path: String, held: Held) -> Response<ProxyBody> {
        let progress = match &arrived.message {
            Message::Request(request) if takes_events(&arrived.headers) => request.progress.clone(),
            _ => None,
        };
        let Some((progress, (id, call))) = progress.zip(arrived.message.call()) else {
            return self.wait(peer, arrived, path, held).await;
        };
        let says = respond::approval::progress(&progress, &held.approval);
        let broken =
            respond::upstream_failed_call(id, arrived.era, &call.name, respond::UpstreamFailure::Unusable, arrived.record.decision_id());
        let (proxy, peer, id) = (Arc::clone(self), peer.clone(), id.clone());
        let answer = async move {
            let response = proxy.wait(&peer, arrived, path, held).await;
            progress::as_events(response, &id, broken.into_body()).await
        };
        let mut response = Response::new(Progress::new(answer, says).boxed_unsync());
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        response
    }

    async fn wait(&self, peer: &Peer, mut arrived: Arrived, path: String, held: Held) -> Response<ProxyBody> {
        let otherwise = held.answer.clone();
        let verdict = {
            let Arrived { enforced, record, headers, body, message, era } = &mut arrived;
            let received = self.received(peer, headers, message, body, *era);
            let (cancelled, _until_it_is_answered) = self.held.hold(&received);
            tokio::select! {
                () = cancelled.cancelled() => Verdict::Answered(otherwise),
                verdict = wait(&self.books, enforced, &received, held, record) => verdict,
                () = self.books.state.changed_from(enforced) => Verdict::Answered(otherwise),
                () = self.drain.terminating() => Verdict::Answered(otherwise),
            }
        };
        self.act(peer, arrived, path, verdict).await
    }
}

/// Whether the client takes an event stream for an answer.
fn takes_events(headers: &HeaderMap) -> bool {
    let names = |value: &HeaderValue| value.to_str().is_ok_and(|value| value.to_ascii_lowercase().contains("text/event-stream"));
    headers.get_all(ACCEPT).iter().any(names)
}
