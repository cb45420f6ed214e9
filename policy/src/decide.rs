//! The engine: policies in force, a call, the counters and the time give a decision. Total and infallible.
//!
//! The order of steps is the language's: hide, entry or default, action, limits; in each step the tool's own rule comes before
//! `allTools`. Of several policies the gravest refusal is told, then the first by namespace and name.

use std::sync::Arc;
use std::time::Duration;

use crate::caller::Caller;
use crate::compile::{CompiledLimit, CompiledRule, Policy, Rules};
use crate::decision::{Allowed, Code, Decision, Refusal};
use crate::document::{Action, DefaultAction, Scope};
use crate::limit::{Budget, Claim, Counters};
use crate::pattern;
use crate::policy_id::PolicyId;

/// One `tools/call`.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The tool's name, as the server will read it.
    pub tool: &'a str,
    /// Who calls.
    pub caller: &'a Caller,
    /// The MCP session, if it was opened through the sidecar; any other id is as none.
    pub session: Option<&'a str>,
}

/// The policies of one pod. All of them must agree to a call; with none, every call is refused.
#[derive(Clone, Debug, Default)]
pub struct Policies {
    /// By namespace and name.
    policies: Vec<Policy>,
}

/// How full a counter is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterUsage {
    /// The policy that declares the counter.
    pub policy: PolicyId,
    /// The counter's name.
    pub counter: Arc<str>,
    /// How many calls a budget holds.
    pub max: u64,
    /// How many are in the fullest budget of the counter now.
    pub used: u64,
}

/// What one policy says of a tool before any counter is looked at.
enum Standing<'a> {
    Admitted(Admitted<'a>),
    Refused(Refusal),
}

struct Admitted<'a> {
    policy: &'a Policy,
    /// Pointer to the entry, or to the default, that admitted the tool.
    pointer: &'a str,
    entries: Vec<&'a CompiledRule>,
    all_tools: Option<&'a CompiledRule>,
}

impl<'a> Admitted<'a> {
    /// The limits that hold, in the order in which they are told, each with its rule.
    fn limits(&self) -> impl Iterator<Item = (&'a CompiledRule, &'a CompiledLimit)> {
        self.entries.iter().copied().chain(self.all_tools).flat_map(|rule| rule.limits.iter().map(move |limit| (rule, limit)))
    }
}

impl Policies {
    /// These policies together, in whatever order they come.
    #[must_use]
    pub fn new(mut policies: Vec<Policy>) -> Self {
        policies.sort_by(|a, b| a.id.cmp(&b.id));
        Self { policies }
    }

    /// Decides a call. An allowed call has reserved in all of its counters, a refused one in none.
    ///
    /// `now` is the time since any fixed moment on a monotonic clock.
    pub fn decide(&self, counters: &mut Counters, call: &Call<'_>, now: Duration) -> Decision {
        let mut admitted = Vec::with_capacity(self.policies.len());
        let mut gravest: Option<Refusal> = None;
        for policy in &self.policies {
            match standing(policy, call.tool) {
                Standing::Admitted(by) => admitted.push(by),
                Standing::Refused(refusal) => {
                    if gravest.as_ref().is_none_or(|told| gravity(refusal.code) > gravity(told.code)) {
                        gravest = Some(refusal);
                    }
                }
            }
        }
        if let Some(refusal) = gravest {
            return Decision::Refused(refusal);
        }
        let Some(first) = admitted.first() else {
            return Decision::Refused(Refusal::of(Code::NoPolicy));
        };

        let mut claims: Vec<Claim<'_>> = Vec::new();
        let mut over: Option<Refusal> = None;
        for by in &admitted {
            for (rule, limit) in by.limits() {
                if claims.iter().any(|claim| claim.counter == &*limit.counter) {
                    continue;
                }
                let claim = Claim { counter: &limit.counter, budget: budget(limit.counter.scope, call), max: limit.max };
                if let Err(full) = counters.check(&claim, now) {
                    match &mut over {
                        // A retry passes when the last of the full counters is free again, if ever.
                        Some(told) => {
                            told.retry_after_seconds = told.retry_after_seconds.zip(full.retry_after_seconds).map(|(a, b)| a.max(b));
                        }
                        None => {
                            over = Some(Refusal {
                                counter: Some(Arc::clone(&limit.counter.name)),
                                retry_after_seconds: full.retry_after_seconds,
                                ..Refusal::by(by.policy, Code::LimitExceeded, &limit.pointer, rule.reason.as_deref())
                            });
                        }
                    }
                }
                claims.push(claim);
            }
        }
        match over {
            Some(refusal) => Decision::Refused(refusal),
            None => Decision::Allowed(Allowed {
                policy: first.policy.id.clone(),
                rule: first.pointer.to_owned(),
                reservation: counters.take(claims, now),
            }),
        }
    }

