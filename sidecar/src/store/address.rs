//! Where the shared store is, and how to get in. The address may be logged and shown; the credentials never are.

use std::fmt;
use std::path::Path;
use std::{fs, io};

use mcp_policy::snapshot::StoreCredentials;
use redis::{ConnectionAddr, TlsCertificates};

/// The port of Redis and Valkey, where an address names none.
const PORT: u16 = 6379;
/// The port of their sentinels.
const SENTINEL_PORT: u16 = 26379;

/// A shared store, and who it lets in.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreAddress {
    /// As it was written: it holds no secret.
    url: String,
    /// One server, or some from which the others are learnt.
    nodes: Vec<(String, u16)>,
    topology: Topology,
    tls: bool,
    database: i64,
    credentials: StoreCredentials,
}

/// How the servers of a store belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Topology {
    /// One server.
    Standalone,
    /// Sentinels that know which server has this name.
    Sentinel(String),
    /// A cluster, by some of its nodes.
    Cluster,
}

/// An address that is none, or credentials that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the counter store {url}: {reason}")]
pub struct AddressError {
    url: String,
    reason: String,
}

impl StoreAddress {
    /// Reads `redis://host:port/database`, `redis+sentinel://host:port,host:port/name`, or `redis+cluster://host:port,host:port`; with
    /// `rediss` over TLS.
    pub fn parse(url: &str, credentials: StoreCredentials) -> Result<Self, AddressError> {
        // What stands before an `@` may be a password: then nothing of the URL is told.
        let shown = if url.contains('@') { "(not shown)" } else { url };
        let wrong = |reason: &str| AddressError { url: shown.to_owned(), reason: reason.to_owned() };
        if url.contains('@') {
            return Err(wrong("user and password do not belong in the URL"));
        }
        let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong("it is not a URL"))?;
        let (tls, kind) = match scheme.strip_prefix("rediss") {
            Some(kind) => (true, kind),
            None => (false, scheme.strip_prefix("redis").ok_or_else(|| wrong("it begins with redis:// or rediss://"))?),
        };
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let number = |text: &str| match text {
            "" => Ok(0),
            text => text.parse::<u16>().map(i64::from).map_err(|_| wrong("the path is the number of a database")),
        };
        let (topology, database, port) = match kind {
            "" => (Topology::Standalone, number(path)?, PORT),
            "+cluster" if path.is_empty() => (Topology::Cluster, 0, PORT),
            "+cluster" => return Err(wrong("a cluster has no databases")),
            "+sentinel" => {
                let (name, database) = path.split_once('/').unwrap_or((path, ""));
                if name.is_empty() {
                    return Err(wrong("the path is the name that the sentinels give the server"));
                }
                (Topology::Sentinel(name.to_owned()), number(database)?, SENTINEL_PORT)
            }
            _ => return Err(wrong("it begins with redis, redis+sentinel or redis+cluster, or with rediss in their place")),
        };
        let nodes: Option<Vec<_>> = hosts.split(',').map(|host| node(host, port)).collect();
        let nodes = nodes.ok_or_else(|| wrong("it does not name hosts"))?;
        if topology == Topology::Standalone && nodes.len() > 1 {
            return Err(wrong("several hosts are a cluster or sentinels; say which: redis+cluster:// or redis+sentinel://"));
        }
        Ok(Self { url: url.to_owned(), nodes, topology, tls, database, credentials })
    }

    /// Reads a URL, and the credentials in a folder.
    pub fn read(url: &str, folder: Option<&Path>) -> Result<Self, AddressError> {
        let credentials = match folder {
            None => StoreCredentials::default(),
            Some(folder) => credentials(folder)
                .map_err(|cause| AddressError { url: "credentials".to_owned(), reason: format!("{}: {cause}", folder.display()) })?,
        };
        Self::parse(url, credentials)
    }

    pub(super) fn topology(&self) -> &Topology {
        &self.topology
    }

    pub(super) fn nodes(&self) -> Vec<ConnectionAddr> {
        let nodes = self.nodes.iter().cloned();
        if self.tls {
            nodes.map(|(host, port)| ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }).collect()
        } else {
            nodes.map(|(host, port)| ConnectionAddr::Tcp(host, port)).collect()
        }
    }

    pub(super) fn database(&self) -> i64 {
        self.database
    }

    pub(super) fn credentials(&self) -> &StoreCredentials {
        &self.credentials
    }

    /// What TLS trusts: the CA that came with the credentials, else the system's. None without TLS.
    pub(super) fn certificates(&self) -> Option<TlsCertificates> {
        let root_cert = self.credentials.ca.as_ref().map(|ca| ca.clone().into_bytes());
        self.tls.then_some(TlsCertificates { client_tls: None, root_cert })
    }
}

