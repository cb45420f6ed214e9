//! The mcp-policy sidecar: a proxy that decides every MCP tool call before the server sees it.
//!
//! Guarantees: the tool that is logged is the tool that ran: a message is parsed once, strictly, and the very bytes that were judged
//! are forwarded ([`proxy`]). Nothing passes without a policy in force ([`state`]). Every decision has its audit line ([`audit`]).
//!
//! Assumptions: the kernel sends every connection of the pod here ([`capture`]), or nobody else can reach the server.
//!
//! Pure, without clock or network: [`message`], [`headers`], [`mirrored`], [`sse`], [`tools`], [`handshake`], [`task`],
//! [`unknown_tool`], [`respond`], [`exposure`], [`probe`], [`origin`].

pub mod admin;
pub mod answer_fault;
pub mod audit;
pub mod books;
pub mod capture;
pub mod config;
pub mod decision_id;
pub mod drain;
mod edit;
pub mod error;
pub mod events;
pub mod exposure;
mod framing;
pub mod from_server;
pub mod gate;
pub mod handshake;
pub mod headers;
pub mod message;
pub mod metrics;
pub mod mirrored;
pub mod origin;
pub mod probe;
pub mod proxy;
pub mod recent;
pub mod relay;
pub mod respond;
pub mod room;
pub mod server;
pub mod session;
pub mod source;
pub mod sse;
pub mod state;
pub mod task;
pub mod telemetry;
pub mod tools;
pub mod unknown_tool;
pub mod upstream;
pub mod write_timeout;

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;

use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use mcp_policy::Caller;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::audit::Audit;
use crate::books::Books;
use crate::config::{Config, DrainTimes, Limits, Listen, PROXY_PORT, Source, Upstream};
use crate::drain::Drain;
use crate::error::Error;
use crate::exposure::PortUse;
use crate::metrics::Metrics;
use crate::origin::LocalOnly;
use crate::proxy::{Peer, Proxy};
use crate::state::State;
use crate::upstream::{Destination, Link};

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
    audit: Audit,
    tasks: JoinSet<&'static str>,
}

/// Starts a sidecar. Audit lines go to `audit`. Whatever is wrong with the configuration or the policy file is found before
/// anything is bound. To be called within a tokio runtime.
pub fn run(config: Config, audit: impl Write + Send + 'static) -> Result<Bound, Error> {
    let state = Arc::new(State::default());
    let mut tasks = JoinSet::new();
    match config.source {
        Source::File(path) => {
            let file = source::file::PolicyFile::load(path, &state)?;
            let state = Arc::clone(&state);
            tasks.spawn(async move {
                file.follow(state).await;
                "reading the policy file"
            });
        }
        Source::Operator(operator) => {
            let state = Arc::clone(&state);
            tasks.spawn(async move {
                source::operator::follow(operator, state).await;
                "following the operator"
            });
        }
    }

    let (proxy_listener, proxy_address) = bind(config.proxy)?;
    let admin_listener = config.admin.map(bind).transpose()?;
    let admin_address = admin_listener.as_ref().map(|(_, address)| *address);

    let audit = Audit::start(audit).map_err(|cause| Error::System { what: "cannot start the audit log's thread", cause })?;
    let metrics = Metrics::new(Arc::clone(&state));
    let books = Arc::new(Books::new(state, metrics, audit.clone()));
    let drain = Drain::default();

    if let Some((listener, _)) = admin_listener {
        tasks.spawn(serve_admin(listener, Arc::clone(&books), drain.clone(), config.limits.clone()));
    }
    let local_only = match &config.upstream {
        Upstream::Captured => None,
        Upstream::Url(_) => LocalOnly::for_listener(proxy_address),
    };
    let gateway = Gateway {
        proxy: Proxy::new(Arc::clone(&books), config.probes.clone(), local_only, config.limits.clone(), drain.clone()),
        books,
        upstream: match config.upstream {
            Upstream::Captured => None,
            Upstream::Url(url) => Some(Destination::Url(Arc::new(url))),
        },
        name: config.server.into(),
        probes: config.probes,
        limits: config.limits,
        drain: drain.clone(),
    };
    tasks.spawn(serve_callers(proxy_listener, Arc::new(gateway)));
    tracing::info!(version = env!("CARGO_PKG_VERSION"), proxy = %proxy_address, admin = ?admin_address, "listening");
    Ok(Bound { proxy: proxy_address, admin: admin_address, drain, times: config.drain, audit, tasks })
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
        self.audit.flush().await;
        Ok(())
    }
}

