//! The mcp-policy sidecar: a proxy that decides every MCP tool call before the server sees it.
//!
//! Guarantees: the tool that is logged is the tool that ran: a message is parsed once, strictly, and the very bytes that were judged
//! are forwarded ([`proxy`]). Nothing passes without a policy in force ([`state`]). Every decision has its audit line ([`books::audit`]).
//!
//! Assumptions: the kernel sends every connection of the pod here ([`capture`]), or nobody else can reach the server.
//!
//! Pure, without clock or network: [`message`], [`respond`], and of [`front`] the headers, origins, probes and exposure, of [`answer`]
//! event streams, lists, handshakes, tasks and unknown tools.

pub mod admin;
pub mod answer;
pub mod approvals;
pub mod authenticate;
pub mod books;
pub mod bridge;
pub mod capture;
pub mod config;
pub mod drain;
pub mod error;
pub mod front;
#[cfg(fuzzing)]
pub mod fuzzing;
mod http1;
pub mod message;
pub mod proxy;
pub mod respond;
pub mod room;
pub mod session;
pub mod source;
pub mod spans;
pub mod state;
pub mod stdio;
pub mod store;
pub mod telemetry;
pub mod two_endpoints;
pub mod upstream;
pub mod verdict;

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::approvals::Desk;
use crate::authenticate::Identity;
use crate::books::Books;
use crate::books::audit::Audit;
use crate::books::metrics::Metrics;
use crate::bridge::Bridge;
use crate::config::{Collector, Config, ConfigError, DrainTimes, Limits, Listen, PROXY_PORT, Source, StdioConfig, Upstream};
use crate::drain::Drain;
use crate::error::Error;
use crate::front::exposure::PortUse;
use crate::front::origin::LocalOnly;
use crate::front::probe_connection::ProbeConnections;
use crate::proxy::{Peer, Proxy};
use crate::spans::Spans;
use crate::state::State;
use crate::stdio::child::{self, Server};
use crate::stdio::{Conversation, Pair};
use crate::store::StoreAddress;
use crate::upstream::{Destination, Link, Tls};

/// Connections of the admin port: kubelet, scraper, a person.
const ADMIN_CONNECTIONS: usize = 64;

/// A sidecar that runs.
#[derive(Debug)]
pub struct Bound {
    /// Where callers arrive.
    pub proxy: SocketAddr,
    /// Where health and metrics are served.
    pub admin: Option<SocketAddr>,
    /// How it is made to end.
    pub drain: Drain,
    times: DrainTimes,
    bridge: Option<Arc<Bridge>>,
    books: Arc<Books>,
    tasks: JoinSet<&'static str>,
}

/// Starts a sidecar. Audit lines go to `audit`. Whatever is wrong with the configuration or the policy file is found before
/// anything is bound. To be called within a tokio runtime.
pub fn run(config: Config, audit: impl Write + Send + 'static) -> Result<Bound, Error> {
    let mut core = Core::load(config.source, config.store)?;
    let (proxy_listener, proxy_address) = bind(config.proxy)?;
    let books = core.open(config.admin, &config.limits, audit, config.collector)?;
    let bridge = match &config.upstream {
        Upstream::Command(server) => Some(Arc::new(Bridge::new(server.clone(), config.limits.clone()))),
        Upstream::Captured | Upstream::Url(_) => None,
    };
    let local_only = match &config.upstream {
        Upstream::Captured => None,
        Upstream::Url(_) | Upstream::Command(_) => LocalOnly::for_listener(proxy_address),
    };
    let gateway = Gateway {
        probes: ProbeConnections::new(&config.probes).map_err(|cause| Error::System { what: "no certificate for HTTPS probes", cause })?,
        proxy: Arc::new(Proxy::new(Arc::clone(&books), config.probes, local_only, config.limits.clone(), core.drain.clone())),
        books: Arc::clone(&books),
        upstream: match config.upstream {
            Upstream::Captured => None,
            Upstream::Url(url) => {
                let tls = url.tls.then(|| Tls::with(&url.host)).transpose()?;
                Some(Destination::Url(Arc::new(url), tls))
            }
            Upstream::Command(_) => bridge.clone().map(Destination::Bridge),
        },
        name: config.server.into(),
        limits: config.limits,
        drain: core.drain.clone(),
    };
    core.tasks.spawn(serve_callers(proxy_listener, Arc::new(gateway)));
    let Core { drain, tasks, admin, .. } = core;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), proxy = %proxy_address, ?admin, "listening");
    Ok(Bound { proxy: proxy_address, admin, drain, times: config.drain, books, bridge, tasks })
}

