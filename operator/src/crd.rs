//! The custom resource: [`McpPolicy`] as the API server stores it, and the definition that is generated from the types of the
//! policy language.
//!
//! Guarantee: every `McpPolicy` that the API server can send decodes, whatever its `spec` says. The spec stays raw JSON here
//! and is read by [`mcp_policy::read::spec`], so one odd object never stops a watch.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::core::NamespaceResourceScope;
use schemars::{JsonSchema, generate::SchemaSettings};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};

use mcp_policy::PolicySpec;

/// API group of the custom resources, and prefix of all metadata keys.
pub const GROUP: &str = "mcp-policy.dev";
/// Served and stored version.
pub const VERSION: &str = "v1alpha1";
/// Kind of the resource.
pub const KIND: &str = "McpPolicy";
/// Resource name in URLs.
pub const PLURAL: &str = "mcppolicies";

/// An `McpPolicy` as it is stored.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct McpPolicy {
    /// Name, namespace, generation and the rest.
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

    /// `Accepted`: the policy can be enforced. `Programmed`: every selected pod enforces this generation. `LimitsPerPod`:
    /// several pods are selected, and each counts for itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,

    /// How many pods the selector selects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selected: Option<u32>,

    /// How many of them have the sidecar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub injected: Option<u32>,

    /// How many of them have said that they enforce this generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforcing: Option<u32>,

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
    #[schemars(schema_with = "any_object")]
    pub spec: Value,
}

fn any_object(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "object", KEEP_UNKNOWN: true })
}

impl McpPolicy {
    /// `metadata.generation`; 0 where there is none, which the API server never sends.
    #[must_use]
    pub fn generation(&self) -> i64 {
        self.metadata.generation.unwrap_or_default()
    }

    /// The namespace; empty where there is none, which the API server never sends.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// The name; empty where there is none, which the API server never sends.
    #[must_use]
    pub fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }
}

impl kube::Resource for McpPolicy {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind(&(): &()) -> Cow<'_, str> {
        KIND.into()
    }
    fn group(&(): &()) -> Cow<'_, str> {
        GROUP.into()
    }
    fn version(&(): &()) -> Cow<'_, str> {
        VERSION.into()
    }
    fn plural(&(): &()) -> Cow<'_, str> {
        PLURAL.into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// The definition of the custom resource, as it is written to `crds/`.
#[must_use]
pub fn definition() -> Value {
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
                "singular": "mcppolicy",
                "shortNames": ["mcpp"],
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
                    "description": "A policy on the tool calls that AI agents make to the MCP servers in the pods that it selects.",
                    "required": ["spec"],
                    "properties": { "spec": spec_schema(), "status": status_schema() },
                } },
            }],
        },
    })
}

fn columns() -> Value {
    let condition = |type_: &str, field: &str| format!(".status.conditions[?(@.type==\"{type_}\")].{field}");
    json!([
        { "name": "Accepted", "type": "string", "jsonPath": condition("Accepted", "status"), "description": "Whether the policy can be enforced." },
        { "name": "Programmed", "type": "string", "jsonPath": condition("Programmed", "status"), "description": "Whether every selected pod enforces this generation." },
        { "name": "Selected", "type": "integer", "jsonPath": ".status.selected", "description": "Pods that the selector selects." },
        { "name": "Enforcing", "type": "integer", "jsonPath": ".status.enforcing", "description": "Selected pods that enforce this generation." },
        { "name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp", "description": "Time since the policy was created." },
        { "name": "Message", "type": "string", "jsonPath": condition("Accepted", "message"), "priority": 1, "description": "What there is to say of the policy." },
    ])
}

