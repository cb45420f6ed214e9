//! A request to a replica of the operator, over TLS that is verified against the operator's own CA.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST};
use http::{Request, Response};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, ToSocketAddrs};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::tls::{TlsError, roots};

/// Time until the answer begins.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The bundle is none.
    #[error("failed to read the CA bundle")]
    Bundle(#[from] TlsError),
    /// The host or the token cannot stand in a request.
    #[error("failed to write the request")]
    Request(#[from] http::Error),
    /// The host is no name that a certificate can carry.
    #[error("{0} is not a host name")]
    Host(String),
    /// No connection, or no TLS that the CA vouches for.
    #[error("failed to connect")]
    Connect(#[from] std::io::Error),
    /// The connection broke.
    #[error("failed to exchange a request")]
    Exchange(#[from] hyper::Error),
    /// Nothing came in time.
    #[error("no answer within {} seconds", TIMEOUT.as_secs())]
    Timeout,
}

/// Asks `GET path` of the replica at this address, whose certificate must name `host` and come from a CA of the bundle.
pub async fn get(
    address: impl ToSocketAddrs,
    host: &str,
    path: &str,
    bundle: &str,
    token: Option<&str>,
) -> Result<Response<Incoming>, DialError> {
    let config = ClientConfig::builder().with_root_certificates(roots(bundle)?).with_no_client_auth();
    let mut request = Request::get(path).header(HOST, host);
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request.body(Empty::<Bytes>::new())?;
    let answer = async { exchange(TcpStream::connect(address).await?, Arc::new(config), host, request).await };
    timeout(TIMEOUT, answer).await.map_err(|_| DialError::Timeout)?
}

/// Sends a request over a connection that was made, in TLS; the certificate must name `host`. It has no time-out of its own.
pub(crate) async fn exchange(
    stream: TcpStream,
    config: Arc<ClientConfig>,
    host: &str,
    request: Request<Empty<Bytes>>,
) -> Result<Response<Incoming>, DialError> {
    let name = ServerName::try_from(host.to_owned()).map_err(|_| DialError::Host(host.to_owned()))?;
    let stream = TlsConnector::from(config).connect(name, stream).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the body of the answer. What breaks it shows there.
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?)
}
