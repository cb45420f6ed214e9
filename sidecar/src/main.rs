//! `mcp-policy-sidecar`: options, logs, run, exit code. Exit codes: 64 configuration, 1 run time; the server's between a client and a
//! server on stdio.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Write, stderr, stdout};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{ArgGroup, Args, Parser, Subcommand};
use mcp_policy_sidecar::capture;
use mcp_policy_sidecar::config::{Collector, Config, ConfigError, ENV_LOG, Limits, ServerCommand, StdioConfig, UpstreamUrl};
use mcp_policy_sidecar::drain::{self, Drain};
use mcp_policy_sidecar::error::{EXIT_CONFIGURATION, EXIT_RUN_TIME, Error};
use mcp_policy_sidecar::store::StoreAddress;
use mcp_policy_sidecar::telemetry::Log;
use tokio::signal::unix::{SignalKind, signal};

/// Decides every MCP tool call before the server sees it.
#[derive(Parser)]
#[command(version)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

/// The three forms of `run`, which every wrong use of it shows.
const RUN_USAGE: &str = "\
mcp-policy-sidecar run --policy <PATH> --listen <ADDR> --upstream <URL>
       mcp-policy-sidecar run --policy <PATH> --listen <ADDR> -- <COMMAND>...
       mcp-policy-sidecar run --policy <PATH> -- <COMMAND>...";

#[derive(Subcommand)]
enum Command {
    /// Put the pod's inbound traffic under the sidecar, and exit
    Capture,
    /// Run in a pod; configured by environment variables, see the documentation
    Serve,
    /// Ask the sidecar of this pod to drain, and exit
    Drain,
    /// Guard one server without a cluster.
    ///
    /// In front of a server that speaks HTTP, with --listen and --upstream. Or with a server that speaks MCP on its standard input and
    /// output: it is started, and offered over HTTP at --listen; without --listen, callers are whoever starts this program and speaks MCP
    /// to it, as desktop clients do.
    #[command(override_usage = RUN_USAGE)]
    Run(Box<Run>),
}

/// The options of `run`.
#[derive(Args)]
#[command(group(ArgGroup::new("server").args(["upstream", "command"]).required(true)))]
struct Run {
    /// Policy file, YAML or JSON, or a folder of them; read again when they change
    #[arg(long, value_name = "PATH")]
    policy: PathBuf,
    /// Address for callers over HTTP; without it they speak on standard input and output
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// The server, `http://host:port` or `https://host`, with a path if its endpoint differs from the callers'
    #[arg(long, value_name = "URL", requires = "listen")]
    upstream: Option<String>,
    /// Path of the event stream, mostly /sse, of a server that speaks the older HTTP+SSE transport of 2024-11-05
    #[arg(long, value_name = "PATH", requires = "upstream")]
    sse_path: Option<String>,
    /// Address for health and metrics
    #[arg(long, value_name = "ADDR")]
    admin: Option<SocketAddr>,
    /// Counter store that several sidecars share, redis://host:port, or with rediss, +sentinel or +cluster; without it each counts by
    /// itself
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Folder with `username`, `password`, `sentinel-username`, `sentinel-password` and `ca.crt` of the store, those that it needs
    #[arg(long, value_name = "FOLDER", requires = "store")]
    store_credentials: Option<PathBuf>,
    /// File to which audit lines are appended; without it they go to standard output, or to standard error where that is MCP's
    #[arg(long, value_name = "FILE")]
    audit: Option<PathBuf>,
    /// The server on stdio, and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
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
    let (log, filter) = match Log::start(env(ENV_LOG).as_deref()) {
        Ok(started) => started,
        Err(cause) => {
            // If even that cannot be told, the exit code is what is left.
            let _ = writeln!(stderr(), "cannot log: {cause}");
            return EXIT_RUN_TIME.into();
        }
    };
    let code = filter.map_err(|error| Error::from(error).into()).and_then(|()| start(options.command)).unwrap_or_else(|error| {
        tracing::error!("{error:#}");
        error.downcast_ref::<Error>().map_or(EXIT_RUN_TIME, Error::exit_code)
    });
    log.finish();
    code.into()
}

