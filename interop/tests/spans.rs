//! Spans of the sidecar in a real OpenTelemetry collector: it takes them, and what it writes says what was decided.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mcp_policy_interop::prepared;
use mcp_policy_interop::sidecar::{Sidecar, root};
use mcp_policy_interop::wait::within;
use mcp_policy_interop::wire::{End, exchange};
use serde_json::{Value, json};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// A collector that runs until it is dropped.
struct Collector {
    process: Child,
    url: String,
    taken: PathBuf,
    dir: TempDir,
}

impl Collector {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (config, taken) = (dir.path().join("config.json"), dir.path().join("spans.json"));
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let pipeline = json!({
            "receivers": {"otlp": {"protocols": {"http": {"endpoint": address.to_string()}}}},
            "exporters": {"file": {"path": taken}},
            "service": {
                "pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["file"]}},
                "telemetry": {"metrics": {"level": "none"}},
            },
        });
        fs::write(&config, pipeline.to_string()).unwrap();
        let mut command = Command::new(prepared::collector());
        let process = command.arg("--config").arg(&config).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        within(PATIENCE, "the collector listens", || TcpStream::connect(address).map_err(|error| error.to_string()));
        Self { process, url: format!("http://{address}"), taken, dir }
    }

    /// The spans so far, each with the attributes of its resource beside its own.
    fn spans(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.taken).unwrap_or_default();
        let requests = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let each = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
        let resources = requests.flat_map(|request| each(&request, "resourceSpans"));
        resources.flat_map(|resource| each(&resource, "scopeSpans")).flat_map(|scope| each(&scope, "spans")).collect()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn attribute<'a>(span: &'a Value, key: &str) -> &'a Value {
    let attributes = span["attributes"].as_array().unwrap();
    attributes.iter().find(|one| one["key"] == key).map_or(&Value::Null, |one| &one["value"]["stringValue"])
}

#[test]
fn a_collector_takes_one_span_for_each_call_as_the_child_of_its_callers() {
    let collector = Collector::start();
    let mut server = Command::new("python3");
    server.arg(root().join("sidecar/tests/support/server.py")).arg(collector.dir.path().join("server.log"));
    server.env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url).env("OTEL_SERVICE_NAME", "guard");
    let sidecar = Sidecar::offer(r#"{"tools": {"read": {}}}"#, &server);
    let call = |tool: &str| {
        let meta = json!({"traceparent": format!("00-{TRACE}-00f067aa0ba902b7-01")});
        let body = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": tool, "arguments": {"path": "/secret"}, "_meta": meta}});
        let body = body.to_string();
        let head = "POST /mcp HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\ncontent-type: application/json\r\naccept: application/json, text/event-stream";
        let request = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        exchange(sidecar.address(), request.as_bytes(), End::Waits)
    };
    call("read");
    call("write");
    let spans = within(PATIENCE, "the collector has both spans", || {
        let spans = collector.spans();
        if spans.len() >= 2 { Ok(spans) } else { Err(format!("{spans:?}")) }
    });
    let lines = sidecar.end();
    assert_eq!((spans.len(), lines.len()), (2, 2));
    let pairs = [("tools/call", "read"), ("tools/call", "write")];
    for ((span, line), (method, tool)) in spans.iter().zip(&lines).zip(pairs) {
        assert_eq!((span["traceId"].as_str(), span["parentSpanId"].as_str()), (Some(TRACE), Some("00f067aa0ba902b7")));
        assert_eq!(attribute(span, "mcp.method.name"), method);
        assert_eq!(attribute(span, "gen_ai.tool.name"), tool);
        assert_eq!(attribute(span, "mcp_policy.code"), &line["code"]);
        assert_eq!(attribute(span, "mcp_policy.rule"), &line["rule"]);
        assert_eq!(attribute(span, "mcp_policy.decision_id"), &line["decisionId"]);
    }
    assert_eq!(attribute(&spans[1], "error.type"), "default_deny");
    let written = fs::read_to_string(&collector.taken).unwrap();
    assert!(written.contains(r#"{"key":"service.name","value":{"stringValue":"guard"}}"#) && !written.contains("secret"), "{written}");
}
