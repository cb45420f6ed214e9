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
use tokio::time::{Sleep, sleep_until, timeout};

use crate::answer::answer_fault::AnswerFault;
use crate::books::metrics::Metrics;
use crate::bridge::{self, Bridge};
use crate::config::{Limits, UpstreamUrl};
use crate::front::headers::{self, Carrier};
use crate::stdio::child::WriteError;

/// How long a connection may be idle and still be used. Common servers close theirs after five seconds; a request that meets
/// the closing must not be sent again, so ours has to be the shorter time.
const MAX_IDLE: Duration = Duration::from_secs(2);

/// Bytes of an answer's head, and of one read of its body: what a server can make one connection hold while its caller takes nothing.
/// hyper's own bound is twenty-five times this.
const READ_BUFFER: usize = 16 * 1024;

/// Where a caller's requests go.
#[derive(Clone, Debug)]
pub enum Destination {
    /// The address that the caller dialled.
    Captured(SocketAddr),
    /// The one server of `run`.
    Url(Arc<UpstreamUrl>),
    /// The one server of `run`, on stdio.
    Bridge(Arc<Bridge>),
}

impl Destination {
    /// The port that the caller dialled, where that is known.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Captured(address) => Some(address.port()),
            Self::Url(_) | Self::Bridge(_) => None,
        }
    }

    /// Opens a connection.
    pub async fn connect(&self, within: Duration) -> io::Result<TcpStream> {
        let connecting = async {
            match self {
                Self::Captured(address) => TcpStream::connect(address).await,
                Self::Url(url) => TcpStream::connect((url.host.as_str(), url.port)).await,
                Self::Bridge(_) => Err(io::ErrorKind::Unsupported.into()),
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
            Self::Bridge(_) => f.write_str("the server on stdio"),
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
    /// The server on stdio cannot be started.
    #[error("{0}")]
    NotStarted(String),
    /// The server on stdio ended too often to be started again at once.
    #[error("the server ends again and again; it is started again later")]
    Backoff,
    /// So many sessions are in use that there is no room for another server on stdio.
    #[error("too many sessions")]
    TooManySessions,
    /// The server on stdio did not take the message.
    #[error(transparent)]
    NotWritten(#[from] WriteError),
    /// Sent, and the server on stdio ended before an answer began.
    #[error("the server has ended")]
    Ended,
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
        self.fault() == AnswerFault::NotReached
    }

    /// The same for metrics, audit lines and the agent.
    #[must_use]
    pub fn fault(&self) -> AnswerFault {
        match self {
            Self::NotReached(_) | Self::NotSent(_) | Self::Target | Self::NotStarted(_) | Self::Backoff | Self::TooManySessions => {
                AnswerFault::NotReached
            }
            Self::NotWritten(error) => error.fault(),
            Self::Lost(cause) if cause.is_parse() => AnswerFault::NotHttp,
            Self::Lost(_) | Self::Ended => AnswerFault::NoAnswer,
            Self::TimedOut => AnswerFault::AnswerTimeout,
        }
    }
}

/// Why an answer that has begun does not end.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// The connection ended, or the framing broke.
    #[error("the answer was cut off: {0}")]
    CutOff(hyper::Error),
    /// The server on stdio has ended.
    #[error("the server has ended")]
    Ended,
    /// Nothing came for too long.
    #[error("the answer stopped coming")]
    Idle,
    /// It took too long.
    #[error("the answer did not end in time")]
    TooLong,
}

impl AnswerError {
    /// The same for metrics, audit lines and the agent.
    #[must_use]
    pub fn fault(&self) -> AnswerFault {
        match self {
            Self::CutOff(_) | Self::Ended => AnswerFault::CutOff,
            Self::Idle => AnswerFault::IdleTimeout,
            Self::TooLong => AnswerFault::TotalTimeout,
        }
    }
}

type Sender = SendRequest<Full<Bytes>>;

/// The way from one caller's connection to the server.
#[derive(Debug)]
pub struct Link {
    destination: Destination,
    idle: Mutex<Option<(Sender, Instant)>>,
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

    /// Sends a request in origin form and waits for the head of the answer.
    pub async fn send(self: &Arc<Self>, mut request: Request<Full<Bytes>>) -> Result<Response<Answer>, SendError> {
        if let Some(sender) = self.take_idle().await {
            match self.exchange(sender, request).await {
                Err((SendError::NotSent(_), Some(unsent))) => request = *unsent,
                answered => return answered.map_err(|(error, _)| error),
            }
        }
        let stream = self.destination.connect(self.times.connect).await.map_err(SendError::NotReached)?;
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
        let warn = |error: &SendError| {
            self.metrics.answer_failed(error.fault());
            tracing::warn!(server = %self.destination, %error, "the server gave no answer");
        };
        if let Destination::Bridge(bridge) = &self.destination {
            let answered = timeout(self.times.answer, bridge.forward(&method, headers, &body)).await;
            return answered.unwrap_or(Err(SendError::TimedOut)).map(|response| response.map(Answer::Bridge)).inspect_err(warn);
        }
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
        self.send(request).await.inspect_err(warn)
    }

    async fn exchange(
        self: &Arc<Self>,
        mut sender: Sender,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Answer>, (SendError, Option<Box<Request<Full<Bytes>>>>)> {
        let sent = Instant::now();
        match timeout(self.times.answer, sender.try_send_request(request)).await {
            Ok(Ok(response)) => {
                let patience = match headers::carrier(response.headers()) {
                    Carrier::EventStream => Patience::new(self.times.stream_idle, None),
                    Carrier::Json | Carrier::Other => Patience::new(self.times.idle, Some(sent + self.times.total)),
                };
                Ok(response.map(|body| {
                    let mut answer = Wire { body, patience, give_back: Some((Arc::clone(self), sender)) };
                    answer.give_back_at_end();
                    Answer::Wire(answer)
                }))
            }
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
        timeout(self.times.connect, sender.ready()).await.ok()?.ok()?;
        Some(sender)
    }

    fn give_back(&self, sender: Sender) {
        if !sender.is_closed() {
            *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = Some((sender, Instant::now()));
        }
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
        match &mut *self {
            Self::Wire(wire) => Pin::new(wire).poll_frame(cx),
            Self::Bridge(answer) => answer.poll(cx).map(|data| data.map(|data| data.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Wire(wire) => wire.is_end_stream(),
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

/// The body of an answer from a connection. Read to its end, it gives its connection back; dropped before, it closes it.
#[derive(Debug)]
pub struct Wire {
    body: Incoming,
    patience: Patience,
    give_back: Option<(Arc<Link>, Sender)>,
}

impl Wire {
    fn give_back_at_end(&mut self) {
        if self.body.is_end_stream()
            && let Some((link, sender)) = self.give_back.take()
        {
            link.give_back(sender);
        }
    }

    /// Nothing more of it passes, and its connection is closed.
    fn failed(&mut self, error: AnswerError) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        if let Some((link, _)) = self.give_back.take() {
            link.metrics.answer_failed(error.fault());
            tracing::warn!(server = %link.destination, %error, "the server's answer failed");
        }
        Poll::Ready(Some(Err(error)))
    }
}

impl Body for Wire {
    type Data = Bytes;
    type Error = AnswerError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.patience.waiting = None;
                self.give_back_at_end();
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => {
                if let Some((link, sender)) = self.give_back.take() {
                    link.give_back(sender);
                }
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(cause))) => self.failed(AnswerError::CutOff(cause)),
            Poll::Pending => match self.patience.poll_end(cx) {
                Poll::Ready(error) => self.failed(error),
                Poll::Pending => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// How long an answer is waited for. Time counts only while it is: a caller who takes the answer slowly is not the server's fault.
#[derive(Debug)]
struct Patience {
    silence: Duration,
    end: Option<Instant>,
    /// Since the last piece; none while nothing is waited for. Most answers come at once and never have one.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    fn new(silence: Duration, end: Option<Instant>) -> Self {
        Self { silence, end, waiting: None }
    }

    /// Nothing has come. Ends when that lasts too long; however fast pieces come, there is a moment without one now and then.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<AnswerError> {
        let Self { silence, end, waiting } = self;
        let waiting = waiting.get_or_insert_with(|| {
            let silent = Instant::now() + *silence;
            Box::pin(sleep_until(end.map_or(silent, |end| silent.min(end)).into()))
        });
        match waiting.as_mut().poll(cx) {
            Poll::Ready(()) => {
                Poll::Ready(if end.is_some_and(|end| Instant::now() >= end) { AnswerError::TooLong } else { AnswerError::Idle })
            }
            Poll::Pending => Poll::Pending,
        }
    }
}
