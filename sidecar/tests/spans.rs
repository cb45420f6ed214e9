//! Spans, as a collector gets them: what they say, whose children they are, and that no message waits for one.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response};
use mcp_policy_sidecar::config::Collector;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use serde_json::{Value, json};
use support::{Reply, Server, Sidecar, call, eventually, in_time, mcp};

mod support;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// A collector that takes what it gets.
async fn collector() -> Server {
    Server::start(|_| Reply::Whole(Response::new(Bytes::new()))).await
}

fn guarding(server: &Server, collector: &Server, policy: &Value) -> Sidecar {
    let url = format!("{}/v1/traces", collector.url()).parse().unwrap();
    let pod = Some(("imaging".to_owned(), "server-0".to_owned()));
    Sidecar::configured(&server.url(), policy, |config| config.collector = Some(Collector { url, pod }))
}

fn requests(collector: &Server) -> Vec<ExportTraceServiceRequest> {
    collector.got().into_iter().map(|got| ExportTraceServiceRequest::decode(got.body).unwrap()).collect()
}

fn spans(collector: &Server) -> Vec<Span> {
    let resources = requests(collector).into_iter().flat_map(|request| request.resource_spans);
    resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans).collect()
}

async fn at_least(collector: &Server, count: usize) -> Vec<Span> {
    eventually("the spans have come", async || spans(collector).len() >= count).await;
    spans(collector)
}

