//! What the tests share: a scripted upstream that remembers what it got, a sidecar in front of it, and a plain client.
#![allow(dead_code, reason = "each test binary uses its part")]

pub mod operator;
pub mod raw;

use std::convert::Infallible;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self as client, SendRequest};
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use mcp_policy_sidecar::Bound;
use mcp_policy_sidecar::config::{Config, Source, UpstreamUrl};
use mcp_policy_sidecar::drain::Drain;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Longer than anything here takes, shorter than a person waits.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until something holds.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "never: {what}");
}

/// Waits for something that must not wait for a timeout of the sidecar's.
pub async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    let Ok(output) = tokio::time::timeout(PATIENCE, future).await else { panic!("not in time: {what}") };
    output
}

/// A request as the upstream got it.
#[derive(Clone, Debug)]
pub struct Got {
    pub method: Method,
    pub target: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Got {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

/// What the upstream answers.
pub enum Reply {
    /// A whole answer.
    Whole(Response<Bytes>),
    /// A head, and a body that comes as the test sends it.
    Stream(Response<()>, mpsc::Receiver<Bytes>),
    /// Nothing, ever.
    Never,
}

impl Reply {
    pub fn json(body: &Value) -> Self {
        Self::status(StatusCode::OK, body)
    }

    pub fn status(status: StatusCode, body: &Value) -> Self {
        let response = Response::builder().status(status).header("content-type", "application/json");
        Self::Whole(response.body(body.to_string().into()).unwrap())
    }

    pub fn events(events: &[Value]) -> Self {
        let text = events.iter().fold(String::new(), |text, event| text + &format!("event: message\ndata: {event}\n\n"));
        Self::Whole(Response::builder().header("content-type", "text/event-stream").body(text.into()).unwrap())
    }

    pub fn stream() -> (mpsc::Sender<Bytes>, Self) {
        let (sender, receiver) = mpsc::channel(1);
        (sender, Self::Stream(Response::builder().header("content-type", "text/event-stream").body(()).unwrap(), receiver))
    }
}

type Script = dyn Fn(&Got) -> Reply + Send + Sync;

/// A server that answers by a script, remembers what it got, and knows when its callers leave.
pub struct Server {
    pub address: SocketAddr,
    state: Arc<ServerState>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct ServerState {
    got: Mutex<Vec<Got>>,
    connections: AtomicUsize,
    abandoned: AtomicUsize,
}

/// Counts an answer that was dropped before its end.
struct Unfinished(Arc<ServerState>, bool);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.1 {
            self.0.abandoned.fetch_add(1, Ordering::SeqCst);
        }
    }
}

struct Streamed(mpsc::Receiver<Bytes>, Unfinished);

impl http_body::Body for Streamed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let polled = self.0.poll_recv(cx);
        if matches!(polled, Poll::Ready(None)) {
            self.1.1 = true;
        }
        polled.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

impl Server {
    pub async fn start(script: impl Fn(&Got) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), script).await
    }

    pub async fn start_at(address: SocketAddr, script: impl Fn(&Got) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(ServerState::default());
        let script: Arc<Script> = Arc::new(script);
        let accepting = tokio::spawn({
            let state = Arc::clone(&state);
            async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    state.connections.fetch_add(1, Ordering::SeqCst);
                    let (state, script) = (Arc::clone(&state), Arc::clone(&script));
                    tokio::spawn(async move {
                        let service = service_fn(|request| answer(Arc::clone(&state), Arc::clone(&script), request));
                        let _ = server::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                    });
                }
            }
        });
        Self { address, state, accepting }
    }

    /// A server that runs every tool and lists these.
    pub async fn with_tools(tools: &'static [&'static str]) -> Self {
        Self::start(move |got| {
            let message = got.json();
            match message["method"].as_str() {
                Some("tools/call") => ran(&message),
                Some("tools/list") => Reply::json(&list(&message["id"], tools, None)),
                Some(_) if message.get("id").is_none() => {
                    Reply::Whole(Response::builder().status(StatusCode::ACCEPTED).body(Bytes::new()).unwrap())
                }
                _ => Reply::json(&json!({"jsonrpc": "2.0", "id": message["id"], "result": {}})),
            }
        })
        .await
    }

    pub fn got(&self) -> Vec<Got> {
        self.state.got.lock().unwrap().clone()
    }

    /// How many requests came, of whatever kind.
    pub fn requests(&self) -> usize {
        self.state.got.lock().unwrap().len()
    }

    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// How many answers were given up by the other side.
    pub fn abandoned(&self) -> usize {
        self.state.abandoned.load(Ordering::SeqCst)
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

type UpstreamBody = http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>;

async fn answer(state: Arc<ServerState>, script: Arc<Script>, request: Request<Incoming>) -> Result<Response<UpstreamBody>, hyper::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let got = Got { method: head.method, target: head.uri.to_string(), headers: head.headers, body };
    state.got.lock().unwrap().push(got.clone());
    match script(&got) {
        Reply::Whole(response) => Ok(response.map(|body| Full::new(body).boxed_unsync())),
        Reply::Stream(response, bytes) => Ok(response.map(|()| Streamed(bytes, Unfinished(state, false)).boxed_unsync())),
        Reply::Never => {
            let _unfinished = Unfinished(state, false);
            std::future::pending().await
        }
    }
}

