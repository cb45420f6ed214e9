//! Distribution: each governed pod has a feed with its newest snapshot; its sidecar reads the feed over `GET /v1/watch` and
//! answers with `POST /v1/report`. Replicas read each other's tallies over `GET /v1/tally`.
//!
//! Guarantees: a stream begins with the whole state and later carries only the newest (who is slow misses what lies between,
//! never the end). A pod gets its own snapshot and no other: who asks is what its token says.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use futures::stream;
use http::{HeaderMap, StatusCode, header};
use k8s_openapi::jiff::Timestamp;
use serde::Serialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use mcp_policy::Snapshot;
use mcp_policy::approval::{ApprovalAnswer, ApprovalRequest};
use mcp_policy::snapshot::{Report, ReportResult, WatchMessage};
use mcp_policy::token_review::{TokenReviewAnswer, TokenReviewRequest};

use crate::approvals::desk::Desk;
use crate::metrics::{Answer, Metrics, ReportLabels};
use crate::names;
use crate::pod::Pod;
use crate::review::{BoundPod, ReviewError, Reviewer, Sender};
use crate::tally::{Tally, TallyMessage};

/// Sidecars take two missed ones for the end of a stream.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// So that sidecars spread again over the replicas that there are, and each token is looked at again.
const STREAM_LIFE: Duration = Duration::from_hours(1);

/// A sidecar holds one, and for a moment two when it connects anew. Without a bound one pod could fill the operator's memory.
const MAX_STREAMS_PER_POD: usize = 4;
/// Policies that ask about one call, each with the names of its arguments.
const MAX_APPROVALS: usize = 512 * 1024;
/// A token of the longest that a sidecar takes, and its audiences.
const MAX_TOKEN: usize = 32 * 1024;
/// A digest and the errors of a document that does not compile.
const MAX_REPORT: usize = 64 * 1024;

/// The feeds of all governed pods.
#[derive(Debug, Default)]
pub struct Hub {
    feeds: Mutex<HashMap<String, Feed>>,
    is_filled: AtomicBool,
}

#[derive(Debug)]
struct Feed {
    namespace: String,
    name: String,
    newest: watch::Sender<Published>,
    /// When the change came that this snapshot is about, until the sidecar has answered to it.
    unanswered_since: Option<Instant>,
}

/// A snapshot, ready to be sent.
#[derive(Clone, Debug)]
struct Published {
    sha256: Arc<str>,
    line: Bytes,
}

impl Hub {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Feed>> {
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the feeds are those of the cluster, and not yet those of a process that has just begun.
    pub fn is_filled(&self) -> bool {
        self.is_filled.load(Ordering::Relaxed)
    }

    /// Sets the feeds to these pods and snapshots. `since`: when the change of a policy came that led to this, if one did.
    pub fn publish<'a>(&self, pods: impl Iterator<Item = (&'a Pod, &'a Snapshot)>, since: Option<Instant>) {
        let mut feeds = self.lock();
        // Pods under the same policies get the same bytes.
        let mut lines: HashMap<&str, Published> = HashMap::new();
        let mut present = HashSet::new();
        for (pod, snapshot) in pods {
            present.insert(pod.uid.clone());
            let published = lines.entry(&snapshot.sha256).or_insert_with(|| Published {
                sha256: snapshot.sha256.as_str().into(),
                line: line(&WatchMessage::Snapshot(snapshot.clone())),
            });
            let feed = feeds.entry(pod.uid.clone()).or_insert_with(|| Feed {
                namespace: pod.namespace.clone(),
                name: pod.name.clone(),
                newest: watch::Sender::new(published.clone()),
                unanswered_since: None,
            });
            if feed.newest.borrow().sha256 != published.sha256 {
                feed.unanswered_since = since;
                feed.newest.send_replace(published.clone());
            }
        }
        // Dropping a feed ends its stream.
        feeds.retain(|uid, _| present.contains(uid));
        self.is_filled.store(true, Ordering::Relaxed);
    }

    /// The feed of a pod that exists, is governed, and is the one that its token names.
    fn subscribe(&self, pod: &BoundPod) -> Option<watch::Receiver<Published>> {
        let feeds = self.lock();
        feeds.get(&pod.uid).filter(|feed| feed.namespace == pod.namespace && feed.name == pod.name).map(|feed| feed.newest.subscribe())
    }

    /// How many streams of a pod there are, one that is only beginning included.
    fn streams(&self, uid: &str) -> usize {
        self.lock().get(uid).map_or(0, |feed| feed.newest.receiver_count())
    }

    /// Digests of what each governed pod should enforce, by uid.
    #[must_use]
    pub fn digests(&self) -> HashMap<String, Arc<str>> {
        self.lock().iter().map(|(uid, feed)| (uid.clone(), Arc::clone(&feed.newest.borrow().sha256))).collect()
    }

