//! What is wrong in itself, and is refused at `kubectl apply`: rules in CEL, for what a schema cannot say.
//!
//! `self` is the value at the place of the rule. Each list or map that a rule walks is bounded by the schema, and so is each
//! string that it compares: the API server estimates the cost, and refuses a definition that could cost too much.

use serde_json::{Value, json};

/// Rules in CEL.
pub const RULES: &str = "x-kubernetes-validations";

/// The places of selectors in a spec.
pub const SELECTORS: [&str; 2] = ["/properties/selector", "/properties/namespaceSelector"];
/// The places of rules for tools in a spec.
const TOOL_RULES: [&str; 2] = ["/properties/allTools", "/properties/tools/additionalProperties"];

/// The place of how callers prove who they are.
const AUTHENTICATION: &str = "/properties/server/properties/authentication";

/// Adds the rules to the schema of a spec.
pub fn add_rules(spec: &mut Value) {
    for selector in SELECTORS {
        overlay(spec, &format!("{selector}/properties/matchExpressions/items"), RULES, requirement());
    }
    overlay(spec, "/properties/server", RULES, server());
    for list in ["ports", "passthroughPorts"] {
        overlay(spec, &format!("/properties/server/properties/{list}/items"), RULES, port());
    }
    overlay(spec, "/properties/tools", RULES, tools());
    overlay(spec, "/properties/tools/additionalProperties", "nullable", json!(true));
    overlay(spec, "/properties/methods", RULES, methods());
    let_null_in(spec, "", &["allTools", "approvals", "from", "hide", "methods", "server", "tools"]);
    let_null_in(spec, "/properties/server", &["authentication"]);
    let_null_in(spec, &format!("{AUTHENTICATION}/properties/jwt/items"), &["algorithms", "caBundle"]);
    add_rules_of_authentication(spec);
    overlay(spec, "/properties/from/items", RULES, caller_match());
    for rule in TOOL_RULES {
        let_null_in(spec, rule, &["approveIf", "arguments", "denyIf", "limits", "rateLimit", "require"]);
        overlay(spec, &format!("{rule}/properties/limits/items"), RULES, limit());
        overlay(spec, &format!("{rule}/properties/require/items"), RULES, condition());
        for entries in ["denyIf", "approveIf"] {
            overlay(spec, &format!("{rule}/properties/{entries}/items/properties/conditions/items"), RULES, condition());
        }
    }
}

fn add_rules_of_authentication(spec: &mut Value) {
    overlay(spec, AUTHENTICATION, RULES, authentication());
    let issuer = format!("{AUTHENTICATION}/properties/jwt/items");
    for audiences in [&format!("{AUTHENTICATION}/properties/serviceAccounts"), &issuer] {
        overlay(spec, &format!("{audiences}/properties/audiences/items"), RULES, not_blank());
    }
    overlay(spec, &format!("{AUTHENTICATION}/properties/jwt"), RULES, issuers());
    overlay(spec, &format!("{issuer}/properties/issuer"), RULES, text(r"^https://[^/?#@\\s]+(/[^?#\\s]*)?$", ISSUER));
    overlay(spec, &format!("{issuer}/properties/jwksUri"), RULES, text(r"^https://[^/?#@\\s]+([/?][^#\\s]*)?$", JWKS_URI));
    overlay(spec, &format!("{issuer}/properties/caBundle"), RULES, text("-----BEGIN CERTIFICATE-----", CA_BUNDLE));
    for secret in ["keys", "credential"] {
        let name = format!("{AUTHENTICATION}/properties/{secret}/properties/secretName");
        overlay(spec, &name, RULES, text("^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", SECRET_NAME));
    }
    let resource = format!("{AUTHENTICATION}/properties/resource");
    overlay(spec, &resource, RULES, text(r"^https?://[^/?#@\\s]+([/?][^#\\s]*)?$", RESOURCE));
}

/// A null that is not allowed for would be dropped, and what an empty template writes for a list of limits would take the limits away
/// in silence. So null is let in here, where no rule can see it, and the admission policy of fields refuses it.
fn let_null_in(spec: &mut Value, place: &str, fields: &[&str]) {
    for field in fields {
        overlay(spec, &format!("{place}/properties/{field}"), "nullable", json!(true));
    }
}

/// Sets a keyword of the schema at the pointer, if the schema has the place. One that is no longer there shows as a difference in
/// the golden file.
pub fn overlay(schema: &mut Value, pointer: &str, keyword: &str, value: Value) {
    if let Some(target) = schema.pointer_mut(pointer).and_then(Value::as_object_mut) {
        target.insert(keyword.to_owned(), value);
    }
}

fn requirement() -> Value {
    json!([{
        "rule": "self.operator in ['In', 'NotIn'] ? has(self.values) && size(self.values) > 0 : !has(self.values) || size(self.values) == 0",
        "message": "In and NotIn need at least one of values; Exists and DoesNotExist take none",
    }])
}

