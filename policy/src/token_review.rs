//! What a sidecar asks the operator about a token of a service account that it has verified itself: whether the API server still vouches
//! for it. `POST /v1/token-reviews` takes one [`TokenReviewRequest`] and answers with one [`TokenReviewAnswer`].

use std::fmt;

use serde::{Deserialize, Serialize};

/// A token, whose account or pod may be gone.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenReviewRequest {
    /// As it was sent. Never logged or shown.
    pub token: String,
    /// What it must be for: one of these.
    pub audiences: Vec<String>,
}

/// Without the token.
impl fmt::Debug for TokenReviewRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenReviewRequest").field("audiences", &self.audiences).finish_non_exhaustive()
    }
}

/// What the API server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenReviewAnswer {
    /// Whether it vouches for the token.
    pub holds: bool,
}
