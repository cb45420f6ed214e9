//! Connections to a port that is probed by something else than HTTP/1. By its first bytes such a connection is told from all others, and
//! only on those ports anybody looks.
//!
//! Guarantee: on such a connection exactly the declared probe reaches the server; everything else is refused, and never judged as MCP.

mod grpc;
mod https;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use self::https::Tls;
use crate::config::{Handler, HttpGet, Limits, Probe, Scheme};
use crate::drain::Drain;
use crate::front::connection;
use crate::proxy::{Peer, Proxy};
use crate::upstream::Destination;

/// How a client opens HTTP/2 where it need not ask whether it may (RFC 9113, 3.4). No method of HTTP/1 begins so.
const HTTP2: &[u8] = b"PRI ";

/// How a client opens TLS: the type of a record of its handshake. No request of HTTP/1 begins so.
const TLS: u8 = 0x16;

/// Connections of this kind at one time; more wait. Each holds buffers of tens of kilobytes. A pod has a probe or two, and who would keep
/// the kubelet waiting has to take all of these places, again and again.
const CONNECTIONS: usize = 64;

/// Time for a handshake, and for a request to come after it: the kubelet sends it at once, and its place is wanted.
const REQUEST: Duration = Duration::from_secs(5);

/// The probes of the pod that do not come over HTTP/1.
#[derive(Debug)]
pub(crate) struct ProbeConnections {
    probes: Vec<Probe>,
    /// Where there is a probe that needs it.
    tls: Option<Tls>,
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
    pub(crate) fn new(probes: &[Probe]) -> io::Result<Self> {
        let probes: Vec<_> = probes.iter().filter(|probe| is_https(probe) || service(probe).is_some()).cloned().collect();
        let tls = probes.iter().any(is_https).then(Tls::new).transpose()?;
        Ok(Self { probes, tls, room: Semaphore::new(CONNECTIONS) })
    }

    /// Those of a port, if it has any.
    pub(crate) fn of(&self, destination: &Destination) -> Option<OfPort<'_>> {
        let port = destination.port()?;
        self.probes.iter().any(|probe| probe.port == port).then_some(OfPort { all: self, port })
    }
}

impl OfPort<'_> {
    /// Answers a connection, whatever is spoken on it.
    pub(crate) async fn serve(self, stream: TcpStream, proxy: &Arc<Proxy>, peer: &Peer, limits: &Limits, drain: &Drain) {
        let mut first = [0; HTTP2.len()];
        let looked = tokio::select! {
            looked = timeout(limits.head_timeout, stream.peek(&mut first)) => looked,
            () = drain.closing() => return,
        };
        // Nothing came.
        let Ok(Ok(1..)) = looked else { return };
        let of_port = || self.all.probes.iter().filter(|probe| probe.port == self.port);
        let services: Vec<_> = of_port().filter_map(service).collect();
        let tls = self.all.tls.as_ref().filter(|_| of_port().any(is_https));
        match (first, tls) {
            ([TLS, ..], Some(tls)) => {
                let _permit = self.all.room.acquire().await;
                tls.serve(stream, &self.all.probes, proxy, peer, limits, drain).await;
            }
            // Who sends these few bytes one by one is not the kubelet, and is refused as all who speak no HTTP/1.
            (first, _) if first == HTTP2 && !services.is_empty() => {
                let _permit = self.all.room.acquire().await;
                grpc::serve(stream, &services, proxy, peer, limits).await;
            }
            _ => connection::serve(stream, proxy, peer, limits, drain).await,
        }
    }
}

fn is_https(probe: &Probe) -> bool {
    matches!(probe.handler, Handler::HttpGet(HttpGet { scheme: Scheme::Https, .. }))
}

fn service(probe: &Probe) -> Option<&str> {
    match &probe.handler {
        Handler::Grpc(grpc) => Some(&grpc.service),
        Handler::HttpGet(_) => None,
    }
}

#[cfg(test)]
mod tests;
