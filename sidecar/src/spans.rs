//! Spans for OpenTelemetry: one for each message of a client that was judged, sent to a collector over OTLP (HTTP, protobuf). Off unless
//! a collector is named.
//!
//! Guarantees: no message waits for a collector, and memory is bounded: a span for which there is no room is dropped and counted. No
//! value of an argument, result, session or credential is in a span. Off, it costs nothing.

mod export;

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use mcp_policy::Code;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{Span as _, SpanKind, Status, TraceContextExt, Tracer as _, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_otlp::ExporterBuildError;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use prometheus_client::metrics::counter::Counter;

use crate::config::Collector;
use crate::message::{self, Id, Message, trace_context};
use export::Exporting;

/// Longer ids are cut.
const MAX_ID: usize = 256;

/// Makes spans, and sends them.
#[derive(Debug)]
pub struct Spans {
    tracer: SdkTracer,
    propagator: TraceContextPropagator,
    exporting: Exporting,
    // Ends when it is dropped, and its spans with it.
    _provider: SdkTracerProvider,
}

/// A message whose span ends later.
#[derive(Debug)]
pub struct Begun {
    parent: Context,
    request: Option<String>,
}

/// What was found about a message.
#[derive(Debug)]
pub struct Judged<'a> {
    /// Its method.
    pub method: &'a str,
    /// The tool that it calls.
    pub tool: Option<&'a str>,
    /// The tool, if its name is a label of metrics: one of few.
    pub label: Option<&'a str>,
    /// What was decided.
    pub code: Code,
    /// The policy that decided.
    pub policy: Option<&'a str>,
    /// JSON pointer to the rule in it.
    pub rule: Option<&'a str>,
    /// The id that audit line and agent have as well.
    pub decision_id: &'a str,
    /// Why the server's answer did not reach the caller.
    pub fault: Option<&'a str>,
    /// When the message came.
    pub began: SystemTime,
    /// Until its answer ended.
    pub took: Duration,
}

impl Spans {
    /// Starts sending; what is dropped is counted in `lost`. To be called within a tokio runtime.
    pub fn start(collector: Collector, lost: Counter) -> Result<Self, ExporterBuildError> {
        let Collector { url, pod } = collector;
        let resource = resource(pod);
        let (exporting, queue) = Exporting::start(&url, &resource, lost)?;
        let provider = SdkTracerProvider::builder().with_resource(resource).with_span_processor(queue).build();
        let tracer = provider.tracer("mcp-policy-sidecar");
        Ok(Self { tracer, propagator: TraceContextPropagator::new(), exporting, _provider: provider })
    }

    /// A message has come. The trace that it belongs to stands in its `_meta`, else in the request's headers.
    #[must_use]
    pub fn begin(&self, message: &Message, body: &[u8], headers: Option<&HeaderMap>) -> Begun {
        let none = Context::new();
        let mut parent = self.propagator.extract_with_context(&none, &trace_context(body));
        if let Some(headers) = headers.filter(|_| !parent.has_active_span()) {
            parent = self.propagator.extract_with_context(&none, &HeaderExtractor(headers));
        }
        let id = |id: &Id| id.to_string().trim_matches('"').chars().take(MAX_ID).collect();
        Begun { parent, request: message.id().map(id) }
    }

    /// The message was answered.
    pub fn end(&self, Begun { parent, request }: Begun, judged: &Judged<'_>) {
        let mut span = self
            .tracer
            .span_builder(name(judged.method, judged.label))
            .with_kind(SpanKind::Server)
            .with_start_time(judged.began)
            .with_attributes(attributes(request.as_deref(), judged))
            .start_with_context(&self.tracer, &parent);
        if error_type(judged).is_some() {
            span.set_status(Status::error(""));
        }
        span.end_with_timestamp(judged.began + judged.took);
    }

    /// Waits until all spans so far are sent, or for two seconds.
    pub async fn flush(&self) {
        self.exporting.flush().await;
    }
}

/// The environment's `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` have the last word.
fn resource(pod: Option<(String, String)>) -> Resource {
    let known = [("service.name", "mcp-policy-sidecar".to_owned()), ("service.version", env!("CARGO_PKG_VERSION").to_owned())];
    let pod = pod.into_iter().flat_map(|(namespace, name)| [("k8s.namespace.name", namespace), ("k8s.pod.name", name)]);
    let said = Resource::builder().build();
    let is_default = |value: &str| value.starts_with("unknown_service");
    let said: Vec<_> = said
        .iter()
        .filter(|(_, value)| !is_default(&value.as_str()))
        .map(|(key, value)| KeyValue::new(key.clone(), value.clone()))
        .collect();
    let known = known.into_iter().chain(pod).map(|(key, value)| KeyValue::new(key, value));
    Resource::builder_empty().with_attributes(known).with_attributes(said).build()
}

/// `{method} {tool}`, of names that are few: what anybody can send is none.
fn name(method: &str, label: Option<&str>) -> String {
    match label {
        _ if !message::is_known_method(method) => "unknown method".to_owned(),
        Some(tool) => format!("{method} {tool}"),
        None => method.to_owned(),
    }
}

fn error_type<'a>(judged: &Judged<'a>) -> Option<&'a str> {
    match judged.code {
        Code::Allowed => None,
        code => Some(judged.fault.unwrap_or(code.as_str())),
    }
}

fn attributes(request: Option<&str>, judged: &Judged<'_>) -> Vec<KeyValue> {
    let text = |key: &'static str, value: Option<&str>| value.map(|value| KeyValue::new(key, value.to_owned()));
    [
        text("mcp.method.name", Some(judged.method)),
        text("jsonrpc.request.id", request),
        text("gen_ai.operation.name", judged.tool.map(|_| "execute_tool")),
        text("gen_ai.tool.name", judged.tool),
        text("error.type", error_type(judged)),
        text("mcp_policy.code", Some(judged.code.as_str())),
        text("mcp_policy.policy", judged.policy),
        text("mcp_policy.rule", judged.rule),
        text("mcp_policy.decision_id", Some(judged.decision_id)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_span_has_no_words_of_strangers() {
        assert_eq!(name("tools/call", Some("export")), "tools/call export");
        assert_eq!(name("tools/call", None), "tools/call");
        assert_eq!(name("tools/list", None), "tools/list");
        assert_eq!(name("x/y", None), "unknown method");
    }
}