fn spec_schema() -> Value {
    let mut spec = schema_of::<PolicySpec>();
    let own_port = json!([{ "rule": "self < 14140 || self > 14142", "message": "14140, 14141 and 14142 belong to the sidecar" }]);
    overlay(
        &mut spec,
        "",
        "description",
        json!("Which pods to govern, what runs in them, and the policy document: all from `version` down."),
    );
    // The spec is put together from its parts, and so says nothing of fields that none of them knows.
    overlay(&mut spec, "", KEEP_UNKNOWN, json!(true));
    overlay(&mut spec, "/properties/selector/properties/matchLabels/additionalProperties", "maxLength", json!(63));
    overlay(&mut spec, "/properties/server/properties/path", "pattern", json!("^/[^?#]*$"));
    // CEL says what a schema cannot. `self` is the value at the place of the rule. Each list or map that a rule walks is
    // bounded by the schema, and so is each string that it compares: the API server estimates the cost, and refuses.
    overlay(
        &mut spec,
        "/properties/selector/properties/matchExpressions/items",
        RULES,
        json!([{
            "rule": "self.operator in ['In', 'NotIn'] ? has(self.values) && size(self.values) > 0 : !has(self.values) || size(self.values) == 0",
            "message": "In and NotIn need at least one of values; Exists and DoesNotExist take none",
        }]),
    );
    overlay(
        &mut spec,
        "/properties/tools",
        RULES,
        json!([{
            "rule": "self.all(pattern, size(pattern) >= 1 && size(pattern) <= 128)",
            "message": "a key of tools has from 1 to 128 characters, as the names of MCP tools have",
        }]),
    );
    overlay(
        &mut spec,
        "/properties/server",
        RULES,
        json!([{
            "rule": "!has(self.ports) || !has(self.passthroughPorts) || self.passthroughPorts.all(port, !(port in self.ports))",
            "message": "a port is one of ports or one of passthroughPorts, not both",
        }]),
    );
    overlay(&mut spec, "/properties/server/properties/ports/items", RULES, own_port.clone());
    overlay(&mut spec, "/properties/server/properties/passthroughPorts/items", RULES, own_port);
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

const RULES: &str = "x-kubernetes-validations";
const KEEP_UNKNOWN: &str = "x-kubernetes-preserve-unknown-fields";

/// Sets a keyword of the schema at the pointer. A place that is no longer there shows as a difference in the golden file.
fn overlay(schema: &mut Value, pointer: &str, keyword: &str, value: Value) {
    if let Some(target) = schema.pointer_mut(pointer).and_then(Value::as_object_mut) {
        target.insert(keyword.to_owned(), value);
    }
}

/// The schema of a type in the form that Kubernetes calls structural.
fn schema_of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::openapi3().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    if let Some(object) = schema.as_object_mut() {
        make_structural(object);
    }
    schema
}

/// Rewrites what serde and schemars say in ways that structural schemas have no words for.
fn make_structural(schema: &mut Map<String, Value>) {
    for keyword in ["title", "default", "nullable", "components"] {
        // `default` would write values into the stored object that nobody asked for, and make each of them API for ever.
        schema.remove(keyword);
    }
    if schema.get("additionalProperties") == Some(&Value::Bool(false)) {
        // The API server would drop, in silence, what a client without strict validation sends, and a typing error in `limits`
        // would take the limit away. Kept, the admission policy `mcp-policy-fields` refuses it by name, and so does the operator.
        schema.remove("additionalProperties");
        schema.insert(KEEP_UNKNOWN.to_owned(), Value::Bool(true));
    }
    if schema.get("format").and_then(Value::as_str).is_some_and(|format| format.starts_with("uint")) {
        schema.remove("format");
    }
    if let Some(Value::String(description)) = schema.get_mut("description") {
        // A line break of the source is none in the text; an empty line is one.
        *description = description.split("\n\n").map(|paragraph| paragraph.replace('\n', " ")).collect::<Vec<_>>().join("\n\n");
    }
    if let Some(variants) = schema.get("oneOf").and_then(Value::as_array).and_then(|variants| constants(variants)) {
        schema.remove("oneOf");
        schema.insert("type".to_owned(), json!("string"));
        schema.insert("enum".to_owned(), variants);
    }
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.values_mut().filter_map(Value::as_object_mut).for_each(make_structural);
    }
    for keyword in ["items", "additionalProperties"] {
        if let Some(Value::Object(inner)) = schema.get_mut(keyword) {
            make_structural(inner);
        }
    }
}

