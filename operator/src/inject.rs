//! Pure: what to do with a new pod that a policy selects, as explicit operations on its raw JSON.
//!
//! Guarantees: `inject(inject(pod)) == inject(pod)`; fields that this build does not know survive; containers of others keep
//! their order and content; a container of our name is replaced, never trusted.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, PatchOperation, RemoveOperation, ReplaceOperation};
use serde_json::{Value, json};

use crate::pod::{CAPTURE, SIDECAR};
use crate::probes;

/// Says which version of the operator injected a pod.
pub const INJECTED: &str = "mcp-policy.dev/injected";
/// The `ConfigMap` with the operator's CA, in each governed namespace.
pub const CA_CONFIG_MAP: &str = "mcp-policy-ca";
/// The audience of the sidecars' tokens.
pub const TOKEN_AUDIENCE: &str = "mcp-policy-operator";

/// Name of the volume with CA and token.
const VOLUME: &str = "mcp-policy";
const RUN_DIR: &str = "/run/mcp-policy";
const BINARY: &str = "/mcp-policy-sidecar";
/// The user whom the ruleset exempts from capture.
const UID: u64 = 14140;
const PROXY_PORT: u64 = 14140;
const ADMIN_PORT: u64 = 14141;
const CANARY_PORT: u64 = 14142;

/// What is the same for every pod.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Image of both containers.
    pub image: String,
    /// `imagePullPolicy` of both containers.
    pub pull_policy: String,
    /// Base URL of the operator.
    pub operator_url: String,
    /// Log filter of the sidecar.
    pub log: String,
    /// Base URL of the collector that takes the sidecar's spans; none, and it makes none.
    pub otlp_endpoint: Option<String>,
    /// Resources of both containers.
    pub resources: Resources,
}

/// Requests and limits as Kubernetes quantities. They are always set: a container without them could not run under a quota,
/// and one without a memory limit could take the node's.
#[derive(Clone, Debug)]
pub struct Resources {
    /// Requested CPU.
    pub cpu_request: String,
    /// Most CPU.
    pub cpu_limit: String,
    /// Requested memory.
    pub memory_request: String,
    /// Most memory.
    pub memory_limit: String,
}

/// What to do with a pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Apply these operations, in order. There is one at least.
    Inject(Vec<PatchOperation>),
    /// Leave it as it is.
    Skip(Skipped),
    /// Refuse it, and say what to change.
    Reject(String),
}

/// Why a pod is left as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skipped {
    /// The kubelet's image of a static pod: the API server changes nothing in it.
    MirrorPod,
    /// Already as it should be.
    Complete,
}

/// Decides what to do with a pod that a policy selects.
#[must_use]
pub fn inject(pod: &Value, settings: &Settings) -> Outcome {
    if pod.pointer("/metadata/annotations/kubernetes.io~1config.mirror").is_some() {
        return Outcome::Skip(Skipped::MirrorPod);
    }
    if let Some(message) = obstacle(pod) {
        return Outcome::Reject(message);
    }
    let probes = probes::of(&without_ours(pod));
    let resources = resources(pod, &settings.resources);
    let mut operations = Vec::new();
    annotate(pod, &mut operations);
    let ours = [capture(settings, &resources), sidecar(settings, &resources, &probes)];
    add_init_containers(pod, ours, &mut operations);
    add_volume(pod, &mut operations);
    if operations.is_empty() {
        return Outcome::Skip(Skipped::Complete);
    }
    Outcome::Inject(operations)
}

/// What makes capture impossible, or lets the pod undo it. The admission policy of the chart refuses the same.
fn obstacle(pod: &Value) -> Option<String> {
    let is_true = |field: &str| pod.pointer(field).and_then(Value::as_bool) == Some(true);
    if is_true("/spec/hostNetwork") {
        return Some("spec.hostNetwork: a pod in the node's network cannot be captured; remove hostNetwork".to_owned());
    }
    for field in ["hostPID", "shareProcessNamespace"] {
        if is_true(&format!("/spec/{field}")) {
            return Some(format!("spec.{field}: the pod's containers could reach into the sidecar; remove {field}"));
        }
    }
    if pod.pointer("/spec/os/name").and_then(Value::as_str) == Some("windows") {
        return Some("spec.os.name: Windows pods cannot be captured".to_owned());
    }
    if runs_as_us(pod.pointer("/spec/securityContext")) {
        return Some(format!("spec.securityContext.runAsUser: {UID} is the sidecar's own user; choose another"));
    }
    others(pod).find_map(|(path, container)| container_obstacle(&path, container)).or_else(|| volume_obstacle(pod))
}

