//! `mcp-policy-sidecar`: options, logs, run, exit code. Exit codes: 64 configuration, 1 run time.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use mcp_policy_sidecar::config::{Config, ENV_LOG};
use mcp_policy_sidecar::error::{EXIT_CONFIGURATION, EXIT_RUN_TIME, Error};
use mcp_policy_sidecar::{capture, drain, telemetry};
use tokio::signal::unix::{SignalKind, signal};

/// Decides every MCP tool call before the server sees it.
#[derive(Parser)]
#[command(version)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Put the pod's inbound traffic under the sidecar, and exit
    Capture,
    /// Run in a pod; configured by environment variables, see the documentation
    Serve,
    /// Ask the sidecar of this pod to drain, and exit
    Drain,
    /// Guard one server without a cluster
    Run {
        /// Policy file, YAML or JSON; read again when it changes
        #[arg(long, value_name = "FILE")]
        policy: PathBuf,
        /// Address for callers
        #[arg(long, value_name = "ADDR")]
        listen: SocketAddr,
        /// The server, http://host:port, with a path if its endpoint differs from the callers'
        #[arg(long, value_name = "URL")]
        upstream: String,
        /// Address for health and metrics
        #[arg(long, value_name = "ADDR")]
        admin: Option<SocketAddr>,
    },
}

fn main() -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) => {
            // Help and version are no errors; if they cannot be printed there is nobody to tell.
            let _ = error.print();
            return if error.use_stderr() { EXIT_CONFIGURATION.into() } else { ExitCode::SUCCESS };
        }
    };
    match start(options.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            error.downcast_ref::<Error>().map_or(EXIT_RUN_TIME, Error::exit_code).into()
        }
    }
}

fn start(command: Command) -> anyhow::Result<()> {
    let env = |name: &'static str| std::env::var(name).ok();
    telemetry::init(env(ENV_LOG).as_deref()).map_err(Error::from)?;
    let config = match command {
        Command::Capture => {
            capture::load().map_err(Error::from)?;
            tracing::info!("inbound traffic of the pod goes through the sidecar");
            return Ok(());
        }
        Command::Drain => return Ok(runtime()?.block_on(drain::request())?),
        Command::Serve => Config::from_env(env),
        Command::Run { policy, listen, upstream, admin } => Config::standalone(policy, listen, &upstream, admin),
    };
    let config = config.map_err(Error::from)?;
    tracing::info!(?config, "starting");
    runtime()?.block_on(serve(config))
}

/// One thread serves everything: judging a call takes microseconds, and a sidecar must be small.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")
}

async fn serve(config: Config) -> anyhow::Result<()> {
    raise_file_limit();
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let bound = mcp_policy_sidecar::run(config, std::io::stdout())?;
    let drain = bound.drain.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        drain.terminate();
    });
    Ok(bound.finished().await?)
}

/// A caller takes two descriptors, and some systems begin with 1,024.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(cause) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        tracing::warn!(%cause, "cannot raise the limit of open files");
    }
}
