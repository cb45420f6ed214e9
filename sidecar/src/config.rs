//! What the sidecar is told: options of `run`, environment variables of `serve`. Everything is read and checked before anything
//! is bound. Ports and upstream need a restart; policies reload while running.

mod collector;
mod probe;
mod server_command;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;

pub use self::collector::Collector;
pub use self::probe::{Grpc, Handler, HttpGet, Probe, Scheme};
pub use self::server_command::ServerCommand;
use crate::store::StoreAddress;

/// Port of the proxy: captured connections arrive here.
pub const PROXY_PORT: u16 = 14140;
/// Port of health and metrics.
pub const ADMIN_PORT: u16 = 14141;
/// The canary: nobody listens there, so only a captured pod answers on it.
pub const CANARY_PORT: u16 = 14142;
/// The one path that the canary answers.
pub const CANARY_PATH: &str = "/captured";

/// Base URL of the operator, `https://mcp-policy-operator.<namespace>.svc:443`. Required by `serve`. The operator's certificate
/// must carry the host of this URL.
pub const ENV_OPERATOR: &str = "MCP_POLICY_OPERATOR";
/// Folder with `ca.crt` (the operator's CA) and `token` (a service-account token for the operator). Default [`DEFAULT_RUN_DIR`].
pub const ENV_RUN_DIR: &str = "MCP_POLICY_RUN_DIR";
/// Namespace of the pod, for audit lines and logs only.
pub const ENV_POD_NAMESPACE: &str = "MCP_POLICY_POD_NAMESPACE";
/// Name of the pod, for audit lines and logs only.
pub const ENV_POD_NAME: &str = "MCP_POLICY_POD_NAME";
/// JSON array of the pod's own probes, see [`Probe`]. Default: none.
pub const ENV_PROBES: &str = "MCP_POLICY_PROBES";
/// Filter of the logs: a level, or levels by part of the program, `info,mcp_policy_sidecar::source=debug`. Default `info`.
pub const ENV_LOG: &str = "MCP_POLICY_LOG";

/// Default of [`ENV_RUN_DIR`].
pub const DEFAULT_RUN_DIR: &str = "/run/mcp-policy";

/// All that [`crate::run`] needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where callers arrive.
    pub proxy: Listen,
    /// Where health and metrics are served; nowhere if none.
    pub admin: Option<Listen>,
    /// Where judged calls go.
    pub upstream: Upstream,
    /// Where policies come from.
    pub source: Source,
    /// Where counters are shared, unless the operator says it.
    pub store: Option<StoreAddress>,
    /// Where spans go; nowhere if none.
    pub collector: Option<Collector>,
    /// The server as audit lines name it: `namespace/pod`, the upstream's authority, or the name of the program.
    pub server: String,
    /// The pod's own probes, which pass without policy.
    pub probes: Vec<Probe>,
    /// Bounds on what callers and server can make the sidecar hold.
    pub limits: Limits,
    /// How the sidecar ends.
    pub drain: DrainTimes,
}

/// All that [`crate::run_stdio`] needs to know.
#[derive(Clone, Debug)]
pub struct StdioConfig {
    /// Where policies are: a file, or a folder of files.
    pub policy: PathBuf,
    /// Where counters are shared.
    pub store: Option<StoreAddress>,
    /// Where spans go; nowhere if none.
    pub collector: Option<Collector>,
    /// The server.
    pub server: ServerCommand,
    /// Where health and metrics are served; nowhere if none.
    pub admin: Option<SocketAddr>,
    /// Bounds on what client and server can make the sidecar hold.
    pub limits: Limits,
}

/// An address to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// This port on every address: `[::]`, and `0.0.0.0` where IPv6 is off.
    Any(u16),
    /// Exactly this address.
    At(SocketAddr),
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any(port) => write!(f, "[::]:{port}"),
            Self::At(address) => address.fmt(f),
        }
    }
}

/// Where judged calls go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// To the address and port that the caller dialled, which the kernel remembers for captured connections.
    Captured,
    /// To one server.
    Url(UpstreamUrl),
    /// To a server on stdio, which is started for its callers.
    Command(ServerCommand),
}

/// The URL of a server that is guarded without capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamUrl {
    /// Host name or address, without brackets.
    pub host: String,
    /// Port; 80 if the URL names none, of https 443.
    pub port: u16,
    /// Whether it is reached over TLS (https).
    pub tls: bool,
    /// The `Host` header that the server gets.
    pub authority: String,
    /// The server's MCP endpoint, if it differs from the one that callers use.
    pub path: Option<String>,
    /// The path of its event stream, if the server is one of HTTP+SSE; the same that callers use.
    pub sse_path: Option<String>,
}

