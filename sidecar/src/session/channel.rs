//! A channel on which a server says all that it has to say to one client, whichever request it is about: stdio, or the event stream of
//! HTTP+SSE. What answers a request passes the gate of that request.
//!
//! Guarantee: what cannot be told from other messages does not pass, and whoever waits for an answer gets one when none can come.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use mcp_policy::Caller;
use serde_json::Value;

use crate::answer::answer_fault::AnswerFault;
use crate::answer::asked::Asked;
use crate::answer::call_answer::CallAnswer;
use crate::answer::from_server::Word;
use crate::answer::gate::{Gate, Judged, Passed, Passing};
use crate::answer::handshake;
use crate::books::metrics::InFlight;
use crate::books::{Books, Record};
use crate::message::era::Era;
use crate::message::{Id, SUBSCRIPTION_ID, ServerWord, server_word};
use crate::respond;
use crate::session::Sessions;
use crate::session::owner::Owner;
use crate::session::pending::Pending;
use crate::state::Enforced;

/// What is under way between one client and its server.
#[derive(Debug)]
pub struct Channel {
    books: Arc<Books>,
    caller: Caller,
    server: Arc<str>,
    session: String,
    sessions: Arc<Sessions>,
    pending: Mutex<Pending<Waiting>>,
    /// What was enforced when the client last had reason to ask for its list of tools.
    told: Mutex<Arc<Enforced>>,
}

/// A request that the server has, and what its answer has to pass.
#[derive(Debug)]
struct Waiting {
    gate: Gate,
    _in_flight: InFlight,
}

/// What becomes of one message of the server.
#[derive(Debug, Default)]
pub struct Said {
    /// What the client gets of it.
    pub passes: Option<Bytes>,
    /// What policies say about it, to be written down and answered.
    pub words: Vec<Word>,
}

impl Channel {
    /// A channel of this session between a caller and a server, as audit lines name them. The session is open from now on.
    #[must_use]
    pub fn new(books: Arc<Books>, caller: Caller, server: Arc<str>, session: String, sessions: Arc<Sessions>) -> Self {
        sessions.opened(&session, Owner::of(&caller));
        let told = Mutex::new(books.state.enforced());
        Self { books, caller, server, session, sessions, pending: Mutex::default(), told }
    }

    /// Who is at the client's end.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The session.
    #[must_use]
    pub fn session(&self) -> &str {
        &self.session
    }

    /// Whether an answer with this id may still come.
    #[must_use]
    pub fn expects(&self, id: &Id) -> bool {
        self.pending().expects(id)
    }

