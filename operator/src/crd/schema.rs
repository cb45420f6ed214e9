//! Rust types as schemas of the form that Kubernetes calls structural.

use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings, json_schema};
use serde_json::{Map, Value, json};

/// Keeps fields that the schema does not know.
pub const KEEP_UNKNOWN: &str = "x-kubernetes-preserve-unknown-fields";

/// The schema of any object.
pub fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", KEEP_UNKNOWN: true })
}

/// The structural schema of a type.
pub fn schema_of<T: JsonSchema>() -> Value {
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

/// Whether any JSON value is meant, null included.
pub fn is_any_value(schema: &Map<String, Value>) -> bool {
    schema.get(KEEP_UNKNOWN) == Some(&Value::Bool(true)) && !schema.contains_key("type") && !schema.contains_key("properties")
}

/// Rewrites what serde and schemars say in ways that structural schemas have no words for.
fn make_structural(schema: &mut Map<String, Value>) {
    for keyword in ["title", "default", "components"] {
        // `default` would write values into the stored object that nobody asked for, and make each of them API for ever.
        schema.remove(keyword);
    }
    if !is_any_value(schema) {
        // Says of an optional field that it may be left out, which `required` says already.
        schema.remove("nullable");
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
    if let Some(inner) = optional(schema) {
        schema.remove("anyOf");
        for (keyword, value) in inner {
            schema.entry(keyword).or_insert(value);
        }
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

/// What an optional enum is where it is there: schemars writes it as one of that and null.
fn optional(schema: &Map<String, Value>) -> Option<Map<String, Value>> {
    let [Value::Object(inner), Value::Object(null)] = schema.get("anyOf")?.as_array()?.as_slice() else { return None };
    (null.get("enum") == Some(&json!([null]))).then(|| inner.clone())
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
