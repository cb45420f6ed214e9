//! One session: one client, and the server that was started for it.
//!
//! On stdio a message does not say which request it belongs to. What is not an answer goes to the newest request that waits, else to
//! the client's own stream, else it is kept until there is one of them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::answer::{Answer, Reply, Waiting, reply, stream};
use super::lock;
use crate::message::{Id, ServerWord, server_word};
use crate::session::pending::Pending;
use crate::stdio::child::{Input, Server, WriteError};
use crate::stdio::lines::one_line;

/// A session that nobody has used for so long ends: clients leave without saying so.
const MAX_IDLE: Duration = Duration::from_mins(30);

/// How often idle sessions are looked for.
const LOOK: Duration = Duration::from_secs(30);

/// Messages that are kept for a client that has neither a request nor a stream open. Beyond that the oldest go.
const MAX_KEPT: usize = 64;

/// A client and its server.
#[derive(Debug)]
pub struct Session {
    input: Input,
    routes: Mutex<Routes>,
    ending: CancellationToken,
}

/// Where the server's messages go.
#[derive(Debug)]
struct Routes {
    pending: Pending<Waiting>,
    stream: Option<mpsc::Sender<Bytes>>,
    kept: VecDeque<Bytes>,
    used: Instant,
    is_over: bool,
}

impl Session {
    /// A session with the server that reads this input.
    pub fn new(input: Input) -> Arc<Self> {
        let routes = Routes { pending: Pending::default(), stream: None, kept: VecDeque::new(), used: Instant::now(), is_over: false };
        Arc::new(Self { input, routes: Mutex::new(routes), ending: CancellationToken::new() })
    }

    /// Whether an answer with this id may still come.
    pub fn expects(&self, id: &Id) -> bool {
        lock(&self.routes).pending.expects(id)
    }

    /// Sends a request to the server.
    pub async fn request(&self, id: &Id, line: Bytes) -> Result<Reply, WriteError> {
        let (waiting, reply) = reply();
        {
            let mut routes = lock(&self.routes);
            if routes.is_over {
                return Err(WriteError::Closed);
            }
            routes.used = Instant::now();
            // One that had to make room ends without an answer.
            drop(routes.pending.insert(id.clone(), waiting));
        }
        if let Err(error) = self.input.write(line).await {
            lock(&self.routes).pending.answered(id);
            return Err(error);
        }
        Ok(reply)
    }

    /// Sends the server what it does not answer; perhaps that nobody waits for a request any more.
    pub async fn tell(&self, line: Bytes, cancels: Option<&Id>) -> Result<(), WriteError> {
        {
            let mut routes = lock(&self.routes);
            routes.used = Instant::now();
            if let Some(waiting) = cancels.and_then(|id| routes.pending.cancel(id)) {
                waiting.end(None);
            }
        }
        self.input.write(line).await
    }

    /// The client's own stream. The one before ends: the client has lost it.
    pub fn listen(&self) -> Answer {
        let (sender, reply) = stream();
        let mut routes = lock(&self.routes);
        routes.used = Instant::now();
        if !routes.is_over {
            for message in routes.kept.drain(..) {
                // There is room: no more are kept than a stream holds.
                let _ = sender.try_send(message);
            }
            routes.stream = Some(sender);
        }
        Answer::stream(reply)
    }

    /// Since when nobody uses it; none if somebody does.
    pub fn idle_since(&self) -> Option<Instant> {
        let routes = lock(&self.routes);
        let is_open =
            routes.pending.newest_first().any(Waiting::listens) || routes.stream.as_ref().is_some_and(|stream| !stream.is_closed());
        (!is_open).then_some(routes.used)
    }

    /// Makes the session end.
    pub fn end(&self) {
        self.ending.cancel();
    }

    /// Passes on what the server says, until it ends or the session does. Returns whether the session was told to end.
    pub async fn run(&self, server: Server, max_line: usize) -> bool {
        let told = async {
            let mut looks = interval(LOOK);
            looks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            while self.idle_since().is_none_or(|since| since.elapsed() < MAX_IDLE) {
                tokio::select! {
                    _ = looks.tick() => {}
                    () = self.ending.cancelled() => return,
                }
            }
            tracing::info!("ended a session that nobody used");
        };
        let over = || {
            let mut routes = lock(&self.routes);
            routes.is_over = true;
            routes.stream = None;
            // Whoever waits for an answer is told that none comes.
            drop(routes.pending.cancel_all());
        };
        server.serve(max_line, |line| self.pass(line), told, over).await
    }

    /// Passes on one message of the server.
    fn pass(&self, line: Option<&[u8]>) {
        let Some(line) = line else {
            tracing::warn!("a message of the server is too long; every request that waits may have been the one it answers");
            return drop(lock(&self.routes).pending.cancel_all());
        };
        let line = one_line(line);
        match server_word(&line) {
            Ok(ServerWord::Response { id: Some(id), .. }) => {
                let answered = lock(&self.routes).pending.answered(&id);
                // Rule 18: nothing but answers to what was asked.
                let Some(waiting) = answered else { return tracing::debug!("dropped an answer of the server that nobody waits for") };
                waiting.end(Some(Bytes::from(line.into_owned())));
            }
            Ok(ServerWord::Request { .. } | ServerWord::Notification { .. }) => lock(&self.routes).send(Bytes::from(line.into_owned())),
            Ok(ServerWord::Response { id: None, .. }) | Err(_) => tracing::warn!("dropped a line of the server that is no message"),
        }
    }
}

impl Routes {
    fn send(&mut self, message: Bytes) {
        if let Some(waiting) = self.pending.newest_first().find(|waiting| waiting.listens()) {
            return waiting.send(message);
        }
        let message = match &self.stream {
            Some(stream) => match stream.try_send(message) {
                Ok(()) => return,
                Err(unsent) => unsent.into_inner(),
            },
            None => message,
        };
        self.kept.push_back(message);
        if self.kept.len() > MAX_KEPT {
            self.kept.pop_front();
            tracing::warn!("dropped a message of the server: no client takes it");
        }
    }
}
