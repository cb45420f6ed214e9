//! Who sends a request: a service-account token, as the API server reads it. And whether it still vouches for the tokens of callers.
//!
//! Nothing that a request says of its sender counts, only the token. A token of a deleted pod stays good with the API server for
//! some seconds, so who asks must compare the pod with those that exist.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::Client;
use kube::api::{Api, PostParams};
use mcp_policy::snapshot::hex_sha256;
use mcp_policy::token_review::TokenReviewRequest;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use crate::inject::TOKEN_AUDIENCE;

/// Who a token was given to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sender {
    /// `system:serviceaccount:<namespace>:<name>`.
    pub user: String,
    /// The pod that the token is bound to.
    pub pod: Option<BoundPod>,
}

/// The pod that a token is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundPod {
    /// Its namespace: that of the service account.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// Why a sender is not known.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    /// No token, or one that the API server refuses for our audience.
    #[error("a service-account token for audience {TOKEN_AUDIENCE} is needed")]
    Unauthenticated,
    /// The API server did not say.
    #[error("the token could not be reviewed")]
    Unavailable(#[source] Box<kube::Error>),
    /// Nor in time.
    #[error("the token was not reviewed in time")]
    TimedOut,
}

/// Answers stay good for less than the minute that a revoked token may live on.
const CACHE: Duration = Duration::from_secs(50);
/// Every sidecar of a big cluster, and a bound on what a flood of tokens can make the operator hold.
const MAX_CACHED: usize = 16_384;
/// Reviews at one time: a flood of bad tokens must not become one of requests to the API server.
const MAX_CONCURRENT: usize = 32;
/// For a review of a caller's token: the sidecar does not wait longer.
const REQUEST: Duration = Duration::from_secs(2);

/// Reviews tokens, and remembers the answers for a short time.
pub struct Reviewer {
    api: Api<TokenReview>,
    permits: Semaphore,
    /// For tokens of callers, who are not to hold up sidecars.
    of_callers: Semaphore,
    cache: Mutex<Cache>,
}

/// Answers by the digests of their tokens: a token takes more than a kilobyte, and is nothing to keep.
struct Cache {
    answers: HashMap<String, (Sender, Instant)>,
    swept: Instant,
}

impl Cache {
    fn get(&self, digest: &str) -> Option<Sender> {
        self.answers.get(digest).filter(|(_, at)| at.elapsed() < CACHE).map(|(sender, _)| sender.clone())
    }

    fn insert(&mut self, digest: String, sender: Sender) {
        if self.swept.elapsed() >= CACHE {
            self.answers.retain(|_, (_, at)| at.elapsed() < CACHE);
            self.answers.shrink_to_fit();
            self.swept = Instant::now();
        }
        if self.answers.len() < MAX_CACHED {
            self.answers.insert(digest, (sender, Instant::now()));
        }
    }
}

impl Reviewer {
    /// Asks the API server with this client.
    #[must_use]
    pub fn new(client: Client) -> Self {
        let cache = Cache { answers: HashMap::new(), swept: Instant::now() };
        let permits = || Semaphore::new(MAX_CONCURRENT);
        Self { api: Api::all(client), permits: permits(), of_callers: permits(), cache: Mutex::new(cache) }
    }

    /// Who sent a request with these headers.
    pub async fn sender(&self, headers: &HeaderMap) -> Result<Sender, ReviewError> {
        let token = bearer(headers).ok_or(ReviewError::Unauthenticated)?;
        let digest = hex_sha256(token.as_bytes());
        if let Some(sender) = self.lock().get(&digest) {
            return Ok(sender);
        }
        // The semaphore is never closed.
        let _permit = self.permits.acquire().await;
        let status = self.review(token, &[TOKEN_AUDIENCE.to_owned()]).await?;
        let sender = status.and_then(read).ok_or(ReviewError::Unauthenticated)?;
        self.lock().insert(digest, sender.clone());
        Ok(sender)
    }

