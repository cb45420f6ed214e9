//! The way to the server: one connection for each connection of a caller, kept while the caller keeps theirs.
//!
//! Guarantees: a request is sent at most once; it is sent again only if nothing of it was written. No redirect is followed.
//! Dropping an answer, or the wait for it, closes the connection, which is how a server learns that its caller is gone.

mod connection;
pub mod fault;
mod halves;
mod tls;
mod wire;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{HOST, HeaderMap, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, Response};
use http_body::{Body, Frame, SizeHint};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::books::metrics::Metrics;
use crate::bridge::{self, Bridge};
use crate::config::{Limits, UpstreamUrl};
use crate::front::headers::{self, Carrier};
use crate::http1::head::AnswerHead;
use connection::{Connection, Outgoing};
pub use fault::{AnswerError, SendError};
pub use tls::Tls;
use wire::Patience;
pub use wire::Wire;

/// How long a connection may be idle and still be used. Common servers close theirs after five seconds; a request that meets
/// the closing must not be sent again, so ours has to be the shorter time.
const MAX_IDLE: Duration = Duration::from_secs(2);

/// Where a caller's requests go.
#[derive(Clone, Debug)]
pub enum Destination {
    /// The address that the caller dialled.
    Captured(SocketAddr),
    /// The one server of `run`, reached over TLS if there is any.
    Url(Arc<UpstreamUrl>, Option<Tls>),
    /// The one server of `run`, on stdio.
    Bridge(Arc<Bridge>),
}

impl Destination {
    /// The port that the caller dialled, where that is known.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Captured(address) => Some(address.port()),
            Self::Url(..) | Self::Bridge(_) => None,
        }
    }

    /// Opens a connection, without TLS.
    pub async fn connect(&self, within: Duration) -> io::Result<TcpStream> {
        let connecting = async {
            match self {
                Self::Captured(address) => TcpStream::connect(address).await,
                Self::Url(url, _) => TcpStream::connect((url.host.as_str(), url.port)).await,
                Self::Bridge(_) => Err(io::ErrorKind::Unsupported.into()),
            }
        };
        let stream = in_time(within, connecting).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Opens a connection as the server wants it.
    async fn open(&self, within: Duration) -> io::Result<Connection> {
        let stream = self.connect(within).await?;
        let halves = match self {
            // Apart, so that it takes no room of requests to other servers.
            Self::Url(_, Some(tls)) => halves::tls(Box::pin(in_time(within, tls.over(stream))).await?),
            _ => halves::plain(stream),
        };
        Ok(Connection::new(halves))
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Captured(address) => address.fmt(f),
            Self::Url(url, _) => f.write_str(&url.authority),
            Self::Bridge(_) => f.write_str("the server on stdio"),
        }
    }
}

