//! Spans on their way to the collector: a bounded queue, and a task that sends what is in it.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use opentelemetry::Context;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{ExporterBuildError, Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter as _, SpanProcessor};
use prometheus_client::metrics::counter::Counter;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

/// Spans that may wait: a megabyte or two.
const ROOM: usize = 2048;
/// Spans of one request to the collector.
const BATCH: usize = 512;
/// How long spans are gathered.
const GATHER: Duration = Duration::from_secs(1);
/// Time for the collector to take a request.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest answer of a collector that is read.
const MAX_ANSWER: usize = 64 * 1024;
/// How long [`Exporting::flush`] waits.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug)]
enum Item {
    Span(Box<SpanData>),
    Flush(oneshot::Sender<()>),
}

/// The task that sends.
#[derive(Debug)]
pub(super) struct Exporting(mpsc::Sender<Item>);

/// Where spans that have ended go.
#[derive(Debug)]
pub(super) struct Queue {
    items: mpsc::Sender<Item>,
    lost: Counter,
}

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if self.items.try_send(Item::Span(Box::new(span))).is_err() {
            self.lost.inc();
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

impl Exporting {
    pub(super) fn start(url: &Uri, resource: &Resource, lost: Counter) -> Result<(Self, Queue), ExporterBuildError> {
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(url.to_string())
            .with_http_client(Plain)
            .with_timeout(PATIENCE);
        let mut exporter = exporter.build()?;
        exporter.set_resource(resource);
        let (items, queue) = mpsc::channel(ROOM);
        tokio::spawn(run(queue, exporter, lost.clone()));
        Ok((Self(items.clone()), Queue { items, lost }))
    }

    pub(super) async fn flush(&self) {
        let (told, sent) = oneshot::channel();
        let flushed = async { self.0.send(Item::Flush(told)).await.is_ok() && sent.await.is_ok() };
        if !timeout(FLUSH_TIMEOUT, flushed).await.unwrap_or(false) {
            tracing::warn!("spans were not sent before the end");
        }
    }
}

async fn run(mut queue: mpsc::Receiver<Item>, exporter: SpanExporter, lost: Counter) {
    let mut failing = false;
    loop {
        let Some(mut item) = queue.recv().await else { return };
        let until = Instant::now() + GATHER;
        let (mut batch, mut waiting) = (Vec::new(), None);
        loop {
            match item {
                Item::Span(span) => batch.push(*span),
                Item::Flush(told) => waiting = Some(told),
            }
            if waiting.is_some() || batch.len() == BATCH {
                break;
            }
            match timeout_at(until, queue.recv()).await {
                Ok(Some(next)) => item = next,
                Ok(None) | Err(_) => break,
            }
        }
        if !batch.is_empty() {
            let count = batch.len();
            let sent = exporter.export(batch).await;
            if sent.is_err() {
                lost.inc_by(count as u64);
            }
            match (failing, &sent) {
                (false, Err(error)) => tracing::warn!(%error, "spans cannot be sent and are lost"),
                (true, Ok(())) => tracing::info!("spans are sent again"),
                _ => {}
            }
            failing = sent.is_err();
        }
        if let Some(told) = waiting {
            // Whoever asked may have given up.
            let _ = told.send(());
        }
    }
}

/// HTTP without TLS, a connection for each request.
#[derive(Debug)]
struct Plain;

impl HttpClient for Plain {
    fn send_bytes<'me, 'future>(
        &'me self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'future>>
    where
        'me: 'future,
        Self: 'future,
    {
        Box::pin(async move { timeout(PATIENCE, send(request)).await? })
    }
}

async fn send(request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
    let (mut head, body) = request.into_parts();
    let authority = head.uri.authority().ok_or("the URL names no host")?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((host, authority.port_u16().unwrap_or(80))).await?;
    head.headers.insert(HOST, HeaderValue::from_str(authority.as_str())?);
    head.uri = head.uri.path_and_query().map_or_else(|| Uri::from_static("/"), |path| Uri::from(path.clone()));
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the answer. What went wrong, the request is told.
    tokio::spawn(connection);
    let (head, body) = sender.send_request(Request::from_parts(head, Full::new(body))).await?.into_parts();
    let body = Limited::new(body, MAX_ANSWER).collect().await?.to_bytes();
    Ok(Response::from_parts(head, body))
}
