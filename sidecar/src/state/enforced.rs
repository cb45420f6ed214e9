//! Policies as they are enforced, made from a snapshot or from files: compiled, checked, and never changed.

use std::sync::Arc;

use mcp_policy::caller_match::CallerMatch;
use mcp_policy::read::Manifest;
use mcp_policy::resource::OnAuditError;
use mcp_policy::snapshot::{SNAPSHOT_VERSION, SNAPSHOT_VERSIONS};
use mcp_policy::{Caller, CompileErrors, Document, Mode, Policies, Policy, PolicyId, Server, Snapshot, compile_resource};

use crate::authenticate::{Authenticator, MaterialError};
use crate::front::exposure::Exposure;
use crate::session::owner::Owner;
use crate::store::{AddressError, StoreAddress};

/// The policies in force and what belongs to them. Never changed, only replaced.
#[derive(Debug, Default)]
pub struct Enforced {
    /// Compiled.
    pub policies: Policies,
    /// Who callers are; none if no policy asks for a proof.
    pub authenticator: Option<Authenticator>,
    /// Ports and paths that are open.
    pub exposure: Exposure,
    /// Which snapshot this is; none before the first.
    pub snapshot: Option<SnapshotId>,
    /// The policies by name, and which revision of each is in force.
    pub revisions: Vec<Revision>,
    /// What the policies' authors may not have meant.
    pub warnings: Vec<String>,
    /// Whether a call is refused whose audit line cannot be written: some policy that enforces says so.
    pub refuses_unaudited: bool,
    /// Where a snapshot says that counters are shared.
    pub store: Option<StoreAddress>,
}

/// Names a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotId {
    /// Version of the snapshot's form.
    pub version: String,
    /// Hex digest of its policies.
    pub sha256: String,
}

/// One policy in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// The policy.
    pub policy: PolicyId,
    /// The policy, as metrics and audit lines name it.
    pub name: Arc<str>,
    /// `metadata.generation`, or the beginning of the digest of a file.
    pub revision: Arc<str>,
    /// Whether it refuses, or only says what it would do.
    pub mode: Mode,
    /// Whether a revision of it was ever accepted; if not, it refuses every call.
    pub accepted: bool,
}

/// Why a snapshot or file was not applied. What was in force before still is.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The form is of another version.
    #[error("snapshot version {0} is not known to this sidecar, which reads versions {known}", known = SNAPSHOT_VERSIONS.join(" and "))]
    Version(String),
    /// The digest is not that of the content.
    #[error("the digest of the snapshot is not that of its policies")]
    Digest,
    /// A policy does not compile.
    #[error("policy {policy}: {errors}")]
    Compile {
        /// The policy.
        policy: PolicyId,
        /// All that is wrong with it.
        errors: CompileErrors,
    },
    /// The counter store cannot be.
    #[error(transparent)]
    Store(#[from] AddressError),
    /// What callers prove themselves with cannot be used.
    #[error("authentication: {0}")]
    Authentication(#[from] MaterialError),
    /// A policy of a file asks for what only an operator can bring.
    #[error(
        "policy {0}: server.authentication: callers are proved with keys that the operator fetches, and there is none here; leave the field \
         out, or guard the server in a cluster"
    )]
    NoOperator(PolicyId),
    /// The files cannot be read as policies; all that is wrong, one a line.
    #[error("{0}")]
    File(String),
}

impl Enforced {
    /// Checks and compiles a snapshot.
    pub fn from_snapshot(snapshot: &Snapshot) -> Result<Self, ApplyError> {
        if !SNAPSHOT_VERSIONS.contains(&snapshot.version.as_str()) {
            return Err(ApplyError::Version(snapshot.version.clone()));
        }
        if !snapshot.is_intact() {
            return Err(ApplyError::Digest);
        }
        let parts = snapshot.policies.iter().map(|policy| Part {
            id: PolicyId::new(policy.namespace.as_deref(), &policy.name),
            document: policy.document.as_ref(),
            // One of which nothing was ever accepted refuses, whatever its mode.
            mode: if policy.document.is_some() { policy.mode } else { Mode::Enforce },
            server: &policy.server,
            from: policy.from.as_deref(),
            on_audit_error: policy.on_audit_error,
            revision: policy.generation.to_string(),
        });
        let store = snapshot.store.as_ref().map(|store| StoreAddress::parse(&store.url, store.credentials.clone())).transpose()?;
        let enforced = Self::compile(parts, SnapshotId { version: snapshot.version.clone(), sha256: snapshot.sha256.clone() })?;
        let authenticator = snapshot.authentication.as_deref().map(Authenticator::from_snapshot).transpose()?;
        let must_prove = authenticator.as_ref().is_some_and(Authenticator::is_required);
        let policies = if must_prove { enforced.policies.with_callers_that_prove() } else { enforced.policies };
        Ok(Self { policies, authenticator, store, ..enforced })
    }

