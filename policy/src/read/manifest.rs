//! Files of policies: which documents of a file are policies, and where in the file their fields stand.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, LazyLock};

use serde_json::{Value, json};

use super::located::{self, Located, Place, Places};
use super::{API_VERSION, CLUSTER_KIND, CLUSTER_POLICY_SPEC, FieldError, FieldErrors, KIND, POLICY_SPEC, SpecParts};
use super::{document, error, hint, object, shape};
use crate::caller_match::CallerMatch;
use crate::compile::compile_resource;
use crate::compiled::Policy;
use crate::document::Document;
use crate::policy_id::PolicyId;
use crate::resource::{Mode, OnAuditError, Selector, Server};

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
    /// Whom the policy speaks about; none for everyone.
    pub from: Option<Vec<CallerMatch>>,
    /// Whether the policy refuses.
    pub mode: Mode,
    /// What becomes of a call whose audit line cannot be written.
    pub on_audit_error: OnAuditError,
    /// The policy document.
    pub document: Document,
    file: Arc<str>,
    places: Places,
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

    /// The policy, compiled, in its mode; or everything that is wrong with it, with the places in the file.
    pub fn compile(&self) -> Result<Policy, Vec<FileError>> {
        compile_resource(self.id.clone(), self.from.as_deref(), self.mode, &self.document)
            .map_err(|errors| in_order(errors.0.into_iter().map(|error| self.locate(&error.path, error.message))))
    }

    /// What its author may not have meant, with the places in the file.
    #[must_use]
    pub fn warnings(&self, policy: &Policy) -> Vec<FileError> {
        let located = |warning: String| {
            let whole = self.path(&warning);
            let (_, rest) = self.places.follow(&whole);
            let path = &whole[self.path("").len()..whole.len() - rest.len()];
            self.locate(path, rest.trim_start_matches(": "))
        };
        let of_callers = self.server.authentication.iter().flat_map(|said| said.warnings(self.from.as_deref()));
        in_order(policy.warnings().iter().cloned().chain(of_callers).map(located))
    }

    /// What a manifest needs in a cluster and may lack without one.
    #[must_use]
    pub fn missing(&self) -> Vec<FileError> {
        let needed = match self.kind {
            Kind::Bare => [("selector", false), ("namespaceSelector", false)],
            Kind::Policy => [("selector", self.selector.is_none()), ("namespaceSelector", false)],
            Kind::ClusterPolicy => [("selector", self.selector.is_none()), ("namespaceSelector", self.namespace_selector.is_none())],
        };
        needed.iter().filter(|(_, is_missing)| *is_missing).map(|(field, _)| self.locate(field, hint::missing(field))).collect()
    }

    /// What is to be said if another policy of this name is already there: in `file`.
    #[must_use]
    pub fn named_twice(&self, file: &str) -> FileError {
        let field = if self.is_resource() {
            error("metadata.name", format!("a policy named {} is already in {file}", self.id))
        } else {
            error("", format!("a bare document is named by its file, so a file holds one; write {KIND} manifests"))
        };
        FileError::new(&self.file, &self.places, field)
    }

    /// The file that the policy stands in, as it was named.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Where the field stands that a decision or a step points to.
    #[must_use]
    pub fn place(&self, pointer: &str) -> Option<Place> {
        let tokens: Vec<_> = pointer.split('/').skip(1).map(|token| token.replace("~1", "/").replace("~0", "~")).collect();
        let rule = match tokens.first().map(String::as_str) {
            Some("allTools") => self.document.all_tools.as_ref(),
            Some("tools") => tokens.get(1).and_then(|key| self.document.tools.get(key)),
            _ => None,
        };
        let mut path = self.path("");
        let mut before = "";
        for token in &tokens {
            // Limits are pointed to by the name of their counter.
            let limit = rule.filter(|_| before == "limits").and_then(|rule| rule.limits.iter().position(|limit| limit.counter == *token));
            match limit {
                Some(index) => path = format!("{path}[{index}]"),
                None if path.is_empty() || path.ends_with('.') => path += token,
                None => path = shape::join(&path, token),
            }
            before = token;
        }
        self.places.of(&path)
    }

    /// A field of the document, as it is written from the top of the manifest.
    fn path(&self, field: &str) -> String {
        if self.is_resource() { format!("spec.{field}") } else { field.to_owned() }
    }

    /// What is to be said of a field of the document, or of the resource's `spec`.
    fn locate(&self, field: &str, message: impl Into<String>) -> FileError {
        FileError::new(&self.file, &self.places, error(self.path(field), message))
    }
}

/// What is wrong with a file, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct FileError {
    /// The file's name as it was given.
    pub file: String,
    /// Where, if that is known.
    pub place: Option<Place>,
    /// The field and what is wrong with it.
    pub field: FieldError,
}

impl FileError {
    /// The error of a field, with the place where the field stands.
    #[must_use]
    pub fn new(file: &str, places: &Places, field: FieldError) -> Self {
        Self { file: file.to_owned(), place: places.of(&field.path), field }
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(Place { line, column }) = self.place {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.field)
    }
}

/// The documents of a YAML 1.2 or JSON text, with the places of their fields. Empty ones are left out.
pub fn documents(name: &str, text: &str) -> Result<Vec<Located>, FileError> {
    located::documents(text).map_err(|(place, message)| FileError { file: name.to_owned(), place, field: error("", message) })
}

