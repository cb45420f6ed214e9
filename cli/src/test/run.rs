//! Cases are run against the policies that they are for, one after the other: time and counters run on from case to case.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use mcp_policy::read::{FieldError, FileError, Kind, Located, Manifest, Place};
use mcp_policy::value::Value as Exact;
use mcp_policy::{Call, Counters, Decision, Outcome, PolicyId, Refusal, ServerName, Step};
use serde_json::{Value, json};

use crate::input::{self, Content, Source};
use crate::loaded::Loaded;
use crate::outcome;

use super::compare::{self, Difference};
use super::coverage::Coverage;
use super::file::{self, Case, File, NamedPolicy, Question, Server};

/// How the cases of a file went.
#[derive(Debug)]
pub struct Results {
    /// The file.
    pub name: String,
    /// The policies that the cases are for.
    pub loaded: Loaded,
    /// In order.
    pub cases: Vec<CaseResult>,
}

/// How a case went.
#[derive(Debug)]
pub struct CaseResult {
    pub name: String,
    pub place: Option<Place>,
    /// What is not as expected; nothing if the case passed.
    pub differences: Vec<Difference>,
    /// What the call was judged by.
    pub steps: Vec<Step>,
}

impl CaseResult {
    pub fn passed(&self) -> bool {
        self.differences.is_empty()
    }
}

/// Runs the cases of a file; or tells everything that is wrong with it or its policies.
pub fn run(source: &Source, document: &Located, coverage: &mut Coverage) -> anyhow::Result<Result<Results, Vec<FileError>>> {
    let File { policies, server, cases } = match file::read(&source.name, document) {
        Ok(file) => file,
        Err(errors) => return Ok(Err(errors)),
    };
    let manifests = match policies {
        Some(named) => named_policies(source, &named)?,
        None => policies_beside(source)?,
    };
    let loaded = match manifests.and_then(Loaded::of_files) {
        Ok(loaded) => loaded,
        Err(errors) => return Ok(Err(errors)),
    };
    coverage.add(&loaded);
    let mut runner = Runner { loaded: &loaded, server: &server, coverage, counters: Counters::default(), now: Duration::ZERO };
    let results = cases.iter().map(|case| runner.case(case)).collect();
    Ok(Ok(Results { name: source.name.clone(), loaded, cases: results }))
}

struct Runner<'a> {
    loaded: &'a Loaded,
    server: &'a Server,
    coverage: &'a mut Coverage,
    counters: Counters,
    now: Duration,
}

impl Runner<'_> {
    fn case(&mut self, case: &Case) -> CaseResult {
        if case.fresh {
            self.counters = Counters::default();
        }
        self.now = case.at.unwrap_or(self.now);
        let (differences, steps) = match &case.question {
            // The sidecar refuses such arguments before any rule.
            Question::Call { arguments, .. } if !arguments.is_empty() && Exact::parse(arguments).is_err() => {
                (compare::differences(&case.expect, &outcome::malformed()), Vec::new())
            }
            Question::Call { tool, arguments } => self.call(case, tool, arguments),
            Question::Method(method) => (self.method(case, method), Vec::new()),
        };
        CaseResult { name: case.name.clone(), place: case.place, differences, steps }
    }

    fn call(&mut self, case: &Case, tool: &str, arguments: &str) -> (Vec<Difference>, Vec<Step>) {
        let policies = &self.loaded.policies;
        let server = ServerName { namespace: &self.server.namespace, name: &self.server.name };
        let call = Call { tool, arguments, caller: &case.caller, session: case.session.as_deref(), server };
        let mut reservations = Vec::new();
        let mut steps = Vec::new();
        let mut differences = Vec::new();
        for i in 1..=case.repeat {
            let is_last = i == case.repeat;
            if is_last {
                // Asked without being counted, for the steps, and then decided like all before it.
                (_, steps) = policies.explain(&mut self.counters, &call, self.now);
                self.coverage.call(self.loaded, &steps);
            }
            let decided = match policies.decide(&mut self.counters, &call, self.now) {
                Outcome { decision: Decision::Refused(Refusal { waits_for: Some(approvals), .. }), .. } if case.approved => {
                    policies.judge(&call).approved(&approvals).reserve(&mut self.counters, self.now)
                }
                decided => decided,
            };
            let got = outcome::decision(&decided);
            if is_last {
                differences = compare::differences(&case.expect, &got);
            }
            match decided.decision {
                Decision::Allowed(allowed) => reservations.push(allowed.reservation),
                Decision::Refused(_) if is_last => {}
                Decision::Refused(_) => {
                    (_, steps) = policies.explain(&mut self.counters, &call, self.now);
                    let code = got.get("code").cloned().unwrap_or_default();
                    differences = vec![Difference { field: format!("call {i} of {}", case.repeat), expected: json!("allowed"), got: code }];
                    break;
                }
            }
        }
        for reservation in reservations {
            if case.refund {
                self.counters.refund(reservation);
            } else {
                // The tool ran, so the call stays counted.
                drop(reservation);
            }
        }
        if let Some(expected) = case.listed {
            let got = policies.lists(&case.caller, tool);
            if got != expected {
                differences.push(Difference { field: "listed".to_owned(), expected: Value::Bool(expected), got: Value::Bool(got) });
            }
        }
        (differences, steps)
    }

    fn method(&mut self, case: &Case, method: &str) -> Vec<Difference> {
        for policy in &self.loaded.each {
            self.coverage.method(self.loaded, policy, method);
        }
        let decided = self.loaded.policies.decide_method(&case.caller, method);
        compare::differences(&case.expect, &outcome::method(&decided))
    }
}

