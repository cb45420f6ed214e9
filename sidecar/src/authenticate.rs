//! Who calls, from what a request carries: pure verification over given keys and a given time. mcp.md 5.3, RFC 6750, RFC 8725.
//!
//! Guarantee: a caller is proved or the request is rejected; nothing between the two. Nothing of a token or key is in a
//! [`Rejected`], in any `Debug`, or kept: proofs that were verified are remembered by their digest.

mod bearer;
mod identity;
mod key;
mod material;
pub mod metadata;
mod remembered;
mod reviews;
mod token;
mod towards_server;

use std::sync::{Mutex, MutexGuard, PoisonError};

use http::HeaderMap;
use http::header::{HOST, HeaderValue};
use mcp_policy::Caller;
use mcp_policy::key::KEY_PREFIX;
use mcp_policy::snapshot::SnapshotAuthentication;
use serde_json::Value;
use sha2::{Digest, Sha256};

pub use bearer::Bearer;
pub use identity::{Identity, ProofEnd, now};
use key::{HashedKey, Keys};
pub use material::MaterialError;
use metadata::Metadata;
use remembered::Remembered;
pub use reviews::Reviews;
use token::{Issuer, Kind};
use towards_server::TowardsServer;

/// By how much another clock may differ from this one: a token is taken for so long after its end, and so long before its beginning.
const LEEWAY: Seconds = 30;

/// Seconds since 1970, as `exp` and `nbf` count.
pub type Seconds = u64;

/// What callers can prove themselves with. Never changed, only replaced; so what was remembered goes with the keys that proved it.
#[derive(Debug)]
pub struct Authenticator {
    issuers: Vec<Issuer>,
    keys: Keys,
    /// Whether a policy that enforces asks for a proof.
    required: bool,
    towards_server: TowardsServer,
    metadata: Metadata,
    remembered: Mutex<Remembered>,
}

/// A caller, and until when the proof holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Proved {
    /// Who.
    pub caller: Caller,
    /// The last moment of the proof; none if it has no end.
    pub until: Option<Seconds>,
}

/// Why what a request carries proves nothing. The words are for people who run the server, and tell nothing of the proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Rejected {
    /// No `Authorization`, or one of another scheme than `Bearer`.
    #[error("no bearer token was sent")]
    Missing,
    /// Not of the form that a bearer token has, or longer than any.
    #[error("the bearer token is malformed")]
    Malformed,
    /// Of an issuer that no policy trusts, or of none.
    #[error("the token is of no trusted issuer")]
    Issuer,
    /// Signed by an algorithm that is not allowed: `none`, a symmetric one, or one that the policy leaves out.
    #[error("the token's algorithm is not allowed")]
    Algorithm,
    /// Signed by a key that the issuer is not known to have. It may be new.
    #[error("the token's key is not known")]
    UnknownKey,
    /// Signed by nobody, or by somebody else.
    #[error("the token's signature is wrong")]
    Signature,
    /// For somebody else.
    #[error("the token is not for this server")]
    Audience,
    /// No longer valid.
    #[error("the token or key has expired")]
    Expired,
    /// Not valid yet.
    #[error("the token is not valid yet")]
    NotYet,
    /// Lacks what a token must say, says it in another form, or demands what is not understood here.
    #[error("the token's claims are wrong")]
    Claims,
    /// A key that was revoked, or never made.
    #[error("the key is not known")]
    Key,
    /// The API server does not vouch for it any more: its account or pod is gone.
    #[error("the token was taken back")]
    Revoked,
    /// Whether the API server vouches for it could not be found out.
    #[error("whether the token still holds could not be asked; try again")]
    Unreviewed,
}

impl Authenticator {
    /// What the operator says that callers prove themselves with.
    pub fn from_snapshot(said: &SnapshotAuthentication) -> Result<Self, MaterialError> {
        let accounts = said.service_accounts.iter().map(|issuer| Issuer::from_snapshot(issuer, Kind::ServiceAccounts));
        let others = said.jwt.iter().map(|issuer| Issuer::from_snapshot(issuer, Kind::Jwt));
        let keys = said.keys.iter().flatten().map(HashedKey::from_snapshot);
        Ok(Self {
            issuers: accounts.chain(others).collect::<Result<_, _>>()?,
            keys: keys.collect::<Result<_, _>>()?,
            required: said.required,
            towards_server: TowardsServer::from_snapshot(said)?,
            metadata: Metadata::from_snapshot(said)?,
            remembered: Mutex::default(),
        })
    }

    /// Whether a policy that enforces asks for a proof. If not, callers are proved for the record.
    #[must_use]
    pub fn is_required(&self) -> bool {
        self.required
    }

    /// Puts the headers of a caller into the form in which the server gets them: of a request that was judged, or of another one.
    pub fn prepare(&self, headers: &mut HeaderMap, is_judged: bool) {
        self.towards_server.apply(headers, is_judged);
    }

    /// What a client is told that has to prove more than it does.
    #[must_use]
    pub fn challenge(&self, rejected: Rejected, headers: &HeaderMap, endpoint: &str) -> HeaderValue {
        self.metadata.challenge(rejected, host(headers), endpoint)
    }

    /// The document by which clients find out whose tokens are taken; none if they cannot get any by asking, or need none.
    #[must_use]
    pub fn metadata(&self, headers: &HeaderMap, endpoint: &str) -> Option<Value> {
        self.metadata.document(host(headers), endpoint).filter(|_| self.required)
    }

    /// Whose token this is, at this moment.
    pub fn prove(&self, bearer: &Bearer, now: Seconds) -> Result<Proved, Rejected> {
        let bearer = bearer.expose();
        let digest = Sha256::digest(bearer).into();
        if let Some(proved) = self.remembered().get(&digest, now) {
            return Ok(proved);
        }
        let proved = if bearer.starts_with(KEY_PREFIX) { self.keys.prove(bearer, now)? } else { self.prove_token(bearer, now)? };
        self.remembered().insert(digest, bearer.len(), proved.clone(), now);
        Ok(proved)
    }

    /// For which audiences the API server is asked about this caller's token too; none if its word is not wanted.
    fn reviewed(&self, caller: &Caller) -> Option<&[String]> {
        let is_account = matches!(caller, Caller::ServiceAccount { .. });
        self.issuers.iter().filter(|_| is_account).find_map(Issuer::reviewed)
    }

    fn prove_token(&self, token: &str, now: Seconds) -> Result<Proved, Rejected> {
        let issuer = token::issuer(token)?;
        let issuer = self.issuers.iter().find(|trusted| trusted.is(&issuer)).ok_or(Rejected::Issuer)?;
        issuer.prove(token, now)
    }

    // Nothing in it can panic half-way.
    fn remembered(&self) -> MutexGuard<'_, Remembered> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rejected {
    /// For metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::Issuer => "issuer",
            Self::Algorithm => "algorithm",
            Self::UnknownKey => "unknown_key",
            Self::Signature => "signature",
            Self::Audience => "audience",
            Self::Expired => "expired",
            Self::NotYet => "not_yet",
            Self::Claims => "claims",
            Self::Key => "key",
            Self::Revoked => "revoked",
            Self::Unreviewed => "unreviewed",
        }
    }
}

fn host(headers: &HeaderMap) -> Option<&str> {
    headers.get(HOST)?.to_str().ok()
}

#[cfg(test)]
mod tests;
