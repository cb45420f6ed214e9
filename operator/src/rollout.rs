//! Restarts what makes pods that run without the sidecar, where a policy says so: once for each policy, and by the owner's own
//! strategy, so that its replicas are replaced as in any update of it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use serde_json::json;

use mcp_policy::{PolicyId, Rollout};

use crate::accept::Judged;
use crate::names::OPERATOR;
use crate::pod::{Owner, Pod};

/// Annotation of a pod template: the uid of the policy for which it was restarted. Writing it anew changes nothing, so a restart
/// happens once, however often the operator itself restarts.
pub const RESTARTED_FOR: &str = "mcp-policy.dev/restarted-for";

/// What is to be restarted, and for which policy.
pub type Restarts = BTreeMap<Target, Cause>;

/// What makes pods.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    namespace: String,
    owner: Owner,
}

/// The policy that asks for a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// Its namespace and name.
    pub id: PolicyId,
    /// `metadata.uid`: another policy of the same name is another cause.
    pub uid: String,
}

/// Pure: what to restart so that this uncovered pod is replaced, if one of the policies that govern it says so. A policy of which
/// no revision was ever accepted restarts nothing: its pods would come up to refuse every call.
pub fn due<'a>(pod: &Pod, mut governing: impl Iterator<Item = &'a Arc<Judged>>) -> Option<(Target, Cause)> {
    let owner = pod.restartable_owner()?;
    let policy = governing.find(|policy| policy.in_force.as_ref().is_some_and(|revision| revision.rollout == Rollout::Restart))?;
    let target = Target { namespace: pod.namespace.clone(), owner: owner.clone() };
    Some((target, Cause { id: policy.id.clone(), uid: policy.uid.clone() }))
}

/// Has the owner replace its pods, unless it did so for this policy before.
pub async fn restart(client: &Client, target: &Target, policy_uid: &str) -> Result<(), kube::Error> {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("apps", "v1", &target.owner.kind));
    let owners = Api::<DynamicObject>::namespaced_with(client.clone(), &target.namespace, &kind);
    let patch = json!({ "spec": { "template": { "metadata": { "annotations": { RESTARTED_FOR: policy_uid } } } } });
    let params = PatchParams { field_manager: Some(OPERATOR.to_owned()), ..PatchParams::default() };
    owners.patch(&target.owner.name, &params, &Patch::Merge(patch)).await.map(|_| ())
}

impl Target {
    /// What an event about it regards.
    #[must_use]
    pub fn reference(&self) -> ObjectReference {
        ObjectReference {
            api_version: Some("apps/v1".to_owned()),
            kind: Some(self.owner.kind.clone()),
            namespace: Some(self.namespace.clone()),
            name: Some(self.owner.name.clone()),
            ..ObjectReference::default()
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.owner.kind, self.namespace, self.owner.name)
    }
}
