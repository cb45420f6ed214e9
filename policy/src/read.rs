//! Reading: JSON values and files become documents, and what cannot be read gets an error that names the field.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::document::Document;
use crate::policy_id::PolicyId;
use crate::resource::{ClusterPolicySpec, Mode, PolicySpec, Selector, Server};

/// The API version of the manifests that this build reads.
pub const API_VERSION: &str = "mcp-policy.dev/v1alpha1";
/// The kind of a policy for one namespace.
pub const KIND: &str = "McpPolicy";
/// The kind of a policy for the namespaces that it selects.
pub const CLUSTER_KIND: &str = "ClusterMcpPolicy";

/// Fields of the resource, which a bare document must not have.
const RESOURCE_FIELDS: [&str; 5] = ["namespaceSelector", "selector", "server", "from", "mode"];
/// Fields of the language that this release does not enforce, and so must not accept.
const NOT_YET: [&str; 2] = ["from", "approveIf"];
/// Spellings of gateways' formats, and the field that means the same.
const GATEWAY_SPELLINGS: [(&str, &str); 3] = [("all_tools", "allTools"), ("rate_limit", "rateLimit"), ("on_deny", "reason")];

/// A field that cannot be read, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct FieldError {
    /// The field, from the top of what was read: `spec.tools.start_job.limits[0].window`. Empty for the whole.
    pub path: String,
    /// What is wrong with it.
    pub message: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.path, self.message) }
    }
}

/// A policy in a file: a bare document, or a manifest of an `McpPolicy` or a `ClusterMcpPolicy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// `namespace/name` of an `McpPolicy`, the name of a `ClusterMcpPolicy`; a bare document is named by its file.
    pub id: PolicyId,
    /// What it is.
    pub kind: Kind,
    /// The namespaces of the pods to govern, if a `ClusterMcpPolicy` says so.
    pub namespace_selector: Option<Selector>,
    /// The pods to govern, if the manifest says so. Without a cluster it means nothing.
    pub selector: Option<Selector>,
    /// What is known of the server.
    pub server: Server,
    /// Whether the policy refuses.
    pub mode: Mode,
    /// The policy document.
    pub document: Document,
}

/// What a policy in a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A policy document and nothing more.
    Bare,
    /// A manifest of an `McpPolicy`.
    Policy,
    /// A manifest of a `ClusterMcpPolicy`.
    ClusterPolicy,
}

impl Manifest {
    /// Whether this was a manifest, not a bare document.
    #[must_use]
    pub fn is_resource(&self) -> bool {
        self.kind != Kind::Bare
    }
}

/// What is wrong with a file, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct FileError {
    /// The file's name as it was given.
    pub file: String,
    /// Line, from 1, where it is known.
    pub line: Option<u64>,
    /// The document in the file, from 1, if there are several.
    pub document: Option<usize>,
    /// The field and what is wrong with it.
    pub field: FieldError,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(document) = self.document {
            write!(f, " (document {document})")?;
        }
        write!(f, ": {}", self.field)
    }
}

/// Reads the `spec` of an `McpPolicy`.
pub fn spec(value: &Value) -> Result<PolicySpec, FieldError> {
    let parts = spec_parts(value)?;
    if parts.namespace_selector.is_some() {
        return Err(error("spec.namespaceSelector", format!("belongs to a {CLUSTER_KIND}; an {KIND} governs pods of its own namespace")));
    }
    parts.policy_spec()
}

/// Reads the `spec` of a `ClusterMcpPolicy`.
pub fn cluster_spec(value: &Value) -> Result<ClusterPolicySpec, FieldError> {
    let mut parts = spec_parts(value)?;
    let namespace_selector = parts
        .namespace_selector
        .take()
        .ok_or_else(|| error("spec.namespaceSelector", "is required; `{}` selects every namespace but those of the system"))?;
    Ok(ClusterPolicySpec { namespace_selector, policy: parts.policy_spec()? })
}

