//! What an `McpPolicy` says beside its document: which pods it governs, and what runs in them. Plain data, without Kubernetes
//! types, so that the command line and the sidecar read manifests as the operator does.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::authentication::Authentication;
use crate::caller_match::CallerMatch;
use crate::document::Document;

/// The `spec` of an `McpPolicy`: a selector, a description of the server, and the policy document.
///
/// Read it with [`crate::read::spec`], which names the field in its errors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicySpec {
    /// The pods to govern, by label, in the policy's namespace. `{}` selects every pod of the namespace.
    pub selector: Selector,

    /// What is known of the MCP server in the selected pods.
    #[serde(default, skip_serializing_if = "Server::is_default")]
    pub server: Server,

    /// Whom the policy speaks about: a caller that one of the entries matches. Default: everyone. `[]` is nobody. For other callers the
    /// policy is not in force; a caller for whom none is, is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub from: Option<Vec<CallerMatch>>,

    /// `enforce` (the default), or `audit`: every call is decided and recorded, and none is refused or hidden by this policy.
    #[serde(default, skip_serializing_if = "Mode::is_enforce")]
    pub mode: Mode,

    /// What becomes of a call when its audit line cannot be written, because lines are not taken as fast as they come. `deny` (the
    /// default): it waits for a quarter of a second, and is refused with `audit_unavailable`. `drop`: it is decided as ever, and its
    /// line is lost and counted. If the policies of a pod differ, `deny` holds.
    #[serde(default, skip_serializing_if = "OnAuditError::is_deny")]
    pub on_audit_error: OnAuditError,

    /// What becomes of selected pods that are older than the policy and so run without the sidecar. `manual` (the default): they
    /// are reported. `restart`: their `Deployment`, `StatefulSet` or `DaemonSet` is restarted once, by its own strategy, if the
    /// operator was installed with the right to do so.
    #[serde(default, skip_serializing_if = "Rollout::is_manual")]
    pub rollout: Rollout,

    /// The policy document.
    #[serde(flatten)]
    pub document: Document,
}

/// The `spec` of a `ClusterMcpPolicy`: a [`PolicySpec`] for the namespaces that it selects. All policies of a pod must agree,
/// so those of a namespace can only tighten what a cluster policy says.
///
/// Read it with [`crate::read::cluster_spec`], which names the field in its errors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterPolicySpec {
    /// The namespaces whose pods are governed, by label. `{}` selects every namespace but those of the system.
    pub namespace_selector: Selector,

    /// The rest is as in an `McpPolicy`.
    #[serde(flatten)]
    pub policy: PolicySpec,
}

/// Whether a policy refuses, or only says what it would do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Refuses.
    #[default]
    Enforce,
    /// Decides and records, and lets the call pass.
    Audit,
}

impl Mode {
    /// Whether the policy refuses.
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if passes a reference")]
    #[must_use]
    pub fn is_enforce(&self) -> bool {
        *self == Self::Enforce
    }

    /// The mode as documents and metrics write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Audit => "audit",
        }
    }
}

/// What becomes of a call whose audit line cannot be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnAuditError {
    /// It is refused.
    #[default]
    Deny,
    /// It is decided as ever; the line is lost, and counted.
    Drop,
}

impl OnAuditError {
    /// Whether the call is refused.
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if passes a reference")]
    #[must_use]
    pub fn is_deny(&self) -> bool {
        *self == Self::Deny
    }
}

/// What becomes of selected pods that run without the sidecar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Rollout {
    /// They are reported.
    #[default]
    Manual,
    /// What makes them is restarted once.
    Restart,
}

impl Rollout {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if passes a reference")]
    fn is_manual(&self) -> bool {
        *self == Self::Manual
    }
}

/// A Kubernetes label selector. All of its requirements must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Selector {
    /// Labels that a pod must have, with these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub match_labels: BTreeMap<String, String>,

    /// Requirements on a pod's labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub match_expressions: Vec<Requirement>,
}

/// One requirement on a label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Requirement {
    /// The label's key.
    #[schemars(length(min = 1, max = 317))]
    pub key: String,
    /// How the label and the values relate.
    pub operator: Operator,
    /// At least one for `In` and `NotIn`, none for `Exists` and `DoesNotExist`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 63)))]
    pub values: Vec<String>,
}

/// The operators of Kubernetes' label selectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Operator {
    /// The label is there with one of the values.
    In,
    /// The label is missing, or has none of the values.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is missing.
    DoesNotExist,
}

impl Selector {
    /// Whether the selector selects a pod with these labels, as Kubernetes decides it.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(|requirement| requirement.holds(labels))
    }
}

impl Requirement {
    fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        match self.operator {
            Operator::In => value.is_some_and(|value| self.values.contains(value)),
            Operator::NotIn => value.is_none_or(|value| !self.values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

/// What is known of the MCP server in the governed pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Server {
    /// The ports where the server speaks MCP. Default: every TCP port of the pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(range(min = 1, max = 65535)))]
    pub ports: Vec<u16>,

    /// Ports that are forwarded without policy, such as the app's own metrics. Default: none. Whoever reaches the pod reaches
    /// them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(range(min = 1, max = 65535)))]
    pub passthrough_ports: Vec<u16>,

    /// The MCP endpoint. Default: `/mcp`. Every other path is refused, but the discovery documents of OAuth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub path: Option<String>,

    /// Opens the older HTTP+SSE transport (2024-11-05) as well, for servers that still speak it: the path of its event stream, mostly
    /// `/sse`. Default: none, and the transport is closed. Messages are taken at the URI that the server announces on the stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub sse_path: Option<String>,

    /// How callers prove who they are. Default: they do not, and a caller is the address that it connects from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentication: Option<Box<Authentication>>,
}

impl Server {
    /// The endpoint of a server whose policies name none.
    pub const DEFAULT_PATH: &str = "/mcp";

    /// Whether nothing was said.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_selector_selects_as_kubernetes_does() {
        let labels = BTreeMap::from([("app".to_owned(), "mcp".to_owned()), ("tier".to_owned(), String::new())]);
        let expression = |operator: &str, key: &str, values: &[&str]| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
        let cases = [
            (json!({}), true),
            (json!({"matchLabels": {"app": "mcp"}}), true),
            (json!({"matchLabels": {"app": "MCP"}}), false),
            (json!({"matchLabels": {"app": "mcp", "no": "such"}}), false),
            (expression("In", "app", &["x", "mcp"]), true),
            (expression("In", "no", &["mcp"]), false),
            (expression("NotIn", "app", &["mcp"]), false),
            (expression("NotIn", "no", &["mcp"]), true),
            (expression("Exists", "tier", &[]), true),
            (expression("Exists", "no", &[]), false),
            (expression("DoesNotExist", "no", &[]), true),
            (expression("DoesNotExist", "app", &[]), false),
            (json!({"matchLabels": {"app": "mcp"}, "matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}), false),
        ];
        for (selector, expected) in cases {
            let read: Selector = serde_json::from_value(selector.clone()).unwrap();
            assert_eq!(read.matches(&labels), expected, "{selector}");
        }
    }
}
