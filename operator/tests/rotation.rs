//! Six rotations of the CA under load, with the shortest lives that can be set: real TLS over loopback, and a clock of the test's
//! own that schedule and clients share. Clients learn of a bundle as late as the slowest kubelet may bring it.

#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers outside of test functions")]

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::{get, post};
use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use mcp_policy_operator::certs::Certificates;
use mcp_policy_operator::certs::lifetimes::{Lifetimes, Seconds};
use mcp_policy_operator::tls::{Served, roots, server_config};
use mcp_policy_operator::{names, server};

const ROTATIONS: usize = 6;
/// The operator looks at its schedule this often.
const TICK: i64 = 30;
/// Calls of the webhook, each API server over a connection that it keeps.
const API_SERVERS: usize = 4;
/// Reports of sidecars, each over a connection of its own.
const REPORTERS: usize = 4;
const STREAMS: usize = 50;

/// Seconds since the epoch, as the test has it.
#[derive(Debug)]
struct Clock(AtomicI64);

impl Clock {
    fn now(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        u64::try_from(self.now()).ok().map(|seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

/// A server that rotates its certificates, and what its clients know of them.
struct Scene {
    clock: Arc<Clock>,
    address: SocketAddr,
    /// Bundles, and when each was published.
    published: Mutex<Vec<(i64, String)>>,
    /// Requests that were answered, by client.
    answered: watch::Sender<Vec<u64>>,
}

impl Scene {
    /// What is known to who learns of everything that much later.
    fn known(&self, lag: i64) -> String {
        let published = self.published.lock().unwrap();
        let known = published.iter().rev().find(|(since, _)| since + lag <= self.clock.now());
        known.unwrap_or(&published[0]).1.clone()
    }

    async fn connect(&self, bundle: &str) -> Result<SendRequest<Empty<Bytes>>, String> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_details(provider, Arc::<Clock>::clone(&self.clock)).with_safe_default_protocol_versions();
        let config = config.unwrap().with_root_certificates(roots(bundle).unwrap()).with_no_client_auth();
        let stream = TcpStream::connect(self.address).await.unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(host()).unwrap(), stream).await;
        let (sender, connection) = http1::handshake(TokioIo::new(stream.map_err(|error| error.to_string())?)).await.unwrap();
        tokio::spawn(connection);
        Ok(sender)
    }

    /// Waits until each client has an answer to something that it asks from now on.
    async fn everybody_asks(&self) {
        let mut answered = self.answered.subscribe();
        let before = answered.borrow_and_update().clone();
        // The first answer may be to what was asked before.
        let enough = |now: &Vec<u64>| now.iter().zip(&before).all(|(now, before)| now - before >= 2);
        answered.wait_for(enough).await.unwrap();
    }
}

fn host() -> String {
    names::service_host("mcp-policy-system")
}

async fn ask(
    connection: &mut SendRequest<Empty<Bytes>>,
    method: Method,
    path: &str,
) -> hyper::Result<http::Response<hyper::body::Incoming>> {
    connection.send_request(Request::builder().method(method).uri(path).header("host", host()).body(Empty::new()).unwrap()).await
}

/// Asks for ever. Its connection is used `uses` times, then it takes a new one, believing what it knows by then.
async fn client(scene: Arc<Scene>, index: usize, uses: usize, lag: i64) {
    loop {
        let mut connection = scene.connect(&scene.known(lag)).await.unwrap_or_else(|error| panic!("client {index}: {error}"));
        for _ in 0..uses {
            let response = ask(&mut connection, Method::POST, "/").await.unwrap();
            assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "here");
            scene.answered.send_modify(|answered| answered[index] += 1);
            connection.ready().await.unwrap();
        }
    }
}

