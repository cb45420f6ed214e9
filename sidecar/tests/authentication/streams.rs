//! Streams that are open while keys are revoked or replaced, policies ask for more, or a token ends: they end between two events.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use mcp_policy::Snapshot;
use mcp_policy_sidecar::authenticate::now;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::support::{Client, Reply, Server, call, in_time, mcp, next_bytes};
use crate::{Guarded, ISSUER, Issuer, all_allowed, get, hashed, proving, required, with_token};

const KEY: &str = "mcpk_ci.secret";
const EVENT: &str =
    "event: message\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{\"level\":\"info\",\"data\":1}}\n\n";

/// A server whose streams the test writes: each that is opened is one more sender.
pub struct Streaming {
    pub server: Server,
    opened: mpsc::UnboundedReceiver<mpsc::Sender<Bytes>>,
}

impl Streaming {
    pub async fn start() -> Self {
        let (opening, opened) = mpsc::unbounded_channel();
        let server = Server::start(move |got| {
            let is_message = got.target.starts_with("/messages");
            if is_message {
                return Reply::Whole(Response::builder().status(StatusCode::ACCEPTED).body(Bytes::new()).unwrap());
            }
            let (sender, reply) = Reply::stream();
            opening.send(sender).unwrap();
            reply
        })
        .await;
        Self { server, opened }
    }
}

/// A stream that a client has opened, and on which one event has come.
pub struct Open {
    says: mpsc::Sender<Bytes>,
    stream: Response<Incoming>,
    _client: Client,
}

impl Open {
    pub async fn with(guarded: &Guarded, streaming: &mut Streaming, request: Request<Full<Bytes>>) -> Self {
        let mut client = Client::connect(guarded.sidecar.proxy).await;
        let stream = client.open(request).await;
        assert_eq!(stream.status(), StatusCode::OK);
        let says = streaming.opened.recv().await.unwrap();
        let mut open = Self { says, stream, _client: client };
        open.passes().await;
        open
    }

    /// What the server says comes through.
    pub async fn passes(&mut self) {
        self.says.send(EVENT.into()).await.unwrap();
        assert_eq!(self.next().await.as_deref(), Some(EVENT));
    }

    async fn next(&mut self) -> Option<String> {
        let bytes = in_time("the next event, or the end", next_bytes(&mut self.stream)).await;
        bytes.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
    }

    /// The stream ends well: no error, and nothing but whole events came.
    pub async fn ends(&mut self) {
        while let Some(event) = self.next().await {
            assert!(event.ends_with("\n\n"), "{event}");
        }
        in_time("the server learns of it", self.says.closed()).await;
    }
}

fn keys(keys: &[Value]) -> Snapshot {
    proving(all_allowed(), required(&json!({ "keys": keys })))
}

/// A subscription of the modern era.
pub fn listen() -> Request<Full<Bytes>> {
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}});
    let params = json!({"_meta": meta, "notifications": {"toolsListChanged": true}});
    let mut request = mcp(json!({"jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": params}).to_string());
    request.headers_mut().insert("mcp-protocol-version", HeaderValue::from_static("2026-07-28"));
    request.headers_mut().insert("mcp-method", HeaderValue::from_static("subscriptions/listen"));
    request
}

