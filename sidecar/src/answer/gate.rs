//! What the server's answer to one request may bring to the client: on the stream of a request nothing but what belongs there and one
//! answer, its own (rule 18); no tool that a policy hides, nothing that `methods` deny.
//!
//! What a client sends must be a method that some revision has, or that a policy allows. What a server sends needs no such leave:
//! it is held back only where a key of `methods` denies it. So the inside of messages is read only while there is such a key, and
//! where something in it is changed or remembered.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use mcp_policy::Caller;
use serde_json::Value;

use crate::answer::answer_fault::AnswerFault;
use crate::answer::asked::Asked;
use crate::answer::call_answer::CallAnswer;
use crate::answer::from_server::Word;
use crate::answer::handshake;
use crate::answer::{task, tools};
use crate::books::Books;
use crate::message::era::Era;
use crate::message::{Glance, Id, Outline, ServerWord, server_word};
use crate::respond;
use crate::session::Sessions;
use crate::session::owner::Owner;
use crate::state::Enforced;

/// Judges what comes back on one request. The policies are read anew for each message: an open stream obeys their changes.
#[derive(Debug)]
pub struct Gate {
    /// The policies.
    pub books: Arc<Books>,
    /// Whom the server talks to.
    pub caller: Caller,
    /// The server, for logs.
    pub server: Arc<str>,
    /// The session that the request belongs to.
    pub session: Option<String>,
    /// What is remembered of sessions.
    pub sessions: Arc<Sessions>,
    /// What was sent to the server.
    pub asked: Asked,
    /// The era of the request.
    pub era: Era,
    /// For messages about this answer.
    pub decision_id: String,
    /// The head of the answer, to a call of a tool that the server has not listed: so it may speak of one that it does not have.
    pub head: Option<Box<(StatusCode, HeaderMap)>>,
    /// What is found out of how the call ended, if it is one.
    pub call: Option<CallAnswer>,
    /// What has passed so far.
    pub passed: Passed,
}

/// What has passed of an answer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Passed {
    /// The answer to the request: nothing more belongs there.
    answer: bool,
    /// The server's word that it tells the client of changes of its list of tools.
    subscription: bool,
}

/// What becomes of one message of the server.
#[derive(Debug)]
pub enum Passing {
    /// It passes as it came.
    AsItCame,
    /// It passes with these bytes.
    Changed(Bytes),
    /// It is dropped.
    Dropped,
    /// It is no message, and is dropped.
    NoMessage,
    /// It cannot be read, so it must not pass.
    Unreadable,
}

/// What was found of one message: what becomes of it, and what has to be written down and answered.
#[derive(Debug)]
pub struct Judged {
    /// What becomes of it.
    pub passing: Passing,
    /// What policies have to say about it.
    pub words: Vec<Word>,
}

impl From<Passing> for Judged {
    fn from(passing: Passing) -> Self {
        Self { passing, words: Vec::new() }
    }
}

/// Why a message does not belong where it came (rule 18). The strings are metric labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stray {
    /// The answer to another request, or to none.
    WrongId,
    /// It came after the answer.
    AfterAnswer,
    /// A request, of a revision whose servers send none.
    ServerRequest,
    /// It is about a task that was not created through the sidecar, or whose tool is denied meanwhile.
    UnknownTask,
}

impl Stray {
    fn as_str(self) -> &'static str {
        match self {
            Self::WrongId => "wrong_id",
            Self::AfterAnswer => "after_answer",
            Self::ServerRequest => "server_request",
            Self::UnknownTask => "unknown_task",
        }
    }
}

impl Gate {
    /// Whether the inside of messages has to be read at this moment.
    #[must_use]
    pub fn reads(&self) -> bool {
        self.asked.has_to_be_read(&self.books.state.enforced().policies, &self.caller)
    }

    /// The id of the request that is to be answered.
    #[must_use]
    pub fn expects(&self) -> Option<&Id> {
        self.asked.expects()
    }

    /// Whether the answer has passed.
    #[must_use]
    pub fn has_answered(&self) -> bool {
        self.passed.answer
    }

    /// Whether the client waits to be told that its list of tools has changed, and by which subscription.
    #[must_use]
    pub fn tells_of_lists(&self) -> Option<Option<&Id>> {
        match &self.asked {
            Asked::Listen { id } if self.passed.subscription => Some(Some(id)),
            Asked::Stream { .. } if self.session.as_deref().is_some_and(|session| self.sessions.is_told_of_lists(session)) => Some(None),
            _ => None,
        }
    }

