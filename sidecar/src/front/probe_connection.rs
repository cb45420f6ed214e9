//! Connections to a port that is probed by something else than HTTP/1. By its first bytes such a connection is told from all others, and
//! only on those ports anybody looks.
//!
//! Guarantee: on such a connection exactly the declared probe reaches the server; everything else is refused, and never judged as MCP.

mod grpc;

use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::config::{Handler, Limits, Probe};
use crate::drain::Drain;
use crate::front::connection;
use crate::proxy::{Peer, Proxy};
use crate::upstream::Destination;

/// How a client opens HTTP/2 where it need not ask whether it may (RFC 9113, 3.4). No method of HTTP/1 begins so.
const HTTP2: &[u8] = b"PRI ";

/// Connections of this kind at one time; more wait. Each holds buffers of tens of kilobytes, and a pod has a probe or two.
const CONNECTIONS: usize = 16;

/// The probes of the pod that do not come over HTTP/1.
#[derive(Debug)]
pub(crate) struct ProbeConnections {
    grpc: Vec<(u16, String)>,
    room: Semaphore,
}

/// Those of one port.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OfPort<'a> {
    all: &'a ProbeConnections,
    port: u16,
}

impl ProbeConnections {
    /// Those of the pod's probes that this is about.
    pub(crate) fn new(probes: &[Probe]) -> Self {
        let of_grpc = |probe: &Probe| match &probe.handler {
            Handler::Grpc(grpc) => Some((probe.port, grpc.service.clone())),
            Handler::HttpGet(_) => None,
        };
        Self { grpc: probes.iter().filter_map(of_grpc).collect(), room: Semaphore::new(CONNECTIONS) }
    }

    /// Those of a port, if it has any.
    pub(crate) fn of(&self, destination: &Destination) -> Option<OfPort<'_>> {
        let port = destination.port()?;
        self.grpc.iter().any(|(other, _)| *other == port).then_some(OfPort { all: self, port })
    }
}

impl OfPort<'_> {
    /// Answers a connection, whatever is spoken on it.
    pub(crate) async fn serve(self, stream: TcpStream, proxy: &std::sync::Arc<Proxy>, peer: &Peer, limits: &Limits, drain: &Drain) {
        let mut first = [0; HTTP2.len()];
        let looked = tokio::select! {
            looked = timeout(limits.head_timeout, stream.peek(&mut first)) => looked,
            () = drain.closing() => return,
        };
        // Nothing came.
        let Ok(Ok(1..)) = looked else { return };
        // Who sends these few bytes one by one is not the kubelet, and is refused as all who speak no HTTP/1.
        if first != HTTP2 {
            return connection::serve(stream, proxy, peer, limits, drain).await;
        }
        // Never closed.
        let Ok(_permit) = self.all.room.acquire().await else { return };
        let services: Vec<_> = self.all.grpc.iter().filter(|(port, _)| *port == self.port).map(|(_, service)| service.as_str()).collect();
        grpc::serve(stream, &services, proxy, peer, limits).await;
    }
}

#[cfg(test)]
mod tests;
