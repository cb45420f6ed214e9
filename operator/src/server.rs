//! The HTTPS server: accepts connections, within bounds, and ends them in order.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::streams::{self, Beginning, HEAD, HEAD_BYTES, Rewound};

/// A sidecar holds one stream, and sends reports over a second connection.
const MAX_CONNECTIONS: usize = 8192;
const HANDSHAKE: Duration = Duration::from_secs(5);
/// What is not over by then is cut off.
const DRAIN: Duration = Duration::from_secs(10);
/// After a failure to accept (no more file descriptors, say), so that it does not spin.
const PAUSE: Duration = Duration::from_millis(100);

/// Binds a port on every address of both families; of IPv4 alone where IPv6 is off.
pub async fn listen(port: u16) -> io::Result<TcpListener> {
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await,
        bound => bound,
    }
}

/// Serves until `stop`, then lets requests in flight come to their end. Streams must end by themselves at `stop`.
pub async fn serve(listener: TcpListener, tls: ServerConfig, router: Router, stop: CancellationToken) {
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let connections = TaskTracker::new();
    loop {
        let (stream, permit) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener, &permits) => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "failed to accept a connection");
                    sleep(PAUSE).await;
                    continue;
                }
            },
        };
        let (acceptor, router, stop) = (acceptor.clone(), router.clone(), stop.clone());
        connections.spawn(async move {
            let _permit = permit;
            connection(stream, acceptor, router, stop).await;
        });
    }
    drop(listener);
    connections.close();
    if timeout(DRAIN, connections.wait()).await.is_err() {
        tracing::warn!("connections were still busy and are cut off");
    }
}

async fn accept(listener: &TcpListener, permits: &Arc<Semaphore>) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, permit))
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, router: Router, stop: CancellationToken) {
    // What only some connections need, or only at first, is in a box: a stream would hold room for it all the time.
    let mut stream = match timeout(HANDSHAKE, Box::pin(acceptor.accept(stream))).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "TLS handshake failed"),
        Err(_) => return tracing::debug!("TLS handshake took too long"),
    };
    let beginning = tokio::select! {
        () = stop.cancelled() => return,
        beginning = streams::beginning(&mut stream) => beginning,
    };
    let result = match beginning {
        Ok(Beginning::Get(request)) => {
            let Ok(response) = Box::pin(router.oneshot(*request)).await;
            streams::answer(&mut stream, response).await.map_err(Into::into)
        }
        Ok(Beginning::Other(beginning)) => Box::pin(over_hyper(Rewound { beginning, rest: stream }, router, stop)).await,
        Err(error) => Err(error.into()),
    };
    if let Err(error) = result {
        tracing::debug!(error, "a connection ended badly");
    }
}

async fn over_hyper(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    stop: CancellationToken,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(HEAD_BYTES);
    let mut served = pin!(http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)));
    let result = tokio::select! {
        result = served.as_mut() => result,
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    Ok(result?)
}