/// The answer of a tool that ran.
pub fn ran(call: &Value) -> Reply {
    Reply::json(&json!({"jsonrpc": "2.0", "id": call["id"], "result": {"content": [{"type": "text", "text": "ran"}]}}))
}

/// An answer to `tools/list`.
pub fn list(id: &Value, tools: &[&str], cursor: Option<&str>) -> Value {
    let tools: Vec<Value> = tools.iter().map(|name| json!({"name": name, "inputSchema": {"type": "object"}})).collect();
    let mut result = json!({"tools": tools});
    if let Some(cursor) = cursor {
        result["nextCursor"] = json!(cursor);
    }
    json!({"jsonrpc": "2.0", "id": id, "result": result})
}

/// The audit lines so far.
#[derive(Clone, Default)]
pub struct AuditLines(Arc<Mutex<Vec<u8>>>);

impl Write for AuditLines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl AuditLines {
    pub fn all(&self) -> Vec<Value> {
        let bytes = self.0.lock().unwrap().clone();
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        bytes[..whole]
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect()
    }

    /// Waits until there are this many.
    pub async fn at_least(&self, count: usize) -> Vec<Value> {
        eventually("enough audit lines", async || self.all().len() >= count).await;
        self.all()
    }
}

/// A sidecar in this process.
pub struct Sidecar {
    pub proxy: SocketAddr,
    pub admin: SocketAddr,
    pub audit: AuditLines,
    pub drain: Drain,
    pub policy: PathBuf,
    pub ended: JoinHandle<()>,
    _dir: TempDir,
}

impl Sidecar {
    /// `run --policy … --upstream …`.
    pub fn guarding(upstream: &str, policy: &Value) -> Self {
        Self::configured(upstream, policy, |_| {})
    }

    pub fn configured(upstream: &str, policy: &Value, change: impl FnOnce(&mut Config)) -> Self {
        let audit = AuditLines::default();
        Self { audit: audit.clone(), ..Self::start(upstream, policy, change, audit) }
    }

    /// With audit lines that go somewhere else.
    pub fn writing_to(out: impl Write + Send + 'static, upstream: &str, policy: &Value) -> Self {
        Self::start(upstream, policy, |_| {}, out)
    }

    fn start(upstream: &str, policy: &Value, change: impl FnOnce(&mut Config), out: impl Write + Send + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy.json");
        std::fs::write(&path, policy.to_string()).unwrap();
        let any = "127.0.0.1:0".parse().unwrap();
        let mut config = Config::standalone(path.clone(), any, UpstreamUrl::parse(upstream).unwrap(), Some(any));
        change(&mut config);
        let bound: Bound = mcp_policy_sidecar::run(config, out).unwrap();
        let (proxy, admin, drain) = (bound.proxy, bound.admin.unwrap(), bound.drain.clone());
        let ended = tokio::spawn(async move { bound.finished().await.unwrap() });
        Self { proxy, admin, audit: AuditLines::default(), drain, policy: path, ended, _dir: dir }
    }

