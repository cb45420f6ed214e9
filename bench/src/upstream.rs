//! The server behind every contestant: as little work as an MCP server can do, so that the proxy is what is measured.
//!
//! A header [`ANSWER`] says which answer is wanted, and the message is not even parsed.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;

use crate::load::{Form, SIZES};

/// Names the answer: [`crate::load::Shape::answer`].
pub const ANSWER: &str = "x-bench-answer";

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A stream that begins, and then never says anything.
#[derive(Default)]
struct Silence {
    has_begun: bool,
}

impl http_body::Body for Silence {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if std::mem::replace(&mut self.has_begun, true) {
            return Poll::Pending;
        }
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b": begun\n\n")))))
    }
}

/// Serves until the process is killed.
pub async fn serve(address: SocketAddr) -> anyhow::Result<()> {
    let mut answers = HashMap::new();
    for size in SIZES {
        let message = json!({"jsonrpc": "2.0", "id": 1, "result": {"content": [{"type": "text", "text": "x".repeat(size)}]}});
        answers.insert(format!("{} {size}", Form::Json.name()), Bytes::from(message.to_string()));
        let notification = json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 1, "progress": 1}});
        let events = format!("event: message\ndata: {notification}\n\nevent: message\ndata: {message}\n\n");
        answers.insert(format!("{} {size}", Form::Events.name()), events.into());
    }
    let answers = Arc::new(answers);
    let listener = TcpListener::bind(address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let answers = Arc::clone(&answers);
        tokio::spawn(async move {
            let service = service_fn(|request| answer(Arc::clone(&answers), request));
            // A contestant that hangs up is none of our business.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(answers: Arc<HashMap<String, Bytes>>, request: Request<Incoming>) -> Result<Response<Body>, hyper::Error> {
    if *request.method() == Method::GET {
        let mut response = with_type("text/event-stream", Silence::default().boxed_unsync());
        // nginx would wait for more.
        response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
        return Ok(response);
    }
    let wanted = request.headers().get(ANSWER).and_then(|value| value.to_str().ok()).and_then(|wanted| answers.get_key_value(wanted));
    let prepared = wanted.map(|(name, bytes)| (name.starts_with(Form::Events.name()), bytes.clone()));
    let mut body = request.into_body();
    let Some((is_events, bytes)) = prepared else {
        let mut response = Response::new(Full::default().boxed_unsync());
        *response.status_mut() = StatusCode::BAD_REQUEST;
        return Ok(response);
    };
    while let Some(frame) = body.frame().await {
        frame?;
    }
    let kind = if is_events { "text/event-stream" } else { "application/json" };
    Ok(with_type(kind, Full::new(bytes).boxed_unsync()))
}

fn with_type(kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