/// A volume from which another container would get what only the sidecar gets from the operator.
fn volume_obstacle(pod: &Value) -> Option<String> {
    let volumes = pod.pointer("/spec/volumes").and_then(Value::as_array)?;
    let (i, _) =
        volumes.iter().enumerate().filter(|(_, volume)| volume.get("name").is_none_or(|name| name != VOLUME)).find(|(_, volume)| {
            let sources = volume.pointer("/projected/sources").and_then(Value::as_array).into_iter().flatten();
            sources.filter_map(|source| source.pointer("/serviceAccountToken/audience")).any(|audience| audience == TOKEN_AUDIENCE)
        })?;
    Some(format!("spec.volumes[{i}].projected.sources: a token for the audience {TOKEN_AUDIENCE} is the sidecar's alone; remove it"))
}

fn container_obstacle(path: &str, container: &Value) -> Option<String> {
    let name = container.get("name").and_then(Value::as_str).unwrap_or_default();
    if [CAPTURE, SIDECAR].contains(&name) {
        return Some(format!("{path}.name: {name} is the name of an init container of mcp-policy; choose another"));
    }
    let context = container.get("securityContext");
    if runs_as_us(context) {
        return Some(format!("{path}.securityContext.runAsUser: {UID} is the sidecar's own user; choose another"));
    }
    if context.and_then(|context| context.get("privileged")).and_then(Value::as_bool) == Some(true) {
        return Some(format!("{path}.securityContext.privileged: a privileged container could undo capture; remove it"));
    }
    let added = context.and_then(|context| context.pointer("/capabilities/add")).and_then(Value::as_array).into_iter().flatten();
    for capability in added.filter_map(Value::as_str) {
        // Runtimes read capabilities in any case, and some with their prefix.
        let upper = capability.to_ascii_uppercase();
        if ["ALL", "NET_ADMIN", "NET_RAW", "SYS_ADMIN"].contains(&upper.strip_prefix("CAP_").unwrap_or(&upper)) {
            return Some(format!("{path}.securityContext.capabilities.add: {capability} could undo capture; remove it"));
        }
    }
    for port in container.get("ports").and_then(Value::as_array).into_iter().flatten() {
        if let Some(number) = port.get("containerPort").and_then(Value::as_u64).filter(|port| (PROXY_PORT..=CANARY_PORT).contains(port)) {
            return Some(format!("{path}.ports: {number} is a port of the sidecar; choose another"));
        }
    }
    let mounts = container.get("volumeMounts").and_then(Value::as_array).into_iter().flatten();
    if mounts.filter_map(|mount| mount.get("name")).any(|name| name == VOLUME) {
        return Some(format!("{path}.volumeMounts: the volume {VOLUME} holds the sidecar's token; rename the pod's own"));
    }
    None
}

fn runs_as_us(context: Option<&Value>) -> bool {
    context.and_then(|context| context.get("runAsUser")).and_then(Value::as_u64) == Some(UID)
}

/// The containers that are not ours, with their paths. Ours are init containers; elsewhere their names are others' too.
fn others(pod: &Value) -> impl Iterator<Item = (String, &Value)> {
    ["initContainers", "containers", "ephemeralContainers"].into_iter().flat_map(move |list| {
        let containers = pod.pointer(&format!("/spec/{list}")).and_then(Value::as_array).into_iter().flatten();
        containers
            .enumerate()
            .filter(move |(_, container)| !(list == "initContainers" && is_ours(container)))
            .map(move |(i, container)| (format!("spec.{list}[{i}]"), container))
    })
}

