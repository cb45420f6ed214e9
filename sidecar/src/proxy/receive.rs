//! A message that is posted, read as far as its head and its body agree.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{EXPECT, HeaderMap};
use http::{Request, Response};
use http_body::Body;
use tokio::time::timeout;

use super::plain::come_back;
use super::{Closed, Peer, Proxy, refuse};
use crate::answer::relay::ProxyBody;
use crate::books::Record;
use crate::front::headers;
use crate::message::era::Era;
use crate::message::{self, Malformed, Message};
use crate::room::{self, NotHeld};
use crate::state::Enforced;

/// A message that was read.
pub(super) struct Arrived {
    /// What is enforced since the whole of it is there.
    pub(super) enforced: Arc<Enforced>,
    pub(super) record: Record,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) message: Message,
    pub(super) era: Era,
}

/// Why a message is not even judged.
pub(super) enum Over {
    Answered(Response<ProxyBody>),
    Closed(Closed),
}

impl From<Over> for Result<Response<ProxyBody>, Closed> {
    fn from(over: Over) -> Self {
        match over {
            Over::Answered(response) => Ok(response),
            Over::Closed(closed) => Err(closed),
        }
    }
}

impl Proxy {
    /// Reads a message that is posted, as far as its head and its body agree.
    pub(super) async fn receive(
        &self,
        peer: &Peer,
        request: Request<impl Body<Data = Bytes> + Unpin>,
        before: &Arc<Enforced>,
    ) -> Result<Arrived, Over> {
        let mut record = self.books.record(peer.caller(), &peer.server).await;
        let (mut head, mut body) = request.into_parts();
        let body = match timeout(self.limits.body_timeout, self.room.hold(&mut body)).await {
            Ok(Ok((body, taken))) => taken.keep(body),
            Ok(Err(NotHeld::TooLarge)) => {
                // Who waits to be told to go on is not sending yet.
                if !head.headers.contains_key(EXPECT) {
                    let _ = timeout(self.limits.body_timeout, room::discard(body, self.limits.body_bytes)).await;
                }
                return Err(Over::Answered(refuse(record, &Malformed::too_large())));
            }
            Ok(Err(NotHeld::Cut(_))) => {
                record.malformed("cut_off");
                return Err(Over::Closed(Closed::Cut));
            }
            Ok(Err(NotHeld::NoRoom)) => {
                record.malformed("no_room");
                return Err(Over::Answered(come_back("Too many large requests at this moment.\n")));
            }
            Err(_) => return Err(Over::Answered(refuse(record, &Malformed::body_timeout()))),
        };
        // The policies of this moment, not of the request's head: a body can take its time, and must not outlive a change by that.
        let enforced = self.books.state.enforced();
        if !Arc::ptr_eq(before, &enforced)
            && let Err(barred) = self.identify_again(peer, &mut head.headers, &enforced)
        {
            return Err(Over::Answered(self.bar(record, barred, &head.headers, &enforced)));
        }
        let message = match message::parse(&body) {
            Ok(message) => message,
            Err(malformed) => return Err(Over::Answered(refuse(record, &malformed))),
        };
        record.message(&message, &body, Some(&head.headers));
        let era = match headers::era(&head.headers, &message) {
            Ok(era) => era,
            Err(malformed) => return Err(Over::Answered(refuse(record, &malformed))),
        };
        Ok(Arrived { enforced, record, headers: head.headers, body, message, era })
    }
}
