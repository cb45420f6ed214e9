//! Callers that prove who they are, over HTTP: who is let in, what the server gets to see, and whose sessions, tasks and streams are
//! whose. Each refusal is one that the server never hears of.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod ownership;
mod proofs;
mod reviews;
mod streams;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode};
use http_body_util::Full;
use mcp_policy::Snapshot;
use mcp_policy::snapshot::{ReportResult, SnapshotAuthentication, SnapshotPolicy, WatchMessage};
use mcp_policy_sidecar::authenticate::now;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use support::operator::{Operator, Stream, TOKEN, ca, run_dir, source};
use support::{Answered, Server, Sidecar, call, mcp};
use tempfile::TempDir;

const ISSUER: &str = "https://id.example.com";
const CLUSTER: &str = "https://kubernetes.default.svc";

/// Who signs tokens.
struct Issuer {
    name: &'static str,
    key: Ed25519KeyPair,
}

impl Issuer {
    fn new(name: &'static str) -> Self {
        Self { name, key: Ed25519KeyPair::generate().unwrap() }
    }

    /// As a snapshot tells it.
    fn told(&self) -> Value {
        let public = URL_SAFE_NO_PAD.encode(self.key.public_key().as_ref());
        let jwks = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "1", "use": "sig", "x": public}]});
        json!({"issuer": self.name, "audiences": ["mcp"], "jwks": jwks})
    }

    fn sign(&self, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&json!({"alg": "EdDSA", "kid": "1"})), part(claims));
        let signature = URL_SAFE_NO_PAD.encode(self.key.sign(signed.as_bytes()).as_ref());
        format!("{signed}.{signature}")
    }

    fn token(&self, subject: &str) -> String {
        self.token_until(subject, now() + 600)
    }

    fn token_until(&self, subject: &str, until: u64) -> String {
        self.sign(&json!({"iss": self.name, "aud": "mcp", "sub": subject, "exp": until}))
    }

    fn service_account(&self, namespace: &str, name: &str) -> String {
        let bound = json!({"namespace": namespace, "serviceaccount": {"name": name, "uid": "1"}});
        let subject = format!("system:serviceaccount:{namespace}:{name}");
        self.sign(&json!({"iss": self.name, "aud": ["mcp"], "sub": subject, "exp": now() + 600, "kubernetes.io": bound}))
    }
}

fn hashed(name: &str, key: &str) -> Value {
    let hex = |bytes: &[u8]| bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    let digest = Sha256::new().chain_update([7; 16]).chain_update(key).finalize();
    json!({"name": name, "salt": hex(&[7; 16]), "sha256": hex(&digest)})
}

/// One policy, for those that `from` matches.
fn policy(name: &str, from: Option<Value>, document: &Value) -> SnapshotPolicy {
    let mut policy = json!({"namespace": "imaging", "name": name, "generation": 1, "document": document});
    if let Some(from) = from {
        policy["from"] = from;
    }
    serde_json::from_value(policy).unwrap()
}

fn proving(policies: Vec<SnapshotPolicy>, authentication: Value) -> Snapshot {
    let authentication: SnapshotAuthentication = serde_json::from_value(authentication).unwrap();
    Snapshot::new(policies).proving_callers(authentication)
}

fn all_allowed() -> Vec<SnapshotPolicy> {
    vec![policy("p", None, &json!({"default": "allow"}))]
}

/// A sidecar under an operator.
struct Guarded {
    sidecar: Sidecar,
    operator: Operator,
    stream: Stream,
    reports: usize,
    _dir: TempDir,
}

impl Guarded {
    async fn start(server: &Server, snapshot: &Snapshot) -> Self {
        let ca = ca();
        let mut operator = Operator::start(&ca, "localhost").await;
        let dir = run_dir(&ca, TOKEN);
        let sidecar = Sidecar::following(&server.url(), source(operator.port, dir.path()));
        let stream = operator.opened().await;
        let mut guarded = Self { sidecar, operator, stream, reports: 0, _dir: dir };
        guarded.enforce(snapshot).await;
        guarded
    }

    async fn enforce(&mut self, snapshot: &Snapshot) {
        let (result, error) = self.offer(snapshot).await;
        assert_eq!(result, ReportResult::Ack, "{error}");
    }

    async fn offer(&mut self, snapshot: &Snapshot) -> (ReportResult, String) {
        self.stream.send(&WatchMessage::Snapshot(snapshot.clone()));
        self.reports += 1;
        let report = self.operator.reported(self.reports).await;
        (report.result, report.error.unwrap_or_default())
    }

    async fn call(&self, tool: &str, token: Option<&str>) -> Answered {
        self.sidecar.send(with_token(mcp(call(1, tool).to_string()), token)).await
    }

    async fn post(&self, message: &Value, token: &str, session: Option<&str>) -> Answered {
        self.sidecar.send(in_session(with_token(mcp(message.to_string()), Some(token)), session)).await
    }
}

fn with_token(mut request: Request<Full<Bytes>>, token: Option<&str>) -> Request<Full<Bytes>> {
    if let Some(token) = token {
        request.headers_mut().insert("authorization", HeaderValue::try_from(format!("Bearer {token}")).unwrap());
    }
    request
}

fn in_session(mut request: Request<Full<Bytes>>, session: Option<&str>) -> Request<Full<Bytes>> {
    if let Some(session) = session {
        request.headers_mut().insert("mcp-session-id", HeaderValue::try_from(session).unwrap());
    }
    request
}

fn get(path: &str) -> Request<Full<Bytes>> {
    Request::get(path).header("host", "localhost:8080").header("accept", "text/event-stream").body(Full::default()).unwrap()
}

/// The challenge of an answer that asks for a proof, whose body says the same to machines.
fn challenge(answer: &Answered) -> String {
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{}", answer.text());
    assert_eq!(answer.json()["error"]["data"]["mcp-policy.dev/denial"]["code"], "unauthenticated");
    answer.headers["www-authenticate"].to_str().unwrap().to_owned()
}

fn required(rest: &Value) -> Value {
    let mut authentication = rest.clone();
    authentication["required"] = true.into();
    authentication
}
