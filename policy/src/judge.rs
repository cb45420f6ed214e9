//! What one policy says of a call before any counter is looked at: hide, entry or default, action, arguments, require, denyIf,
//! amounts, approval. In each step the tool's own rule comes before `allTools`, and the first refusal in that order is the one that
//! counts. What it says of approvals is heeded after the limits: nobody is asked about a call that could not pass.

mod entries;

use std::cell::OnceCell;

use crate::call::Call;
use crate::compile::DEFAULT_TIMEOUT_SECONDS;
use crate::compiled::{CompiledLimit, CompiledRule, Policy, Rules};
use crate::condition::Elements;
use crate::decision::{ApprovalNeeded, Code, Refusal};
use crate::document::{Action, DefaultAction, Shown};
use crate::facts::Facts;
use crate::json::Fault;
use crate::limit::ONE_CALL;
use crate::pattern;
use crate::snapshot::hex_sha256;
use crate::trace::{Step, Trace, Verdict};
use crate::truth::Truth;
use crate::value::{Members, Value};

/// What one policy says of a call.
#[derive(Debug)]
pub(crate) enum Standing<'a> {
    Admitted(Admitted<'a>),
    Refused(Refusal),
}

/// A call that no rule of a policy refuses.
#[derive(Debug)]
pub(crate) struct Admitted<'a> {
    pub policy: &'a Policy,
    /// Pointer to the entry, or to the default, that admitted the tool.
    pub pointer: &'a str,
    /// What the policy's limits want, in the order in which they are told.
    pub demands: Vec<Demand<'a>>,
    /// What a person is asked, if one is; or why that cannot be decided, which refuses the call.
    pub approval: Result<Option<ApprovalNeeded>, Box<Refusal>>,
}

/// What a call would take from a counter.
#[derive(Debug)]
pub(crate) struct Demand<'a> {
    pub rule: &'a CompiledRule,
    pub limit: &'a CompiledLimit,
    /// In units of 10^-18.
    pub amount: u128,
}

/// The arguments of a call, read when the first rule asks for them.
pub(crate) struct Arguments<'a> {
    /// As sent; empty where there are none.
    text: &'a str,
    value: OnceCell<Result<Value<'a>, Fault>>,
}

impl<'a> Arguments<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { text, value: OnceCell::new() }
    }

    /// The arguments as an object. `null` is as absent, and absent is empty.
    fn value(&self) -> Result<&Value<'a>, Fault> {
        let read = || match self.text {
            "" => Ok(Value::Object(Members::default())),
            text => match Value::parse(text)? {
                Value::Null => Ok(Value::Object(Members::default())),
                Value::Object(members) => Ok(Value::Object(members)),
                _ => Err(Fault::Syntax),
            },
        };
        self.value.get_or_init(read).as_ref().map_err(|fault| *fault)
    }

    /// Digest of what is approved of a call; none where the arguments cannot be read, which refuses the call.
    pub fn sha256(&self) -> Option<String> {
        self.value().ok().map(|value| hex_sha256(value.canonical().as_bytes()))
    }

    /// The arguments as an object's text.
    fn object_text(&self) -> &'a str {
        if matches!(self.text, "" | "null") { "{}" } else { self.text }
    }
}

/// What is asked after the entry is found, in this order.
const CHECKS: [Check; 5] = [Check::Action, Check::Arguments, Check::Require, Check::DenyIf, Check::Amounts];

#[derive(Clone, Copy)]
enum Check {
    Action,
    Arguments,
    Require,
    DenyIf,
    Amounts,
}

