//! The certificate that the HTTPS server shows, swapped while it runs.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};

use crate::certs::Leaf;

/// The certificate in use. Before the first one, handshakes fail.
#[derive(Debug, Default)]
pub struct Served(ArcSwapOption<CertifiedKey>);

/// A certificate or key that cannot be served or trusted.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Not PEM.
    #[error("failed to read PEM: {0}")]
    Pem(#[from] rustls::pki_types::pem::Error),
    /// Not a certificate or key that TLS can use.
    #[error("failed to use a certificate: {0}")]
    Certificate(#[from] rustls::Error),
    /// No TLS implementation is installed in this process.
    #[error("no crypto provider is installed")]
    NoProvider,
}

impl Served {
    /// Serves new connections with this certificate.
    pub fn set(&self, leaf: &Leaf) -> Result<(), TlsError> {
        let certificate = CertificateDer::from_pem_slice(leaf.certificate.as_bytes())?;
        let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes())?;
        let provider = CryptoProvider::get_default().ok_or(TlsError::NoProvider)?;
        self.0.store(Some(Arc::new(CertifiedKey::from_der(vec![certificate], key, provider)?)));
        Ok(())
    }

    /// Whether there is a certificate.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load().is_some()
    }
}

impl ResolvesServerCert for Served {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }
}

/// The server's side of TLS. HTTP/1.1 only: each sidecar holds one stream, so HTTP/2 would gain nothing.
#[must_use]
pub fn server_config(served: Arc<Served>) -> ServerConfig {
    let mut config = ServerConfig::builder().with_no_client_auth().with_cert_resolver(served);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Nobody resumes: each sidecar reads the CA anew for each connection.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config
}

/// The authorities that the public web trusts.
#[must_use]
pub fn public_roots() -> RootCertStore {
    RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }
}

/// The CA certificates of a PEM bundle.
pub fn roots(bundle: &str) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        roots.add(certificate?)?;
    }
    Ok(roots)
}
