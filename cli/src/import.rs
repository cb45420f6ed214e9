//! `mcp-policy import`: the policy of another product becomes an `McpPolicy`.
//!
//! What is refused there is refused here too, unless a comment in the output says otherwise; what cannot be said is refused by name.
//! Where the meaning differs, a comment says so at the place.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use mcp_policy::read::{FieldError, FileError, Located};

use crate::input::{self, Source};
use crate::report::{self, Finding, Severity};

mod block;
mod condition;
mod difference;
mod draft;
mod format;
mod gateway;
mod parts;
mod print;
mod printed;
mod proxy;
mod re2;
mod source;

use draft::Draft;
use format::Format;
use source::{Field, Refusals};

/// Prints the policies of all files on standard output, or of none: then it tells what cannot be imported, and why.
pub fn run(files: &[PathBuf]) -> anyhow::Result<ExitCode> {
    let mut manifests = Vec::new();
    let mut findings = Vec::new();
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for source in input::sources(files)? {
        let name = policy_name(&source);
        if let Some(other) = names.insert(name.clone(), source.name.clone()) {
            let message = format!("would be named `{name}`, as the policy of {other} is; rename one of the files");
            let field = FieldError { path: String::new(), message };
            findings.push(Finding::new(Severity::Error, FileError { file: source.name.clone(), place: None, field }));
        }
        match import(&source.name, &name, &source.text) {
            Ok(Imported { manifest, warnings }) => {
                findings.extend(warnings.into_iter().map(|warning| Finding::new(Severity::Warning, warning)));
                manifests.push(manifest);
            }
            Err(errors) => findings.extend(errors.into_iter().map(|error| Finding::new(Severity::Error, error))),
        }
    }
    report::print(&findings, report::Format::Text);
    let errors = findings.iter().filter(|finding| finding.is_error()).count();
    if errors > 0 {
        eprintln!("{}; nothing was imported", report::count(errors, "error"));
        return Ok(ExitCode::FAILURE);
    }
    print!("{}", manifests.join("---\n"));
    eprintln!("fill in `spec.selector`, then run `mcp-policy check`; comments in the policy say what differs");
    Ok(ExitCode::SUCCESS)
}

/// A policy that was translated.
#[derive(Debug)]
struct Imported {
    /// The YAML of an `McpPolicy`.
    manifest: String,
    /// What must be told at once, at the places of the original.
    warnings: Vec<FileError>,
}

/// Translates the text of one file.
fn import(file: &str, name: &str, text: &str) -> Result<Imported, Vec<FileError>> {
    let document = source::read(file, text).map_err(|error| vec![error])?;
    let locate = |error: FieldError| FileError::new(file, &document.places, error);
    let (format, draft) = translate(name, &document).map_err(|errors| errors.into_iter().map(locate).collect::<Vec<_>>())?;
    let origin = format!("Imported from {} ({format}) by `mcp-policy import`.", file.rsplit('/').next().unwrap_or(file));
    let manifest = print::manifest(name, &origin, &draft);
    Ok(Imported { manifest, warnings: draft.warnings.into_iter().map(locate).collect() })
}

fn translate(name: &str, document: &Located) -> Result<(Format, Draft), Vec<FieldError>> {
    let root = Field::root(document);
    let format = format::detect(&root).map_err(|error| vec![error])?;
    let mut refusals = Refusals::default();
    let draft = match format {
        Format::Gateway => gateway::import(&root, &mut refusals),
        Format::Block => block::import(&root, &mut refusals),
        Format::Proxy => proxy::import(&root, &mut refusals),
    };
    if let Some(draft) = draft
        && refusals.0.is_empty()
    {
        draft.check(name, &mut refusals);
        if refusals.0.is_empty() {
            return Ok((format, draft));
        }
    }
    Err(refusals.0)
}

/// The name of the file as a name that Kubernetes accepts.
fn policy_name(source: &Source) -> String {
    let stem = source.path.as_deref().and_then(Path::file_stem).unwrap_or_default().to_string_lossy().to_lowercase();
    let name: String = stem.chars().map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' }).take(63).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "imported".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod laws;
