//! What people and programs read of it.

use std::io;

use serde_json::json;

use crate::style::Style;

use super::policy::{State, Told, ToldPod};

/// Prints one JSON object.
pub fn json(told: &[Told], notes: &[String]) {
    println!("{}", json!({ "policies": told, "notes": notes }));
}

/// Prints each policy with its pods.
pub fn text(told: &[Told], notes: &[String]) {
    let style = Style::of(&io::stdout());
    for note in notes {
        println!("note: {note}");
    }
    if told.is_empty() {
        println!("no policy here");
    }
    for (place, policy) in told.iter().enumerate() {
        if place > 0 {
            println!();
        }
        println!("{}  {}", policy.policy, headline(policy, style));
        if !policy.message.is_empty() {
            println!("  {}", policy.message);
        }
        let width = policy.pods.iter().map(|pod| pod.pod.len()).max().unwrap_or_default();
        for pod in &policy.pods {
            println!("  {:width$}  {}", pod.pod, of_pod(policy, pod, style));
        }
    }
}

fn headline(policy: &Told, style: Style) -> String {
    let Told { generation, mode, pods, .. } = policy;
    let enforcing = pods.iter().filter(|pod| pod.state == State::Enforcing).count();
    let coverage = format!("generation {generation} in {enforcing} of {} pods", pods.len());
    let coverage = if policy.is_enforced() { style.good(&coverage) } else { style.bad(&coverage) };
    let verdict = match (policy.is_judged, policy.is_accepted, policy.in_force) {
        (false, ..) => style.doubtful("not judged yet: is the operator running?"),
        (true, true, _) => style.good("accepted"),
        (true, false, Some(in_force)) => style.bad(&format!("not accepted: generation {in_force} is in force")),
        (true, false, None) => style.bad("not accepted: every call is refused"),
    };
    format!("{mode}, {verdict}, {coverage}")
}

fn of_pod(policy: &Told, pod: &ToldPod, style: Style) -> String {
    let heard = pod.heard_seconds_ago.map(|seconds| format!(", heard of the operator {seconds} s ago")).unwrap_or_default();
    match (pod.state, &pod.generation) {
        (State::Enforcing, _) => format!("{}{heard}", style.good("enforcing")),
        (State::Stale, Some(generation)) => format!("{} generation {generation}, not {}{heard}", style.bad("enforces"), policy.generation),
        (State::Stale, None) => format!("{} of this policy{heard}", style.bad("knows nothing")),
        (State::Uncovered, _) => style.bad("has no sidecar: calls reach it unchecked; its events name the command that mends it"),
        (State::Unknown, _) => format!("{}: {}", style.doubtful("cannot be asked"), pod.error.as_deref().unwrap_or_default()),
    }
}
