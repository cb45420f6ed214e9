//! Tells somebody outside of the cluster of each call that waits for a person: a message is posted, and posted again until it is taken.
//!
//! Guarantees: nothing waits for who is told; what waits to be told is bounded; a message that was posted twice has the same id. What
//! cannot be told in time is counted and forgotten: approvals are listed whether somebody was told of them or not.

pub mod message;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use bytes::Bytes;
use futures::StreamExt;
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{Request, StatusCode, Uri};
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use k8s_openapi::jiff::Timestamp;
use rustls::ClientConfig;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::resource::McpApproval;
use crate::metrics::{Metrics, Notified};
use crate::names::AGENT;
use crate::tls::public_roots;
use message::{Form, SigningKey};

const URL: &str = "url";
const SIGNING_SECRET: &str = "signing-secret";
/// Messages that wait to be told.
const QUEUE: usize = 1000;
/// Messages that are posted at one time, or wait to be posted again.
const CONCURRENT: usize = 16;
/// For each post.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Waits between the posts of one message: from the first of these, doubled up to the second.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));
const ATTEMPTS: u32 = 8;

/// Whom to tell, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A folder with `url`, where messages are posted to, and with `signing-secret`, if they are signed. Read for each post, so that both can
    /// change.
    pub folder: PathBuf,
    /// How messages are written.
    pub form: Form,
}

impl Settings {
    fn url(&self) -> Result<Uri, PostError> {
        let text = fs::read_to_string(self.folder.join(URL)).map_err(|cause| PostError::File { file: URL, cause })?;
        // Not repeated: the URLs of some services are secrets.
        text.trim().parse().map_err(|_| PostError::Url)
    }

    fn key(&self) -> Result<Option<SigningKey>, PostError> {
        match fs::read_to_string(self.folder.join(SIGNING_SECRET)) {
            Ok(text) => Ok(Some(SigningKey::read(&text))),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(PostError::File { file: SIGNING_SECRET, cause }),
        }
    }
}

/// Where messages are left. Clones leave them at the same place.
#[derive(Clone)]
pub struct Notifier {
    queue: mpsc::Sender<Arc<McpApproval>>,
    metrics: Metrics,
}

impl Notifier {
    /// The place, and what posts from there: it runs until its future is dropped.
    pub fn new(settings: Settings, metrics: Metrics) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let (queue, messages) = mpsc::channel(QUEUE);
        let post = Post { client: client(), settings, metrics: metrics.clone() };
        (Self { queue, metrics }, post.run(messages))
    }

    /// Has people told of an approval.
    pub fn tell(&self, approval: Arc<McpApproval>) {
        if self.queue.try_send(approval).is_err() {
            self.metrics.notified(Notified::Dropped);
            tracing::warn!("too many messages about approvals wait to be told; one is dropped");
        }
    }
}

type Web = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

fn client() -> Web {
    let config = ClientConfig::builder().with_root_certificates(public_roots()).with_no_client_auth();
    let connector = HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1().build();
    Client::builder(TokioExecutor::new()).build(connector)
}

/// Why a post was not taken.
#[derive(Debug, thiserror::Error)]
enum PostError {
    #[error("failed to read {file}: {cause}")]
    File { file: &'static str, cause: io::Error },
    #[error("`url` is not a URL")]
    Url,
    #[error("failed to write the request: {0}")]
    Request(#[from] http::Error),
    #[error("failed to post: {0}")]
    Exchange(#[from] hyper_util::client::legacy::Error),
    #[error("the answer was {0}")]
    Refused(StatusCode),
    #[error("no answer in time")]
    TimedOut,
}

struct Post {
    client: Web,
    settings: Settings,
    metrics: Metrics,
}

impl Post {
    async fn run(self, messages: mpsc::Receiver<Arc<McpApproval>>) {
        let messages = futures::stream::unfold(messages, async |mut messages| Some((messages.recv().await?, messages)));
        messages.for_each_concurrent(CONCURRENT, |approval| self.tell(approval)).await;
        // All who could leave a message are gone: the process ends.
        std::future::pending::<()>().await;
    }

    /// Posts until it is taken, there was enough of it, or nobody can answer any more.
    async fn tell(&self, approval: Arc<McpApproval>) {
        let (namespace, name) = approval.key();
        let id = approval.metadata.uid.clone().unwrap_or_else(|| format!("{namespace}/{name}"));
        let body = message::body(self.settings.form, &approval);
        let mut pause = BACK_OFF.0;
        for attempt in 1..=ATTEMPTS {
            let Err(error) = self.post(&id, &body).await else { return self.metrics.notified(Notified::Delivered) };
            self.metrics.notified(Notified::Refused);
            tracing::warn!(approval = name, namespace, attempt, %error, "nobody could be told of an approval");
            if attempt == ATTEMPTS || approval.spec.expires_at().is_none_or(|expires| Timestamp::now() >= expires) {
                break;
            }
            sleep(pause).await;
            pause = (pause * 2).min(BACK_OFF.1);
        }
        self.metrics.notified(Notified::GivenUp);
    }

    async fn post(&self, id: &str, body: &str) -> Result<(), PostError> {
        let now = Timestamp::now();
        let mut request = Request::post(self.settings.url()?)
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, AGENT)
            .header("webhook-id", id)
            .header("webhook-timestamp", now.as_second());
        if let Some(key) = self.settings.key()? {
            request = request.header("webhook-signature", key.sign(id, now, body));
        }
        let request = request.body(Full::from(body.to_owned()))?;
        let answer = timeout(TIMEOUT, self.client.request(request)).await.map_err(|_| PostError::TimedOut)??;
        if answer.status().is_success() { Ok(()) } else { Err(PostError::Refused(answer.status())) }
    }
}
