//! TLS between replicas, over loopback: who is believed, and that certificates change while the server runs.

#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers outside of test functions")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use http::StatusCode;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use mcp_policy_operator::certs::Certificates;
use mcp_policy_operator::certs::lifetimes::Lifetimes;
use mcp_policy_operator::dial::{self, DialError};
use mcp_policy_operator::tls::{Served, server_config};
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
