//! Where decisions are written down: counters, metrics, audit log. A [`Record`] is one decision on its way there.
//!
//! Guarantee: whatever ends a call (an answer, a failure, a caller who hangs up, the end of the process' grace), its line is written or
//! counted as lost, it is counted once, and its counters are given back only where the tool certainly did not run.

pub mod audit;
pub mod decision_id;
pub mod lines;
pub mod metrics;
pub mod store_metrics;

use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use mcp_policy::{Allowed, Audited, Caller, Code, Mode, Policies, PolicyId, Refusal, Reservation};

use crate::answer::answer_fault::AnswerFault;
use crate::answer::tools::{Listed, ListedTools};
use crate::answer::unknown_tool::UnknownTool;
use crate::approvals::Desk;
use crate::books::audit::{Audit, AuditedLine, Line, Slot};
use crate::books::decision_id::DecisionIds;
use crate::books::metrics::{Metrics, OTHER_TOOL};
use crate::message::mirrored;
use crate::message::{Malformed, Message, ToolCall};
use crate::respond;
use crate::spans::{Begun, Judged, Spans};
use crate::state::{Enforced, State};
use crate::store::Receipt;

/// Longer tool names are cut in audit lines; such a name is refused, and only its beginning is of use.
const MAX_AUDIT_NAME: usize = 256;

/// The counters, the metrics and the audit log, and what they need to name things.
#[derive(Debug)]
pub struct Books {
    /// What is enforced, and the counters.
    pub state: Arc<State>,
    /// What is counted for scraping.
    pub metrics: Metrics,
    /// Where lines go.
    pub audit: Audit,
    /// Where spans go; none without a collector.
    pub spans: Option<Spans>,
    /// Where people are asked; none without an operator.
    pub desk: Option<Desk>,
    ids: DecisionIds,
    /// Tools that the server listed, whose names are then labels of metrics and proper names.
    listed: Mutex<ListedTools>,
    /// How the server speaks of a tool that it does not have.
    unknown_tool: ArcSwap<UnknownTool>,
}

impl Books {
    /// Books of this state.
    #[must_use]
    pub fn new(state: Arc<State>, metrics: Metrics, audit: Audit, spans: Option<Spans>, desk: Option<Desk>) -> Self {
        Self { state, metrics, audit, spans, desk, ids: DecisionIds::default(), listed: Mutex::default(), unknown_tool: ArcSwap::default() }
    }

    /// Waits until everything so far is written and sent, or for a few seconds.
    pub async fn flush(&self) {
        self.audit.flush().await;
        if let Some(spans) = &self.spans {
            spans.flush().await;
        }
    }

    /// The server listed these tools.
    pub fn learn(&self, tools: Vec<Listed>) {
        self.listed().learn(tools);
    }

    /// The server answered a call of this tool; over HTTP, with this head.
    pub fn learn_unknown_tool(&self, tool: &str, answer: &[u8], head: Option<&(StatusCode, HeaderMap)>) {
        if !self.has_listed(tool)
            && let Some(words) = UnknownTool::of_answer(answer, tool)
        {
            self.unknown_tool.store(Arc::new(match head {
                Some((status, headers)) => words.with_head(*status, headers),
                None => words,
            }));
        }
    }

    /// How the server speaks of a tool that it does not have.
    #[must_use]
    pub fn unknown_tool(&self) -> Arc<UnknownTool> {
        self.unknown_tool.load_full()
    }

    /// Whether the headers that repeat arguments of the call agree with them (rule 14).
    pub fn check_mirrored(&self, call: &ToolCall, headers: &HeaderMap, body: &[u8]) -> Result<(), Malformed> {
        mirrored::check(self.listed().mirrored(&call.name), headers, call.arguments(body))
    }

    /// Whether a caller is to be told that its list of tools has changed with the policies.
    #[must_use]
    pub fn tells_of_other_tools(&self, before: &Enforced, now: &Enforced, caller: &Caller) -> bool {
        self.listed().any(|tool| before.policies.lists(caller, tool) != now.policies.lists(caller, tool))
            && now.policies.decide_method(caller, respond::LIST_CHANGED).refusal.is_none()
    }

    /// Whether the server listed this tool.
    #[must_use]
    pub fn has_listed(&self, tool: &str) -> bool {
        self.listed().contains(tool)
    }

    fn listed(&self) -> MutexGuard<'_, ListedTools> {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the tool is a label of metrics.
    fn is_label(&self, policies: &Policies, tool: &str) -> bool {
        policies.names(tool) || self.has_listed(tool)
    }

    /// A new id, for a record that begins later.
    #[must_use]
    pub fn decision_id(&self) -> String {
        self.ids.next()
    }

