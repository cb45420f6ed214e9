//! How a sidecar ends: what runs is finished, what has no end is ended, and what does not end is cut off.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

mod support;

use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use mcp_policy_sidecar::config::DrainTimes;
use serde_json::{Value, json};
use support::{Client, Reply, Server, Sidecar, call, eventually, in_time, mcp, next_bytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// Long enough that a test which needs it to pass fails.
const FOREVER: Duration = Duration::from_hours(1);

fn allow() -> Value {
    json!({"default": "allow"})
}

fn with_times(upstream: &Server, announce: Duration, deadline: Duration) -> Sidecar {
    Sidecar::configured(&upstream.url(), &allow(), |config| config.drain = DrainTimes { announce, deadline })
}

/// A server that answers with the stream that the test feeds.
async fn streaming() -> (mpsc::Sender<Bytes>, Server) {
    let (sender, reply) = Reply::stream();
    let reply = Mutex::new(Some(reply));
    (sender, Server::start(move |_| reply.lock().unwrap().take().unwrap()).await)
}

fn listen() -> Request<Full<Bytes>> {
    Request::get("/mcp").header("host", "localhost").header("accept", "text/event-stream").body(Full::default()).unwrap()
}

async fn ask_to_drain(sidecar: &Sidecar) -> StatusCode {
    let request = Request::post("/drain").header("host", "localhost").body(Full::default()).unwrap();
    Client::connect(sidecar.admin).await.send(request).await.status
}

#[tokio::test]
async fn an_announced_end_is_not_ready_and_still_serves() {
    let server = Server::with_tools(&[]).await;
    let sidecar = with_times(&server, FOREVER, FOREVER);
    let mut client = Client::connect(sidecar.proxy).await;
    let before = client.send(mcp(call(1, "read").to_string())).await;
    assert!(before.ran() && !before.headers.contains_key("connection"));

    assert_eq!(ask_to_drain(&sidecar).await, StatusCode::OK);
    let ready = sidecar.get_admin("/readyz").await;
    assert_eq!((ready.status, ready.text().as_str()), (StatusCode::SERVICE_UNAVAILABLE, "draining\n"));
    assert_eq!(sidecar.get_admin("/livez").await.status, StatusCode::OK);

    let after = client.send(mcp(call(2, "read").to_string())).await;
    assert!(after.ran());
    assert_eq!(after.headers["connection"], "close");
    in_time("the connection is closed", client.connection).await.unwrap().unwrap();
    assert!(sidecar.call("read").await.ran(), "new connections are taken");
    assert_eq!(server.requests(), 3);
    assert!(!sidecar.ended.is_finished());
}

#[tokio::test]
async fn a_call_in_flight_is_finished_and_idle_connections_are_closed() {
    let (sender, server) = streaming().await;
    let sidecar = with_times(&server, Duration::ZERO, FOREVER);
    let mut idle = TcpStream::connect(sidecar.proxy).await.unwrap();
    let mut client = Client::connect(sidecar.proxy).await;
    let mut response = client.open(mcp(call(1, "read").to_string())).await;
    sender.send(Bytes::from_static(b"data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\"}\n\n")).await.unwrap();
    next_bytes(&mut response).await.unwrap();

    sidecar.drain.terminate();
    assert_eq!(in_time("the idle connection is closed", idle.read(&mut [0; 1])).await.unwrap(), 0);
    eventually("no new connections", async || TcpStream::connect(sidecar.proxy).await.is_err()).await;
    assert!(!sidecar.ended.is_finished(), "the call is not over");

    sender.send(Bytes::from_static(b"data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n")).await.unwrap();
    next_bytes(&mut response).await.unwrap();
    drop(sender);
    assert_eq!(next_bytes(&mut response).await, None);
    in_time("the end", sidecar.ended).await.unwrap();
    assert_eq!(sidecar.audit.all()[0]["upstreamStatus"], 200, "the line is written before the end");
}

#[tokio::test]
async fn a_stream_without_an_end_is_ended_between_two_events() {
    let (sender, server) = streaming().await;
    let sidecar = with_times(&server, Duration::ZERO, FOREVER);
    let mut client = Client::connect(sidecar.proxy).await;
    let mut response = client.open(listen()).await;
    sender
        .send(Bytes::from_static(b"data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\"}\n\ndata: {\"half"))
        .await
        .unwrap();
    let first = next_bytes(&mut response).await.unwrap();
    assert!(first.ends_with(b"\n\n"));

    sidecar.drain.terminate();
    assert_eq!(next_bytes(&mut response).await, None, "an orderly end, and nothing of the half event");
    in_time("the end", sidecar.ended).await.unwrap();
    eventually("the server sees the end", async || server.abandoned() == 1).await;
}

#[tokio::test]
async fn at_the_deadline_a_call_without_an_answer_is_told_so_and_half_a_request_is_cut_off() {
    let server = Server::start(|_| Reply::Never).await;
    let sidecar = with_times(&server, Duration::ZERO, Duration::from_millis(50));
    let mut half = TcpStream::connect(sidecar.proxy).await.unwrap();
    half.write_all(b"POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{").await.unwrap();
    let mut client = Client::connect(sidecar.proxy).await;
    let waiting = tokio::spawn(async move { client.send(mcp(call(1, "read").to_string())).await });
    eventually("the call arrives", async || server.requests() == 1).await;
    eventually("the half request arrives", async || sidecar.metrics().await.contains("mcp_policy_requests_in_flight 2")).await;

    sidecar.drain.terminate();
    let answer = in_time("an answer", waiting).await.unwrap();
    assert_eq!(answer.denial()["code"], "upstream_unreachable");
    assert!(answer.text().contains("may have run"), "{}", answer.text());
    // The half request still holds the end up.
    assert!(sidecar.metrics().await.contains("mcp_policy_upstream_faults_total{reason=\"drained\"} 1"));
    in_time("the end", sidecar.ended).await.unwrap();
    eventually("the server sees the end", async || server.abandoned() == 1).await;
    let lines = sidecar.audit.all();
    assert_eq!(lines.len(), 1, "the call was decided, the half request was not");
    assert_eq!((&lines[0]["code"], &lines[0]["upstreamFault"]), (&json!("upstream_unreachable"), &json!("drained")));
}

#[tokio::test]
async fn at_the_deadline_half_an_answer_becomes_one_that_can_be_read() {
    let (sender, reply) = Reply::stream();
    let Reply::Stream(mut head, bytes) = reply else { unreachable!("a stream is one") };
    head.headers_mut().insert("content-type", "application/json".parse().unwrap());
    let reply = Mutex::new(Some(Reply::Stream(head, bytes)));
    let server = Server::start(move |_| reply.lock().unwrap().take().unwrap()).await;
    let sidecar = with_times(&server, Duration::ZERO, Duration::from_millis(50));
    let mut client = Client::connect(sidecar.proxy).await;
    let waiting = tokio::spawn(async move { client.send(mcp(call(1, "read").to_string())).await });
    sender.send(Bytes::from_static(br#"{"jsonrpc":"2.0","#)).await.unwrap();
    sidecar.drain.terminate();
    assert_eq!(in_time("an answer", waiting).await.unwrap().denial()["code"], "upstream_unreachable");
    in_time("the end", sidecar.ended).await.unwrap();
}

#[tokio::test]
async fn at_the_deadline_a_stream_that_answers_something_says_so_and_ends_between_two_events() {
    let (sender, server) = streaming().await;
    let sidecar = with_times(&server, Duration::ZERO, Duration::from_millis(50));
    let mut client = Client::connect(sidecar.proxy).await;
    let mut response = client.open(mcp(json!({"jsonrpc": "2.0", "id": 7, "method": "tools/list"}).to_string())).await;
    let begun = b"data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\"}\n\ndata: {\"half";
    sender.send(Bytes::from_static(begun)).await.unwrap();
    next_bytes(&mut response).await.unwrap();

    sidecar.drain.terminate();
    let last = next_bytes(&mut response).await.unwrap();
    let last: Value = serde_json::from_str(std::str::from_utf8(&last).unwrap().trim_end().rsplit_once("data: ").unwrap().1).unwrap();
    assert_eq!((&last["id"], &last["error"]["code"]), (&json!(7), &json!(-32603)));
    assert_eq!(next_bytes(&mut response).await, None, "an orderly end");
    in_time("the end", sidecar.ended).await.unwrap();
    eventually("the server sees the end", async || server.abandoned() == 1).await;
}

#[tokio::test]
async fn new_connections_are_taken_until_the_announcement_is_over() {
    let server = Server::with_tools(&[]).await;
    let sidecar = with_times(&server, Duration::from_secs(1), FOREVER);
    sidecar.drain.terminate();
    let answer = sidecar.call("read").await;
    assert!(answer.ran());
    assert_eq!(answer.headers["connection"], "close");
    in_time("the end", sidecar.ended).await.unwrap();
    assert!(TcpStream::connect(sidecar.proxy).await.is_err());
}

#[tokio::test]
async fn an_answer_that_is_being_read_ends_whole() {
    let big = "x".repeat(3_000_000);
    let text = big.clone();
    let server = Server::start(move |got| {
        Reply::json(&json!({"jsonrpc": "2.0", "id": got.json()["id"], "result": {"content": [{"type": "text", "text": text}]}}))
    })
    .await;
    let sidecar = with_times(&server, Duration::ZERO, FOREVER);
    let mut client = Client::connect(sidecar.proxy).await;
    let response = client.open(mcp(call(1, "read").to_string())).await;
    sidecar.drain.terminate();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let answer: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(answer["result"]["content"][0]["text"], big);
    in_time("the end", sidecar.ended).await.unwrap();
}
