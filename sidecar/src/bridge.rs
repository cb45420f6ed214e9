//! A server on stdio as one that speaks Streamable HTTP: to the proxy it is a server like any other, and what reaches it was judged.
//!
//! A server on stdio has one client, so each session has a server of its own. Clients of the modern revision have no sessions: they
//! share one server, and their requests are told apart there by ids of our own.
//!
//! Guarantee: what a server says goes to the client that it was started for, or that asked for it.

mod answer;
mod backoff;
mod session;
mod shared;

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Response, StatusCode};
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::time::{Instant, sleep_until};
use tokio_util::task::TaskTracker;

use crate::config::{Limits, ServerCommand};
use crate::front::headers;
use crate::message::era::{self, Era};
use crate::message::{self, Message, Request};
use crate::respond;
use crate::stdio::child::{self, Server};
use crate::stdio::lines::one_line;
use crate::upstream::fault::SendError;
pub use answer::Answer;
use answer::Reply;
use backoff::Backoff;
use session::Session;
use shared::Shared;

const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");

/// Sessions at one time. Each is a process; the one that has been idle longest makes room.
const MAX_SESSIONS: usize = 32;

/// A server on stdio, offered over HTTP.
#[derive(Debug)]
pub struct Bridge {
    command: ServerCommand,
    limits: Limits,
    sessions: Mutex<HashMap<String, Arc<Session>>>,
    shared: tokio::sync::Mutex<Option<Arc<Shared>>>,
    backoff: Mutex<Backoff>,
    servers: TaskTracker,
}

impl Bridge {
    /// Offers this server. It is started when the first client comes.
    #[must_use]
    pub fn new(command: ServerCommand, limits: Limits) -> Self {
        Self {
            command,
            limits,
            sessions: Mutex::default(),
            shared: tokio::sync::Mutex::default(),
            backoff: Mutex::default(),
            servers: TaskTracker::new(),
        }
    }

    /// Ends every server, and waits until they have ended.
    pub async fn end(&self) {
        for session in lock(&self.sessions).values() {
            session.end();
        }
        if let Some(shared) = &*self.shared.lock().await {
            shared.end();
        }
        self.servers.close();
        self.servers.wait().await;
    }

    /// Answers a request that passed, as a server at its endpoint would.
    pub async fn forward(self: &Arc<Self>, method: &Method, headers: &HeaderMap, body: &[u8]) -> Result<Response<Answer>, SendError> {
        let session = headers::session_id(headers);
        if *method == Method::POST {
            // As it was read when it was judged.
            return match message::parse(body) {
                Ok(message) => self.post(session, message, Bytes::from(one_line(body).into_owned())).await,
                Err(malformed) => Ok(whole(respond::malformed(&malformed))),
            };
        }
        let Some(id) = session else { return Ok(whole(respond::session_needed(None))) };
        let Some(session) = self.session(id) else { return Ok(whole(respond::unknown_session(None))) };
        if *method == Method::GET {
            return Ok(event_stream(session.listen()));
        }
        session.end();
        lock(&self.sessions).remove(id);
        Ok(Response::new(Answer::whole(Bytes::new())))
    }

    async fn post(self: &Arc<Self>, session: Option<&str>, message: Message, line: Bytes) -> Result<Response<Answer>, SendError> {
        match &message {
            Message::Request(request) if era::of_body(&message) == Ok(Era::Modern) => {
                let shared = self.shared().await?;
                answer(shared.request(&line).await?, Era::Modern).await
            }
            Message::Request(request) if request.method == "initialize" => self.initialize(request, line).await,
            _ => {
                let id = if let Message::Request(request) = &message { Some(&request.id) } else { None };
                let Some(session) = session else { return Ok(whole(respond::session_needed(id))) };
                let Some(session) = self.session(session) else { return Ok(whole(respond::unknown_session(id))) };
                match &message {
                    Message::Request(request) if session.expects(&request.id) => Ok(whole(respond::id_in_use())),
                    Message::Request(request) => answer(session.request(&request.id, line).await?, Era::Legacy).await,
                    Message::Notification(notification) => {
                        session.tell(line, notification.cancels.as_ref()).await?;
                        Ok(whole(respond::accepted()))
                    }
                    Message::Response(_) => {
                        session.tell(line, None).await?;
                        Ok(whole(respond::accepted()))
                    }
                }
            }
        }
    }