/// Reads a bare policy document.
pub fn document(value: &Value) -> Result<Document, FieldError> {
    let map = object(value, "", "a policy document")?;
    if let Some(field) = RESOURCE_FIELDS.iter().find(|field| map.contains_key(**field)) {
        return Err(error(*field, format!("belongs to the {KIND} resource, not to a bare policy document")));
    }
    part(value, "")
}

/// Reads a file of policies: YAML 1.2 or JSON, one document or several, each a bare document or an `McpPolicy` manifest.
/// Manifests of other Kubernetes kinds are passed over, so that a policy can lie beside the server that it governs; a file of
/// nothing else gives none. `name` is the file's name, for errors and for the names of bare documents.
pub fn file(name: &str, text: &str) -> Result<Vec<Manifest>, Vec<FileError>> {
    let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
    let values: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options).map_err(|cause| {
        let line = cause.location().map(|location| location.line());
        vec![FileError { file: name.to_owned(), line, document: None, field: error("", cause.to_string()) }]
    })?;
    let several = values.len() > 1;
    let mut manifests = Vec::new();
    let mut errors = Vec::new();
    let mut names = BTreeSet::new();
    for (i, value) in values.iter().enumerate().filter(|(_, value)| !is_foreign(value)) {
        let read = manifest(name, value).and_then(|manifest| {
            if names.insert(manifest.id.clone()) {
                Ok(manifest)
            } else {
                Err(error("metadata.name", format!("a policy named {} is already in this file", manifest.id)))
            }
        });
        match read {
            Ok(manifest) => manifests.push(manifest),
            Err(field) => errors.push(FileError { file: name.to_owned(), line: None, document: several.then_some(i + 1), field }),
        }
    }
    if values.is_empty() {
        errors.push(FileError { file: name.to_owned(), line: None, document: None, field: error("", "the file holds no policy") });
    }
    if errors.is_empty() { Ok(manifests) } else { Err(errors) }
}

/// Whether this is a manifest of somebody else's kind, and not one of ours with a typing error.
fn is_foreign(value: &Value) -> bool {
    let text = |field| value.get(field).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let is_ours = [KIND, CLUSTER_KIND].iter().any(|ours| kind.eq_ignore_ascii_case(ours)) || api_version.starts_with("mcp-policy.dev/");
    !api_version.is_empty() && !kind.is_empty() && !is_ours
}

fn manifest(file: &str, value: &Value) -> Result<Manifest, FieldError> {
    let map = object(value, "", "a policy document")?;
    if !map.contains_key("apiVersion") && !map.contains_key("kind") {
        let document = document(value)?;
        return Ok(Manifest {
            id: PolicyId::new(None, file),
            kind: Kind::Bare,
            namespace_selector: None,
            selector: None,
            server: Server::default(),
            mode: Mode::Enforce,
            document,
        });
    }
    if map.get("apiVersion").and_then(Value::as_str) != Some(API_VERSION) {
        return Err(error("apiVersion", format!("is not `{API_VERSION}`")));
    }
    let kind = match map.get("kind").and_then(Value::as_str) {
        Some(KIND) => Kind::Policy,
        Some(CLUSTER_KIND) => Kind::ClusterPolicy,
        _ => return Err(error("kind", format!("is not `{KIND}` or `{CLUSTER_KIND}`"))),
    };
    if let Some(unknown) = map.keys().find(|key| !["apiVersion", "kind", "metadata", "spec", "status"].contains(&key.as_str())) {
        return Err(error(unknown, "unknown field"));
    }
    let metadata = object(map.get("metadata").unwrap_or(&Value::Null), "metadata", "an object")?;
    let text = |field| metadata.get(field).and_then(Value::as_str);
    let (name, namespace) = (text("name").ok_or_else(|| error("metadata.name", "is required"))?, text("namespace"));
    if kind == Kind::ClusterPolicy && namespace.is_some() {
        return Err(error(
            "metadata.namespace",
            format!("a {CLUSTER_KIND} belongs to no namespace; `spec.namespaceSelector` selects those that it governs"),
        ));
    }
    let SpecParts { namespace_selector, selector, server, mode, document } = spec_parts(map.get("spec").unwrap_or(&Value::Null))?;
    if kind == Kind::Policy && namespace_selector.is_some() {
        return Err(error("spec.namespaceSelector", format!("belongs to a {CLUSTER_KIND}")));
    }
    Ok(Manifest { id: PolicyId::new(namespace, name), kind, namespace_selector, selector, server, mode, document })
}

