//! The engine: policies in force, a call, the counters and the time give a decision. Total and infallible.
//!
//! [`Policies::judge`] asks every rule and needs no counters; [`Judged::reserve`] asks the counters ([`crate::reserve`]), and last whether a person has
//! approved the call: a call that waits is a refused one, until it is judged anew with what was [approved](Judged::approved). The line that refuses a call
//! is in [`crate::judge`], where the rules of one policy are asked in the order of the language. Of several policies the gravest
//! refusal is told, then the first by namespace and name. A policy in audit mode is asked as all others are, and never heeded.

use std::sync::Arc;
use std::time::Duration;

use crate::call::Call;
use crate::caller::Caller;
use crate::compiled::{Policy, methods_verdict};
use crate::decision::{Allowed, ApprovalNeeded, Approvals, Audited, Code, Decision, Outcome, Refusal};
use crate::document::MethodAction;
use crate::judge::{Admitted, Arguments, Standing, standing};
use crate::limit::Counters;
use crate::method;
use crate::pattern;
use crate::policy_id::PolicyId;
use crate::resource::Mode;
use crate::trace::{Step, Trace, Verdict};

/// The policies of one pod. All of those that speak of a caller must agree to its call; with none, every call is refused.
#[derive(Clone, Debug, Default)]
pub struct Policies {
    /// By namespace and name.
    all: Vec<Policy>,
    /// Whether one of them has a word against what a server may send.
    governs_server: bool,
    /// Whether callers prove who they are.
    callers_prove: bool,
}

/// How full a counter is.
#[derive(Clone, Debug, PartialEq)]
pub struct CounterUsage {
    /// The policy that declares the counter.
    pub policy: PolicyId,
    /// The counter's name.
    pub counter: Arc<str>,
    /// What a budget holds: calls, or the sum of amounts.
    pub max: f64,
    /// What is used in the fullest budget of the counter now.
    pub used: f64,
}

/// A call of which every rule was asked, and no counter yet.
#[derive(Debug)]
pub struct Judged<'a> {
    pub(crate) call: Call<'a>,
    /// What the policies in force say together, those in audit mode left out.
    pub(crate) told: Result<Vec<Admitted<'a>>, Refusal>,
    pub(crate) audits: Vec<(&'a Policy, Standing<'a>)>,
    /// Digest of what is to be approved, if anything is.
    pub(crate) arguments_sha256: Option<String>,
    /// What was approved of this very call.
    pub(crate) approved: &'a [ApprovalNeeded],
}

impl Policies {
    /// These policies together, in whatever order they come.
    #[must_use]
    pub fn new(mut policies: Vec<Policy>) -> Self {
        policies.sort_by(|a, b| a.id.cmp(&b.id));
        let governs_server = policies.iter().any(governs_server);
        Self { all: policies, governs_server, callers_prove: false }
    }

    /// The same, where callers prove who they are: who proves nothing is let in only by an entry of `from` that says so.
    #[must_use]
    pub fn with_callers_that_prove(self) -> Self {
        Self { callers_prove: true, ..self }
    }

    /// The policies that speak of a caller.
    fn of(&self, caller: &Caller) -> impl Iterator<Item = &Policy> {
        self.all.iter().filter(|policy| policy.whom.includes(caller))
    }

    /// Why nothing of this caller can pass, whatever it asks; none if a policy is in force for it.
    #[must_use]
    pub fn shut_out(&self, caller: &Caller) -> Option<Refusal> {
        if self.callers_prove && caller.is_anonymous() && !self.all.iter().any(|policy| policy.whom.names(caller)) {
            return Some(Refusal::of(Code::Unauthenticated));
        }
        self.of(caller).next().is_none().then(|| Refusal::of(Code::NoPolicy))
    }

    /// Decides a call. An allowed call has reserved in all of its counters, a refused one in none.
    ///
    /// `now` is the time since any fixed moment on a monotonic clock.
    pub fn decide(&self, counters: &mut Counters, call: &Call<'_>, now: Duration) -> Outcome {
        self.judge(call).reserve(counters, now)
    }

    /// Asks every rule, in the order of the language.
    #[must_use]
    pub fn judge<'a>(&'a self, call: &Call<'a>) -> Judged<'a> {
        self.judge_with(call, &mut ())
    }