    /// The answer begins to stream.
    pub fn streams(&self) {
        if self.era == Era::Legacy {
            self.sessions.streams(self.session.as_deref(), &self.asked);
        }
    }

    /// What came has passed to its end.
    pub fn ended(&mut self) {
        if let (true, Some(id)) = (self.passed.answer, self.asked.expects()) {
            self.sessions.streamed(self.session.as_deref(), id);
        }
        self.call = None;
    }

    /// Counts an answer that must not pass, and tells what the client gets in its place.
    #[must_use]
    pub fn refuse(&mut self, fault: AnswerFault) -> Response<Bytes> {
        self.books.metrics.answer_failed(fault);
        self.failed(fault)
    }

    /// What the client gets in place of an answer that failed.
    #[must_use]
    pub fn failed(&mut self, fault: AnswerFault) -> Response<Bytes> {
        self.note_failure(fault);
        self.asked.instead_of_answer(self.era, fault, &self.decision_id)
    }

    /// The answer does not pass, or not as a whole: this is written down.
    pub fn note_failure(&mut self, fault: AnswerFault) {
        if let Some(mut call) = self.call.take().filter(|_| !self.passed.answer) {
            call.failed(fault);
        }
    }

    /// Judges one message: a JSON body or the data of an event.
    #[must_use]
    pub fn judge(&mut self, message: &[u8]) -> Judged {
        let mut glance = Glance::default();
        glance.read(message);
        let Ok(outline) = glance.outline() else {
            if glance.is_no_message() {
                self.books.metrics.malformed("server", "no_message");
                return Passing::NoMessage.into();
            }
            return Passing::Unreadable.into();
        };
        if self.passed.answer {
            return self.stray(Stray::AfterAnswer);
        }
        let Some(answers) = self.what_is_answered(&outline) else { return self.stray(Stray::WrongId) };
        let enforced = self.books.state.enforced();
        let mut judged = Judged::from(Passing::AsItCame);
        if enforced.policies.governs_server(&self.caller) {
            judged = self.ask_policies(&enforced, message, answers.as_ref());
        }
        match (&judged.passing, &outline, answers) {
            (Passing::AsItCame, Outline::Request, _) if self.era == Era::Modern => {
                judged.passing = self.stray(Stray::ServerRequest).passing;
            }
            (Passing::AsItCame, Outline::Notification, _) if !self.may_hear_of_task(&enforced, message) => {
                judged.passing = self.stray(Stray::UnknownTask).passing;
            }
            (Passing::AsItCame, Outline::Notification, _) => self.note_first_word(message),
            (Passing::AsItCame, Outline::Result(_), Some(asked)) => judged.passing = self.judge_result(&enforced, &asked, message),
            (Passing::AsItCame, Outline::Error(_), Some(Asked::Call { tool, .. })) => {
                self.books.learn_unknown_tool(&tool, message, self.head.as_deref());
            }
            _ => {}
        }
        self.note_answer(&outline, &judged.passing);
        judged
    }

    /// The whole of an answer was read as it passed that is too long to be held. Whether it is the expected one.
    #[must_use]
    pub fn is_answered_by(&mut self, outline: &Outline) -> bool {
        let is_expected = matches!(self.what_is_answered(outline), Some(Some(_)));
        if is_expected {
            self.note_answer(outline, &Passing::AsItCame);
        }
        is_expected
    }

    /// What the message answers: none if it answers nothing. None at all of an answer that does not belong here.
    #[allow(clippy::option_option, reason = "an answer to nothing is not an answer to anything")]
    fn what_is_answered(&self, outline: &Outline) -> Option<Option<Asked>> {
        let id = match outline {
            Outline::Request | Outline::Notification => return Some(None),
            Outline::Result(id) => Some(id),
            Outline::Error(id) => id.as_ref(),
        };
        match (self.expects(), id, &self.asked) {
            (Some(expected), Some(id), _) if expected == id => Some(Some(self.asked.clone())),
            // The server could not read the id of the one request that it got.
            (Some(_), None, _) => Some(Some(self.asked.clone())),
            (None, Some(id), Asked::Stream { resumes: true }) => self.sessions.awaited(self.session.as_deref(), id).map(Some),
            _ => None,
        }
    }

