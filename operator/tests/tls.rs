//! TLS between replicas, over loopback: who is believed, and that certificates change while the server runs.

#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers outside of test functions")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use http::StatusCode;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use mcp_policy_operator::certs::Certificates;
use mcp_policy_operator::certs::lifetimes::Lifetimes;
use mcp_policy_operator::dial::{self, DialError};
use mcp_policy_operator::tls::{Served, roots, server_config};
use mcp_policy_operator::{names, server};

struct Running {
    address: SocketAddr,
    served: Arc<Served>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

async fn start() -> Running {
    // Another test of this process may have been faster.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (served, stop) = (Arc::<Served>::default(), CancellationToken::new());
    let router = Router::new().route("/", get(|| async { "here" }));
    let task = tokio::spawn(server::serve(listener, server_config(Arc::clone(&served)), router, stop.clone()));
    Running { address, served, stop, task }
}

fn host() -> String {
    names::service_host("mcp-policy-system")
}

/// Now, so that the certificates are valid by the clock of this machine.
fn now() -> i64 {
    k8s_openapi::jiff::Timestamp::now().as_second()
}

async fn ask(running: &Running, host: &str, bundle: &str) -> Result<StatusCode, DialError> {
    dial::get(running.address, host, "/", bundle, None).await.map(|response| response.status())
}

#[tokio::test]
async fn only_a_server_with_our_certificate_and_name_is_believed() {
    let running = start().await;
    let ours = Certificates::issue(&host(), Lifetimes::default(), now()).unwrap();
    assert!(ask(&running, &host(), &ours.bundle()).await.is_err(), "there is no certificate yet");
    running.served.set(ours.leaf()).unwrap();
    assert_eq!(ask(&running, &host(), &ours.bundle()).await.unwrap(), StatusCode::OK);
    assert!(matches!(ask(&running, "mcp-policy-operator.other.svc", &ours.bundle()).await, Err(DialError::Connect(_))));
    let theirs = Certificates::issue(&host(), Lifetimes::default(), now()).unwrap();
    assert!(matches!(ask(&running, &host(), &theirs.bundle()).await, Err(DialError::Connect(_))));
    assert!(matches!(ask(&running, &host(), "-----BEGIN CERTIFICATE-----\nAA").await, Err(DialError::Bundle(_))));
}

/// Sends bytes in TLS as they are, and reads until the server ends the connection.
async fn exchange(running: &Running, bundle: &str, bytes: &[u8]) -> String {
    let config = ClientConfig::builder().with_root_certificates(roots(bundle).unwrap()).with_no_client_auth();
    let stream = TcpStream::connect(running.address).await.unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(host()).unwrap(), stream).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    // Who sent too much may find the connection reset behind the answer.
    let _ = timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await.expect("the server ends it");
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn whatever_is_sent_is_answered_and_the_connection_ends() {
    let running = start().await;
    let ours = Certificates::issue(&host(), Lifetimes::default(), now()).unwrap();
    running.served.set(ours.leaf()).unwrap();
    let close = "host: operator\r\nconnection: close\r\n";
    let long = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(32 * 1024));
    for (sent, statuses) in [
        ("GET / HTTP/1.1\r\nhost: operator\r\n\r\n", vec!["200"]),
        ("GET /elsewhere HTTP/1.1\r\nhost: operator\r\n\r\n", vec!["404"]),
        (&format!("POST / HTTP/1.1\r\n{close}content-length: 0\r\n\r\n"), vec!["405"]),
        (&format!("GET / HTTP/1.1\r\nhost: operator\r\n\r\nGET / HTTP/1.1\r\n{close}\r\n"), vec!["200", "200"]),
        (&format!("GET / HTTP/1.1\r\n{close}content-length: 2\r\n\r\n{{}}"), vec!["200"]),
        (&format!("GET / HTTP/1.0\r\n{close}\r\n"), vec!["200"]),
        ("GET / HTTP/1.1\r\nno colon\r\n\r\n", vec!["400"]),
        ("what is this?\r\n\r\n", vec!["400"]),
        (&long, vec!["431"]),
    ] {
        let answer = exchange(&running, &ours.bundle(), sent.as_bytes()).await;
        // A line of the head may stand right behind the body of the answer before.
        let found: Vec<_> = answer.split("HTTP/1.").skip(1).filter_map(|rest| rest.split(' ').nth(1)).collect();
        assert_eq!(found, statuses, "{sent:.60}: {answer}");
    }
    let mut plain = TcpStream::connect(running.address).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nhost: operator\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = timeout(Duration::from_secs(10), plain.read_to_end(&mut answer)).await.expect("the server ends it");
    assert!(!answer.starts_with(b"HTTP"), "without TLS there is an alert at most");
    running.stop.cancel();
    timeout(Duration::from_secs(5), running.task).await.expect("no connection is left").unwrap();
}

#[tokio::test]
async fn a_rotation_is_trusted_at_each_step_by_who_knows_only_the_step_before() {
    let running = start().await;
    let lifetimes = Lifetimes::default();
    // So that leaf and CA are due one after the other.
    let start = now() - lifetimes.ca() / 3 * 2 - 3600;
    let mut bundles = Vec::new();
    let mut certificates = Certificates::issue(&host(), lifetimes, start).unwrap();
    let mut at = now() - 2 * lifetimes.overlap() - 60;
    while let Some(renewed) = certificates.renewed(&host(), lifetimes, at).unwrap() {
        certificates = renewed;
        bundles.push(certificates.bundle());
        running.served.set(certificates.leaf()).unwrap();
        let known = &bundles[bundles.len().saturating_sub(2)];
        assert_eq!(ask(&running, &host(), known).await.unwrap(), StatusCode::OK, "step {}", bundles.len());
        at += lifetimes.overlap();
        if at > now() {
            break;
        }
    }
    assert_eq!(bundles.len(), 3, "{}", bundles.len());
}

#[tokio::test]
async fn the_server_ends_in_order() {
    let running = start().await;
    let ours = Certificates::issue(&host(), Lifetimes::default(), now()).unwrap();
    running.served.set(ours.leaf()).unwrap();
    ask(&running, &host(), &ours.bundle()).await.unwrap();
    running.stop.cancel();
    timeout(Duration::from_secs(5), running.task).await.expect("ends well before the deadline of busy connections").unwrap();
    assert!(ask(&Running { task: tokio::spawn(async {}), ..running }, &host(), &ours.bundle()).await.is_err());
}
