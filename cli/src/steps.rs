//! The steps of a decision, as people and machines read them.

use mcp_policy::{Step, Verdict};
use serde::Serialize;

use crate::loaded::Loaded;
use crate::style::Style;

/// A step, for machines.
#[derive(Debug, Serialize)]
pub struct StepRecord {
    policy: String,
    pointer: String,
    verdict: &'static str,
    account: String,
    file: Option<String>,
    line: Option<u64>,
}

impl StepRecord {
    pub fn new(step: &Step, loaded: &Loaded) -> Self {
        Self {
            policy: step.policy.to_string(),
            pointer: step.pointer.clone(),
            verdict: word(step.verdict),
            account: step.account.clone(),
            file: loaded.file(&step.policy).map(str::to_owned),
            line: loaded.place(&step.policy, &step.pointer).map(|place| place.line),
        }
    }
}

/// The steps as lines, policy by policy, each line behind `indent`.
pub fn lines(steps: &[Step], loaded: &Loaded, indent: &str, style: Style) -> Vec<String> {
    let width = steps.iter().map(|step| step.pointer.chars().count()).max().unwrap_or(0);
    let mut lines = Vec::new();
    let mut policy = None;
    for step in steps {
        if policy.replace(&step.policy) != Some(&step.policy) {
            lines.push(format!("{indent}{}", step.policy));
        }
        let verdict = format!("{:<9}", word(step.verdict));
        let verdict = if step.verdict == Verdict::Passes { verdict } else { style.bad(&verdict) };
        let line = loaded.line_of(step).map_or_else(String::new, |line| format!("  ({line})"));
        lines.push(format!("{indent}  {verdict} {:<width$}  {}{line}", step.pointer, step.account));
    }
    lines
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Passes => "passes",
        Verdict::Refuses => "refuses",
        Verdict::Waits => "waits",
        Verdict::Undecided => "undecided",
    }
}
