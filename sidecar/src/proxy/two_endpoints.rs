//! Requests of HTTP+SSE: the stream is opened, and messages are posted for it. See [`crate::two_endpoints`].

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body::Body;
use http_body_util::BodyExt;

use super::identify::Barred;
use super::{Arrived, Closed, LAST_EVENT_ID, Peer, Proxy, is_usable, own, plain, refuse, respond_with, too_many_streams};
use crate::answer::answer_fault::AnswerFault;
use crate::answer::asked::Asked;
use crate::answer::relay::{self, Holding, ProxyBody};
use crate::books::Record;
use crate::front::headers::{self, Carrier, Route};
use crate::message::era::{self, Era};
use crate::message::{Malformed, Message};
use crate::respond;
use crate::session::owner::Owner;
use crate::state::Enforced;
use crate::two_endpoints::{Opening, Session, Stream};
use crate::upstream::Destination;
use crate::verdict::{Received, Verdict, judge, no_policy};

/// What of the transport a request is for.
pub(super) enum Place {
    /// The stream, at this path.
    Stream(String),
    /// The URI that a stream announced.
    Messages(Arc<Session>),
}

impl Place {
    fn path(&self) -> &str {
        match self {
            Self::Stream(path) => path,
            Self::Messages(session) => session.target.split_once('?').map_or(&session.target, |(path, _)| path),
        }
    }

    fn allow(&self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Stream(_) => "GET",
            Self::Messages(_) => "POST",
        })
    }
}

/// A message that is posted for a stream, and was allowed.
struct Posted<'a> {
    peer: &'a Peer,
    session: &'a Session,
    record: Record,
    headers: HeaderMap,
    /// The very bytes that were judged.
    body: Bytes,
    asked: Asked,
}

impl Proxy {
    /// What of the transport a request is for, where it is open.
    pub(super) fn place(&self, peer: &Peer, uri: &Uri, enforced: &Enforced) -> Option<Place> {
        let path = match peer.link.destination() {
            Destination::Captured(_) => enforced.exposure.event_stream()?,
            Destination::Url(url, _) => url.sse_path.as_deref().or(enforced.exposure.event_stream())?,
            Destination::Bridge(_) => return None,
        };
        if uri.path() == path && uri.query().is_none() {
            return Some(Place::Stream(path.to_owned()));
        }
        self.event_streams.session(&peer.server, uri.path_and_query()?.as_str()).map(Place::Messages)
    }

    pub(super) async fn answer_at(
        &self,
        peer: &Peer,
        mut request: Request<impl Body<Data = Bytes> + Unpin>,
        place: Place,
        enforced: &Arc<Enforced>,
    ) -> Result<Response<ProxyBody>, Closed> {
        let route = headers::route(request.method(), request.uri(), request.headers(), place.path());
        match (place, route) {
            (Place::Stream(path), Ok(Route::Get)) => match self.identify(peer, request.headers_mut(), enforced).await {
                Ok(peer) => self.open(&peer, request.into_parts().0.headers, path, enforced).await,
                Err(answer) => Ok(answer),
            },
            (Place::Messages(session), Ok(Route::Post)) => match self.identify(peer, request.headers_mut(), enforced).await {
                Ok(peer) => self.post_for(&peer, request, &session, enforced).await,
                Err(answer) => Ok(answer),
            },
            (place, route) => {
                let malformed = route.err().unwrap_or_else(headers::wrong_method);
                let mut response = refuse(self.books.record(peer.caller(), &peer.server).await, &malformed);
                if response.status() == StatusCode::METHOD_NOT_ALLOWED {
                    response.headers_mut().insert(ALLOW, place.allow());
                }
                Ok(response)
            }
        }
    }