    /// How long it took to the first answer that the newest snapshot is in force. None if it is not of this snapshot, not the
    /// first, or if no change of a policy led to it.
    fn answered(&self, uid: &str, sha256: &str) -> Option<Duration> {
        let mut feeds = self.lock();
        let feed = feeds.get_mut(uid)?;
        if *feed.newest.borrow().sha256 != *sha256 {
            return None;
        }
        feed.unanswered_since.take().map(|since| since.elapsed())
    }
}

fn line(message: &impl Serialize) -> Bytes {
    // These messages are plain data with string keys: writing them cannot fail.
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    line.into()
}

/// What the handlers share.
pub struct Distributor {
    /// The feeds.
    pub hub: Arc<Hub>,
    /// What sidecars answered.
    pub tally: Arc<Tally>,
    /// Who asks.
    pub reviewer: Reviewer,
    /// Namespace of the operator, whose replicas may read the tally.
    pub namespace: String,
    /// Where streams and answers are counted.
    pub metrics: Metrics,
    /// Ends all streams, so that sidecars turn to another replica.
    pub stop: CancellationToken,
    /// Where approvals are asked for.
    pub desk: Desk,
}

/// The routes.
pub fn router(distributor: Arc<Distributor>) -> Router {
    Router::new()
        .route("/v1/watch", get(watch_feed))
        .route("/v1/report", post(report).layer(DefaultBodyLimit::max(MAX_REPORT)))
        .route("/v1/approvals", post(approvals).layer(DefaultBodyLimit::max(MAX_APPROVALS)))
        .route("/v1/token-reviews", post(review_token).layer(DefaultBodyLimit::max(MAX_TOKEN)))
        .route("/v1/tally", get(watch_tally))
        .with_state(distributor)
}

/// Why a request is refused: a status, and one line of text.
struct Refusal(StatusCode, &'static str);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, format!("{}\n", self.1)).into_response()
    }
}

impl From<ReviewError> for Refusal {
    fn from(error: ReviewError) -> Self {
        match error {
            ReviewError::Unauthenticated => {
                Self(StatusCode::UNAUTHORIZED, "a service-account token for audience mcp-policy-operator is needed")
            }
            ReviewError::Unavailable(_) | ReviewError::TimedOut => {
                tracing::warn!(error = &error as &dyn std::error::Error, "failed to review a token");
                Self(StatusCode::SERVICE_UNAVAILABLE, "the token could not be reviewed; try again")
            }
        }
    }
}

const NOT_GOVERNED: Refusal = Refusal(StatusCode::FORBIDDEN, "the token is of no pod that mcp-policy governs");
const NOT_READY: Refusal = Refusal(StatusCode::SERVICE_UNAVAILABLE, "this replica does not know the cluster yet; try again");

impl Distributor {
    async fn feed(&self, headers: &HeaderMap) -> Result<(BoundPod, watch::Receiver<Published>), Refusal> {
        let Sender { pod, .. } = self.reviewer.sender(headers).await?;
        if !self.hub.is_filled() {
            return Err(NOT_READY);
        }
        let pod = pod.ok_or(NOT_GOVERNED)?;
        let feed = self.hub.subscribe(&pod).ok_or(NOT_GOVERNED)?;
        Ok((pod, feed))
    }
}

/// Counts a stream for as long as it lives.
struct OpenStream {
    distributor: Arc<Distributor>,
}

impl OpenStream {
    fn new(distributor: Arc<Distributor>) -> Self {
        distributor.metrics.streams.inc();
        Self { distributor }
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.distributor.metrics.streams.dec();
    }
}

async fn watch_feed(State(distributor): State<Arc<Distributor>>, headers: HeaderMap) -> Result<Response, Refusal> {
    let (pod, mut feed) = distributor.feed(&headers).await?;
    if distributor.hub.streams(&pod.uid) > MAX_STREAMS_PER_POD {
        return Err(Refusal(StatusCode::TOO_MANY_REQUESTS, "the pod has too many streams"));
    }
    // What is there now is the first line.
    feed.mark_changed();
    let stop = distributor.stop.clone();
    let open = OpenStream::new(distributor);
    Ok(ndjson(FeedStream { feed, beat: heartbeat(), end: Instant::now() + STREAM_LIFE, stop, _open: open }, FeedStream::next))
}

struct FeedStream {
    feed: watch::Receiver<Published>,
    beat: Interval,
    end: Instant,
    stop: CancellationToken,
    _open: OpenStream,
}

