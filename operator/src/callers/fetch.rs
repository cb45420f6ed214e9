//! Reads the keys of issuers, over HTTPS only.
//!
//! A policy names what the operator asks, and its author may not be who runs the operator. So addresses of the link are never asked,
//! private ones only if the installation says so, and what counts is the address that is connected to. No redirect is followed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, HOST, USER_AGENT};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use rustls::ClientConfig;
use serde_json::Value;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::IssuerKeys;
use super::jwks::{DocumentError, jwks_uri, public_keys};
use crate::dial::{DialError, exchange};
use crate::names::AGENT;
use crate::tls::{TlsError, public_roots, roots};

/// For one document, from the name to its last byte.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Key sets have some kilobytes.
const MAX_BODY: usize = 256 * 1024;

/// Where clouds answer their machines with credentials, beside addresses of the link: AWS over IPv6, Azure, Alibaba.
const METADATA: [IpAddr; 3] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
];

/// Why there are no keys. What others answered is not repeated: whoever writes a policy reads it.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Not a URL that is asked.
    #[error("{0:?} is not an https URL")]
    Url(String),
    /// The name is unknown.
    #[error("{host} has no address")]
    Resolve {
        /// The name.
        host: String,
        /// Why.
        source: std::io::Error,
    },
    /// None of its addresses may be asked.
    #[error("{host} has no address that is asked: {why}")]
    Address {
        /// The name.
        host: String,
        /// What is wrong with the last of them.
        why: &'static str,
    },
    /// No address takes a connection.
    #[error("failed to connect to {host}")]
    Connect {
        /// The name.
        host: String,
        /// Why.
        source: std::io::Error,
    },
    /// No TLS, or no answer.
    #[error("failed to ask {host}")]
    Exchange {
        /// The name.
        host: String,
        /// Why.
        source: DialError,
    },
    /// The bundle of certificates cannot be read.
    #[error("caBundle cannot be read")]
    Bundle(#[from] TlsError),
    /// Another status than 200; redirects are not followed.
    #[error("{host} answered {status}")]
    Status {
        /// The name.
        host: String,
        /// The answer.
        status: StatusCode,
    },
    /// The answer broke off, or is too long.
    #[error("the answer of {host} broke off or is longer than {MAX_BODY} bytes")]
    Body {
        /// The name.
        host: String,
    },
    /// Not JSON.
    #[error("the answer of {host} is not JSON")]
    Json {
        /// The name.
        host: String,
    },
    /// JSON that is not what was asked for.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// Nothing came in time.
    #[error("no answer of {host} within {} seconds", TIMEOUT.as_secs())]
    Timeout {
        /// The name.
        host: String,
    },
}

/// Reads the keys of an issuer, where its discovery document or its policies say that they are.
pub async fn keys(issuer: &str, uri: Option<&str>, ca_bundle: Option<&str>, allow_private: bool) -> Result<IssuerKeys, FetchError> {
    let trusted = match ca_bundle {
        Some(bundle) => roots(bundle)?,
        None => public_roots(),
    };
    let config = ClientConfig::builder().with_root_certificates(trusted).with_no_client_auth();
    let config = Arc::new(config);
    let discovery;
    let uri = if let Some(uri) = uri {
        uri
    } else {
        let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        discovery = json(&url, &config, allow_private).await?;
        jwks_uri(issuer, &discovery)?
    };
    let jwks = public_keys(&json(uri, &config, allow_private).await?)?;
    Ok(IssuerKeys { issuer: issuer.to_owned(), jwks })
}

/// The JSON at a URL.
async fn json(url: &str, config: &Arc<ClientConfig>, allow_private: bool) -> Result<Value, FetchError> {
    let uri: Uri = url.parse().map_err(|_| FetchError::Url(url.to_owned()))?;
    let host = uri.host().filter(|_| uri.scheme_str() == Some("https")).ok_or_else(|| FetchError::Url(url.to_owned()))?;
    let ask = ask(&uri, host.trim_start_matches('[').trim_end_matches(']'), config, allow_private);
    timeout(TIMEOUT, ask).await.map_err(|_| FetchError::Timeout { host: host.to_owned() })?
}

