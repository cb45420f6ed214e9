//! An event stream of the server on its way to the client. It passes unread, byte for byte, for as long as nothing in it has to be
//! judged, and event by event from then on.

use std::collections::VecDeque;
use std::fmt::{self, Debug};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::task::JoinHandle;
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::from_server::Word;
use crate::gate::{Gate, Judged, Passing};
use crate::relay::CallAnswer;
use crate::sse::{self, Boundary, Decoder};
use crate::upstream::Answer;

/// The events of one answer.
pub struct Events {
    answer: Answer,
    /// What is found out of how the call ended.
    call: Option<CallAnswer>,
    gate: Gate,
    reading: Reading,
    max_event: usize,
    ready: VecDeque<Bytes>,
    /// What was held back is being written down and answered. Until that is done no more is read, so a server cannot make the
    /// sidecar hold ever more of it.
    settling: Option<JoinHandle<()>>,
    ended: bool,
    closing: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

enum Reading {
    /// Not at all. An event may have begun.
    Nothing(Boundary),
    /// Event by event.
    Events(Decoder),
}

impl Events {
    /// The events of `answer`, none of them longer than `max_event` if it is read. With `closing`, the stream ends between two
    /// events when that happens: it is one that has no end of its own.
    #[must_use]
    pub fn new(
        answer: Answer,
        call: Option<CallAnswer>,
        gate: Gate,
        max_event: usize,
        closing: Option<WaitForCancellationFutureOwned>,
    ) -> Self {
        let reading = if gate.reads() { Reading::Events(Decoder::new(max_event)) } else { Reading::Nothing(Boundary::default()) };
        let closing = closing.map(Box::pin);
        Self { answer, call, gate, reading, max_event, ready: VecDeque::new(), settling: None, ended: false, closing }
    }

    /// Takes what came from the server.
    fn take(&mut self, mut data: Bytes) {
        if let Some(call) = &mut self.call {
            call.read(&data);
        }
        if let Reading::Nothing(boundary) = &mut self.reading {
            if !self.gate.reads() {
                boundary.pass(&data);
                return self.ready.push_back(data);
            }
            // A policy came while the stream was open. The event that has begun passes; all that follow are judged.
            let begun = data.split_to(boundary.pass_to_end(&data));
            if !begun.is_empty() {
                self.ready.push_back(begun);
            }
            if !boundary.is_between_events() {
                return;
            }
            self.reading = Reading::Events(Decoder::new(self.max_event));
        }
        let Reading::Events(decoder) = &mut self.reading else { return };
        let mut frames = Vec::new();
        let whole = decoder.decode(&data, &mut frames);
        let mut words = Vec::new();
        for frame in frames {
            self.judge(frame, &mut words);
        }
        if whole.is_err() {
            self.unreadable();
            self.ended = true;
        }
        if !words.is_empty() {
            self.settling = Some(tokio::spawn(Arc::clone(&self.gate.way).settle(words)));
        }
    }

    fn judge(&mut self, frame: sse::Frame, words: &mut Vec<Word>) {
        let judged = frame.data().map(|data| self.gate.judge(&data));
        // The empty event that begins a stream, and what is no event at all, pass.
        let Some(Judged { passing, words: more }) = judged else { return self.ready.push_back(frame.into_raw()) };
        words.extend(more);
        match passing {
            Passing::AsItCame => self.ready.push_back(frame.into_raw()),
            Passing::Changed(data) => self.ready.push_back(frame.with_data(&data)),
            Passing::Dropped => tracing::debug!("dropped a message of the server"),
            Passing::Unreadable => self.unreadable(),
        }
    }

    /// An event that cannot be read is dropped; if it may have been the answer, the caller is told so.
    fn unreadable(&mut self) {
        tracing::warn!("dropped an event of the server that cannot be read");
        if self.gate.expects().is_some() && !self.ended {
            if let Some(mut call) = self.call.take() {
                call.unusable();
            }
            self.ready.push_back(sse::event(self.gate.unusable().body()));
            self.ended = true;
        }
    }
}

impl Body for Events {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
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
            if self.closing.as_mut().is_some_and(|closing| closing.as_mut().poll(cx).is_ready()) {
                self.ended = true;
                continue;
            }
            match Pin::new(&mut self.answer).poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(frame))) => {
                    // Trailers are not part of the answer (rule 12).
                    let Ok(data) = frame.into_data() else { continue };
                    self.take(data);
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => {
                    if let Some(call) = self.call.take() {
                        call.ended();
                    }
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
