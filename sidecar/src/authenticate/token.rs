//! JSON Web Tokens of issuers that the policies trust; those of Kubernetes service accounts are such tokens.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, Validation, decode, decode_header};
use mcp_policy::Caller;
use mcp_policy::snapshot::SnapshotIssuer;
use serde::Deserialize as _;
use serde_json::{Map, Value};

use super::material::{self, MaterialError};
use super::{LEEWAY, Proved, Rejected, Seconds};

/// The algorithms of an issuer for which a policy names none. None is symmetric: who can verify a symmetric signature can make one, and
/// a public key taken for a secret is the oldest of these attacks.
const ALGORITHMS: [mcp_policy::authentication::Algorithm; 9] = {
    use mcp_policy::authentication::Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    [RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA]
};

/// The bound of `OpenID` Connect on `sub`.
const MAX_SUBJECT_BYTES: usize = 255;

/// An issuer that the policies trust, with its keys as they are known now.
#[derive(Debug)]
pub struct Issuer {
    name: String,
    audiences: Vec<String>,
    algorithms: Vec<Algorithm>,
    kind: Kind,
    review: bool,
    keys: Vec<Key>,
}

/// Whose tokens an issuer makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The cluster's own: of service accounts.
    ServiceAccounts,
    /// Anybody's.
    Jwt,
}

/// A key of the issuer.
struct Key {
    id: Option<String>,
    /// The only algorithm that the key is for, if it says so.
    algorithm: Option<KeyAlgorithm>,
    public: DecodingKey,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Issuer {
    /// An issuer, with those of its keys that a signature of it can be verified with: a set has others too, of which nobody needs to
    /// know more than that they are not for this.
    pub(super) fn from_snapshot(said: &SnapshotIssuer, kind: Kind) -> Result<Self, MaterialError> {
        let keys = match (&said.jwks, said.jwks.get("keys").and_then(Value::as_array)) {
            (Value::Null, _) => Vec::new(),
            (_, Some(keys)) => keys.iter().filter_map(|jwk| Key::of(&Jwk::deserialize(jwk).ok()?)).collect(),
            (_, None) => return Err(MaterialError::KeySet { issuer: said.issuer.clone() }),
        };
        let algorithms = if said.algorithms.is_empty() { &ALGORITHMS[..] } else { &said.algorithms };
        Ok(Self {
            name: said.issuer.clone(),
            audiences: said.audiences.clone(),
            algorithms: algorithms.iter().copied().map(material::algorithm).collect(),
            kind,
            review: said.review,
            keys,
        })
    }

    /// Whether this is the issuer's name, character by character.
    pub(super) fn is(&self, name: &str) -> bool {
        self.name == name
    }

    /// Of the cluster's own issuer: what tokens must be for, if the API server is asked about each of them too.
    pub(super) fn reviewed(&self) -> Option<&[String]> {
        (self.kind == Kind::ServiceAccounts && self.review).then_some(&self.audiences)
    }

    /// Whose token this is, if it is valid.
    pub(super) fn prove(&self, token: &str, now: Seconds) -> Result<Proved, Rejected> {
        let header = decode_header(token).map_err(|_| Rejected::Algorithm)?;
        if !self.algorithms.contains(&header.alg) {
            return Err(Rejected::Algorithm);
        }
        // What must be understood, and is not (RFC 7515, 4.1.11).
        if header.crit.is_some() {
            return Err(Rejected::Claims);
        }
        let claims = self.verified(token, header.alg, header.kid.as_deref())?;
        let until = check_time(&claims, now)?;
        let caller = self.caller(claims)?;
        Ok(Proved { caller, until: Some(until) })
    }

    /// The claims, if one of the keys that fit has signed them. Keys that the token brings along are never looked at.
    fn verified(&self, token: &str, algorithm: Algorithm, id: Option<&str>) -> Result<Map<String, Value>, Rejected> {
        let mut validation = Validation::new(algorithm);
        validation.set_issuer(&[&self.name]);
        validation.set_audience(&self.audiences);
        validation.set_required_spec_claims(&["iss", "aud", "exp", "sub"]);
        // By the clock that is given, and not by the library's.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        let fits = |key: &&Key| {
            let is_named = id.is_none_or(|id| key.id.as_deref() == Some(id));
            is_named && key.public.family() == algorithm.family() && key.algorithm.is_none_or(|only| only == KeyAlgorithm::from(algorithm))
        };
        let mut rejected = Rejected::UnknownKey;
        for key in self.keys.iter().filter(fits) {
            match decode::<Map<String, Value>>(token, &key.public, &validation) {
                Ok(token) => return Ok(token.claims),
                Err(error) => {
                    rejected = match error.kind() {
                        ErrorKind::InvalidSignature => Rejected::Signature,
                        ErrorKind::InvalidAudience => return Err(Rejected::Audience),
                        ErrorKind::InvalidIssuer => return Err(Rejected::Issuer),
                        _ => return Err(Rejected::Claims),
                    }
                }
            }
        }
        Err(rejected)
    }