    /// Opens a stream.
    async fn open(&self, peer: &Peer, mut headers: HeaderMap, path: String, enforced: &Enforced) -> Result<Response<ProxyBody>, Closed> {
        if !enforced.policies.in_force(peer.caller()) {
            self.books.record(peer.caller(), &peer.server).await.refused(&no_policy(), enforced);
            return Ok(plain(StatusCode::NOT_FOUND, "No policy is in force.\n"));
        }
        let Ok(room) = Arc::clone(&self.streams).try_acquire_owned() else {
            return self.shut_out(peer, "streams", too_many_streams()).await;
        };
        // Nothing is resumed in this transport: who is cut off opens a new session.
        headers.remove(LAST_EVENT_ID);
        let failed = |fault: AnswerFault| own(respond::upstream_failed(None, fault.told(), ""));
        let (head, answer) = match peer.link.forward(Method::GET, &path, &headers, Bytes::new()).await {
            Ok(answer) => answer.into_parts(),
            Err(error) => return Ok(failed(error.fault())),
        };
        if is_usable(head.status) && !head.status.is_success() {
            // Of an error, the status is what the client needs; its text may hold anything.
            return Ok(respond_with(head, headers::Body::Replaced, relay::whole(Bytes::new())));
        }
        let is_encoded = headers::is_encoded(&head.headers);
        if !head.status.is_success() || is_encoded || headers::carrier(&head.headers) != Carrier::EventStream {
            let fault = if is_encoded { AnswerFault::Encoded } else { AnswerFault::Unreadable };
            self.books.metrics.answer_failed(fault);
            return Ok(failed(fault));
        }
        let opening = Opening {
            books: Arc::clone(&self.books),
            sessions: Arc::clone(&self.sessions),
            streams: Arc::clone(&self.event_streams),
            identity: peer.identity.clone(),
            server: peer.server.clone(),
            link: Arc::clone(&peer.link),
            path,
            headers,
        };
        let stream = Stream::new(answer, opening, self.room.clone(), self.limits.event_bytes, &self.drain);
        Ok(respond_with(head, headers::Body::Replaced, Holding::new(stream, room).boxed_unsync()))
    }

    /// A message that is posted for a stream.
    async fn post_for(
        &self,
        peer: &Peer,
        request: Request<impl Body<Data = Bytes> + Unpin>,
        session: &Session,
        before: &Arc<Enforced>,
    ) -> Result<Response<ProxyBody>, Closed> {
        let Arrived { enforced, mut record, headers, body, message, era } = match self.receive(peer, request, before).await {
            Ok(arrived) => arrived,
            Err(over) => return over.into(),
        };
        let channel = &session.channel;
        if enforced.owner(peer.caller()).is_some_and(|owner| owner != Owner::of(channel.caller())) {
            return Ok(self.bar(record, Barred::Foreign, &headers, &enforced));
        }
        if era == Era::Modern {
            return Ok(refuse(record, &era::unsupported(era::MODERN).with_id(message.id().cloned())));
        }
        if let Message::Request(request) = &message
            && channel.expects(&request.id)
        {
            return Ok(refuse(record, &Malformed::id_in_use()));
        }
        let verdict = {
            let received = Received {
                caller: peer.caller(),
                session: Some(channel.session()),
                sessions: &self.sessions,
                server: peer.server_name(),
                message: &message,
                body: &body,
                era,
            };
            judge(&self.books, &enforced, &received, &mut record).await.at_once()
        };
        match verdict {
            Verdict::Answered(answer) | Verdict::Hidden(answer) => {
                // Written down before the client has the answer.
                drop(record);
                Ok(own(answer_on(session, answer.into_body()).await))
            }
            Verdict::Passes(asked) => {
                if let Message::Notification(notification) = &message
                    && let Some(id) = &notification.cancels
                {
                    channel.cancelled(id);
                }
                Ok(own(self.forward_for(Posted { peer, session, record, headers, body, asked }).await))
            }
        }
    }

    /// Forwards a message for a stream. The server's answer to the POST says only whether it took it.
    async fn forward_for(&self, posted: Posted<'_>) -> Response<Bytes> {
        let Posted { peer, session, record, headers, body, asked } = posted;
        let channel = &session.channel;
        let id = asked.expects().cloned();
        if let Some(id) = &id {
            let forgotten = channel.asked(id.clone(), asked, Era::Legacy, record, self.books.metrics.request());
            if let Some(forgotten) = forgotten {
                session.answer(forgotten).await;
            }
        } else {
            drop(record);
        }
        let fault = match peer.link.forward(Method::POST, &session.target, &headers, body).await {
            Ok(answer) if answer.status().is_success() => return respond::accepted(),
            Ok(answer) if answer.status().is_client_error() => {
                if let Some(id) = &id {
                    channel.not_taken(id);
                }
                let mut response = Response::new(Bytes::new());
                *response.status_mut() = answer.status();
                return response;
            }
            Ok(answer) if is_usable(answer.status()) => AnswerFault::NoAnswer,
            Ok(_) => AnswerFault::Redirect,
            Err(error) => error.fault(),
        };
        match id.and_then(|id| channel.failed(&id, fault)) {
            Some(failed) => answer_on(session, failed).await,
            None => respond::accepted(),
        }
    }
}

/// Puts an answer on the stream; and what the POST gets then.
async fn answer_on(session: &Session, answer: Bytes) -> Response<Bytes> {
    if answer.is_empty() || session.answer(answer).await { respond::accepted() } else { respond::unknown_session(None) }
}
