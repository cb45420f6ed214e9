//! A stub of the operator over TLS.

use std::convert::Infallible;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use mcp_policy::snapshot::{Report, WatchMessage};
use mcp_policy_sidecar::config::{OperatorSource, Source};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use super::eventually;

/// What the stub takes for a token.
pub const TOKEN: &str = "projected-token";

pub type Ca = CertifiedIssuer<'static, KeyPair>;

pub fn ca() -> Ca {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// TLS of a server that has proof of this name.
pub fn certified(ca: &Ca, name: &str) -> TlsAcceptor {
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, ca).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der())))
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// A stub of the operator. Each watch stream that is opened is handed to the test.
pub struct Operator {
    pub port: u16,
    pub state: Arc<OperatorState>,
    pub streams: mpsc::UnboundedReceiver<Stream>,
}

#[derive(Default)]
pub struct OperatorState {
    pub reports: Mutex<Vec<Report>>,
    /// What is answered to questions about approvals, the last first. None fails; a question that can wait waits for one.
    pub approvals: Mutex<Vec<Value>>,
    pub asked: Mutex<Vec<Value>>,
    /// Questions that were given up.
    pub given_up: AtomicUsize,
    pub refused: Mutex<usize>,
    /// Whether callers' tokens are vouched for; of none, nobody says so.
    pub vouches: Mutex<Option<bool>>,
    /// Questions about callers' tokens.
    pub reviewed: Mutex<Vec<Value>>,
}

/// The operator's end of a watch stream.
pub struct Stream(pub mpsc::UnboundedSender<Bytes>);

impl Stream {
    pub fn send(&self, message: &WatchMessage) {
        let mut line = serde_json::to_vec(message).unwrap();
        line.push(b'\n');
        // In pieces: lines are not frames.
        for piece in line.chunks(100) {
            let _ = self.0.send(Bytes::copy_from_slice(piece));
        }
    }

    pub fn is_open(&self) -> bool {
        !self.0.is_closed()
    }
}

impl Operator {
    pub async fn start(ca: &Ca, name: &str) -> Self {
        let tls = certified(ca, name);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(OperatorState::default());
        let (opened, streams) = mpsc::unbounded_channel();
        tokio::spawn({
            let state = Arc::clone(&state);
            async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let (tls, state, opened) = (tls.clone(), Arc::clone(&state), opened.clone());
                    tokio::spawn(async move {
                        let Ok(stream) = tls.accept(stream).await else { return };
                        let service = service_fn(|request| answer(Arc::clone(&state), opened.clone(), request));
                        let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                    });
                }
            }
        });
        Self { port, state, streams }
    }

    pub fn reports(&self) -> Vec<Report> {
        self.state.reports.lock().unwrap().clone()
    }

    pub async fn reported(&self, count: usize) -> Report {
        eventually("enough reports", async || self.reports().len() >= count).await;
        self.reports()[count - 1].clone()
    }

    pub async fn opened(&mut self) -> Stream {
        tokio::time::timeout(std::time::Duration::from_secs(20), self.streams.recv()).await.expect("a stream in time").unwrap()
    }
}

type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>;

async fn answer(
    state: Arc<OperatorState>,
    opened: mpsc::UnboundedSender<Stream>,
    request: Request<Incoming>,
) -> Result<Response<Body>, hyper::Error> {
    let whole = |status, text: &'static str| {
        let mut response = Response::new(Full::from(text).boxed_unsync());
        *response.status_mut() = status;
        Ok(response)
    };
    if request.headers()["authorization"] != format!("Bearer {TOKEN}") {
        *state.refused.lock().unwrap() += 1;
        return whole(StatusCode::UNAUTHORIZED, "token not accepted\n");
    }
    match (request.method().as_str(), request.uri().path()) {
        ("GET", "/v1/watch") => {
            let (sender, receiver) = mpsc::unbounded_channel();
            opened.send(Stream(sender)).unwrap();
            Ok(Response::new(Lines(receiver).boxed_unsync()))
        }
        ("POST", "/v1/report") => {
            let body = request.into_body().collect().await?.to_bytes();
            state.reports.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
            whole(StatusCode::NO_CONTENT, "")
        }
        ("POST", "/v1/approvals") => {
            let body = request.into_body().collect().await?.to_bytes();
            let asked: Value = serde_json::from_slice(&body).unwrap();
            state.asked.lock().unwrap().push(asked.clone());
            let end = Instant::now() + Duration::from_secs(asked["waitSeconds"].as_u64().unwrap_or(0));
            let mut waiting = Waiting(&state.given_up, true);
            // Who waits is told what people say, and nothing else.
            let is_patient = asked["waitSeconds"].is_u64();
            let next = || state.approvals.lock().unwrap().pop_if(|answer| !is_patient || answer["state"] != "waiting");
            let mut answer = next();
            while answer.is_none() && Instant::now() < end {
                tokio::time::sleep(Duration::from_millis(2)).await;
                answer = next();
            }
            waiting.1 = false;
            match answer {
                Some(answer) => Ok(Response::new(Full::from(answer.to_string()).boxed_unsync())),
                None if is_patient => {
                    let waiting = json!({"state": "waiting", "approval": {"namespace": "imaging", "name": "a-1", "secondsLeft": 800}});
                    Ok(Response::new(Full::from(waiting.to_string()).boxed_unsync()))
                }
                None => whole(StatusCode::SERVICE_UNAVAILABLE, "try again\n"),
            }
        }
        ("POST", "/v1/token-reviews") => {
            let body = request.into_body().collect().await?.to_bytes();
            state.reviewed.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
            let vouches = *state.vouches.lock().unwrap();
            match vouches {
                Some(holds) => Ok(Response::new(Full::from(json!({"holds": holds}).to_string()).boxed_unsync())),
                None => whole(StatusCode::SERVICE_UNAVAILABLE, "try again\n"),
            }
        }
        _ => whole(StatusCode::NOT_FOUND, ""),
    }
}

/// Notices who does not wait for the answer.
struct Waiting<'a>(&'a AtomicUsize, bool);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(usize::from(self.1), Ordering::SeqCst);
    }
}

/// The lines of a watch stream, as they come.
struct Lines(mpsc::UnboundedReceiver<Bytes>);

impl http_body::Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

pub fn run_dir(ca: &Ca, token: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ca.crt"), ca.pem()).unwrap();
    std::fs::write(dir.path().join("token"), format!("{token}\n")).unwrap();
    dir
}

pub fn source(port: u16, dir: &Path) -> Source {
    Source::Operator(OperatorSource {
        host: "localhost".into(),
        port,
        ca_file: dir.join("ca.crt"),
        token_file: dir.join("token"),
        namespace: "imaging".into(),
    })
}