fn bind(listen: Listen) -> Result<(TcpListener, SocketAddr), Error> {
    let listener = server::bind(listen)?;
    let address = listener.local_addr().map_err(|cause| Error::System { what: "a listener has no address", cause })?;
    Ok((listener, address))
}

async fn serve_admin(listener: TcpListener, books: Arc<Books>, drain: Drain, limits: Limits) -> &'static str {
    let router = admin::router(books, drain);
    // Not the callers' drain: health and metrics are served to the end.
    let own = Drain::default();
    let connections = own.clone();
    server::accept(listener, ADMIN_CONNECTIONS, own, move |stream, peer| {
        let (router, limits, drain) = (router.clone(), limits.clone(), connections.clone());
        async move {
            let service = hyper_util::service::TowerToHyperService::new(router.layer(axum::Extension(admin::From(peer))));
            server::http(stream, &limits, &drain, service).await;
        }
    })
    .await;
    "serving the admin port"
}

/// Takes callers' connections.
struct Gateway {
    proxy: Proxy,
    books: Arc<Books>,
    /// The one server; none where the kernel knows which one was dialled.
    upstream: Option<Destination>,
    name: Arc<str>,
    probes: Vec<config::Probe>,
    limits: Limits,
    drain: Drain,
}

async fn serve_callers(listener: TcpListener, gateway: Arc<Gateway>) -> &'static str {
    let (connections, drain) = (gateway.limits.connections, gateway.drain.clone());
    server::accept(listener, connections, drain, move |stream, peer| {
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
            None => match server::original_destination(&stream) {
                // A loopback caller that dialled the proxy itself: there is nothing to forward to but ourselves.
                Ok(original) if original.port() == PROXY_PORT => return server::reset(stream),
                Ok(original) if !server::is_own(original) => {
                    tracing::warn!(%peer, %original, "refused a connection to another machine");
                    return server::reset(stream);
                }
                Ok(original) => Destination::Captured(original),
                Err(cause) => {
                    tracing::warn!(%peer, %cause, "refused a connection that was not captured");
                    return server::reset(stream);
                }
            },
        };
        if let Some(port) = destination.port() {
            if self.books.state.enforced().exposure.port(port) == PortUse::Passthrough {
                return self.tunnel(stream, &destination).await;
            }
            // Accepting would tell the kubelet that the server listens.
            if probe::opens(&self.probes, port) && destination.connect(self.limits.connect_timeout).await.is_err() {
                return server::reset(stream);
            }
        }
        let server = match &self.upstream {
            Some(_) => self.name.to_string(),
            None => format!("{}:{}", self.name, destination.port().unwrap_or_default()),
        };
        let link = Arc::new(Link::new(destination, &self.limits, self.books.metrics.clone()));
        let peer = Peer { caller: Caller::anonymous(peer.ip()), link, server, name: Arc::clone(&self.name) };
        let (stream, heads) = framing::watch(stream);
        let (proxy, peer) = (&self.proxy, &peer);
        let service = service_fn(|request: Request<Incoming>| {
            let is_faulty = heads.next_is_faulty();
            async move { if is_faulty { proxy.refuse_framing(peer).await } else { proxy.handle(peer, request).await } }
        });
        if server::http(stream, &self.limits, &self.drain, service).await {
            // Without a line nothing more may be judged, and nothing is: the connection has ended.
            let _ = proxy.note_unreadable(peer).await;
        }
    }

    /// A port that the policies pass through.
    async fn tunnel(&self, mut caller: TcpStream, destination: &Destination) {
        let Ok(mut server) = destination.connect(self.limits.connect_timeout).await else { return server::reset(caller) };
        // Either side may hang up at any moment; there is nobody to tell.
        let _ = copy_bidirectional(&mut caller, &mut server).await;
    }
}
