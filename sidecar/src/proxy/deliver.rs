//! The server's answer on its way back: passed unread where nothing in it has to be judged, else event by event, or held until it is
//! whole.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use http::response::Parts;
use http_body_util::BodyExt;
use tokio::time::timeout;

use super::{Asking, Proxy, SESSION_ID, failure_of, is_usable, own, respond_with};
use crate::events::Events;
use crate::from_server::WayBack;
use crate::gate::{Asked, Gate, Judged, Passing};
use crate::headers::{self, Carrier};
use crate::relay::{self, CallAnswer, ProxyBody, Untouched};
use crate::respond::{self, UpstreamFailure};
use crate::upstream::{Answer, SendError};

impl Proxy {
    /// Passes on what the server answered to anything but a call.
    pub(super) async fn pass(&self, sent: Result<Response<Answer>, SendError>, asking: Asking<'_>) -> Response<ProxyBody> {
        let failure = match sent {
            Ok(answer) => {
                self.note_end_of_session(&asking.headers, answer.status(), false);
                if is_usable(answer.status()) {
                    let (head, answer) = answer.into_parts();
                    return self.deliver(head, answer, asking, None).await;
                }
                UpstreamFailure::Unusable
            }
            Err(error) => failure_of(&error),
        };
        own(respond::upstream_failed(asking.asked.expects(), failure, &asking.decision_id))
    }

    /// Passes an answer on as far as it may pass.
    pub(super) async fn deliver(&self, head: Parts, answer: Answer, asking: Asking<'_>, call: Option<CallAnswer>) -> Response<ProxyBody> {
        let carrier = headers::carrier(&head.headers);
        let reads = asking.asked.has_to_be_read(&self.books.state.enforced().policies);
        let is_encoded = headers::is_encoded(&head.headers);
        if !reads && (carrier != Carrier::EventStream || is_encoded || !asking.asked.is_mcp()) {
            return respond_with(&head, headers::Body::Untouched, Untouched::new(answer, call).boxed_unsync());
        }
        let closing = matches!(asking.asked, Asked::Stream).then(|| self.drain.closing());
        let gate = self.gate(asking, &head);
        if is_encoded {
            return unusable(&gate, call);
        }
        if carrier == Carrier::EventStream {
            let events = Events::new(answer, call, gate, self.limits.event_bytes, closing);
            return respond_with(&head, headers::Body::Replaced, events.boxed_unsync());
        }
        let Ok(Ok((body, _room))) = timeout(self.limits.answer_timeout, self.hold(answer)).await else { return unusable(&gate, call) };
        deliver_whole(&head, body, &gate, call)
    }

    fn gate(&self, asking: Asking<'_>, head: &Parts) -> Gate {
        let Asking { peer, path, mut headers, era, decision_id, asked } = asking;
        // The answer to `initialize` names the session that its own stream belongs to.
        if let Some(session) = head.headers.get(SESSION_ID) {
            headers.insert(SESSION_ID, session.clone());
        }
        let (books, link) = (Arc::clone(&self.books), Arc::clone(&peer.link));
        let way = WayBack { books, caller: peer.caller.clone(), server: peer.server.clone(), link, path, headers, era };
        Gate { way: Arc::new(way), asked, era, decision_id }
    }
}

/// Passes on a body that is whole, as far as it may pass.
fn deliver_whole(head: &Parts, body: Bytes, gate: &Gate, mut call: Option<CallAnswer>) -> Response<ProxyBody> {
    if let Some(call) = &mut call {
        call.read(&body);
    }
    let Judged { passing, words } = gate.judge(&body);
    if !words.is_empty() {
        tokio::spawn(Arc::clone(&gate.way).settle(words));
    }
    let body = match passing {
        Passing::AsItCame => body,
        Passing::Changed(changed) => changed,
        // Nobody waits for it; or it is an error page, say of an unknown session: its status is what the client needs, and its text
        // may hold anything.
        Passing::Unreadable | Passing::Dropped if matches!(gate.asked, Asked::Nothing) || !head.status.is_success() || body.is_empty() => {
            Bytes::new()
        }
        Passing::Unreadable | Passing::Dropped => return unusable(gate, call),
    };
    if let Some(call) = call {
        call.ended();
    }
    respond_with(head, headers::Body::Replaced, relay::whole(body))
}

fn unusable(gate: &Gate, call: Option<CallAnswer>) -> Response<ProxyBody> {
    if let Some(mut call) = call {
        call.unusable();
    }
    own(gate.unusable())
}