/// Asks one policy.
pub(crate) fn standing<'a, T: Trace>(policy: &'a Policy, call: &Call<'a>, arguments: &Arguments<'a>, trace: &mut T) -> Standing<'a> {
    let Some(rules) = &policy.rules else {
        trace.step(|| Step::of(policy, String::new(), Verdict::Refuses, "no revision of the policy was ever accepted"));
        return Standing::Refused(Refusal::by(policy, Code::NoPolicy, String::new(), None));
    };
    if let Some(i) = rules.hide.iter().position(|hidden| pattern::matches(hidden, call.tool)) {
        let pointer = format!("/hide/{i}");
        trace.step(|| Step::of(policy, pointer.clone(), Verdict::Refuses, format!("`{}` matches {}", rules.hide[i], call.tool)));
        return Standing::Refused(Refusal::by(policy, Code::Hidden, pointer, None));
    }
    let entries = rules.entries(call.tool);
    if entries.is_empty() {
        let denies = rules.default == DefaultAction::Deny;
        trace.step(|| {
            let verdict = if denies { Verdict::Refuses } else { Verdict::Passes };
            Step::of(policy, "/default".to_owned(), verdict, format!("no entry of tools matches {}", call.tool))
        });
        if denies {
            return Standing::Refused(Refusal::by(policy, Code::DefaultDeny, "/default".to_owned(), None));
        }
    }
    for entry in &entries {
        trace.step(|| Step::of(policy, entry.pointer.clone(), Verdict::Passes, format!("the entry that matches {}", call.tool)));
    }
    let pointer = entries.first().map_or("/default", |rule| &rule.pointer);
    let asked = Asked {
        policy,
        call,
        arguments,
        entries,
        all_tools: rules.all_tools.as_ref(),
        shown: rules.shown,
        wait_seconds: rules.wait_seconds,
    };
    let mut demands = Vec::new();
    let mut refusal = None;
    for check in CHECKS {
        let found = match check {
            Check::Action => asked.action(trace),
            Check::Arguments => asked.first(Asked::arguments, trace),
            Check::Require => asked.first(Asked::require, trace),
            Check::DenyIf => asked.first(Asked::deny_if, trace),
            Check::Amounts => asked.amounts(&mut demands, trace),
        };
        refusal = refusal.or(found);
        if refusal.is_some() && !T::GOES_ON {
            break;
        }
    }
    match refusal {
        Some(refusal) => Standing::Refused(refusal),
        None => Standing::Admitted(Admitted { policy, pointer, demands, approval: asked.approval(trace) }),
    }
}

/// Asking the rules of one policy about one call.
struct Asked<'a, 'b> {
    policy: &'a Policy,
    call: &'b Call<'a>,
    arguments: &'b Arguments<'a>,
    entries: Vec<&'a CompiledRule>,
    all_tools: Option<&'a CompiledRule>,
    shown: Shown,
    wait_seconds: u64,
}

