//! `mcp-policy test`: do these policies decide as their author thinks?

mod compare;
mod coverage;
mod file;
mod print;
mod run;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use mcp_policy::read::{FileError, Located};

use crate::input::{self, Content};
use crate::report::{self, Finding, Format, Severity};

use self::coverage::Coverage;
pub use self::file::DEFAULT_CALLER;
use self::run::Results;

/// What is to be tested, and what is to be told.
#[derive(Debug, Args)]
pub struct Options {
    /// Test files, and folders: the test files in them, recursively
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The form of the output
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    /// Tell what of the policies no case has exercised
    #[arg(long)]
    coverage: bool,
    /// Fail if the cases exercise less than this much of the policies, in per cent
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(..=100))]
    min_coverage: Option<u8>,
}

/// How many cases a well formed test file holds; or everything that is wrong with it.
pub fn cases(name: &str, document: &Located) -> Result<usize, Vec<FileError>> {
    file::read(name, document).map(|file| file.cases.len())
}

/// Runs the cases of every file, and tells how they went.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let mut results = Vec::new();
    let mut coverage = Coverage::default();
    let mut findings = Vec::new();
    for source in input::sources(&options.files)? {
        let wrong = match source.content() {
            Ok(Content::Cases(document)) => match run::run(&source, &document, &mut coverage)? {
                Ok(result) => {
                    results.push(result);
                    continue;
                }
                Err(errors) => errors,
            },
            Ok(Content::Policies(_)) if source.is_named => bail!("{} holds no cases; name the test file beside it", source.name),
            // A policy that no test file names is not this command's, and neither is what is wrong with it.
            Ok(Content::Policies(_)) => continue,
            Err(_) if !source.is_named && !source.name.contains(".test.") => continue,
            Err(errors) => errors,
        };
        findings.extend(wrong.into_iter().map(|error| Finding::new(Severity::Error, error)));
    }
    if results.is_empty() && findings.is_empty() {
        bail!("no test file is there; a test file is named like policy.test.yaml, and holds `cases`");
    }
    let is_covered = options.min_coverage.is_none_or(|least| coverage.percent() >= usize::from(least));
    let all_passed = findings.is_empty() && results.iter().flat_map(|results| &results.cases).all(run::CaseResult::passed);
    report::print(&findings, options.output);
    let with_coverage = options.coverage || !is_covered;
    match options.output {
        Format::Json => print::json(&results, &coverage, &findings)?,
        Format::Github => print::github(&results, &coverage, with_coverage),
        Format::Text => print::text(&results, &coverage, with_coverage),
    }
    if !is_covered {
        eprintln!(
            "error: the cases exercise {} % of the policies; at least {} % is wanted",
            coverage.percent(),
            options.min_coverage.unwrap_or(0)
        );
    }
    if options.output != Format::Json {
        print::summary(&results, findings.len());
    }
    Ok(if all_passed && is_covered { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Cases of all files, by whether they passed.
fn tally(results: &[Results]) -> (usize, usize) {
    let cases = || results.iter().flat_map(|results| &results.cases);
    let passed = cases().filter(|case| case.passed()).count();
    (passed, cases().count() - passed)
}
