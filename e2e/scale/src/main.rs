//! `make scale`: the operator with thousands of governed pods. The API server and the operator are real; the pods are never scheduled,
//! and of each sidecar only its conversation with the operator runs: the sidecar's own code, with a token of the pod.
//!
//! Prints one row of the tables in docs/performance.md.

mod fleet;
mod metrics;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Parser;
use fleet::Fleet;
use kube::Client;
use mcp_policy::PolicyId;
use mcp_policy_sidecar::state::State;
use tokio::time::{interval, timeout};

/// Longer than this takes nothing.
const PATIENCE: Duration = Duration::from_mins(5);

/// Measures the operator under thousands of governed pods, and prints rows in Markdown.
#[derive(Clone, Debug, Parser)]
pub struct Options {
    /// Namespaces, among which policies and pods are spread
    #[arg(long, default_value_t = 100)]
    namespaces: usize,
    /// Policies, each of which selects an equal share of the pods
    #[arg(long, default_value_t = 500)]
    policies: usize,
    /// Governed pods
    #[arg(long, default_value_t = 5000)]
    pods: usize,
    /// Of these, how many a cluster policy selects that is changed and waited for
    #[arg(long, default_value_t = 500)]
    fleet: usize,
    /// Changes of that policy
    #[arg(long, default_value_t = 20)]
    changes: usize,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    ensure!(
        options.fleet <= options.pods && options.namespaces <= options.policies,
        "more of the fleet than pods, or namespaces without a policy"
    );
    let client = Client::try_default().await.context("no cluster")?;
    let fleet = Fleet::new(client.clone(), options.clone())?;
    let measured = measure(&client, &fleet, &options).await;
    eprintln!("removing what was made");
    fleet.remove().await?;
    println!("{}", measured?);
    Ok(())
}

async fn measure(client: &Client, fleet: &Fleet, options: &Options) -> anyhow::Result<String> {
    eprintln!("{} policies in {} namespaces", options.policies, options.namespaces);
    fleet.create_policies().await?;
    eprintln!("{} pods", options.pods);
    let began = Instant::now();
    fleet.create_pods().await?;
    eprintln!("  in {:.0} s; now their sidecars", began.elapsed().as_secs_f64());
    let sidecars = fleet.start_sidecars().await?;
    let guard = PolicyId::new(None, fleet::GUARD);
    let of_fleet = &sidecars[..options.fleet];
    until_enforced(&sidecars, None).await.context("the sidecars got no snapshot")?;
    let requests = metrics::api_requests(client).await?;
    let before = metrics::operator(client).await?;
    let changing = Instant::now();
    let mut last = Vec::new();
    let mut each = Vec::new();
    for change in 1..=options.changes {
        let began = Instant::now();
        let generation = fleet.change_guard(change).await?;
        let times = until_enforced(of_fleet, Some((&guard, generation, began))).await.context("a change did not arrive")?;
        last.push(times.iter().copied().max().unwrap_or_default());
        each.extend(times);
        // The status follows within a second; the next change must not overtake it.
        fleet.until_programmed(generation).await?;
    }
    let after = metrics::api_requests(client).await?;
    let time = changing.elapsed();
    // The kubelet reads every few seconds: what it tells by now is of these changes.
    let replicas = metrics::operator(client).await?;
    let shares = replicas.iter().zip(&before).map(|((_, cpu, at), (_, cpu_before, before))| (cpu - cpu_before) / (at - before).max(0.001));
    let cpu = shares.sum::<f64>() * time.as_secs_f64() * 1000.0 / f64::from(u32::try_from(options.changes)?);
    let admission = metrics::admission_p99(client).await?;
    let milliseconds = |time: Duration| time.as_millis();
    Ok(format!(
        "| {} | {} | {} | {} ms | {} ms | {} ms | {} ms | {:.1} | {cpu:.0} ms | {} MiB |",
        options.pods,
        options.policies,
        options.fleet,
        milliseconds(quantile(&mut each, 0.5)),
        milliseconds(quantile(&mut each, 0.99)),
        milliseconds(quantile(&mut last, 0.5)),
        milliseconds(quantile(&mut last, 0.99)),
        f64::from(u32::try_from(after - requests)?) / f64::from(u32::try_from(options.changes)?),
        replicas.iter().map(|(bytes, ..)| (bytes / 1024 / 1024).to_string()).collect::<Vec<_>>().join(" and "),
    ) + &format!(" {admission} |"))
}

/// Waits until all of these enforce a generation of a policy, or any snapshot: how long each took since the change began.
async fn until_enforced(sidecars: &[Arc<State>], change: Option<(&PolicyId, i64, Instant)>) -> anyhow::Result<Vec<Duration>> {
    let is_there = |state: &State| match change {
        None => state.enforced().snapshot.is_some(),
        Some((policy, generation, _)) => state.enforced().revision(policy).is_some_and(|one| *one.revision == generation.to_string()),
    };
    let mut waiting: Vec<_> = sidecars.iter().collect();
    let mut times = Vec::with_capacity(sidecars.len());
    let arrive = async {
        let mut turn = interval(Duration::from_millis(2));
        while !waiting.is_empty() {
            turn.tick().await;
            waiting.retain(|state| {
                let arrived = is_there(state);
                if arrived {
                    times.push(change.map(|(_, _, began)| began.elapsed()).unwrap_or_default());
                }
                !arrived
            });
        }
    };
    timeout(PATIENCE, arrive).await?;
    Ok(times)
}

/// The value below which this share lies.
fn quantile(times: &mut [Duration], share: f64) -> Duration {
    times.sort_unstable();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a place in a short list")]
    let place = ((times.len() as f64 * share).ceil() as usize).clamp(1, times.len().max(1));
    times.get(place - 1).copied().unwrap_or_default()
}