    /// With another source of policies.
    pub fn following(upstream: &str, source: Source) -> Self {
        Self::configured(upstream, &json!({}), |config| config.source = source)
    }

    /// Sends one message on a connection of its own.
    pub async fn post(&self, message: &Value) -> Answered {
        self.post_bytes(message.to_string().into_bytes()).await
    }

    pub async fn post_bytes(&self, body: impl Into<Bytes>) -> Answered {
        self.send(mcp(body)).await
    }

    pub async fn send(&self, request: Request<Full<Bytes>>) -> Answered {
        Client::connect(self.proxy).await.send(request).await
    }

    /// Calls a tool.
    pub async fn call(&self, tool: &str) -> Answered {
        self.post(&call(1, tool)).await
    }

    pub async fn metrics(&self) -> String {
        self.get_admin("/metrics").await.text()
    }

    pub async fn get_admin(&self, path: &str) -> Answered {
        let request = Request::get(path).header("host", self.admin.to_string()).body(Full::default()).unwrap();
        Client::connect(self.admin).await.send(request).await
    }
}

/// A `tools/call`.
pub fn call(id: u64, tool: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": tool, "arguments": {"study": "secret-value"}}})
}

/// A POST to the endpoint as clients send it.
pub fn mcp(body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::post("/mcp")
        .header("host", "127.0.0.1")
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .body(Full::new(body.into()))
        .unwrap()
}

/// One connection to the sidecar.
pub struct Client {
    sender: SendRequest<Full<Bytes>>,
    pub connection: JoinHandle<Result<(), hyper::Error>>,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let (sender, connection) = client::handshake(TokioIo::new(stream)).await.unwrap();
        Self { sender, connection: tokio::spawn(connection) }
    }

    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> Answered {
        Answered::of(self.open(request).await).await
    }

    /// Sends a request and waits for the answer's head only.
    pub async fn open(&mut self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        self.try_open(request).await.unwrap()
    }

    pub async fn try_open(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, hyper::Error> {
        self.sender.ready().await?;
        tokio::time::timeout(PATIENCE, self.sender.send_request(request)).await.expect("an answer in time")
    }
}

/// The next bytes of a streaming answer.
pub async fn next_bytes(response: &mut Response<Incoming>) -> Option<Bytes> {
    let frame = tokio::time::timeout(PATIENCE, response.frame()).await.expect("a frame in time")?;
    Some(frame.unwrap().into_data().unwrap())
}

/// A whole answer.
#[derive(Debug)]
pub struct Answered {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answered {
    async fn of(response: Response<Incoming>) -> Self {
        let (head, body) = response.into_parts();
        let body = tokio::time::timeout(PATIENCE, body.collect()).await.expect("a body in time").unwrap().to_bytes();
        Self { status: head.status, headers: head.headers, body }
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {}", self.text()))
    }

    /// The messages of an event stream.
    pub fn events(&self) -> Vec<Value> {
        self.text().lines().filter_map(|line| line.strip_prefix("data:")).map(|data| serde_json::from_str(data).unwrap()).collect()
    }

    pub fn ran(&self) -> bool {
        self.status == StatusCode::OK && self.json()["result"]["content"][0]["text"] == "ran"
    }

    /// The denial that machines read, of an answer that is a refused call.
    pub fn denial(&self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text());
        let answer = self.json();
        assert_eq!(answer["result"]["isError"], true, "{answer}");
        answer["result"]["_meta"]["mcp-policy.dev/denial"].clone()
    }

    pub fn tools(&self) -> Vec<String> {
        names(&self.json())
    }
}

/// The names in an answer to `tools/list`.
pub fn names(answer: &Value) -> Vec<String> {
    answer["result"]["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
}

/// A policy file of a policy in this mode: `ns/p`.
pub fn manifest(mode: &str, document: &Value) -> Value {
    let mut spec = document.clone();
    spec["mode"] = mode.into();
    spec["selector"] = json!({});
    json!({"apiVersion": "mcp-policy.dev/v1alpha1", "kind": "McpPolicy", "metadata": {"name": "p", "namespace": "ns"}, "spec": spec})
}