/// Starts a sidecar between a client and a server on stdio. `client` is what the client says, and `to_client` where it listens; audit
/// lines go to `audit`. To be called within a tokio runtime.
pub fn run_stdio<R, W>(config: StdioConfig, audit: impl Write + Send + 'static, client: R, to_client: W) -> Result<Pair<R, W>, Error>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut core = Core::load(Source::File(config.policy), config.store)?;
    let books = core.open(config.admin.map(Listen::At), &config.limits, audit, config.collector)?;
    let Server { process, input, output } = child::start(&config.server)?;
    let Core { drain, admin, tasks, .. } = core;
    let name = config.server.name();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), server = name, ?admin, "listening on standard input");
    let conversation = Conversation::new(Arc::clone(&books), name.into(), config.limits, input.clone(), to_client);
    Ok(Pair { admin, drain, tasks, books, client, conversation, input, output, process })
}

/// What every form of the sidecar has: policies that are followed, an end, a port for health and metrics.
struct Core {
    state: Arc<State>,
    drain: Drain,
    admin: Option<SocketAddr>,
    desk: Option<Desk>,
    tasks: JoinSet<&'static str>,
}

impl Core {
    /// Puts the first policies in force, and follows their changes.
    fn load(source: Source, store: Option<StoreAddress>) -> Result<Self, Error> {
        let state = match &source {
            Source::File(_) => State::default(),
            Source::Operator(operator) => State::under(operator.clone()),
        };
        let state = Arc::new(state);
        state.share_counters(store, "");
        let mut tasks = JoinSet::new();
        let mut desk = None;
        match source {
            Source::File(path) => {
                let files = source::file::PolicyFiles::load(path, &state)?;
                let state = Arc::clone(&state);
                tasks.spawn(async move {
                    files.follow(state).await;
                    "reading the policies"
                });
            }
            Source::Operator(operator) => {
                desk = Some(Desk::new(operator.clone()));
                let state = Arc::clone(&state);
                tasks.spawn(async move {
                    source::operator::follow(operator, state).await;
                    "following the operator"
                });
            }
        }
        Ok(Self { state, drain: Drain::default(), admin: None, desk, tasks })
    }

    /// Opens the books, and the port by which they can be read.
    fn open(
        &mut self,
        admin: Option<Listen>,
        limits: &Limits,
        audit: impl Write + Send + 'static,
        collector: Option<Collector>,
    ) -> Result<Arc<Books>, Error> {
        let listener = admin.map(bind).transpose()?;
        let metrics = Metrics::new(Arc::clone(&self.state));
        let audit = Audit::start(audit, metrics.audit_lines_lost())
            .map_err(|cause| Error::System { what: "cannot start the audit log's thread", cause })?;
        let spans = collector.map(|collector| Spans::start(collector, metrics.spans_lost())).transpose();
        let spans = spans.map_err(|cause| ConfigError::Spans(cause.to_string()))?;
        let books = Arc::new(Books::new(Arc::clone(&self.state), metrics, audit, spans, self.desk.take()));
        if let Some((listener, address)) = listener {
            self.admin = Some(address);
            self.tasks.spawn(serve_admin(listener, Arc::clone(&books), self.drain.clone(), limits.clone()));
        }
        Ok(books)
    }
}

impl Bound {
    /// Runs until it is told to end ([`Drain::terminate`]) and has drained, or until something ends that must not.
    pub async fn finished(mut self) -> Result<(), Error> {
        let drained = self.drain.run(self.times);
        tokio::pin!(drained);
        loop {
            tokio::select! {
                () = &mut drained => break,
                Some(ended) = self.tasks.join_next() => {
                    // Accepting ends when the drain says so.
                    if !self.drain.is_terminating() {
                        return Err(Error::TaskEnded(ended.unwrap_or("a task")));
                    }
                }
            }
        }
        if let Some(bridge) = self.bridge {
            bridge.end().await;
        }
        self.books.flush().await;
        Ok(())
    }
}

