//! One budget over all replicas: counters in a Valkey or Redis that several sidecars share. A call is one round trip, whatever it
//! counts; calls share one connection and do not wait for each other.
//!
//! Guarantees: a call is never granted what the store did not grant; an answer that is lost counts; nothing waits longer than
//! [`PATIENCE`], and nothing at all while the store is known to be away: there is then no connection to wait for. One task keeps the
//! connection, and is the one that tries.
//!
//! Counts can be lost: a store that starts anew, or fails over, may have forgotten calls. It is met before it is asked
//! (`meet.lua`), and while forgotten calls may still be in a window, its counters say so.

mod address;
mod connection;
pub mod script;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use mcp_policy::Want;
use redis::RedisError;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::books::store_metrics::StoreMetrics;
pub use address::{AddressError, StoreAddress};
use connection::Connection;
pub use script::{Answer, Receipt};
use script::{Keys, MEET, REFUND, TAKE};

/// The longest that a call waits for the store.
pub const PATIENCE: Duration = Duration::from_millis(250);
/// Time to connect, to be let in, and to meet.
const MEETING_PATIENCE: Duration = Duration::from_secs(2);
/// How often an idle connection is looked at. Well within the time that there is to object to a store that forgot.
const LOOK: Duration = Duration::from_secs(1);
/// Calls that may wait at one time. A store that does not keep up is not asked for more.
const IN_FLIGHT: usize = 1024;
/// After so many calls in a row that got no answer in time, the connection is given up.
const SILENT: u32 = 3;
/// Waits between attempts: up to a bound that doubles from the first of these to the second.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// What a refused caller is told to wait while the store is away: by then it has been tried again.
pub const RETRY_AFTER_SECONDS: u64 = 2;

/// A shared store. Dropping it closes its connection.
#[derive(Debug)]
pub struct Store {
    shared: Arc<Shared>,
    address: StoreAddress,
    keeper: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    keys: Keys,
    line: ArcSwapOption<Line>,
    /// Told when the line is given up.
    given_up: Notify,
    room: Semaphore,
    metrics: StoreMetrics,
}

/// A connection to a store that was met.
struct Line {
    connection: Connection,
    /// Who serves on it: one process as long as it is open. Empty of a cluster, whose nodes come and go.
    run: String,
    silent: AtomicU32,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Line").finish_non_exhaustive()
    }
}

/// Why the store did not answer.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// There is no connection; one is tried for.
    #[error("there is no connection to the counter store")]
    Away,
    /// Too many calls wait for it already.
    #[error("too many calls wait for the counter store")]
    Busy,
    /// It did not answer in time.
    #[error("the counter store did not answer in time")]
    Silent,
    /// It answered with an error, or the connection broke.
    #[error("the counter store: {0}")]
    Failed(#[from] RedisError),
}

impl Unavailable {
    /// Short name of the kind of error, for metrics.
    fn kind(&self) -> &'static str {
        match self {
            Self::Away => "away",
            Self::Busy => "busy",
            Self::Silent => "timeout",
            Self::Failed(error) => script::kind(error),
        }
    }
}

impl Store {
    /// Begins to keep a connection to the store. `namespace` is that of the server, empty without a cluster: sidecars of one namespace
    /// share counters. To be called within a tokio runtime.
    #[must_use]
    pub fn open(address: StoreAddress, namespace: &str, metrics: StoreMetrics) -> Self {
        let shared = Arc::new(Shared {
            keys: Keys::of(namespace),
            line: ArcSwapOption::empty(),
            given_up: Notify::new(),
            room: Semaphore::new(IN_FLIGHT),
            metrics,
        });
        let keeper = tokio::spawn(keep(Arc::clone(&shared), address.clone()));
        Self { shared, address, keeper }
    }

    /// Where it is, and who it lets in.
    #[must_use]
    pub fn address(&self) -> &StoreAddress {
        &self.address
    }

