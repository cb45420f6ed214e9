//! One request: judge its head, read its body, judge the message, then forward the very bytes or answer. Which rule of mcp.md
//! section 3 refuses what is in [`crate::front::headers`] and [`crate::message`]; how a refusal looks is in [`crate::respond`].
//!
//! Guarantee: every way out of here that is not `forward` leaves the server untouched.

mod bare;
mod deliver;
mod held;
mod identify;
mod plain;
mod receive;
mod two_endpoints;

use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::BodyExt;
use mcp_policy::{Caller, ServerName};
use tokio::sync::Semaphore;

use self::held::HeldCalls;
use self::plain::{canary, plain, probe, too_many_streams};
use self::receive::Arrived;
use crate::answer::answer_fault::AnswerFault;
use crate::answer::asked::Asked;
use crate::answer::call_answer::CallAnswer;
use crate::answer::relay::{self, Holding, ProxyBody};
use crate::authenticate::Identity;
use crate::books::{Books, Record};
use crate::config::{CANARY_PORT, Limits, Probe, Scheme};
use crate::drain::Drain;
use crate::front::exposure::PortUse;
use crate::front::headers::{self, Route};
use crate::front::origin::LocalOnly;
use crate::front::probe;
use crate::message::era::Era;
use crate::message::{Id, Malformed, Message, Reason};
use crate::respond;
use crate::room::Room;
use crate::session::Sessions;
use crate::state::Enforced;
use crate::two_endpoints::Streams;
use crate::upstream::{Answer, Destination, Link, SendError};
use crate::verdict::{Judgement, Received, Verdict, judge, no_policy};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// What answers the callers' requests.
#[derive(Debug)]
pub struct Proxy {
    books: Arc<Books>,
    sessions: Arc<Sessions>,
    probes: Vec<Probe>,
    local_only: Option<LocalOnly>,
    limits: Limits,
    room: Room,
    streams: Arc<Semaphore>,
    /// Those of HTTP+SSE.
    event_streams: Arc<Streams>,
    held: HeldCalls,
    drain: Drain,
}

/// Who sends a request, and the way that it takes.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Where the connection comes from.
    pub address: IpAddr,
    /// Who sends the request; of a connection, somebody at its address.
    pub identity: Identity,
    /// The way to the server that was dialled.
    pub link: Arc<Link>,
    /// That server, for audit lines: [`Peer::name`] and the port.
    pub server: Arc<str>,
    /// `namespace/pod`, or the upstream's authority.
    pub name: Arc<str>,
}

/// What the server was asked, for whom, and how.
struct Asking<'a> {
    peer: &'a Peer,
    path: String,
    headers: HeaderMap,
    era: Era,
    decision_id: String,
    asked: Asked,
}

impl Peer {
    /// Who sends the request.
    fn caller(&self) -> &Caller {
        &self.identity.caller
    }

    /// The sender of one request on this connection.
    fn identified(&self, identity: Identity) -> Self {
        Self { address: self.address, identity, link: Arc::clone(&self.link), server: self.server.clone(), name: Arc::clone(&self.name) }
    }

    /// The server, as conditions name it.
    fn server_name(&self) -> ServerName<'_> {
        // An authority has no slash.
        let (namespace, name) = self.name.split_once('/').unwrap_or(("", &self.name));
        ServerName { namespace, name }
    }
}

/// A request that can be neither forwarded nor answered: its connection is closed.
#[derive(Debug, thiserror::Error)]
pub enum Closed {
    /// The caller did not send the whole body.
    #[error("the body was cut off")]
    Cut,
}

/// A message that goes to the server, and what it takes to answer it.
struct Passing<'a> {
    peer: &'a Peer,
    record: Record,
    headers: HeaderMap,
    /// The very bytes that are judged.
    body: Bytes,
    era: Era,
    path: String,
}

