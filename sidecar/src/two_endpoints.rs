//! HTTP+SSE, the transport of 2024-11-05: the client opens an event stream (GET), whose first event names the URI to which it then posts
//! its messages, and all answers come on the stream. mcp.md 1.4. Closed unless a policy of the server, or an option, names the stream's
//! path.
//!
//! Guarantees: what is posted is judged like any other message; it is taken only at a URI that was announced on a stream that is still
//! open, byte for byte; what comes on the stream passes the gate of the request that it answers.

mod endpoint;
mod stream;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::session::channel::Channel;
pub use stream::{Opening, Stream};

/// Answers of our own that wait for a client to take them. Whoever takes none waits with its next message.
const QUEUE: usize = 64;

/// The streams that are open.
#[derive(Debug, Default)]
pub struct Streams {
    open: Mutex<HashMap<Place, Arc<Session>>>,
}

/// A URI of a server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place {
    server: Arc<str>,
    target: String,
}

/// One stream, and what is posted for it.
#[derive(Debug)]
pub struct Session {
    /// What is under way.
    pub channel: Channel,
    /// Where messages are posted: path and query.
    pub target: String,
    answers: mpsc::Sender<Bytes>,
}

/// A session that lasts as long as its stream.
#[derive(Debug)]
struct Open {
    session: Arc<Session>,
    /// What the sidecar itself has to say.
    answers: mpsc::Receiver<Bytes>,
    streams: Arc<Streams>,
    place: Place,
}

impl Streams {
    /// The session whose stream announced this URI of the server.
    #[must_use]
    pub fn session(&self, server: &str, target: &str) -> Option<Arc<Session>> {
        self.open().get(&Place { server: server.into(), target: target.to_owned() }).cloned()
    }

    /// A stream announced this URI. None if another one has: then nobody could tell whose messages arrive there.
    fn announced(self: &Arc<Self>, server: &str, target: String, channel: impl FnOnce() -> Channel) -> Option<Open> {
        let place = Place { server: server.into(), target: target.clone() };
        let mut open = self.open();
        if open.contains_key(&place) {
            return None;
        }
        let (sender, answers) = mpsc::channel(QUEUE);
        let session = Arc::new(Session { channel: channel(), target, answers: sender });
        open.insert(place.clone(), Arc::clone(&session));
        Some(Open { session, answers, streams: Arc::clone(self), place })
    }

    // Never held across an await; nothing in it can panic half-way.
    fn open(&self) -> MutexGuard<'_, HashMap<Place, Arc<Session>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    /// Puts an answer on the stream. False if the stream has ended.
    pub async fn answer(&self, message: Bytes) -> bool {
        self.answers.send(message).await.is_ok()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.streams.open().remove(&self.place);
    }
}
