//! The HTTPS probe: the kubelet does not verify the server's certificate, and so takes one of the sidecar's for it.
//!
//! Guarantee: the server gets the declared request; of its answer, nothing but the status comes back.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONNECTION, HeaderMap, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::{Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::{ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::REQUEST;
use crate::config::{HttpGet, Limits, Probe, Scheme};
use crate::drain::Drain;
use crate::front::{probe, server};
use crate::proxy::{Peer, Proxy};
use crate::upstream::Destination;

/// Both ends of TLS: towards the kubelet, and towards the server.
#[derive(Clone)]
pub(super) struct Tls {
    pub(super) acceptor: TlsAcceptor,
    pub(super) connector: TlsConnector,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

/// Why the server's answer did not come: for the kubelet, all of them are one.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error("cannot connect: {0}")]
    Connect(#[from] io::Error),
    #[error("HTTP: {0}")]
    Http(#[from] hyper::Error),
    #[error("no answer in time")]
    TimedOut,
    #[error("the probe's headers cannot be sent")]
    Headers,
}

impl Tls {
    /// With a certificate that lives as long as the sidecar.
    pub(super) fn new() -> io::Result<Self> {
        let key = rcgen::KeyPair::generate().map_err(io::Error::other)?;
        let certificate = rcgen::CertificateParams::default().self_signed(&key).map_err(io::Error::other)?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(io::Error::other)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let towards_kubelet = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        let towards_kubelet = towards_kubelet.map_err(io::Error::other)?.with_no_client_auth();
        let mut towards_kubelet = towards_kubelet.with_single_cert(vec![certificate.into()], key).map_err(io::Error::other)?;
        // Each probe has a connection of its own: nothing is kept for the next.
        towards_kubelet.session_storage = Arc::new(NoServerSessionStorage {});
        towards_kubelet.send_tls13_tickets = 0;
        let towards_server = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        let towards_server = towards_server.map_err(io::Error::other)?.dangerous();
        let mut towards_server = towards_server.with_custom_certificate_verifier(Arc::new(Unverified(provider))).with_no_client_auth();
        towards_server.resumption = Resumption::disabled();
        // Both would rather speak HTTP/2.
        for protocols in [&mut towards_kubelet.alpn_protocols, &mut towards_server.alpn_protocols] {
            *protocols = vec![b"http/1.1".to_vec()];
        }
        Ok(Self { acceptor: Arc::new(towards_kubelet).into(), connector: Arc::new(towards_server).into() })
    }

    /// Answers the requests of a connection, if they are one of these probes.
    pub(super) async fn serve(&self, stream: TcpStream, probes: &[Probe], proxy: &Proxy, peer: &Peer, limits: &Limits, drain: &Drain) {
        let Ok(Ok(stream)) = timeout(REQUEST, self.acceptor.accept(stream)).await else { return proxy.note_no_probe(peer).await };
        let service = service_fn(async |request: Request<Incoming>| {
            let mut response = Response::new(Empty::<Bytes>::new());
            *response.status_mut() = self.answer(&request, probes, proxy, peer, limits).await;
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            Ok::<_, std::convert::Infallible>(response)
        });
        let limits = &Limits { head_timeout: REQUEST, ..limits.clone() };
        if server::http(stream, limits, drain, service).await {
            proxy.note_no_probe(peer).await;
        }
    }

    async fn answer(&self, request: &Request<Incoming>, probes: &[Probe], proxy: &Proxy, peer: &Peer, limits: &Limits) -> StatusCode {
        let Destination::Captured(server) = *peer.link.destination() else { return StatusCode::NOT_FOUND };
        let Some(get) = probe::matching(probes, server.port(), Scheme::Https, request) else {
            proxy.note_no_probe(peer).await;
            return StatusCode::FORBIDDEN;
        };
        let asking = self.ask(server, get, request.headers(), limits);
        let asked = timeout(limits.answer_timeout, asking).await.unwrap_or(Err(AskError::TimedOut));
        asked.unwrap_or_else(|error| {
            tracing::debug!(%error, "the server did not answer an HTTPS probe");
            StatusCode::BAD_GATEWAY
        })
    }

    async fn ask(&self, server: SocketAddr, get: &HttpGet, as_sent: &HeaderMap, limits: &Limits) -> Result<StatusCode, AskError> {
        let request = probe::request(get, as_sent).ok_or(AskError::Headers)?.map(Full::new);
        let stream = Destination::Captured(server).connect(limits.connect_timeout).await?;
        // By its address, as the kubelet does: no name is asked for.
        let stream = self.connector.connect(ServerName::from(server.ip()), stream).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let mut exchange = pin!(sender.send_request(request));
        let answered = tokio::select! {
            biased;
            answered = &mut exchange => answered,
            // What came before the end is there still.
            _ = connection => exchange.await,
        };
        Ok(answered?.status())
    }
}

/// Takes any certificate. The kubelet does, and what the server is told here anybody may tell it.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    // Not even signatures: whose they are nobody knows, and old forms of certificates, which many make for themselves, cannot be read here.
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
