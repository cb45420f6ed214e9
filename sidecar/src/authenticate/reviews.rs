//! Whether the API server still vouches for tokens that were verified here: asked through the operator, and remembered for a short time.
//!
//! Guarantees: nobody is let in by an answer that is older than [`GOOD_FOR`], nor by none. Of many who show the same token at one moment
//! one asks, and the others wait for the same answer, no longer than [`PATIENCE`]. Questions that are under way are bounded, and so is
//! what is remembered.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Method;
use http_body_util::{BodyExt, Limited};
use mcp_policy::token_review::{TokenReviewAnswer, TokenReviewRequest};
use sha2::Digest as _;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::Rejected;
use super::bearer::Bearer;
use super::remembered::Digest;
use crate::config::OperatorSource;
use crate::source::operator::client;

/// For how long an answer stands. API servers remember for as long by themselves.
pub(super) const GOOD_FOR: Duration = Duration::from_secs(10);
/// For how long nobody asks again when there was no answer.
const NONE_FOR: Duration = Duration::from_secs(1);
/// The longest that a request waits for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Questions that are under way at one time: each is a connection.
const ROOM: usize = 64;
/// Tokens whose answers are remembered.
const MAX_REMEMBERED: usize = 4096;
/// `{"holds":true}`
const MAX_ANSWER: usize = 1024;

/// Answers about tokens.
#[derive(Debug)]
pub struct Reviews {
    operator: OperatorSource,
    remembered: Mutex<HashMap<Digest, Arc<Place>>>,
    room: Semaphore,
}

/// The answer about one token. Who asks holds it, and the others wait for it.
type Place = tokio::sync::Mutex<Option<Answer>>;

#[derive(Clone, Copy, Debug)]
struct Answer {
    said: Result<(), Rejected>,
    until: Instant,
}

impl Answer {
    fn new(said: Result<(), Rejected>) -> Self {
        let good_for = if said == Err(Rejected::Unreviewed) { NONE_FOR } else { GOOD_FOR };
        Self { said, until: Instant::now() + good_for }
    }

    fn stands(&self) -> bool {
        Instant::now() < self.until
    }
}

impl Reviews {
    /// Asks this operator.
    #[must_use]
    pub fn new(operator: OperatorSource) -> Self {
        Self { operator, remembered: Mutex::default(), room: Semaphore::new(ROOM) }
    }

    /// Whether the API server vouches for the token, for one of these audiences.
    pub(super) async fn confirm(&self, bearer: &Bearer, audiences: &[String]) -> Result<(), Rejected> {
        let digest = sha2::Sha256::digest(bearer.expose()).into();
        let request = || TokenReviewRequest { token: bearer.expose().to_owned(), audiences: audiences.to_vec() };
        self.answer(digest, async || self.ask(&request()).await).await
    }

    async fn answer(&self, digest: Digest, ask: impl AsyncFnOnce() -> Result<(), Rejected>) -> Result<(), Rejected> {
        let place = self.place(digest);
        let answer = async {
            let mut answer = place.lock().await;
            if let Some(answer) = answer.filter(Answer::stands) {
                return answer.said;
            }
            let Ok(_room) = self.room.try_acquire() else { return Err(Rejected::Unreviewed) };
            // Below the patience of those who wait, so that one question that nobody answers is not asked by each of them.
            let said = timeout(PATIENCE / 2, ask()).await.unwrap_or(Err(Rejected::Unreviewed));
            answer.insert(Answer::new(said)).said
        };
        timeout(PATIENCE, answer).await.unwrap_or(Err(Rejected::Unreviewed))
    }

    fn place(&self, digest: Digest) -> Arc<Place> {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= MAX_REMEMBERED && !remembered.contains_key(&digest) {
            // One that is held is being asked about.
            remembered.retain(|_, place| place.try_lock().map_or(true, |answer| answer.is_some_and(|answer| answer.stands())));
            if remembered.len() >= MAX_REMEMBERED {
                remembered.clear();
            }
        }
        Arc::clone(remembered.entry(digest).or_default())
    }

    async fn ask(&self, request: &TokenReviewRequest) -> Result<(), Rejected> {
        let answer = self.post(request).await.map_err(|error| {
            tracing::warn!(error, "the operator could not be asked about a caller's token; it proves nothing");
            Rejected::Unreviewed
        })?;
        if answer.holds { Ok(()) } else { Err(Rejected::Revoked) }
    }