impl FeedStream {
    async fn next(mut self) -> Option<(Bytes, Self)> {
        let line = tokio::select! {
            biased;
            () = self.stop.cancelled() => return None,
            // An error says that the pod is gone, or no longer governed.
            changed = self.feed.changed() => {
                changed.ok()?;
                self.feed.borrow_and_update().line.clone()
            }
            () = tokio::time::sleep_until(self.end) => return None,
            _ = self.beat.tick() => {
                let sha256 = self.feed.borrow().sha256.as_ref().to_owned();
                line(&WatchMessage::Heartbeat { sha256 })
            }
        };
        Some((line, self))
    }
}

async fn report(State(distributor): State<Arc<Distributor>>, headers: HeaderMap, body: Bytes) -> Result<StatusCode, Refusal> {
    let (pod, _) = distributor.feed(&headers).await?;
    let report: Report = serde_json::from_slice(&body).map_err(|_| Refusal(StatusCode::BAD_REQUEST, "the body is no report"))?;
    let metrics = &distributor.metrics;
    let result = match report.result {
        ReportResult::Ack => {
            // Another replica may have had the first answer. Who connects anew answers again.
            let is_known = distributor.tally.of(&pod.uid).is_some_and(|said| said.enforces.as_ref() == Some(&report.sha256));
            if let Some(time) = distributor.hub.answered(&pod.uid, &report.sha256).filter(|_| !is_known) {
                metrics.propagation.observe(time.as_secs_f64());
            }
            Answer::Ack
        }
        ReportResult::Nack => {
            tracing::warn!(pod.namespace, pod.name, error = report.error, "a sidecar refused its snapshot");
            Answer::Nack
        }
    };
    metrics.reports.get_or_create(&ReportLabels { result }).inc();
    distributor.tally.reported(&pod.uid, report, Timestamp::now().as_millisecond());
    Ok(StatusCode::NO_CONTENT)
}

async fn approvals(State(distributor): State<Arc<Distributor>>, headers: HeaderMap, body: Bytes) -> Result<Json<ApprovalAnswer>, Refusal> {
    let (pod, _) = distributor.feed(&headers).await?;
    let request: ApprovalRequest =
        serde_json::from_slice(&body).map_err(|_| Refusal(StatusCode::BAD_REQUEST, "the body asks for no approval"))?;
    distributor.desk.answer(&pod, &request).await.map(Json).map_err(|error| {
        tracing::warn!(pod.namespace, pod.name, %error, "a call cannot be approved");
        Refusal(StatusCode::SERVICE_UNAVAILABLE, "approvals cannot be read or written; try again")
    })
}

/// Of a token that the sidecar has verified already. It is told no more than it asks.
async fn review_token(
    State(distributor): State<Arc<Distributor>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<TokenReviewAnswer>, Refusal> {
    distributor.feed(&headers).await?;
    let request: TokenReviewRequest =
        serde_json::from_slice(&body).map_err(|_| Refusal(StatusCode::BAD_REQUEST, "the body asks for no review"))?;
    Ok(Json(TokenReviewAnswer { holds: distributor.reviewer.holds(&request).await? }))
}

async fn watch_tally(State(distributor): State<Arc<Distributor>>, headers: HeaderMap) -> Result<Response, Refusal> {
    let sender = distributor.reviewer.sender(&headers).await?;
    if sender.user != names::service_account(&distributor.namespace) {
        return Err(Refusal(StatusCode::FORBIDDEN, "only replicas of the operator read the tally"));
    }
    let (pods, changes) = distributor.tally.subscribe();
    let stop = distributor.stop.clone();
    let first = Some(TallyMessage::Tally { pods });
    Ok(ndjson(TallyStream { first, changes, beat: heartbeat(), stop }, TallyStream::next))
}

struct TallyStream {
    first: Option<TallyMessage>,
    changes: tokio::sync::broadcast::Receiver<TallyMessage>,
    beat: Interval,
    stop: CancellationToken,
}

impl TallyStream {
    async fn next(mut self) -> Option<(Bytes, Self)> {
        if let Some(first) = self.first.take() {
            return Some((line(&first), self));
        }
        let message = tokio::select! {
            () = self.stop.cancelled() => return None,
            change = self.changes.recv() => match change {
                Ok(change) => change,
                // Too slow: who reads must begin anew with the whole.
                Err(RecvError::Lagged(_) | RecvError::Closed) => return None,
            },
            _ = self.beat.tick() => TallyMessage::Heartbeat,
        };
        Some((line(&message), self))
    }
}

fn heartbeat() -> Interval {
    let mut beat = tokio::time::interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Skip);
    beat
}

fn ndjson<S, F>(state: S, next: fn(S) -> F) -> Response
where
    S: Send + 'static,
    F: Future<Output = Option<(Bytes, S)>> + Send + 'static,
{
    let lines = stream::unfold(state, move |state| async move {
        let (line, state) = next(state).await?;
        Some((Ok::<_, Infallible>(line), state))
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}