fn attribute<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a str> {
    let value = attributes.iter().find(|one| one.key == key)?.value.as_ref()?.value.as_ref()?;
    match value {
        any_value::Value::StringValue(text) => Some(text),
        other => panic!("{key} is {other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

fn policy() -> Value {
    json!({"tools": {"export": {}, "pay": {"action": "deny"}}})
}

#[tokio::test]
async fn each_message_has_one_span_that_says_what_was_decided_and_no_value() {
    let (server, collector) = (Server::with_tools(&["export"]).await, collector().await);
    let sidecar = guarding(&server, &collector, &policy());
    assert!(sidecar.call("export").await.ran());
    let denial = sidecar.call("pay").await.denial();
    sidecar.call("rm -rf").await;
    sidecar.post(&json!({"jsonrpc": "2.0", "id": "l", "method": "tools/list"})).await;
    let spans = at_least(&collector, 4).await;
    let said = |key: &str| spans.iter().map(|span| attribute(&span.attributes, key).unwrap_or("-")).collect::<Vec<_>>();
    assert_eq!(
        spans.iter().map(|span| span.name.as_str()).collect::<Vec<_>>(),
        ["tools/call export", "tools/call pay", "tools/call", "tools/list"]
    );
    assert_eq!(said("mcp.method.name"), ["tools/call", "tools/call", "tools/call", "tools/list"]);
    assert_eq!(said("gen_ai.operation.name"), ["execute_tool", "execute_tool", "execute_tool", "-"]);
    assert_eq!(said("gen_ai.tool.name"), ["export", "pay", "rm -rf", "-"]);
    assert_eq!(said("jsonrpc.request.id"), ["1", "1", "1", "l"]);
    assert_eq!(said("error.type"), ["-", "tool_denied", "malformed", "-"]);
    assert_eq!(said("mcp_policy.code"), ["allowed", "tool_denied", "malformed", "allowed"]);
    assert_eq!(said("mcp_policy.policy"), ["policy.json", "policy.json", "-", "-"]);
    assert_eq!(said("mcp_policy.rule"), ["/tools/export", "/tools/pay/action", "-", "-"]);
    assert_eq!(said("mcp_policy.decision_id")[1], denial["decisionId"]);
    for span in &spans {
        assert_eq!(span.kind, 2, "of a server");
        assert_eq!(span.status.as_ref().map_or(0, |status| status.code) == 2, attribute(&span.attributes, "error.type").is_some());
        assert!(span.end_time_unix_nano >= span.start_time_unix_nano && span.parent_span_id.is_empty());
    }
    let sent = requests(&collector);
    assert!(!format!("{sent:?}").contains("secret-value"));
    let resource = sent[0].resource_spans[0].resource.clone().unwrap().attributes;
    let of_pod = ["service.name", "k8s.namespace.name", "k8s.pod.name"].map(|key| attribute(&resource, key).unwrap());
    assert_eq!(of_pod, ["mcp-policy-sidecar", "imaging", "server-0"]);
}

#[tokio::test]
async fn a_span_is_the_child_of_the_callers_and_what_names_it_goes_on_as_it_came() {
    let (server, collector) = (Server::with_tools(&["export"]).await, collector().await);
    let sidecar = guarding(&server, &collector, &policy());
    let traced = |span: &str, flags: &str| format!("00-{TRACE}-{span}-{flags}");
    let with_meta = |traceparent: &str| {
        let mut message = call(1, "export");
        message["params"]["_meta"] = json!({"traceparent": traceparent, "tracestate": "v=1"});
        message.to_string()
    };
    let with_header = |body: String, traceparent: &str| {
        let mut request = mcp(body);
        request.headers_mut().insert("traceparent", HeaderValue::from_str(traceparent).unwrap());
        request
    };
    let in_meta = with_meta(&traced("00f067aa0ba902b7", "01"));
    sidecar.send(with_header(in_meta.clone(), &traced("aaaaaaaaaaaaaaaa", "01"))).await;
    sidecar.send(with_header(call(1, "export").to_string(), &traced("bbbbbbbbbbbbbbbb", "01"))).await;
    sidecar.send(with_header(with_meta("nonsense"), &traced("cccccccccccccccc", "01"))).await;
    // Whoever began the trace does not want it recorded.
    sidecar.send(mcp(with_meta(&traced("dddddddddddddddd", "00")))).await;
    sidecar.call("export").await;
    let spans = at_least(&collector, 4).await;
    let parents: Vec<_> = spans.iter().map(|span| hex(&span.parent_span_id)).collect();
    assert_eq!(parents, ["00f067aa0ba902b7", "bbbbbbbbbbbbbbbb", "cccccccccccccccc", ""]);
    assert!(spans[..3].iter().all(|span| hex(&span.trace_id) == TRACE) && hex(&spans[3].trace_id) != TRACE);
    assert_eq!(spans[0].trace_state, "v=1");
    let got = server.got();
    assert_eq!(got[0].body, in_meta.as_bytes());
    assert_eq!(got[0].headers["traceparent"], traced("aaaaaaaaaaaaaaaa", "01"));
}

#[tokio::test]
async fn calls_do_not_wait_for_a_collector_and_what_it_does_not_take_is_counted() {
    let server = Server::with_tools(&["export"]).await;
    for script in [|| Reply::Never, || Reply::Whole(Response::builder().status(503).body(Bytes::new()).unwrap())] {
        let collector = Server::start(move |_| script()).await;
        let sidecar = guarding(&server, &collector, &policy());
        for _ in 0..3 {
            assert!(in_time("a call", sidecar.call("export")).await.ran());
        }
        eventually("they are sent", async || collector.requests() > 0).await;
        assert!(in_time("a call", sidecar.call("export")).await.ran());
        // A collector that never answers is given ten seconds.
        eventually("they are counted", async || !sidecar.metrics().await.contains("mcp_policy_spans_lost_total 0")).await;
    }
}

#[tokio::test]
async fn what_was_not_sent_yet_is_sent_at_the_end() {
    let (server, collector) = (Server::with_tools(&["export"]).await, collector().await);
    let sidecar = guarding(&server, &collector, &policy());
    assert!(sidecar.call("export").await.ran());
    sidecar.drain.terminate();
    tokio::time::timeout(Duration::from_secs(10), sidecar.ended).await.unwrap().unwrap();
    assert_eq!(spans(&collector).len(), 1);
}
