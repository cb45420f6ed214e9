//! Reading: JSON values and files become documents, and what cannot be read gets errors that name the field, all of them at once.

use std::fmt;
use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::authentication::Authentication;
use crate::caller_match::CallerMatch;
use crate::compile::error::joined;
use crate::document::Document;
use crate::resource::{ClusterPolicySpec, Mode, OnAuditError, PolicySpec, Rollout, Selector, Server};
use crate::whom::Whom;

mod authentication;
mod hint;
mod located;
mod manifest;
mod plain;
mod resource;
mod shape;

pub use located::{Located, Place, Places};
pub use manifest::{FileError, Kind, Manifest, documents, file, policies};

/// The API version of the manifests that this build reads.
pub const API_VERSION: &str = "mcp-policy.dev/v1alpha1";
/// The kind of a policy for one namespace.
pub const KIND: &str = "McpPolicy";
/// The kind of a policy for the namespaces that it selects.
pub const CLUSTER_KIND: &str = "ClusterMcpPolicy";

/// Fields of the resource, which a bare document must not have.
const RESOURCE_FIELDS: [&str; 7] = ["namespaceSelector", "selector", "server", "from", "mode", "onAuditError", "rollout"];

/// A field that cannot be read, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct FieldError {
    /// The field, from the top of what was read: `spec.tools.start_job.limits[0].window`. Empty for the whole.
    pub path: String,
    /// What is wrong with it, and what would be right.
    pub message: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.path, self.message) }
    }
}

/// Everything that cannot be read of a value; at least one field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", joined(.0))]
pub struct FieldErrors(pub Vec<FieldError>);

impl From<FieldError> for FieldErrors {
    fn from(error: FieldError) -> Self {
        Self(vec![error])
    }
}

/// Reads the `spec` of an `McpPolicy`.
pub fn spec(value: &Value) -> Result<PolicySpec, FieldErrors> {
    Ok(SpecParts::read(value, &POLICY_SPEC)?.policy()?)
}

/// Reads the `spec` of a `ClusterMcpPolicy`.
pub fn cluster_spec(value: &Value) -> Result<ClusterPolicySpec, FieldErrors> {
    let mut parts = SpecParts::read(value, &CLUSTER_POLICY_SPEC)?;
    let namespace_selector = parts.namespace_selector.take().ok_or_else(|| missing("namespaceSelector"))?;
    Ok(ClusterPolicySpec { namespace_selector, policy: parts.policy()? })
}

/// Reads how callers prove who they are, where it is said for all policies. `path` is where the value stands.
pub fn callers(value: &Value, path: &str) -> Result<Authentication, FieldErrors> {
    let said: Authentication = typed(value, path)?;
    let errors = authentication::impossible(&said, path);
    if errors.is_empty() { Ok(said) } else { Err(FieldErrors(errors)) }
}

/// Reads a bare policy document.
pub fn document(value: &Value) -> Result<Document, FieldErrors> {
    let mut map = object(value, "", "a policy document")?.clone();
    let mut errors: Vec<_> = RESOURCE_FIELDS
        .iter()
        .filter(|field| map.remove(**field).is_some())
        .map(|field| error(*field, format!("belongs to the {KIND} resource, not to a bare policy document")))
        .collect();
    let map = Value::Object(map);
    errors.extend(shape::differences(&map, &DOCUMENT, ""));
    if !errors.is_empty() {
        return Err(FieldErrors(errors));
    }
    part(&map, "").map_err(FieldErrors::from)
}

/// Reads a value as a type, with the errors of this module: every field that is unknown, missing or of the wrong type. The type
/// refuses unknown fields, and its schema is derived.
/// `path` is where the value stands.
pub fn typed<T: DeserializeOwned + JsonSchema>(value: &Value, path: &str) -> Result<T, FieldErrors> {
    let errors = shape::differences(value, &shape::of::<T>(), path);
    if !errors.is_empty() {
        return Err(FieldErrors(errors));
    }
    part(value, path).map_err(FieldErrors::from)
}