    /// Decides a call and tells each step: what was asked, what it found, and what would change it. Nothing is reserved.
    pub fn explain(&self, counters: &mut Counters, call: &Call<'_>, now: Duration) -> (Outcome, Vec<Step>) {
        let mut steps = Vec::new();
        let outcome = self.judge_with(call, &mut steps).settle(counters, now, &mut steps);
        if let Outcome { decision: Decision::Allowed(allowed), audited } = outcome {
            let reservation = allowed.reservation;
            counters.refund(reservation);
            let allowed = Allowed { reservation: crate::limit::Reservation::default(), ..allowed };
            return (Outcome { decision: Decision::Allowed(allowed), audited }, steps);
        }
        (outcome, steps)
    }

    fn judge_with<'a, T: Trace>(&'a self, call: &Call<'a>, trace: &mut T) -> Judged<'a> {
        let arguments = Arguments::new(call.arguments);
        let mut admitted = Vec::with_capacity(self.all.len());
        let mut audits = Vec::new();
        let mut gravest: Option<Refusal> = None;
        for policy in &self.all {
            if !policy.whom.includes(call.caller) {
                let account = || format!("not in force for {}", call.caller);
                trace.step(|| Step::of(policy, "/from".to_owned(), Verdict::Passes, account()));
                continue;
            }
            match (policy.mode(), standing(policy, call, &arguments, trace)) {
                (Mode::Audit, standing) => audits.push((policy, standing)),
                (Mode::Enforce, Standing::Admitted(by)) => admitted.push(by),
                (Mode::Enforce, Standing::Refused(refusal)) => gravest = Some(graver(gravest, refusal)),
            }
        }
        let told = match gravest {
            Some(refusal) => Err(refusal),
            None => Ok(admitted),
        };
        let told = self.shut_out(call.caller).map_or(told, Err);
        let waits = told.iter().flatten().any(|by: &Admitted<'_>| matches!(by.approval, Ok(Some(_))));
        let arguments_sha256 = if waits { arguments.sha256() } else { None };
        Judged { call: *call, told, audits, arguments_sha256, approved: &[] }
    }

    /// Decides a request or notification that is no `tools/call`, of either side. The caller is the client, whichever side sent it.
    #[must_use]
    pub fn decide_method(&self, caller: &Caller, method: &str) -> MethodOutcome {
        let mut audited = Vec::new();
        let mut told: Option<Refusal> = None;
        for policy in self.of(caller) {
            let refusal = method_refusal(policy, method);
            match policy.mode() {
                Mode::Audit => audited.push(audited_as(policy, refusal.as_ref())),
                Mode::Enforce => told = refusal.map(|refusal| graver(told.take(), refusal)).or(told),
            }
        }
        match self.shut_out(caller) {
            Some(refusal) if refusal.code == Code::NoPolicy && opens(method) => {}
            Some(refusal) => told = Some(refusal),
            None => {}
        }
        MethodOutcome { refusal: told, audited }
    }

    /// Whether a policy allows the method by a key of `methods` and none refuses it, so that it passes though no revision has it.
    #[must_use]
    pub fn allows_by_name(&self, caller: &Caller, method: &str) -> bool {
        let verdict =
            |policy: &Policy| policy.rules.as_ref().and_then(|rules| methods_verdict(&rules.methods, method)).map(|(_, action)| action);
        self.of(caller).any(|policy| verdict(policy) == Some(MethodAction::Allow)) && self.decide_method(caller, method).refusal.is_none()
    }

    /// Whether a server's messages to this caller have to be read: a policy, in whatever mode, denies a method that a server may send,
    /// or there is none that could let one through.
    #[must_use]
    pub fn governs_server(&self, caller: &Caller) -> bool {
        self.governs_server || self.shut_out(caller).is_some()
    }

    /// Whether `tools/list` may show the tool: it is neither hidden nor denied, whatever its arguments and the counters say.
    #[must_use]
    pub fn lists(&self, caller: &Caller, tool: &str) -> bool {
        let mut policies = self.of(caller).filter(|policy| policy.mode() == Mode::Enforce);
        self.shut_out(caller).is_none() && policies.all(|policy| policy.lists(tool))
    }

    /// Whether an accepted policy is in force for the caller, and none that was never accepted. If not, everything but the
    /// opening of a connection is refused.
    #[must_use]
    pub fn in_force(&self, caller: &Caller) -> bool {
        self.shut_out(caller).is_none() && self.of(caller).all(|policy| policy.rules.is_some())
    }

    /// Whether a policy names the tool literally, so that the name is safe as a metric's label: names on the wire belong to
    /// attackers.
    #[must_use]
    pub fn names(&self, tool: &str) -> bool {
        self.all.iter().filter_map(|policy| policy.rules.as_ref()).any(|rules| {
            // A tool that is literally called `a*` matches the glob `a*`, which a policy wrote.
            rules.exact.contains_key(tool)
                || rules.hide.iter().any(|hidden| hidden == tool)
                || rules.globs.iter().any(|glob| glob.pattern == tool)
        })
    }

    /// The entry of a `from` that takes the caller, of the first policy that has one: how policies name whoever calls, in so many words
    /// as they have entries. None where no `from` does.
    #[must_use]
    pub fn entry(&self, caller: &Caller) -> Option<&Arc<str>> {
        self.all.iter().find_map(|policy| policy.whom.entry(caller))
    }

    /// How full each counter is, by policy and counter.
    #[must_use]
    pub fn usage(&self, counters: &mut Counters, now: Duration) -> Vec<CounterUsage> {
        let fullest = counters.fullest(now);
        let mut usage: Vec<_> = self
            .all
            .iter()
            .flat_map(Policy::limits)
            .map(|limit| CounterUsage {
                policy: limit.counter.policy.clone(),
                counter: Arc::clone(&limit.counter.name),
                max: whole(limit.max),
                used: whole(fullest.get(&limit.counter).copied().unwrap_or(0)),
            })
            .collect();
        usage.sort_by(|a, b| (&a.policy, &a.counter).cmp(&(&b.policy, &b.counter)));
        usage.dedup();
        usage
    }
}

/// What the policies say of a method.
#[derive(Debug)]
pub struct MethodOutcome {
    /// The gravest refusal; none if the method passes.
    pub refusal: Option<Refusal>,
    /// What policies in audit mode would have said.
    pub audited: Vec<Audited>,
}

impl<'a> Judged<'a> {
    /// The call with these approvals. They count for nothing unless they are of these arguments, and by the very rules that ask.
    #[must_use]
    pub fn approved(self, approvals: &'a Approvals) -> Self {
        let are_of_this_call = self.arguments_sha256.as_ref() == Some(&approvals.arguments_sha256);
        Self { approved: if are_of_this_call { &approvals.needed } else { &[] }, ..self }
    }
}

pub(crate) fn audited_as(policy: &Policy, refusal: Option<&Refusal>) -> Audited {
    Audited {
        policy: policy.id.clone(),
        code: refusal.map_or(Code::Allowed, |refusal| refusal.code),
        rule: refusal.and_then(|refusal| refusal.rule.clone()),
        counter: refusal.and_then(|refusal| refusal.counter.clone()),
    }
}

/// The graver of the refusal that was told so far and one of a later policy; of equals, the earlier.
fn graver(told: Option<Refusal>, refusal: Refusal) -> Refusal {
    match told {
        Some(told) if gravity(refusal.code) <= gravity(told.code) => told,
        _ => refusal,
    }
}

/// Hidden beats denied. A policy of which nothing was ever accepted beats both: what it would hide is not known.
fn gravity(code: Code) -> u8 {
    match code {
        Code::NoPolicy => 2,
        Code::Hidden => 1,
        _ => 0,
    }
}

fn method_refusal(policy: &Policy, method: &str) -> Option<Refusal> {
    let Some(rules) = &policy.rules else {
        return (!opens(method)).then(|| Refusal::by(policy, Code::NoPolicy, String::new(), None));
    };
    match methods_verdict(&rules.methods, method) {
        Some((key, MethodAction::Deny)) => {
            Some(Refusal::by(policy, Code::MethodDenied, format!("/methods/{}", crate::pointer::escape(key)), None))
        }
        Some((_, MethodAction::Allow)) => None,
        None if method::is_known(method) => None,
        None => Some(Refusal::by(policy, Code::MethodDenied, String::new(), None)),
    }
}

/// Whether the policy refuses something that a server may send: a known method, or one that no revision gives to clients.
fn governs_server(policy: &Policy) -> bool {
    let Some(rules) = &policy.rules else { return true };
    let matches = |key: &str, methods: &[&str]| methods.iter().any(|method| pattern::matches(key, method));
    rules
        .methods
        .iter()
        .filter(|(_, action)| **action == MethodAction::Deny)
        .any(|(key, _)| matches(key, method::FROM_SERVER) || !matches(key, method::FROM_CLIENT))
}

/// Whether the method only opens or keeps a connection, so that it passes even while no policy is in force.
fn opens(method: &str) -> bool {
    matches!(method, "initialize" | "server/discover" | "ping") || method.starts_with("notifications/")
}

/// Units as people count, for metrics.
#[allow(clippy::cast_precision_loss, reason = "a metric is a double")]
fn whole(units: u128) -> f64 {
    units as f64 / 1e18
}
