//! The definitions of the custom resources, generated from the types of the policy language.

use serde_json::{Value, json};

use mcp_policy::{ClusterPolicySpec, PolicySpec};

use super::rules::{SELECTORS, add_rules, overlay};
use super::schema::{KEEP_UNKNOWN, schema_of};
use super::{GROUP, Kind, PolicyStatus, VERSION};

/// The definition of a kind, as it is written to `crds/`.
#[must_use]
pub fn definition(kind: Kind) -> Value {
    let (name, plural) = (kind.as_str(), kind.plural());
    let (scope, short_name, singular, description) = match kind {
        Kind::Namespaced => (
            "Namespaced",
            "mcpp",
            "mcppolicy",
            "A policy on the tool calls that AI agents make to the MCP servers in the pods that it selects.",
        ),
        Kind::Cluster => (
            "Cluster",
            "cmcpp",
            "clustermcppolicy",
            "A policy on the tool calls that AI agents make to the MCP servers in the pods that it selects, in all the namespaces that it \
             selects. All policies of a pod must agree, so the policies of a namespace can tighten what this one says, and never loosen it.",
        ),
    };
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("{plural}.{GROUP}") },
        "spec": {
            "group": GROUP,
            "scope": scope,
            "names": {
                "kind": name,
                "listKind": format!("{name}List"),
                "plural": plural,
                "singular": singular,
                "shortNames": [short_name],
                "categories": ["mcp-policy"],
            },
            "versions": [{
                "name": VERSION,
                "served": true,
                "storage": true,
                "subresources": { "status": {} },
                "additionalPrinterColumns": columns(),
                "schema": { "openAPIV3Schema": {
                    "type": "object",
                    "description": description,
                    "required": ["spec"],
                    "properties": { "spec": spec_schema(kind), "status": status_schema() },
                } },
            }],
        },
    })
}

fn columns() -> Value {
    let condition = |type_: &str, field: &str| format!(".status.conditions[?(@.type==\"{type_}\")].{field}");
    json!([
        { "name": "Mode", "type": "string", "jsonPath": ".status.mode", "description": "Whether the policy in force refuses calls (enforce), or only says what it would do (audit)." },
        { "name": "Accepted", "type": "string", "jsonPath": condition("Accepted", "status"), "description": "Whether the policy can be enforced." },
        { "name": "Programmed", "type": "string", "jsonPath": condition("Programmed", "status"), "description": "Whether every selected pod enforces this generation." },
        { "name": "Selected", "type": "integer", "jsonPath": ".status.selected", "description": "Pods that the policy selects." },
        { "name": "Enforcing", "type": "integer", "jsonPath": ".status.enforcing", "description": "Selected pods that enforce this generation." },
        { "name": "Uncovered", "type": "integer", "jsonPath": ".status.uncovered", "priority": 1, "description": "Selected pods without the sidecar." },
        { "name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp", "description": "Time since the policy was created." },
        { "name": "Message", "type": "string", "jsonPath": condition("Accepted", "message"), "priority": 1, "description": "What there is to say of the policy." },
    ])
}

fn spec_schema(kind: Kind) -> Value {
    let mut spec = match kind {
        Kind::Namespaced => schema_of::<PolicySpec>(),
        Kind::Cluster => schema_of::<ClusterPolicySpec>(),
    };
    let description = "Which pods to govern, what runs in them, and the policy document: all from `version` down.";
    overlay(&mut spec, "", "description", json!(description));
    // The spec is put together from its parts, and so says nothing of fields that none of them knows.
    overlay(&mut spec, "", KEEP_UNKNOWN, json!(true));
    for selector in SELECTORS {
        overlay(&mut spec, &format!("{selector}/properties/matchLabels/additionalProperties"), "maxLength", json!(63));
    }
    if kind == Kind::Cluster {
        for (place, description) in [
            ("selector", "The pods to govern, by label, in the selected namespaces. `{}` selects every pod of them."),
            ("namespaceSelector/properties/matchLabels", "Labels that a namespace must have, with these values."),
            ("namespaceSelector/properties/matchExpressions", "Requirements on a namespace's labels."),
        ] {
            overlay(&mut spec, &format!("/properties/{place}"), "description", json!(description));
        }
    }
    for path in ["path", "ssePath"] {
        overlay(&mut spec, &format!("/properties/server/properties/{path}"), "pattern", json!("^/[^?#]*$"));
    }
    add_rules(&mut spec);
    spec
}

/// The bounds of Kubernetes' own conditions, which their Rust type does not carry.
fn status_schema() -> Value {
    let mut status = schema_of::<PolicyStatus>();
    let condition = "/properties/conditions/items/properties";
    overlay(&mut status, &format!("{condition}/type"), "maxLength", json!(316));
    overlay(&mut status, &format!("{condition}/status"), "enum", json!(["True", "False", "Unknown"]));
    overlay(&mut status, &format!("{condition}/reason"), "maxLength", json!(1024));
    overlay(&mut status, &format!("{condition}/message"), "maxLength", json!(32768));
    status
}

#[cfg(test)]
mod tests;
