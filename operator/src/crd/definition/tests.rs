use std::collections::BTreeSet;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Map;

use super::*;
use crate::crd::rules::RULES;
use crate::crd::schema::is_any_value;

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

fn spec(kind: Kind) -> Value {
    definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone()
}

/// Any JSON value or object, of which the schema knows nothing.
fn is_free(schema: &Map<String, Value>) -> bool {
    is_any_value(schema) || (schema.contains_key(KEEP_UNKNOWN) && !schema.contains_key("properties"))
}

#[test]
fn every_field_of_the_spec_is_described_and_bounded() {
    for kind in Kind::ALL {
        let mut fields = 0;
        walk("spec", &spec(kind), &mut |path, schema| {
            fields += 1;
            let is_element = ["items", "additionalProperties"].contains(&path.rsplit('.').next().unwrap());
            assert!(is_element || schema.contains_key("description"), "{path} has no description");
            let bound = match schema.get("type").and_then(Value::as_str) {
                _ if is_free(schema) => true,
                Some("array") => schema.contains_key("maxItems"),
                Some("string") => schema.contains_key("maxLength") || schema.contains_key("enum"),
                Some("boolean") => true,
                Some("integer" | "number") => schema.contains_key("minimum") && schema.contains_key("maximum"),
                Some("object") if schema.contains_key("additionalProperties") => schema.contains_key("maxProperties"),
                Some("object") => schema.contains_key("properties"),
                None => schema.contains_key("pattern") && schema.contains_key("x-kubernetes-int-or-string"),
                Some(other) => panic!("{path} is of type {other}"),
            };
            assert!(bound, "{path} is not bounded: {schema:?}");
        });
        assert!(fields > 80, "{fields}");
    }
}

#[test]
fn the_free_places_are_those_of_the_language() {
    for kind in Kind::ALL {
        let mut places = BTreeSet::new();
        walk("spec", &spec(kind), &mut |path, schema| {
            if is_free(schema) {
                places.insert(path.to_owned());
            }
        });
        let expected = ["spec.allTools", "spec.tools.additionalProperties"]
            .iter()
            .flat_map(|rule| {
                ["arguments.schema", "require.items.value", "denyIf.items.conditions.items.value", "approveIf.items.conditions.items.value"]
                    .map(|place| format!("{rule}.{place}"))
            })
            .chain(["spec.from.items.claims".to_owned()])
            .collect();
        assert_eq!(places, expected);
    }
}

#[test]
fn nothing_is_defaulted_and_no_unknown_field_is_dropped() {
    for kind in Kind::ALL {
        walk("spec", &spec(kind), &mut |path, schema| {
            for keyword in ["default", "oneOf", "allOf", "$ref"] {
                assert!(!schema.contains_key(keyword), "{path} has {keyword}");
            }
            assert_eq!(schema.contains_key(KEEP_UNKNOWN), schema.contains_key("properties") || is_free(schema), "{path}");
        });
    }
}

/// The API server drops a null where it is not allowed for, in silence: where null is a value, and where it would take a protection
/// away.
#[test]
fn null_is_kept_where_it_means_something() {
    for kind in Kind::ALL {
        let mut protections: BTreeSet<_> =
            ["allTools", "approvals", "from", "hide", "methods", "server", "tools", "tools.additionalProperties"]
                .map(|field| format!("spec.{field}"))
                .into();
        let authentication = ["authentication", "authentication.jwt.items.algorithms", "authentication.jwt.items.caBundle"];
        protections.extend(authentication.map(|field| format!("spec.server.{field}")));
        for rule in ["spec.allTools", "spec.tools.additionalProperties"] {
            protections
                .extend(["approveIf", "arguments", "denyIf", "limits", "rateLimit", "require"].map(|field| format!("{rule}.{field}")));
        }
        walk("spec", &spec(kind), &mut |path, schema| {
            let is_kept = schema.get("nullable") == Some(&json!(true));
            assert_eq!(is_kept, is_any_value(schema) || protections.contains(path), "{path}");
        });
    }
}

