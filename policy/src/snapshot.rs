//! What operator and sidecar say to each other. The wire carries documents, never compiled things: the sidecar compiles with
//! the code that accepted the policy.
//!
//! `GET /v1/watch` answers with newline-delimited JSON, one [`WatchMessage`] a line; `POST /v1/report` takes one [`Report`].

mod authentication;
mod store;

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::caller_match::CallerMatch;
use crate::document::Document;
use crate::resource::{Mode, OnAuditError, Server};
pub use authentication::{SnapshotAuthentication, SnapshotCredential, SnapshotIssuer, SnapshotKey};
pub use store::{SnapshotStore, StoreCredentials};

/// The version of the snapshot's form, where it needs nothing that is newer.
pub const SNAPSHOT_VERSION: &str = "1";
/// The version of a snapshot that a sidecar of version 1 would read wrongly: it names a shared store, callers prove who they are, or a
/// policy speaks about some of them only or lets audit lines drop.
const NEXT_VERSION: &str = "2";
/// The versions that this build reads.
pub const SNAPSHOT_VERSIONS: [&str; 2] = [SNAPSHOT_VERSION, NEXT_VERSION];

/// One line of the watch stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum WatchMessage {
    /// The whole state for this pod: sent at once, and on each change.
    Snapshot(Snapshot),
    /// Sent every 10 seconds. A digest that differs from the applied one tells the sidecar to connect anew.
    Heartbeat {
        /// Digest of the snapshot that the operator holds for this pod.
        sha256: String,
    },
}

/// Everything that one pod's sidecar enforces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// Version of this form, the least that can read it: one of [`SNAPSHOT_VERSIONS`]. A sidecar refuses (nack) one that it does not
    /// know.
    pub version: String,
    /// Hex digest of what is enforced: equal digests enforce the same, whichever replica computed them.
    pub sha256: String,
    /// The policies that select the pod, by namespace and name.
    pub policies: Vec<SnapshotPolicy>,
    /// Where counters are shared; none if each sidecar counts by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<Box<SnapshotStore>>,
    /// How callers prove who they are; none if no policy asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentication: Option<Box<SnapshotAuthentication>>,
}

/// One policy in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotPolicy {
    /// Namespace of the policy; none for a cluster policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name of the policy.
    pub name: String,
    /// `metadata.generation` of the revision that is in force.
    pub generation: i64,
    /// Whether the policy refuses.
    #[serde(default, skip_serializing_if = "Mode::is_enforce")]
    pub mode: Mode,
    /// What the policy says of the server.
    #[serde(default, skip_serializing_if = "Server::is_default")]
    pub server: Server,
    /// Whom the policy speaks about; none for everyone. Since version 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Vec<CallerMatch>>,
    /// What becomes of a call whose audit line cannot be written. Since version 2.
    #[serde(default, skip_serializing_if = "OnAuditError::is_deny")]
    pub on_audit_error: OnAuditError,
    /// The document that is in force: the last accepted one. None if no revision was ever accepted: then every call is
    /// refused.
    pub document: Option<Document>,
}

impl Snapshot {
    /// A snapshot of these policies, in whatever order they come.
    #[must_use]
    pub fn new(mut policies: Vec<SnapshotPolicy>) -> Self {
        policies.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        let version = if policies.iter().any(SnapshotPolicy::needs_next_version) { NEXT_VERSION } else { SNAPSHOT_VERSION };
        Self { version: version.to_owned(), sha256: String::new(), policies, store: None, authentication: None }.digested()
    }

    /// The same, with counters in this store.
    #[must_use]
    pub fn counting_in(self, store: SnapshotStore) -> Self {
        Self { version: NEXT_VERSION.to_owned(), store: Some(Box::new(store)), ..self }.digested()
    }

    /// The same, for callers that prove themselves with this.
    #[must_use]
    pub fn proving_callers(self, authentication: SnapshotAuthentication) -> Self {
        Self { version: NEXT_VERSION.to_owned(), authentication: Some(Box::new(authentication)), ..self }.digested()
    }

    /// Whether the digest is that of the content.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        self.sha256 == self.digest()
    }

    fn digested(self) -> Self {
        Self { sha256: self.digest(), ..self }
    }

    fn digest(&self) -> String {
        // Maps in these types are ordered and their keys are strings, so the JSON is canonical and writing it cannot fail.
        let mut content = serde_json::to_vec(&self.policies).unwrap_or_default();
        if let Some(store) = &self.store {
            // Not the credentials: whoever sees the digest could try passwords.
            content.extend(serde_json::to_vec(&(&store.url, &store.revision)).unwrap_or_default());
        }
        if let Some(authentication) = &self.authentication {
            content.extend(authentication.digested());
        }
        hex_sha256(&content)
    }
}