    /// Begins a record. Where policies refuse calls that cannot be written down, it waits a little for room for its line.
    pub async fn record(self: &Arc<Self>, caller: &Caller, server: &Arc<str>) -> Record {
        self.record_as(self.decision_id(), caller, server).await
    }

    /// As [`Books::record`], with an id that was told already.
    pub async fn record_as(self: &Arc<Self>, decision_id: String, caller: &Caller, server: &Arc<str>) -> Record {
        let slot = match self.audit.room() {
            None if self.state.enforced().refuses_unaudited => self.audit.room_soon().await,
            room => room,
        };
        Record {
            books: Arc::clone(self),
            slot,
            arrived: Instant::now(),
            time: Timestamp::now(),
            decision_id,
            verdict: None,
            policy: None,
            revision: None,
            rule: None,
            caller: caller.to_string(),
            caller_label: self.state.enforced().policies.entry(caller).cloned(),
            server: Arc::clone(server),
            method: None,
            from_server: false,
            tool: None,
            label: None,
            malformed: None,
            argument_keys: Vec::new(),
            argument_keys_left_out: 0,
            audited: Vec::new(),
            upstream_status: None,
            upstream_fault: None,
            forwarded: None,
            reservation: None,
            trace: None,
            counted: false,
        }
    }
}

/// One decision. It is written when it is dropped; one that was never decided is not written.
#[derive(Debug)]
pub struct Record {
    books: Arc<Books>,
    /// Room for its line.
    slot: Option<Slot>,
    arrived: Instant,
    time: Timestamp,
    decision_id: String,
    verdict: Option<Code>,
    policy: Option<Arc<str>>,
    revision: Option<Arc<str>>,
    rule: Option<String>,
    caller: String,
    caller_label: Option<Arc<str>>,
    server: Arc<str>,
    method: Option<Cow<'static, str>>,
    from_server: bool,
    tool: Option<Arc<str>>,
    label: Option<Arc<str>>,
    malformed: Option<&'static str>,
    argument_keys: Vec<String>,
    argument_keys_left_out: usize,
    audited: Vec<AuditedLine>,
    upstream_status: Option<u16>,
    upstream_fault: Option<AnswerFault>,
    forwarded: Option<Instant>,
    reservation: Option<(Reservation, Receipt)>,
    /// Of a message of a client, where spans are made.
    trace: Option<Begun>,
    counted: bool,
}

impl Record {
    /// The id that the agent is told.
    #[must_use]
    pub fn decision_id(&self) -> &str {
        &self.decision_id
    }