    /// Whether there is a connection.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.shared.line.load().is_some()
    }

    /// Asks all counters of a call, and takes from them, as each want says, if those of group 0 have room. If no answer comes, it may
    /// have taken all the same.
    pub async fn take(&self, wants: &[Want]) -> Result<Answer, Unavailable> {
        let began = Instant::now();
        let answer = self.shared.take(wants).await;
        match &answer {
            Ok(_) => self.shared.metrics.answered(began.elapsed()),
            Err(unavailable) => self.shared.metrics.failed(unavailable.kind()),
        }
        answer
    }

    /// Gives back what a call took whose tool certainly did not run. Not waited for; what does not arrive counts.
    pub fn refund(&self, receipt: &Receipt) {
        let Some(line) = self.shared.line.load_full().filter(|_| !receipt.0.is_empty()) else { return };
        let (keys, arguments) = script::refund(&self.shared.keys, &line.run, receipt);
        tokio::spawn(async move {
            let mut connection = line.connection.clone();
            let refund = script::run::<i64>(&mut connection, &REFUND, &keys, &arguments);
            if !matches!(timeout(PATIENCE, refund).await, Ok(Ok(_))) {
                tracing::debug!("a call that did not run was not given back to the counter store");
            }
        });
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl Shared {
    async fn take(&self, wants: &[Want]) -> Result<Answer, Unavailable> {
        let line = self.line.load_full().ok_or(Unavailable::Away)?;
        let _room = self.room.try_acquire().map_err(|_| Unavailable::Busy)?;
        let (keys, arguments) = script::take(&self.keys, &line.run, wants);
        let mut connection = line.connection.clone();
        let Ok(answer) = timeout(PATIENCE, script::run::<Vec<i64>>(&mut connection, &TAKE, &keys, &arguments)).await else {
            if line.silent.fetch_add(1, Ordering::Relaxed) + 1 >= SILENT {
                self.give_up(&line, &Unavailable::Silent);
            }
            return Err(Unavailable::Silent);
        };
        let answer = answer.and_then(|answer| script::taken(&self.keys, wants, &answer));
        line.silent.store(0, Ordering::Relaxed);
        answer.map_err(|error| {
            let error = Unavailable::Failed(error);
            self.give_up(&line, &error);
            error
        })
    }

    /// From now on nobody waits for this line.
    fn give_up(&self, line: &Arc<Line>, why: &Unavailable) {
        let current = self.line.load();
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, line)) {
            self.line.store(None);
            self.given_up.notify_one();
            tracing::warn!(%why, "gave up the connection to the counter store");
        }
    }
}

/// Keeps a line, for ever.
async fn keep(shared: Arc<Shared>, address: StoreAddress) {
    // Which process counted for this sidecar last.
    let mut run = String::new();
    let mut bound = BACK_OFF.0;
    loop {
        match timeout(MEETING_PATIENCE, meet(&shared.keys, &address, &mut run)).await {
            Ok(Ok(connection)) => {
                tracing::info!(store = ?address, "connected to the counter store");
                bound = BACK_OFF.0;
                let told = if connection.is_to_one_process() { run.clone() } else { String::new() };
                let line = Arc::new(Line { connection, run: told, silent: AtomicU32::new(0) });
                shared.line.store(Some(Arc::clone(&line)));
                watch(&shared, &line, &run).await;
            }
            Ok(Err(error)) => {
                shared.metrics.failed(script::kind(&error));
                tracing::warn!(store = ?address, %error, "cannot use the counter store; trying again");
            }
            Err(_) => {
                shared.metrics.failed("timeout");
                tracing::warn!(store = ?address, "the counter store does not answer; trying again");
            }
        }
        sleep(bound.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        bound = (bound * 2).min(BACK_OFF.1);
    }
}

/// A new connection to a store that knows which counts this sidecar remembers.
async fn meet(keys: &Keys, address: &StoreAddress, run: &mut String) -> Result<Connection, RedisError> {
    let mut connection = Connection::open(address).await?;
    *run = script::run(&mut connection, &MEET, &[keys.known()], std::slice::from_ref(run)).await?;
    Ok(connection)
}

/// Returns when the line is given up, by a call or because it is dead.
async fn watch(shared: &Shared, line: &Arc<Line>, run: &str) {
    loop {
        tokio::select! {
            () = shared.given_up.notified() => {
                // Perhaps it was told of the line before this one.
                if shared.line.load().is_none() { return }
            }
            () = sleep(LOOK) => {
                let mut connection = line.connection.clone();
                let (keys, arguments) = ([shared.keys.known()], [run.to_owned()]);
                let met = script::run::<String>(&mut connection, &MEET, &keys, &arguments);
                let failed = match timeout(PATIENCE, met).await {
                    Ok(Ok(now)) if now == run => continue,
                    Ok(Ok(_)) => Unavailable::Away,
                    Ok(Err(error)) => Unavailable::Failed(error),
                    Err(_) => Unavailable::Silent,
                };
                shared.metrics.failed(failed.kind());
                shared.give_up(line, &failed);
            }
        }
    }
}
