//! TLS towards the server that `run --upstream https://…` names.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use rustls_native_certs::load_native_certs;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::error::Error;

/// Who the server has to prove to be, and to whom that is believed.
#[derive(Clone)]
pub struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Tls {
    /// The server has a certificate for `host`, from an authority that this machine trusts: those of the system, or of `SSL_CERT_FILE`
    /// and `SSL_CERT_DIR`.
    pub fn with(host: &str) -> Result<Self, Error> {
        let wrong = |why: &dyn fmt::Display| Error::Tls(why.to_string());
        let name = ServerName::try_from(host.to_owned()).map_err(|_| wrong(&format_args!("{host} is no name of a host")))?;
        let found = load_native_certs();
        let mut roots = RootCertStore::empty();
        let (trusted, _) = roots.add_parsable_certificates(found.certs);
        if trusted == 0 {
            let why = found.errors.first().map(|error| format!(": {error}")).unwrap_or_default();
            return Err(wrong(&format_args!("no authority is trusted here; SSL_CERT_FILE names a file of their certificates{why}")));
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config = config.map_err(|error| wrong(&error))?.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { connector: Arc::new(config).into(), name })
    }

    /// Lets the server at the other end prove who it is.
    pub(super) async fn over(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.connector.connect(self.name.clone(), stream).await
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("name", &self.name).finish_non_exhaustive()
    }
}
