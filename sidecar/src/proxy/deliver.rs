//! The server's answer on its way back: passed unread where nothing in it has to be judged, else event by event, or held until it is
//! whole.

use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use http::response::Parts;
use http_body_util::BodyExt;

use super::{Asking, Proxy, is_usable, own, respond_with};
use crate::answer::answer_fault::AnswerFault;
use crate::answer::asked::Asked;
use crate::answer::call_answer::CallAnswer;
use crate::answer::events::Events;
use crate::answer::from_server::WayBack;
use crate::answer::gate::{Gate, Judged, Passed, Passing};
use crate::answer::relay::{self, Beginning, Followed, ProxyBody, Untouched};
use crate::front::headers::{self, Carrier, SESSION_ID};
use crate::room::{NotHeld, Taken};
use crate::session::owner::Owner;
use crate::upstream::{Answer, SendError};

impl Proxy {
    /// Passes on what the server answered to anything but a call.
    pub(super) async fn pass(&self, sent: Result<Response<Answer>, SendError>, asking: Asking<'_>) -> Response<ProxyBody> {
        let fault = match sent {
            Ok(answer) => {
                self.note_end_of_session(&asking.headers, answer.status(), false);
                if is_usable(answer.status()) {
                    let (head, answer) = answer.into_parts();
                    return self.deliver(head, answer, asking, None).await;
                }
                self.books.metrics.answer_failed(AnswerFault::Redirect);
                AnswerFault::Redirect
            }
            Err(error) => error.fault(),
        };
        own(asking.asked.instead_of_answer(asking.era, fault, &asking.decision_id))
    }

    /// Passes an answer on as far as it may pass.
    pub(super) async fn deliver(&self, head: Parts, answer: Answer, asking: Asking<'_>, call: Option<CallAnswer>) -> Response<ProxyBody> {
        let carrier = headers::carrier(&head.headers);
        let reads = asking.asked.has_to_be_read(&self.books.state.enforced().policies, asking.peer.caller());
        // Under any other status clients take nothing for the answer but an error.
        let binds = asking.asked.is_mcp() && head.status.is_success();
        if !asking.asked.is_mcp() || (!reads && (carrier == Carrier::Other || (carrier == Carrier::Json && !binds && call.is_none()))) {
            return respond_with(head, headers::Body::Untouched, Untouched::new(answer, call).boxed_unsync());
        }
        let closing = if asking.asked.is_endless() { self.drain.closing() } else { self.drain.deadline() };
        let identity = &asking.peer.identity;
        let (mut gate, way) = self.gate(asking, &head, call);
        if headers::is_encoded(&head.headers) {
            return own(gate.refuse(AnswerFault::Encoded));
        }
        if carrier == Carrier::EventStream {
            let events = Events::new(answer, gate, way, self.room.clone(), self.limits.event_bytes, closing, identity);
            return respond_with(head, headers::Body::Replaced, events.boxed_unsync());
        }
        if reads {
            let Some(whole) = self.before_deadline(pin!(self.room.hold(answer))).await else {
                return own(gate.refuse(AnswerFault::Drained));
            };
            return match whole {
                Ok((body, taken)) => deliver_whole(head, body, taken, gate, way),
                Err(NotHeld::TooLarge) => own(gate.refuse(AnswerFault::TooLarge)),
                Err(NotHeld::NoRoom) => own(gate.refuse(AnswerFault::NoRoom)),
                Err(NotHeld::Cut(error)) => own(gate.failed(error.fault())),
            };
        }
        let Some(beginning) = self.before_deadline(pin!(relay::beginning(answer, &self.room))).await else {
            return own(gate.refuse(AnswerFault::Drained));
        };
        match beginning {
            Ok(Beginning::Whole(body)) => deliver_whole(head, body, Taken::default(), gate, way),
            Ok(Beginning::Long(start, answer)) => match Followed::new(start, answer, gate, binds) {
                Ok(followed) => respond_with(head, headers::Body::Untouched, followed.boxed_unsync()),
                Err(mut gate) => own(gate.refuse(AnswerFault::Unreadable)),
            },
            Err(error) => own(gate.failed(error.fault())),
        }
    }

    fn gate(&self, asking: Asking<'_>, head: &Parts, call: Option<CallAnswer>) -> (Gate, Arc<WayBack>) {
        let Asking { peer, path, mut headers, era, decision_id, asked } = asking;
        // The answer to `initialize` names the session that its own stream belongs to.
        if let Some(session) = head.headers.get(SESSION_ID) {
            headers.insert(SESSION_ID, session.clone());
            if let (Asked::Handshake { .. }, Some(session)) =
                (&asked, headers::session_id(&head.headers).filter(|_| head.status.is_success()))
            {
                self.sessions.opened(session, Owner::of(peer.caller()));
            }
        }
        let is_of_unlisted = matches!(&asked, Asked::Call { tool, .. } if !self.books.has_listed(tool));
        let gate = Gate {
            head: is_of_unlisted.then(|| Box::new((head.status, head.headers.clone()))),
            books: Arc::clone(&self.books),
            caller: peer.caller().clone(),
            server: peer.server.clone(),
            session: headers::session_id(&headers).map(str::to_owned),
            sessions: Arc::clone(&self.sessions),
            asked,
            era,
            decision_id,
            call,
            passed: Passed::default(),
        };
        let (books, link) = (Arc::clone(&self.books), Arc::clone(&peer.link));
        let way = WayBack { books, caller: peer.caller().clone(), server: peer.server.clone(), link, path, headers, era };
        (gate, Arc::new(way))
    }
}

/// Passes on a body that is whole, as far as it may pass.
fn deliver_whole(head: Parts, body: Bytes, taken: Taken, mut gate: Gate, way: Arc<WayBack>) -> Response<ProxyBody> {
    let binds = head.status.is_success();
    let Judged { passing, words } = gate.judge(&body);
    if !words.is_empty() {
        tokio::spawn(way.settle(words));
    }
    // A body is one message, so that of a request is its answer.
    let is_missing = binds && gate.expects().is_some() && !gate.has_answered();
    let mut says = headers::Body::Replaced;
    let body = match passing {
        Passing::AsItCame if !is_missing => {
            says = headers::Body::Untouched;
            body
        }
        Passing::Changed(changed) => changed,
        _ if !binds && !gate.reads() => body,
        // Nobody waits for it; or it is an error page, say of an unknown session: its status is what the client needs, and its text
        // may hold anything.
        _ if matches!(gate.asked, Asked::Nothing) || !binds || body.is_empty() => Bytes::new(),
        _ => return own(gate.refuse(AnswerFault::Unreadable)),
    };
    gate.ended();
    respond_with(head, says, relay::whole(taken.keep(body)))
}
