//! What a server says of its own accord, where policies have a word about it: it is written down, and a request that is held back is
//! answered, so that the server does not wait for a client that never saw it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use mcp_policy::{Audited, Caller, Code, MethodOutcome, Refusal};
use tokio::time::timeout;

use crate::books::Books;
use crate::front::headers;
use crate::message::Id;
use crate::message::era::Era;
use crate::respond;
use crate::state::Enforced;
use crate::upstream::Link;

/// Time for a server to take the answer to its request. While it takes it, no more of its stream is read.
const PATIENCE: Duration = Duration::from_secs(10);

/// A method that a server used, and that some policy denies.
#[derive(Debug)]
pub struct Word {
    /// Names the audit line.
    pub decision_id: String,
    /// The method.
    pub method: String,
    /// The id of the request; none for a notification.
    pub request: Option<Id>,
    /// Why it is held back; none if it passes.
    pub refusal: Option<Refusal>,
    audited: Vec<Audited>,
    enforced: Arc<Enforced>,
}

impl Word {
    /// What the policies say of a method that the server used; none if nobody denies it.
    #[must_use]
    pub fn about(books: &Books, enforced: &Arc<Enforced>, caller: &Caller, method: String, request: Option<Id>) -> Option<Self> {
        let MethodOutcome { refusal, mut audited } = enforced.policies.decide_method(caller, &method);
        // Without a rule, it is only that no revision has the method.
        let refusal = refusal.filter(|refusal| refusal.rule.is_some() || matches!(refusal.code, Code::NoPolicy | Code::Unauthenticated));
        audited.retain(|one| one.rule.is_some() || one.code != Code::MethodDenied);
        if refusal.is_none() && audited.iter().all(|one| one.code == Code::Allowed) {
            return None;
        }
        Some(Self { decision_id: books.decision_id(), method, request, refusal, audited, enforced: Arc::clone(enforced) })
    }

    /// Whether it is held back.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.refusal.is_some()
    }

    /// Writes it down. Returns the answer to a request that is held back.
    pub async fn settle(self, books: &Arc<Books>, caller: &Caller, server: &Arc<str>) -> Option<Bytes> {
        let Self { decision_id, method, request, refusal, audited, enforced } = self;
        let mut record = books.record_as(decision_id.clone(), caller, server).await;
        record.from_server(&method);
        record.audited(audited, &enforced);
        match &refusal {
            Some(refusal) => record.refused(refusal, &enforced),
            None => record.passed_if_audited(),
        }
        drop(record);
        refusal.and(request).map(|id| respond::refused_server_request(&id, &method, &decision_id))
    }
}

/// A server that is reached over HTTP, whom it talks to, and how it is reached in this client's name.
#[derive(Debug)]
pub struct WayBack {
    /// The policies, and where is written down what was held back.
    pub books: Arc<Books>,
    /// The client.
    pub caller: Caller,
    /// The server, for audit lines.
    pub server: Arc<str>,
    /// The way to it.
    pub link: Arc<Link>,
    /// Its endpoint.
    pub path: String,
    /// The headers of the client's request: they name the session.
    pub headers: HeaderMap,
    /// The era of that request. Modern servers send no requests, and take no answers.
    pub era: Era,
}

impl WayBack {
    /// Writes down each word, and answers what was held back.
    pub async fn settle(self: Arc<Self>, words: Vec<Word>) {
        for word in words {
            if let (Some(answer), Era::Legacy) = (word.settle(&self.books, &self.caller, &self.server).await, self.era) {
                self.answer(answer).await;
            }
        }
    }

    async fn answer(&self, body: Bytes) {
        let headers = headers::of_own_message(&self.headers);
        // A server that cannot be told has its own timeouts. Why it could not be reached is logged there.
        if timeout(PATIENCE, self.link.forward(Method::POST, &self.path, &headers, body)).await.is_err() {
            tracing::warn!(server = &*self.server, "the server did not take the answer to a request that was refused");
        }
    }
}
