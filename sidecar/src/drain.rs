//! The end of the sidecar, in steps: say so, stop accepting, let what runs finish, cut off what does not.
//!
//! 1. Announced, by the pod's `preStop` hook or by SIGTERM: not ready, new connections are still taken, every answer says
//!    `connection: close`, until the pod's endpoints have forgotten it.
//! 2. Closing: no new connections, idle ones are closed, streams without an end of their own end between two events.
//! 3. At the deadline: streams that answer something are told so, and end between two events.
//! 4. Aborting, a second later: what still runs is cut off.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;

use crate::config::{ADMIN_PORT, DrainTimes};

/// Time for the last words on a stream to reach its client.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The steps, and the connections that have to take them. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    announced: Arc<OnceLock<Instant>>,
    terminating: CancellationToken,
    closing: CancellationToken,
    deadline: CancellationToken,
    aborting: CancellationToken,
    connections: TaskTracker,
}

impl Drain {
    /// Begins the first step and returns at once.
    pub fn announce(&self) {
        if self.announced.set(Instant::now()).is_ok() {
            tracing::info!("draining: not ready, answers close their connections");
        }
    }

    /// Whether the end was announced.
    #[must_use]
    pub fn is_announced(&self) -> bool {
        self.announced.get().is_some()
    }

    /// Begins all steps: the process is to end.
    pub fn terminate(&self) {
        self.announce();
        self.terminating.cancel();
    }

    /// Whether the process is to end.
    #[must_use]
    pub fn is_terminating(&self) -> bool {
        self.terminating.is_cancelled()
    }

    /// Ends when the process is to end.
    pub fn terminating(&self) -> WaitForCancellationFutureOwned {
        self.terminating.clone().cancelled_owned()
    }

    /// Ends when the second step begins.
    pub fn closing(&self) -> WaitForCancellationFutureOwned {
        self.closing.clone().cancelled_owned()
    }

    /// Ends when the third step begins.
    pub fn deadline(&self) -> WaitForCancellationFutureOwned {
        self.deadline.clone().cancelled_owned()
    }

    /// Runs a connection, which the end waits for until its deadline.
    pub fn spawn(&self, connection: impl Future<Output = ()> + Send + 'static) {
        let aborting = self.aborting.clone();
        self.connections.spawn(async move {
            tokio::select! {
                () = connection => {}
                () = aborting.cancelled() => {}
            }
        });
    }

    /// Waits for [`Drain::terminate`], takes the steps, and returns when no connection is left.
    pub async fn run(&self, times: DrainTimes) {
        self.terminating.cancelled().await;
        let announced = *self.announced.get_or_init(Instant::now);
        sleep_until(announced + times.announce).await;
        self.closing.cancel();
        self.connections.close();
        if timeout(times.deadline, self.connections.wait()).await.is_err() {
            tracing::warn!(connections = self.connections.len(), "the drain deadline is over: ending what still runs");
            self.deadline.cancel();
            if timeout(LAST_WORDS, self.connections.wait()).await.is_err() {
                self.aborting.cancel();
                self.connections.wait().await;
            }
        }
        tracing::info!("drained");
    }
}

/// The running sidecar could not be asked to drain.
#[derive(Debug, thiserror::Error)]
#[error("cannot reach the sidecar to drain it: {0}")]
pub struct NotAsked(String);

/// Asks the sidecar of this pod to announce its end: the `preStop` hook.
pub async fn request() -> Result<(), NotAsked> {
    let failed = |cause: &dyn ToString| NotAsked(cause.to_string());
    let stream = TcpStream::connect(("127.0.0.1", ADMIN_PORT)).await.map_err(|cause| failed(&cause))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|cause| failed(&cause))?;
    tokio::spawn(connection);
    let request =
        http::Request::post("/drain").header("host", "127.0.0.1").body(Empty::<bytes::Bytes>::new()).map_err(|cause| failed(&cause))?;
    let response = sender.send_request(request).await.map_err(|cause| failed(&cause))?;
    if response.status().is_success() { Ok(()) } else { Err(failed(&response.status())) }
}
