//! `make bench`: the sidecar beside other proxies, in turns on one machine, as tables of ratios. Each round measures every contestant
//! with every load, so that what else the machine does meets them alike; tables show the median round, and how far rounds were apart.
//!
//! Figures that noise hardly touches: processor time for each call, and memory.

mod contestant;
mod load;
mod table;
mod upstream;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use contestant::{Contestant, Kind, Memory, Programs, free_address};
use load::{Form, SIZES, Shape};
use table::Cell;

/// Streams that are open and silent while memory is measured.
const IDLE_STREAMS: usize = 1000;

/// Measures the sidecar beside other proxies, and prints tables in Markdown.
#[derive(Parser)]
struct Options {
    /// Every load, and more rounds: an hour instead of minutes
    #[arg(long)]
    full: bool,
    /// Where `bench/install` put the others
    #[arg(long, default_value = "target/bench", value_name = "DIR")]
    installed: PathBuf,
    /// Only the sidecar, under load for three seconds of each half minute, for so many minutes, and its memory
    #[arg(long, value_name = "MINUTES")]
    soak: Option<u32>,
    /// The sidecar's binary
    #[arg(long, default_value = "target/release/mcp-policy-sidecar", value_name = "FILE")]
    sidecar: PathBuf,
    /// Only be the server, at this address
    #[arg(long, value_name = "ADDR")]
    serve: Option<SocketAddr>,
    /// Only call what listens at this address, one call after the other
    #[arg(long, value_name = "ADDR")]
    call: Option<SocketAddr>,
    /// How many times
    #[arg(long, default_value_t = 1, value_name = "COUNT")]
    times: usize,
}

/// The server's process.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    // Looks at its sockets often: calls at a fixed rate wait by yielding, and must not keep answers waiting.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().event_interval(5).build()?;
    match (options.serve, options.call) {
        (Some(address), _) => runtime.block_on(upstream::serve(address)),
        (None, Some(address)) => runtime.block_on(load::times(address, options.times)),
        (None, None) => runtime.block_on(measure(&options)),
    }
}

async fn measure(options: &Options) -> anyhow::Result<()> {
    let upstream = free_address()?;
    let server = Command::new(std::env::current_exe()?).args(["--serve", &upstream.to_string()]).stdin(Stdio::null()).spawn()?;
    let _server = Server(server);
    let programs = Programs { installed: options.installed.clone(), sidecar: options.sidecar.clone() };
    if let Some(minutes) = options.soak {
        return soak(minutes, &programs, upstream).await;
    }

    let mut contestants = Vec::new();
    let mut idle = Vec::new();
    for kind in Kind::ALL {
        if !programs.have(kind) {
            println!("{} is not installed and does not take part: see bench/install.\n", kind.name());
            continue;
        }
        let contestant = Contestant::start(kind, &programs, upstream).await?;
        idle.push(contestant.memory()?);
        contestants.push(contestant);
    }
    let names: Vec<_> = contestants.iter().map(|contestant| contestant.kind.name()).collect();
    let (rounds, time) = if options.full { (9, Duration::from_secs(3)) } else { (5, Duration::from_millis(500)) };
    for (number, shape) in shapes(options.full).into_iter().enumerate() {
        let mut cells: Vec<Cell> = contestants.iter().map(|_| Cell::default()).collect();
        for _ in 0..rounds {
            for (contestant, cell) in contestants.iter().zip(&mut cells) {
                let before = contestant.cpu()?;
                let found = load::run(contestant.address, shape, time).await;
                let found = found.with_context(|| format!("{}, {shape:?}", contestant.kind.name()))?;
                let cpu = contestant.cpu()?.saturating_sub(before);
                cell.add(&found, cpu);
            }
        }
        if number == 0 {
            println!("{}", table::HEAD);
        }
        println!("{}", table::of(&shape, &names, &cells));
    }
    memory(&contestants, &idle, &programs, upstream).await
}

/// The loads.
fn shapes(full: bool) -> Vec<Shape> {
    let closed = |connections, size, form| Shape { connections, size, form, rate: None };
    let open = |connections, rate| Shape { connections, size: SIZES[0], form: Form::Json, rate: Some(rate) };
    let mut shapes = Vec::new();
    if full {
        for form in [Form::Json, Form::Events] {
            for size in SIZES {
                shapes.extend([1, 32, 256].map(|connections| closed(connections, size, form)));
            }
        }
        shapes.extend([open(1, 500.0), open(32, 1000.0), open(256, 1000.0)]);
    } else {
        shapes.extend([1, 32, 256].map(|connections| closed(connections, SIZES[0], Form::Json)));
        shapes.extend([closed(32, SIZES[1], Form::Json), closed(1, SIZES[2], Form::Json), closed(32, SIZES[0], Form::Events)]);
        shapes.push(open(32, 1000.0));
    }
    shapes
}

/// Start and memory.
async fn memory(contestants: &[Contestant], idle: &[Memory], programs: &Programs, upstream: SocketAddr) -> anyhow::Result<()> {
    println!(
        "\n| | start to first answer | MiB resident at rest (of it no file) | after the loads | with {IDLE_STREAMS} idle streams |\n|---|---|---|---|---|"
    );
    for (contestant, idle) in contestants.iter().zip(idle) {
        let Some(ready) = contestant.ready else { continue };
        // On a new process: memory that a load took is mostly kept.
        let fresh = Contestant::start(contestant.kind, programs, upstream).await?;
        let _streams = load::streams(fresh.address, IDLE_STREAMS).await.with_context(|| contestant.kind.name())?;
        let streaming = fresh.memory()?;
        println!(
            "| {} | {:.0} ms | {} | {} | {streaming} |",
            contestant.kind.name(),
            ready.as_secs_f64() * 1e3,
            idle,
            contestant.memory()?,
        );
    }
    Ok(())
}

/// The memory of a sidecar that is used for a long time.
async fn soak(minutes: u32, programs: &Programs, upstream: SocketAddr) -> anyhow::Result<()> {
    let sidecar = Contestant::start(Kind::On, programs, upstream).await?;
    let shape = Shape { connections: 32, size: SIZES[0], form: Form::Json, rate: None };
    println!("| minutes | calls so far | MiB resident (of it no file) |\n|---|---|---|\n| 0 | 0 | {} |", sidecar.memory()?);
    let mut calls = 0;
    for half in 1..=2 * minutes {
        let next = tokio::time::Instant::now() + Duration::from_secs(30);
        calls += load::run(sidecar.address, shape, Duration::from_secs(3)).await?.calls;
        println!("| {:.1} | {calls} | {} |", f64::from(half) / 2.0, sidecar.memory()?);
        tokio::time::sleep_until(next).await;
    }
    Ok(())
}