fn server() -> Value {
    json!([{
        "rule": "!has(self.ports) || !has(self.passthroughPorts) || self.passthroughPorts.all(port, !(port in self.ports))",
        "message": "a port is one of ports or one of passthroughPorts, not both",
    }, {
        "rule": "!has(self.ssePath) || self.ssePath != (has(self.path) ? self.path : '/mcp')",
        "message": "ssePath must not be the path of the endpoint",
    }])
}

const ISSUER: &str = "is an https URL with neither query nor fragment";
const JWKS_URI: &str = "is an https URL without a fragment";
const CA_BUNDLE: &str = "holds no certificate in PEM form";
const SECRET_NAME: &str = "is not the name of a Secret";
const RESOURCE: &str = "is an http or https URL without a fragment";

fn authentication() -> Value {
    json!([{
        "rule": "has(self.serviceAccounts) || has(self.keys) || (has(self.jwt) && size(self.jwt) > 0)",
        "message": "needs at least one of serviceAccounts, jwt and keys; without a way to prove itself every caller is refused",
    }, {
        "rule": "!has(self.credential) || !has(self.authorization) || self.authorization != 'keep'",
        "message": "the server gets one Authorization header: the caller's with `authorization: keep`, or its own by `credential`",
    }])
}

fn issuers() -> Value {
    json!([{ "rule": "self.all(one, self.exists_one(other, other.issuer == one.issuer))", "message": "an issuer has one entry" }])
}

fn not_blank() -> Value {
    json!([{ "rule": "self.trim() != ''", "message": "is blank" }])
}

/// A text in which the expression, which is written as CEL has it in quotes, is found.
fn text(expression: &str, message: &str) -> Value {
    json!([{ "rule": format!("self.matches('{expression}')"), "message": message }])
}

/// The words are the operator's own; so are those of what is wrong with an address, which only the operator finds.
fn caller_match() -> Value {
    let beside = |field: &str, kinds: &[&str]| {
        let kinds = kinds.iter().map(|kind| format!("'{kind}'")).collect::<Vec<_>>().join(", ");
        json!({
            "rule": format!("!has(self.{field}) || self.kind in [{kinds}]"),
            "message": format!("{field}: means nothing of a caller of this kind"),
            "messageExpression": format!("'{field}: means nothing of a caller of kind ' + self.kind"),
        })
    };
    json!([
        beside("namespace", &["serviceAccount"]),
        beside("name", &["serviceAccount", "key"]),
        beside("issuer", &["jwt"]),
        beside("subject", &["jwt"]),
        beside("claims", &["jwt"]),
        beside("address", &["anonymous"]),
        {
            "rule": "self.kind != 'serviceAccount' || !has(self.name) || has(self.namespace)",
            "message": "namespace: is required beside `name`: each namespace has an account of that name; `*` takes all",
        },
        {
            "rule": "self.kind != 'jwt' || has(self.issuer) || !(has(self.subject) || has(self.claims))",
            "message": "issuer: is required beside `subject` and `claims`: each issuer has its own; `*` takes all",
        },
    ])
}

fn port() -> Value {
    json!([{ "rule": "self < 14140 || self > 14142", "message": "14140, 14141 and 14142 belong to the sidecar" }])
}

fn tools() -> Value {
    json!([
        {
            "rule": "self.all(pattern, size(pattern) >= 1 && size(pattern) <= 128)",
            "message": "a key of tools has from 1 to 128 characters, as the names of MCP tools have",
        },
        {
            "rule": "self.all(tool, self[tool] != null)",
            "message": "must not be null; write `{}` to allow the tool without checks",
            "messageExpression": "self.filter(tool, self[tool] == null)[0] + ': must not be null; write `{}` to allow the tool without checks'",
        },
    ])
}

fn methods() -> Value {
    json!([
        {
            "rule": "self.all(pattern, size(pattern) >= 1 && size(pattern) <= 128)",
            "message": "a key of methods has from 1 to 128 characters",
        },
        { "rule": "!('tools/call' in self)", "message": "tools/call: calls are governed by `tools`, `hide` and `default`" },
    ])
}

fn limit() -> Value {
    json!([{
        "rule": "has(self.incrementFrom) || self.max == double(int(self.max))",
        "message": "counts calls, so it is a whole number; only beside `incrementFrom` can it have a fraction",
        "fieldPath": ".max",
    }])
}

