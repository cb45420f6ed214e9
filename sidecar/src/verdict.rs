//! One message of a client, judged: it goes to the server as it is, or it is answered here. The same for every transport.
//!
//! Guarantee: what was found is in the record before anything is sent.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Response;
use mcp_policy::approval::{ApprovalAnswer, ApprovalName, ApprovalRequest};
use mcp_policy::{Call, Caller, Code, Decision, MethodOutcome, Outcome, Refusal, ServerName};
use tokio::sync::OwnedSemaphorePermit;

use crate::answer::asked::Asked;
use crate::answer::task;
use crate::approvals;
use crate::books::{Books, Record, audit};
use crate::message::era::Era;
use crate::message::{self, Id, Message, Request, ToolCall};
use crate::respond;
use crate::session::Sessions;
use crate::state::{Decided, Enforced};

/// A message that was read, and where it comes from.
#[derive(Debug)]
pub struct Received<'a> {
    /// Who sent it.
    pub caller: &'a Caller,
    /// The session that it belongs to, if one was opened through the sidecar.
    pub session: Option<&'a str>,
    /// What is remembered of sessions and tasks.
    pub sessions: &'a Sessions,
    /// The server that it is for.
    pub server: ServerName<'a>,
    /// The message.
    pub message: &'a Message,
    /// The bytes that it was read from.
    pub body: &'a [u8],
    /// The protocol that it speaks.
    pub era: Era,
}

/// What becomes of a message of a client.
#[derive(Debug)]
pub enum Verdict {
    /// It goes to the server: the very bytes that were judged. This is what the server is asked.
    Passes(Asked),
    /// It does not. This is the answer; its body is empty if nobody waits for one.
    Answered(Response<Bytes>),
    /// It does not, and its sender must not see that: the answer is one to a call of a tool that does not exist.
    Hidden(Response<Bytes>),
}

/// What judging a message came to.
#[derive(Debug)]
pub enum Judgement {
    /// It is known what becomes of it.
    Done(Verdict),
    /// People are asked about the call, and the policy holds it open meanwhile.
    Held(Box<Held>),
}

impl Judgement {
    /// For who does not hold calls open.
    #[must_use]
    pub fn at_once(self) -> Verdict {
        match self {
            Self::Done(verdict) => verdict,
            Self::Held(held) => Verdict::Answered(held.answer),
        }
    }
}

impl From<Verdict> for Judgement {
    fn from(verdict: Verdict) -> Self {
        Self::Done(verdict)
    }
}

/// A call that is held open while people are asked. What is written down of it is that it waits.
#[derive(Debug)]
pub struct Held {
    /// The answer, unless people speak in time.
    pub answer: Response<Bytes>,
    /// What is waited for.
    pub approval: ApprovalName,
    question: ApprovalRequest,
    refusal: Refusal,
    end: tokio::time::Instant,
    _room: OwnedSemaphorePermit,
}

impl<'a> Received<'a> {
    /// The call, as policies are asked about it.
    fn asked(&self, call: &'a ToolCall) -> Call<'a> {
        let Self { caller, session, server, body, .. } = *self;
        Call { tool: &call.name, arguments: call.arguments(body), caller, session, server }
    }

    /// The page where people decide about this call, if its client can be sent there. A call that answers what was asked about an earlier
    /// one is not sent there again: clients come back at once, before anybody can have decided, and would go round in circles.
    fn page<'b>(&self, approval: &'b ApprovalName) -> Option<&'b str> {
        let is_sent_to_urls = match (self.era, self.message) {
            (Era::Modern, Message::Request(Request { capabilities: Some(client), call: Some(call), .. })) => {
                client.opens_urls && !call.goes_on
            }
            (Era::Legacy, Message::Request(_)) => self.session.is_some_and(|session| self.sessions.is_sent_to_urls(session)),
            _ => false,
        };
        approval.url.as_deref().filter(|_| is_sent_to_urls)
    }
}

/// Judges a message by these policies, and writes down what was found. A call may have to wait for what is not known here.
pub async fn judge(books: &Books, enforced: &Enforced, received: &Received<'_>, record: &mut Record) -> Judgement {
    if let Some(call) = received.message.call() {
        return judge_call(books, enforced, received, call, record).await;
    }
    judge_other(enforced, received, record).into()
}