/// Reads a file of policies: YAML 1.2 or JSON, one document or several, each a bare document or a manifest.
/// Manifests of other Kubernetes kinds are passed over, so that a policy can lie beside the server that it governs; a file of
/// nothing else gives none. `name` is the file's name, for errors and for the names of bare documents.
pub fn file(name: &str, text: &str) -> Result<Vec<Manifest>, Vec<FileError>> {
    let documents = documents(name, text).map_err(|error| vec![error])?;
    if documents.is_empty() {
        return Err(vec![FileError { file: name.to_owned(), place: None, field: error("", "the file holds no policy") }]);
    }
    policies(name, documents)
}

/// The policies among the documents of a file, as [`file`] reads them.
pub fn policies(name: &str, documents: Vec<Located>) -> Result<Vec<Manifest>, Vec<FileError>> {
    let mut manifests = Vec::new();
    let mut errors = Vec::new();
    let mut names = BTreeSet::new();
    for Located { value, places, mut doubts } in documents.into_iter().filter(|document| !is_foreign(&document.value)) {
        match manifest(name, &value, &places) {
            Ok(manifest) if doubts.is_empty() => {
                if !names.insert((manifest.kind == Kind::ClusterPolicy, manifest.id.clone())) {
                    errors.push(manifest.named_twice("this file"));
                }
                manifests.push(manifest);
            }
            read => {
                doubts.extend(read.err().into_iter().flat_map(|FieldErrors(fields)| fields));
                errors.extend(in_order(doubts.into_iter().map(|field| FileError::new(name, &places, field))));
            }
        }
    }
    if errors.is_empty() { Ok(manifests) } else { Err(errors) }
}

/// Errors as whoever reads the file meets them.
fn in_order(errors: impl Iterator<Item = FileError>) -> Vec<FileError> {
    let mut errors: Vec<_> = errors.collect();
    errors.sort_by_key(|error| error.place);
    errors
}

/// Whether this is a manifest of somebody else's kind, and not one of ours with a typing error.
fn is_foreign(value: &Value) -> bool {
    let text = |field| value.get(field).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let is_ours = [KIND, CLUSTER_KIND].iter().any(|ours| kind.eq_ignore_ascii_case(ours)) || api_version.starts_with("mcp-policy.dev/");
    !api_version.is_empty() && !kind.is_empty() && !is_ours
}

fn manifest(file: &str, value: &Value, places: &Places) -> Result<Manifest, FieldErrors> {
    let map = object(value, "", "a policy document")?;
    let (file, places): (Arc<str>, _) = (file.into(), places.clone());
    if !["apiVersion", "kind", "spec"].iter().any(|field| map.contains_key(*field)) {
        let document = document(value)?;
        return Ok(Manifest {
            id: PolicyId::new(None, &file),
            kind: Kind::Bare,
            namespace_selector: None,
            selector: None,
            server: Server::default(),
            from: None,
            mode: Mode::Enforce,
            on_audit_error: OnAuditError::Deny,
            document,
            file,
            places,
        });
    }
    let text = |field| map.get(field).and_then(Value::as_str);
    let kind = match text("kind") {
        Some(KIND) => Some(Kind::Policy),
        Some(CLUSTER_KIND) => Some(Kind::ClusterPolicy),
        _ => None,
    };
    let mut errors = Vec::new();
    if text("apiVersion") != Some(API_VERSION) {
        errors.push(error("apiVersion", format!("is not `{API_VERSION}`")));
    }
    let Some(kind) = kind else {
        errors.push(error("kind", format!("is not `{KIND}` or `{CLUSTER_KIND}`")));
        return Err(FieldErrors(errors));
    };
    let spec_shape = if kind == Kind::Policy { &*POLICY_SPEC } else { &*CLUSTER_POLICY_SPEC };
    let mut rest = map.clone();
    let spec = rest.remove("spec").unwrap_or(Value::Null);
    errors.extend(shape::differences(&Value::Object(rest), &ENVELOPE, ""));
    let metadata = |field: &str| map.get("metadata").and_then(|metadata| metadata.get(field)).and_then(Value::as_str);
    let namespace = metadata("namespace");
    if kind == Kind::ClusterPolicy && namespace.is_some() {
        let message = format!("a {CLUSTER_KIND} belongs to no namespace; `spec.namespaceSelector` selects those that it governs");
        errors.push(error("metadata.namespace", message));
    }
    let id = PolicyId::new(namespace, metadata("name").unwrap_or_default());
    match SpecParts::read(&spec, spec_shape) {
        Ok(SpecParts { namespace_selector, selector, server, from, mode, on_audit_error, document, .. }) if errors.is_empty() => {
            Ok(Manifest { id, kind, namespace_selector, selector, server, from, mode, on_audit_error, document, file, places })
        }
        Ok(_) => Err(FieldErrors(errors)),
        Err(FieldErrors(more)) => {
            errors.extend(more);
            Err(FieldErrors(errors))
        }
    }
}

/// A manifest around its `spec`.
static ENVELOPE: LazyLock<Value> = LazyLock::new(|| {
    json!({
        "type": "object",
        "properties": {
            "apiVersion": {}, "kind": {}, "spec": {}, "status": {},
            "metadata": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "namespace": {"type": "string"}},
                "required": ["name"],
            },
        },
        "additionalProperties": false,
        "required": ["metadata"],
    })
});