    /// Whether the API server vouches for a caller's token at this moment.
    pub async fn holds(&self, request: &TokenReviewRequest) -> Result<bool, ReviewError> {
        let review = async {
            // The semaphore is never closed.
            let _permit = self.of_callers.acquire().await;
            self.review(&request.token, &request.audiences).await
        };
        let status = timeout(REQUEST, review).await.map_err(|_| ReviewError::TimedOut)??;
        Ok(status.is_some_and(|status| is_vouched_for(&status, &request.audiences)))
    }

    async fn review(&self, token: &str, audiences: &[String]) -> Result<Option<TokenReviewStatus>, ReviewError> {
        let spec = TokenReviewSpec { token: Some(token.to_owned()), audiences: Some(audiences.to_vec()) };
        let review = TokenReview { spec, ..TokenReview::default() };
        let review = self.api.create(&PostParams::default(), &review).await.map_err(|error| ReviewError::Unavailable(Box::new(error)))?;
        Ok(review.status)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// Whether the API server vouches for the token, and for one of these audiences.
fn is_vouched_for(status: &TokenReviewStatus, audiences: &[String]) -> bool {
    status.authenticated == Some(true) && status.audiences.iter().flatten().any(|audience| audiences.contains(audience))
}

/// The sender, if the API server vouches for the token and for our audience.
fn read(status: TokenReviewStatus) -> Option<Sender> {
    if !is_vouched_for(&status, &[TOKEN_AUDIENCE.to_owned()]) {
        return None;
    }
    let user = status.user?;
    let name = user.username?;
    let extra = user.extra.unwrap_or_default();
    let only = |key: &str| extra.get(&format!("authentication.kubernetes.io/{key}")).and_then(|values| values.first()).cloned();
    let namespace = name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':')).map(|(namespace, _)| namespace);
    let pod =
        namespace.and_then(|namespace| Some(BoundPod { namespace: namespace.to_owned(), name: only("pod-name")?, uid: only("pod-uid")? }));
    Some(Sender { user: name, pod })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn status(change: impl FnOnce(&mut Value)) -> TokenReviewStatus {
        let mut status = json!({
            "authenticated": true,
            "audiences": ["mcp-policy-operator"],
            "user": {
                "username": "system:serviceaccount:imaging:default",
                "extra": { "authentication.kubernetes.io/pod-name": ["web-1"], "authentication.kubernetes.io/pod-uid": ["u1"] },
            },
        });
        change(&mut status);
        serde_json::from_value(status).unwrap()
    }

    #[test]
    fn a_pods_token_tells_the_pod() {
        let pod = BoundPod { namespace: "imaging".to_owned(), name: "web-1".to_owned(), uid: "u1".to_owned() };
        let sender = Sender { user: "system:serviceaccount:imaging:default".to_owned(), pod: Some(pod) };
        assert_eq!(read(status(|_| {})), Some(sender));
    }

    #[test]
    fn a_token_that_is_not_vouched_for_tells_nothing() {
        assert_eq!(read(status(|status| status["authenticated"] = json!(false))), None);
        assert_eq!(read(status(|status| status["audiences"] = json!(["https://kubernetes.default.svc"]))), None);
        assert_eq!(read(status(|status| status["audiences"] = json!(null))), None);
        assert_eq!(read(status(|status| status["user"] = json!(null))), None);
    }

    #[test]
    fn a_token_without_a_pod_is_of_no_pod() {
        let unbound = read(status(|status| status["user"]["extra"] = json!({}))).unwrap();
        assert_eq!(unbound.pod, None);
        let person = read(status(|status| status["user"]["username"] = json!("alice"))).unwrap();
        assert_eq!(person.pod, None);
    }

    #[test]
    fn only_a_bearer_token_counts() {
        let with = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, value.parse().unwrap());
            bearer(&headers).map(str::to_owned)
        };
        assert_eq!(with("Bearer abc"), Some("abc".to_owned()));
        assert_eq!(with("bearer abc"), Some("abc".to_owned()));
        assert_eq!(with("Basic abc"), None);
        assert_eq!(with("Bearer "), None);
        assert_eq!(bearer(&HeaderMap::new()), None);
    }
}
