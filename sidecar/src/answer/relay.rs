//! Bodies of answers on their way to the caller, as they come.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};

use crate::answer::answer_fault::AnswerFault;
use crate::answer::call_answer::CallAnswer;
use crate::answer::gate::Gate;
use crate::message::Glance;
use crate::room::{Room, Taken};
use crate::upstream::{Answer, AnswerError};

/// An answer's body, whatever it is.
pub type ProxyBody = UnsyncBoxBody<Bytes, AnswerError>;

/// A body that is already there.
#[must_use]
pub fn whole(bytes: Bytes) -> ProxyBody {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// A body that holds something for as long as it is sent.
#[derive(Debug)]
pub struct Holding<B, H> {
    body: B,
    _held: H,
}

impl<B, H> Holding<B, H> {
    /// Keeps `held` until `body` is sent or given up.
    pub fn new(body: B, held: H) -> Self {
        Self { body, _held: held }
    }
}

impl<B: Body<Data = Bytes> + Unpin, H: Unpin> Body for Holding<B, H> {
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
    /// Passes the answer on; `call` is written down at its end.
    #[must_use]
    pub fn new(answer: Answer, call: Option<CallAnswer>) -> Self {
        let call = call.filter(|_| !answer.is_end_stream());
        Self { answer, call }
    }
}

impl Body for Untouched {
    type Data = Bytes;
    type Error = AnswerError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        loop {
            let Poll::Ready(polled) = Pin::new(&mut self.answer).poll_frame(cx) else { return Poll::Pending };
            match polled {
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    // Settled before the caller has the last byte: whoever has the answer finds it counted.
                    if self.answer.is_end_stream() {
                        self.call = None;
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => {
                    if let Some(mut call) = self.call.take() {
                        call.failed(error.fault());
                    }
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    self.call = None;
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

/// How much of a JSON text is read before it is passed on piece by piece. One that breaks off before becomes an error that the agent
/// can read, instead of a broken connection; no client can use the half of one.
const HELD: usize = 64 * 1024;

/// A JSON text that has come from the server.
#[derive(Debug)]
pub enum Beginning {
    /// All of it.
    Whole(Bytes),
    /// The beginning of a long one, or of one for which there is no room.
    Long(Bytes, Answer),
}

/// Reads a JSON text as far as it is short.
pub async fn beginning(mut answer: Answer, room: &Room) -> Result<Beginning, AnswerError> {
    let (mut start, mut taken) = (BytesMut::new(), Taken::default());
    while let Some(frame) = answer.frame().await {
        // Trailers are not part of the answer (rule 12).
        let Ok(data) = frame?.into_data() else { continue };
        start.extend_from_slice(&data);
        if answer.is_end_stream() {
            break;
        }
        if start.len() > HELD || room.take(&mut taken, start.len()).is_err() {
            return Ok(Beginning::Long(taken.keep(start.freeze()), answer));
        }
    }
    Ok(Beginning::Whole(taken.keep(start.freeze())))
}

/// A JSON text that is too long to be held, on its way to the client, without trailers (rule 12). Its outside is read as it passes; what
/// turns out to be another answer than the expected one is cut off, so that the client cannot read it.
#[derive(Debug)]
pub struct Followed {
    /// What was read before it was known to be long.
    start: Option<Bytes>,
    answer: Answer,
    glance: Glance,
    gate: Gate,
    binds: bool,
}

impl Followed {
    /// Passes the answer on, of which `start` was read. If it `binds` and is already known not to be the expected one, the gate comes
    /// back.
    pub fn new(start: Bytes, answer: Answer, gate: Gate, binds: bool) -> Result<Self, Box<Gate>> {
        let mut glance = Glance::default();
        glance.read(&start);
        if binds && gate.expects().is_some_and(|expected| glance.is_astray(expected)) {
            return Err(Box::new(gate));
        }
        Ok(Self { start: Some(start), answer, glance, gate, binds })
    }

    /// Reads the next piece. False if it must not pass.
    fn read(&mut self, data: &[u8]) -> bool {
        self.glance.read(data);
        let Some(expected) = self.gate.expects() else { return true };
        let is_expected = !self.glance.is_astray(expected)
            && (!self.glance.is_whole() || self.glance.outline().is_ok_and(|outline| self.gate.is_answered_by(&outline)));
        is_expected || !self.binds
    }
}

impl Body for Followed {
    type Data = Bytes;
    type Error = AnswerError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        if let Some(start) = self.start.take() {
            return Poll::Ready(Some(Ok(Frame::data(start))));
        }
        loop {
            let Poll::Ready(polled) = Pin::new(&mut self.answer).poll_frame(cx) else { return Poll::Pending };
            match polled {
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    if !self.read(&data) {
                        tracing::warn!("cut off an answer of the server that is not the expected one");
                        self.gate.note_failure(AnswerFault::Unreadable);
                        return Poll::Ready(None);
                    }
                    // Settled before the caller has the last byte: whoever has the answer finds it counted.
                    if self.answer.is_end_stream() {
                        self.gate.ended();
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => {
                    self.gate.note_failure(error.fault());
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    self.gate.ended();
                    return Poll::Ready(None);
                }
            }
        }
    }
}
