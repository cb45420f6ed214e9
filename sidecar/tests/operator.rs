//! The watch stream, against a stub of the operator over TLS.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

mod support;

use std::convert::Infallible;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use mcp_policy::snapshot::{Report, ReportResult, SnapshotPolicy, WatchMessage};
use mcp_policy::{Document, Snapshot};
use mcp_policy_sidecar::config::{OperatorSource, Source};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use support::{Server, Sidecar, eventually};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

const TOKEN: &str = "projected-token";

type Ca = CertifiedIssuer<'static, KeyPair>;

fn ca() -> Ca {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A stub of the operator. Each watch stream that is opened is handed to the test.
struct Operator {
    port: u16,
    state: Arc<OperatorState>,
    streams: mpsc::UnboundedReceiver<Stream>,
}

#[derive(Default)]
struct OperatorState {
    reports: Mutex<Vec<Report>>,
    /// What is answered to questions about approvals, one after the other; none fails.
    approvals: Mutex<Vec<Value>>,
    asked: Mutex<Vec<Value>>,
    refused: Mutex<usize>,
}

/// The operator's end of a watch stream.
struct Stream(mpsc::UnboundedSender<Bytes>);

impl Stream {
    fn send(&self, message: &WatchMessage) {
        let mut line = serde_json::to_vec(message).unwrap();
        line.push(b'\n');
        // In pieces: lines are not frames.
        for piece in line.chunks(100) {
            let _ = self.0.send(Bytes::copy_from_slice(piece));
        }
    }

    fn is_open(&self) -> bool {
        !self.0.is_closed()
    }
}

impl Operator {
    async fn start(ca: &Ca, name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, ca).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der())))
            .unwrap();
        let tls = TlsAcceptor::from(Arc::new(config));
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

    fn reports(&self) -> Vec<Report> {
        self.state.reports.lock().unwrap().clone()
    }

    async fn reported(&self, count: usize) -> Report {
        eventually("enough reports", async || self.reports().len() >= count).await;
        self.reports()[count - 1].clone()
    }

    async fn opened(&mut self) -> Stream {
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
            state.asked.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
            match state.approvals.lock().unwrap().pop() {
                Some(answer) => Ok(Response::new(Full::from(answer.to_string()).boxed_unsync())),
                None => whole(StatusCode::SERVICE_UNAVAILABLE, "try again\n"),
            }
        }
        _ => whole(StatusCode::NOT_FOUND, ""),
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

fn run_dir(ca: &Ca, token: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ca.crt"), ca.pem()).unwrap();
    std::fs::write(dir.path().join("token"), format!("{token}\n")).unwrap();
    dir
}

fn source(port: u16, dir: &Path) -> Source {
    Source::Operator(OperatorSource {
        host: "localhost".into(),
        port,
        ca_file: dir.join("ca.crt"),
        token_file: dir.join("token"),
        namespace: "imaging".into(),
    })
}

fn snapshot(tool: &str, generation: i64) -> Snapshot {
    let document: Document = serde_json::from_value(json!({"tools": {tool: {}}})).unwrap();
    let server = mcp_policy::Server::default();
    Snapshot::new(vec![SnapshotPolicy {
        namespace: Some("imaging".into()),
        name: "imaging".into(),
        generation,
        mode: mcp_policy::Mode::Enforce,
        server,
        from: None,
        on_audit_error: mcp_policy::resource::OnAuditError::Deny,
        document: Some(document),
    }])
}

async fn shown(sidecar: &Sidecar) -> Value {
    sidecar.get_admin("/snapshot").await.json()
}

