//! The definition of `McpApproval`, generated from its type.

use serde_json::{Value, json};

use super::resource::{ApprovalSpec, ApprovalStatus, KIND, PLURAL};
use crate::crd::{GROUP, VERSION, schema_of};

/// All that is fixed when an approval is asked for; decisions alone may come later, and who may add which is the admission policy's.
const FIXED: &str = "self.caller == oldSelf.caller && self.server == oldSelf.server && self.tool == oldSelf.tool && \
                     self.arguments == oldSelf.arguments && self.policy == oldSelf.policy && self.approvers == oldSelf.approvers && \
                     self.expiresAt == oldSelf.expiresAt && has(self.reason) == has(oldSelf.reason) && \
                     (!has(self.reason) || self.reason == oldSelf.reason)";

/// The definition, as it is written to `crds/`.
#[must_use]
pub fn definition() -> Value {
    let mut spec = schema_of::<ApprovalSpec>();
    spec["x-kubernetes-validations"] = json!([{ "rule": FIXED, "message": "nothing but decisions can be changed" }]);
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("{PLURAL}.{GROUP}") },
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": format!("{KIND}List"),
                "plural": PLURAL,
                "singular": "mcpapproval",
                "shortNames": ["mcpa"],
                "categories": ["mcp-policy"],
            },
            "versions": [{
                "name": VERSION,
                "served": true,
                "storage": true,
                "subresources": { "status": {} },
                "additionalPrinterColumns": [
                    { "name": "State", "type": "string", "jsonPath": ".status.state", "description": "What became of it." },
                    { "name": "Tool", "type": "string", "jsonPath": ".spec.tool", "description": "The tool that is called." },
                    { "name": "Caller", "type": "string", "jsonPath": ".spec.caller", "description": "Who calls." },
                    { "name": "Server", "type": "string", "jsonPath": ".spec.server", "description": "The server that is called." },
                    { "name": "Policy", "type": "string", "jsonPath": ".spec.policy.name", "description": "The policy that asks." },
                    { "name": "By", "type": "string", "jsonPath": ".spec.decisions[*].by", "description": "Who decided." },
                    { "name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp", "description": "Time since it was asked for." },
                    { "name": "Expires", "type": "string", "jsonPath": ".spec.expiresAt", "priority": 1, "description": "Until when it can be given and used." },
                ],
                "schema": { "openAPIV3Schema": {
                    "type": "object",
                    "description": "One tool call that waits for people, and what they said. The operator makes it; whoever has the right to approve it adds a decision.",
                    "required": ["spec"],
                    "properties": { "spec": spec, "status": schema_of::<ApprovalStatus>() },
                } },
            }],
        },
    })
}
