//! What of the policies the cases have exercised.

use std::collections::{BTreeMap, BTreeSet};

use mcp_policy::{Point, Policy, PolicyId, Step, Verdict};
use serde::Serialize;

use crate::loaded::Loaded;

/// By policy; one of the same name in another file is another one.
#[derive(Debug, Default)]
pub struct Coverage {
    policies: BTreeMap<(String, PolicyId), Points>,
}

#[derive(Debug, Default)]
struct Points {
    /// All, with the line of each.
    all: BTreeMap<Point, Option<u64>>,
    exercised: BTreeSet<Point>,
}

/// What is exercised of one policy.
#[derive(Debug, Serialize)]
pub struct PolicyCoverage {
    pub file: String,
    pub policy: String,
    pub exercised: usize,
    pub of: usize,
    pub missing: Vec<Missing>,
}

/// What no case has exercised.
#[derive(Debug, Serialize)]
pub struct Missing {
    pub pointer: String,
    pub line: Option<u64>,
    pub message: &'static str,
}

impl Coverage {
    /// Takes note of policies that cases are run against.
    pub fn add(&mut self, loaded: &Loaded) {
        for policy in &loaded.each {
            let points = self.points(loaded, policy.id());
            points.all.extend(policy.points().into_iter().map(|point| {
                let line = loaded.place(policy.id(), &point.pointer).map(|place| place.line);
                (point, line)
            }));
        }
    }

    /// Takes note of what a call was judged by.
    pub fn call(&mut self, loaded: &Loaded, steps: &[Step]) {
        for step in steps {
            let point = Point { pointer: step.pointer.clone(), refuses: step.verdict != Verdict::Passes };
            self.points(loaded, &step.policy).exercised.insert(point);
        }
    }

    /// Takes note of what a method was judged by.
    pub fn method(&mut self, loaded: &Loaded, policy: &Policy, method: &str) {
        if let Some(pointer) = policy.method_point(method) {
            let points = self.points(loaded, policy.id());
            points.exercised.extend([true, false].map(|refuses| Point { pointer: pointer.clone(), refuses }));
        }
    }

    /// How much of all policies is exercised, in per cent, rounded down.
    pub fn percent(&self) -> usize {
        let reports = self.reports();
        let (exercised, of) = reports.iter().fold((0, 0), |(exercised, of), report| (exercised + report.exercised, of + report.of));
        (exercised * 100).checked_div(of).unwrap_or(100)
    }

    /// Policy by policy.
    pub fn reports(&self) -> Vec<PolicyCoverage> {
        let report = |((file, id), points): (&(String, PolicyId), &Points)| {
            let missing: Vec<_> = points
                .all
                .iter()
                .filter(|(point, _)| !points.exercised.contains(point))
                .map(|(point, line)| Missing {
                    pointer: point.pointer.clone(),
                    line: *line,
                    message: if point.refuses { "no case makes it refuse" } else { "no case reaches it" },
                })
                .collect();
            let of = points.all.len();
            PolicyCoverage { file: file.clone(), policy: id.to_string(), exercised: of - missing.len(), of, missing }
        };
        self.policies.iter().map(report).collect()
    }

    fn points(&mut self, loaded: &Loaded, id: &PolicyId) -> &mut Points {
        let file = loaded.file(id).unwrap_or_default().to_owned();
        self.policies.entry((file, id.clone())).or_default()
    }
}
