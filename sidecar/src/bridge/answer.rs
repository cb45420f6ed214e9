//! What a server on stdio answers to one request, as the body of an HTTP answer.

use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::shared::Cancel;
use crate::answer::sse;
use crate::message::{ServerMessage, parse_server};
use crate::upstream::fault::AnswerError;

/// Messages before the answer that wait for a client to take them. Of a client that takes none, more are dropped.
const QUEUE: usize = 64;

/// How long a client waits for a head. Then a stream begins, so that nobody on the way gives up on a tool that takes its time.
const PATIENCE: Duration = Duration::from_secs(10);

/// What comes of one request: the server's end.
#[derive(Debug)]
pub struct Waiting {
    events: mpsc::Sender<Bytes>,
    answer: oneshot::Sender<Option<Bytes>>,
}

impl Waiting {
    /// Whether the client still listens.
    pub fn listens(&self) -> bool {
        !self.events.is_closed()
    }

    /// Sends a message that is not the answer.
    pub fn send(&self, message: Bytes) {
        if self.events.try_send(message).is_err() {
            tracing::warn!("dropped a message of the server: the client takes none");
        }
    }

    /// Sends the answer; none if the client does not want it any more.
    pub fn end(self, answer: Option<Bytes>) {
        // The client may be gone.
        let _ = self.answer.send(answer);
    }
}

/// What comes of one request: the client's end.
#[derive(Debug)]
pub struct Reply {
    first: Option<Bytes>,
    events: mpsc::Receiver<Bytes>,
    /// None on a stream that answers no request.
    answer: Option<oneshot::Receiver<Option<Bytes>>>,
    /// Dropped with the reply: tells a server that the client does not wait any more.
    pub cancel: Option<Cancel>,
}

/// What comes first of a reply.
pub enum First {
    /// The answer, and nothing else.
    Answer(Bytes),
    /// Something else, or nothing for a while.
    Stream,
    /// Nothing any more: the server has ended.
    Nothing,
}

/// Both ends of what comes of a request.
pub fn reply() -> (Waiting, Reply) {
    let (events, received) = mpsc::channel(QUEUE);
    let (answer, answered) = oneshot::channel();
    (Waiting { events, answer }, Reply { first: None, events: received, answer: Some(answered), cancel: None })
}

/// Both ends of a stream that answers no request.
pub fn stream() -> (mpsc::Sender<Bytes>, Reply) {
    let (events, received) = mpsc::channel(QUEUE);
    (events, Reply { first: None, events: received, answer: None, cancel: None })
}

impl Reply {
    /// Waits for what comes first.
    pub async fn first(&mut self) -> First {
        match timeout(PATIENCE, self.events.recv()).await {
            Ok(Some(event)) => {
                self.first = Some(event);
                First::Stream
            }
            Ok(None) => match self.answer.take() {
                Some(answer) => match answer.await {
                    Ok(Some(answer)) => First::Answer(answer),
                    Ok(None) => First::Stream,
                    Err(_) => First::Nothing,
                },
                None => First::Stream,
            },
            Err(_) => First::Stream,
        }
    }
}

/// The body of an answer.
#[derive(Debug)]
pub enum Answer {
    /// It is whole.
    Whole(Option<Bytes>),
    /// It comes in events.
    Stream {
        /// Where they come from.
        reply: Reply,
        /// Whether it ended.
        is_over: bool,
    },
}

impl Answer {
    /// A body that is already there.
    #[must_use]
    pub fn whole(body: Bytes) -> Self {
        Self::Whole(Some(body).filter(|body| !body.is_empty()))
    }

    /// A body in events.
    #[must_use]
    pub fn stream(reply: Reply) -> Self {
        Self::Stream { reply, is_over: false }
    }

    /// Whether it is a JSON-RPC error.
    #[must_use]
    pub fn is_error(&self) -> bool {
        matches!(self, Self::Whole(Some(body)) if matches!(parse_server(body), Ok(ServerMessage::Error { .. })))
    }

    /// The next piece. An error if the server ended without the answer that somebody waits for.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, AnswerError>>> {
        let (reply, is_over) = match self {
            Self::Whole(body) => return Poll::Ready(body.take().map(Ok)),
            Self::Stream { is_over: true, .. } => return Poll::Ready(None),
            Self::Stream { reply, is_over } => (reply, is_over),
        };
        if let Some(first) = reply.first.take() {
            return Poll::Ready(Some(Ok(sse::event(&first))));
        }
        match reply.events.poll_recv(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Some(event)) => return Poll::Ready(Some(Ok(sse::event(&event)))),
            Poll::Ready(None) => *is_over = true,
        }
        // The server's end sends the answer before it lets go of the events.
        Poll::Ready(match reply.answer.as_mut().map(oneshot::Receiver::try_recv) {
            Some(Ok(Some(answer))) => Some(Ok(sse::event(&answer))),
            Some(Ok(None)) | None => None,
            Some(Err(_)) => Some(Err(AnswerError::Ended)),
        })
    }

    /// Whether nothing more comes.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Whole(None) | Self::Stream { is_over: true, .. })
    }

    /// How long it is, if that is known.
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        match self {
            Self::Whole(body) => Some(body.as_ref().map_or(0, |body| body.len() as u64)),
            Self::Stream { .. } => None,
        }
    }
}
