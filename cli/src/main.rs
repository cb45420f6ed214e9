//! `mcp-policy`: the command line. Reads policies with the code that the operator accepts them with and the sidecar enforces
//! them with.
//!
//! Exit codes: 0 all is well, 1 a policy is wrong, 2 the command line is.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "printing is what a command line does")]

mod check;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "mcp-policy", version, about = "Policy on every tool call that AI agents make to MCP servers")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Check policies as the operator does before it accepts them
    ///
    /// Reads McpPolicy manifests and bare policy documents, in YAML or JSON. Prints one line for each error and warning, with the file
    /// and the field. Exits with 1 if anything is wrong.
    Check {
        /// Files, folders (their .yaml, .yml and .json files, recursively), or - for standard input
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
}

fn main() -> ExitCode {
    let Arguments { verb } = Arguments::parse();
    let outcome = match verb {
        Verb::Check { files } => check::run(&files),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