impl Proxy {
    /// A proxy that writes into these books.
    #[must_use]
    pub fn new(books: Arc<Books>, probes: Vec<Probe>, local_only: Option<LocalOnly>, limits: Limits, drain: Drain) -> Self {
        let (room, streams) = (Room::new(&limits), Arc::new(Semaphore::new(limits.streams)));
        Self {
            books,
            sessions: Arc::default(),
            probes,
            local_only,
            limits,
            room,
            streams,
            event_streams: Arc::default(),
            held: HeldCalls::default(),
            drain,
        }
    }

    /// Answers one request.
    pub async fn handle(
        self: &Arc<Self>,
        peer: &Peer,
        request: Request<impl Body<Data = Bytes> + Unpin>,
    ) -> Result<Response<ProxyBody>, Closed> {
        let in_flight = self.books.metrics.request();
        let mut response = self.answer(peer, request).await?;
        if self.drain.is_announced() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response.map(|body| Holding::new(body, in_flight).boxed_unsync()))
    }

    /// Answers a request whose end others on the way may have seen elsewhere (rule 12).
    pub async fn refuse_framing(&self, peer: &Peer) -> Result<Response<ProxyBody>, Closed> {
        let record = self.books.record(peer.caller(), &peer.server).await;
        Ok(refuse(record, &Malformed::bad_request(Reason::Framing, "the request does not say in one way only where it ends")))
    }

    /// Writes down that a request's head could not be read. It was answered with a bare 400 or 431.
    pub async fn note_unreadable(&self, peer: &Peer) {
        self.books.record(peer.caller(), &peer.server).await.malformed(Reason::Head.as_str());
    }

    /// Writes down that what came beside HTTP/1 was no probe of the pod.
    pub async fn note_no_probe(&self, peer: &Peer) {
        self.books.record(peer.caller(), &peer.server).await.malformed("probe");
    }

    async fn answer(
        self: &Arc<Self>,
        peer: &Peer,
        mut request: Request<impl Body<Data = Bytes> + Unpin>,
    ) -> Result<Response<ProxyBody>, Closed> {
        let enforced = self.books.state.enforced();
        if let Some(port) = peer.link.destination().port() {
            if port == CANARY_PORT {
                return Ok(canary(request.method(), request.uri()));
            }
            // What comes rarely is in a box of its own: what answers every request would be as big as the biggest of them.
            if let Some(get) = probe::matching(&self.probes, port, Scheme::Http, &request) {
                return Ok(Box::pin(probe(peer, get, request.headers())).await);
            }
            if enforced.exposure.port(port) == PortUse::Closed {
                return self.shut_out(peer, "port", plain(StatusCode::NOT_FOUND, "No policy opens this port.\n")).await;
            }
        }
        if self.local_only.is_some_and(|local| !local.admits(request.headers())) {
            return self.shut_out(peer, "origin", plain(StatusCode::FORBIDDEN, "Host and Origin must be of this machine.\n")).await;
        }
        let Some(endpoint) = enforced.exposure.endpoint() else {
            let text = "The policies of this server name different endpoints, so none is open.\n";
            return self.shut_out(peer, "endpoint", plain(StatusCode::NOT_FOUND, text)).await;
        };
        if let Some(place) = self.place(peer, request.uri(), &enforced) {
            return Box::pin(self.answer_at(peer, request, place, &enforced)).await;
        }
        let route = match headers::route(request.method(), request.uri(), request.headers(), endpoint) {
            Ok(route) => route,
            Err(malformed) => return Ok(refuse(self.books.record(peer.caller(), &peer.server).await, &malformed)),
        };
        let path = match (peer.link.destination(), route) {
            (Destination::Bridge(_), Route::Discovery) => {
                return Ok(plain(StatusCode::NOT_FOUND, "No authorization server is known here.\n"));
            }
            (Destination::Url(url, _), Route::Post | Route::Get | Route::Delete) => url.path.as_deref().unwrap_or(endpoint).to_owned(),
            (_, Route::Discovery) => request.uri().path().to_owned(),
            (Destination::Captured(_) | Destination::Bridge(_), _) => endpoint.to_owned(),
        };
        if route == Route::Discovery {
            return Ok(self.discover(peer, path, request.into_parts().0.headers, &enforced).await);
        }
        let peer = &match self.identify(peer, request.headers_mut(), &enforced).await {
            Ok(peer) => peer,
            Err(answer) => return Ok(answer),
        };
        if route == Route::Post {
            return self.post(peer, request, path, &enforced).await;
        }
        let headers = request.into_parts().0.headers;
        // 405 is how a server without streams and sessions answers; clients go on without.
        if !enforced.policies.in_force(peer.caller()) {
            self.books.record(peer.caller(), &peer.server).await.refused(&no_policy(), &enforced);
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "No policy is in force.\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
            return Ok(response);
        }
        if route == Route::Delete {
            return Ok(self.end_session(peer, path, headers).await);
        }
        let Ok(room) = Arc::clone(&self.streams).try_acquire_owned() else {
            return self.shut_out(peer, "streams", too_many_streams()).await;
        };
        let response = Box::pin(self.stream(peer, path, headers)).await;
        Ok(response.map(|body| Holding::new(body, room).boxed_unsync()))
    }

    /// Refuses a request that is none to the MCP endpoint, for a reason that audit lines name.
    async fn shut_out(&self, peer: &Peer, reason: &'static str, response: Response<ProxyBody>) -> Result<Response<ProxyBody>, Closed> {
        self.books.record(peer.caller(), &peer.server).await.malformed(reason);
        Ok(response)
    }

    /// A message to the endpoint.
    async fn post(
        self: &Arc<Self>,
        peer: &Peer,
        request: Request<impl Body<Data = Bytes> + Unpin>,
        path: String,
        before: &Arc<Enforced>,
    ) -> Result<Response<ProxyBody>, Closed> {
        let Arrived { enforced, mut record, headers, body, message, era } = match self.receive(peer, request, before).await {
            Ok(arrived) => arrived,
            Err(over) => return over.into(),
        };
        if let (Era::Modern, Some((id, call))) = (era, message.call())
            && let Err(malformed) = self.books.check_mirrored(call, &headers, &body)
        {
            record.call(call, &enforced.policies);
            return Ok(refuse(record, &malformed.with_id(Some(id.clone()))));
        }
        let received = self.received(peer, &headers, &message, &body, era);
        if let Message::Notification(notification) = &message
            && let Some(id) = &notification.cancels
        {
            self.held.cancel(&received, id);
        }
        match judge(&self.books, &enforced, &received, &mut record).await {
            Judgement::Done(verdict) => Ok(self.act(peer, Arrived { enforced, record, headers, body, message, era }, path, verdict).await),
            Judgement::Held(held) => {
                Ok(Box::pin(self.hold(peer, Arrived { enforced, record, headers, body, message, era }, path, *held)).await)
            }
        }
    }

    fn received<'a>(&'a self, peer: &'a Peer, headers: &'a HeaderMap, message: &'a Message, body: &'a [u8], era: Era) -> Received<'a> {
        Received {
            caller: peer.caller(),
            session: headers::session_id(headers).filter(|id| self.sessions.is_open(id)),
            sessions: &self.sessions,
            server: peer.server_name(),
            message,
            body,
            era,
        }
    }

    /// Does with a message what the verdict says.
    async fn act(&self, peer: &Peer, arrived: Arrived, path: String, verdict: Verdict) -> Response<ProxyBody> {
        let Arrived { record, headers, body, era, .. } = arrived;
        let asked = match verdict {
            Verdict::Passes(asked) => asked,
            Verdict::Answered(answer) => return own(answer),
            Verdict::Hidden(answer) => return own(self.books.unknown_tool().dress(answer, headers.get(headers::SESSION_ID))),
        };
        let mut passing = Passing { peer, record, headers, body, era, path };
        if let Asked::Call { id, tool } = asked {
            return self.forward_call(passing, id, tool).await;
        }
        if !asked.is_endless() {
            return self.forward(passing, asked).await;
        }
        let Ok(room) = Arc::clone(&self.streams).try_acquire_owned() else {
            passing.record.malformed("streams");
            return too_many_streams();
        };
        self.forward(passing, asked).await.map(|body| Holding::new(body, room).boxed_unsync())
    }

    /// Forwards an allowed call.
    async fn forward_call(&self, passing: Passing<'_>, id: Id, tool: String) -> Response<ProxyBody> {
        let sent = self.send(&passing).await;
        let Passing { peer, mut record, era, headers, path, .. } = passing;
        let (status, fault) = match sent {
            Ok(answer) => {
                self.note_end_of_session(&headers, answer.status(), false);
                if is_usable(answer.status()) {
                    let decision_id = record.decision_id().to_owned();
                    let (head, answer) = answer.into_parts();
                    let call = CallAnswer::new(record, head.status);
                    let asking = Asking { peer, path, headers, era, decision_id, asked: Asked::Call { id, tool } };
                    return self.deliver(head, answer, asking, Some(call)).await;
                }
                self.books.metrics.answer_failed(AnswerFault::Redirect);
                (Some(answer.status()), AnswerFault::Redirect)
            }
            Err(error) => {
                if error.nothing_was_sent() {
                    record.refund();
                }
                (None, error.fault())
            }
        };
        record.answer_failed(status, fault);
        own(respond::upstream_failed_call(&id, era, &tool, fault.told(), record.decision_id()))
    }

    /// Sends the message to the server: the very bytes that were judged.
    async fn send(&self, passing: &Passing<'_>) -> Result<Response<Answer>, SendError> {
        let sent = passing.peer.link.forward(Method::POST, &passing.path, &passing.headers, passing.body.clone());
        self.before_deadline(pin!(sent)).await.unwrap_or_else(|| {
            self.books.metrics.answer_failed(AnswerFault::Drained);
            Err(SendError::Drained)
        })
    }

    /// What comes of the server; none if the end of the sidecar comes first. Who waits is then told so, instead of being cut off.
    async fn before_deadline<T>(&self, coming: Pin<&mut impl Future<Output = T>>) -> Option<T> {
        tokio::select! {
            biased;
            came = coming => Some(came),
            () = self.drain.deadline() => None,
        }
    }

    /// Forwards any other message that passes.
    async fn forward(&self, passing: Passing<'_>, asked: Asked) -> Response<ProxyBody> {
        let sent = self.send(&passing).await;
        let Passing { peer, record, era, headers, path, .. } = passing;
        let decision_id = record.decision_id().to_owned();
        // What audit policies say of the message is written now: the answer may be a stream that does not end.
        drop(record);
        // Apart: calls do not come here, and are not to carry room for it.
        Box::pin(self.pass(sent, Asking { peer, path, headers, era, decision_id, asked })).await
    }
}

/// Refuses what no rule was asked about.
fn refuse(mut record: Record, malformed: &Malformed) -> Response<ProxyBody> {
    record.malformed(malformed.reason.as_str());
    let mut response = own(respond::malformed(malformed));
    if malformed.reason == Reason::Framing {
        // What follows on this connection may be a request only to some.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Rule 22: no redirect is followed or passed on; and an answer that is none of HTTP's final ones is none.
fn is_usable(status: StatusCode) -> bool {
    !status.is_redirection() && !status.is_informational()
}

/// An answer with the server's head.
fn respond_with(head: http::response::Parts, body: headers::Body, content: ProxyBody) -> Response<ProxyBody> {
    let mut response = Response::new(content);
    *response.status_mut() = head.status;
    *response.headers_mut() = headers::to_client(head.headers, body);
    // What the body is long is known, or it goes in chunks: either way the framing is our own (rule 12).
    response.headers_mut().remove(CONTENT_LENGTH);
    response
}

/// An answer of the sidecar's own in MCP's forms.
fn own(response: Response<Bytes>) -> Response<ProxyBody> {
    response.map(relay::whole)
}
