//! Pure but for the keys that it makes: the operator's own CA and leaf certificate, and when each is replaced.
//!
//! Guarantee: at every moment the leaf is valid and its CA is one that everybody who trusts the published bundle knows, even
//! somebody who learns of a new bundle [`Lifetimes::overlap`] late. A new CA is published beside the old one, then signs the leaf,
//! then the old one goes, and each step waits for that long.
//!
//! Times are seconds since the epoch, by the wall clock: a monotonic one stands still while a machine sleeps.

pub mod lifetimes;

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use self::lifetimes::Lifetimes;

/// Clocks of other machines may be this much behind.
const SKEW_SECONDS: i64 = 3600;

/// All certificates of the operator, as its Secret keeps them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificates {
    /// Signs the leaf.
    authority: Authority,
    /// Will sign it; published, so that everybody knows it before it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next: Option<Authority>,
    /// Signed the leaf before; still published, for who has an old connection or a cached answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previous: Option<Retired>,
    leaf: Leaf,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Authority {
    certificate: String,
    key: String,
    issued: i64,
    expires: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Retired {
    certificate: String,
    since: i64,
}

/// What the operator serves with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaf {
    /// PEM.
    pub certificate: String,
    /// PEM, PKCS 8.
    pub key: String,
    issued: i64,
    expires: i64,
}

/// A certificate could not be made, or a stored one not be read.
#[derive(Debug, thiserror::Error)]
#[error("failed to issue a certificate: {0}")]
pub struct IssueError(#[from] rcgen::Error);

impl Certificates {
    /// New certificates for this DNS name.
    pub fn issue(host: &str, lifetimes: Lifetimes, now: i64) -> Result<Self, IssueError> {
        let authority = Authority::issue(lifetimes, now)?;
        Ok(Self { leaf: authority.sign(host, lifetimes, now)?, authority, next: None, previous: None })
    }

    /// What they should be now; none if they are. At most one step of a rotation at a time. Certificates that were issued for a
    /// longer life are replaced as if they had these lifetimes.
    pub fn renewed(&self, host: &str, lifetimes: Lifetimes, now: i64) -> Result<Option<Self>, IssueError> {
        if now >= self.authority.expires {
            // Nobody renewed for a third of its life. What it signed is worthless to everybody: start anew.
            return Self::issue(host, lifetimes, now).map(Some);
        }
        let mut renewed = self.clone();
        if let Some(next) = self.next.as_ref().filter(|next| now >= next.issued + lifetimes.overlap()) {
            renewed.previous = Some(Retired { certificate: self.authority.certificate.clone(), since: now });
            renewed.authority = next.clone();
            renewed.next = None;
            renewed.leaf = renewed.authority.sign(host, lifetimes, now)?;
        } else if is_due(self.leaf.issued, self.leaf.expires, lifetimes.leaf(), now) {
            renewed.leaf = self.authority.sign(host, lifetimes, now)?;
        } else if self.next.is_none() && is_due(self.authority.issued, self.authority.expires, lifetimes.ca(), now) {
            renewed.next = Some(Authority::issue(lifetimes, now)?);
        } else if self.previous.as_ref().is_some_and(|previous| now >= previous.since + lifetimes.overlap()) {
            renewed.previous = None;
        } else {
            return Ok(None);
        }
        Ok(Some(renewed))
    }

    /// The CA certificates to trust, in PEM.
    #[must_use]
    pub fn bundle(&self) -> String {
        let mut bundle = self.authority.certificate.clone();
        bundle.extend(self.next.iter().map(|next| next.certificate.as_str()));
        bundle.extend(self.previous.iter().map(|previous| previous.certificate.as_str()));
        bundle
    }

    /// What to serve with.
    #[must_use]
    pub fn leaf(&self) -> &Leaf {
        &self.leaf
    }

    /// When CA and leaf expire.
    #[must_use]
    pub fn expiry(&self) -> (i64, i64) {
        (self.authority.expires, self.leaf.expires)
    }
}

/// Two thirds of a life leave the last one for whatever goes wrong.
fn is_due(issued: i64, expires: i64, lifetime: i64, now: i64) -> bool {
    now >= issued + (expires - issued).min(lifetime) / 3 * 2
}

impl Authority {
    fn issue(lifetimes: Lifetimes, now: i64) -> Result<Self, IssueError> {
        let key = KeyPair::generate()?;
        let expires = now + lifetimes.ca();
        let certificate = Self::params(now, expires).self_signed(&key)?.pem();
        Ok(Self { certificate, key: key.serialize_pem(), issued: now, expires })
    }

    fn params(issued: i64, expires: i64) -> CertificateParams {
        let mut params = CertificateParams::default();
        // Each CA has a name of its own, so that a verifier with both in its bundle never tries the wrong one.
        params.distinguished_name.push(DnType::CommonName, format!("mcp-policy-operator CA {issued}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_life(&mut params, issued, expires);
        params
    }

    fn sign(&self, host: &str, lifetimes: Lifetimes, now: i64) -> Result<Leaf, IssueError> {
        let issuer = Issuer::new(Self::params(self.issued, self.expires), KeyPair::from_pem(&self.key)?);
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![host.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, host);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        // A leaf that outlived its CA would be valid only on paper.
        let expires = (now + lifetimes.leaf()).min(self.expires);
        set_life(&mut params, now, expires);
        let certificate = params.signed_by(&key, &issuer)?.pem();
        Ok(Leaf { certificate, key: key.serialize_pem(), issued: now, expires })
    }
}

fn set_life(params: &mut CertificateParams, now: i64, expires: i64) {
    let epoch = OffsetDateTime::UNIX_EPOCH;
    params.not_before = epoch + Duration::seconds(now - SKEW_SECONDS);
    params.not_after = epoch + Duration::seconds(expires);
}

#[cfg(test)]
mod tests;