impl UpstreamUrl {
    /// Opens HTTP+SSE as well, with the stream at this path.
    pub fn with_sse_path(mut self, path: Option<String>) -> Result<Self, ConfigError> {
        if let Some(path) = path.as_ref().filter(|path| !path.starts_with('/') || path.contains(['?', '#'])) {
            return Err(ConfigError::SsePath { path: path.clone() });
        }
        self.sse_path = path;
        Ok(self)
    }

    /// Reads an `http://` or `https://` URL.
    pub fn parse(url: &str) -> Result<Self, ConfigError> {
        let wrong = |reason: &str| ConfigError::Upstream { url: url.to_owned(), reason: reason.to_owned() };
        let uri: Uri = url.parse().map_err(|_| wrong("it is not a URL"))?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong("it must begin with http:// or https://")),
        };
        let authority = uri.authority().ok_or_else(|| wrong("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("credentials in the URL are not supported"));
        }
        if uri.query().is_some() {
            return Err(wrong("a query is not supported"));
        }
        Ok(Self {
            host: authority.host().trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            tls,
            authority: authority.as_str().to_owned(),
            path: Some(uri.path()).filter(|path| *path != "/").map(str::to_owned),
            sse_path: None,
        })
    }
}

/// Where policies come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The operator's watch stream.
    Operator(OperatorSource),
    /// A file, or a folder of files, read again when their content changes.
    File(PathBuf),
}

/// How the operator is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorSource {
    /// Host of the operator; its certificate must carry this name.
    pub host: String,
    /// Port of the operator.
    pub port: u16,
    /// The operator's CA in PEM form, read again for each connection.
    pub ca_file: PathBuf,
    /// The bearer token, read again for each request: the kubelet rotates it.
    pub token_file: PathBuf,
    /// Namespace of the pod: sidecars of one namespace share counters, where there is a store.
    pub namespace: String,
}

/// Bounds on what callers and server can make the sidecar hold and wait for.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Open connections of callers; more wait in the kernel's backlog.
    pub connections: usize,
    /// Open streams that have no end of their own (GET, `subscriptions/listen`). Each holds a connection, so they are fewer than
    /// [`Limits::connections`]: however many streams are open, calls get through.
    pub streams: usize,
    /// Bytes of one request head.
    pub head_bytes: usize,
    /// Header lines of one request.
    pub headers: usize,
    /// Bytes of one request body, and of one answer that has to be held to be filtered. MCP's own servers stop at 4 MiB.
    pub body_bytes: usize,
    /// Bytes of all bodies that are held at one time and are longer than [`Limits::small_body_bytes`].
    pub held_bytes: usize,
    /// Bodies up to this size are held without asking for room, so that big ones cannot starve ordinary calls.
    pub small_body_bytes: usize,
    /// Bytes of one event of a stream that is read.
    pub event_bytes: usize,
    /// Time for a request head, and for which an idle connection is kept.
    pub head_timeout: Duration,
    /// Time for a request body.
    pub body_timeout: Duration,
    /// Time to open a connection to the server.
    pub connect_timeout: Duration,
    /// Time until the server's answer begins. Clients give up after one to five minutes themselves.
    pub answer_timeout: Duration,
    /// Longest silence within an answer that is no event stream.
    pub idle_timeout: Duration,
    /// Longest silence within an event stream. Far above the seconds between comments that keep connections alive, for many servers
    /// send none.
    pub stream_idle_timeout: Duration,
    /// Time from sending a request to the end of an answer that is no event stream. Event streams may take as long as they like.
    pub total_timeout: Duration,
    /// Time for a caller to take something of what is sent to it.
    pub write_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        // Sized for a container of 64 MiB: the worst case of heads, small bodies and held bodies together stays below it.
        Self {
            connections: 1280,
            streams: 1024,
            head_bytes: 16 * 1024,
            headers: 96,
            body_bytes: 4 * 1024 * 1024,
            held_bytes: 16 * 1024 * 1024,
            small_body_bytes: 8 * 1024,
            event_bytes: 4 * 1024 * 1024,
            head_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            answer_timeout: Duration::from_mins(5),
            idle_timeout: Duration::from_mins(1),
            stream_idle_timeout: Duration::from_hours(1),
            total_timeout: Duration::from_mins(10),
            write_timeout: Duration::from_mins(1),
        }
    }
}