/// What is missing is found by the admission policy of fields: it comes later, and so the typing error that may be the cause is told
/// first. The operand has no type, so no rule can see it: the operator finds what is wrong with it. The words are the operator's own.
fn condition() -> Value {
    json!([
        {
            "rule": "!has(self.path) || !has(self.cel)",
            "message": "has both `path` and `cel`; a condition is one of the two, and two conditions ask both",
        },
        { "rule": "has(self.path) || !has(self.cel) || !has(self.op)", "message": "means nothing beside `cel`", "fieldPath": ".op" },
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use mcp_policy::document::{Condition, Document, Op, Rule};
    use mcp_policy::{PolicyId, compile};

    /// What the operator says of a policy whose only rule has this condition, without the path.
    fn operators_words(condition: Condition) -> String {
        let rule = Rule { require: vec![condition], ..Rule::default() };
        let document = Document { all_tools: Some(rule), ..Document::default() };
        let errors = compile(PolicyId::new(None, "p"), &document).expect_err("refused");
        errors.0[0].message.clone()
    }

    #[test]
    fn a_wrong_condition_is_refused_in_the_operators_words() {
        let (path, cel, op) = (Some("args.x".to_owned()), Some("true".to_owned()), Some(Op::Exists));
        let contradictory =
            [Condition { path: path.clone(), cel: cel.clone(), ..Condition::default() }, Condition { cel, op, ..Condition::default() }];
        let words: Vec<_> = condition().as_array().unwrap().iter().map(|rule| rule["message"].as_str().unwrap().to_owned()).collect();
        assert_eq!(words, contradictory.map(operators_words));
        let admission_policy = include_str!("../../../charts/mcp-policy-crds/templates/fields.yaml");
        for lacking in [Condition::default(), Condition { path, ..Condition::default() }] {
            let words = operators_words(lacking);
            assert!(admission_policy.contains(&words), "{words}");
        }
    }

    #[test]
    fn a_wrong_caller_is_refused_in_the_operators_words() {
        let words = |entry: Value| {
            let spec = json!({ "selector": {}, "from": [entry] });
            let errors = mcp_policy::read::spec(&spec).expect_err("refused").0;
            errors[0].to_string().trim_start_matches("spec.from[0].").to_owned()
        };
        let rules = caller_match();
        for (rule, entry) in [(6, json!({ "kind": "serviceAccount", "name": "n" })), (7, json!({ "kind": "jwt", "subject": "s" }))] {
            assert_eq!(rules[rule]["message"], words(entry));
        }
        let fields = ["namespace", "name", "issuer", "subject", "claims", "address"];
        for (rule, field) in fields.into_iter().enumerate() {
            let kind = if field == "address" { "key" } else { "anonymous" };
            let value = if field == "claims" { json!({ "a": 1 }) } else { json!("10.0.0.1") };
            let expression = rules[rule]["messageExpression"].as_str().expect("has one");
            assert_eq!(expression.replace('\'', "").replace(" + self.kind", kind), words(json!({ "kind": kind, field: value })));
        }
    }

    #[test]
    fn a_wrong_way_to_prove_callers_is_refused_in_the_operators_words() {
        let issuer = |field: &str, value: &str| {
            let mut issuer = json!({ "issuer": "https://idp", "audiences": ["a"] });
            issuer[field] = value.into();
            json!({ "jwt": [issuer] })
        };
        let keys = |name: &str, value: Value| json!({ "keys": { "secretName": "k" }, name: value });
        let twice = json!({ "jwt": [issuer("issuer", "https://a")["jwt"][0], issuer("issuer", "https://a")["jwt"][0]] });
        for (words, wrong) in [
            (authentication()[0]["message"].as_str().unwrap(), json!({ "resource": "https://a" })),
            (
                authentication()[1]["message"].as_str().unwrap(),
                json!({ "keys": { "secretName": "k" }, "authorization": "keep", "credential": { "secretName": "c" } }),
            ),
            (issuers()[0]["message"].as_str().unwrap(), twice),
            (not_blank()[0]["message"].as_str().unwrap(), json!({ "serviceAccounts": { "audiences": [" "] } })),
            (ISSUER, issuer("issuer", "http://idp")),
            (JWKS_URI, issuer("jwksUri", "http://idp")),
            (CA_BUNDLE, issuer("caBundle", "x")),
            (SECRET_NAME, keys("credential", json!({ "secretName": "X" }))),
            (RESOURCE, keys("resource", json!("x"))),
        ] {
            let spec = json!({ "selector": {}, "server": { "authentication": wrong } });
            let errors = mcp_policy::read::spec(&spec).expect_err("refused").0;
            assert_eq!(errors[0].message, words, "{spec}");
        }
    }

    #[test]
    fn a_fraction_of_a_call_is_refused_in_the_operators_words() {
        let limit = json!({ "counter": "c", "window": "day", "max": 0.5 });
        let rule = Rule { limits: vec![serde_json::from_value(limit).unwrap()], ..Rule::default() };
        let document = Document { all_tools: Some(rule), ..Document::default() };
        let errors = compile(PolicyId::new(None, "p"), &document).expect_err("refused");
        assert_eq!(super::limit()[0]["message"], errors.0[0].message);
    }

    #[test]
    fn a_call_as_a_method_is_refused_in_the_operators_words() {
        let document =
            Document { methods: [("tools/call".to_owned(), mcp_policy::document::MethodAction::Deny)].into(), ..Document::default() };
        let errors = compile(PolicyId::new(None, "p"), &document).expect_err("refused");
        assert_eq!(methods()[1]["message"], format!("tools/call: {}", errors.0[0].message));
    }
}
