//! What the kubelet sends, and what it makes of the answer: `pkg/probe` of Kubernetes.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpStream as Dialled},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use mcp_policy_e2e::net::Net;
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// The pod's address.
pub const POD: &str = "10.99.0.2";

/// A probe over the network.
#[derive(Clone, Debug)]
pub struct Probe {
    pub port: u16,
    pub asks: Asks,
}

#[derive(Clone, Debug)]
pub enum Asks {
    Connects,
    Http { tls: bool, method: &'static str, target: String, headers: Vec<(String, String)> },
    Grpc { method: &'static str, service: String },
}

impl Probe {
    /// Reads one; none if the network is not asked.
    pub fn read(probe: &Value, ports: &BTreeMap<String, u16>) -> Option<Self> {
        let (kind, action) = probe.as_object()?.iter().next()?;
        let text = |name: &str| action[name].as_str().unwrap_or_default().to_owned();
        let asks = match kind.as_str() {
            "exec" => return None,
            "tcpSocket" => Asks::Connects,
            "grpc" => Asks::Grpc { method: "Check", service: text("service") },
            "httpGet" => {
                let headers = action["httpHeaders"].as_array().into_iter().flatten();
                let pair = |header: &Value| ["name", "value"].map(|key| header[key].as_str().unwrap().to_owned()).into();
                Asks::Http { tls: text("scheme") == "HTTPS", method: "GET", target: text("path"), headers: headers.map(pair).collect() }
            }
            other => panic!("a probe of the kind {other}"),
        };
        let port = &action["port"];
        let port = port.as_str().map_or_else(|| u16::try_from(port.as_u64().unwrap()).unwrap(), |name| ports[name]);
        Some(Self { port, asks })
    }

    pub fn only_connects(&self) -> bool {
        matches!(self.asks, Asks::Connects)
    }

    /// The name by which the server is asked.
    pub fn host(&self) -> String {
        let declared = match &self.asks {
            Asks::Http { headers, .. } => headers.iter().find(|(name, _)| name == "Host").map(|(_, value)| value.clone()),
            Asks::Connects | Asks::Grpc { .. } => None,
        };
        declared.unwrap_or_else(|| format!("{POD}:{}", self.port))
    }

    /// Requests that are almost this one.
    pub fn near_misses(&self) -> Vec<(&'static str, Self)> {
        let port = self.port;
        let all = match &self.asks {
            Asks::Connects => {
                let get = |target: &str| Asks::Http { tls: false, method: "GET", target: target.to_owned(), headers: Vec::new() };
                vec![("a request", get("/")), ("a probe of others", get("/healthz"))]
            }
            Asks::Http { tls, method, target, headers } => {
                let (tls, method) = (*tls, *method);
                let with =
                    |method, target: String, headers: &[(String, String)]| Asks::Http { tls, method, target, headers: headers.to_vec() };
                let mark = if target.contains('?') { '&' } else { '?' };
                let mut all = vec![
                    ("another path", with(method, format!("/x{target}"), headers)),
                    ("another query", with(method, format!("{target}{mark}x=1"), headers)),
                    ("another method", with("POST", target.clone(), headers)),
                    ("the other scheme", Asks::Http { tls: !tls, method, target: target.clone(), headers: headers.clone() }),
                    ("a body", with(method, target.clone(), &[&headers[..], &[("Content-Length".to_owned(), "1".to_owned())]].concat())),
                ];
                if !headers.is_empty() {
                    all.push(("without its headers", with(method, target.clone(), &[])));
                }
                all
            }
            Asks::Grpc { method, service } => vec![
                ("a longer service", Asks::Grpc { method, service: format!("{service}x") }),
                ("another service", Asks::Grpc { method, service: format!("x{}", service.get(1..).unwrap_or_default()) }),
                ("another method", Asks::Grpc { method: "Watch", service: service.clone() }),
                ("a request of HTTP", Asks::Http { tls: false, method: "GET", target: "/".to_owned(), headers: Vec::new() }),
            ],
        };
        all.into_iter().map(|(what, asks)| (what, Self { port, asks })).collect()
    }

    /// Sends it from beside the pod: whether the server is healthy.
    pub async fn send(&self, net: &Net, patience: Duration) -> bool {
        let address: SocketAddr = format!("{POD}:{}", self.port).parse().unwrap();
        let Ok(stream) = Net::inside(&net.peer, move || Dialled::connect_timeout(&address, Duration::from_secs(5))) else { return false };
        stream.set_nonblocking(true).unwrap();
        let stream = TcpStream::from_std(stream).unwrap();
        let asking = async {
            match &self.asks {
                Asks::Connects => Some(true),
                Asks::Http { tls: false, .. } => self.http(stream).await,
                Asks::Http { tls: true, .. } => {
                    let stream = TlsConnector::from(tls()).connect(ServerName::from(address.ip()), stream).await.ok()?;
                    self.http(stream).await
                }
                Asks::Grpc { method, service } => self.grpc(stream, method, service).await.ok(),
            }
        };
        timeout(patience, asking).await.ok().flatten().unwrap_or(false)
    }

    async fn http(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Option<bool> {
        let Asks::Http { method, target, headers, .. } = &self.asks else { return None };
        let mut request = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\nUser-Agent: kube-probe/1.34\r\nAccept: */*\r\n", self.host());
        for (name, value) in headers.iter().filter(|(name, _)| name != "Host") {
            request.extend([name, ": ", value, "\r\n"]);
        }
        request.push_str("Connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        // The last byte may be followed by a reset.
        let _ = stream.read_to_end(&mut answer).await;
        let status: u16 = String::from_utf8(answer).ok()?.split(' ').nth(1)?.parse().ok()?;
        Some((200..400).contains(&status))
    }

    async fn grpc(&self, stream: TcpStream, method: &str, service: &str) -> Result<bool, h2::Error> {
        let (sender, connection) = h2::client::handshake(stream).await?;
        let connection = tokio::spawn(connection);
        let request = Request::post(format!("http://{}/grpc.health.v1.Health/{method}", self.host()));
        let request = request.header("content-type", "application/grpc").header("user-agent", "kube-probe/1.34 grpc-go/1.72.1");
        let request = request.header("te", "trailers").header("grpc-timeout", "999m").body(()).unwrap();
        let (response, mut sending) = sender.ready().await?.send_request(request, false)?;
        sending.send_data(check(service), true)?;
        let (head, mut body) = response.await?.into_parts();
        let mut message = Vec::new();
        while let Some(data) = body.data().await {
            message.extend(data?);
        }
        let trailers = body.trailers().await?.unwrap_or(head.headers);
        connection.abort();
        Ok(trailers.get("grpc-status").is_some_and(|code| code == "0") && message == b"\0\0\0\0\x02\x08\x01")
    }
}

/// The message of a check: not compressed, its length, and `HealthCheckRequest`.
pub fn check(service: &str) -> Bytes {
    let length = u8::try_from(service.len()).unwrap();
    let message = if service.is_empty() { Vec::new() } else { [&[0x0a, length], service.as_bytes()].concat() };
    [&[0, 0, 0, 0, u8::try_from(message.len()).unwrap()], &message[..]].concat().into()
}

fn tls() -> Arc<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().unwrap();
    let mut config = config.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider))).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

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
