//! Bodies of answers on their way to the caller. Most go on untouched, frame by frame; those that may carry a list of tools are
//! read event by event.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::StatusCode;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use mcp_policy::Caller;
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::books::{Books, Record};
use crate::from_server::ServerGate;
use crate::headers::{Carrier, Era};
use crate::message::Id;
use crate::metrics::InFlight;
use crate::respond::{self, UpstreamFailure};
use crate::sse::{self, Decoder};
use crate::tools::{self, Filtered};
use crate::upstream::Answer;

/// An answer's body, whatever it is.
pub type ProxyBody = UnsyncBoxBody<Bytes, hyper::Error>;

/// How much of an answer to a call is read to see whether it is a JSON-RPC error, which gives the call's counters back. An error
/// that is longer counts as a call that ran.
const MAX_READ_ERROR: usize = 64 * 1024;

/// A body that is already there.
#[must_use]
pub fn whole(bytes: Bytes) -> ProxyBody {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// A body that holds something for as long as it is sent.
#[derive(Debug)]
pub struct Holding<B> {
    body: B,
    _held: InFlight,
}

impl<B> Holding<B> {
    /// Keeps `held` until `body` is sent or given up.
    pub fn new(body: B, held: InFlight) -> Self {
        Self { body, _held: held }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Holding<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The answer as it comes, without trailers (rule 12).
#[derive(Debug)]
pub struct Untouched {
    answer: Answer,
    call: Option<CallAnswer>,
}

impl Untouched {
    /// Passes the answer on. With a call, what passes is read for how the call ended.
    #[must_use]
    pub fn new(answer: Answer, mut call: Option<CallAnswer>) -> Self {
        if answer.is_end_stream()
            && let Some(call) = call.take()
        {
            call.ended();
        }
        Self { answer, call }
    }
}

impl Body for Untouched {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        loop {
            let Poll::Ready(polled) = Pin::new(&mut self.answer).poll_frame(cx) else { return Poll::Pending };
            match polled {
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    if let Some(call) = &mut self.call {
                        call.read(&data);
                    }
                    // Settled before the caller has the last byte: whoever has the answer finds it counted.
                    if self.answer.is_end_stream()
                        && let Some(call) = self.call.take()
                    {
                        call.ended();
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    if let Some(call) = self.call.take() {
                        call.ended();
                    }
                    return Poll::Ready(None);
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.answer.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.answer.size_hint()
    }
}

/// The answer to a call that was forwarded. Dropped before its end, the call counts as one that ran.
#[derive(Debug)]
pub struct CallAnswer {
    record: Record,
    status: StatusCode,
    id: Id,
    reading: Reading,
}

#[derive(Debug)]
enum Reading {
    /// A JSON text, so far.
    Json(Vec<u8>),
    /// Events.
    Events(Decoder),
    /// Nothing that could change how the call ended.
    Nothing,
}

impl CallAnswer {
    /// The head of the answer has come.
    #[must_use]
    pub fn new(mut record: Record, status: StatusCode, id: Id, carrier: Carrier) -> Self {
        record.answered(status);
        let reading = if respond::is_refundable(status, None, &id) {
            record.refund();
            Reading::Nothing
        } else {
            match carrier {
                Carrier::Json => Reading::Json(Vec::new()),
                Carrier::EventStream => Reading::Events(Decoder::new(MAX_READ_ERROR)),
                Carrier::Other => Reading::Nothing,
            }
        };
        Self { record, status, id, reading }
    }

    fn read(&mut self, data: &[u8]) {
        match &mut self.reading {
            Reading::Json(text) if text.len() + data.len() <= MAX_READ_ERROR => text.extend_from_slice(data),
            Reading::Events(decoder) => {
                let mut frames = Vec::new();
                let read = decoder.decode(data, &mut frames);
                let answers = frames.iter().filter_map(sse::Frame::data);
                if answers.into_iter().any(|data| respond::is_refundable(self.status, Some(&data), &self.id)) {
                    self.record.refund();
                    self.reading = Reading::Nothing;
                } else if read.is_err() {
                    self.reading = Reading::Nothing;
                }
            }
            Reading::Json(_) => self.reading = Reading::Nothing,
            Reading::Nothing => {}
        }
    }

    fn ended(mut self) {
        if let Reading::Json(text) = &self.reading
            && respond::is_refundable(self.status, Some(text), &self.id)
        {
            self.record.refund();
        }
    }
}

/// What may pass of a list of tools, and to whom.
#[derive(Clone, Debug)]
pub struct ListGate {
    /// The policies, read anew for each message.
    pub books: Arc<Books>,
    /// Who asked.
    pub caller: Caller,
    /// The id of the request whose answer this is; none on a stream that the client opened by GET, where an answer to an earlier
    /// request can come.
    pub expected: Option<Id>,
    /// The era of the request.
    pub era: Era,
    /// For messages about this answer.
    pub decision_id: String,
    /// What else the server sends.
    pub server: Arc<ServerGate>,
}

/// What becomes of one message of the server.
pub enum Passing {
    /// It passes as it came.
    AsItCame,
    /// It passes with these bytes.
    Changed(Vec<u8>),
    /// It is dropped.
    Dropped,
    /// It cannot be read, so it must not pass.
    Unreadable,
}

impl ListGate {
    /// Judges one message: a JSON body or the data of an event.
    #[must_use]
    pub fn judge(&self, message: &[u8]) -> Passing {
        let enforced = self.books.state.enforced();
        match tools::filter(message, self.expected.as_ref(), self.era, |tool| enforced.policies.lists(&self.caller, tool)) {
            Ok(Filtered::List(list)) => {
                self.books.learn(&list.names);
                list.changed.map_or(Passing::AsItCame, Passing::Changed)
            }
            // Rule 18: on the stream of a request, nothing but its own answer.
            Ok(Filtered::OtherResponse) if self.expected.is_some() => Passing::Dropped,
            Ok(Filtered::NotAResponse) if !self.server.passes(message) => Passing::Dropped,
            Ok(Filtered::Failed | Filtered::NotAResponse | Filtered::OtherResponse) => Passing::AsItCame,
            Err(_) => Passing::Unreadable,
        }
    }
}

/// An event stream that may carry lists of tools. Ends between two events when the sidecar ends.
pub struct GatedEvents {
    answer: Answer,
    decoder: Decoder,
    gate: ListGate,
    ready: VecDeque<Bytes>,
    ended: bool,
    closing: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

impl GatedEvents {
    /// Gates the events of `answer`. With `closing`, the stream ends when that happens: it is one that has no end of its own.
    pub fn new(answer: Answer, max_event: usize, gate: ListGate, closing: Option<WaitForCancellationFutureOwned>) -> Self {
        let decoder = Decoder::new(max_event);
        Self { answer, decoder, gate, ready: VecDeque::new(), ended: false, closing: closing.map(Box::pin) }
    }

    fn read(&mut self, data: &[u8]) {
        let mut frames = Vec::new();
        let decoded = self.decoder.decode(data, &mut frames);
        for frame in frames {
            let passing = match frame.data() {
                // The empty event that begins a stream, and what is no event at all.
                None => Passing::AsItCame,
                Some(data) if data.is_empty() => Passing::AsItCame,
                Some(data) => self.gate.judge(&data),
            };
            match passing {
                Passing::AsItCame => self.ready.push_back(frame.into_raw()),
                Passing::Changed(data) => self.ready.push_back(frame.with_data(&data)),
                Passing::Dropped => tracing::debug!("dropped a message of the server"),
                Passing::Unreadable => self.unreadable(),
            }
        }
        if decoded.is_err() {
            self.unreadable();
            self.ended = true;
        }
    }

    /// An event that cannot be read is dropped; if it may have been the answer, the caller is told so.
    fn unreadable(&mut self) {
        tracing::warn!("dropped an event of the server that cannot be read");
        if let Some(id) = &self.gate.expected {
            let answer = respond::upstream_failed(Some(id), UpstreamFailure::Unusable, &self.gate.decision_id);
            self.ready.push_back(sse::event(answer.body()));
            self.ended = true;
        }
    }
}

impl Body for GatedEvents {
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
            if self.closing.as_mut().is_some_and(|closing| closing.as_mut().poll(cx).is_ready()) {
                self.ended = true;
                continue;
            }
            match Pin::new(&mut self.answer).poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.read(&data);
                    }
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => self.ended = true,
            }
        }
    }
}

impl Debug for GatedEvents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GatedEvents").field("gate", &self.gate).finish_non_exhaustive()
    }
}
