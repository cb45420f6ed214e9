//! Every rule of the proxy for MCP on the wire, on real sockets: the number in a test's name is the rule's. A refusal is always asked
//! together with what the server saw (nothing), the audit log (one line) and the metric (one more of its reason).

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod denials;
mod eras;
mod http;
mod lists;
mod parsing;
mod responses;
mod sessions;
mod streams;
mod tasks;
mod two_endpoints;

use ::http::Request;
use bytes::Bytes;
use http_body_util::Full;
use serde_json::{Value, json};
use support::{Answered, Server, Sidecar, eventually, mcp};

/// A server that runs every tool, behind a sidecar whose policy allows everything.
struct Pair {
    server: Server,
    sidecar: Sidecar,
}

impl Pair {
    async fn allowing_all() -> Self {
        Self::with(&json!({"default": "allow"})).await
    }

    async fn with(policy: &Value) -> Self {
        let server = Server::with_tools(&["read"]).await;
        let sidecar = Sidecar::guarding(&server.url(), policy);
        Self { server, sidecar }
    }

    /// Sends what has to be refused before any rule, and checks what was seen of it everywhere.
    async fn refused(&self, what: &str, request: Request<Full<Bytes>>, status: u16, code: i64, reason: &str) -> Answered {
        self.refused_as(what, reason, self.sidecar.send(request), |answer| {
            assert_eq!(answer.status, status, "{what}: {}", answer.text());
            assert_eq!(answer.json()["error"]["code"], code, "{what}: {}", answer.text());
        })
        .await
    }

    /// As [`Pair::refused`], for any answer.
    async fn refused_as(
        &self,
        what: &str,
        reason: &str,
        answer: impl Future<Output = Answered>,
        check: impl FnOnce(&Answered),
    ) -> Answered {
        let malformed = || self.sidecar.audit.all().into_iter().filter(|line| line["code"] == "malformed");
        let (requests, lines, counted) = (self.server.requests(), malformed().count(), self.counted(reason).await);
        let answer = answer.await;
        check(&answer);
        assert_eq!(self.server.requests(), requests, "{what} reached the server");
        eventually("a line", async || malformed().count() > lines).await;
        let written: Vec<_> = malformed().skip(lines).collect();
        assert_eq!((written.len(), written[0]["malformed"].as_str()), (1, Some(reason)), "{what}: one line: {written:?}");
        assert_eq!(self.counted(reason).await, counted + 1, "{what}: one more of {reason}");
        answer
    }

    async fn counted(&self, reason: &str) -> u64 {
        counted(&self.sidecar, "client", reason).await
    }

    /// Sends what has to pass.
    async fn passes(&self, what: &str, request: Request<Full<Bytes>>) -> Answered {
        let requests = self.server.requests();
        let answer = self.sidecar.send(request).await;
        assert!(answer.status.is_success(), "{what}: {} {}", answer.status, answer.text());
        assert_eq!(self.server.requests(), requests + 1, "{what} did not reach the server");
        answer
    }
}

/// How many messages of this side were malformed for this reason.
async fn counted(sidecar: &Sidecar, from: &str, reason: &str) -> u64 {
    let line = format!("mcp_policy_malformed_total{{from=\"{from}\",reason=\"{reason}\"}} ");
    let metrics = sidecar.metrics().await;
    metrics.lines().find_map(|found| found.strip_prefix(&line)).map_or(0, |count| count.parse().unwrap())
}

/// A request with these headers more, or instead.
fn with_headers(mut request: Request<Full<Bytes>>, headers: &[(&'static str, &str)]) -> Request<Full<Bytes>> {
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    request
}

/// A request of the modern revision, with the headers that repeat its body.
fn modern(id: u64, method: &str, params: &Value) -> Request<Full<Bytes>> {
    let mut message = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
    message["params"]["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let mut request = mcp(message.to_string());
    let target = if params["taskId"].is_null() { &params["name"] } else { &params["taskId"] };
    let headers = [("mcp-protocol-version", "2026-07-28"), ("mcp-method", method), ("mcp-name", target.as_str().unwrap_or_default())];
    for (name, value) in headers.into_iter().filter(|(_, value)| !value.is_empty()) {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    request
}

fn modern_call(id: u64, tool: &str) -> Request<Full<Bytes>> {
    modern(id, "tools/call", &json!({"name": tool, "arguments": {}}))
}

fn request(id: u64, method: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": {}})
}

fn notification(method: &str) -> Value {
    json!({"jsonrpc": "2.0", "method": method, "params": {}})
}

/// The stream from server to client.
fn get() -> Request<Full<Bytes>> {
    Request::get("/mcp").header("host", "localhost").header("accept", "text/event-stream").body(Full::default()).unwrap()
}

fn initialize() -> Value {
    json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}})
}

/// The answer of a tool that ran.
fn result(id: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "result": {"content": [{"type": "text", "text": "ran"}]}})
}
