//! What would have to be different for another answer.

use std::time::Duration;

use mcp_policy::{Call, Code, Counters, Decision, MethodOutcome, Outcome, Refusal, Step, Verdict, method};

use crate::loaded::Loaded;

/// A call that passes this often more is told to pass as often as one likes.
const MANY: usize = 10_000;

/// For a call.
pub fn of(loaded: &Loaded, call: &Call<'_>, outcome: &Outcome, steps: &[Step], counters: &mut Counters) -> Vec<String> {
    match &outcome.decision {
        Decision::Allowed(_) => vec![until_refused(loaded, call, counters)],
        Decision::Refused(_) if loaded.each.is_empty() => {
            vec!["a policy that governs the server: while none is in force, every call is refused".to_owned()]
        }
        Decision::Refused(refusal) => {
            let refusing = steps.iter().filter(|step| step.verdict != Verdict::Passes && enforces(loaded, step));
            let mut advice: Vec<_> = refusing.map(|step| change(step, call, loaded)).collect();
            if advice.len() > 1 {
                advice.push("all of these, since each of them refuses".to_owned());
            }
            if refusal.code != Code::LimitExceeded {
                advice.push("then the limits are asked, which a refused call takes nothing from".to_owned());
            }
            advice
        }
    }
}

/// For a method that is no tool call.
pub fn of_method(loaded: &Loaded, name: &str, outcome: &MethodOutcome) -> Vec<String> {
    let Some(Refusal { policy, rule, code, .. }) = &outcome.refusal else {
        let why = if method::is_known(name) {
            "it is a method of MCP, and those are allowed where no entry denies them"
        } else {
            "it is allowed by name"
        };
        return vec![format!("an entry of `methods` that denies it; {why}")];
    };
    match (policy, rule) {
        (None, _) => vec![
            "a policy that governs the server: while none is in force, everything but the opening of a connection is refused".to_owned(),
        ],
        (Some(policy), _) if *code == Code::NoPolicy => vec![format!("a revision of {policy} that is accepted")],
        (Some(policy), Some(rule)) => vec![format!("`allow` at {rule} of {policy}")],
        (Some(_), None) => {
            let entry = format!("an entry `{name}: allow` in `methods`: what is no method of MCP passes only by name");
            let policies = loaded.each.iter().filter(|policy| policy.method_point(name).is_none()).map(|policy| policy.id().to_string());
            vec![format!("{entry} (in {})", policies.collect::<Vec<_>>().join(", "))]
        }
    }
}

fn enforces(loaded: &Loaded, step: &Step) -> bool {
    loaded.each.iter().any(|policy| *policy.id() == step.policy && policy.mode().is_enforce())
}

/// What would have to change so that a step no longer refuses.
fn change(step: &Step, call: &Call<'_>, loaded: &Loaded) -> String {
    let Step { policy, pointer, account, .. } = step;
    let field = pointer.rsplit('/').next().unwrap_or_default();
    let parts: Vec<_> = pointer.split('/').collect();
    let has = |name: &str| parts.iter().skip(1).any(|part| *part == name);
    let tool = call.tool;
    if pointer.is_empty() {
        format!("a revision of {policy} that is accepted")
    } else if pointer.starts_with("/hide/") {
        format!("{policy}: no pattern of `hide` that matches `{tool}` ({pointer})")
    } else if pointer == "/default" {
        let near = other_case(loaded, step, tool).map_or_else(String::new, |key| format!("; there is one for `{key}`, and case matters"));
        format!("{policy}: an entry of `tools` that matches `{tool}`, or `default: allow`{near}")
    } else if step.verdict == Verdict::Waits {
        format!("a person's approval of this very call, for {pointer} of {policy}: {account}")
    } else if field == "action" {
        format!("{policy}: `action: allow` instead of what stands at {pointer}")
    } else if has("limits") && field != "incrementFrom" || field == "rateLimit" {
        format!("time, or a larger limit at {pointer} of {policy}: {account}")
    } else {
        format!("other arguments, for {pointer} of {policy}: {account}")
    }
}

/// The entry that differs from the tool's name in case only.
fn other_case(loaded: &Loaded, step: &Step, tool: &str) -> Option<String> {
    let policy = loaded.each.iter().find(|policy| *policy.id() == step.policy)?;
    let mut keys = policy.points().into_iter().filter_map(|point| {
        let key = point.pointer.strip_prefix("/tools/")?.split('/').next()?;
        Some(key.replace("~1", "/").replace("~0", "~"))
    });
    keys.find(|key| key.eq_ignore_ascii_case(tool))
}

/// How often an allowed call can be made now.
fn until_refused(loaded: &Loaded, call: &Call<'_>, counters: &mut Counters) -> String {
    for passed in 0..=MANY {
        match loaded.policies.decide(counters, call, Duration::ZERO).decision {
            // It stays counted: that is the question.
            Decision::Allowed(allowed) => drop(allowed.reservation),
            Decision::Refused(Refusal { policy, rule, retry_after_seconds, .. }) => {
                let by = policy.map_or_else(String::new, |policy| format!(" of {policy}"));
                let until = match retry_after_seconds {
                    Some(seconds) => format!("; it passes again after {seconds} s"),
                    None => String::new(),
                };
                return format!(
                    "more calls: this one passes {}, and the next at the same moment is refused by {}{by}{until}",
                    match passed {
                        1 => "once".to_owned(),
                        times => format!("{times} times"),
                    },
                    rule.unwrap_or_default()
                );
            }
        }
    }
    "other arguments, or other policies: no limit refuses the call, however often it is made".to_owned()
}
