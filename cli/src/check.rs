//! `mcp-policy check`: what is wrong with these policies?

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{fs, io};

use anyhow::Context as _;
use mcp_policy::read::{self, Manifest};

/// Checks every file, tells what is wrong on standard error and what is fine on standard output.
pub fn run(files: &[PathBuf]) -> anyhow::Result<ExitCode> {
    let mut wrong = 0;
    for file in expand(files)? {
        let (name, text) = if file == Path::new("-") {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text).context("failed to read standard input")?;
            ("<stdin>".to_owned(), text)
        } else {
            (file.display().to_string(), fs::read_to_string(&file).with_context(|| format!("failed to read {}", file.display()))?)
        };
        match read::file(&name, &text) {
            Ok(manifests) if manifests.is_empty() && files.contains(&file) => {
                eprintln!("error: {name}: the file holds no policy");
                wrong += 1;
            }
            Ok(manifests) => wrong += manifests.iter().map(|manifest| check(&name, manifest)).sum::<usize>(),
            Err(errors) => {
                wrong += errors.len();
                for error in errors {
                    eprintln!("error: {error}");
                }
            }
        }
    }
    if wrong > 0 {
        eprintln!("{wrong} {}", if wrong == 1 { "error" } else { "errors" });
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// Tells what is wrong with one policy, and returns how much.
fn check(file: &str, manifest: &Manifest) -> usize {
    let prefix = if manifest.is_resource() { "spec." } else { "" };
    let mut wrong = 0;
    if manifest.is_resource() && manifest.selector.is_none() {
        eprintln!("error: {file}: spec.selector: is required; `{{}}` selects every pod of the namespace");
        wrong += 1;
    }
    match mcp_policy::compile(manifest.id.clone(), &manifest.document) {
        Ok(policy) => {
            for warning in policy.warnings() {
                eprintln!("warning: {file}: {prefix}{warning}");
            }
            if wrong == 0 {
                println!("{file}: {} is valid", manifest.id);
            }
        }
        Err(errors) => {
            for error in &errors.0 {
                eprintln!("error: {file}: {prefix}{error}");
            }
            wrong += errors.0.len();
        }
    }
    wrong
}

/// Folders become the policy files in them, in order of their names.
fn expand(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let entries = fs::read_dir(path).with_context(|| format!("failed to read the folder {}", path.display()))?;
        let mut inside = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
        inside.sort();
        inside.retain(|path| {
            path.is_dir() || path.extension().is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension == *known))
        });
        files.extend(expand(&inside)?);
    }
    Ok(files)
}
