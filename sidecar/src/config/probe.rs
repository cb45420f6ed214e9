//! The pod's own probes, as the operator found them in the pod.

use std::fmt;

use serde::Deserialize;

/// A probe of the pod itself, by its port with names resolved. Exactly these requests pass without policy. One that only opens a
/// connection is none of them: see `capture.nft`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Probe {
    /// The port that is probed.
    pub port: u16,
    /// What is asked there.
    #[serde(flatten)]
    pub handler: Handler,
}

/// What a probe asks.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Handler {
    /// A request of HTTP/1.1, over TLS or not.
    HttpGet(HttpGet),
    /// A call of gRPC.
    Grpc(Grpc),
}

/// The request of an HTTP probe.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpGet {
    /// Whether it comes over TLS.
    #[serde(default)]
    pub scheme: Scheme,
    /// Path and query, as the kubelet sends them.
    pub path: String,
    /// Names and values of the headers that the probe sets. A name may come twice.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
}

/// How an HTTP probe comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Scheme {
    /// In the clear.
    #[default]
    Http,
    /// Over TLS, to a server whose certificate nobody verifies.
    Https,
}

/// The call of a gRPC probe, `grpc.health.v1.Health/Check`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grpc {
    /// The service whose health is asked for; empty for that of the server as a whole.
    pub service: String,
}

/// Without the headers' values: one may be a secret, and the configuration is logged.
impl fmt::Debug for HttpGet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("HttpGet").field("scheme", &self.scheme).field("path", &self.path).field("headers", &names).finish()
    }
}
