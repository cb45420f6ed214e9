//! The kubelet asks a server, directly and through the sidecar.

mod grpc;
mod https;

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::ProbeConnections;
use crate::authenticate::Identity;
use crate::books::Books;
use crate::books::audit::Audit;
use crate::books::metrics::Metrics;
use crate::config::{Limits, Probe};
use crate::drain::Drain;
use crate::front::connection;
use crate::proxy::{Peer, Proxy};
use crate::state::State;
use crate::upstream::{Destination, Link};

/// A sidecar without a policy, in front of a server to which every connection was dialled.
struct Sidecar {
    address: SocketAddr,
    metrics: Metrics,
}

impl Sidecar {
    /// With these probes, as the operator writes them, of the server's port.
    async fn start(server: SocketAddr, mut probes: Value) -> Self {
        for probe in probes.as_array_mut().unwrap() {
            probe["port"] = server.port().into();
        }
        let probes: Vec<Probe> = serde_json::from_value(probes).unwrap();
        let state = Arc::new(State::default());
        let metrics = Metrics::new(Arc::clone(&state));
        let audit = Audit::start(std::io::sink(), metrics.audit_lines_lost()).unwrap();
        let books = Arc::new(Books::new(state, metrics.clone(), audit, None, None));
        let (limits, drain) = (Limits::default(), Drain::default());
        let of_others = ProbeConnections::new(&probes).unwrap();
        let proxy = Arc::new(Proxy::new(books, probes, None, limits.clone(), drain.clone()));
        let parts = Arc::new((of_others, proxy, limits, drain, metrics.clone()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, from)) = listener.accept().await {
                let parts = Arc::clone(&parts);
                tokio::spawn(async move {
                    let (of_others, proxy, limits, drain, metrics) = &*parts;
                    let link = Arc::new(Link::new(Destination::Captured(server), limits, metrics.clone()));
                    let identity = Identity::anonymous(from.ip());
                    let peer = Peer { address: from.ip(), identity, link, server: "a/b:1".into(), name: "a/b".into() };
                    match of_others.of(peer.link.destination()) {
                        Some(probes) => probes.serve(stream, proxy, &peer, limits, drain).await,
                        None => connection::serve(stream, proxy, &peer, limits, drain).await,
                    }
                });
            }
        });
        Self { address, metrics }
    }

    /// How many requests were refused as no probe.
    fn refused(&self) -> usize {
        let text = self.metrics.classic().unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(r#"mcp_policy_malformed_total{from="client",reason="probe"} "#));
        line.map_or(0, |count| count.parse().unwrap())
    }
}

/// What comes of raw bytes that are sent there, until the other side ends. Who hangs up sends no more.
async fn raw(address: SocketAddr, bytes: &[u8], hangs_up: bool) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut answer = Vec::new();
    stream.write_all(bytes).await.unwrap();
    if hangs_up {
        stream.shutdown().await.unwrap();
    }
    // A reset is an end as well.
    let _ = stream.read_to_end(&mut answer).await;
    answer
}
