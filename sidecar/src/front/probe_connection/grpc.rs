//! The gRPC probe: one call of `grpc.health.v1.Health/Check`, on a connection of its own.
//!
//! Guarantee: the server gets the declared call, written anew; of its answer, nothing but the two numbers that the verdict hangs on comes
//! back.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use h2::server::{Connection, SendResponse};
use h2::{RecvStream, client, server};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TE, USER_AGENT};
use http::{Method, Request, Response, StatusCode, request};
use prost::Message;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::REQUEST;
use crate::config::Limits;
use crate::proxy::{Peer, Proxy};
use crate::upstream::Destination;

const CHECK: &str = "/grpc.health.v1.Health/Check";
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Bytes before a message: whether it is compressed, and its length.
const PREFIX: usize = 5;
/// Bytes of an answer that are read; one that says only how the service is has seven.
const MAX_ANSWER: usize = 256;

/// Time for the answer to be taken, after which the connection closes.
const FAREWELL: Duration = Duration::from_secs(1);

/// How a call that was not answered ended (`google.rpc.Code`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Code(u16);

impl Code {
    const OK: Self = Self(0);
    const UNKNOWN: Self = Self(2);
    const DEADLINE_EXCEEDED: Self = Self(4);
    const UNAVAILABLE: Self = Self(14);
}

/// Why there is no answer to pass on: for whoever asked, all of them are one.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error("cannot connect: {0}")]
    Connect(#[from] std::io::Error),
    #[error("HTTP/2: {0}")]
    Http(#[from] h2::Error),
}

/// Answers the one call of a connection, if it asks for one of these services.
pub(super) async fn serve(stream: TcpStream, services: &[&str], proxy: &Proxy, peer: &Peer, limits: &Limits) {
    let opened = timeout(REQUEST, open(stream, limits)).await;
    let Ok(Some((mut connection, request, respond))) = opened else { return proxy.note_no_probe(peer).await };
    let answering = async {
        let (head, body) = request.into_parts();
        let Ok(Some(message)) = timeout(REQUEST, declared(&head, body, services)).await else {
            proxy.note_no_probe(peer).await;
            return refuse(respond);
        };
        let asked = timeout(limits.answer_timeout, ask(peer.link.destination(), head, message, limits)).await;
        let health = asked.unwrap_or(Ok(Err(Code::DEADLINE_EXCEEDED))).unwrap_or_else(|error| {
            tracing::debug!(%error, "the server did not answer a gRPC probe");
            Err(Code::UNAVAILABLE)
        });
        answer(respond, health)
    };
    // Nobody reads what failed, and nothing follows it.
    if matches!(beside(&mut connection, answering).await, Some(Ok(()))) {
        connection.graceful_shutdown();
        let _ = timeout(FAREWELL, async { while let Some(Ok(_)) = connection.accept().await {} }).await;
    }
}

/// Waits for the first call on a connection.
async fn open(stream: TcpStream, limits: &Limits) -> Option<(Connection<TcpStream, Bytes>, Request<RecvStream>, SendResponse<Bytes>)> {
    let mut settings = server::Builder::new();
    settings.max_concurrent_streams(1).max_header_list_size(u32::try_from(limits.head_bytes).ok()?);
    let mut connection = settings.handshake(stream).await.ok()?;
    let (request, respond) = connection.accept().await?.ok()?;
    Some((connection, request, respond))
}

/// Keeps a connection going while something else is done; none if it ends before. A second call on it is reset.
async fn beside<T>(connection: &mut Connection<TcpStream, Bytes>, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        done = work => Some(done),
        () = async { while let Some(Ok(_)) = connection.accept().await {} } => None,
    }
}

/// The call's message, if it is the check of one of these services.
async fn declared(head: &request::Parts, mut body: RecvStream, services: &[&str]) -> Option<Bytes> {
    let has_type = head.headers.get_all(CONTENT_TYPE).iter().eq([GRPC]);
    let is_check = head.method == Method::POST && head.uri.path_and_query()?.as_str() == CHECK && has_type;
    let expected: Vec<_> = services.iter().map(|service| check(service)).collect();
    let longest = expected.iter().map(Bytes::len).max()?;
    let sent = if is_check { read(&mut body, longest).await? } else { return None };
    expected.into_iter().find(|message| *message == sent)
}