    fn caller(&self, claims: Map<String, Value>) -> Result<Caller, Rejected> {
        let text = |value: Option<&Value>| value.and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
        let subject = text(claims.get("sub")).filter(|subject| subject.len() <= MAX_SUBJECT_BYTES).ok_or(Rejected::Claims)?;
        match self.kind {
            Kind::Jwt => Ok(Caller::Jwt { issuer: self.name.clone(), subject, claims: Arc::new(claims) }),
            Kind::ServiceAccounts => {
                let bound = claims.get("kubernetes.io").ok_or(Rejected::Claims)?;
                let namespace = text(bound.get("namespace")).ok_or(Rejected::Claims)?;
                let name = text(bound.pointer("/serviceaccount/name")).ok_or(Rejected::Claims)?;
                // The API server writes the same into the subject.
                if subject != format!("system:serviceaccount:{namespace}:{name}") {
                    return Err(Rejected::Claims);
                }
                Ok(Caller::ServiceAccount { namespace, name })
            }
        }
    }
}

impl Key {
    /// None of a key that is not for signatures, or is of a kind that is never allowed.
    fn of(jwk: &Jwk) -> Option<Self> {
        let is_for_signatures = jwk.common.public_key_use.as_ref().is_none_or(|use_| *use_ == PublicKeyUse::Signature);
        let public = DecodingKey::from_jwk(jwk).ok()?;
        (is_for_signatures && public.family() != AlgorithmFamily::Hmac).then(|| Self {
            id: jwk.common.key_id.clone(),
            algorithm: jwk.common.key_algorithm,
            public,
        })
    }
}

/// The issuer that a token names. Nothing is proved by it: it only says whose keys are to be asked.
pub(super) fn issuer(token: &str) -> Result<String, Rejected> {
    let mut parts = token.split('.');
    let (Some(_), Some(claims), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(Rejected::Malformed);
    };
    let claims = URL_SAFE_NO_PAD.decode(claims).map_err(|_| Rejected::Malformed)?;
    let claims: Value = serde_json::from_slice(&claims).map_err(|_| Rejected::Malformed)?;
    claims.get("iss").and_then(Value::as_str).map(str::to_owned).ok_or(Rejected::Issuer)
}

/// The last moment at which the token is valid.
fn check_time(claims: &Map<String, Value>, now: Seconds) -> Result<Seconds, Rejected> {
    let time = |name| match claims.get(name) {
        None => Ok(None),
        Some(value) => seconds(value).map(Some).ok_or(Rejected::Claims),
    };
    let until = time("exp")?.ok_or(Rejected::Claims)?.saturating_add(LEEWAY);
    if now > until {
        return Err(Rejected::Expired);
    }
    if time("nbf")?.is_some_and(|from| now.saturating_add(LEEWAY) < from) {
        return Err(Rejected::NotYet);
    }
    Ok(until)
}

/// A `NumericDate`: seconds, of which a fraction is cut.
fn seconds(value: &Value) -> Option<Seconds> {
    if let Some(whole) = value.as_u64() {
        return Some(whole);
    }
    let number = value.as_f64().filter(|number| (0.0..9.0e15).contains(number))?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is within the bounds, and its fraction is what should go"
    )]
    Some(number as u64)
}
