//! The custom resources: policies as the API server stores them.
//!
//! Guarantee: every policy that the API server can send decodes, whatever its `spec` says. The spec stays raw JSON here and is
//! read by [`mcp_policy::read`], so one odd object never stops a watch.

mod definition;
mod rules;
mod schema;

pub use definition::definition;
pub(crate) use schema::schema_of;

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::core::DynamicResourceScope;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use mcp_policy::{Mode, PolicyId, read};

/// API group of the custom resources, and prefix of all metadata keys.
pub const GROUP: &str = "mcp-policy.dev";
/// Served and stored version.
pub const VERSION: &str = "v1alpha1";

/// The kinds of policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `McpPolicy`: governs pods of its own namespace.
    Namespaced,
    /// `ClusterMcpPolicy`: governs pods of the namespaces that it selects.
    Cluster,
}

impl Kind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Namespaced, Self::Cluster];

    /// The kind of a policy of this name: only one of a namespace has a namespace.
    #[must_use]
    pub fn of(id: &PolicyId) -> Self {
        if id.namespace().is_some() { Self::Namespaced } else { Self::Cluster }
    }

    /// The kind as manifests write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Namespaced => read::KIND,
            Self::Cluster => read::CLUSTER_KIND,
        }
    }

    /// The name of its resource in URLs.
    #[must_use]
    pub fn plural(self) -> &'static str {
        match self {
            Self::Namespaced => "mcppolicies",
            Self::Cluster => "clustermcppolicies",
        }
    }
}

/// A policy of either kind as it is stored.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct StoredPolicy {
    /// Name, namespace (none of a cluster policy), generation and the rest.
    pub metadata: ObjectMeta,
    /// The spec, unread.
    #[serde(default)]
    pub spec: Value,
    /// What the operator wrote. None where it has not yet, or where somebody else wrote something else.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "if_readable")]
    pub status: Option<PolicyStatus>,
}

/// A status that cannot be read is as none: the operator writes it anew.
fn if_readable<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PolicyStatus>, D::Error> {
    Value::deserialize(deserializer).map(|value| serde_json::from_value(value).ok())
}

/// What the operator found out about a policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// `Accepted`: the policy can be enforced. `Covered`: every selected pod has the sidecar. `Programmed`: every selected pod
    /// enforces this generation. `LimitsPerPod`: several pods are selected, and each counts for itself. `CallersProvable`, of a
    /// policy that asks callers for a proof: what they are proved with is there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,

    /// The mode of the revision that is in force: `enforce`, or `audit`. A policy of which no revision was ever accepted
    /// refuses every call, whatever its mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,

    /// How many pods the policy selects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selected: Option<u32>,

    /// How many of them have the sidecar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub injected: Option<u32>,

    /// How many of them have said that they enforce this generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforcing: Option<u32>,

    /// How many have the sidecar, and enforce an earlier generation or have not said yet what they enforce.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale: Option<u32>,

    /// How many have no sidecar, so that calls reach them unchecked: they are older than their first policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uncovered: Option<u32>,

    /// The last revision that was accepted. It is in force while the present one is not accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_accepted: Option<AcceptedRevision>,
}

/// A revision of a policy that was accepted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AcceptedRevision {
    /// `metadata.generation` of the revision.
    pub generation: i64,
    /// The spec of the revision, as it was.
    #[schemars(schema_with = "schema::any_object")]
    pub spec: Value,
}

impl StoredPolicy {
    /// `metadata.generation`; 0 where there is none, which the API server never sends.
    #[must_use]
    pub fn generation(&self) -> i64 {
        self.metadata.generation.unwrap_or_default()
    }

    /// Namespace and name; an empty name where there is none, which the API server never sends.
    #[must_use]
    pub fn id(&self) -> PolicyId {
        PolicyId::new(self.metadata.namespace.as_deref(), self.metadata.name.as_deref().unwrap_or_default())
    }
}

impl kube::Resource for StoredPolicy {
    type DynamicType = Kind;
    type Scope = DynamicResourceScope;

    fn kind(kind: &Kind) -> Cow<'_, str> {
        kind.as_str().into()
    }
    fn group(_: &Kind) -> Cow<'_, str> {
        GROUP.into()
    }
    fn version(_: &Kind) -> Cow<'_, str> {
        VERSION.into()
    }
    fn plural(kind: &Kind) -> Cow<'_, str> {
        kind.plural().into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn whatever_spec_and_status_say_the_object_decodes() {
        for odd in [json!(null), json!(7), json!({"tools": [1]}), json!({"conditions": "none", "lastAccepted": 3})] {
            let object = json!({ "apiVersion": "mcp-policy.dev/v1alpha1", "kind": "McpPolicy", "metadata": {"name": "p"}, "spec": odd, "status": odd });
            let policy: StoredPolicy = serde_json::from_value(object).unwrap();
            assert_eq!(policy.spec, odd);
            assert_eq!(policy.status.unwrap_or_default(), PolicyStatus::default());
        }
        let bare: StoredPolicy = serde_json::from_value(json!({"metadata": {}})).unwrap();
        assert_eq!(bare.spec, Value::Null);
    }

    #[test]
    fn the_kind_is_known_by_the_name() {
        let id = |namespace: Value| {
            let policy: StoredPolicy = serde_json::from_value(json!({ "metadata": { "namespace": namespace, "name": "p" } })).unwrap();
            policy.id()
        };
        assert_eq!((id(json!("a")).to_string(), Kind::of(&id(json!("a")))), ("a/p".to_owned(), Kind::Namespaced));
        assert_eq!((id(json!(null)).to_string(), Kind::of(&id(json!(null)))), ("p".to_owned(), Kind::Cluster));
    }
}