/// A `spec`, read part by part.
struct SpecParts {
    namespace_selector: Option<Selector>,
    selector: Option<Selector>,
    server: Server,
    mode: Mode,
    document: Document,
}

impl SpecParts {
    fn policy_spec(self) -> Result<PolicySpec, FieldError> {
        let selector = self.selector.ok_or_else(|| error("spec.selector", "is required; `{}` selects every pod of the namespace"))?;
        Ok(PolicySpec { selector, server: self.server, mode: self.mode, document: self.document })
    }
}

/// The resource's own fields go to their types, and what remains is the document: so each part refuses what it does not know.
fn spec_parts(value: &Value) -> Result<SpecParts, FieldError> {
    let mut map = object(value, "spec", "an object")?.clone();
    let namespace_selector = map.remove("namespaceSelector").map(|value| part(&value, "spec.namespaceSelector")).transpose()?;
    let selector = map.remove("selector").map(|value| part(&value, "spec.selector")).transpose()?;
    let server = map.remove("server").map(|value| part(&value, "spec.server")).transpose()?.unwrap_or_default();
    let mode = map.remove("mode").map(|value| part(&value, "spec.mode")).transpose()?.unwrap_or_default();
    let document = part(&Value::Object(map), "spec")?;
    Ok(SpecParts { namespace_selector, selector, server, mode, document })
}

fn object<'a>(value: &'a Value, path: &str, what: &str) -> Result<&'a Map<String, Value>, FieldError> {
    value.as_object().ok_or_else(|| error(path, format!("must be {what}, but is {}", describe(value))))
}

fn part<T: DeserializeOwned>(value: &Value, prefix: &str) -> Result<T, FieldError> {
    serde_path_to_error::deserialize(value).map_err(|cause| {
        let path = match (prefix, cause.path().to_string().as_str()) {
            (prefix, ".") => prefix.to_owned(),
            ("", path) => path.to_owned(),
            (prefix, path) => format!("{prefix}.{path}"),
        };
        let message = explain(&path, &cause.into_inner().to_string());
        FieldError { path, message }
    })
}

/// Serde's words, and for the mistakes that people make, what to write instead.
fn explain(path: &str, message: &str) -> String {
    let field = path.rsplit('.').next().unwrap_or_default();
    if message.starts_with("unknown field") {
        if NOT_YET.contains(&field) {
            return "is part of the policy language, but not of this release".to_owned();
        }
        if let Some((_, ours)) = GATEWAY_SPELLINGS.iter().find(|(theirs, _)| *theirs == field) {
            return format!("unknown field; in an {KIND} it is `{ours}`");
        }
    }
    if message.starts_with("unknown variant `approve`") {
        return "`approve` is part of the policy language, but not of this release".to_owned();
    }
    if message.starts_with("invalid type: null") && message.contains("Rule") {
        return "must not be null; write `{}` to allow the tool without checks".to_owned();
    }
    if field == "version" && message.starts_with("invalid type") {
        return "must be the string \"1\", in quotes".to_owned();
    }
    message.to_owned()
}

fn describe(value: &Value) -> &'static str {
    match value {
        Value::Null => "missing or null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn error(path: impl Into<String>, message: impl Into<String>) -> FieldError {
    FieldError { path: path.into(), message: message.into() }
}

#[cfg(test)]
mod tests;