    /// Compiles the policies of files. `sha256` names the files' content.
    pub fn from_files(policies: &[FilePolicy], sha256: String) -> Result<Self, ApplyError> {
        if let Some(policy) = policies.iter().find(|policy| policy.manifest.server.authentication.is_some()) {
            return Err(ApplyError::NoOperator(policy.manifest.id.clone()));
        }
        let parts = policies.iter().map(|FilePolicy { manifest, revision }| Part {
            id: manifest.id.clone(),
            document: Some(&manifest.document),
            mode: manifest.mode,
            server: &manifest.server,
            from: manifest.from.as_deref(),
            on_audit_error: manifest.on_audit_error,
            revision: revision.clone(),
        });
        Self::compile(parts, SnapshotId { version: SNAPSHOT_VERSION.to_owned(), sha256 })
    }

    fn compile<'a>(parts: impl Iterator<Item = Part<'a>> + Clone, snapshot: SnapshotId) -> Result<Self, ApplyError> {
        let some_enforce = parts.clone().any(|part| part.mode.is_enforce());
        let heeded = parts.clone().filter(|part| part.mode.is_enforce() || !some_enforce);
        let exposure = Exposure::new(heeded.map(|part| part.server));
        let refuses_unaudited = parts.clone().any(|part| part.mode.is_enforce() && part.on_audit_error == OnAuditError::Deny);
        let mut policies = Vec::new();
        let mut revisions = Vec::new();
        let mut warnings = Vec::new();
        for part in parts {
            let policy = match part.document {
                Some(document) => {
                    let compiled = compile_resource(part.id.clone(), part.from, part.mode, document);
                    compiled.map_err(|errors| ApplyError::Compile { policy: part.id.clone(), errors })?
                }
                None => Policy::refusing(part.id.clone()),
            };
            warnings.extend(policy.warnings().iter().map(|warning| format!("policy {}: {warning}", part.id)));
            policies.push(policy);
            revisions.push(Revision {
                name: part.id.to_string().into(),
                policy: part.id,
                revision: part.revision.into(),
                mode: part.mode,
                accepted: part.document.is_some(),
            });
        }
        Ok(Self {
            policies: Policies::new(policies),
            exposure,
            snapshot: Some(snapshot),
            revisions,
            warnings,
            refuses_unaudited,
            store: None,
            authenticator: None,
        })
    }

    /// As whom a caller has its sessions and tasks; none where callers need not prove who they are, and so everyone has everyone's.
    #[must_use]
    pub fn owner(&self, caller: &Caller) -> Option<Owner> {
        self.authenticator.as_ref().filter(|authenticator| authenticator.is_required()).map(|_| Owner::of(caller))
    }

    /// The revision of a policy that is in force.
    #[must_use]
    pub fn revision(&self, policy: &PolicyId) -> Option<&Revision> {
        self.revisions.iter().find(|one| one.policy == *policy)
    }

    /// Why this cannot serve callers; none if it can.
    #[must_use]
    pub fn not_ready(&self) -> Option<String> {
        if self.snapshot.is_none() {
            return Some("no policy was received yet; calls are refused".to_owned());
        }
        if self.revisions.is_empty() {
            return Some("no policy selects this pod; calls are refused".to_owned());
        }
        let never = self.revisions.iter().find(|one| !one.accepted)?;
        Some(format!("policy {} was never accepted; calls are refused", never.policy))
    }
}

/// One policy of a file.
#[derive(Debug)]
pub struct FilePolicy {
    /// What the file says.
    pub manifest: Manifest,
    /// The beginning of the digest of the file.
    pub revision: String,
}

/// One policy on its way to being compiled.
struct Part<'a> {
    id: PolicyId,
    document: Option<&'a Document>,
    mode: Mode,
    server: &'a Server,
    from: Option<&'a [CallerMatch]>,
    on_audit_error: OnAuditError,
    revision: String,
}

#[cfg(test)]
mod tests {
    use mcp_policy::snapshot::SnapshotPolicy;

    use super::*;

    fn policy(name: &str, document: Option<Document>) -> SnapshotPolicy {
        SnapshotPolicy {
            namespace: Some("imaging".to_owned()),
            name: name.to_owned(),
            generation: 3,
            mode: Mode::Enforce,
            server: Server::default(),
            from: None,
            on_audit_error: OnAuditError::Deny,
            document,
        }
    }

