//! One server for all clients without sessions (2026-07-28). On their way to it requests get ids of our own, and progress tokens of
//! the same number, for every client counts from one; on the way back each gets its own again.
//!
//! Guarantee: a message of the server goes to the client whose request it names. One that names none is dropped: it may be about
//! anybody's.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio_util::sync::CancellationToken;

use super::answer::{Reply, Waiting, reply};
use super::lock;
use crate::message::{Id, Renamed, ServerWord, rename, rename_back, server_word};
use crate::session::pending::Pending;
use crate::stdio::child::{Input, Server, WriteError};
use crate::stdio::lines::one_line;

/// The clients without sessions, and their server.
#[derive(Debug)]
pub struct Shared {
    input: Input,
    requests: AtomicU64,
    pending: Mutex<Pending<Asked>>,
    ending: CancellationToken,
}

/// A request, and what its client calls it.
#[derive(Debug)]
struct Asked {
    renamed: Renamed,
    waiting: Waiting,
}

/// Tells the server when the client does not wait any more.
#[derive(Debug)]
pub struct Cancel {
    shared: Arc<Shared>,
    id: Id,
}

impl Drop for Cancel {
    fn drop(&mut self) {
        if lock(&self.shared.pending).cancel(&self.id).is_some() {
            let line = format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{}}}}}"#, self.id);
            // A server that does not read does not need to know.
            let _ = self.shared.input.offer(line.into());
        }
    }
}

impl Shared {
    /// Shares the server that reads this input.
    pub fn new(input: Input) -> Arc<Self> {
        Arc::new(Self { input, requests: AtomicU64::new(0), pending: Mutex::default(), ending: CancellationToken::new() })
    }

    /// Whether the server takes no more requests.
    pub fn is_over(&self) -> bool {
        self.ending.is_cancelled()
    }

    /// Makes it end.
    pub fn end(&self) {
        self.ending.cancel();
    }

    /// Sends a request to the server, under an id of our own.
    pub async fn request(self: &Arc<Self>, line: &[u8]) -> Result<Reply, WriteError> {
        let id = Id::from(self.requests.fetch_add(1, Ordering::Relaxed));
        // It was read once already.
        let (line, renamed) = rename(line, &id).map_err(|_| WriteError::Closed)?;
        let (waiting, mut reply) = reply();
        lock(&self.pending).insert(id.clone(), Asked { renamed, waiting });
        if let Err(error) = self.input.write(line.into()).await {
            lock(&self.pending).answered(&id);
            return Err(error);
        }
        reply.cancel = Some(Cancel { shared: Arc::clone(self), id });
        Ok(reply)
    }

    /// Passes on what the server says, until it ends or is told to. Returns whether it was told to.
    pub async fn run(&self, server: Server, max_line: usize) -> bool {
        let over = || {
            self.ending.cancel();
            drop(lock(&self.pending).cancel_all());
        };
        server.serve(max_line, |line| self.pass(line), self.ending.cancelled(), over).await
    }

    /// Passes on one message of the server.
    fn pass(&self, line: Option<&[u8]>) {
        let Some(line) = line else {
            tracing::warn!("a message of the server is too long; every request that waits may have been the one it answers");
            return drop(lock(&self.pending).cancel_all());
        };
        let line = one_line(line);
        let Ok(word) = server_word(&line) else { return tracing::warn!("dropped a line of the server that is no message") };
        let Ok(back) = rename_back(&line) else { return tracing::warn!("dropped a line of the server that is no message") };
        let mut pending = lock(&self.pending);
        match word {
            ServerWord::Response { .. } => {
                let Some(Asked { renamed, waiting }) = back.id.as_ref().and_then(|id| pending.answered(id)) else {
                    return tracing::debug!("dropped an answer of the server that nobody waits for");
                };
                waiting.end(Some(back.restored(&line, &renamed).into()));
            }
            ServerWord::Notification { .. } => {
                let Some(Asked { renamed, waiting }) = back.about.as_ref().and_then(|id| pending.get(id)) else {
                    return tracing::debug!("dropped a notification of the server that names no request");
                };
                waiting.send(back.restored(&line, renamed).into());
            }
            // This revision has no requests of servers.
            ServerWord::Request { .. } => tracing::warn!("dropped a request of the server"),
        }
    }
}