/// Judges a message that is no call.
fn judge_other(enforced: &Enforced, received: &Received<'_>, record: &mut Record) -> Verdict {
    match received.message {
        Message::Request(request) => judge_request(enforced, received, request, record),
        Message::Notification(notification) => match judge_method(enforced, received.caller, &notification.method, record) {
            MethodVerdict::Passes => Verdict::Passes(Asked::Nothing),
            // It is dropped: nobody waits for an answer.
            MethodVerdict::Unknown | MethodVerdict::Refused(_) => Verdict::Answered(respond::accepted()),
        },
        // An answer to a request of the server. Without a policy no request of the server was let through.
        Message::Response(_) if enforced.policies.in_force(received.caller) => Verdict::Passes(Asked::Nothing),
        Message::Response(_) => Verdict::Answered(respond::accepted()),
    }
}

async fn judge_call(
    books: &Books,
    enforced: &Enforced,
    received: &Received<'_>,
    (id, call): (&Id, &ToolCall),
    record: &mut Record,
) -> Judgement {
    record.call(call, &enforced.policies);
    if !call.has_proper_name(|name| books.has_listed(name)) {
        record.malformed("tool_name");
        return Verdict::Answered(respond::improper_tool_name(id, received.era, record.decision_id())).into();
    }
    if enforced.refuses_unaudited && !record.has_room() {
        let refusal = Refusal { retry_after_seconds: Some(audit::RETRY_AFTER_SECONDS), ..Refusal::of(Code::AuditUnavailable) };
        record.refused(&refusal, enforced);
        return Verdict::Answered(respond::denied_call(id, received.era, &call.name, &refusal, record.decision_id())).into();
    }
    let asked = received.asked(call);
    let began = Instant::now();
    let decided = books.state.decide(&enforced.policies, &asked).await;
    books.metrics.decision_took(began.elapsed());
    let (refusal, approvals, desk) = match (&decided.outcome.decision, &books.desk) {
        (Decision::Refused(refusal @ Refusal { waits_for: Some(approvals), .. }), Some(desk)) => (refusal.clone(), &**approvals, desk),
        _ => return conclude(books, enforced, received, (id, call), decided, record).into(),
    };
    let question = approvals::question(&asked, call, approvals, enforced);
    // Apart, as what follows it: calls that wait for nobody are not to carry room for it.
    let answer = Box::pin(desk.ask(&question)).await;
    record.audited(decided.outcome.audited, enforced);
    let wait = Duration::from_secs(approvals.wait_seconds());
    match answer {
        ApprovalAnswer::Waiting { approval }
            if !wait.is_zero()
                // Such a client comes back by itself once its user has seen the page, and is held then.
                && (received.era == Era::Legacy || received.page(&approval).is_none())
                && let Some(room) = desk.room() =>
        {
            record.refused(&refusal, enforced);
            let answer = asked_for(received, (id, call), &refusal, &approval, record);
            Judgement::Held(Box::new(Held { answer, approval, question, refusal, end: tokio::time::Instant::now() + wait, _room: room }))
        }
        answer => Box::pin(heard(books, enforced, received, (id, call), &refusal, answer, record)).await.into(),
    }
}

/// Waits with a call until people have spoken, or the time is over for which it is held open.
pub async fn wait(books: &Books, enforced: &Enforced, received: &Received<'_>, held: Held, record: &mut Record) -> Verdict {
    let (Some(desk), Some(call)) = (&books.desk, received.message.call()) else { return Verdict::Answered(held.answer) };
    match desk.wait(&held.question, held.end).await {
        Some(answer) => heard(books, enforced, received, call, &held.refusal, answer, record).await,
        None => Verdict::Answered(held.answer),
    }
}

/// What becomes of a call that waits for people, by what is heard of them.
async fn heard(
    books: &Books,
    enforced: &Enforced,
    received: &Received<'_>,
    (id, call): (&Id, &ToolCall),
    refusal: &Refusal,
    answer: ApprovalAnswer,
    record: &mut Record,
) -> Verdict {
    let (era, tool) = (received.era, &call.name);
    let answer = match (answer, &refusal.waits_for) {
        (ApprovalAnswer::Granted, Some(approvals)) => {
            let decided = books.state.decide_approved(&enforced.policies, &received.asked(call), approvals).await;
            return conclude(books, enforced, received, (id, call), decided, record);
        }
        (ApprovalAnswer::Denied { approval, reason }, _) => {
            let refusal = Refusal { code: Code::ApprovalDenied, reason, ..refusal.clone() };
            record.refused(&refusal, enforced);
            respond::approval::denied(id, era, tool, &refusal, &approval, record.decision_id())
        }
        (ApprovalAnswer::Waiting { approval }, _) => {
            record.refused(refusal, enforced);
            asked_for(received, (id, call), refusal, &approval, record)
        }
        (ApprovalAnswer::NotAsked { why }, _) => {
            record.refused(refusal, enforced);
            respond::approval::not_asked(id, era, tool, refusal, &why, record.decision_id())
        }
        (ApprovalAnswer::Granted, None) => {
            record.refused(refusal, enforced);
            respond::denied_call(id, era, tool, refusal, record.decision_id())
        }
    };
    Verdict::Answered(answer)
}

