//! The event stream of HTTP+SSE, on its way to the client: the URI that the server announces, then its messages, and among them the
//! sidecar's own answers.

use std::collections::VecDeque;
use std::fmt::{self, Debug};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::{Open, Streams, endpoint};
use crate::answer::answer_fault::AnswerFault;
use crate::answer::from_server::WayBack;
use crate::answer::sse::{self, Decoder};
use crate::authenticate::{Identity, ProofEnd};
use crate::books::Books;
use crate::drain::Drain;
use crate::message::era::Era;
use crate::room::{Room, Taken};
use crate::session::Sessions;
use crate::session::channel::{Channel, Said};
use crate::state::next_change;
use crate::upstream::{Answer, AnswerError, Link};

/// The event in which a server announces where messages are posted.
const ENDPOINT: &[u8] = b"endpoint";

/// Who opened a stream, and where.
#[derive(Clone, Debug)]
pub struct Opening {
    /// Where is written down what is decided.
    pub books: Arc<Books>,
    /// What is remembered of sessions.
    pub sessions: Arc<Sessions>,
    /// The streams that are open.
    pub streams: Arc<Streams>,
    /// Who opened it.
    pub identity: Identity,
    /// The server, for audit lines.
    pub server: Arc<str>,
    /// The way to it.
    pub link: Arc<Link>,
    /// The path of the stream.
    pub path: String,
    /// The headers with which it was opened.
    pub headers: HeaderMap,
}

/// The events of one stream.
pub struct Stream {
    answer: Answer,
    opening: Opening,
    /// None until the server has announced where messages are posted.
    open: Option<(Open, Arc<WayBack>)>,
    decoder: Decoder,
    room: Room,
    /// For what is held of an event that has begun.
    taken: Taken,
    ready: VecDeque<Bytes>,
    /// As in [`crate::answer::events::Events`].
    settling: Option<JoinHandle<()>>,
    ended: bool,
    /// When it ends if nobody waits for an answer, and when it ends in any case.
    closing: Pin<Box<WaitForCancellationFutureOwned>>,
    deadline: Pin<Box<WaitForCancellationFutureOwned>>,
    changes: Pin<Box<dyn Future<Output = watch::Receiver<()>> + Send>>,
    /// When who opened it is proved no longer.
    proof: ProofEnd,
}

impl Stream {
    /// The events of `answer`, none of them longer than `max_event`.
    #[must_use]
    pub fn new(answer: Answer, opening: Opening, room: Room, max_event: usize, drain: &Drain) -> Self {
        let changes = Box::pin(next_change(opening.books.state.changes()));
        let proof = opening.identity.ended(&opening.books.state, true);
        Self {
            answer,
            opening,
            open: None,
            decoder: Decoder::new(max_event),
            room,
            taken: Taken::default(),
            ready: VecDeque::new(),
            settling: None,
            ended: false,
            closing: Box::pin(drain.closing()),
            deadline: Box::pin(drain.deadline()),
            changes,
            proof,
        }
    }

    /// Takes what came from the server.
    fn take(&mut self, data: &[u8]) {
        let mut frames = Vec::new();
        let whole = self.decoder.decode(data, &mut frames);
        let mut words = Vec::new();
        for frame in frames {
            let Some(said) = self.judge(&frame) else { continue };
            words.extend(said.words);
            if let Some(message) = said.passes {
                let is_unchanged = frame.data().is_some_and(|data| *data == *message);
                self.ready.push_back(if is_unchanged { frame.into_raw() } else { frame.with_data(&message) });
            }
        }
        let held = self.decoder.held();
        if held == 0 {
            self.taken = Taken::default();
        }
        if whole.is_err() {
            self.end(AnswerFault::TooLarge);
        } else if self.room.take(&mut self.taken, held).is_err() {
            self.end(AnswerFault::NoRoom);
        }
        if let (false, Some((_, way))) = (words.is_empty(), &self.open) {
            self.settling = Some(tokio::spawn(Arc::clone(way).settle(words)));
        }
    }

