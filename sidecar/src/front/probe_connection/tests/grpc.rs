use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::{client, server};
use http::{HeaderMap, Request, Response};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::{Sidecar, raw};

const CHECK: &str = "/grpc.health.v1.Health/Check";
/// `timeoutSeconds`, shortened.
const PATIENCE: Duration = Duration::from_millis(300);

/// What a server does with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    /// Says this of its health.
    Says(&'static [u8]),
    /// Ends the call with this code and no message.
    Ends(u16),
    /// Nothing.
    Waits,
    /// Speaks no gRPC.
    Http(u16),
    /// Ends the connection before it answers.
    HangsUp,
}

const SERVING: Does = Does::Says(b"\x08\x01");

struct Server {
    address: SocketAddr,
    calls: Arc<AtomicUsize>,
}

impl Server {
    async fn start(does: Does) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self { address: listener.local_addr().unwrap(), calls: Arc::default() };
        let calls = Arc::clone(&server.calls);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(Self::connection(stream, does, Arc::clone(&calls)));
            }
        });
        server
    }

    async fn connection(stream: TcpStream, does: Does, calls: Arc<AtomicUsize>) {
        let Ok(mut connection) = server::handshake(stream).await else { return };
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            calls.fetch_add(1, Ordering::SeqCst);
            let answer = Response::builder().header("content-type", "application/grpc");
            match does {
                // It knows itself by the name that was dialled.
                Does::Says(_) if request.uri().authority().unwrap() != "10.0.0.7:9000" => {
                    respond.send_response(answer.header("grpc-status", "7").body(()).unwrap(), true).unwrap();
                }
                Does::Says(health) => {
                    let mut sending = respond.send_response(answer.body(()).unwrap(), false).unwrap();
                    sending.send_data(framed(health), false).unwrap();
                    sending.send_trailers(HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())])).unwrap();
                }
                Does::Ends(code) => drop(respond.send_response(answer.header("grpc-status", code).body(()).unwrap(), true).unwrap()),
                Does::Waits => {
                    // Until the caller is gone.
                    tokio::spawn(async move { std::future::poll_fn(|cx| respond.poll_reset(cx)).await });
                }
                Does::Http(status) => drop(respond.send_response(Response::builder().status(status).body(()).unwrap(), true).unwrap()),
                Does::HangsUp => return,
            }
        }
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

fn framed(message: &[u8]) -> Bytes {
    let mut framed = vec![0];
    framed.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    framed.extend(message);
    framed.into()
}

/// The kubelet's request.
fn check() -> http::request::Builder {
    let request = Request::post(format!("http://10.0.0.7:9000{CHECK}"));
    let request = request.header("content-type", "application/grpc").header("user-agent", "kube-probe/1.34 grpc-go/1.72.1");
    request.header("te", "trailers").header("grpc-timeout", "299m")
}

/// What a caller hears: the status of HTTP, the code of gRPC, and the message.
type Heard = (u16, Option<String>, Bytes);

async fn call(address: SocketAddr, request: Request<()>, message: Bytes) -> Result<Heard, Box<dyn Error>> {
    let stream = TcpStream::connect(address).await?;
    let (sender, connection) = client::handshake(stream).await?;
    let connection = tokio::spawn(connection);
    let (response, mut sending) = sender.ready().await?.send_request(request, false)?;
    sending.send_data(message, true)?;
    let (head, mut body) = response.await?.into_parts();
    let mut whole = Vec::new();
    while let Some(data) = body.data().await {
        whole.extend(data?);
    }
    let trailers = body.trailers().await?.unwrap_or_default();
    let code = trailers.get("grpc-status").or(head.headers.get("grpc-status")).map(|code| code.to_str().unwrap().to_owned());
    connection.abort();
    Ok((head.status.as_u16(), code, whole.into()))
}

