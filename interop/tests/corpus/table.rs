//! `docs/conformance/strictness.md`.

use std::fmt::Write;

use crate::legitimate::Legitimate;
use crate::request::Variant;
use crate::run::{Found, Outcome, Row, Seen};

const INTRODUCTION: &str = "\
# Strictness

<!-- Written by the tests: `UPDATE_GOLDEN=1 make test-interop`. -->

What a caller can send that two readers could take differently, and what becomes of it: sent to five servers of the official SDKs as they are, and
through the sidecar. Each server has a tool `safe` and a tool `danger`, and writes down what it runs.

For every request, server and policy the test checks that **what the audit log says was allowed is what ran**: under a policy that allows `safe` and
denies `danger`, `danger` never ran; under a policy that allows everything, what ran is what was logged, by name and by count.

**Sidecar** says what it did with the request under the policy that allows everything: the status of its own answer with the reason that its audit line
gives, or *passes*; *closes* is the end of the connection without an answer. The columns of the servers say what ran **without** the sidecar, in bold if it is
`danger`, or the status if nothing ran; and behind an arrow what ran through the sidecar, where it passes and that is not the same.
";

const LEGITIMATE: &str = "\
## Unusual and legitimate

These mean one thing, however odd they look. They reach the server byte for byte, and do there what they do without the sidecar. A status is that of a
server that does not take them; the sidecar passes that on too.
";

const RULES: &[(u8, &str)] = &[
    (0, "The era of a message"),
    (2, "JSON that parsers read differently"),
    (3, "Numbers that servers read differently"),
    (4, "The envelope"),
    (5, "Names and arguments of tools"),
    (6, "Batches"),
    (7, "Methods"),
    (8, "The path"),
    (9, "HTTP methods and upgrades"),
    (10, "Content type, encoding, `Accept`"),
    (11, "Headers that must be there once"),
    (12, "Framing and smuggling"),
    (14, "Headers that repeat the body"),
];

pub fn markdown(variants: &[Variant], legitimate: &[Legitimate], results: &[Found]) -> String {
    let mut text = INTRODUCTION.to_owned();
    for (rule, title) in RULES {
        writeln!(text, "\n## {title}\n").unwrap();
        header(&mut text, "request | sidecar", results);
        for (at, variant) in variants.iter().enumerate().filter(|(_, variant)| variant.rule == *rule) {
            let rows: Vec<&Row> = results.iter().map(|found| &found.variants[at]).collect();
            let mut verdicts: Vec<String> = rows.iter().map(|row| verdict(&row.allowing)).collect();
            verdicts.dedup();
            write!(text, "| {} | {} |", escape(variant.name), verdicts.join(" or ")).unwrap();
            for row in rows {
                let (direct, through) = (cell(&row.direct), cell(&row.allowing.outcome));
                let passes = !row.allowing.allowed().is_empty() && direct != through;
                if passes { write!(text, " {direct} → {through} |") } else { write!(text, " {direct} |") }.unwrap();
            }
            text.push('\n');
        }
    }
    assert!(variants.iter().all(|variant| RULES.iter().any(|(rule, _)| *rule == variant.rule)), "a rule without a title");
    write!(text, "\n{LEGITIMATE}\n").unwrap();
    header(&mut text, "message", results);
    for (at, message) in legitimate.iter().enumerate() {
        write!(text, "| {} |", escape(message.name)).unwrap();
        for found in results {
            write!(text, " {} |", cell(&found.legitimate[at].direct)).unwrap();
        }
        text.push('\n');
    }
    text
}

fn header(text: &mut String, first: &str, results: &[Found]) {
    write!(text, "| {first} |").unwrap();
    for found in results {
        write!(text, " {} |", found.sdk.package()).unwrap();
    }
    writeln!(text, "\n|{}", "---|".repeat(first.split('|').count() + results.len())).unwrap();
}

fn escape(name: &str) -> String {
    name.replace('|', "\\|")
}

/// What ran, or the statuses if nothing did.
fn cell(outcome: &Outcome) -> String {
    let ran: Vec<&str> = outcome.tools().into_iter().map(|tool| if tool == "danger" { "**danger**" } else { tool }).collect();
    if ran.is_empty() { statuses(outcome) } else { ran.join(", ") }
}

fn statuses(outcome: &Outcome) -> String {
    match outcome.statuses.as_slice() {
        [] if outcome.hung => "hangs".to_owned(),
        [] => "closes".to_owned(),
        statuses => statuses.iter().map(u16::to_string).collect::<Vec<_>>().join(", "),
    }
}

/// What the sidecar did.
fn verdict(seen: &Seen) -> String {
    let mut said: Vec<String> = Vec::new();
    for line in &seen.audit {
        match line["malformed"].as_str() {
            Some(reason) => said.push(format!("`{reason}`")),
            None if line["code"] == "allowed" => said.push("passes".to_owned()),
            None => said.push(format!("`{}`", line["code"].as_str().unwrap_or_default())),
        }
    }
    let passes = said.iter().any(|said| said == "passes");
    match said.as_slice() {
        [] if seen.outcome.all_succeeded() => "passes".to_owned(),
        [] => statuses(&seen.outcome),
        _ if passes => said.join(", "),
        _ => format!("{} {}", statuses(&seen.outcome), said.join(", ")),
    }
}