    /// Opens a session, with a server of its own.
    async fn initialize(self: &Arc<Self>, request: &Request, line: Bytes) -> Result<Response<Answer>, SendError> {
        if !self.make_room() {
            return Err(SendError::TooManySessions);
        }
        let server = self.start().await?;
        let id = session_id().map_err(SendError::NotReached)?;
        let session = Session::new(server.input.clone());
        lock(&self.sessions).insert(id.clone(), Arc::clone(&session));
        self.servers.spawn({
            let (bridge, session, id, begun) = (Arc::clone(self), Arc::clone(&session), id.clone(), Instant::now());
            async move {
                let told = session.run(server, bridge.limits.held_bytes).await;
                lock(&bridge.sessions).remove(&id);
                lock(&bridge.backoff).ended(begun, told, Instant::now());
            }
        });
        let mut response = match answer(session.request(&request.id, line).await?, Era::Legacy).await {
            Ok(response) => response,
            Err(error) => {
                session.end();
                return Err(error);
            }
        };
        if response.body().is_error() {
            session.end();
        } else if let Ok(id) = HeaderValue::try_from(id) {
            response.headers_mut().insert(SESSION_ID, id);
        }
        Ok(response)
    }

    fn session(&self, id: &str) -> Option<Arc<Session>> {
        lock(&self.sessions).get(id).cloned()
    }

    /// The server that clients without sessions share.
    async fn shared(self: &Arc<Self>) -> Result<Arc<Shared>, SendError> {
        // Whoever else comes now waits, instead of starting another.
        let mut running = self.shared.lock().await;
        if let Some(shared) = running.as_ref().filter(|shared| !shared.is_over()) {
            return Ok(Arc::clone(shared));
        }
        let server = self.start().await?;
        let shared = Shared::new(server.input.clone());
        *running = Some(Arc::clone(&shared));
        self.servers.spawn({
            let (bridge, shared, begun) = (Arc::clone(self), Arc::clone(&shared), Instant::now());
            async move {
                let told = shared.run(server, bridge.limits.held_bytes).await;
                lock(&bridge.backoff).ended(begun, told, Instant::now());
            }
        });
        Ok(shared)
    }

    /// Starts a server, unless those before it ended so soon that it has to wait longer than a client would.
    async fn start(&self) -> Result<Server, SendError> {
        let now = Instant::now();
        let not_before = lock(&self.backoff).not_before(now);
        if not_before > now + self.limits.connect_timeout {
            return Err(SendError::Backoff);
        }
        sleep_until(not_before).await;
        let started = child::start(&self.command).inspect_err(|error| tracing::error!(%error, "no server"));
        started.map_err(|error| {
            lock(&self.backoff).ended(now, false, now);
            SendError::NotStarted(error.to_string())
        })
    }

    /// Whether there is room for one more session, after the one that nobody uses has made some.
    fn make_room(&self) -> bool {
        let mut sessions = lock(&self.sessions);
        if sessions.len() < MAX_SESSIONS {
            return true;
        }
        let idle = sessions.iter().filter_map(|(id, session)| Some((session.idle_since()?, id.clone())));
        let Some((_, id)) = idle.min() else { return false };
        if let Some(session) = sessions.remove(&id) {
            session.end();
        }
        true
    }
}

/// Never held across an await.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A name that nobody guesses: whoever knows it is the session's client.
fn session_id() -> std::io::Result<String> {
    let mut random = [0; 16];
    let mut filled = 0;
    while filled < random.len() {
        filled += getrandom(&mut random[filled..], GetRandomFlags::empty())?;
    }
    Ok(random.iter().fold(String::new(), |mut id, byte| {
        // Writing to a string cannot fail.
        let _ = write!(id, "{byte:02x}");
        id
    }))
}

/// What the server answers, in the form that fits what comes first.
async fn answer(mut reply: Reply, era: Era) -> Result<Response<Answer>, SendError> {
    match reply.first().await {
        answer::First::Answer(line) => {
            let status = if era == Era::Modern { respond::status_of(&line) } else { StatusCode::OK };
            let mut response = Response::new(Answer::whole(line));
            *response.status_mut() = status;
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            Ok(response)
        }
        answer::First::Stream => Ok(event_stream(Answer::stream(reply))),
        answer::First::Nothing => Err(SendError::Ended),
    }
}

fn event_stream(body: Answer) -> Response<Answer> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}

fn whole(response: Response<Bytes>) -> Response<Answer> {
    response.map(Answer::whole)
}
