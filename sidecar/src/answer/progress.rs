//! An event stream that tells of progress until the answer is there, and then brings it.

use std::fmt::{self, Debug};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Limited};
use serde_json::Value;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::answer::relay::{self, ProxyBody};
use crate::answer::sse;
use crate::front::headers::{self, Carrier};
use crate::message::Id;
use crate::upstream::AnswerError;

/// How often progress is told: often enough for who gives up without.
const BEAT: Duration = Duration::from_secs(5);
/// How much of an error is read.
const MAX_ERROR: usize = 64 * 1024;

/// The stream.
pub struct Progress {
    says: Box<dyn Fn(usize) -> Bytes + Send>,
    told: usize,
    beat: Interval,
    answer: Answer,
}

enum Answer {
    Coming(Pin<Box<dyn Future<Output = ProxyBody> + Send>>),
    Passing(ProxyBody),
}

impl Progress {
    /// Tells what `says` makes of the number of times that it was told, until there is an answer.
    pub fn new(answer: impl Future<Output = ProxyBody> + Send + 'static, says: impl Fn(usize) -> Bytes + Send + 'static) -> Self {
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { says: Box::new(says), told: 0, beat, answer: Answer::Coming(Box::pin(answer)) }
    }
}

impl Body for Progress {
    type Data = Bytes;
    type Error = AnswerError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        loop {
            match &mut self.answer {
                Answer::Passing(body) => return Pin::new(body).poll_frame(cx),
                Answer::Coming(answer) => {
                    if let Poll::Ready(body) = answer.as_mut().poll(cx) {
                        self.answer = Answer::Passing(body);
                        continue;
                    }
                }
            }
            if self.beat.poll_tick(cx).is_pending() {
                return Poll::Pending;
            }
            let event = sse::event(&(self.says)(self.told));
            self.told += 1;
            return Poll::Ready(Some(Ok(Frame::data(event))));
        }
    }
}

impl Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress").field("told", &self.told).finish_non_exhaustive()
    }
}

/// An answer to the request with this id as events. Its head is of no use any more: where that says more than the body, the caller gets
/// `broken`, as does who would get no answer at all.
pub async fn as_events(response: Response<ProxyBody>, id: &Id, broken: Bytes) -> ProxyBody {
    let (head, body) = response.into_parts();
    match (headers::carrier(&head.headers), head.status.is_success()) {
        (Carrier::EventStream, true) => body,
        (Carrier::Json, true) => OneEvent { body, place: Place::Before }.boxed_unsync(),
        _ => {
            let error = Limited::new(body, MAX_ERROR).collect().await.map(http_body_util::Collected::to_bytes);
            let id = serde_json::from_str::<Value>(&id.to_string()).unwrap_or_default();
            let is_answer = |error: &Bytes| {
                let told = serde_json::from_slice::<Value>(error).unwrap_or_default();
                told["error"].is_object() && told["id"] == id
            };
            relay::whole(sse::event(&error.ok().filter(is_answer).unwrap_or(broken)))
        }
    }
}

/// A JSON text as the data of one event.
struct OneEvent {
    body: ProxyBody,
    place: Place,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Before,
    Within,
    Behind,
}

impl Body for OneEvent {
    type Data = Bytes;
    type Error = AnswerError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        let data = match self.place {
            Place::Before => {
                self.place = Place::Within;
                Bytes::from_static(b"event: message\ndata: ")
            }
            Place::Within => match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(frame))) => {
                    // Between the parts of a JSON text, a line end is as good as a blank, and within a string it is written otherwise.
                    let line_end = |byte: &u8| matches!(byte, b'\n' | b'\r');
                    let data = frame.into_data().unwrap_or_default();
                    if data.iter().any(line_end) {
                        data.iter().map(|byte| if line_end(byte) { b' ' } else { *byte }).collect()
                    } else {
                        data
                    }
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => {
                    self.place = Place::Behind;
                    Bytes::from_static(b"\n\n")
                }
            },
            Place::Behind => return Poll::Ready(None),
        };
        Poll::Ready(Some(Ok(Frame::data(data))))
    }
}