    /// Whether nobody waits for an answer.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.pending().newest_first().next().is_none()
    }

    /// The server is asked something, whose id is none that is expected. Returns what the client is told of a request that had to make
    /// room for this one.
    #[must_use]
    pub fn asked(&self, id: Id, asked: Asked, era: Era, record: Record, in_flight: InFlight) -> Option<Bytes> {
        let mut gate = self.gate(asked, era, record.decision_id().to_owned());
        // What audit policies say of another message is written now: its answer may take any time.
        gate.call = matches!(gate.asked, Asked::Call { .. }).then(|| CallAnswer::without_status(record));
        let forgotten = self.pending().insert(id, Waiting { gate, _in_flight: in_flight });
        forgotten.map(|forgotten| fail(forgotten, AnswerFault::AnswerTimeout))
    }

    /// The client does not wait for this answer any more.
    pub fn cancelled(&self, id: &Id) {
        self.pending().cancel(id);
    }

    /// The request gets no answer from the server. Returns what the client is told, if it still waits.
    #[must_use]
    pub fn failed(&self, id: &Id, fault: AnswerFault) -> Option<Bytes> {
        let unanswered = self.pending().answered(id);
        unanswered.map(|waiting| fail(waiting, fault))
    }

    /// The server refused to take the request, so nothing ran. The client is told that by the server.
    pub fn not_taken(&self, id: &Id) {
        let refused = self.pending().answered(id);
        if let Some(call) = refused.and_then(|waiting| waiting.gate.call) {
            { call }.did_not_run();
        }
    }

    /// No request gets an answer any more: what the clients that wait are told.
    #[must_use]
    pub fn fail_all(&self, fault: AnswerFault) -> Vec<Bytes> {
        let waiting = self.pending().cancel_all();
        waiting.into_iter().map(|waiting| fail(waiting, fault)).collect()
    }

    /// The server said this.
    #[must_use]
    pub fn said(&self, message: &[u8]) -> Said {
        match server_word(message) {
            Ok(ServerWord::Response { id, .. }) => {
                let answered = id.and_then(|id| self.pending().answered(&id));
                // Rule 18: nothing but answers to what was asked.
                let Some(waiting) = answered else {
                    tracing::debug!("dropped an answer of the server that nobody waits for");
                    return Said::default();
                };
                answer(waiting, message)
            }
            Ok(ServerWord::Request { .. }) => self.said_unasked(message),
            Ok(ServerWord::Notification { method }) => {
                let said = self.said_unasked(message);
                if said.passes.is_some() && method == handshake::ACKNOWLEDGED {
                    self.note_subscription(message);
                }
                said
            }
            Err(_) => {
                tracing::warn!("dropped a message of the server that cannot be read");
                Said::default()
            }
        }
    }

    fn said_unasked(&self, message: &[u8]) -> Said {
        let Judged { passing, words } = self.gate(Asked::Nothing, Era::Legacy, String::new()).judge(message);
        Said { passes: matches!(passing, Passing::AsItCame).then(|| Bytes::copy_from_slice(message)), words }
    }

    /// The server acknowledged a subscription, whose id the message names.
    fn note_subscription(&self, message: &[u8]) {
        let Ok(message) = serde_json::from_slice::<Value>(message) else { return };
        let Some(id) = Id::from_json(&message["params"]["_meta"][SUBSCRIPTION_ID].to_string()) else { return };
        if let Some(waiting) = self.pending().get_mut(&id) {
            waiting.gate.note_subscription(&message);
        }
    }

    /// The policies have changed. Returns how the client is told that its list of tools has, if it waits for that.
    #[must_use]
    pub fn policies_changed(&self) -> Vec<Bytes> {
        let now = self.books.state.enforced();
        let before = std::mem::replace(&mut *self.told.lock().unwrap_or_else(PoisonError::into_inner), Arc::clone(&now));
        if !self.books.tells_of_other_tools(&before, &now, &self.caller) {
            return Vec::new();
        }
        let session = self.sessions.is_told_of_lists(&self.session).then(|| respond::list_changed(None));
        let pending = self.pending();
        let subscriptions = pending.newest_first().filter_map(|waiting| waiting.gate.tells_of_lists()?);
        session.into_iter().chain(subscriptions.map(|id| respond::list_changed(Some(id)))).collect()
    }

    fn gate(&self, asked: Asked, era: Era, decision_id: String) -> Gate {
        Gate {
            books: Arc::clone(&self.books),
            caller: self.caller.clone(),
            server: self.server.clone(),
            session: Some(self.session.clone()),
            sessions: Arc::clone(&self.sessions),
            asked,
            era,
            decision_id,
            head: None,
            call: None,
            passed: Passed::default(),
        }
    }

    // Never held across an await.
    fn pending(&self) -> MutexGuard<'_, Pending<Waiting>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.sessions.closed(&self.session);
    }
}

/// What the client gets of the answer to a request.
fn answer(waiting: Waiting, message: &[u8]) -> Said {
    let Waiting { mut gate, .. } = waiting;
    let Judged { passing, words } = gate.judge(message);
    let passes = match passing {
        Passing::AsItCame => Bytes::copy_from_slice(message),
        Passing::Changed(changed) => changed,
        Passing::Dropped | Passing::NoMessage | Passing::Unreadable => gate.refuse(AnswerFault::Unreadable).into_body(),
    };
    // Settled before the client has the answer: whoever has it finds it counted.
    drop(gate);
    Said { passes: Some(passes), words }
}

/// What the client is told of a request that has no usable answer.
fn fail(waiting: Waiting, fault: AnswerFault) -> Bytes {
    let Waiting { mut gate, .. } = waiting;
    if let (AnswerFault::NotReached, Some(call)) = (fault, &mut gate.call) {
        call.did_not_run();
    }
    gate.refuse(fault).into_body()
}
