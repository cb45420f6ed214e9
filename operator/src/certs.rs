//! Pure but for the keys that it makes: the operator's own CA and leaf certificate, and when each is replaced.
//!
//! Guarantee: at every moment the leaf is valid and its CA is one that everybody who trusts the published bundle knows, even
//! somebody who learns of a new bundle [`OVERLAP_SECONDS`] late. A new CA is published beside the old one, then signs the leaf,
//! then the old one goes, and each step waits for that long.
//!
//! Times are seconds since the epoch, by the wall clock: a monotonic one stands still while a machine sleeps.

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

const DAY: i64 = 24 * 3600;
const CA_SECONDS: i64 = 365 * DAY;
const LEAF_SECONDS: i64 = 30 * DAY;
/// The kubelet brings a changed `ConfigMap` into a pod after one to two minutes; ten leave room for a node that lags.
pub const OVERLAP_SECONDS: i64 = 600;
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
    pub fn issue(host: &str, now: i64) -> Result<Self, IssueError> {
        let authority = Authority::issue(now)?;
        Ok(Self { leaf: authority.sign(host, now)?, authority, next: None, previous: None })
    }

    /// What they should be now; none if they are. At most one step of a rotation at a time.
    pub fn renewed(&self, host: &str, now: i64) -> Result<Option<Self>, IssueError> {
        if now >= self.authority.expires {
            // Nobody renewed for a third of its life. What it signed is worthless to everybody: start anew.
            return Self::issue(host, now).map(Some);
        }
        let mut renewed = self.clone();
        if let Some(next) = self.next.as_ref().filter(|next| now >= next.issued + OVERLAP_SECONDS) {
            renewed.previous = Some(Retired { certificate: self.authority.certificate.clone(), since: now });
            renewed.authority = next.clone();
            renewed.next = None;
            renewed.leaf = renewed.authority.sign(host, now)?;
        } else if is_due(self.leaf.issued, self.leaf.expires, now) {
            renewed.leaf = self.authority.sign(host, now)?;
        } else if self.next.is_none() && is_due(self.authority.issued, self.authority.expires, now) {
            renewed.next = Some(Authority::issue(now)?);
        } else if self.previous.as_ref().is_some_and(|previous| now >= previous.since + OVERLAP_SECONDS) {
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
fn is_due(issued: i64, expires: i64, now: i64) -> bool {
    now >= issued + (expires - issued) / 3 * 2
}

impl Authority {
    fn issue(now: i64) -> Result<Self, IssueError> {
        let key = KeyPair::generate()?;
        let expires = now + CA_SECONDS;
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

    fn sign(&self, host: &str, now: i64) -> Result<Leaf, IssueError> {
        let issuer = Issuer::new(Self::params(self.issued, self.expires), KeyPair::from_pem(&self.key)?);
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![host.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, host);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        // A leaf that outlived its CA would be valid only on paper.
        let expires = (now + LEAF_SECONDS).min(self.expires);
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
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    const HOST: &str = "mcp-policy-operator.mcp-policy-system.svc";
    const START: i64 = 1_800_000_000;

    #[test]
    fn fresh_certificates_need_no_renewal() {
        let fresh = Certificates::issue(HOST, START).unwrap();
        assert_eq!(fresh.renewed(HOST, START + 1).unwrap(), None);
        assert_eq!(fresh.bundle().matches("BEGIN CERTIFICATE").count(), 1);
    }

    #[test]
    fn the_leaf_is_renewed_at_two_thirds_of_its_life_under_the_same_ca() {
        let fresh = Certificates::issue(HOST, START).unwrap();
        assert_eq!(fresh.renewed(HOST, START + 20 * DAY - 1).unwrap(), None);
        let renewed = fresh.renewed(HOST, START + 20 * DAY).unwrap().unwrap();
        assert_ne!(renewed.leaf, fresh.leaf);
        assert_eq!(renewed.bundle(), fresh.bundle());
    }

    #[test]
    fn the_ca_is_published_then_used_then_dropped() {
        let mut now = START + CA_SECONDS / 3 * 2;
        let mut old = Certificates::issue(HOST, START).unwrap();
        // The leaf is in the middle of its life throughout.
        old.leaf = old.authority.sign(HOST, now).unwrap();
        let published = old.renewed(HOST, now).unwrap().unwrap();
        assert_eq!(published.leaf, old.leaf);
        assert!(published.bundle().starts_with(&old.bundle()) && published.bundle().len() > old.bundle().len());
        assert_eq!(published.renewed(HOST, now + OVERLAP_SECONDS - 1).unwrap(), None);

        now += OVERLAP_SECONDS;
        let switched = published.renewed(HOST, now).unwrap().unwrap();
        assert_ne!(switched.leaf, old.leaf);
        assert!(switched.bundle().contains(&old.bundle()));
        assert_eq!(switched.renewed(HOST, now + OVERLAP_SECONDS - 1).unwrap(), None);

        let dropped = switched.renewed(HOST, now + OVERLAP_SECONDS).unwrap().unwrap();
        assert_eq!(dropped.leaf, switched.leaf);
        assert!(!dropped.bundle().contains(&old.bundle()));
        assert_eq!(dropped.renewed(HOST, now + OVERLAP_SECONDS).unwrap(), None);
    }

    #[test]
    fn expired_certificates_are_made_anew() {
        let old = Certificates::issue(HOST, START).unwrap();
        let anew = old.renewed(HOST, START + CA_SECONDS).unwrap().unwrap();
        assert_ne!(anew.authority, old.authority);
    }

    #[test]
    fn the_stored_form_is_read_back() {
        let fresh = Certificates::issue(HOST, START).unwrap();
        let stored = serde_json::to_string(&fresh).unwrap();
        assert_eq!(serde_json::from_str::<Certificates>(&stored).unwrap(), fresh);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        /// Three years, looked at in irregular steps of up to five days; a client learns of each bundle up to `lag` later.
        #[test]
        fn there_is_always_a_valid_leaf_that_a_late_client_trusts(
            steps in prop::collection::vec(1..5 * DAY, 400..600),
            lag in 0..OVERLAP_SECONDS,
        ) {
            let mut certificates = Certificates::issue(HOST, START).unwrap();
            let mut bundles = VecDeque::from([(START, certificates.bundle())]);
            let (mut now, mut rotations) = (START, 0);
            for step in steps {
                now += step;
                if let Some(renewed) = certificates.renewed(HOST, now).unwrap() {
                    rotations += u32::from(renewed.authority != certificates.authority);
                    certificates = renewed;
                    bundles.push_back((now, certificates.bundle()));
                }
                let known = bundles.iter().rev().find(|(since, _)| since + lag <= now).map_or(&bundles[0].1, |(_, bundle)| bundle);
                prop_assert!(known.contains(&certificates.authority.certificate), "a late client does not know the CA");
                prop_assert!(certificates.leaf.issued <= now && now < certificates.leaf.expires, "the leaf has expired");
                prop_assert!(certificates.leaf.expires <= certificates.authority.expires);
            }
            prop_assert!(rotations >= 1 || now < START + CA_SECONDS / 3 * 2);
        }
    }
}
