//! The custom resource `McpApproval`: one call that waits for people, and what they said.
//!
//! The operator creates it; people add decisions, and nothing else; the operator marks it used. The admission policy
//! `mcp-policy-approvals` holds everybody to that.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube::core::NamespaceResourceScope;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

use crate::crd::{GROUP, VERSION};

/// The kind.
pub const KIND: &str = "McpApproval";
/// The name of the resource in URLs.
pub const PLURAL: &str = "mcpapprovals";

/// An approval as it is stored.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct McpApproval {
    /// Name, namespace, and the rest.
    pub metadata: ObjectMeta,
    /// The call, and what people said.
    pub spec: ApprovalSpec,
    /// What the operator wrote.
    #[serde(default)]
    pub status: Option<ApprovalStatus>,
}

/// An approval as it is written: the API server takes no object that does not say what it is.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    api_version: String,
    kind: &'static str,
    metadata: &'a ObjectMeta,
    spec: &'a ApprovalSpec,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a ApprovalStatus>,
}

impl Serialize for McpApproval {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { metadata, spec, status } = self;
        let api_version = format!("{GROUP}/{VERSION}");
        Written { api_version, kind: KIND, metadata, spec, status: status.as_ref() }.serialize(serializer)
    }
}

/// A call that waits for people. Only `decisions` ever changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApprovalSpec {
    /// Who calls, as audit lines name them.
    #[schemars(length(min = 1, max = 1024))]
    pub caller: String,
    /// The server that is called: what owns the pod, as `Deployment/web`.
    #[schemars(length(min = 1, max = 512))]
    pub server: String,
    /// The tool.
    #[schemars(length(min = 1, max = 1024))]
    pub tool: String,
    /// The arguments, as far as the policy shows them.
    pub arguments: ApprovedArguments,
    /// The policy that asks.
    pub policy: AskingPolicy,
    /// The policy author's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub reason: Option<String>,
    /// How many people must say yes: 1 or 2.
    #[schemars(range(min = 1, max = 2))]
    pub approvers: u8,
    /// From then on nobody is asked any more, and nothing passes. RFC 3339.
    #[schemars(length(max = 64))]
    pub expires_at: String,
    /// What people said. Each may say one thing, once; whoever says it must have the right to `approve` `mcpapprovals`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2))]
    pub decisions: Vec<Decision>,
}

/// The arguments of a call, as far as a policy shows them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApprovedArguments {
    /// SHA-256 in hex of the arguments as JSON in one form only: keys in order, no blanks, numbers as exact decimals. It is what is
    /// approved.
    #[schemars(length(min = 64, max = 64))]
    pub sha256: String,
    /// Their names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 256)))]
    pub keys: Vec<String>,
    /// The arguments as they were sent, a JSON text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16384))]
    pub values: Option<String>,
}

/// The policy that asks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AskingPolicy {
    /// Its namespace; none of a cluster policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub namespace: Option<String>,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// `metadata.generation` of the revision that asks. An approval is good for no other.
    pub generation: i64,
    /// JSON pointer (RFC 6901) to the field that asks.
    #[schemars(length(max = 2048))]
    pub rule: String,
}

/// What a person said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// Yes or no.
    pub verdict: Verdict,
    /// The user name of the person, as the API server knows it: it refuses any other.
    #[schemars(length(min = 1, max = 1024))]
    pub by: String,
    /// Why. Of a denial it is told to the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub reason: Option<String>,
}

/// Yes or no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Verdict {
    /// The call may pass, once.
    Approved,
    /// It may not.
    Denied,
}

/// What the operator wrote.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApprovalStatus {
    /// For people to read; what is decided follows from the decisions, `usedAt` and the time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// When the call passed. RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub used_at: Option<String>,
    /// The pod through which it passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub used_by: Option<String>,
}

/// What became of an approval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum State {
    /// People are asked.
    Pending,
    /// The call may pass, once.
    Approved,
    /// It may not.
    Denied,
    /// Its time is over.
    Expired,
    /// The call passed.
    Used,
}

impl State {
    /// The state as it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Approved => "Approved",
            Self::Denied => "Denied",
            Self::Expired => "Expired",
            Self::Used => "Used",
        }
    }
}

impl ApprovalSpec {
    /// When it expires; none where that cannot be read.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.expires_at.parse().ok()
    }
}

impl McpApproval {
    /// Namespace and name; empty where there is none, which the API server never sends.
    #[must_use]
    pub fn key(&self) -> (String, String) {
        (self.metadata.namespace.clone().unwrap_or_default(), self.metadata.name.clone().unwrap_or_default())
    }
}

impl kube::Resource for McpApproval {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        KIND.into()
    }
    fn group((): &()) -> Cow<'_, str> {
        GROUP.into()
    }
    fn version((): &()) -> Cow<'_, str> {
        VERSION.into()
    }
    fn plural((): &()) -> Cow<'_, str> {
        PLURAL.into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