/// The answer to a call about which people are asked.
fn asked_for(
    received: &Received<'_>,
    (id, call): (&Id, &ToolCall),
    refusal: &Refusal,
    approval: &ApprovalName,
    record: &Record,
) -> Response<Bytes> {
    let (era, tool, decision_id) = (received.era, &call.name, record.decision_id());
    match received.page(approval) {
        Some(url) => respond::approval::page(id, era, tool, refusal, approval, url, decision_id),
        None => respond::approval::waiting(id, era, tool, refusal, approval, decision_id),
    }
}

/// What becomes of a call that was decided.
fn conclude(
    books: &Books,
    enforced: &Enforced,
    received: &Received<'_>,
    (id, call): (&Id, &ToolCall),
    decided: Decided,
    record: &mut Record,
) -> Verdict {
    let Decided { outcome: Outcome { decision, audited }, receipt } = decided;
    record.audited(audited, enforced);
    match decision {
        Decision::Refused(refusal) => {
            record.refused(&refusal, enforced);
            tracing::debug!(decision.id = record.decision_id(), code = %refusal.code, "refused a call");
            match refusal.code {
                Code::Hidden => Verdict::Hidden(respond::unknown_tool(id, received.era, &call.name, &books.unknown_tool())),
                _ => Verdict::Answered(respond::denied_call(id, received.era, &call.name, &refusal, record.decision_id())),
            }
        }
        Decision::Allowed(allowed) => {
            record.allowed(allowed, receipt, enforced);
            Verdict::Passes(Asked::Call { id: id.clone(), tool: call.name.clone() })
        }
    }
}

/// A request that is not a call.
fn judge_request(enforced: &Enforced, received: &Received<'_>, request: &Request, record: &mut Record) -> Verdict {
    let Request { id, method, task, .. } = request;
    match judge_method(enforced, received.caller, method, record) {
        MethodVerdict::Passes => {}
        MethodVerdict::Unknown => return Verdict::Answered(respond::unknown_method(id, received.era)),
        MethodVerdict::Refused(refusal) => {
            return Verdict::Answered(respond::denied_method(id, method, &refusal, record.decision_id()));
        }
    }
    if task::is_about_one(method) {
        let Some(tool) = task.as_ref().and_then(|task| received.sessions.tool_of_task(task, enforced.owner(received.caller).as_ref()))
        else {
            record.malformed("unknown_task");
            return Verdict::Answered(respond::unknown_task(id));
        };
        // What a task brings is the tool's result; that a call of the tool was allowed once is not enough. To end it is no harm.
        if method != "tasks/cancel" && !enforced.policies.lists(received.caller, &tool) {
            let refusal = Refusal::of(Code::ToolDenied);
            record.refused(&refusal, enforced);
            return Verdict::Answered(respond::denied_method(id, method, &refusal, record.decision_id()));
        }
    }
    Verdict::Passes(Asked::by(request))
}

/// What becomes of a message that is no call.
enum MethodVerdict {
    Passes,
    /// It is answered as by a server that does not know it.
    Unknown,
    Refused(Refusal),
}

fn judge_method(enforced: &Enforced, caller: &Caller, method: &str, record: &mut Record) -> MethodVerdict {
    let MethodOutcome { refusal, audited } = enforced.policies.decide_method(caller, method);
    let is_denied_by_name = refusal.as_ref().is_some_and(|refusal| refusal.rule.is_some());
    if !message::is_known_method(method) && !is_denied_by_name && !enforced.policies.allows_by_name(caller, method) {
        record.malformed("unknown_method");
        return MethodVerdict::Unknown;
    }
    record.audited(audited, enforced);
    if let Some(refusal) = refusal {
        record.refused(&refusal, enforced);
        return MethodVerdict::Refused(refusal);
    }
    record.passed_if_audited();
    MethodVerdict::Passes
}

/// The refusal of a message that no policy speaks about.
#[must_use]
pub fn no_policy() -> Refusal {
    Refusal::of(Code::NoPolicy)
}
