//! Pure: what becomes of a policy's present revision, and which revision is in force.
//!
//! A revision is accepted when the sidecar's own code reads and compiles it: accepted means enforceable. While the present one
//! is not, the last accepted one stays in force with all it says, its selector too; a policy of which none was ever accepted
//! refuses every call to the pods that it selects.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use mcp_policy::authentication::Authentication;
use mcp_policy::caller_match::CallerMatch;
use mcp_policy::document::Document;
use mcp_policy::resource::{OnAuditError, Selector};
use mcp_policy::snapshot::SnapshotPolicy;
use mcp_policy::{Mode, PolicyId, PolicySpec, Rollout, Server, read};

use crate::crd::{Kind, StoredPolicy};
use crate::namespaces::Labels;

/// A policy whose present revision was judged.
#[derive(Clone, Debug)]
pub struct Judged {
    /// Name of the policy, and the namespace whose pods it governs; a cluster policy has none.
    pub id: PolicyId,
    /// `metadata.uid`: another one is another policy of the same name.
    pub uid: String,
    /// `metadata.generation` of the present revision.
    pub generation: i64,
    /// Whether the present revision can be enforced.
    pub verdict: Verdict,
    /// The last revision that was accepted: the present one if its verdict says so.
    pub in_force: Option<Arc<Revision>>,
    /// What the present revision selects, if that can be read by itself.
    present: Option<Selection>,
}

/// Which pods a policy selects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// The namespaces, of a cluster policy.
    namespaces: Option<Selector>,
    pods: Selector,
}

/// Where a pod stands: what a policy can select it by.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// The labels of the namespace; none if no cluster policy can govern it.
    pub namespace_labels: Option<&'a Labels>,
    /// Its own labels.
    pub labels: &'a Labels,
}

/// Whether a revision can be enforced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It can.
    Accepted {
        /// What its author may not have meant. Each names the field.
        warnings: Vec<String>,
    },
    /// It cannot. The text names each field that is wrong.
    Invalid(String),
}

/// A revision that was accepted.
#[derive(Clone, Debug)]
pub struct Revision {
    /// `metadata.generation` of the revision.
    pub generation: i64,
    /// The spec as it was written.
    pub raw: Value,
    /// Whether it refuses.
    pub mode: Mode,
    /// What becomes of selected pods without the sidecar.
    pub rollout: Rollout,
    /// Whether any rule has a limit.
    pub has_limits: bool,
    selection: Selection,
    server: Server,
    from: Option<Vec<CallerMatch>>,
    on_audit_error: OnAuditError,
    document: Document,
    warnings: Vec<String>,
}

impl Judged {
    /// Judges the present revision of a policy. `before` is what was said of it when it was last seen.
    #[must_use]
    pub fn new(policy: &StoredPolicy, before: Option<&Self>) -> Self {
        let uid = policy.metadata.uid.clone().unwrap_or_default();
        let before = before.filter(|before| before.uid == uid);
        let (id, generation) = (policy.id(), policy.generation());
        let (verdict, in_force) = match Revision::accept(&id, generation, &policy.spec) {
            Ok(revision) => (Verdict::Accepted { warnings: revision.warnings.clone() }, Some(Arc::new(revision))),
            Err(message) => (Verdict::Invalid(message), last_accepted(&id, policy, before)),
        };
        let present = Selection::alone(Kind::of(&id), &policy.spec);
        Self { id, uid, generation, verdict, in_force, present }
    }