async fn in_time<T>(within: Duration, coming: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(within, coming).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// The way from one caller's connection to the server.
#[derive(Debug)]
pub struct Link {
    destination: Destination,
    idle: Mutex<Option<(Connection, Instant)>>,
    times: Times,
    metrics: Metrics,
}

/// How long a server may take. See [`Limits`].
#[derive(Clone, Copy, Debug)]
struct Times {
    connect: Duration,
    answer: Duration,
    idle: Duration,
    stream_idle: Duration,
    total: Duration,
}

impl Link {
    /// A way to this server. Nothing is opened yet.
    #[must_use]
    pub fn new(destination: Destination, limits: &Limits, metrics: Metrics) -> Self {
        let times = Times {
            connect: limits.connect_timeout,
            answer: limits.answer_timeout,
            idle: limits.idle_timeout,
            stream_idle: limits.stream_idle_timeout,
            total: limits.total_timeout,
        };
        Self { destination, idle: Mutex::new(None), times, metrics }
    }

    /// Where it leads.
    #[must_use]
    pub fn destination(&self) -> &Destination {
        &self.destination
    }

    /// Sends a request in origin form, whose headers are all that the server gets, and waits for the head of the answer.
    pub async fn send(self: &Arc<Self>, request: &Request<Bytes>) -> Result<Response<Answer>, SendError> {
        let headers = request.headers();
        let target = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
        self.exchange(&Outgoing::new(request.method(), target, headers, request.body().clone())).await
    }

    /// Sends `body`, byte for byte, to `path`, with those headers that may go on; nothing of the caller's target but that.
    pub async fn forward(
        self: &Arc<Self>,
        method: Method,
        path: &str,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Response<Answer>, SendError> {
        let warn = |error: &SendError| {
            self.metrics.answer_failed(error.fault());
            tracing::warn!(server = %self.destination, %error, "the server gave no answer");
        };
        let host = match &self.destination {
            Destination::Bridge(bridge) => {
                // Apart, so that it takes no room of requests to other servers.
                let answered = Box::pin(timeout(self.times.answer, bridge.forward(&method, headers, &body))).await;
                return answered.unwrap_or(Err(SendError::TimedOut)).map(|response| response.map(Answer::Bridge)).inspect_err(warn);
            }
            // The server knows itself by this name; one that checks `Host` refuses any other.
            Destination::Url(url, _) => HeaderValue::try_from(&url.authority).ok(),
            Destination::Captured(_) => None,
        };
        let kept = headers::to_upstream(headers).filter(|(name, _)| host.is_none() || *name != HOST);
        let outgoing = Outgoing::new(&method, path, host.iter().map(|host| (&HOST, host)).chain(kept), body);
        self.exchange(&outgoing).await.inspect_err(warn)
    }

    async fn exchange(self: &Arc<Self>, outgoing: &Outgoing) -> Result<Response<Answer>, SendError> {
        if let Some(connection) = self.take_idle() {
            match self.exchange_on(connection, outgoing).await {
                Err(SendError::NotSent(_)) => {}
                answered => return answered,
            }
        }
        let connection = self.destination.open(self.times.connect).await.map_err(SendError::NotReached)?;
        self.exchange_on(connection, outgoing).await
    }

    async fn exchange_on(self: &Arc<Self>, mut connection: Connection, outgoing: &Outgoing) -> Result<Response<Answer>, SendError> {
        let sent = Instant::now();
        let AnswerHead { response, framing, keep_alive } = connection.exchange(outgoing, sent + self.times.answer).await?;
        let (silence, end) = match headers::carrier(response.headers()) {
            Carrier::EventStream => (self.times.stream_idle, None),
            Carrier::Json | Carrier::Other => (self.times.idle, Some(sent + self.times.total)),
        };
        let patience = Patience { silence, end, waiting: None };
        Ok(response.map(|()| Answer::Wire(Wire::new(connection, Arc::clone(self), framing, keep_alive, patience))))
    }

    /// The connection of the request before, if it can carry another.
    fn take_idle(&self) -> Option<Connection> {
        let (mut connection, since) = self.idle.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        (since.elapsed() <= MAX_IDLE && connection.is_quiet()).then_some(connection)
    }

    /// Keeps a connection on which nothing is under way.
    fn give_back(&self, connection: Connection) {
        *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = Some((connection, Instant::now()));
    }
}

/// The body of the server's answer.
#[derive(Debug)]
pub enum Answer {
    /// From a connection.
    Wire(Wire),
    /// From a server on stdio.
    Bridge(bridge::Answer),
}

impl Body for Answer {
    type Data = Bytes;
    type Error = AnswerError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        let data = match &mut *self {
            Self::Wire(wire) => wire.poll(cx),
            Self::Bridge(answer) => answer.poll(cx),
        };
        data.map(|data| data.map(|data| data.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Wire(wire) => wire.is_over(),
            Self::Bridge(answer) => answer.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Wire(wire) => wire.size_hint(),
            Self::Bridge(answer) => answer.size().map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}