static DOCUMENT: LazyLock<Value> = LazyLock::new(shape::of::<Document>);
static POLICY_SPEC: LazyLock<Value> = LazyLock::new(spec_shape::<PolicySpec>);
static CLUSTER_POLICY_SPEC: LazyLock<Value> = LazyLock::new(spec_shape::<ClusterPolicySpec>);
/// The shape of a `spec`. It is put together from its parts, and so does not say by itself that it refuses unknown fields; and
/// whether the selectors must be there is for the reader to say.
fn spec_shape<T: JsonSchema>() -> Value {
    let mut shape = shape::of::<T>();
    shape["additionalProperties"] = false.into();
    shape["required"] = json!([]);
    shape
}

/// A `spec`, read part by part.
struct SpecParts {
    namespace_selector: Option<Selector>,
    selector: Option<Selector>,
    server: Server,
    from: Option<Vec<CallerMatch>>,
    mode: Mode,
    on_audit_error: OnAuditError,
    rollout: Rollout,
    document: Document,
}

fn missing(field: &str) -> FieldError {
    error(format!("spec.{field}"), hint::missing(field))
}

impl SpecParts {
    /// The spec, if its pods are selected.
    fn policy(self) -> Result<PolicySpec, FieldError> {
        let Self { selector, server, from, mode, on_audit_error, rollout, document, .. } = self;
        let selector = selector.ok_or_else(|| missing("selector"))?;
        Ok(PolicySpec { selector, server, from, mode, on_audit_error, rollout, document })
    }

    /// The resource's own fields go to their types, and what remains is the document: so each part refuses what it does not know.
    fn read(value: &Value, shape: &Value) -> Result<Self, FieldErrors> {
        let mut map = object(value, "spec", "an object")?.clone();
        let mut errors = shape::differences(value, shape, "spec");
        errors.extend(authentication::null(value));
        if !errors.is_empty() {
            return Err(FieldErrors(errors));
        }
        let namespace_selector = map.remove("namespaceSelector").map(|value| part(&value, "spec.namespaceSelector")).transpose()?;
        let selector = map.remove("selector").map(|value| part(&value, "spec.selector")).transpose()?;
        let server = map.remove("server").map(|value| part(&value, "spec.server")).transpose()?.unwrap_or_default();
        let from: Option<Vec<CallerMatch>> = map.remove("from").map(|value| part(&value, "spec.from")).transpose()?;
        let mode = map.remove("mode").map(|value| part(&value, "spec.mode")).transpose()?.unwrap_or_default();
        let on_audit_error = map.remove("onAuditError").map(|value| part(&value, "spec.onAuditError")).transpose()?.unwrap_or_default();
        let rollout = map.remove("rollout").map(|value| part(&value, "spec.rollout")).transpose()?.unwrap_or_default();
        let document = part(&Value::Object(map), "spec")?;
        let mut errors: Vec<_> = resource::impossible(namespace_selector.as_ref(), selector.as_ref(), &server).collect();
        errors.extend(server.authentication.iter().flat_map(|said| authentication::impossible(said, "spec.server.authentication")));
        let of_from = Whom::compile(from.as_deref()).err().into_iter().flat_map(|errors| errors.0);
        errors.extend(of_from.map(|wrong| error(format!("spec.{}", wrong.path), wrong.message)));
        if !errors.is_empty() {
            return Err(FieldErrors(errors));
        }
        Ok(Self { namespace_selector, selector, server, from, mode, on_audit_error, rollout, document })
    }
}

fn object<'a>(value: &'a Value, path: &str, what: &str) -> Result<&'a Map<String, Value>, FieldError> {
    value.as_object().ok_or_else(|| error(path, format!("must be {what}, but is {}", hint::describe(value))))
}

/// What has the shape of a type becomes one. Should the shape have let something through that the type does not, it is told in
/// serde's words.
fn part<T: DeserializeOwned>(value: &Value, prefix: &str) -> Result<T, FieldError> {
    serde_path_to_error::deserialize(value).map_err(|cause| {
        let path = cause.path().to_string();
        let path = if path == "." { prefix.to_owned() } else { shape::join(prefix, &path) };
        error(path, cause.into_inner().to_string())
    })
}

fn error(path: impl Into<String>, message: impl Into<String>) -> FieldError {
    FieldError { path: path.into(), message: message.into() }
}

#[cfg(test)]
mod tests;