/// The values of an enum whose variants have descriptions of their own, in order.
fn constants(variants: &[Value]) -> Option<Value> {
    variants
        .iter()
        .map(|variant| match variant.get("enum").and_then(Value::as_array).map(Vec::as_slice) {
            Some([constant]) => Some(constant.clone()),
            _ => variant.get("const").cloned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, JSONSchemaProps};

    fn schema() -> JSONSchemaProps {
        let definition: CustomResourceDefinition = serde_json::from_value(definition()).unwrap();
        let version = definition.spec.versions.into_iter().next().unwrap();
        version.schema.unwrap().open_api_v3_schema.unwrap()
    }

    /// Calls `check` with each schema below `schema` and its path.
    fn walk(path: &str, schema: &Value, check: &mut impl FnMut(&str, &Map<String, Value>)) {
        let schema = schema.as_object().unwrap();
        check(path, schema);
        for (name, inner) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            walk(&format!("{path}.{name}"), inner, check);
        }
        for keyword in ["items", "additionalProperties"] {
            if let Some(inner) = schema.get(keyword) {
                walk(&format!("{path}.{keyword}"), inner, check);
            }
        }
    }

    fn spec() -> Value {
        definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone()
    }

    #[test]
    fn every_field_of_the_spec_is_described_and_bounded() {
        let mut fields = 0;
        walk("spec", &spec(), &mut |path, schema| {
            fields += 1;
            let is_element = ["items", "additionalProperties"].contains(&path.rsplit('.').next().unwrap());
            assert!(is_element || schema.contains_key("description"), "{path} has no description");
            let bound = match schema.get("type").and_then(Value::as_str) {
                Some("array") => schema.contains_key("maxItems"),
                Some("string") => schema.contains_key("maxLength") || schema.contains_key("enum"),
                Some("integer") => schema.contains_key("maximum"),
                Some("object") if schema.contains_key("additionalProperties") => schema.contains_key("maxProperties"),
                Some("object") => schema.contains_key("properties"),
                None => schema.contains_key("pattern") && schema.contains_key("x-kubernetes-int-or-string"),
                Some(other) => panic!("{path} is of type {other}"),
            };
            assert!(bound, "{path} is not bounded: {schema:?}");
        });
        assert!(fields > 30, "{fields}");
    }

    #[test]
    fn nothing_is_defaulted_or_nullable_and_no_unknown_field_is_dropped() {
        walk("spec", &spec(), &mut |path, schema| {
            for keyword in ["default", "nullable", "oneOf", "allOf", "$ref"] {
                assert!(!schema.contains_key(keyword), "{path} has {keyword}");
            }
            assert_eq!(schema.contains_key(KEEP_UNKNOWN), schema.contains_key("properties"), "{path}");
        });
    }

    /// What the definition keeps, the admission policy must refuse: its lists of fields are those of the schema.
    #[test]
    fn the_admission_policy_of_fields_knows_every_field() {
        let admission_policy = include_str!("../../charts/mcp-policy-crds/templates/fields.yaml");
        let listed = |variable: &str| -> Vec<String> {
            let (_, rest) = admission_policy.split_once(&format!("- name: {variable}\n      expression: \"")).expect(variable);
            let (list, _) = rest.split_once('"').expect(variable);
            serde_json::from_str(&list.replace('\'', "\"")).expect(variable)
        };
        let rule = "/properties/tools/additionalProperties";
        let places = [
            ("specFields", String::new()),
            ("selectorFields", "/properties/selector".to_owned()),
            ("requirementFields", "/properties/selector/properties/matchExpressions/items".to_owned()),
            ("serverFields", "/properties/server".to_owned()),
            ("ruleFields", rule.to_owned()),
            ("limitFields", format!("{rule}/properties/limits/items")),
            ("rateLimitFields", format!("{rule}/properties/rateLimit")),
        ];
        for (variable, place) in places {
            let mut listed = listed(variable);
            listed.sort();
            let mut fields: Vec<_> = spec().pointer(&place).unwrap()["properties"].as_object().unwrap().keys().cloned().collect();
            fields.sort();
            assert_eq!(listed, fields, "{variable}");
        }
    }

    #[test]
    fn the_rules_are_where_they_belong() {
        let mut places = Vec::new();
        walk("spec", &spec(), &mut |path, schema| {
            if schema.contains_key(RULES) {
                places.push(path.to_owned());
            }
        });
        let expected = [
            "spec.selector.matchExpressions.items",
            "spec.server",
            "spec.server.passthroughPorts.items",
            "spec.server.ports.items",
            "spec.tools",
        ];
        assert_eq!(places, expected);
    }

    #[test]
    fn the_definition_has_the_form_of_one() {
        assert_eq!(schema().required, Some(vec!["spec".to_owned()]));
    }

    #[test]
    fn whatever_spec_and_status_say_the_object_decodes() {
        for odd in [json!(null), json!(7), json!({"tools": [1]}), json!({"conditions": "none", "lastAccepted": 3})] {
            let object =
                json!({ "apiVersion": "mcp-policy.dev/v1alpha1", "kind": KIND, "metadata": {"name": "p"}, "spec": odd, "status": odd });
            let policy: McpPolicy = serde_json::from_value(object).unwrap();
            assert_eq!(policy.spec, odd);
            assert_eq!(policy.status.unwrap_or_default(), PolicyStatus::default());
        }
        let bare: McpPolicy = serde_json::from_value(json!({"metadata": {}})).unwrap();
        assert_eq!(bare.spec, Value::Null);
    }
}
