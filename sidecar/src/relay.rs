//! Bodies of answers on their way to the caller, as they come; and what is found out of how a call ended while its answer passes.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::StatusCode;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};

use crate::books::Record;
use crate::headers::Carrier;
use crate::message::Id;
use crate::metrics::InFlight;
use crate::respond;
use crate::sse::{self, Decoder};
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

    /// The next piece of the answer's body.
    pub fn read(&mut self, data: &[u8]) {
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

    /// The answer cannot be used.
    pub fn unusable(&mut self) {
        self.record.answered_unusably(self.status);
    }

    /// The whole body has come.
    pub fn ended(mut self) {
        if let Reading::Json(text) = &self.reading
            && respond::is_refundable(self.status, Some(text), &self.id)
        {
            self.record.refund();
        }
    }
}