/// Without the credentials.
impl fmt::Debug for StoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

fn node(text: &str, default: u16) -> Option<(String, u16)> {
    // An IPv6 address has brackets, and colons inside of them.
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok()?),
        _ => (text, default),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (!host.is_empty() && !host.contains(['/', ' ', '?', '#'])).then(|| (host.to_owned(), port))
}

/// Reads credentials from a folder, as a Secret is mounted: `username`, `password`, `sentinel-username`, `sentinel-password` and `ca.crt`,
/// of which none has to be there.
fn credentials(folder: &Path) -> io::Result<StoreCredentials> {
    let read = |name: &str| match fs::read_to_string(folder.join(name)) {
        Ok(text) => Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound && folder.is_dir() => Ok(None),
        Err(error) => Err(error),
    };
    Ok(StoreCredentials {
        username: read("username")?,
        password: read("password")?,
        sentinel_username: read("sentinel-username")?,
        sentinel_password: read("sentinel-password")?,
        ca: read("ca.crt")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<StoreAddress, AddressError> {
        StoreAddress::parse(url, StoreCredentials::default())
    }

    #[test]
    fn one_server_sentinels_and_a_cluster_are_told_apart() {
        let host = |name: &str, port| (name.to_owned(), port);
        for (url, nodes, topology, tls, database) in [
            ("redis://valkey", vec![host("valkey", 6379)], Topology::Standalone, false, 0),
            ("rediss://valkey.store.svc:6380/3", vec![host("valkey.store.svc", 6380)], Topology::Standalone, true, 3),
            ("redis://[::1]:7000", vec![host("::1", 7000)], Topology::Standalone, false, 0),
            ("redis://[fd00::1]", vec![host("fd00::1", 6379)], Topology::Standalone, false, 0),
            ("redis+cluster://a:7000,b", vec![host("a", 7000), host("b", 6379)], Topology::Cluster, false, 0),
            ("rediss+sentinel://a,b:1/main/2", vec![host("a", 26379), host("b", 1)], Topology::Sentinel("main".to_owned()), true, 2),
        ] {
            let address = parse(url).unwrap();
            assert_eq!((address.nodes, address.topology, address.tls, address.database), (nodes, topology, tls, database), "{url}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_and_a_password_in_it_is_not_repeated() {
        for url in [
            "valkey:6379",
            "http://valkey",
            "redis://",
            "redis://a,b",
            "redis://a/x",
            "redis+cluster://a/1",
            "redis+sentinel://a",
            "redis+x://a",
        ] {
            assert!(parse(url).is_err(), "{url}");
        }
        let error = parse("redis://user:geheim@valkey").unwrap_err();
        assert!(!error.to_string().contains("geheim") && !format!("{error:?}").contains("geheim"), "{error}");
    }

    #[test]
    fn credentials_are_the_files_of_a_mounted_secret_and_are_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("password"), "geheim\n").unwrap();
        let found = credentials(folder.path()).unwrap();
        assert_eq!((found.username.as_deref(), found.password.as_deref()), (None, Some("geheim")));
        let address = StoreAddress::parse("redis://valkey", found.clone()).unwrap();
        assert_eq!(format!("{address:?}"), "redis://valkey");
        assert!(!format!("{found:?}").contains("geheim"));
        assert!(credentials(&folder.path().join("none")).is_err(), "a folder that is not there");
    }
}
