//! The way to the server: one connection for each connection of a caller, kept while the caller keeps theirs.
//!
//! Guarantees: a request is sent at most once; it is sent again only if nothing of it was written. No redirect is followed.
//! Dropping an answer, or the wait for it, closes the connection, which is how a server learns that its caller is gone.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{HOST, HeaderMap, HeaderValue};
use http::{Method, Request, Response, Uri};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::{Limits, UpstreamUrl};
use crate::headers;

/// How long a connection may be idle and still be used. Common servers close theirs after five seconds; a request that meets
/// the closing must not be sent again, so ours has to be the shorter time.
const MAX_IDLE: Duration = Duration::from_secs(2);

/// Buffer for one connection's reads. hyper's own bound is six times this.
const READ_BUFFER: usize = 64 * 1024;

/// Where a caller's requests go.
#[derive(Clone, Debug)]
pub enum Destination {
    /// The address that the caller dialled.
    Captured(SocketAddr),
    /// The one server of `run`.
    Url(Arc<UpstreamUrl>),
}

impl Destination {
    /// The port that the caller dialled, where that is known.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Captured(address) => Some(address.port()),
            Self::Url(_) => None,
        }
    }

    /// Opens a connection.
    pub async fn connect(&self, within: Duration) -> io::Result<TcpStream> {
        let connecting = async {
            match self {
                Self::Captured(address) => TcpStream::connect(address).await,
                Self::Url(url) => TcpStream::connect((url.host.as_str(), url.port)).await,
            }
        };
        let stream = timeout(within, connecting).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Captured(address) => address.fmt(f),
            Self::Url(url) => f.write_str(&url.authority),
        }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// No connection: nothing was sent.
    #[error("cannot connect: {0}")]
    NotReached(io::Error),
    /// The connection ended before anything was sent on it.
    #[error("the connection ended: {0}")]
    NotSent(hyper::Error),
    /// The server's path is not one.
    #[error("the server's path cannot be requested")]
    Target,
    /// Sent, and the connection ended before an answer began.
    #[error("no answer: {0}")]
    Lost(hyper::Error),
    /// Sent, and no answer began in time.
    #[error("no answer in time")]
    TimedOut,
}

impl SendError {
    /// Whether the server certainly saw nothing.
    #[must_use]
    pub fn nothing_was_sent(&self) -> bool {
        matches!(self, Self::NotReached(_) | Self::NotSent(_) | Self::Target)
    }
}

type Sender = SendRequest<Full<Bytes>>;

/// The way from one caller's connection to the server.
#[derive(Debug)]
pub struct Link {
    destination: Destination,
    idle: Mutex<Option<(Sender, Instant)>>,
    connect_timeout: Duration,
    answer_timeout: Duration,
}

impl Link {
    /// A way to this server. Nothing is opened yet.
    #[must_use]
    pub fn new(destination: Destination, limits: &Limits) -> Self {
        Self { destination, idle: Mutex::new(None), connect_timeout: limits.connect_timeout, answer_timeout: limits.answer_timeout }
    }

    /// Where it leads.
    #[must_use]
    pub fn destination(&self) -> &Destination {
        &self.destination
    }

    /// Sends a request in origin form and waits for the head of the answer.
    pub async fn send(self: &Arc<Self>, mut request: Request<Full<Bytes>>) -> Result<Response<Answer>, SendError> {
        if let Some(sender) = self.take_idle().await {
            match self.exchange(sender, request).await {
                Err((SendError::NotSent(_), Some(unsent))) => request = *unsent,
                answered => return answered.map_err(|(error, _)| error),
            }
        }
        let stream = self.destination.connect(self.connect_timeout).await.map_err(SendError::NotReached)?;
        let (sender, connection) =
            Builder::new().max_buf_size(READ_BUFFER).handshake(TokioIo::new(stream)).await.map_err(SendError::NotSent)?;
        // It ends when the sender and the answer are gone, or the server closes. What went wrong, the request is told.
        tokio::spawn(connection);
        self.exchange(sender, request).await.map_err(|(error, _)| error)
    }

    /// Sends `body`, byte for byte, to `path`, with those headers that may go on; nothing of the caller's target but that.
    pub async fn forward(
        self: &Arc<Self>,
        method: Method,
        path: &str,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Response<Answer>, SendError> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.headers_mut() = headers::to_upstream(headers);
        if let Destination::Url(url) = &self.destination {
            // The server knows itself by this name; one that checks `Host` refuses any other.
            if let Ok(host) = HeaderValue::try_from(&url.authority) {
                request.headers_mut().insert(HOST, host);
            }
        }
        *request.uri_mut() = Uri::try_from(path).map_err(|_| SendError::Target)?;
        self.send(request).await.inspect_err(|error| tracing::warn!(server = %self.destination, %error, "the server gave no answer"))
    }

    async fn exchange(
        self: &Arc<Self>,
        mut sender: Sender,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Answer>, (SendError, Option<Box<Request<Full<Bytes>>>>)> {
        match timeout(self.answer_timeout, sender.try_send_request(request)).await {
            Ok(Ok(response)) => Ok(response.map(|body| {
                let mut answer = Answer { body, give_back: Some((Arc::clone(self), sender)) };
                answer.give_back_at_end();
                answer
            })),
            Ok(Err(mut error)) => match error.take_message() {
                Some(unsent) => Err((SendError::NotSent(error.into_error()), Some(Box::new(unsent)))),
                None => Err((SendError::Lost(error.into_error()), None)),
            },
            Err(_) => Err((SendError::TimedOut, None)),
        }
    }

    /// The connection of the request before, if it can carry another.
    async fn take_idle(&self) -> Option<Sender> {
        let (mut sender, since) = self.idle.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        if since.elapsed() > MAX_IDLE {
            return None;
        }
        // A server that answered before it read the whole request is not ready; do not wait for it longer than for a new one.
        timeout(self.connect_timeout, sender.ready()).await.ok()?.ok()?;
        Some(sender)
    }

    fn give_back(&self, sender: Sender) {
        if !sender.is_closed() {
            *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = Some((sender, Instant::now()));
        }
    }
}

/// The body of the server's answer. Read to its end, it gives its connection back; dropped before, it closes it.
#[derive(Debug)]
pub struct Answer {
    body: Incoming,
    give_back: Option<(Arc<Link>, Sender)>,
}

impl Answer {
    fn give_back_at_end(&mut self) {
        if self.body.is_end_stream()
            && let Some((link, sender)) = self.give_back.take()
        {
            link.give_back(sender);
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(None) => {
                if let Some((link, sender)) = self.give_back.take() {
                    link.give_back(sender);
                }
            }
            Poll::Ready(Some(Ok(_))) => self.give_back_at_end(),
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