    /// Whether its line is sure to be written.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.slot.is_some()
    }

    fn method(&mut self, method: &str) {
        let known = mcp_policy::method::FROM_CLIENT.iter().find(|known| **known == method);
        self.method = Some(known.map_or_else(|| cut(method).to_owned().into(), |known| (*known).into()));
    }

    /// The message of a client, as it was read.
    pub fn message(&mut self, message: &Message, body: &[u8], headers: Option<&HeaderMap>) {
        let Some(method) = message.method() else { return };
        self.method(method);
        self.trace = self.books.spans.as_ref().map(|spans| spans.begin(message, body, headers));
    }

    /// The method of a message that the server sent.
    pub fn from_server(&mut self, method: &str) {
        self.method(method);
        self.from_server = true;
    }

    /// The tool that is called.
    pub fn call(&mut self, call: &ToolCall, policies: &Policies) {
        let tool: Arc<str> = cut(&call.name).into();
        self.label = Some(match self.books.is_label(policies, &call.name) {
            true if tool.len() == call.name.len() => Arc::clone(&tool),
            true => call.name.as_str().into(),
            false => self.books.metrics.other_tool(),
        });
        self.tool = Some(tool);
        self.argument_keys.clone_from(&call.argument_keys);
        self.argument_keys_left_out = call.argument_keys_left_out;
    }

    /// Refused before any rule was asked.
    pub fn malformed(&mut self, reason: &'static str) {
        self.malformed = Some(reason);
        self.verdict = Some(Code::Malformed);
    }

    /// Refused by policy.
    pub fn refused(&mut self, refusal: &Refusal, enforced: &Enforced) {
        self.by(refusal.policy.as_ref(), refusal.rule.clone(), enforced);
        if let (Code::LimitExceeded, Some(policy), Some(counter)) = (refusal.code, &self.policy, &refusal.counter) {
            self.books.metrics.limited(policy, counter);
        }
        self.verdict = Some(refusal.code);
    }

    /// Allowed, and about to be forwarded.
    pub fn allowed(&mut self, allowed: Allowed, receipt: Receipt, enforced: &Enforced) {
        self.by(allowed.policy.as_ref(), allowed.rule, enforced);
        for (policy, counter) in &allowed.without_session {
            self.books.metrics.counted_without_session(&policy.to_string(), counter);
        }
        self.reservation = Some((allowed.reservation, receipt));
        self.forwarded = Some(Instant::now());
        self.verdict = Some(Code::Allowed);
    }

    /// A message that is no call passes. It has a line only if a policy in audit mode would have refused it.
    pub fn passed_if_audited(&mut self) {
        if self.audited.iter().any(|one| one.code != Code::Allowed) {
            self.verdict = Some(Code::Allowed);
        }
    }

    /// What policies in audit mode would have decided.
    pub fn audited(&mut self, audited: Vec<Audited>, enforced: &Enforced) {
        let line = |one: Audited| AuditedLine {
            revision: enforced.revision(&one.policy).map(|one| one.revision.to_string()),
            policy: one.policy.to_string(),
            rule: one.rule,
            code: one.code,
            counter: one.counter.map(|counter| counter.to_string()),
        };
        self.audited = audited.into_iter().map(line).collect();
    }

    fn by(&mut self, policy: Option<&PolicyId>, rule: Option<String>, enforced: &Enforced) {
        let revision = policy.and_then(|policy| enforced.revision(policy));
        self.revision = revision.map(|one| Arc::clone(&one.revision));
        self.policy = revision.map(|one| Arc::clone(&one.name)).or_else(|| policy.map(|policy| policy.to_string().into()));
        self.rule = rule;
    }

    /// The server's answer has begun.
    pub fn answered(&mut self, status: StatusCode) {
        self.upstream_status = Some(status.as_u16());
        self.count();
    }

    /// The server gave no answer, or one that does not reach the caller, or not as a whole.
    pub fn answer_failed(&mut self, status: Option<StatusCode>, fault: AnswerFault) {
        self.upstream_status = status.map(|status| status.as_u16());
        self.verdict = Some(Code::UpstreamUnreachable);
        self.upstream_fault = Some(fault);
    }

    /// The tool certainly did not run: gives the call's counters back.
    pub fn refund(&mut self) {
        if let Some((reservation, receipt)) = self.reservation.take() {
            self.books.state.refund(reservation, &receipt);
        }
    }

    fn end_span(&mut self) {
        let (Some(spans), Some(trace), Some(method)) = (&self.books.spans, self.trace.take(), &self.method) else { return };
        let judged = Judged {
            method,
            tool: self.tool.as_deref(),
            label: self.label.as_deref().filter(|label| *label != OTHER_TOOL),
            // What passes and is no call has no verdict of its own.
            code: self.verdict.unwrap_or(Code::Allowed),
            policy: self.policy.as_deref(),
            rule: self.rule.as_deref(),
            decision_id: &self.decision_id,
            fault: self.upstream_fault.map(AnswerFault::as_str),
            began: self.time.into(),
            took: self.arrived.elapsed(),
        };
        spans.end(trace, &judged);
    }

    /// Counts the decision, once. Not first at the end: an answer can stream for hours.
    fn count(&mut self) {
        if let Some(code) = self.verdict
            && !std::mem::replace(&mut self.counted, true)
        {
            let metrics = &self.books.metrics;
            metrics.decided(self.policy.as_ref(), self.label.as_ref(), code, Mode::Enforce, self.caller_label.as_ref());
            if let Some(reason) = self.malformed {
                metrics.malformed("client", reason);
            }
            for one in &self.audited {
                metrics.decided(Some(&one.policy.as_str().into()), self.label.as_ref(), one.code, Mode::Audit, self.caller_label.as_ref());
            }
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.end_span();
        let Some(code) = self.verdict else { return };
        self.count();
        if let (Some(forwarded), Some(label)) = (self.forwarded, &self.label) {
            self.books.metrics.upstream_took(label, forwarded.elapsed());
        }
        let line = Line {
            time: self.time,
            decision_id: &self.decision_id,
            policy: self.policy.as_deref(),
            revision: self.revision.as_deref(),
            rule: self.rule.as_deref(),
            caller: &self.caller,
            server: &self.server,
            method: self.method.as_deref(),
            from_server: self.from_server,
            tool: self.tool.as_deref(),
            code,
            malformed: self.malformed,
            argument_keys: &self.argument_keys,
            argument_keys_left_out: self.argument_keys_left_out,
            audited: &self.audited,
            upstream_status: self.upstream_status,
            upstream_fault: self.upstream_fault.map(AnswerFault::as_str),
            duration_ms: (self.arrived.elapsed().as_secs_f64() * 1e6).round() / 1e3,
        };
        self.books.audit.write(self.slot.take(), &line);
    }
}

fn cut(name: &str) -> &str {
    &name[..name.floor_char_boundary(MAX_AUDIT_NAME)]
}