fn is_ours(container: &Value) -> bool {
    container.get("name").is_some_and(|name| name == CAPTURE || name == SIDECAR)
}

/// The pod without our init containers: their probes are not the pod's own.
fn without_ours(pod: &Value) -> Value {
    let mut pod = pod.clone();
    if let Some(Value::Array(init)) = pod.pointer_mut("/spec/initContainers") {
        init.retain(|container| !is_ours(container));
    }
    pod
}

/// Says what was injected, and where to scrape it, unless the pod says where to scrape something else.
fn annotate(pod: &Value, operations: &mut Vec<PatchOperation>) {
    let present = pod.pointer("/metadata/annotations").and_then(Value::as_object);
    let is_scraped = present.is_some_and(|present| present.keys().any(|key| key.starts_with("prometheus.io/")));
    let mut wanted = vec![(INJECTED, env!("CARGO_PKG_VERSION").to_owned())];
    if !is_scraped {
        wanted.push(("prometheus.io/scrape", "true".to_owned()));
        wanted.push(("prometheus.io/port", ADMIN_PORT.to_string()));
        wanted.push(("prometheus.io/path", "/metrics".to_owned()));
    }
    match present {
        None => operations.push(add(["metadata", "annotations"], wanted.into_iter().collect())),
        Some(present) => {
            let missing = wanted.into_iter().filter(|(key, value)| present.get(*key).is_none_or(|found| found != value));
            operations.extend(missing.map(|(key, value)| add(["metadata", "annotations", key], value.into())));
        }
    }
}

fn add_init_containers(pod: &Value, ours: [Value; 2], operations: &mut Vec<PatchOperation>) {
    let Some(present) = pod.pointer("/spec/initContainers").and_then(Value::as_array) else {
        operations.push(add(["spec", "initContainers"], Value::Array(ours.into())));
        return;
    };
    let in_place = present.iter().take(2).eq(&ours);
    if in_place && !present.iter().skip(2).any(is_ours) {
        return;
    }
    // From the end, so that an index still means what it meant.
    for (i, _) in present.iter().enumerate().filter(|(_, container)| is_ours(container)).rev() {
        operations.push(PatchOperation::Remove(RemoveOperation { path: pointer(["spec", "initContainers", &i.to_string()]) }));
    }
    for (i, container) in ours.into_iter().enumerate() {
        operations.push(add(["spec", "initContainers", &i.to_string()], container));
    }
}

fn add_volume(pod: &Value, operations: &mut Vec<PatchOperation>) {
    let ours = json!({ "name": VOLUME, "projected": { "sources": [
        // Not optional: a missing CA holds the pod back, it does not open it.
        { "configMap": { "name": CA_CONFIG_MAP } },
        { "serviceAccountToken": { "audience": TOKEN_AUDIENCE, "expirationSeconds": 3600, "path": "token" } },
    ] } });
    let Some(present) = pod.pointer("/spec/volumes").and_then(Value::as_array) else {
        operations.push(add(["spec", "volumes"], json!([ours])));
        return;
    };
    match present.iter().position(|volume| volume.get("name").is_some_and(|name| name == VOLUME)) {
        None => operations.push(add(["spec", "volumes", "-"], ours)),
        Some(i) if present[i] == ours => {}
        Some(i) => {
            let path = pointer(["spec", "volumes", &i.to_string()]);
            operations.push(PatchOperation::Replace(ReplaceOperation { path, value: ours }));
        }
    }
}

fn add<const N: usize>(tokens: [&str; N], value: Value) -> PatchOperation {
    PatchOperation::Add(AddOperation { path: pointer(tokens), value })
}

fn pointer<const N: usize>(tokens: [&str; N]) -> PointerBuf {
    PointerBuf::from_tokens(tokens)
}

fn capture(settings: &Settings, resources: &Value) -> Value {
    json!({
        "name": CAPTURE,
        "image": settings.image,
        "imagePullPolicy": settings.pull_policy,
        "args": ["capture"],
        // Kubernetes sets no ambient capabilities: only uid 0 has the added one. The pod's own runAsNonRoot must not hold here.
        "securityContext": security_context(0, json!({ "drop": ["ALL"], "add": ["NET_ADMIN"] })),
        "resources": resources,
        // So that `kubectl describe pod` shows why capture failed.
        "terminationMessagePolicy": "FallbackToLogsOnError",
    })
}