fn routes(ticks: &watch::Receiver<u64>) -> Router {
    let ticks = ticks.clone();
    let watch = move || {
        let ticks = ticks.clone();
        async move {
            let lines = futures::stream::unfold(ticks, |mut ticks| async move {
                ticks.changed().await.ok()?;
                Some((Ok::<_, Infallible>(Bytes::from_static(b".")), ticks))
            });
            Body::from_stream(lines.boxed())
        }
    };
    Router::new().route("/", post(|| async { "here" })).route("/watch", get(watch))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn six_rotations_under_load_break_no_handshake_and_no_stream() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let lifetimes = Lifetimes::new(Seconds(5 * 60), Seconds(12 * 60)).unwrap();
    let clock = Arc::new(Clock(AtomicI64::new(1_800_000_000)));
    let mut certificates = Certificates::issue(&host(), lifetimes, clock.now()).unwrap();
    let first = certificates.bundle();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let scene = Arc::new(Scene {
        address: listener.local_addr().unwrap(),
        published: Mutex::new(vec![(clock.now(), first.clone())]),
        clock: Arc::clone(&clock),
        answered: watch::Sender::new(vec![0; API_SERVERS + REPORTERS]),
    });
    let (served, stop) = (Arc::<Served>::default(), CancellationToken::new());
    served.set(certificates.leaf()).unwrap();
    let (tick, ticks) = watch::channel(0_u64);
    let serving = tokio::spawn(server::serve(listener, server_config(Arc::clone(&served)), routes(&ticks), stop.clone()));
    drop(ticks);

    let mut clients = JoinSet::new();
    for index in 0..API_SERVERS + REPORTERS {
        // A client may read what it knows just before a tick, and use it just after.
        let lag = lifetimes.overlap() - TICK;
        clients.spawn(client(Arc::clone(&scene), index, if index < API_SERVERS { 20 } else { 1 }, lag));
    }
    let mut streams = JoinSet::new();
    for _ in 0..STREAMS {
        let mut connection = scene.connect(&first).await.unwrap();
        let stream = ask(&mut connection, Method::GET, "/watch").await.unwrap();
        // To its end, over this one connection, whatever happens meanwhile.
        streams.spawn(async move { stream.into_body().collect().await.unwrap().to_bytes() });
    }

    let (mut rotations, mut renewals, mut steps) = (0, 0, 0);
    while rotations < ROTATIONS {
        steps += 1;
        clock.0.fetch_add(TICK, Ordering::SeqCst);
        if let Some(renewed) = certificates.renewed(&host(), lifetimes, clock.now()).unwrap() {
            // The first of a bundle is the CA that signs.
            rotations +=
                usize::from(!renewed.bundle().starts_with(certificates.bundle().split_inclusive("END CERTIFICATE").next().unwrap()));
            renewals += usize::from(renewed.leaf() != certificates.leaf());
            certificates = renewed;
            scene.published.lock().unwrap().push((clock.now(), certificates.bundle()));
            served.set(certificates.leaf()).unwrap();
        }
        tick.send_modify(|tick| *tick += 1);
        tokio::select! {
            () = scene.everybody_asks() => {}
            failed = clients.join_next() => panic!("step {steps}, rotation {rotations}: {failed:?}"),
        }
    }
    assert!(renewals > 2 * ROTATIONS, "{renewals}");

    // These clients do look: who missed all that, or whose clock is beyond the leaf's end, believes nothing.
    let refused = |why: Result<_, String>| why.err().unwrap();
    assert!(refused(scene.connect(&first).await).contains("UnknownIssuer"));
    clients.shutdown().await;
    clock.0.fetch_add(lifetimes.leaf() + 1, Ordering::SeqCst);
    assert!(refused(scene.connect(&certificates.bundle()).await).contains("expired"));

    drop(tick);
    let brought = timeout(Duration::from_secs(30), streams.join_all()).await.unwrap();
    // A stream carries what is newest, so two ticks may come as one; one that broke would have ended with an error.
    assert!(brought.iter().all(|brought| !brought.is_empty() && brought.len() <= steps), "{brought:?}");
    stop.cancel();
    serving.await.unwrap();
}