/// The message that asks for a service's health. To a reader of bytes, a message whose first field is a string is a string alone.
fn check(service: &str) -> Bytes {
    framed(&service.to_owned())
}

/// A message that is not compressed, as gRPC frames it.
fn framed(message: &impl Message) -> Bytes {
    let mut framed = BytesMut::with_capacity(PREFIX + message.encoded_len());
    framed.put_u8(0);
    // What is sent here is never as long as that.
    framed.put_u32(u32::try_from(message.encoded_len()).unwrap_or(u32::MAX));
    framed.extend_from_slice(&message.encode_to_vec());
    framed.freeze()
}

/// A whole body; none if it is longer or broken. So few bytes that the sender needs no leave to go on.
async fn read(body: &mut RecvStream, longest: usize) -> Option<Bytes> {
    let mut whole = BytesMut::new();
    while let Some(data) = body.data().await {
        whole.extend_from_slice(&data.ok()?);
        if whole.len() > longest {
            return None;
        }
    }
    Some(whole.freeze())
}

/// How the server says that the service is (`HealthCheckResponse.status`), or how its call ended.
async fn ask(destination: &Destination, head: request::Parts, message: Bytes, limits: &Limits) -> Result<Result<i32, Code>, AskError> {
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    // The server gets the name that was dialled, as it does without the sidecar.
    *request.uri_mut() = head.uri;
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, GRPC);
    headers.insert(TE, HeaderValue::from_static("trailers"));
    for name in [USER_AGENT, GRPC_TIMEOUT] {
        if let Some(value) = head.headers.get(&name) {
            headers.insert(name, value.clone());
        }
    }
    let stream = destination.connect(limits.connect_timeout).await?;
    let mut settings = client::Builder::new();
    settings.enable_push(false).max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX));
    let (sender, connection) = settings.handshake(stream).await?;
    let mut exchange = std::pin::pin!(async {
        let (response, mut sending) = sender.ready().await?.send_request(request, false)?;
        sending.send_data(message, true)?;
        Ok(health(response.await?).await)
    });
    tokio::select! {
        biased;
        answered = &mut exchange => answered,
        // What came before the end is there still.
        _ = connection => exchange.await,
    }
}

/// Reads the server's answer.
async fn health(response: Response<RecvStream>) -> Result<i32, Code> {
    let (head, mut body) = response.into_parts();
    let is_grpc =
        head.status == StatusCode::OK && head.headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(GRPC.as_bytes()));
    if !is_grpc {
        return Err(Code::UNKNOWN);
    }
    let message = read(&mut body, MAX_ANSWER).await.ok_or(Code::UNKNOWN)?;
    let trailers = body.trailers().await.map_err(|_| Code::UNKNOWN)?;
    match code(&trailers.unwrap_or(head.headers)) {
        Code::OK => {}
        code => return Err(code),
    }
    let (prefix, message) = message.split_at_checked(PREFIX).ok_or(Code::UNKNOWN)?;
    if prefix[0] != 0 || prefix[1..] != u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes() {
        return Err(Code::UNKNOWN);
    }
    i32::decode(message).map_err(|_| Code::UNKNOWN)
}

fn code(trailers: &HeaderMap) -> Code {
    let code = trailers.get(GRPC_STATUS).and_then(|code| code.to_str().ok()?.parse().ok());
    code.map_or(Code::UNKNOWN, Code)
}

/// Passes an answer on.
fn answer(mut respond: SendResponse<Bytes>, health: Result<i32, Code>) -> Result<(), h2::Error> {
    let mut response = Response::new(());
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    match health {
        Ok(status) => {
            let mut sending = respond.send_response(response, false)?;
            sending.send_data(framed(&status), false)?;
            sending.send_trailers(HeaderMap::from_iter([(GRPC_STATUS, Code::OK.0.into())]))
        }
        Err(code) => {
            response.headers_mut().insert(GRPC_STATUS, code.0.into());
            respond.send_response(response, true).map(drop)
        }
    }
}

/// Refuses what is no probe.
fn refuse(mut respond: SendResponse<Bytes>) -> Result<(), h2::Error> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::FORBIDDEN;
    respond.send_response(response, true).map(drop)
}