/// What the definitions keep, the admission policy must refuse: its lists of fields are those of the schemas.
#[test]
fn the_admission_policy_of_fields_knows_every_field() {
    let admission_policy = include_str!("../../../../charts/mcp-policy-crds/templates/fields.yaml");
    let listed = |variable: &str| -> BTreeSet<String> {
        let (_, rest) = admission_policy.split_once(&format!("- name: {variable}\n      expression: \"")).expect(variable);
        let (list, _) = rest.split_once('"').expect(variable);
        serde_json::from_str(&list.replace('\'', "\"")).expect(variable)
    };
    let fields = |kind: Kind, place: &str| -> BTreeSet<String> {
        let spec = spec(kind);
        spec.pointer(place).expect(place)["properties"].as_object().expect(place).keys().cloned().collect()
    };
    let rule = "/properties/tools/additionalProperties";
    for kind in Kind::ALL {
        let mut spec_fields = listed("specFields");
        if kind == Kind::Cluster {
            spec_fields.extend(listed("clusterFields"));
        }
        assert_eq!(spec_fields, fields(kind, ""), "{kind:?}");
        for (variable, place) in [
            ("selectorFields", "/properties/selector".to_owned()),
            ("requirementFields", "/properties/selector/properties/matchExpressions/items".to_owned()),
            ("serverFields", "/properties/server".to_owned()),
            ("authenticationFields", "/properties/server/properties/authentication".to_owned()),
            ("serviceAccountsFields", "/properties/server/properties/authentication/properties/serviceAccounts".to_owned()),
            ("issuerFields", "/properties/server/properties/authentication/properties/jwt/items".to_owned()),
            ("secretFields", "/properties/server/properties/authentication/properties/keys".to_owned()),
            ("secretFields", "/properties/server/properties/authentication/properties/credential".to_owned()),
            ("approvalsFields", "/properties/approvals".to_owned()),
            ("callerFields", "/properties/from/items".to_owned()),
            ("ruleFields", rule.to_owned()),
            ("argumentsFields", format!("{rule}/properties/arguments")),
            ("conditionFields", format!("{rule}/properties/require/items")),
            ("conditionFields", format!("{rule}/properties/denyIf/items/properties/conditions/items")),
            ("conditionFields", format!("{rule}/properties/approveIf/items/properties/conditions/items")),
            ("denyIfFields", format!("{rule}/properties/denyIf/items")),
            ("approveIfFields", format!("{rule}/properties/approveIf/items")),
            ("limitFields", format!("{rule}/properties/limits/items")),
            ("rateLimitFields", format!("{rule}/properties/rateLimit")),
        ] {
            assert_eq!(listed(variable), fields(kind, &place), "{variable}");
        }
    }
    assert_eq!(listed("selectorFields"), fields(Kind::Cluster, "/properties/namespaceSelector"));
}

/// Every object whose unknown fields are kept is one that the admission policy looks into.
#[test]
fn the_admission_policy_of_fields_looks_everywhere() {
    for kind in Kind::ALL {
        let mut places = BTreeSet::new();
        walk("spec", &spec(kind), &mut |path, schema| {
            if schema.contains_key(KEEP_UNKNOWN) && !is_free(schema) && !path.starts_with("spec.allTools") {
                places.insert(path.replace("spec.tools.additionalProperties", "rule"));
            }
        });
        let mut expected: BTreeSet<_> = [
            "spec",
            "spec.selector",
            "spec.selector.matchExpressions.items",
            "spec.server",
            "spec.server.authentication",
            "spec.server.authentication.serviceAccounts",
            "spec.server.authentication.jwt.items",
            "spec.server.authentication.keys",
            "spec.server.authentication.credential",
            "spec.approvals",
            "spec.from.items",
            "rule",
            "rule.arguments",
            "rule.require.items",
            "rule.denyIf.items",
            "rule.denyIf.items.conditions.items",
            "rule.approveIf.items",
            "rule.approveIf.items.conditions.items",
            "rule.limits.items",
            "rule.rateLimit",
        ]
        .map(str::to_owned)
        .into();
        if kind == Kind::Cluster {
            expected.extend(["spec.namespaceSelector", "spec.namespaceSelector.matchExpressions.items"].map(str::to_owned));
        }
        assert_eq!(places, expected);
    }
}

#[test]
fn the_rules_are_where_they_belong() {
    for kind in Kind::ALL {
        let mut places = BTreeSet::new();
        walk("spec", &spec(kind), &mut |path, schema| {
            if schema.contains_key(RULES) {
                places.insert(path.to_owned());
            }
        });
        let mut expected: BTreeSet<_> = ["spec.allTools", "spec.tools.additionalProperties"]
            .iter()
            .flat_map(|rule| {
                ["limits.items", "require.items", "denyIf.items.conditions.items", "approveIf.items.conditions.items"]
                    .map(|place| format!("{rule}.{place}"))
            })
            .collect();
        expected.extend(
            [
                "spec.from.items",
                "spec.methods",
                "spec.selector.matchExpressions.items",
                "spec.server",
                "spec.server.authentication",
                "spec.server.authentication.credential.secretName",
                "spec.server.authentication.jwt",
                "spec.server.authentication.jwt.items.audiences.items",
                "spec.server.authentication.jwt.items.caBundle",
                "spec.server.authentication.jwt.items.issuer",
                "spec.server.authentication.jwt.items.jwksUri",
                "spec.server.authentication.keys.secretName",
                "spec.server.authentication.resource",
                "spec.server.authentication.serviceAccounts.audiences.items",
                "spec.server.passthroughPorts.items",
                "spec.server.ports.items",
                "spec.tools",
            ]
            .map(str::to_owned),
        );
        if kind == Kind::Cluster {
            expected.insert("spec.namespaceSelector.matchExpressions.items".to_owned());
        }
        assert_eq!(places, expected);
    }
}

#[test]
fn the_definitions_have_the_form_of_one() {
    for (kind, scope, required) in
        [(Kind::Namespaced, "Namespaced", vec!["selector"]), (Kind::Cluster, "Cluster", vec!["namespaceSelector", "selector"])]
    {
        let definition: CustomResourceDefinition = serde_json::from_value(definition(kind)).unwrap();
        assert_eq!(definition.spec.scope, scope);
        let version = definition.spec.versions.into_iter().next().unwrap();
        let schema = version.schema.unwrap().open_api_v3_schema.unwrap();
        assert_eq!(schema.required, Some(vec!["spec".to_owned()]));
        let spec = &schema.properties.unwrap()["spec"];
        let mut found = spec.required.clone().unwrap();
        found.sort();
        assert_eq!(found, required);
    }
}
