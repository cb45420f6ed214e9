use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::super::https::Tls;
use super::{Sidecar, raw};

/// `timeoutSeconds`, shortened.
const PATIENCE: Duration = Duration::from_millis(500);

/// What a server does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    /// Answers with this status, if it was asked by the name that was dialled.
    Answers(u16),
    Waits,
    HangsUp,
    /// Speaks no TLS.
    Plain,
}

struct Server {
    address: SocketAddr,
    /// Heads of requests.
    calls: Arc<AtomicUsize>,
}

impl Server {
    async fn start(does: Does) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self { address: listener.local_addr().unwrap(), calls: Arc::default() };
        let (tls, calls) = (Tls::new().unwrap(), Arc::clone(&server.calls));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (tls, calls) = (tls.clone(), Arc::clone(&calls));
                tokio::spawn(async move {
                    if does == Does::Plain {
                        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
                        return;
                    }
                    let Ok(mut stream) = tls.acceptor.accept(stream).await else { return };
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        match stream.read_u8().await {
                            Ok(byte) => head.push(byte),
                            Err(_) => return,
                        }
                    }
                    calls.fetch_add(1, Ordering::SeqCst);
                    let knows = String::from_utf8(head).unwrap().to_lowercase().contains("\r\nhost: 10.0.0.7:8443\r\n");
                    match does {
                        Does::Answers(status) => {
                            let status = if knows { status } else { 421 };
                            let answer = format!("HTTP/1.1 {status} So\r\nlocation: /other\r\ncontent-length: 6\r\n\r\nsecret");
                            let _ = stream.write_all(answer.as_bytes()).await;
                        }
                        Does::Waits => drop(stream.read_u8().await),
                        Does::HangsUp | Does::Plain => {}
                    }
                });
            }
        });
        server
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

fn probes() -> Value {
    json!([{"httpGet": {"scheme": "HTTPS", "path": "/readyz?full=1", "headers": [["X-Token", "a"]]}}])
}

/// The kubelet's request.
const GET: &str = "GET /readyz?full=1 HTTP/1.1\r\nHost: 10.0.0.7:8443\r\nUser-Agent: kube-probe/1.34\r\nAccept: */*\r\nX-Token: a\r\n";

/// Sends a request as the kubelet sends it: what comes back, or nothing in time.
async fn ask(address: SocketAddr, request: &str) -> String {
    let mut config = Tls::new().unwrap().connector.config().as_ref().clone();
    // It would rather speak HTTP/2.
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let asking = async {
        let stream = TcpStream::connect(address).await.ok()?;
        let mut stream = TlsConnector::from(Arc::new(config)).connect(ServerName::from(address.ip()), stream).await.ok()?;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        stream.write_all(format!("{request}Connection: close\r\n\r\n").as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        // One side or the other may end without a word.
        let _ = stream.read_to_end(&mut answer).await;
        Some(String::from_utf8(answer).unwrap())
    };
    timeout(PATIENCE, asking).await.ok().flatten().unwrap_or_default()
}

/// What the kubelet makes of it; redirects apart, which it would follow.
fn is_healthy(answer: &str) -> bool {
    answer.get(..10).is_some_and(|start| ("HTTP/1.1 2".."HTTP/1.1 4").contains(&start))
}

#[tokio::test]
async fn the_kubelet_hears_the_same_with_and_without_the_sidecar() {
    for (does, healthy) in [
        (Does::Answers(200), true),
        (Does::Answers(204), true),
        (Does::Answers(307), true),
        (Does::Answers(404), false),
        (Does::Answers(500), false),
        (Does::Waits, false),
        (Does::HangsUp, false),
        (Does::Plain, false),
    ] {
        let server = Server::start(does).await;
        let sidecar = Sidecar::start(server.address, probes()).await;
        assert_eq!(is_healthy(&ask(server.address, GET).await), healthy, "{does:?}");
        let calls = server.calls();
        let through = ask(sidecar.address, GET).await;
        assert_eq!(is_healthy(&through), healthy, "{does:?}: {through}");
        assert_eq!(server.calls(), calls + usize::from(does != Does::Plain), "{does:?}");
        assert!(!through.contains("secret") && !through.contains("/other"), "{through}");
        assert_eq!(sidecar.refused(), 0);
    }
}

#[tokio::test]
async fn a_server_that_is_down_is_not_healthy() {
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let sidecar = Sidecar::start(address, probes()).await;
    for address in [address, sidecar.address] {
        assert!(!is_healthy(&ask(address, GET).await));
    }
}

#[tokio::test]
async fn whatever_is_not_exactly_the_probe_does_not_reach_the_server() {
    let server = Server::start(Does::Answers(200)).await;
    let sidecar = Sidecar::start(server.address, probes()).await;
    let near_misses = [
        ("another path", GET.replace("full=1", "full=2")),
        ("no query", GET.replace("?full=1", "")),
        ("another method", GET.replace("GET", "POST")),
        ("a method without an answer's body", GET.replace("GET", "HEAD")),
        ("a body", format!("{GET}Content-Length: 2\r\n")),
        ("a body of chunks", format!("{GET}Transfer-Encoding: chunked\r\n")),
        ("another header", GET.replace("Token: a", "Token: b")),
        ("the header twice", format!("{GET}X-Token: a\r\n")),
        ("no header", GET.replace("X-Token: a\r\n", "")),
        ("a message to MCP", "POST /mcp HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 0\r\n".to_owned()),
    ];
    for (n, (what, request)) in near_misses.into_iter().enumerate() {
        let answer = ask(sidecar.address, &request).await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{what}: {answer}");
        assert_eq!((server.calls(), sidecar.refused()), (0, n + 1), "{what}");
    }
    assert!(ask(sidecar.address, "nonsense\r\n").await.starts_with("HTTP/1.1 400 "));
    // A probe over TLS is none in the clear, nor the other way round.
    let answer = raw(sidecar.address, format!("{GET}Connection: close\r\n\r\n").as_bytes(), false).await;
    assert!(answer.starts_with(b"HTTP/1.1 404 "), "{}", String::from_utf8_lossy(&answer));
    raw(sidecar.address, b"\x16\x03\x01 no handshake", true).await;
    assert_eq!(server.calls(), 0);
    assert!(is_healthy(&ask(sidecar.address, GET).await), "the probe itself");
    assert_eq!(server.calls(), 1);
}

#[tokio::test]
async fn tls_is_refused_where_no_https_probe_is() {
    let server = Server::start(Does::Answers(200)).await;
    for probes in [json!([{"httpGet": {"path": "/readyz?full=1"}}]), json!([{"grpc": {"service": ""}}])] {
        let sidecar = Sidecar::start(server.address, probes).await;
        assert_eq!(ask(sidecar.address, GET).await, "");
        assert_eq!(server.calls(), 0);
    }
}
