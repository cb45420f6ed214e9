//! An event stream of the server on its way to the client, event by event: each is one message to judge, and goes on byte for byte if
//! nothing in it changes. On streams that wait for it, the client is told when a change of policy changes its list of tools.

use std::collections::VecDeque;
use std::fmt::{self, Debug};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::answer::answer_fault::AnswerFault;
use crate::answer::from_server::{WayBack, Word};
use crate::answer::gate::{Gate, Judged, Passing};
use crate::answer::sse::{self, Decoder};
use crate::authenticate::{Identity, ProofEnd};
use crate::respond;
use crate::room::{Room, Taken};
use crate::state::{Enforced, next_change};
use crate::upstream::{Answer, AnswerError};

/// The events of one answer.
pub struct Events {
    answer: Answer,
    gate: Gate,
    way: Arc<WayBack>,
    decoder: Decoder,
    room: Room,
    /// For what is held of an event that has begun.
    taken: Taken,
    ready: VecDeque<Bytes>,
    /// What was held back is being written down and answered. Until that is done no more is read, so a server cannot make the
    /// sidecar hold ever more of it.
    settling: Option<JoinHandle<()>>,
    ended: bool,
    closing: Pin<Box<WaitForCancellationFutureOwned>>,
    /// When who asked is proved no longer; none if nothing was proved that could end.
    proof: Option<ProofEnd>,
    changes: Option<Changes>,
    /// Whether the client can ask for the rest of it again (`Last-Event-ID`).
    resumable: bool,
}

/// Waits for changes of policy.
struct Changes {
    /// What was enforced when the client last had reason to ask for its list.
    told: Arc<Enforced>,
    next: Pin<Box<dyn Future<Output = watch::Receiver<()>> + Send>>,
}

impl Events {
    /// The events of `answer`, none of them longer than `max_event`. On `closing`, the stream ends between two events.
    #[must_use]
    pub fn new(
        answer: Answer,
        gate: Gate,
        way: Arc<WayBack>,
        room: Room,
        max_event: usize,
        closing: WaitForCancellationFutureOwned,
        identity: &Identity,
    ) -> Self {
        gate.streams();
        let state = &gate.books.state;
        let is_endless = gate.asked.is_endless();
        // The answer to a request that was made in time comes to its end, unless the proof was taken back.
        let proof = (is_endless || !identity.caller.is_anonymous()).then(|| identity.ended(state, is_endless));
        let changes = is_endless.then(|| Changes { told: state.enforced(), next: Box::pin(next_change(state.changes())) });
        Self {
            answer,
            gate,
            way,
            decoder: Decoder::new(max_event),
            room,
            taken: Taken::default(),
            ready: VecDeque::new(),
            settling: None,
            ended: false,
            closing: Box::pin(closing),
            proof,
            changes,
            resumable: false,
        }
    }

    /// Whether who asked is proved no longer.
    fn has_lost_its_proof(&mut self, cx: &mut Context<'_>) -> bool {
        self.proof.as_mut().is_some_and(|proof| proof.as_mut().poll(cx).is_ready())
    }

    /// Takes what came from the server.
    fn take(&mut self, data: &[u8]) {
        let mut frames = Vec::new();
        let whole = self.decoder.decode(data, &mut frames);
        let mut words = Vec::new();
        for frame in frames {
            self.judge(frame, &mut words);
        }
        let held = self.decoder.held();
        if held == 0 {
            self.taken = Taken::default();
        }
        if whole.is_err() {
            self.dropped(AnswerFault::TooLarge);
            self.ended = true;
        } else if self.room.take(&mut self.taken, held).is_err() {
            self.dropped(AnswerFault::NoRoom);
            self.ended = true;
        }
        if !words.is_empty() {
            self.settling = Some(tokio::spawn(Arc::clone(&self.way).settle(words)));
        }
    }

    fn judge(&mut self, frame: sse::Frame, words: &mut Vec<Word>) {
        self.resumable |= frame.has_id();
        let judged = frame.data().map(|data| self.gate.judge(&data));
        // The empty event that begins a stream, and what is no event at all, pass.
        let Some(Judged { passing, words: more }) = judged else { return self.ready.push_back(frame.into_raw()) };
        words.extend(more);
        match passing {
            Passing::AsItCame => self.ready.push_back(frame.into_raw()),
            Passing::Changed(data) => self.ready.push_back(frame.with_data(&data)),
            Passing::Dropped => {}
            // Some servers send such events to keep the connection alive, which a comment does as well.
            Passing::NoMessage => self.ready.push_back(Bytes::from_static(b":\n\n")),
            Passing::Unreadable => self.dropped(AnswerFault::Unreadable),
        }
    }

    /// An event that cannot be read is dropped; if it may have been the answer, the caller is told so.
    fn dropped(&mut self, fault: AnswerFault) {
        self.gate.books.metrics.answer_failed(fault);
        tracing::warn!(reason = fault.as_str(), "dropped an event of the server");
        self.failed(fault);
    }

    /// Whoever waits for an answer gets an error in its place, and the stream ends.
    fn failed(&mut self, fault: AnswerFault) {
        if self.gate.expects().is_some() && !self.gate.has_answered() && !self.ended {
            self.ready.push_back(sse::event(self.gate.failed(fault).body()));
            self.ended = true;
        }
    }

    /// Nothing more comes, and not because the server said all. A client that can ask for the rest is not told that there is none.
    fn broken(&mut self, fault: AnswerFault) {
        if self.resumable || self.gate.asked.is_endless() {
            self.gate.note_failure(fault);
        } else {
            self.failed(fault);
        }
        self.ended = true;
    }

    /// The sidecar ends the stream.
    fn given_up(&mut self, fault: AnswerFault) {
        // One that has no end of its own has lost nothing.
        if !self.gate.asked.is_endless() && !self.gate.has_answered() {
            self.gate.books.metrics.answer_failed(fault);
        }
        self.broken(fault);
    }

    /// The policies have changed.
    fn tell(&mut self, told: &Arc<Enforced>) -> Arc<Enforced> {
        let books = &self.gate.books;
        let now = books.state.enforced();
        let Some(subscription) = self.gate.tells_of_lists() else { return Arc::clone(told) };
        if books.tells_of_other_tools(told, &now, &self.gate.caller) {
            self.ready.push_back(sse::event(&respond::list_changed(subscription)));
        }
        now
    }
}

impl Body for Events {
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
            if self.closing.as_mut().poll(cx).is_ready() {
                self.given_up(AnswerFault::Drained);
                continue;
            }
            if self.has_lost_its_proof(cx) {
                self.proof = None;
                self.given_up(AnswerFault::ProofEnded);
                continue;
            }
            if let Some(mut changes) = self.changes.take() {
                let changed = changes.next.as_mut().poll(cx);
                if let Poll::Ready(receiver) = changed {
                    changes = Changes { told: self.tell(&changes.told), next: Box::pin(next_change(receiver)) };
                    self.changes = Some(changes);
                    continue;
                }
                self.changes = Some(changes);
            }
            match Pin::new(&mut self.answer).poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(frame))) => {
                    // Trailers are not part of the answer (rule 12).
                    let Ok(data) = frame.into_data() else { continue };
                    self.take(&data);
                }
                Poll::Ready(Some(Err(error))) => self.broken(error.fault()),
                Poll::Ready(None) => {
                    self.gate.ended();
                    self.ended = true;
                }
            }
        }
    }
}

impl Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("gate", &self.gate).finish_non_exhaustive()
    }
}