    /// Whether `tools/list` may show the tool: it is neither hidden nor denied, whatever the counters say.
    #[must_use]
    pub fn lists(&self, _caller: &Caller, tool: &str) -> bool {
        !self.policies.is_empty() && self.policies.iter().all(|policy| matches!(standing(policy, tool), Standing::Admitted(_)))
    }

    /// Whether an accepted policy is in force for the caller, and none that was never accepted. If not, everything but the
    /// opening of a connection is refused.
    #[must_use]
    pub fn in_force(&self, _caller: &Caller) -> bool {
        !self.policies.is_empty() && self.policies.iter().all(|policy| policy.rules.is_some())
    }

    /// Whether a policy names the tool literally, so that the name is safe as a metric's label: names on the wire belong to
    /// attackers.
    #[must_use]
    pub fn names(&self, tool: &str) -> bool {
        self.policies.iter().filter_map(|policy| policy.rules.as_ref()).any(|rules| {
            // A tool that is literally called `a*` matches the glob `a*`, which a policy wrote.
            rules.exact.contains_key(tool)
                || rules.hide.iter().any(|hidden| hidden == tool)
                || rules.globs.iter().any(|glob| glob.pattern == tool)
        })
    }

    /// How full each counter is, by policy and counter.
    #[must_use]
    pub fn usage(&self, counters: &mut Counters, now: Duration) -> Vec<CounterUsage> {
        let mut usage: Vec<_> = self
            .policies
            .iter()
            .flat_map(Policy::limits)
            .map(|limit| CounterUsage {
                policy: limit.counter.policy.clone(),
                counter: Arc::clone(&limit.counter.name),
                max: limit.max,
                used: counters.fullest(&limit.counter, now),
            })
            .collect();
        usage.sort_by(|a, b| (&a.policy, &a.counter).cmp(&(&b.policy, &b.counter)));
        usage.dedup();
        usage
    }
}

impl Refusal {
    fn of(code: Code) -> Self {
        Self { code, policy: None, rule: None, reason: None, counter: None, retry_after_seconds: None }
    }

    fn by(policy: &Policy, code: Code, pointer: &str, reason: Option<&str>) -> Self {
        Self {
            policy: Some(policy.id.clone()),
            rule: (!pointer.is_empty()).then(|| pointer.to_owned()),
            reason: reason.map(str::to_owned),
            ..Self::of(code)
        }
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

fn standing<'a>(policy: &'a Policy, tool: &str) -> Standing<'a> {
    let Some(rules) = &policy.rules else {
        return Standing::Refused(Refusal::by(policy, Code::NoPolicy, "", None));
    };
    if let Some(i) = rules.hide.iter().position(|hidden| pattern::matches(hidden, tool)) {
        return Standing::Refused(Refusal::by(policy, Code::Hidden, &format!("/hide/{i}"), None));
    }
    let entries = rules.entries(tool);
    let all_tools = rules.all_tools.as_ref();
    if entries.is_empty() && rules.default == DefaultAction::Deny {
        return Standing::Refused(Refusal::by(policy, Code::DefaultDeny, "/default", None));
    }
    // Of equal globs the gravest action holds; the tool's own action is told before that of `allTools`.
    let hides = |rule: &&&CompiledRule| rule.action == Action::Hide;
    let refuses = |rule: &&&CompiledRule| rule.action == Action::Deny;
    let refused_by = entries.iter().find(hides).or_else(|| entries.iter().find(refuses)).copied();
    if let Some(rule) = refused_by.or(all_tools.filter(|rule| rule.action != Action::Allow)) {
        let code = if rule.action == Action::Hide { Code::Hidden } else { Code::ToolDenied };
        return Standing::Refused(Refusal::by(policy, code, &format!("{}/action", rule.pointer), rule.reason.as_deref()));
    }
    let pointer = entries.first().map_or("/default", |rule| &rule.pointer);
    Standing::Admitted(Admitted { policy, pointer, entries, all_tools })
}

impl Rules {
    /// The rules that hold for the tool: the exact entry, else the closest glob and its equals, in the order of their keys.
    fn entries(&self, tool: &str) -> Vec<&CompiledRule> {
        if let Some(rule) = self.exact.get(tool) {
            return vec![rule];
        }
        let mut matching = self.globs.iter().filter(|glob| pattern::matches(&glob.pattern, tool)).peekable();
        let closest = matching.peek().map(|glob| glob.literal_characters);
        matching.take_while(|glob| Some(glob.literal_characters) == closest).map(|glob| &glob.rule).collect()
    }
}

/// Whose budget the call spends from.
fn budget(scope: Scope, call: &Call<'_>) -> Budget {
    match (scope, call.session) {
        (Scope::Server, _) => Budget::Server,
        (Scope::Session, Some(session)) => Budget::Session(session.into()),
        (Scope::Session, None) | (Scope::Grant, _) => Budget::Caller(call.caller.clone()),
    }
}