impl<'a> Asked<'a, '_> {
    /// The tool's own rules, then `allTools`.
    fn rules(&self) -> impl Iterator<Item = &'a CompiledRule> {
        self.entries.iter().copied().chain(self.all_tools)
    }

    /// Asks each rule: the first refusal.
    fn first<T: Trace>(&self, ask: impl Fn(&Self, &CompiledRule, &mut T) -> Option<Refusal>, trace: &mut T) -> Option<Refusal> {
        let mut told = None;
        for rule in self.rules() {
            let refusal = ask(self, rule, trace);
            told = told.or(refusal);
            if told.is_some() && !T::GOES_ON {
                break;
            }
        }
        told
    }

    fn refusal(&self, code: Code, pointer: String, rule: &CompiledRule) -> Refusal {
        Refusal::by(self.policy, code, pointer, rule.reason.as_deref())
    }

    fn facts<'f>(&'f self, args: &'f Value<'f>) -> Facts<'f> {
        Facts { args, tool: self.call.tool, caller: self.call.caller, server: self.call.server }
    }

    /// The arguments as a value, or the refusal of a call whose arguments cannot be read: the sidecar has refused those before.
    fn args<T: Trace>(&self, trace: &mut T) -> Result<&Value<'a>, Box<Refusal>> {
        self.arguments.value().map_err(|_| {
            let account = "the arguments can be read in more ways than one, or not at all; the sidecar refuses such a call before any rule";
            trace.step(|| Step::of(self.policy, String::new(), Verdict::Refuses, account));
            Box::new(Refusal::of(Code::Malformed))
        })
    }

    /// Of equal globs the gravest action holds; the tool's own action is told before that of `allTools`.
    fn action<T: Trace>(&self, trace: &mut T) -> Option<Refusal> {
        let hides = |rule: &&&CompiledRule| rule.action == Action::Hide;
        let refuses = |rule: &&&CompiledRule| rule.action == Action::Deny;
        let refused_by = self.entries.iter().find(hides).or_else(|| self.entries.iter().find(refuses)).copied();
        let rule = refused_by.or(self.all_tools.filter(|rule| rule.action.refuses()))?;
        let (code, word) = if rule.action == Action::Hide { (Code::Hidden, "hide") } else { (Code::ToolDenied, "deny") };
        let pointer = format!("{}/action", rule.pointer);
        trace.step(|| Step::of(self.policy, pointer.clone(), Verdict::Refuses, format!("the action is {word}, whatever the arguments")));
        Some(self.refusal(code, pointer, rule))
    }

    fn arguments<T: Trace>(&self, rule: &CompiledRule, trace: &mut T) -> Option<Refusal> {
        let mut told = None;
        if let Some(max) = rule.max_bytes {
            let bytes = self.arguments.text.len();
            let fits = u64::try_from(bytes).is_ok_and(|bytes| bytes <= max);
            let pointer = || format!("{}/arguments/maxBytes", rule.pointer);
            trace.step(|| {
                let verdict = if fits { Verdict::Passes } else { Verdict::Refuses };
                Step::of(self.policy, pointer(), verdict, format!("the arguments have {bytes} bytes; at most {max} pass"))
            });
            if !fits {
                told = Some(self.refusal(Code::ArgumentsInvalid, pointer(), rule));
            }
        }
        if told.is_some() && !T::GOES_ON {
            return told;
        }
        if let Some(schema) = &rule.schema {
            let wrong = schema.check(self.arguments.object_text()).err();
            let pointer = || format!("{}/arguments/schema", rule.pointer);
            trace.step(|| match &wrong {
                None => Step::of(self.policy, pointer(), Verdict::Passes, "the arguments satisfy the schema"),
                Some(wrong) => Step::of(self.policy, pointer(), Verdict::Refuses, wrong.clone()),
            });
            if wrong.is_some() {
                told.get_or_insert_with(|| self.refusal(Code::ArgumentsInvalid, pointer(), rule));
            }
        }
        told
    }

    /// False if one condition is false, else undecided if one is.
    fn require<T: Trace>(&self, rule: &CompiledRule, trace: &mut T) -> Option<Refusal> {
        if rule.require.is_empty() {
            return None;
        }
        let args = match self.args(trace) {
            Ok(args) => args,
            Err(refusal) => return Some(*refusal),
        };
        let facts = self.facts(args);
        let (mut fails, mut undecided) = (None, None);
        for (i, condition) in rule.require.iter().enumerate() {
            let truth = condition.holds(&facts, Elements::All);
            trace.step(|| {
                let verdict = match &truth {
                    Truth::True => Verdict::Passes,
                    Truth::False => Verdict::Refuses,
                    Truth::Undecided(_) => Verdict::Undecided,
                };
                Step::of(self.policy, format!("{}/require/{i}", rule.pointer), verdict, told(condition.account(&facts), &truth))
            });
            match truth {
                Truth::True => {}
                Truth::False => {
                    fails.get_or_insert(i);
                    if !T::GOES_ON {
                        break;
                    }
                }
                Truth::Undecided(_) => {
                    undecided.get_or_insert(i);
                }
            }
        }
        let refused = fails.map(|i| (Code::RequireFailed, i)).or(undecided.map(|i| (Code::PolicyError, i)));
        refused.map(|(code, i)| self.refusal(code, format!("{}/require/{i}", rule.pointer), rule))
    }

    fn deny_if<T: Trace>(&self, rule: &CompiledRule, trace: &mut T) -> Option<Refusal> {
        match self.entries(&rule.deny_if, &format!("{}/denyIf", rule.pointer), rule, Verdict::Refuses, trace) {
            Ok(None) => None,
            Ok(Some((i, entry))) => Some(self.refusal_by_entry(Code::DenyIf, format!("{}/denyIf/{i}", rule.pointer), entry, rule)),
            Err(refusal) => Some(*refusal),
        }
    }

    /// What a person is asked: by the first rule that wants it, its action before its conditions. A condition that cannot be decided
    /// refuses the call, whoever else asks.
    fn approval<T: Trace>(&self, trace: &mut T) -> Result<Option<ApprovalNeeded>, Box<Refusal>> {
        let mut told = None;
        for rule in self.rules() {
            if rule.action == Action::Approve {
                let pointer = format!("{}/action", rule.pointer);
                trace.step(|| Step::of(self.policy, pointer.clone(), Verdict::Waits, "each call waits for a person"));
                told.get_or_insert_with(|| self.needed(pointer, rule.reason.as_deref(), DEFAULT_TIMEOUT_SECONDS));
            }
            let pointer = format!("{}/approveIf", rule.pointer);
            if let Some((i, entry)) = self.entries(&rule.approve_if, &pointer, rule, Verdict::Waits, trace)? {
                let reason = entry.reason.as_deref().or(rule.reason.as_deref());
                told.get_or_insert_with(|| self.needed(format!("{pointer}/{i}"), reason, entry.timeout_seconds));
            }
        }
        if told.is_some() {
            // What is approved are the arguments, so they must be known.
            self.args(trace)?;
        }
        Ok(told)
    }

    fn needed(&self, rule: String, reason: Option<&str>, timeout_seconds: u64) -> ApprovalNeeded {
        ApprovalNeeded {
            policy: self.policy.id.clone(),
            rule,
            reason: reason.map(str::to_owned),
            timeout_seconds,
            shown: self.shown,
            wait_seconds: self.wait_seconds,
        }
    }

    /// What the limits want of the call goes to `demands`. A bad amount refuses it.
    fn amounts<T: Trace>(&self, demands: &mut Vec<Demand<'a>>, trace: &mut T) -> Option<Refusal> {
        let mut told = None;
        for rule in self.rules() {
            for limit in &rule.limits {
                let amount = match &limit.amount {
                    None => ONE_CALL,
                    Some(path) => {
                        let amount = match self.args(trace) {
                            Ok(args) => path.amount(args),
                            Err(refusal) => return Some(*refusal),
                        };
                        match amount {
                            Ok(amount) => amount,
                            Err(wrong) => {
                                let pointer = || format!("{}/incrementFrom", limit.pointer);
                                trace.step(|| Step::of(self.policy, pointer(), Verdict::Refuses, wrong));
                                told.get_or_insert_with(|| self.refusal(Code::ArgumentsInvalid, pointer(), rule));
                                if !T::GOES_ON {
                                    return told;
                                }
                                continue;
                            }
                        }
                    }
                };
                demands.push(Demand { rule, limit, amount });
            }
        }
        told
    }
}

/// An account, and why the condition cannot be decided if it cannot.
fn told(account: String, truth: &Truth) -> String {
    match truth {
        Truth::Undecided(why) => format!("{account}: {why}"),
        _ => account,
    }
}

impl Policy {
    /// Whether `tools/list` may show the tool, as far as this policy goes.
    pub(crate) fn lists(&self, tool: &str) -> bool {
        let Some(rules) = &self.rules else { return false };
        let entries = rules.entries(tool);
        !rules.hide.iter().any(|hidden| pattern::matches(hidden, tool))
            && (!entries.is_empty() || rules.default == DefaultAction::Allow)
            && entries.into_iter().chain(&rules.all_tools).all(|rule| !rule.action.refuses())
    }
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