/// The policies of the files that a test file names.
fn named_policies(source: &Source, named: &[NamedPolicy]) -> anyhow::Result<Result<Vec<Manifest>, Vec<FileError>>> {
    let folder = folder(source)?;
    let mut manifests = Vec::new();
    let mut errors = Vec::new();
    for NamedPolicy { path, place } in named {
        let wrong = |message: String| {
            vec![FileError { file: source.name.clone(), place: *place, field: FieldError { path: "policies".to_owned(), message } }]
        };
        match Source::open(&folder.join(path)) {
            Err(error) => errors.extend(wrong(format!("{error:#}"))),
            Ok(file) => match file.content() {
                Ok(Content::Cases(_)) => errors.extend(wrong(format!("{path} is a test file"))),
                Ok(Content::Policies(found)) if found.is_empty() => errors.extend(wrong(format!("{path} holds no policy"))),
                Ok(Content::Policies(found)) => manifests.extend(found.into_iter().map(|manifest| named_by(manifest, path))),
                Err(more) => errors.extend(more),
            },
        }
    }
    Ok(if errors.is_empty() { Ok(manifests) } else { Err(errors) })
}

/// The policies of the folder that a test file is in.
fn policies_beside(source: &Source) -> anyhow::Result<Result<Vec<Manifest>, Vec<FileError>>> {
    let mut manifests = Vec::new();
    let mut errors = Vec::new();
    for path in input::files_beside(&folder(source)?)? {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        match Source::open(&path)?.content() {
            Ok(Content::Cases(_)) => {}
            Ok(Content::Policies(found)) => manifests.extend(found.into_iter().map(|manifest| named_by(manifest, &name))),
            // What is wrong with another test file is not this one's.
            Err(_) if name.contains(".test.") => {}
            Err(more) => errors.extend(more),
        }
    }
    if manifests.is_empty() && errors.is_empty() {
        let message = "no policy lies beside this file; name those that it tests under `policies`".to_owned();
        errors.push(FileError { file: source.name.clone(), place: None, field: FieldError { path: String::new(), message } });
    }
    Ok(if errors.is_empty() { Ok(manifests) } else { Err(errors) })
}

/// A bare document is named by its file; as the test file names it, wherever the command is run.
fn named_by(mut manifest: Manifest, name: &str) -> Manifest {
    if manifest.kind == Kind::Bare {
        manifest.id = PolicyId::new(None, name);
    }
    manifest
}

fn folder(source: &Source) -> anyhow::Result<PathBuf> {
    let path = source.path.as_deref().context("a test file cannot be read from standard input: its policies lie beside it")?;
    Ok(path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned())
}
