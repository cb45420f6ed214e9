//! `mcp-policy`: the command line. Reads policies with the code that the operator accepts them with, and decides with the code
//! that the sidecar enforces them with.
//!
//! Exit codes: 0 all is well; 1 a policy is wrong or not enforced everywhere, or a case of a test failed; 2 the command could not be carried out.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "printing is what a command line does")]

mod approvals;
mod caller;
mod check;
mod completion;
mod explain;
mod import;
mod input;
mod key;
mod kubectl;
mod loaded;
mod outcome;
mod report;
mod status;
mod steps;
mod style;
mod table;
mod test;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use clap_complete::Shell;

use crate::report::Format;

/// The name under which `kubectl` finds a plugin that is called as `kubectl mcp-policy`.
const PLUGIN: &str = "kubectl-mcp_policy";

/// The exit code of a command that could not be carried out, as clap has it for wrong arguments.
const NOT_CARRIED_OUT: u8 = 2;

#[derive(Parser)]
#[command(
    name = "mcp-policy",
    version,
    about = "Policy on every tool call that AI agents make to MCP servers",
    after_help = "Exit codes: 0 all is well; 1 a policy is wrong or not enforced everywhere, or a case of a test failed; 2 the command could not be carried out."
)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Check policies as the operator does before it accepts them
    ///
    /// Reads manifests of policies and bare policy documents, in YAML or JSON, and tells every error and warning with its line and
    /// field. Manifests of other kinds are passed over; of test files the form is checked. Exits with 1 if anything is wrong.
    Check {
        /// Files, folders (their .yaml, .yml and .json files, recursively), or - for standard input
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// The form of the output
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
        /// Fail on warnings too
        #[arg(long)]
        strict: bool,
    },
    /// Run the cases of test files against policies
    ///
    /// A test file holds calls and the decisions that are expected of the policies beside it. Time is virtual, so a case that comes
    /// an hour later takes no longer. Exits with 1 if a case fails.
    Test(test::Options),
    /// Tell how one call is decided, step by step, and what would change the answer
    Explain(Box<explain::Options>),
    /// Tell which pods enforce which revision of the policies in a cluster
    ///
    /// Asks kubectl for policies and pods, and each sidecar, by way of the API server, for what it enforces at this moment; that takes
    /// the right to get pods/proxy. Exits with 1 while a selected pod does not enforce the present revision.
    Status(status::Options),
    /// List calls that wait for a person, and approve or deny them
    ///
    /// Who may is for the cluster to say: the verb approve on mcpapprovals. A decision is written in the name that the API server knows.
    Approvals(approvals::Options),
    /// Make, list and revoke keys by which callers prove who they are
    ///
    /// A key is shown once. A Secret, which policies name, has a salted hash of it; who may is for the cluster to say.
    Key(key::Options),
    /// Turn a policy of another gateway into an McpPolicy
    ///
    /// Reads the formats that docs/import.md names, and writes YAML with a comment wherever the meaning differs. What cannot be said
    /// is refused by name; nothing is written then.
    Import {
        /// Files, or - for standard input
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Print a script that makes a shell complete what is typed
    Completion {
        /// The shell
        shell: Shell,
    },
}

/// The command line, under the name that it was called by.
fn command() -> clap::Command {
    let called = std::env::args_os().next().unwrap_or_default();
    let is_plugin = Path::new(&called).file_stem().is_some_and(|stem| stem == PLUGIN);
    let command = Arguments::command();
    // The script that completes is for the word that is typed, and help for what people type.
    if is_plugin { command.name(PLUGIN).display_name("kubectl-mcp-policy").bin_name("kubectl mcp-policy") } else { command }
}

fn main() -> ExitCode {
    let mut command = command();
    let verb = match Arguments::from_arg_matches(&command.get_matches_mut()) {
        Ok(Arguments { verb }) => verb,
        Err(error) => error.exit(),
    };
    let outcome = match verb {
        Verb::Check { files, output, strict } => check::run(&files, output, strict),
        Verb::Test(options) => test::run(&options),
        Verb::Explain(options) => explain::run(&options),
        Verb::Status(options) => status::run(&options),
        Verb::Approvals(options) => approvals::run(&options),
        Verb::Key(options) => key::run(&options),
        Verb::Import { files } => import::run(&files),
        Verb::Completion { shell } => {
            completion::run(shell, &mut command);
            Ok(ExitCode::SUCCESS)
        }
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(NOT_CARRIED_OUT)
    })
}