fn bind(listen: Listen) -> Result<(TcpListener, SocketAddr), Error> {
    let listener = front::server::bind(listen)?;
    let address = listener.local_addr().map_err(|cause| Error::System { what: "a listener has no address", cause })?;
    Ok((listener, address))
}

async fn serve_admin(listener: TcpListener, books: Arc<Books>, drain: Drain, limits: Limits) -> &'static str {
    let router = admin::router(books, drain);
    // Not the callers' drain: health and metrics are served to the end.
    let own = Drain::default();
    let connections = own.clone();
    front::server::accept(listener, ADMIN_CONNECTIONS, own, move |stream, peer| {
        let (router, limits, drain) = (router.clone(), limits.clone(), connections.clone());
        async move {
            let service = hyper_util::service::TowerToHyperService::new(router.layer(axum::Extension(admin::From(peer))));
            front::server::http(stream, &limits, &drain, service).await;
        }
    })
    .await;
    "serving the admin port"
}

/// Takes callers' connections.
struct Gateway {
    proxy: Arc<Proxy>,
    probes: ProbeConnections,
    books: Arc<Books>,
    /// The one server; none where the kernel knows which one was dialled.
    upstream: Option<Destination>,
    name: Arc<str>,
    limits: Limits,
    drain: Drain,
}

async fn serve_callers(listener: TcpListener, gateway: Arc<Gateway>) -> &'static str {
    let (connections, drain) = (gateway.limits.connections, gateway.drain.clone());
    front::server::accept(listener, connections, drain, move |stream, peer| {
        let gateway = Arc::clone(&gateway);
        async move { gateway.connection(stream, peer).await }
    })
    .await;
    "accepting connections"
}

impl Gateway {
    async fn connection(&self, stream: TcpStream, peer: SocketAddr) {
        let destination = match &self.upstream {
            Some(upstream) => upstream.clone(),
            None => match front::server::original_destination(&stream) {
                // A loopback caller that dialled the proxy itself: there is nothing to forward to but ourselves.
                Ok(original) if original.port() == PROXY_PORT => return front::server::reset(stream),
                Ok(original) if !front::server::is_own(original) => {
                    tracing::warn!(%peer, %original, "refused a connection to another machine");
                    return front::server::reset(stream);
                }
                Ok(original) => Destination::Captured(original),
                Err(cause) => {
                    tracing::warn!(%peer, %cause, "refused a connection that was not captured");
                    return front::server::reset(stream);
                }
            },
        };
        if let Some(port) = destination.port()
            && self.books.state.enforced().exposure.port(port) == PortUse::Passthrough
        {
            return self.tunnel(stream, &destination).await;
        }
        let server = match &self.upstream {
            Some(_) => Arc::clone(&self.name),
            None => format!("{}:{}", self.name, destination.port().unwrap_or_default()).into(),
        };
        let link = Arc::new(Link::new(destination, &self.limits, self.books.metrics.clone()));
        let identity = Identity::anonymous(peer.ip());
        let peer = Peer { address: peer.ip(), identity, link, server, name: Arc::clone(&self.name) };
        if let Some(probes) = self.probes.of(peer.link.destination()) {
            // Apart, so that other connections do not keep room for it.
            return Box::pin(probes.serve(stream, &self.proxy, &peer, &self.limits, &self.drain)).await;
        }
        front::connection::serve(stream, &self.proxy, &peer, &self.limits, &self.drain).await;
    }

    /// A port that the policies pass through.
    async fn tunnel(&self, mut caller: TcpStream, destination: &Destination) {
        let Ok(mut server) = destination.connect(self.limits.connect_timeout).await else { return front::server::reset(caller) };
        // Either side may hang up at any moment; there is nobody to tell.
        let _ = copy_bidirectional(&mut caller, &mut server).await;
    }
}