/// What the kubelet makes of a probe of this service (`pkg/probe/grpc`), and what its log says.
async fn verdict(address: SocketAddr, service: &[u8]) -> (bool, String) {
    let heard = timeout(PATIENCE, call(address, check().body(()).unwrap(), framed(service))).await;
    match heard {
        Err(_) => (false, "did not complete in time".to_owned()),
        Ok(Ok((200, Some(code), message))) if code == "0" && !message.is_empty() => {
            (message == framed(b"\x08\x01"), format!("{message:?}"))
        }
        Ok(Ok((_, Some(code), _))) if code == "12" => (false, "not implemented".to_owned()),
        Ok(_) => (false, "failed".to_owned()),
    }
}

#[tokio::test]
async fn the_kubelet_hears_the_same_with_and_without_the_sidecar() {
    for (does, healthy) in [
        (SERVING, true),
        (Does::Says(b"\x08\x02"), false),
        (Does::Says(b""), false),
        (Does::Says(b"\x08\x03"), false),
        (Does::Says(b"\x08"), false),
        (Does::Ends(0), false),
        (Does::Ends(5), false),
        (Does::Ends(12), false),
        (Does::Waits, false),
        (Does::Http(200), false),
        (Does::Http(404), false),
        (Does::Http(500), false),
        (Does::HangsUp, false),
    ] {
        let server = Server::start(does).await;
        let sidecar = Sidecar::start(server.address, json!([{"grpc": {"service": ""}}, {"grpc": {"service": "readiness"}}])).await;
        for service in [&b""[..], b"\x0a\x09readiness"] {
            let direct = verdict(server.address, service).await;
            assert_eq!(direct.0, healthy, "{does:?}");
            let calls = server.calls();
            let through = verdict(sidecar.address, service).await;
            // A message that cannot be read is not passed on to be read.
            assert!(through == direct || does == Does::Says(b"\x08"), "{does:?}: {through:?}, directly {direct:?}");
            assert_eq!((through.0, server.calls()), (healthy, calls + 1), "{does:?}");
        }
        assert_eq!(sidecar.refused(), 0);
    }
}

#[tokio::test]
async fn a_server_that_is_down_or_speaks_no_http2_is_not_healthy() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let sidecar = Sidecar::start(address, json!([{"grpc": {"service": ""}}])).await;
    tokio::spawn(async move {
        for _ in 0..2 {
            use tokio::io::AsyncWriteExt;
            let mut stream = listener.accept().await.unwrap().0;
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        }
    });
    for state in ["another protocol", "another protocol", "down"] {
        assert!(!verdict(if state == "down" { address } else { sidecar.address }, b"").await.0, "{state}");
        assert!(!verdict(sidecar.address, b"").await.0, "{state}");
    }
}

#[tokio::test]
async fn whatever_is_not_exactly_the_probe_does_not_reach_the_server() {
    let server = Server::start(SERVING).await;
    let sidecar = Sidecar::start(server.address, json!([{"grpc": {"service": "a"}}])).await;
    let at = |path: &str| check().uri(format!("http://10.0.0.7:9000{path}"));
    let whole = framed(b"\x0a\x01a");
    let compressed = {
        let mut bytes = whole.to_vec();
        bytes[0] = 1;
        Bytes::from(bytes)
    };
    let twice = Bytes::from([&whole[..], &whole].concat());
    let near_misses = [
        ("another method of the service", at("/grpc.health.v1.Health/Watch"), whole.clone()),
        ("another service of the server", at("/mcp.v1.Tools/Call"), whole.clone()),
        ("a query", at(&format!("{CHECK}?x=1")), whole.clone()),
        ("another spelling", at("/grpc.health.v1.Health//Check"), whole.clone()),
        ("another method of HTTP", check().method("PUT"), whole.clone()),
        ("two types", check().header("content-type", "application/json"), whole.clone()),
        ("no type", Request::post(format!("http://10.0.0.7:9000{CHECK}")), whole.clone()),
        ("the health of another service", check(), framed(b"\x0a\x01b")),
        ("the health of the whole", check(), framed(b"")),
        ("more than the service", check(), framed(b"\x0a\x01a\x10\x01")),
        ("another form of the same", check(), framed(b"\x0a\x81\x00a")),
        ("a compressed message", check(), compressed),
        ("two messages", check(), twice),
        ("half a message", check(), whole.slice(..6)),
        ("no message", check(), Bytes::new()),
        ("a long message", check(), framed(&vec![b'a'; 30_000])),
    ];
    for (n, (what, request, message)) in near_misses.into_iter().enumerate() {
        let heard = call(sidecar.address, request.body(()).unwrap(), message).await;
        assert!(matches!(heard, Ok((403, None, _)) | Err(_)), "{what}: {heard:?}");
        assert_eq!((server.calls(), sidecar.refused()), (0, n + 1), "{what}");
    }
    assert!(verdict(sidecar.address, &whole[5..]).await.0, "the probe itself");
    assert_eq!(server.calls(), 1);
}

