//! `from`: the callers that a policy speaks about.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Callers that a policy speaks about. Every field that is there must match. A text is an exact name, or a glob with `*` and `?`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CallerMatch {
    /// How the caller proved who it is: `serviceAccount` by a token of a Kubernetes service account, `jwt` by one of another issuer,
    /// `key` by a key of `mcp-policy key create`; `anonymous` not at all.
    pub kind: CallerKind,
    /// The service account's namespace. Required beside the `name` of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub namespace: Option<String>,
    /// The name of the service account, or of the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub name: Option<String>,
    /// The token's issuer. Required beside `subject` and `claims`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub issuer: Option<String>,
    /// The token's subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub subject: Option<String>,
    /// Claims that the token must have. A text is a pattern; a list in the token needs one element that matches; an object needs those
    /// of its members that are named here; everything else must be equal.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "claims")]
    pub claims: BTreeMap<String, serde_json::Value>,
    /// The address of an anonymous caller, or a CIDR that it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub address: Option<String>,
}

/// How a caller proved who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum CallerKind {
    /// By a token of a Kubernetes service account.
    ServiceAccount,
    /// By a JSON Web Token of another issuer.
    Jwt,
    /// By a key.
    Key,
    /// Not at all.
    Anonymous,
}

impl CallerKind {
    /// The kind as documents write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ServiceAccount => "serviceAccount",
            Self::Jwt => "jwt",
            Self::Key => "key",
            Self::Anonymous => "anonymous",
        }
    }
}

/// Claims are any JSON object, in the form that Kubernetes' structural schemas have for it.
fn claims(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "maxProperties": 16, "x-kubernetes-preserve-unknown-fields": true })
}