#[tokio::test]
async fn a_snapshot_is_in_force_and_acknowledged() {
    let (ca, server) = (ca(), Server::with_tools(&[]).await);
    let mut operator = Operator::start(&ca, "localhost").await;
    let dir = run_dir(&ca, TOKEN);
    let sidecar = Sidecar::following(&server.url(), source(operator.port, dir.path()));
    assert_eq!(sidecar.call("read").await.denial()["code"], "no_policy");

    let stream = operator.opened().await;
    let first = snapshot("read", 1);
    stream.send(&WatchMessage::Snapshot(first.clone()));
    let report = operator.reported(1).await;
    assert_eq!((report.sha256, report.result, report.error), (first.sha256.clone(), ReportResult::Ack, None));
    assert!(sidecar.call("read").await.ran());
    assert_eq!(sidecar.get_admin("/readyz").await.status, StatusCode::OK);
    let seen = shown(&sidecar).await;
    assert_eq!(seen["sha256"], first.sha256);
    assert_eq!(seen["policies"], json!([{"name": "imaging/imaging", "revision": "1", "mode": "enforce", "accepted": true}]));

    stream.send(&WatchMessage::Snapshot(snapshot("write", 2)));
    assert_eq!(operator.reported(2).await.result, ReportResult::Ack);
    assert_eq!(sidecar.call("read").await.denial()["code"], "default_deny");
    assert!(sidecar.call("write").await.ran());
    assert_eq!(sidecar.audit.at_least(4).await[3]["revision"], "2");

    stream.send(&WatchMessage::Snapshot(Snapshot::new(Vec::new())));
    assert_eq!(operator.reported(3).await.result, ReportResult::Ack);
    assert_eq!(sidecar.call("write").await.denial()["code"], "no_policy");
    assert!(sidecar.get_admin("/readyz").await.text().contains("no policy selects this pod"));
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_enforced_is_refused_and_the_one_before_stays() {
    let (ca, server) = (ca(), Server::with_tools(&[]).await);
    let mut operator = Operator::start(&ca, "localhost").await;
    let dir = run_dir(&ca, TOKEN);
    let sidecar = Sidecar::following(&server.url(), source(operator.port, dir.path()));
    let stream = operator.opened().await;
    let good = snapshot("read", 1);
    stream.send(&WatchMessage::Snapshot(good.clone()));
    operator.reported(1).await;

    let altered = Snapshot { sha256: good.sha256.clone(), ..snapshot("write", 2) };
    let unknown = Snapshot { version: "99".into(), ..snapshot("write", 3) };
    let wrong_document =
        serde_json::from_value(json!({"tools": {"write": {"limits": [{"counter": "c", "window": "1x", "max": 1}]}}})).unwrap();
    let mut policies = snapshot("write", 4).policies;
    policies[0].document = Some(wrong_document);
    let uncompilable = Snapshot::new(policies);
    for (count, (wrong, reason)) in
        [(altered, "digest"), (unknown, "version 99"), (uncompilable, "imaging/imaging")].into_iter().enumerate()
    {
        stream.send(&WatchMessage::Snapshot(wrong.clone()));
        let report = operator.reported(count + 2).await;
        assert_eq!((report.sha256, report.result), (wrong.sha256, ReportResult::Nack));
        assert!(report.error.as_ref().unwrap().contains(reason), "{:?}", report.error);
        assert_eq!(shown(&sidecar).await["sha256"], good.sha256);
        assert!(sidecar.call("read").await.ran());
        assert_eq!(sidecar.call("write").await.denial()["code"], "default_deny");
    }
    let newer = json!({"type": "SNAPSHOT", "version": "1", "sha256": "of-a-newer-operator", "policies": [
        {"namespace": "imaging", "name": "imaging", "generation": 5, "document": {"tools": {}, "fieldOfTomorrow": 1}}]});
    stream.0.send(format!("{newer}\n").into()).unwrap();
    let report = operator.reported(5).await;
    assert_eq!((report.sha256.as_str(), report.result), ("of-a-newer-operator", ReportResult::Nack));
    assert!(report.error.unwrap().contains("fieldOfTomorrow"));
    stream.send(&WatchMessage::Heartbeat { sha256: "of-a-newer-operator".into() });
    assert!(sidecar.call("read").await.ran());
    assert!(stream.is_open(), "a refused snapshot is no reason to leave");
}

#[tokio::test]
async fn a_stream_that_ends_or_lags_is_opened_anew_and_what_is_in_force_stays() {
    let (ca, server) = (ca(), Server::with_tools(&[]).await);
    let mut operator = Operator::start(&ca, "localhost").await;
    let dir = run_dir(&ca, TOKEN);
    let sidecar = Sidecar::following(&server.url(), source(operator.port, dir.path()));
    let first = operator.opened().await;
    first.send(&WatchMessage::Snapshot(snapshot("read", 1)));
    operator.reported(1).await;

    drop(first);
    let second = operator.opened().await;
    assert!(sidecar.call("read").await.ran());
    second.send(&WatchMessage::Snapshot(snapshot("read", 1)));
    operator.reported(2).await;
    second.send(&WatchMessage::Heartbeat { sha256: snapshot("read", 1).sha256 });
    second.send(&WatchMessage::Heartbeat { sha256: snapshot("write", 2).sha256 });
    let third = operator.opened().await;
    eventually("the stream that lags is left", async || !second.is_open()).await;
    third.send(&WatchMessage::Snapshot(snapshot("write", 2)));
    operator.reported(3).await;
    assert!(sidecar.call("write").await.ran());

    let _ = third.0.send(Bytes::from_static(b"not a message\n"));
    operator.opened().await;
    assert!(sidecar.call("write").await.ran());
}

#[tokio::test]
async fn the_token_is_read_for_each_request() {
    let (ca, server) = (ca(), Server::with_tools(&[]).await);
    let mut operator = Operator::start(&ca, "localhost").await;
    let dir = run_dir(&ca, "expired");
    let sidecar = Sidecar::following(&server.url(), source(operator.port, dir.path()));
    eventually("the old token is refused", async || *operator.state.refused.lock().unwrap() > 0).await;
    assert_eq!(sidecar.call("read").await.denial()["code"], "no_policy");
    std::fs::write(dir.path().join("token"), TOKEN).unwrap();
    operator.opened().await.send(&WatchMessage::Snapshot(snapshot("read", 1)));
    operator.reported(1).await;
    assert!(sidecar.call("read").await.ran());
}

#[tokio::test]
async fn an_operator_with_another_ca_or_another_name_is_not_believed_until_the_ca_file_says_so() {
    let (old_ca, new_ca, server) = (ca(), ca(), Server::with_tools(&[]).await);
    let mut wrong_name = Operator::start(&old_ca, "other.example").await;
    let dir = run_dir(&old_ca, TOKEN);
    let misled = Sidecar::following(&server.url(), source(wrong_name.port, dir.path()));
    let mut operator = Operator::start(&new_ca, "localhost").await;
    let sidecar = Sidecar::following(&server.url(), source(operator.port, dir.path()));
    assert_eq!(sidecar.call("read").await.denial()["code"], "no_policy");
    assert!(operator.streams.try_recv().is_err());

    std::fs::write(dir.path().join("ca.crt"), format!("{}{}", old_ca.pem(), new_ca.pem())).unwrap();
    operator.opened().await.send(&WatchMessage::Snapshot(snapshot("read", 1)));
    operator.reported(1).await;
    assert!(sidecar.call("read").await.ran());
    assert!(wrong_name.streams.try_recv().is_err(), "the name in the certificate is checked");
    assert_eq!(misled.call("read").await.denial()["code"], "no_policy");
}

/// The code of a refused call, and whether the server saw it.
async fn told(sidecar: &Sidecar, arguments: &Value) -> (String, Value, bool) {
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "pay", "arguments": arguments}});
    let answer = sidecar.post(&call).await;
    if answer.ran() {
        return ("allowed".to_owned(), Value::Null, true);
    }
    (answer.denial()["code"].as_str().unwrap().to_owned(), answer.denial(), false)
}

