//! Keeps the keys of issuers current: those that policies name, and no others. Each replica reads for itself.
//!
//! Keys are read when a policy first names their issuer and then in a rhythm of the operator's own. Nothing that a caller sends makes
//! the operator ask anybody.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use kube::Client;
use mcp_policy::authentication::Authentication;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::fetch::{self, FetchError};
use super::jwks::{DocumentError, public_keys};
use super::{IssuerKeys, Source};
use crate::error::chain;
use crate::metrics::{Metrics, ReadResult};
use crate::world::{Part, World};

/// After the first failure; then twice as long each time, up to the rhythm.
const RETRY: Duration = Duration::from_secs(5);
/// The API server has this long to tell its keys.
const REQUEST: Duration = Duration::from_secs(5);
/// A pause is up to a tenth longer or shorter, so that the replicas do not ask at one moment.
const JITTER: f64 = 0.1;

/// Keeps the keys of issuers.
pub struct Issuers {
    /// How the cluster's own keys are read.
    pub client: Client,
    /// Where the policies are, and where the keys go.
    pub world: Arc<World>,
    /// Told when policies change.
    pub changes: watch::Receiver<()>,
    /// Told when sidecars have to know other keys.
    pub refreshed: watch::Sender<()>,
    /// How often keys are read.
    pub refresh: Duration,
    /// Whether issuers may have private addresses.
    pub allow_private: bool,
    /// Where failures are counted.
    pub metrics: Metrics,
}

/// When an issuer is asked next.
#[derive(Clone, Copy, Debug)]
struct Turn {
    /// None while it is being asked.
    due: Option<Instant>,
    failures: u32,
    is_first: bool,
}

type Reading = Pin<Box<dyn Future<Output = (Source, Result<IssuerKeys, String>)> + Send>>;

impl Issuers {
    /// Runs until its future is dropped, or the policies are no longer followed.
    pub async fn run(mut self) {
        let mut turns: BTreeMap<Source, Turn> = BTreeMap::new();
        let mut running = FuturesUnordered::<Reading>::new();
        loop {
            // Asked first: a policy that comes in between is in the next turn.
            let are_policies_read = self.world.has(Part::Policies) && self.world.has(Part::ClusterPolicies);
            self.follow_policies(&mut turns);
            let now = Instant::now();
            for (source, turn) in turns.iter_mut().filter(|(_, turn)| turn.due.is_some_and(|due| due <= now)) {
                turn.due = None;
                running.push(self.read(source.clone()));
            }
            if !self.world.has(Part::Issuers) && are_policies_read && turns.values().all(|turn| !turn.is_first) {
                self.world.mark_read(Part::Issuers);
                self.refreshed.send_replace(());
            }
            let next = turns.values().filter_map(|turn| turn.due).min();
            tokio::select! {
                Some((source, read)) = running.next() => self.take(source, read, &mut turns),
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
                changed = self.changes.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Those that policies name are asked, at first at once; the others are forgotten.
    fn follow_policies(&self, turns: &mut BTreeMap<Source, Turn>) {
        let named: BTreeSet<Source> = {
            let policies = self.world.policies();
            let of_policies = policies.iter().filter_map(|policy| policy.authentication());
            of_policies.chain(policies.callers.for_all.as_deref()).flat_map(sources).collect()
        };
        if turns.keys().eq(named.iter()) {
            return;
        }
        turns.retain(|source, _| named.contains(source));
        self.world.policies_mut().callers.retain(|source| named.contains(source));
        for source in named {
            turns.entry(source).or_insert(Turn { due: Some(Instant::now()), failures: 0, is_first: true });
        }
    }

    fn read(&self, source: Source) -> Reading {
        let (client, allow_private) = (self.client.clone(), self.allow_private);
        Box::pin(async move {
            let read = match &source {
                Source::Cluster => timeout(REQUEST, of_cluster(&client)).await.unwrap_or(Err(ReadError::Timeout)),
                Source::Issuer { issuer, jwks_uri, ca_bundle } => {
                    fetch::keys(issuer, jwks_uri.as_deref(), ca_bundle.as_deref(), allow_private).await.map_err(ReadError::from)
                }
            };
            (source, read.map_err(|error| chain(&error)))
        })
    }

    fn take(&self, source: Source, read: Result<IssuerKeys, String>, turns: &mut BTreeMap<Source, Turn>) {
        // Nobody names it any more.
        let Some(turn) = turns.get_mut(&source) else { return };
        let result = if read.is_ok() { ReadResult::Read } else { ReadResult::Failed };
        self.metrics.issuer_read(result);
        turn.is_first = false;
        turn.failures = if read.is_ok() { 0 } else { turn.failures + 1 };
        turn.due = Some(Instant::now() + pause(self.refresh, turn.failures, fastrand::f64()));
        match &read {
            Ok(_) => tracing::debug!(%source, "read the keys of an issuer"),
            Err(trouble) => tracing::warn!(%source, trouble, "failed to read the keys of an issuer; it is tried again"),
        }
        let is_new = self.world.policies_mut().callers.learn(source, read);
        self.metrics.set_failing_issuers(turns.values().filter(|turn| turn.failures > 0).count());
        if is_new {
            self.refreshed.send_replace(());
        }
    }
}

/// Until an issuer is asked again; `random` is from 0 to 1.
fn pause(refresh: Duration, failures: u32, random: f64) -> Duration {
    let plain = match failures {
        0 => refresh,
        failures => RETRY.saturating_mul(1 << (failures - 1).min(16)).min(refresh),
    };
    plain.mul_f64(1.0 - JITTER + 2.0 * JITTER * random)
}

/// The issuers that a policy or an installation names.
fn sources(said: &Authentication) -> impl Iterator<Item = Source> {
    said.service_accounts.iter().map(|_| Source::Cluster).chain(said.jwt.iter().map(Source::from))
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster => f.write_str("the cluster"),
            Self::Issuer { issuer, .. } => f.write_str(issuer),
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error("no answer within {} seconds", REQUEST.as_secs())]
    Timeout,
    #[error("the API server did not tell")]
    Cluster(#[from] kube::Error),
    #[error("the API server does not name its issuer")]
    NoIssuer,
    #[error("failed to write a request")]
    Request(#[from] http::Error),
    #[error(transparent)]
    Document(#[from] DocumentError),
    #[error(transparent)]
    Fetch(#[from] FetchError),
}

/// What the API server signs tokens with. Its discovery document may send others elsewhere for the keys; here they are at a path of
/// its own.
async fn of_cluster(client: &Client) -> Result<IssuerKeys, ReadError> {
    let get = |path: &str| http::Request::get(path).body(Vec::new());
    let discovery: Value = client.request(get("/.well-known/openid-configuration")?).await?;
    let issuer = discovery.get("issuer").and_then(Value::as_str).ok_or(ReadError::NoIssuer)?.to_owned();
    let jwks = public_keys(&client.request(get("/openid/v1/jwks")?).await?)?;
    Ok(IssuerKeys { issuer, jwks })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_that_fails_is_asked_sooner_and_then_ever_later() {
        let refresh = Duration::from_mins(5);
        let seconds: Vec<_> = (0..9).map(|failures| pause(refresh, failures, 0.5).as_secs()).collect();
        assert_eq!(seconds, [300, 5, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!((pause(refresh, 0, 0.0).as_secs(), pause(refresh, 0, 1.0).as_secs()), (270, 330));
        assert_eq!(pause(Duration::from_secs(2), u32::MAX, 0.5).as_secs(), 2);
    }
}
