//! What an explanation is made of. Deciding costs nothing more for it: the trace of an ordinary decision is `()`.

use crate::compiled::{CompiledLimit, Policy};
use crate::limit::Full;
use crate::policy_id::PolicyId;

/// One thing that a policy was asked about a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The policy.
    pub policy: PolicyId,
    /// JSON pointer (RFC 6901) to the field that was asked.
    pub pointer: String,
    /// What it said.
    pub verdict: Verdict,
    /// What it wants and what it found, with values of the call: for people who explain a decision, never for logs.
    pub account: String,
}

/// What a step said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It lets the call go on.
    Passes,
    /// It refuses the call.
    Refuses,
    /// It lets the call go on once a person has approved it.
    Waits,
    /// It cannot be decided, which refuses the call.
    Undecided,
}

/// Where steps go.
pub(crate) trait Trace {
    /// Whether rules are asked on after the first that refuses.
    const GOES_ON: bool;

    /// Notes a step.
    fn step(&mut self, step: impl FnOnce() -> Step);
}

impl Trace for () {
    const GOES_ON: bool = false;

    fn step(&mut self, _: impl FnOnce() -> Step) {}
}

impl Trace for Vec<Step> {
    const GOES_ON: bool = true;

    fn step(&mut self, step: impl FnOnce() -> Step) {
        self.push(step());
    }
}

impl Step {
    pub(crate) fn of(policy: &Policy, pointer: String, verdict: Verdict, account: impl Into<String>) -> Self {
        Self { policy: policy.id.clone(), pointer, verdict, account: account.into() }
    }

    /// The step of a counter. `used` and amounts are in units of 10^-18.
    pub(crate) fn of_limit(policy: &Policy, limit: &CompiledLimit, full: Option<&Full>, used: u128) -> Self {
        let window = limit.counter.window_seconds;
        let account = format!(
            "{} of {} used in {window} s by this {}{}",
            decimal(used),
            decimal(limit.max),
            limit.counter.scope.as_str(),
            match full {
                None => String::new(),
                Some(Full { retry_after_seconds: Some(seconds) }) => format!("; has room again in {seconds} s"),
                Some(Full { retry_after_seconds: None }) => "; never has room for this call".to_owned(),
            }
        );
        let verdict = if full.is_some() { Verdict::Refuses } else { Verdict::Passes };
        Self::of(policy, limit.pointer.clone(), verdict, account)
    }
}

fn decimal(units: u128) -> String {
    const ONE: u128 = 1_000_000_000_000_000_000;
    let (whole, rest) = (units / ONE, units % ONE);
    if rest == 0 { whole.to_string() } else { format!("{whole}.{}", format!("{rest:018}").trim_end_matches('0')) }
}
