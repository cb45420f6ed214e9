//! The binary of the operator: reads the command line, then runs it or asks one that runs.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

use mcp_policy_operator::args::{Args, Command};
use mcp_policy_operator::{check, run, telemetry};

/// Of sysexits.h: the command line is wrong, and a new start would not help.
const USAGE: u8 = 64;

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match args.command {
        Some(Command::Check) => ask(&args.namespace),
        None => match (telemetry::init(&args.log), args.into_config()) {
            (Ok(()), Ok(config)) => serve(config),
            (Err(error), _) => return usage(&error),
            (_, Err(error)) => return usage(&error),
        },
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&format!("mcp-policy-operator: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn serve(config: mcp_policy_operator::args::Config) -> anyhow::Result<()> {
    runtime()?.block_on(run(config)).map_err(Into::into)
}

fn ask(namespace: &str) -> anyhow::Result<()> {
    let told = runtime()?.block_on(async {
        let client = kube::Client::try_default().await.context("failed to configure the Kubernetes client")?;
        anyhow::Ok(check::check(client, namespace).await?)
    })?;
    writeln!(std::io::stdout(), "{told}").context("failed to write the answer")
}

/// The one TLS implementation of the process, before anything can use TLS; then the runtime.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        anyhow::bail!("another crypto provider is installed");
    }
    // Enough for thousands of quiet streams; a node with many cores must not cost as many threads.
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().context("failed to start the runtime")
}

fn usage(error: &dyn std::error::Error) -> ExitCode {
    tell(&format!("mcp-policy-operator: {error}"));
    ExitCode::from(USAGE)
}

/// Where even stderr is closed, nobody is there to be told.
fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