#[tokio::test]
async fn a_connection_carries_one_probe_and_no_other_call() {
    let server = Server::start(SERVING).await;
    let sidecar = Sidecar::start(server.address, json!([{"grpc": {"service": ""}}])).await;
    let stream = TcpStream::connect(sidecar.address).await.unwrap();
    let (sender, connection) = client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut sender = sender.ready().await.unwrap();
    let mut first = sender.send_request(check().body(()).unwrap(), false).unwrap();
    let mut second = sender.send_request(check().body(()).unwrap(), false).unwrap();
    for stream in [&mut second.1, &mut first.1] {
        stream.send_data(framed(b""), true).unwrap();
    }
    assert_eq!(first.0.await.unwrap().status(), 200);
    assert!(second.0.await.is_err(), "a second call was answered");
    connection.await.unwrap().unwrap();
    assert_eq!(server.calls(), 1);
}

#[tokio::test]
async fn the_servers_part_ends_when_the_kubelet_gives_up() {
    let server = Server::start(Does::Waits).await;
    let sidecar = Sidecar::start(server.address, json!([{"grpc": {"service": ""}}])).await;
    // As many as there are places for, and one more: each is free again.
    for _ in 0..=super::super::CONNECTIONS {
        let answered = timeout(Duration::from_millis(20), call(sidecar.address, check().body(()).unwrap(), framed(b""))).await;
        assert!(answered.is_err());
    }
    let calls = server.calls();
    assert!(!verdict(sidecar.address, b"").await.0);
    assert_eq!(server.calls(), calls + 1);
}

#[tokio::test]
async fn http1_goes_its_ordinary_way_on_a_port_that_is_probed_by_grpc() {
    let server = Server::start(SERVING).await;
    let probes = json!([{"grpc": {"service": ""}}, {"httpGet": {"path": "/healthz"}}]);
    let sidecar = Sidecar::start(server.address, probes).await;
    // The server speaks no HTTP/1: that it was asked is all that can be seen.
    let answer = raw(sidecar.address, b"GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", false).await;
    assert!(answer.starts_with(b"HTTP/1.1 502 "), "{}", String::from_utf8_lossy(&answer));
    let answer = raw(sidecar.address, b"POST /mcp HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}", false).await;
    assert!(answer.starts_with(b"HTTP/1.1 415 "), "{}", String::from_utf8_lossy(&answer));
    for bytes in [&b"PRI * HTTP/1.1\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nGET /healthz HTTP/1.1\r\n\r\n", b"PR", b""] {
        raw(sidecar.address, bytes, true).await;
    }
    assert_eq!(server.calls(), 0);
}

#[tokio::test]
async fn http2_is_refused_where_no_grpc_probe_is() {
    let server = Server::start(SERVING).await;
    let sidecar = Sidecar::start(server.address, json!([{"httpGet": {"path": CHECK}}])).await;
    assert!(call(sidecar.address, check().body(()).unwrap(), framed(b"")).await.is_err());
    assert_eq!(server.calls(), 0);
}