async fn ask(uri: &Uri, host: &str, config: &Arc<ClientConfig>, allow_private: bool) -> Result<Value, FetchError> {
    let name = || host.to_owned();
    let stream = connect(host, uri.port_u16().unwrap_or(443), allow_private).await?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let authority = uri.authority().map_or(host, |authority| authority.as_str());
    let request = Request::get(path).header(HOST, authority).header(ACCEPT, "application/json").header(USER_AGENT, AGENT);
    let request = request.body(Empty::<Bytes>::new()).map_err(DialError::from);
    let answer = match request {
        Ok(request) => exchange(stream, Arc::clone(config), host, request).await,
        Err(error) => Err(error),
    };
    let answer = answer.map_err(|source| FetchError::Exchange { host: name(), source })?;
    if answer.status() != StatusCode::OK {
        return Err(FetchError::Status { host: name(), status: answer.status() });
    }
    let body = Limited::new(answer.into_body(), MAX_BODY).collect().await.map_err(|_| FetchError::Body { host: name() })?;
    serde_json::from_slice(&body.to_bytes()).map_err(|_| FetchError::Json { host: name() })
}

/// Connects to the first address that may be asked and answers.
async fn connect(host: &str, port: u16, allow_private: bool) -> Result<TcpStream, FetchError> {
    let addresses = lookup_host((host, port)).await.map_err(|source| FetchError::Resolve { host: host.to_owned(), source })?;
    let (mut why, mut failure) = ("the name has none", None);
    for address in addresses {
        if let Some(refusal) = refusal(address.ip(), allow_private) {
            why = refusal;
            continue;
        }
        match TcpStream::connect(SocketAddr::new(address.ip(), port)).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = Some(error),
        }
    }
    let host = host.to_owned();
    Err(match failure {
        Some(source) => FetchError::Connect { host, source },
        None => FetchError::Address { host, why },
    })
}

/// Why an address is not asked; none if it is.
fn refusal(address: IpAddr, allow_private: bool) -> Option<&'static str> {
    let address = embedded(address);
    let is_of_link = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    if is_of_link || METADATA.contains(&address) {
        return Some("addresses of the link and of clouds' metadata are never asked");
    }
    let is_nobody = match address {
        // 0.0.0.0/8 is this host, 240.0.0.0/4 nobody's.
        IpAddr::V4(v4) => v4.octets()[0] == 0 || v4.octets()[0] >= 240,
        IpAddr::V6(v6) => v6.is_unspecified(),
    };
    if is_nobody || address.is_multicast() {
        return Some("an address that is nobody's");
    }
    let is_private = match address {
        // 100.64.0.0/10 is behind a carrier's translation, and the pods of some clouds.
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || (v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local(),
    };
    (is_private && !allow_private).then_some("private addresses are asked only if the chart's authentication.allowPrivateIssuers says so")
}

/// The IPv4 address that an IPv6 one stands for: mapped, or translated (RFC 6052, RFC 3056).
fn embedded(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address.to_canonical() else { return address.to_canonical() };
    match v6.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)).into(),
        _ => v6.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_writes_a_policy_cannot_make_the_operator_ask_what_only_it_reaches() {
        let never = ["169.254.169.254", "fe80::1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "fd00:ec2::254"];
        let never =
            never.into_iter().chain(["168.63.129.16", "100.100.100.200", "0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255"]);
        for address in never {
            assert!(refusal(address.parse().unwrap(), true).is_some(), "{address}");
        }
        for address in
            ["127.0.0.1", "::1", "10.96.0.1", "172.16.0.1", "192.168.1.1", "fd00::1", "100.64.0.1", "::ffff:10.0.0.1", "64:ff9b::a00:1"]
        {
            assert_eq!(refusal(address.parse().unwrap(), true), None, "{address}");
            assert!(refusal(address.parse().unwrap(), false).is_some(), "{address}");
        }
        for address in ["1.1.1.1", "100.128.0.1", "172.32.0.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"] {
            assert_eq!(refusal(address.parse().unwrap(), false), None, "{address}");
        }
    }
}
