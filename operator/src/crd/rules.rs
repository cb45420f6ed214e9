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
    // A null that is not allowed for would be dropped before any rule sees it, and the tool would lose its entry in silence.
    overlay(spec, "/properties/tools/additionalProperties", "nullable", json!(true));
    overlay(spec, "/properties/methods", RULES, methods());
    for rule in TOOL_RULES {
        overlay(spec, &format!("{rule}/properties/limits/items"), RULES, limit());
        overlay(spec, &format!("{rule}/properties/require/items"), RULES, condition());
        overlay(spec, &format!("{rule}/properties/denyIf/items/properties/conditions/items"), RULES, condition());
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
    }])
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

/// The operand has no type, so no rule can see it: the operator finds what is wrong with it.
fn condition() -> Value {
    json!([
        { "rule": "has(self.path) != has(self.cel)", "message": "a condition has either `path` or `cel`" },
        { "rule": "has(self.path) == has(self.op)", "message": "`op` goes with `path`: one of eq, neq, in, not_in, lt, lte, gt, gte, regex, contains and exists" },
    ])
}