fn env(name: &'static str) -> Option<String> {
    std::env::var(name).ok()
}

/// Returns the exit code.
fn start(command: Command) -> anyhow::Result<u8> {
    match command {
        Command::Capture => {
            capture::load().map_err(Error::from)?;
            tracing::info!("inbound traffic of the pod goes through the sidecar");
            Ok(0)
        }
        Command::Drain => Ok(runtime()?.block_on(drain::request()).map(|()| 0).map_err(Error::from)?),
        Command::Serve => serve(Config::from_env(env), stdout()),
        Command::Run(run) => guard(*run),
    }
}

/// Guards one server, in the form that the options ask for.
fn guard(run: Run) -> anyhow::Result<u8> {
    let Run { policy, listen, upstream, sse_path, admin, store, store_credentials, audit, command } = run;
    let mut command = command.into_iter();
    let server = command.next().map(|program| ServerCommand { program, arguments: command.collect() });
    let store = store
        .map(|url| StoreAddress::read(&url, store_credentials.as_deref()).map_err(ConfigError::from))
        .transpose()
        .map_err(Error::from)?;
    let audit = audit.map(|path| append_to(&path)).transpose()?;
    let collector = Collector::from_env(env).map_err(Error::from)?;
    let sharing = |config: Config| Config { store: store.clone(), collector: collector.clone(), ..config };
    match (listen, upstream, server) {
        (Some(listen), Some(url), _) => {
            let upstream = UpstreamUrl::parse(&url).and_then(|upstream| upstream.with_sse_path(sse_path));
            serve(upstream.map(|upstream| sharing(Config::standalone(policy, listen, upstream, admin))), or(audit, stdout()))
        }
        (Some(listen), None, Some(server)) => serve(Ok(sharing(Config::offering(policy, listen, server, admin))), or(audit, stdout())),
        (None, _, Some(server)) => {
            let config = StdioConfig { policy, store, collector, server, admin, limits: Limits::default() };
            converse(config, or(audit, stderr()))
        }
        // What clap has not let through.
        (_, _, None) => anyhow::bail!("no server"),
    }
}

fn append_to(path: &Path) -> Result<File, Error> {
    let opened = File::options().append(true).create(true).open(path);
    opened.map_err(|cause| ConfigError::Audit { path: path.to_owned(), reason: cause.to_string() }.into())
}

/// Where audit lines go.
fn or(file: Option<File>, otherwise: impl Write + Send + 'static) -> Box<dyn Write + Send> {
    file.map_or_else(|| Box::new(otherwise) as _, |file| Box::new(file) as _)
}

/// One thread serves everything: judging a call takes microseconds, and a sidecar must be small.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")
}

/// Serves callers over HTTP, until a signal.
fn serve(config: Result<Config, ConfigError>, audit: impl Write + Send + 'static) -> anyhow::Result<u8> {
    let config = config.map_err(Error::from)?;
    tracing::info!(?config, "starting");
    runtime()?.block_on(async {
        raise_file_limit();
        let bound = mcp_policy_sidecar::run(config, audit)?;
        end_on_signal(bound.drain.clone())?;
        bound.finished().await?;
        Ok(0)
    })
}

/// Speaks with one client on standard input and output, until the server ends, the client is gone, or a signal.
fn converse(config: StdioConfig, audit: impl Write + Send + 'static) -> anyhow::Result<u8> {
    tracing::info!(?config, "starting");
    let runtime = runtime()?;
    let outcome = runtime.block_on(async {
        let pair = mcp_policy_sidecar::run_stdio(config, audit, tokio::io::stdin(), tokio::io::stdout())?;
        end_on_signal(pair.drain.clone())?;
        Ok(pair.finished().await?)
    });
    // A thread may still wait for the client's next line.
    runtime.shutdown_background();
    outcome
}

fn end_on_signal(drain: Drain) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        drain.terminate();
    });
    Ok(())
}

/// A caller takes two descriptors, and some systems begin with 1,024.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(cause) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        tracing::warn!(%cause, "cannot raise the limit of open files");
    }
}