    #[test]
    fn nothing_is_ready_before_the_first_snapshot_or_without_an_accepted_policy() {
        assert!(Enforced::default().not_ready().unwrap().contains("received"));
        let empty = Enforced::from_snapshot(&Snapshot::new(Vec::new())).unwrap();
        assert!(empty.not_ready().unwrap().contains("selects"));
        let never = Snapshot::new(vec![policy("good", Some(Document::default())), policy("never", None)]);
        assert!(Enforced::from_snapshot(&never).unwrap().not_ready().unwrap().contains("imaging/never"));
        let good = Enforced::from_snapshot(&Snapshot::new(vec![policy("good", Some(Document::default()))])).unwrap();
        assert_eq!(good.not_ready(), None);
        assert_eq!(good.revision(&PolicyId::new(Some("imaging"), "good")).map(|one| &*one.revision), Some("3"));
    }

    fn with(name: &str, mode: Mode, server: Server, document: Option<Document>) -> SnapshotPolicy {
        SnapshotPolicy { mode, server, ..policy(name, document) }
    }

    #[test]
    fn policies_in_audit_mode_are_ready_to_serve() {
        let audit = Snapshot::new(vec![with("only", Mode::Audit, Server::default(), Some(Document::default()))]);
        let enforced = Enforced::from_snapshot(&audit).unwrap();
        assert_eq!(enforced.not_ready(), None);
        assert_eq!(enforced.revisions[0].mode, Mode::Audit);
        let never = Snapshot::new(vec![with("never", Mode::Audit, Server::default(), None)]);
        assert!(Enforced::from_snapshot(&never).unwrap().not_ready().unwrap().contains("imaging/never"));
    }

    #[test]
    fn a_policy_in_audit_mode_opens_and_closes_nothing_beside_one_that_enforces() {
        let server = |port, path: &str| Server {
            ports: vec![port],
            passthrough_ports: vec![9090],
            path: Some(path.to_owned()),
            ..Server::default()
        };
        let document = || Some(Document::default());
        let exposure = |policies| Enforced::from_snapshot(&Snapshot::new(policies)).unwrap().exposure;
        let alone = exposure(vec![with("real", Mode::Enforce, server(8080, "/real"), document())]);
        let beside = exposure(vec![
            with("trial", Mode::Audit, server(8081, "/trial"), document()),
            with("silent", Mode::Audit, Server::default(), document()),
            with("real", Mode::Enforce, server(8080, "/real"), document()),
        ]);
        assert_eq!(alone, beside);
        let only = exposure(vec![with("trial", Mode::Audit, server(8081, "/trial"), document())]);
        assert_eq!(only.endpoint(), Some("/trial"));
    }

    #[test]
    fn calls_are_refused_without_audit_lines_unless_all_policies_that_enforce_let_lines_drop() {
        let of = |name, mode, on_audit_error| SnapshotPolicy { mode, on_audit_error, ..policy(name, Some(Document::default())) };
        let (deny, drop) = (OnAuditError::Deny, OnAuditError::Drop);
        let (enforce, audit) = (Mode::Enforce, Mode::Audit);
        let cases = [
            (vec![of("a", enforce, deny)], true),
            (vec![of("a", enforce, drop)], false),
            (vec![of("a", enforce, drop), of("b", enforce, deny)], true),
            (vec![of("a", enforce, drop), of("b", audit, deny)], false),
            (vec![of("a", audit, deny)], false),
        ];
        for (policies, expected) in cases {
            let enforced = Enforced::from_snapshot(&Snapshot::new(policies.clone())).unwrap();
            assert_eq!(enforced.refuses_unaudited, expected, "{policies:?}");
        }
    }

    #[test]
    fn a_snapshot_that_was_changed_on_the_way_is_not_applied() {
        let mut snapshot = Snapshot::new(vec![policy("good", Some(Document::default()))]);
        snapshot.policies[0].document.as_mut().unwrap().default = mcp_policy::document::DefaultAction::Allow;
        assert!(matches!(Enforced::from_snapshot(&snapshot), Err(ApplyError::Digest)));
    }

    #[test]
    fn a_snapshot_of_another_version_is_not_applied() {
        let snapshot = Snapshot { version: "3".to_owned(), ..Snapshot::new(Vec::new()) };
        assert!(matches!(Enforced::from_snapshot(&snapshot), Err(ApplyError::Version(_))));
    }
}
