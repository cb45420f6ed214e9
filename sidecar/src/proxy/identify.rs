//! Who sends a request, found out from its head: before its body is read, and before anything is forwarded. How a caller is proved is
//! in [`crate::authenticate`].

use std::borrow::Cow;

use http::Response;
use http::header::HeaderMap;
use mcp_policy::{Code, Refusal};

use super::{LAST_EVENT_ID, Peer, Proxy, own};
use crate::answer::relay::ProxyBody;
use crate::authenticate::{Identity, Rejected, now};
use crate::books::Record;
use crate::front::headers::{self, SESSION_ID};
use crate::respond;
use crate::state::Enforced;

/// Why a request is not for this caller to send.
#[derive(Clone, Copy)]
pub(super) enum Barred {
    /// It has to prove more than it does.
    Unproved(Rejected),
    /// The session, or the stream, is another caller's, or nobody's.
    Foreign,
}

impl Proxy {
    /// Finds out who sends a request that is for the server, and leaves of its headers what the server may see. In place of the caller
    /// comes the answer to who may not send it.
    pub(super) async fn identify<'a>(
        &self,
        peer: &'a Peer,
        headers: &mut HeaderMap,
        enforced: &Enforced,
    ) -> Result<Cow<'a, Peer>, Response<ProxyBody>> {
        let Some(authenticator) = &enforced.authenticator else { return Ok(Cow::Borrowed(peer)) };
        let identified = match Identity::of(&self.books.state, enforced, peer.address, headers, now()).await {
            Ok(identity) => {
                if let Some(rejected) = identity.rejected {
                    self.books.metrics.unproved(rejected);
                }
                let peer = peer.identified(identity);
                if self.is_foreign(&peer, headers, enforced) { Err((peer, Barred::Foreign)) } else { Ok(peer) }
            }
            Err(rejected) => Err((peer.identified(Identity::anonymous(peer.address)), Barred::Unproved(rejected))),
        };
        match identified {
            Ok(peer) => {
                authenticator.prepare(headers, true);
                Ok(Cow::Owned(peer))
            }
            Err((peer, barred)) => {
                let record = self.books.record(peer.caller(), &peer.server).await;
                Err(self.bar(record, barred, headers, enforced))
            }
        }
    }

    /// Finds out anew what was found out before policies changed, or keys.
    pub(super) fn identify_again(&self, peer: &Peer, headers: &mut HeaderMap, enforced: &Enforced) -> Result<(), Barred> {
        peer.identity.recheck(enforced, now()).map_err(Barred::Unproved)?;
        if self.is_foreign(peer, headers, enforced) {
            return Err(Barred::Foreign);
        }
        if let Some(authenticator) = &enforced.authenticator {
            authenticator.prepare(headers, true);
        }
        Ok(())
    }

    /// Whether a request names a session that is not its sender's. Where callers prove who they are, one that was not opened through the
    /// sidecar could be anybody's; and so could a stream that is resumed without a session.
    fn is_foreign(&self, peer: &Peer, headers: &HeaderMap, enforced: &Enforced) -> bool {
        let Some(owner) = enforced.owner(peer.caller()) else { return false };
        if headers.contains_key(SESSION_ID) {
            return !headers::session_id(headers).is_some_and(|id| self.sessions.is_of(id, &owner));
        }
        headers.contains_key(LAST_EVENT_ID)
    }

    /// Answers who may not send a request, and writes that down.
    pub(super) fn bar(&self, mut record: Record, barred: Barred, headers: &HeaderMap, enforced: &Enforced) -> Response<ProxyBody> {
        match barred {
            Barred::Unproved(rejected) => {
                self.books.metrics.unproved(rejected);
                tracing::debug!(decision.id = record.decision_id(), reason = %rejected, "refused a request that proves no caller");
                record.refused(&Refusal::of(Code::Unauthenticated), enforced);
                let endpoint = enforced.exposure.endpoint().unwrap_or_default();
                let challenge = enforced.authenticator.as_ref().map(|authenticator| authenticator.challenge(rejected, headers, endpoint));
                own(respond::unauthenticated(rejected, challenge, record.decision_id()))
            }
            Barred::Foreign => {
                record.malformed("unknown_session");
                own(respond::unknown_session(None))
            }
        }
    }
}
