//! Requests to the operator, over TLS and with the token of this pod.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::config::OperatorSource;

/// Time to connect, shake hands and get the head of an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How much of a refusal's text is logged.
const MAX_REFUSAL: usize = 1024;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    #[error("{path}: {cause}")]
    File { path: String, cause: io::Error },
    #[error("{0}: no certificate in it")]
    NoCertificate(String),
    #[error("the operator's name {0} is not one that a certificate can carry")]
    Name(String),
    #[error("the token is not one that a header can carry")]
    Token,
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    #[error("HTTP: {0}")]
    Http(#[from] hyper::Error),
    #[error("the request cannot be built: {0}")]
    Request(#[from] http::Error),
    #[error("no answer in time")]
    TimedOut,
    #[error("the operator answered {status}: {text}")]
    Refused { status: StatusCode, text: String },
}

/// Sends one request over a connection of its own, with the files as they are now, and takes only success for an answer.
pub(crate) async fn request(
    source: &OperatorSource,
    method: Method,
    path: &str,
    json: Option<Vec<u8>>,
) -> Result<Response<Incoming>, RequestError> {
    let asked = timeout(PATIENCE, ask(source, method, path, json)).await.map_err(|_| RequestError::TimedOut)?;
    let response = asked?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let body = timeout(PATIENCE, Limited::new(response.into_body(), MAX_REFUSAL).collect()).await;
    let text = body.ok().and_then(Result::ok).map(|body| String::from_utf8_lossy(&body.to_bytes()).trim().to_owned());
    Err(RequestError::Refused { status, text: text.unwrap_or_default() })
}

async fn ask(source: &OperatorSource, method: Method, path: &str, json: Option<Vec<u8>>) -> Result<Response<Incoming>, RequestError> {
    let mut request = Request::builder().method(method).uri(path).header(HOST, format!("{}:{}", source.host, source.port));
    if json.is_some() {
        request = request.header(CONTENT_TYPE, "application/json");
    }
    let request = request.header(AUTHORIZATION, authorization(source)?).body(Full::new(Bytes::from(json.unwrap_or_default())))?;

    let name = ServerName::try_from(source.host.clone()).map_err(|_| RequestError::Name(source.host.clone()))?;
    let tls = TlsConnector::from(Arc::new(tls(&source.ca_file)?));
    let stream = TcpStream::connect((source.host.as_str(), source.port)).await.map_err(RequestError::Connect)?;
    let stream = tls.connect(name, stream).await.map_err(RequestError::Connect)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the answer. What went wrong, the request is told.
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?)
}

fn authorization(source: &OperatorSource) -> Result<HeaderValue, RequestError> {
    let token = read(&source.token_file)?;
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.trim())).map_err(|_| RequestError::Token)?;
    value.set_sensitive(true);
    Ok(value)
}

fn tls(ca_file: &Path) -> Result<ClientConfig, RequestError> {
    let pem = read(ca_file)?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate.map_err(|_| RequestError::NoCertificate(ca_file.display().to_string()))?)?;
    }
    if roots.is_empty() {
        return Err(RequestError::NoCertificate(ca_file.display().to_string()));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

fn read(path: &Path) -> Result<String, RequestError> {
    fs::read_to_string(path).map_err(|cause| RequestError::File { path: path.display().to_string(), cause })
}