    /// What becomes of a message; none of what is no message, which passes or not by itself.
    fn judge(&mut self, frame: &sse::Frame) -> Option<Said> {
        let Some(data) = frame.data() else {
            self.ready.push_back(frame.raw().clone());
            return None;
        };
        match &self.open {
            None if frame.kind() == ENDPOINT => self.begin(frame, &data),
            // A second one would send the client elsewhere; and before the first, nobody has asked anything.
            Some(_) if frame.kind() == ENDPOINT => tracing::warn!("dropped a second `endpoint` of the server"),
            None => tracing::warn!("dropped a message of the server before its `endpoint`"),
            Some((open, _)) => return Some(open.session.channel.said(&data)),
        }
        None
    }

    /// The server announces where messages are posted.
    fn begin(&mut self, frame: &sse::Frame, announced: &[u8]) {
        let Opening { books, sessions, streams, identity, server, link, path, headers } = &self.opening;
        let open = endpoint::target(announced, path).and_then(|target| {
            streams.announced(server, target.clone(), || {
                Channel::new(Arc::clone(books), identity.caller.clone(), server.clone(), target, Arc::clone(sessions))
            })
        });
        let Some(open) = open else {
            tracing::warn!(server = &**server, "the server announced an `endpoint` that is none, or is in use");
            return self.end(AnswerFault::Unreadable);
        };
        let target = open.session.target.clone();
        self.ready.push_back(if *announced == *target.as_bytes() { frame.raw().clone() } else { frame.with_data(target.as_bytes()) });
        let way = WayBack {
            books: Arc::clone(books),
            caller: identity.caller.clone(),
            server: server.clone(),
            link: Arc::clone(link),
            path: target,
            headers: headers.clone(),
            era: Era::Legacy,
        };
        self.open = Some((open, Arc::new(way)));
    }

    /// Nothing more comes: whoever waits for an answer is told why.
    fn end(&mut self, fault: AnswerFault) {
        self.ended = true;
        if let Some((open, _)) = &self.open {
            let failed = open.session.channel.fail_all(fault);
            self.ready.extend(failed.iter().map(|message| sse::event(message)));
        } else {
            self.opening.books.metrics.answer_failed(fault);
        }
    }
}

impl Body for Stream {
    type Data = Bytes;
    type Error = AnswerError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            if let Some(settling) = &mut self.settling {
                // Whether it ended well or not, there is nothing left to wait for.
                let Poll::Ready(_) = Pin::new(settling).poll(cx) else { return Poll::Pending };
                self.settling = None;
            }
            if let Some((open, _)) = &mut self.open
                && let Poll::Ready(Some(message)) = open.answers.poll_recv(cx)
            {
                self.ready.push_back(sse::event(&message));
                continue;
            }
            let is_idle = self.open.as_ref().is_none_or(|(open, _)| open.session.channel.is_idle());
            if (self.closing.as_mut().poll(cx).is_ready() && is_idle) || self.deadline.as_mut().poll(cx).is_ready() {
                self.end(AnswerFault::Drained);
                continue;
            }
            if self.proof.as_mut().poll(cx).is_ready() {
                self.end(AnswerFault::ProofEnded);
                continue;
            }
            if let Poll::Ready(receiver) = self.changes.as_mut().poll(cx) {
                self.changes = Box::pin(next_change(receiver));
                let told = self.open.as_ref().map(|(open, _)| open.session.channel.policies_changed()).unwrap_or_default();
                self.ready.extend(told.iter().map(|message| sse::event(message)));
                continue;
            }
            match Pin::new(&mut self.answer).poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(frame))) => {
                    // Trailers are not part of the answer (rule 12).
                    let Ok(data) = frame.into_data() else { continue };
                    self.take(&data);
                }
                Poll::Ready(Some(Err(error))) => self.end(error.fault()),
                Poll::Ready(None) => self.end(AnswerFault::CutOff),
            }
        }
    }
}

impl Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("opening", &self.opening).finish_non_exhaustive()
    }
}