impl SnapshotPolicy {
    /// Whether it says what a sidecar of the first version would pass over.
    fn needs_next_version(&self) -> bool {
        self.from.is_some() || self.server.authentication.is_some() || !self.on_audit_error.is_deny()
    }
}

/// The SHA-256 of these bytes in lower-case hex, as snapshots are named by it.
#[must_use]
pub fn hex_sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Bytes in lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut hex, byte| {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// What a sidecar answers to a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Digest of the snapshot that this is about.
    pub sha256: String,
    /// Whether it is in force.
    pub result: ReportResult,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Whether a sidecar enforces a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReportResult {
    /// In force.
    Ack,
    /// Not in force; the one before it still is.
    Nack,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(name: &str, generation: i64) -> SnapshotPolicy {
        SnapshotPolicy {
            namespace: Some("ns".to_owned()),
            name: name.to_owned(),
            generation,
            mode: Mode::Enforce,
            server: Server::default(),
            from: None,
            on_audit_error: OnAuditError::Deny,
            document: None,
        }
    }

    #[test]
    fn the_digest_depends_on_the_policies_and_not_on_their_order() {
        let snapshot = Snapshot::new(vec![policy("a", 1), policy("b", 1)]);
        assert_eq!(snapshot, Snapshot::new(vec![policy("b", 1), policy("a", 1)]));
        assert_ne!(snapshot.sha256, Snapshot::new(vec![policy("a", 2), policy("b", 1)]).sha256);
        assert_eq!(snapshot.sha256.len(), 64);
    }

    #[test]
    fn a_store_changes_digest_and_version_and_its_password_does_not_show() {
        let store = |password: &str, revision: &str| SnapshotStore {
            url: "redis://valkey".to_owned(),
            revision: revision.to_owned(),
            credentials: StoreCredentials { password: Some(password.to_owned()), ..StoreCredentials::default() },
        };
        let plain = || Snapshot::new(vec![policy("a", 1)]);
        let shared = plain().counting_in(store("geheim", "7"));
        assert_eq!((plain().version.as_str(), shared.version.as_str()), ("1", "2"));
        assert!(shared.is_intact() && shared.sha256 != plain().sha256);
        assert_eq!(shared.sha256, plain().counting_in(store("other", "7")).sha256);
        assert_ne!(shared.sha256, plain().counting_in(store("geheim", "8")).sha256);
        assert!(!format!("{shared:?}").contains("geheim"));
        assert_eq!(serde_json::from_str::<Snapshot>(&serde_json::to_string(&shared).unwrap()).unwrap(), shared);
        let moved =
            Snapshot { store: Some(Box::new(SnapshotStore { url: "redis://mallory".to_owned(), ..store("geheim", "7") })), ..shared };
        assert!(!moved.is_intact());
    }

    #[test]
    fn how_callers_prove_themselves_changes_digest_and_version_and_the_credential_does_not_show() {
        let proving = |value: &str, revision: &str, keys| {
            let credential = SnapshotCredential { revision: revision.to_owned(), value: value.to_owned() };
            let authentication = SnapshotAuthentication { keys, credential: Some(credential), ..SnapshotAuthentication::default() };
            Snapshot::new(vec![policy("a", 1)]).proving_callers(authentication)
        };
        let one = proving("Bearer geheim", "7", None);
        assert_eq!(one.version, "2");
        assert!(one.is_intact());
        assert_eq!(one.sha256, proving("Bearer other", "7", None).sha256);
        assert_ne!(one.sha256, proving("Bearer geheim", "8", None).sha256);
        assert_ne!(one.sha256, proving("Bearer geheim", "7", Some(Vec::new())).sha256);
        assert!(!format!("{one:?}").contains("geheim"));
        assert_eq!(serde_json::from_str::<Snapshot>(&serde_json::to_string(&one).unwrap()).unwrap(), one);
    }

    #[test]
    fn a_sidecar_that_would_pass_over_a_field_is_told_by_the_version() {
        let version = |b| Snapshot::new(vec![policy("a", 1), b]).version;
        assert_eq!(version(policy("b", 1)), "1");
        assert_eq!(version(SnapshotPolicy { from: Some(Vec::new()), ..policy("b", 1) }), "2");
        assert_eq!(version(SnapshotPolicy { on_audit_error: OnAuditError::Drop, ..policy("b", 1) }), "2");
    }

    #[test]
    fn a_snapshot_that_was_changed_on_the_way_is_noticed() {
        let line = serde_json::to_string(&WatchMessage::Snapshot(Snapshot::new(vec![policy("a", 1)]))).unwrap();
        let read = |line: &str| match serde_json::from_str(line).unwrap() {
            WatchMessage::Snapshot(snapshot) => snapshot,
            WatchMessage::Heartbeat { .. } => panic!("not a snapshot"),
        };
        assert!(read(&line).is_intact());
        assert!(!read(&line.replace("\"generation\":1", "\"generation\":2")).is_intact());
    }
}