    /// Whether the present revision was accepted.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        matches!(self.verdict, Verdict::Accepted { .. })
    }

    /// Whether the other is about the same revision of the same policy, with the same one in force.
    #[must_use]
    pub fn is_same_revision(&self, other: &Self) -> bool {
        let in_force = |judged: &Self| judged.in_force.as_ref().map(|revision| revision.generation);
        self.uid == other.uid && self.generation == other.generation && in_force(self) == in_force(other)
    }

    /// The kind of the policy.
    #[must_use]
    pub fn kind(&self) -> Kind {
        Kind::of(&self.id)
    }

    /// Whether the policy refuses. One of which no revision was ever accepted does, whatever its mode.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.in_force.as_ref().map_or(Mode::Enforce, |revision| revision.mode)
    }

    /// Whether the policy governs a pod: by what the revision that is in force selects.
    #[must_use]
    pub fn governs(&self, pod: Place<'_>) -> bool {
        self.governing().is_some_and(|selection| self.selects(selection, pod))
    }

    /// Whether a new pod needs the sidecar: the policy governs it, or the present revision selects it. The second is what the
    /// admission policies of the API server see, whether we accept the revision or not.
    #[must_use]
    pub fn wants_sidecar(&self, pod: Place<'_>) -> bool {
        self.selections().any(|selection| self.selects(selection, pod))
    }

    /// Of a cluster policy: the selector of the namespaces whose pods it governs.
    #[must_use]
    pub fn namespace_selector(&self) -> Option<&Selector> {
        self.governing()?.namespaces.as_ref()
    }

    /// Of a cluster policy: the selectors of all namespaces in which a new pod may need the sidecar.
    pub fn namespace_selectors(&self) -> impl Iterator<Item = &Selector> {
        self.selections().filter_map(|selection| selection.namespaces.as_ref())
    }

    fn governing(&self) -> Option<&Selection> {
        self.in_force.as_ref().map(|revision| &revision.selection).or(self.present.as_ref())
    }

    fn selections(&self) -> impl Iterator<Item = &Selection> {
        self.governing().into_iter().chain(&self.present)
    }

    fn selects(&self, selection: &Selection, pod: Place<'_>) -> bool {
        let is_here = match (self.id.namespace(), &selection.namespaces) {
            (Some(namespace), _) => namespace == pod.namespace,
            (None, Some(selector)) => pod.namespace_labels.is_some_and(|labels| selector.matches(labels)),
            (None, None) => false,
        };
        is_here && selection.pods.matches(pod.labels)
    }

    /// Whether the revision in force has a limit.
    #[must_use]
    pub fn has_limits(&self) -> bool {
        self.in_force.as_ref().is_some_and(|revision| revision.has_limits)
    }

    /// What the revision in force says of how callers prove who they are.
    #[must_use]
    pub fn authentication(&self) -> Option<&Authentication> {
        self.in_force.as_ref()?.server.authentication.as_deref()
    }

    /// Whom the revision in force speaks about; none for everyone.
    #[must_use]
    pub fn from(&self) -> Option<&[CallerMatch]> {
        self.in_force.as_ref()?.from.as_deref()
    }

    /// The policy as the sidecars get it.
    #[must_use]
    pub fn to_snapshot(&self) -> SnapshotPolicy {
        let revision = self.in_force.as_ref();
        SnapshotPolicy {
            namespace: self.id.namespace().map(str::to_owned),
            name: self.id.name().to_owned(),
            generation: revision.map_or(self.generation, |revision| revision.generation),
            mode: self.mode(),
            server: revision.map(|revision| revision.server.clone()).unwrap_or_default(),
            from: revision.and_then(|revision| revision.from.clone()),
            on_audit_error: revision.map(|revision| revision.on_audit_error).unwrap_or_default(),
            document: revision.map(|revision| revision.document.clone()),
        }
    }
}

impl Selection {
    /// What a spec selects, whatever else it says; none if that cannot be read.
    fn alone(kind: Kind, spec: &Value) -> Option<Self> {
        let selector = |field: &str| Selector::deserialize(spec.get(field)?).ok();
        let namespaces = match kind {
            Kind::Namespaced => None,
            Kind::Cluster => Some(selector("namespaceSelector")?),
        };
        Some(Self { namespaces, pods: selector("selector")? })
    }
}

impl Revision {
    /// How many people must approve a call that waits for them.
    #[must_use]
    pub fn approvers(&self) -> u8 {
        self.document.approvals.as_ref().and_then(|approvals| approvals.approvers).unwrap_or(1)
    }

    fn accept(id: &PolicyId, generation: i64, raw: &Value) -> Result<Self, String> {
        let read = match Kind::of(id) {
            Kind::Namespaced => read::spec(raw).map(|spec| (None, spec)),
            Kind::Cluster => read::cluster_spec(raw).map(|spec| (Some(spec.namespace_selector), spec.policy)),
        };
        let (namespaces, PolicySpec { selector: pods, server, from, mode, on_audit_error, rollout, document }) =
            read.map_err(|error| error.to_string())?;
        let policy = mcp_policy::compile_resource(id.clone(), from.as_deref(), mode, &document).map_err(|errors| {
            let errors: Vec<_> = errors.0.iter().map(|error| format!("spec.{error}")).collect();
            errors.join("; ")
        })?;
        let of_callers = server.authentication.iter().flat_map(|said| said.warnings(from.as_deref()));
        let warnings = policy.warnings().iter().cloned().chain(of_callers).map(|warning| format!("spec.{warning}")).collect();
        let selection = Selection { namespaces, pods };
        Ok(Self {
            generation,
            raw: raw.clone(),
            mode,
            rollout,
            has_limits: policy.has_limits(),
            selection,
            server,
            from,
            on_audit_error,
            document,
            warnings,
        })
    }
}

/// The revision that stays in force: what the leader wrote into the status, once it has judged this very generation, else what
/// this replica remembers, else what the status says. So replicas agree even if one of them missed a revision.
fn last_accepted(id: &PolicyId, policy: &StoredPolicy, before: Option<&Judged>) -> Option<Arc<Revision>> {
    let remembered = before.and_then(|before| before.in_force.clone());
    let status = policy.status.as_ref();
    let written = || {
        let revision = status?.last_accepted.as_ref()?;
        if let Some(remembered) = remembered.as_ref().filter(|remembered| remembered.generation == revision.generation) {
            return Some(Arc::clone(remembered));
        }
        // It was accepted once; another build of the operator may read it otherwise, and then it is not enforceable here.
        Revision::accept(id, revision.generation, &revision.spec).ok().map(Arc::new)
    };
    let is_judged = status.and_then(|status| status.observed_generation) == Some(policy.generation());
    if is_judged { written().or_else(|| remembered.clone()) } else { remembered.clone().or_else(written) }
}

#[cfg(test)]
mod tests;