    fn ask_policies(&self, enforced: &Arc<Enforced>, message: &[u8], answers: Option<&Asked>) -> Judged {
        let mut words = Vec::new();
        let (asks, request) = match server_word(message) {
            Ok(ServerWord::Request { id, method }) => (vec![method], Some(id)),
            Ok(ServerWord::Notification { method }) => (vec![method], None),
            Ok(ServerWord::Response { asks, .. }) => (asks, None),
            Err(_) => return Passing::Unreadable.into(),
        };
        for method in asks {
            let Some(word) = Word::about(&self.books, enforced, &self.caller, method, request.clone()) else { continue };
            let passing = word.is_refused().then(|| answers.map_or(Passing::Dropped, |asked| self.instead(asked, &word)));
            words.push(word);
            if let Some(passing) = passing {
                return Judged { passing, words };
            }
        }
        Judged { passing: Passing::AsItCame, words }
    }

    /// What takes the place of an answer with which the server asks for something that is refused.
    fn instead(&self, asked: &Asked, word: &Word) -> Passing {
        let Some(refusal) = &word.refusal else { return Passing::AsItCame };
        let answer = match (asked, asked.expects()) {
            (Asked::Call { id, tool }, _) => respond::refused_need(id, self.era, tool, &word.method, refusal, &word.decision_id),
            (_, Some(id)) => respond::denied_method(id, &word.method, refusal, &word.decision_id),
            (_, None) => return Passing::Dropped,
        };
        Passing::Changed(answer.into_body())
    }

    fn judge_result(&self, enforced: &Enforced, asked: &Asked, message: &[u8]) -> Passing {
        let changed = match asked {
            Asked::List { .. } => tools::filter(message, self.era, |tool| enforced.policies.lists(&self.caller, tool)).map(|list| {
                self.books.learn(list.tools);
                list.changed
            }),
            Asked::Handshake { id, client } => {
                let denied = |method: &str| enforced.policies.decide_method(&self.caller, method).refusal.is_some();
                match handshake::filter(message, denied) {
                    Ok(found) if !found.is_spoken_here => {
                        tracing::warn!("the server answered `initialize` with a revision that is not spoken here");
                        Ok(Some(respond::revision_not_spoken(id).into_body().into()))
                    }
                    Ok(found) => {
                        if let (true, Some(session)) = (found.tells_of_lists, self.session.as_deref()) {
                            self.sessions.tells_of_lists(session);
                        }
                        if let (true, Some(session)) = (client.opens_urls && found.has_url_elicitation, self.session.as_deref()) {
                            self.sessions.opens_urls(session);
                        }
                        Ok(found.changed)
                    }
                    Err(unreadable) => Err(unreadable),
                }
            }
            Asked::Call { tool, .. } => {
                if let Some(task) = task::created_by(message) {
                    self.sessions.task_created(&task, tool, Owner::of(&self.caller));
                }
                self.books.learn_unknown_tool(tool, message, self.head.as_deref());
                Ok(None)
            }
            _ => Ok(None),
        };
        match changed {
            Ok(changed) => changed.map_or(Passing::AsItCame, |changed| Passing::Changed(changed.into())),
            Err(_) => Passing::Unreadable,
        }
    }

    /// Whether a notification is about no task, or about one whose result the client could fetch: what it tells is the tool's, too.
    fn may_hear_of_task(&self, enforced: &Enforced, notification: &[u8]) -> bool {
        let Some(task) = task::notified(notification) else { return true };
        self.sessions
            .tool_of_task(&task, enforced.owner(&self.caller).as_ref())
            .is_some_and(|tool| enforced.policies.lists(&self.caller, &tool))
    }

    /// The first message on the stream of a subscription says what the server tells of.
    fn note_first_word(&mut self, message: &[u8]) {
        if matches!(self.asked, Asked::Listen { .. })
            && !self.passed.subscription
            && let Ok(message) = serde_json::from_slice(message)
        {
            self.note_subscription(&message);
        }
    }

    /// The server has said something about the subscription that was asked for.
    pub fn note_subscription(&mut self, message: &Value) {
        self.passed.subscription |= matches!(self.asked, Asked::Listen { .. }) && handshake::tells_of_lists(message);
    }

    /// An answer that is an error with the id of the call says that the tool did not run.
    fn note_answer(&mut self, outline: &Outline, passing: &Passing) {
        let passes = matches!(passing, Passing::AsItCame | Passing::Changed(_));
        let is_answer = matches!(outline, Outline::Result(_) | Outline::Error(_));
        if !passes || !is_answer || self.expects().is_none() {
            return;
        }
        self.passed.answer = true;
        if let (Outline::Error(Some(_)), Some(call)) = (outline, &mut self.call) {
            call.did_not_run();
        }
    }

    fn stray(&self, stray: Stray) -> Judged {
        let reason = stray.as_str();
        tracing::warn!(server = &*self.server, reason, "dropped a message of the server that does not belong there");
        self.books.metrics.malformed("server", reason);
        Passing::Dropped.into()
    }
}
