//! How cases went, for people, machines and GitHub.

use std::io;

use serde_json::{Value, json};

use crate::report::{Finding, annotation, count};
use crate::steps::{self, StepRecord};
use crate::style::Style;

use super::compare::Difference;
use super::coverage::{Coverage, Missing, PolicyCoverage};
use super::run::{CaseResult, Results};
use super::tally;

/// File by file, as lines.
pub fn text(results: &[Results], coverage: &Coverage, with_coverage: bool) {
    let style = Style::of(&io::stdout());
    for Results { name, loaded, cases } in results {
        println!("{name}: {}", count(cases.len(), "case"));
        for case in cases {
            if case.passed() {
                println!("  {} ... {}", case.name, style.good("ok"));
                continue;
            }
            println!("  {} ... {}", case.name, style.bad("FAILED"));
            let place = case.place.map_or_else(String::new, |place| format!(":{}", place.line));
            println!("      at {name}{place}");
            for difference in &case.differences {
                println!("      {}", told(difference));
            }
            if !case.steps.is_empty() {
                println!("      the steps that led there:");
                for line in steps::lines(&case.steps, loaded, "        ", style) {
                    println!("{line}");
                }
            }
        }
    }
    if with_coverage {
        for PolicyCoverage { file, policy, exercised, of, missing } in coverage.reports() {
            println!("coverage of {policy} ({file}): {exercised} of {of}");
            for Missing { pointer, line, message } in missing {
                let line = line.map_or_else(String::new, |line| format!(":{line}"));
                println!("  {file}{line}: {pointer}: {message}");
            }
        }
    }
}

/// One annotation for each case that failed, and for all that is not covered.
pub fn github(results: &[Results], coverage: &Coverage, with_coverage: bool) {
    for Results { name, cases, .. } in results {
        for CaseResult { name: case, place, differences, .. } in cases.iter().filter(|case| !case.passed()) {
            let message = differences.iter().map(told).collect::<Vec<_>>().join("\n");
            println!("{}", annotation("error", name, place.map(|place| (place.line, place.column)), case, &message));
        }
    }
    if with_coverage {
        for PolicyCoverage { file, policy, missing, .. } in coverage.reports() {
            for Missing { pointer, line, message } in missing {
                println!("{}", annotation("warning", &file, line.map(|line| (line, 1)), &policy, &format!("{pointer}: {message}")));
            }
        }
    }
}

/// Everything, as one object.
pub fn json(results: &[Results], coverage: &Coverage, findings: &[Finding]) -> anyhow::Result<()> {
    let case = |case: &CaseResult, results: &Results| {
        json!({
            "name": case.name,
            "line": case.place.map(|place| place.line),
            "passed": case.passed(),
            "differences": case.differences,
            "steps": case.steps.iter().map(|step| StepRecord::new(step, &results.loaded)).collect::<Vec<_>>(),
        })
    };
    let file = |results: &Results| {
        let cases: Vec<_> = results.cases.iter().map(|one| case(one, results)).collect();
        json!({"file": results.name, "cases": cases})
    };
    let (passed, failed) = tally(results);
    let all = json!({
        "files": results.iter().map(file).collect::<Vec<_>>(),
        "findings": findings,
        "coverage": {"percent": coverage.percent(), "policies": coverage.reports()},
        "passed": passed,
        "failed": failed,
    });
    println!("{}", serde_json::to_string_pretty(&all)?);
    Ok(())
}

/// `test result: ok. 12 passed; 0 failed`
pub fn summary(results: &[Results], errors: usize) {
    let style = Style::of(&io::stdout());
    let (passed, failed) = tally(results);
    let word = if failed == 0 && errors == 0 { style.good("ok") } else { style.bad("FAILED") };
    let errors = if errors == 0 { String::new() } else { format!("; {}", count(errors, "error")) };
    println!("test result: {word}. {passed} passed; {failed} failed{errors}");
}

fn told(Difference { field, expected, got }: &Difference) -> String {
    format!("{field}: expected {}, got {}", plain(expected), plain(got))
}

/// A value as people write it: codes and names without quotes.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "none".to_owned(),
        other => other.to_string(),
    }
}