/// How the sidecar ends.
#[derive(Clone, Copy, Debug)]
pub struct DrainTimes {
    /// How long new connections are still taken after the sidecar said that it ends: endpoints take seconds to forget a pod.
    pub announce: Duration,
    /// How long calls in flight may take after that; then they are told so, and a second later cut off. With `announce`, five
    /// seconds less than Kubernetes' usual grace of 30.
    pub deadline: Duration,
}

impl Default for DrainTimes {
    fn default() -> Self {
        Self { announce: Duration::from_secs(4), deadline: Duration::from_secs(21) }
    }
}

/// An option or environment variable that is missing or wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A required variable is missing.
    #[error("{0} is not set")]
    Missing(&'static str),
    /// A variable cannot be read.
    #[error("{name}: {reason}")]
    Invalid {
        /// The variable.
        name: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Spans cannot be sent.
    #[error("spans cannot be sent: {0}")]
    Spans(String),
    /// Audit lines cannot be written there.
    #[error("{}: {reason}", path.display())]
    Audit {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The counter store cannot be used.
    #[error(transparent)]
    Store(#[from] crate::store::AddressError),
    /// The upstream's URL cannot be used.
    #[error("upstream {url}: {reason}")]
    Upstream {
        /// The URL as given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The path of the event stream is none.
    #[error("{path} is not a path: it begins with `/` and has neither `?` nor `#`")]
    SsePath {
        /// The path as given.
        path: String,
    },
}

impl Config {
    /// The configuration of `serve`, from environment variables.
    pub fn from_env(get: impl Fn(&'static str) -> Option<String>) -> Result<Self, ConfigError> {
        let required = |name| get(name).filter(|value| !value.is_empty()).ok_or(ConfigError::Missing(name));
        let (host, port) = operator_address(&required(ENV_OPERATOR)?)?;
        let run_dir = PathBuf::from(get(ENV_RUN_DIR).unwrap_or_else(|| DEFAULT_RUN_DIR.to_owned()));
        let probes = match get(ENV_PROBES) {
            Some(json) if !json.is_empty() => {
                serde_json::from_str(&json).map_err(|cause| ConfigError::Invalid { name: ENV_PROBES, reason: cause.to_string() })?
            }
            _ => Vec::new(),
        };
        let (namespace, name) = (required(ENV_POD_NAMESPACE)?, required(ENV_POD_NAME)?);
        Ok(Self {
            proxy: Listen::Any(PROXY_PORT),
            admin: Some(Listen::Any(ADMIN_PORT)),
            upstream: Upstream::Captured,
            source: Source::Operator(OperatorSource {
                host,
                port,
                ca_file: run_dir.join("ca.crt"),
                token_file: run_dir.join("token"),
                namespace: namespace.clone(),
            }),
            collector: Collector::from_env(get)?.map(|collector| Collector { pod: Some((namespace.clone(), name.clone())), ..collector }),
            server: format!("{namespace}/{name}"),
            store: None,
            probes,
            limits: Limits::default(),
            drain: DrainTimes::default(),
        })
    }

    /// The configuration of `run`: a policy file and one upstream, without a cluster.
    #[must_use]
    pub fn standalone(policy: PathBuf, listen: SocketAddr, upstream: UpstreamUrl, admin: Option<SocketAddr>) -> Self {
        let server = upstream.authority.clone();
        Self::guarding(policy, listen, Upstream::Url(upstream), server, admin)
    }

    /// The configuration of `run` with a server on stdio that is offered over HTTP.
    #[must_use]
    pub fn offering(policy: PathBuf, listen: SocketAddr, server: ServerCommand, admin: Option<SocketAddr>) -> Self {
        let name = server.name();
        Self::guarding(policy, listen, Upstream::Command(server), name, admin)
    }

    fn guarding(policy: PathBuf, listen: SocketAddr, upstream: Upstream, server: String, admin: Option<SocketAddr>) -> Self {
        Self {
            proxy: Listen::At(listen),
            admin: admin.map(Listen::At),
            collector: None,
            server,
            upstream,
            source: Source::File(policy),
            store: None,
            probes: Vec::new(),
            limits: Limits::default(),
            // Without endpoints that have to forget it, a server on a laptop ends as soon as its calls do.
            drain: DrainTimes { announce: Duration::ZERO, ..DrainTimes::default() },
        }
    }
}

fn operator_address(url: &str) -> Result<(String, u16), ConfigError> {
    let wrong = |reason: &str| ConfigError::Invalid { name: ENV_OPERATOR, reason: format!("{url}: {reason}") };
    let uri: Uri = url.parse().map_err(|_| wrong("it is not a URL"))?;
    if uri.scheme_str() != Some("https") {
        return Err(wrong("it must begin with https://"));
    }
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(wrong("it must be only scheme, host and port"));
    }
    let host = uri.host().ok_or_else(|| wrong("it names no host"))?;
    Ok((host.to_owned(), uri.port_u16().unwrap_or(443)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &'static [(&'static str, &'static str)]) -> impl Fn(&'static str) -> Option<String> {
        move |name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn serve_needs_to_know_its_operator_and_its_pod() {
        assert_eq!(Config::from_env(env(&[])).unwrap_err(), ConfigError::Missing(ENV_OPERATOR));
        let without_pod = env(&[(ENV_OPERATOR, "https://mcp-policy-operator.mcp-policy-system.svc:443")]);
        assert_eq!(Config::from_env(without_pod).unwrap_err(), ConfigError::Missing(ENV_POD_NAMESPACE));
    }

    #[test]
    fn serve_reads_operator_files_and_probes() {
        let config = Config::from_env(env(&[
            (ENV_OPERATOR, "https://mcp-policy-operator.mcp-policy-system.svc:443"),
            (ENV_POD_NAMESPACE, "imaging"),
            (ENV_POD_NAME, "server-0"),
            (
                ENV_PROBES,
                r#"[{"port":8080,"httpGet":{"path":"/healthz?full=1","headers":[["X-A","b"]]}},{"port":9000,"grpc":{"service":"a"}}]"#,
            ),
        ]))
        .unwrap();
        let Source::Operator(operator) = config.source else { panic!("serve asks the operator") };
        assert_eq!((operator.host.as_str(), operator.port), ("mcp-policy-operator.mcp-policy-system.svc", 443));
        assert_eq!(operator.ca_file, PathBuf::from("/run/mcp-policy/ca.crt"));
        assert_eq!(operator.token_file, PathBuf::from("/run/mcp-policy/token"));
        assert_eq!(config.server, "imaging/server-0");
        let get = HttpGet { scheme: Scheme::Http, path: "/healthz?full=1".to_owned(), headers: vec![("X-A".to_owned(), "b".to_owned())] };
        let grpc = Grpc { service: "a".to_owned() };
        assert_eq!(
            config.probes,
            [(8080, Handler::HttpGet(get)), (9000, Handler::Grpc(grpc))].map(|(port, handler)| Probe { port, handler })
        );
        assert!(!format!("{:?}", config.probes).contains("\"b\""), "values of headers are not logged");
    }

    #[test]
    fn the_operator_is_only_asked_over_tls() {
        for url in ["http://operator:443", "https://operator:443/path", "operator:443", "not a url"] {
            assert!(operator_address(url).is_err(), "{url}");
        }
    }

    #[test]
    fn wrong_probes_are_named() {
        let error = Config::from_env(env(&[(ENV_OPERATOR, "https://operator"), (ENV_PROBES, r#"[{"port":"http"}]"#)])).unwrap_err();
        assert!(error.to_string().starts_with("MCP_POLICY_PROBES: "), "{error}");
    }

    #[test]
    fn an_upstream_is_an_http_url() {
        let plain = UpstreamUrl::parse("http://127.0.0.1:8080").unwrap();
        assert_eq!((plain.host.as_str(), plain.port, plain.path), ("127.0.0.1", 8080, None));
        let with_path = UpstreamUrl::parse("http://[::1]/v1/mcp").unwrap();
        assert_eq!((with_path.host.as_str(), with_path.port, with_path.path.as_deref()), ("::1", 80, Some("/v1/mcp")));
        let https = UpstreamUrl::parse("https://mcp.example.com/mcp").unwrap();
        assert_eq!(
            (https.host.as_str(), https.port, https.authority.as_str(), https.tls),
            ("mcp.example.com", 443, "mcp.example.com", true)
        );
        for url in ["ftp://example.com", "127.0.0.1:8080", "http://user@host", "http://host/mcp?x=1"] {
            assert!(UpstreamUrl::parse(url).is_err(), "{url}");
        }
    }
}
