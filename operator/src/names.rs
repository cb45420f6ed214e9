//! Names of the operator's own objects. The chart uses the same; the name of its release changes none of them.

/// The Deployment, Service, `ServiceAccount` and Lease of the operator, and its field manager and reporting name.
pub const OPERATOR: &str = "mcp-policy-operator";
/// As whom the operator asks servers that are not of the cluster.
pub const AGENT: &str = concat!("mcp-policy-operator/", env!("CARGO_PKG_VERSION"));
/// Port of the Service.
pub const SERVICE_PORT: u16 = 443;
/// The Secret with the operator's certificates.
pub const SECRET: &str = "mcp-policy-operator-ca";
/// The `MutatingWebhookConfiguration`.
pub const WEBHOOK_CONFIGURATION: &str = "mcp-policy";
/// The webhook in it.
pub const WEBHOOK: &str = "inject.mcp-policy.dev";

/// The host that the certificate names, and that sidecars and API server ask for.
#[must_use]
pub fn service_host(namespace: &str) -> String {
    format!("{OPERATOR}.{namespace}.svc")
}

/// The user name of the operator's `ServiceAccount`.
#[must_use]
pub fn service_account(namespace: &str) -> String {
    format!("system:serviceaccount:{namespace}:{OPERATOR}")
}
