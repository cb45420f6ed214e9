//! Listening, accepting and serving HTTP/1 with bounds: connections, heads, idle time.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::io::Errno;
use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::config::{Limits, Listen};
use crate::drain::Drain;
use crate::error::Error;
use crate::front::write_timeout::WriteTimeout;

/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 1024;

/// Pause after the system could not give a connection, mostly for want of file descriptors: trying at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Silence after which the kernel asks whether a caller is still there: one that vanished without a word would keep its stream open,
/// and the server's, until something is sent on it.
const KEEPALIVE: Duration = Duration::from_mins(1);

/// Listens at an address.
pub fn bind(listen: Listen) -> Result<TcpListener, Error> {
    match listen {
        Listen::At(address) => bind_one(address),
        // One socket for both families. Any other failure than that IPv6 is off must not leave IPv6 to somebody else.
        Listen::Any(port) => bind_one((Ipv6Addr::UNSPECIFIED, port).into()).or_else(|error| match error {
            Error::Listen { ref cause, .. } if is_ipv6_off(cause) => bind_one((Ipv4Addr::UNSPECIFIED, port).into()),
            error => Err(error),
        }),
    }
}

fn is_ipv6_off(cause: &io::Error) -> bool {
    [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL].iter().any(|off| cause.raw_os_error() == Some(off.raw_os_error()))
}

fn bind_one(address: SocketAddr) -> Result<TcpListener, Error> {
    let bind = || -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        if address.is_ipv6() && address.ip().is_unspecified() {
            socket.set_only_v6(false)?;
        }
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    bind().map_err(|cause| Error::Listen { address, cause })
}

/// Accepts connections until the sidecar closes, at most `connections` at a time; more wait in the kernel.
pub async fn accept<F>(listener: TcpListener, connections: usize, drain: Drain, mut serve: impl FnMut(TcpStream, SocketAddr) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(connections));
    let mut closing = pin!(drain.closing());
    loop {
        let accepted = async {
            // The semaphore is never closed.
            let permit = Arc::clone(&room).acquire_owned().await.map_err(io::Error::other)?;
            let (stream, peer) = listener.accept().await?;
            // Small answers must not wait for the acknowledgement of the one before.
            stream.set_nodelay(true)?;
            SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4))?;
            io::Result::Ok((permit, stream, peer))
        };
        let accepted = tokio::select! {
            () = &mut closing => return,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((permit, stream, peer)) => {
                let connection = serve(stream, peer);
                drain.spawn(async move {
                    connection.await;
                    drop(permit);
                });
            }
            Err(cause) => {
                tracing::warn!(%cause, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves HTTP/1 on a connection until it ends, or until the sidecar closes and the request in flight is answered. Returns whether it
/// ended because a request's head could not be read; the caller was told so.
pub async fn http<T, S, B>(stream: T, limits: &Limits, drain: &Drain, service: S) -> bool
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: Service<Request<Incoming>, Response = Response<B>>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: http_body::Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let connection = http1::Builder::new()
        // Without a timer there is no timeout at all.
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(limits.head_bytes)
        .max_headers(limits.headers)
        .serve_connection(TokioIo::new(WriteTimeout::new(stream, limits.write_timeout)), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = drain.closing() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    let Err(cause) = ended else { return false };
    tracing::debug!(%cause, "a connection ended early");
    cause.is_parse()
}

/// The address that the caller dialled before the kernel redirected the connection here.
pub fn original_destination(stream: &TcpStream) -> io::Result<SocketAddr> {
    let socket = SockRef::from(stream);
    // The socket is an IPv6 one for both families; the option of the wrong family finds nothing.
    let original = socket.original_dst_v6().or_else(|_| socket.original_dst_v4())?;
    let mut original = original.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
    original.set_ip(original.ip().to_canonical());
    if let (SocketAddr::V6(original), SocketAddr::V6(local)) = (&mut original, stream.local_addr()?) {
        // A link-local address is only one together with its interface, which the kernel does not tell here.
        if original.scope_id() == 0 && original.ip().is_unicast_link_local() {
            original.set_scope_id(local.scope_id());
        }
    }
    Ok(original)
}

/// Whether an address is one of this machine's. The kernel redirects whatever is routed to the pod, also what it was to pass on to
/// somewhere else; forwarding that would lend the pod's identity to whoever sent it.
#[must_use]
pub fn is_own(mut address: SocketAddr) -> bool {
    address.set_port(0);
    UdpSocket::bind(address).is_ok()
}

/// Closes a connection so that the caller sees a reset, as from a port on which nobody listens.
pub fn reset(stream: TcpStream) {
    // If it fails the caller sees an orderly end, which is no answer either.
    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    drop(stream);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_this_machine_are_its_own() {
        assert!(is_own("127.0.0.1:8080".parse().unwrap()));
        assert!(is_own("127.0.0.1:1".parse().unwrap()));
        assert!(!is_own("192.0.2.1:8080".parse().unwrap()));
        assert!(!is_own("[2001:db8::1]:8080".parse().unwrap()));
    }
}
