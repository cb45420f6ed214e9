//! What a sidecar proves callers with, as the operator tells it.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::authentication::{Algorithm, Forward};

/// How the callers of one pod prove who they are, and with which keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotAuthentication {
    /// Whether a policy that enforces asks for it. If not, callers are proved for the record, and nobody is refused for lack of a proof.
    pub required: bool,
    /// The issuer of the cluster's service accounts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_accounts: Option<SnapshotIssuer>,
    /// Other issuers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jwt: Vec<SnapshotIssuer>,
    /// Keys of callers, salted and hashed; none if no policy takes keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<Vec<SnapshotKey>>,
    /// What becomes of the caller's `Authorization` header.
    #[serde(default, skip_serializing_if = "Forward::is_strip")]
    pub authorization: Forward,
    /// What the server is sent instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<SnapshotCredential>,
    /// The URL by which callers know the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
}

/// An issuer of tokens, with its keys as they were last read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotIssuer {
    /// The claim `iss`.
    pub issuer: String,
    /// What a token must be for: one of these.
    pub audiences: Vec<String>,
    /// Whether the operator is to be asked about each of its tokens too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub review: bool,
    /// The algorithms that are allowed; of an empty list, every one that is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub algorithms: Vec<Algorithm>,
    /// The JSON Web Key Set (RFC 7517); null before it was ever read, and then no token is proved.
    pub jwks: Value,
}

/// What is known of one key. A Secret has it as JSON under `<name>.<id>`, with `name` left to its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotKey {
    /// The caller that it was made for.
    pub name: String,
    /// 16 random bytes of this key alone, in hex.
    pub salt: String,
    /// SHA-256 of the salt's bytes and the key as it is sent, in hex.
    pub sha256: String,
    /// The last moment at which it is valid, in seconds since 1970; none if it has no end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
}

/// The server's own credential.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotCredential {
    /// Changes with the value. It stands for it in the digest of a snapshot, which everybody may see.
    pub revision: String,
    /// The value of the header. Never logged or shown.
    pub value: String,
}

/// Without the value.
impl fmt::Debug for SnapshotCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotCredential").field("revision", &self.revision).finish_non_exhaustive()
    }
}

impl SnapshotAuthentication {
    /// What of it is in the digest of a snapshot: everything but the server's credential.
    pub(super) fn digested(&self) -> Vec<u8> {
        let credential = self.credential.as_ref().map(|credential| SnapshotCredential { value: String::new(), ..credential.clone() });
        serde_json::to_vec(&Self { credential, ..self.clone() }).unwrap_or_default()
    }
}
