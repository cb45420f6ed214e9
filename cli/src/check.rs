//! `mcp-policy check`: what is wrong with these policies?

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use mcp_policy::read::{Kind, Manifest};
use serde::Serialize;

use crate::input::{self, Content, Source};
use crate::report::{self, Finding, Format, Severity};
use crate::style::Style;
use crate::test;

/// What was found in all files.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    policies: Vec<Valid>,
    test_files: Vec<TestFile>,
    findings: Vec<Finding>,
}

/// A policy that the operator accepts.
#[derive(Debug, Serialize)]
struct Valid {
    file: String,
    policy: String,
    kind: Option<&'static str>,
    mode: &'static str,
}

/// A well formed file of cases.
#[derive(Debug, Serialize)]
struct TestFile {
    file: String,
    cases: usize,
}

/// Checks every file, and tells what is wrong and what is fine. `strict` makes errors of warnings.
pub fn run(files: &[PathBuf], format: Format, strict: bool) -> anyhow::Result<ExitCode> {
    let mut report = Report::default();
    for source in input::sources(files)? {
        report.add(&source);
    }
    let errors = report.findings.iter().filter(|finding| finding.is_error()).count();
    let warnings = report.findings.len() - errors;
    report.print(format, errors, warnings)?;
    Ok(if errors > 0 || (strict && warnings > 0) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

impl Report {
    fn add(&mut self, source: &Source) {
        match source.content() {
            Ok(Content::Policies(manifests)) if manifests.is_empty() && source.is_named => self.errors(vec![source.holds_nothing()]),
            Ok(Content::Policies(manifests)) => {
                for manifest in &manifests {
                    self.policy(manifest);
                }
            }
            Ok(Content::Cases(document)) => match test::cases(&source.name, &document) {
                Ok(cases) => self.test_files.push(TestFile { file: source.name.clone(), cases }),
                Err(errors) => self.errors(errors),
            },
            Err(errors) => self.errors(errors),
        }
    }

    fn errors(&mut self, errors: Vec<mcp_policy::read::FileError>) {
        self.findings.extend(errors.into_iter().map(|error| Finding::new(Severity::Error, error)));
    }

    fn policy(&mut self, manifest: &Manifest) {
        let missing = manifest.missing();
        let is_whole = missing.is_empty();
        self.errors(missing);
        match manifest.compile() {
            Ok(policy) => {
                let warnings = manifest.warnings(&policy);
                self.findings.extend(warnings.into_iter().map(|warning| Finding::new(Severity::Warning, warning)));
                if is_whole {
                    let kind = match manifest.kind {
                        Kind::Bare => None,
                        Kind::Policy => Some(mcp_policy::read::KIND),
                        Kind::ClusterPolicy => Some(mcp_policy::read::CLUSTER_KIND),
                    };
                    let mode = manifest.mode.as_str();
                    self.policies.push(Valid { file: manifest.file().to_owned(), policy: manifest.id.to_string(), kind, mode });
                }
            }
            Err(errors) => self.errors(errors),
        }
    }

    fn print(&self, format: Format, errors: usize, warnings: usize) -> anyhow::Result<()> {
        if format == Format::Json {
            println!("{}", serde_json::to_string_pretty(self)?);
            return Ok(());
        }
        report::print(&self.findings, format);
        if format == Format::Text {
            let style = Style::of(&io::stdout());
            for Valid { file, policy, .. } in &self.policies {
                println!("{file}: {policy} is {}", style.good("valid"));
            }
            for TestFile { file, cases } in &self.test_files {
                println!(
                    "{file}: {} of a test file {} {}",
                    report::count(*cases, "case"),
                    if *cases == 1 { "is" } else { "are" },
                    style.good("well formed")
                );
            }
        }
        let counted = [(errors, "error"), (warnings, "warning")];
        let counted: Vec<_> = counted.iter().filter(|(number, _)| *number > 0).map(|(number, what)| report::count(*number, what)).collect();
        if !counted.is_empty() {
            eprintln!("{}", counted.join(", "));
        }
        Ok(())
    }
}