    async fn post(&self, request: &TokenReviewRequest) -> Result<TokenReviewAnswer, String> {
        let json = serde_json::to_vec(request).map_err(|error| error.to_string())?;
        let response = client::request(&self.operator, Method::POST, "/v1/token-reviews", Some(json)).await;
        let body = Limited::new(response.map_err(|error| error.to_string())?.into_body(), MAX_ANSWER);
        let body = body.collect().await.map_err(|error| error.to_string())?;
        serde_json::from_slice(&body.to_bytes()).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::task::JoinSet;
    use tokio::time::{advance, sleep};

    use super::*;

    /// Reviews, and how often somebody was asked.
    #[derive(Clone)]
    struct Case(Arc<Reviews>, Arc<AtomicUsize>);

    impl Case {
        fn new() -> Self {
            let file = std::path::PathBuf::new;
            let operator = OperatorSource { host: String::new(), port: 0, ca_file: file(), token_file: file(), namespace: String::new() };
            Self(Arc::new(Reviews::new(operator)), Arc::default())
        }

        /// Shows a token. Who is asked says this, after a moment; or nothing, ever.
        async fn show(self, n: usize, says: Option<Result<(), Rejected>>) -> Result<(), Rejected> {
            let ask = async || {
                self.1.fetch_add(1, Ordering::Relaxed);
                sleep(Duration::from_millis(20)).await;
                match says {
                    Some(said) => said,
                    None => pending().await,
                }
            };
            self.0.answer(digest(n), ask).await
        }

        /// Shows all of these at the same moment.
        async fn show_all(&self, tokens: impl Iterator<Item = usize>, says: Option<Result<(), Rejected>>) -> Vec<Result<(), Rejected>> {
            tokens.map(|n| self.clone().show(n, says)).collect::<JoinSet<_>>().join_all().await
        }

        fn asked(&self) -> usize {
            self.1.load(Ordering::Relaxed)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn of_many_one_asks_and_its_answer_stands_for_a_short_time() {
        let case = Case::new();
        for (said, good_for) in [(Ok(()), GOOD_FOR), (Err(Rejected::Revoked), GOOD_FOR), (Err(Rejected::Unreviewed), NONE_FOR)] {
            let before = case.asked();
            let answers = case.show_all([1; 1000].into_iter(), Some(said)).await;
            assert!(answers.iter().all(|answer| *answer == said));
            advance(good_for.saturating_sub(Duration::from_millis(1))).await;
            assert_eq!((case.clone().show(1, Some(said)).await, case.asked()), (said, before + 1));
            advance(Duration::from_millis(1)).await;
            assert_eq!((case.clone().show(1, Some(said)).await, case.asked()), (said, before + 2));
            advance(good_for).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_long_and_no_more_questions_are_under_way_than_there_is_room_for() {
        let case = Case::new();
        let began = Instant::now();
        let answers = case.show_all(0..1000, None).await;
        assert!(answers.iter().all(|answer| *answer == Err(Rejected::Unreviewed)));
        assert_eq!(case.asked(), ROOM);
        let answers = case.show_all([2000; 1000].into_iter(), None).await;
        assert!(answers.iter().all(|answer| *answer == Err(Rejected::Unreviewed)));
        assert_eq!(case.asked(), ROOM + 1);
        assert!(began.elapsed() <= 2 * PATIENCE, "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_bounded_and_what_no_longer_stands_goes_first() {
        let case = Case::new();
        let remembered = || case.0.remembered.lock().unwrap().len();
        for first in [0, 10] {
            advance(GOOD_FOR / 2).await;
            for n in first..if first == 0 { 10 } else { MAX_REMEMBERED } {
                case.0.place(digest(n)).lock().await.replace(Answer::new(Ok(())));
            }
        }
        advance(GOOD_FOR / 2).await;
        assert_eq!(remembered(), MAX_REMEMBERED);
        case.clone().show(MAX_REMEMBERED, Some(Ok(()))).await.unwrap();
        assert_eq!(remembered(), MAX_REMEMBERED - 10 + 1);
        for n in 0..2 * MAX_REMEMBERED {
            case.0.place(digest(n)).lock().await.replace(Answer::new(Ok(())));
            assert!(remembered() <= MAX_REMEMBERED);
        }
    }

    fn digest(n: usize) -> Digest {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&n.to_be_bytes());
        digest
    }
}