/// The operator is asked each time anew, and its yes is good for one call; no answer and every other answer leave the server untouched.
#[tokio::test]
async fn a_call_that_waits_for_a_person_passes_only_with_the_operators_word() {
    let ca = ca();
    let mut operator = Operator::start(&ca, "localhost").await;
    let dir = run_dir(&ca, TOKEN);
    let server = Server::with_tools(&[]).await;
    let sidecar = Sidecar::following(&server.url(), source(operator.port, dir.path()));
    let document =
        json!({"tools": {"pay": {"action": "approve", "reason": "Money.", "limits": [{"counter": "c", "window": "hour", "max": 1}]}}});
    let policy = SnapshotPolicy {
        namespace: Some("imaging".into()),
        name: "imaging".into(),
        generation: 7,
        mode: mcp_policy::Mode::Enforce,
        server: mcp_policy::Server::default(),
        from: None,
        on_audit_error: mcp_policy::resource::OnAuditError::Deny,
        document: Some(serde_json::from_value(document).unwrap()),
    };
    let stream = operator.opened().await;
    stream.send(&WatchMessage::Snapshot(Snapshot::new(vec![policy])));
    operator.reported(1).await;

    let approval = json!({"namespace": "imaging", "name": "a-1", "secondsLeft": 840});
    let answers = [
        (None, "approval_required"),
        (Some(json!({"state": "waiting", "approval": approval})), "approval_required"),
        (Some(json!({"state": "denied", "approval": approval, "reason": "Not today"})), "approval_denied"),
        (Some(json!({"state": "notAsked", "why": "too many calls wait"})), "approval_required"),
        (Some(json!({"state": "mumble"})), "approval_required"),
    ];
    for (answer, code) in answers {
        operator.state.approvals.lock().unwrap().extend(answer.clone());
        let (got, denial, ran) = told(&sidecar, &json!({"amount": 1.0, "to": "bob"})).await;
        assert_eq!((got.as_str(), ran), (code, false), "{answer:?}");
        assert_eq!(server.requests(), 0, "{answer:?}");
        if answer.as_ref().is_some_and(|answer| answer["approval"].is_object()) {
            assert_eq!(denial["approval"], approval);
        }
    }
    let asked = operator.state.asked.lock().unwrap()[0].clone();
    assert_eq!((asked["caller"].as_str(), asked["tool"].as_str()), (Some("anonymous:127.0.0.1"), Some("pay")));
    assert_eq!(asked["needed"][0]["generation"], 7);
    assert_eq!(asked["needed"][0]["argumentKeys"], json!(["amount", "to"]));
    assert!(!asked.to_string().contains("bob"), "values are not told");

    operator.state.approvals.lock().unwrap().push(json!({"state": "granted"}));
    assert!(told(&sidecar, &json!({"to": "bob", "amount": 1})).await.2);
    let digests: Vec<_> = operator.state.asked.lock().unwrap().iter().map(|asked| asked["argumentsSha256"].clone()).collect();
    assert!(digests.iter().all(|digest| *digest == digests[0]), "the same call, however it is written");
    // The limit is used up, so nobody is asked.
    let before = operator.state.asked.lock().unwrap().len();
    assert_eq!(told(&sidecar, &json!({})).await.0, "limit_exceeded");
    assert_eq!(operator.state.asked.lock().unwrap().len(), before);
    assert_eq!(server.requests(), 1);
}