#[tokio::test]
async fn a_stream_ends_when_its_key_is_revoked_and_no_other_does() {
    let mut streaming = Streaming::start().await;
    let (ci, cd) = (hashed("ci", KEY), hashed("cd", "mcpk_cd.secret"));
    let mut guarded = Guarded::start(&streaming.server, &keys(&[ci.clone(), cd.clone()])).await;
    let mut revoked = Open::with(&guarded, &mut streaming, with_token(get("/mcp"), Some(KEY))).await;
    let mut other = Open::with(&guarded, &mut streaming, with_token(get("/mcp"), Some("mcpk_cd.secret"))).await;
    // Half an event is under way.
    revoked.says.send(Bytes::from_static(b"event: message\ndata: {\"json")).await.unwrap();

    guarded.enforce(&keys(&[cd, hashed("ci", "mcpk_ci.next")])).await;
    revoked.ends().await;
    other.passes().await;
    let again = guarded.sidecar.send(with_token(get("/mcp"), Some(KEY))).await;
    assert_eq!(again.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_stream_ends_when_its_token_does() {
    let (mut streaming, issuer) = (Streaming::start().await, Issuer::new(ISSUER));
    let guarded = Guarded::start(&streaming.server, &proving(all_allowed(), required(&json!({"jwt": [issuer.told()]})))).await;
    // Of the leeway, a second is left.
    let token = issuer.token_until("alice", now() - 29);
    let mut open = Open::with(&guarded, &mut streaming, with_token(get("/mcp"), Some(&token))).await;
    let mut subscribed = Open::with(&guarded, &mut streaming, with_token(listen(), Some(&token))).await;
    open.ends().await;
    subscribed.ends().await;
}

#[tokio::test]
async fn a_stream_ends_when_the_keys_of_its_issuer_are_replaced_and_outlives_a_rotation() {
    let (mut streaming, old, new) = (Streaming::start().await, Issuer::new(ISSUER), Issuer::new(ISSUER));
    let trusting = |issuers: &[&Issuer]| {
        let mut told = issuers[0].told();
        let keys: Vec<_> = issuers.iter().map(|issuer| issuer.told()["jwks"]["keys"][0].clone()).collect();
        told["jwks"]["keys"] = json!(keys);
        proving(all_allowed(), required(&json!({ "jwt": [told] })))
    };
    let mut guarded = Guarded::start(&streaming.server, &trusting(&[&old])).await;
    let mut open = Open::with(&guarded, &mut streaming, with_token(get("/mcp"), Some(&old.token("alice")))).await;
    guarded.enforce(&trusting(&[&new, &old])).await;
    open.says.send(EVENT.into()).await.unwrap();
    assert_eq!(open.next().await.as_deref(), Some(EVENT));
    guarded.enforce(&trusting(&[&new])).await;
    open.ends().await;
}

/// An answer to a call that was made in time is the caller's, unless its key was taken from it.
#[tokio::test]
async fn a_streamed_answer_outlives_its_token_and_not_the_revocation_of_its_key() {
    let (mut streaming, issuer) = (Streaming::start().await, Issuer::new(ISSUER));
    let snapshot = |keys: &[Value]| proving(all_allowed(), required(&json!({"jwt": [issuer.told()], "keys": keys})));
    let mut guarded = Guarded::start(&streaming.server, &snapshot(&[hashed("ci", KEY)])).await;
    let calling = |token: &str| with_token(mcp(call(1, "read").to_string()), Some(token));
    let ends_soon = issuer.token_until("alice", now() - 29);
    let mut expiring = Open::with(&guarded, &mut streaming, calling(&ends_soon)).await;
    let mut revoked = Open::with(&guarded, &mut streaming, calling(KEY)).await;
    let mut probe = Open::with(&guarded, &mut streaming, with_token(get("/mcp"), Some(&ends_soon))).await;
    probe.ends().await;

    guarded.enforce(&snapshot(&[])).await;
    let told = revoked.next().await.unwrap();
    assert!(told.contains("isError") && told.contains("may have run"), "{told}");
    revoked.ends().await;
    let answer = "data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"content\":[]}}\n\n";
    expiring.says.send(answer.into()).await.unwrap();
    assert_eq!(expiring.next().await.as_deref(), Some(answer));
    let faults = r#"mcp_policy_upstream_faults_total{reason="proof_ended"} 1"#;
    assert!(guarded.sidecar.metrics().await.contains(faults), "{}", guarded.sidecar.metrics().await);
}

#[tokio::test]
async fn a_stream_of_somebody_unknown_ends_when_policies_begin_to_ask() {
    let (mut streaming, issuer) = (Streaming::start().await, Issuer::new(ISSUER));
    let mut guarded = Guarded::start(&streaming.server, &Snapshot::new(all_allowed())).await;
    let mut open = Open::with(&guarded, &mut streaming, get("/mcp")).await;
    guarded.enforce(&proving(all_allowed(), required(&json!({"jwt": [issuer.told()]})))).await;
    open.ends().await;
}

/// HTTP+SSE of 2024-11-05: whoever learns the URI of somebody's stream can post nothing there.
#[tokio::test]
async fn a_two_endpoint_session_is_its_openers_alone_and_ends_with_the_proof() {
    let mut streaming = Streaming::start().await;
    let snapshot = |keys: &[Value]| {
        let mut policies = all_allowed();
        policies[0].server.sse_path = Some("/sse".to_owned());
        proving(policies, required(&json!({ "keys": keys })))
    };
    let (alice, mallory) = (hashed("alice", "mcpk_alice.a"), hashed("mallory", "mcpk_mallory.b"));
    let mut guarded = Guarded::start(&streaming.server, &snapshot(&[alice, mallory.clone()])).await;
    assert_eq!(guarded.sidecar.send(get("/sse")).await.status, StatusCode::UNAUTHORIZED);
    let mut client = Client::connect(guarded.sidecar.proxy).await;
    let stream = client.open(with_token(get("/sse"), Some("mcpk_alice.a"))).await;
    let says = streaming.opened.recv().await.unwrap();
    let mut open = Open { says, stream, _client: client };
    let endpoint = "event: endpoint\ndata: /messages?s=1\n\n";
    open.says.send(endpoint.into()).await.unwrap();
    assert_eq!(open.next().await.as_deref(), Some(endpoint));

    let post = |token: Option<&str>| {
        let mut request = with_token(mcp(call(1, "read").to_string()), token);
        *request.uri_mut() = "/messages?s=1".parse().unwrap();
        guarded.sidecar.send(request)
    };
    assert_eq!(post(Some("mcpk_mallory.b")).await.status, StatusCode::NOT_FOUND);
    assert_eq!(post(None).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(streaming.server.requests(), 1, "only the stream");
    assert_eq!(post(Some("mcpk_alice.a")).await.status, StatusCode::ACCEPTED);
    let got = streaming.server.got().pop().unwrap();
    assert_eq!((got.method, got.headers.get("authorization")), (Method::POST, None));

    guarded.enforce(&snapshot(&[mallory])).await;
    let told = open.next().await.unwrap();
    assert!(told.contains("isError"), "{told}");
    open.ends().await;
}