fn sidecar(settings: &Settings, resources: &Value, probes: &[probes::Probe]) -> Value {
    let field = |name: &str, path: &str| json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": path } } });
    // Plain data with string keys: writing it cannot fail. Kubernetes expands `$(NAME)` in values; `$$` is one `$`.
    let probes = serde_json::to_string(probes).unwrap_or_default().replace('$', "$$");
    let mut env = vec![
        json!({ "name": "MCP_POLICY_OPERATOR", "value": settings.operator_url }),
        json!({ "name": "MCP_POLICY_RUN_DIR", "value": RUN_DIR }),
        field("MCP_POLICY_POD_NAMESPACE", "metadata.namespace"),
        field("MCP_POLICY_POD_NAME", "metadata.name"),
        json!({ "name": "MCP_POLICY_PROBES", "value": probes }),
        json!({ "name": "MCP_POLICY_LOG", "value": settings.log }),
    ];
    env.extend(settings.otlp_endpoint.iter().map(|url| json!({ "name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": url })));
    json!({
        "name": SIDECAR,
        "image": settings.image,
        "imagePullPolicy": settings.pull_policy,
        "args": ["serve"],
        "restartPolicy": "Always",
        "env": env,
        "ports": [
            { "name": "mcp-policy", "containerPort": PROXY_PORT, "protocol": "TCP" },
            { "name": "mcp-policy-adm", "containerPort": ADMIN_PORT, "protocol": "TCP" },
        ],
        // Nobody listens on the canary port: only a captured pod can answer, so a pod whose capture failed never starts its app.
        "startupProbe": { "httpGet": { "port": CANARY_PORT, "path": "/captured" }, "periodSeconds": 1, "failureThreshold": 90 },
        // Short, so that a pod whose first snapshot comes a moment late does not wait for it any longer.
        "readinessProbe": { "httpGet": { "port": ADMIN_PORT, "path": "/readyz" }, "periodSeconds": 2 },
        "livenessProbe": { "httpGet": { "port": ADMIN_PORT, "path": "/livez" }, "periodSeconds": 10 },
        "lifecycle": { "preStop": { "exec": { "command": [BINARY, "drain"] } } },
        "securityContext": security_context(UID, json!({ "drop": ["ALL"] })),
        "resources": resources,
        "volumeMounts": [{ "name": VOLUME, "mountPath": RUN_DIR, "readOnly": true }],
    })
}

#[allow(clippy::needless_pass_by_value, reason = "a literal at each call")]
fn security_context(user: u64, capabilities: Value) -> Value {
    json!({
        "runAsUser": user,
        "runAsGroup": user,
        "runAsNonRoot": user != 0,
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "seccompProfile": { "type": "RuntimeDefault" },
        "capabilities": capabilities,
    })
}

/// A pod whose containers all have limits equal to requests is of the class Guaranteed, and stays so.
fn resources(pod: &Value, resources: &Resources) -> Value {
    let Resources { cpu_request, cpu_limit, memory_request, memory_limit } = resources;
    let limits = json!({ "cpu": cpu_limit, "memory": memory_limit });
    let mut containers = others(pod).map(|(_, container)| container).peekable();
    if containers.peek().is_some() && containers.all(is_guaranteed) {
        return json!({ "requests": limits, "limits": limits });
    }
    json!({ "requests": { "cpu": cpu_request, "memory": memory_request }, "limits": limits })
}

/// Compares quantities as they are written: who writes `1` beside `1000m` loses the class, never the pod.
fn is_guaranteed(container: &Value) -> bool {
    ["cpu", "memory"].iter().all(|resource| {
        let of = |kind: &str| container.pointer(&format!("/resources/{kind}/{resource}"));
        of("limits").is_some_and(|limit| of("requests").is_none_or(|request| request == limit))
    })
}
