//! Requests whose end two readers could see in different places, on real sockets: refused, the connection closed, the server untouched.
//! mcp.md section 3, rule 12.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

mod support;

use serde_json::{Value, json};
use support::{Server, Sidecar, call};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A call with these header lines, and this body instead of the message.
fn request(lines: &str, body: &str) -> String {
    format!("POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n{lines}\r\n{body}")
}

fn good() -> String {
    let body = call(1, "read").to_string();
    request(&format!("Content-Length: {}\r\n", body.len()), &body)
}

fn chunked() -> String {
    let body = call(2, "read").to_string();
    format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
}

/// Sends these bytes and reads until the other side closes.
async fn send(sidecar: &Sidecar, bytes: &str) -> String {
    let mut stream = TcpStream::connect(sidecar.proxy).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut answer = String::new();
    support::in_time("the connection is closed", stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

/// Requests, and the reason that the audit line gives.
fn faulty() -> Vec<(String, &'static str)> {
    let (body, length) = (call(1, "read").to_string(), call(1, "read").to_string().len());
    let with = |lines: &str| request(lines, &chunked());
    vec![
        (with("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), "framing"),
        (with("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), "framing"),
        (with("Transfer-Encoding: gzip, chunked\r\n"), "framing"),
        (with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), "framing"),
        (request(&format!("Content-Length: {length}\r\nContent-Length: {length}\r\n"), &body), "framing"),
        (good().replace("\r\n", "\n"), "framing"),
        (good().replacen("\r\n", "\n", 1), "framing"),
        (good().replace("\r\n\r\n", "\r\n\n"), "framing"),
        (with("Transfer-Encoding: gzip\r\n"), "head"),
        (with("Transfer-Encoding:\r\n chunked\r\n"), "head"),
        (with("Transfer-Encoding : chunked\r\n"), "head"),
        (with("Transfer-Encoding: chunked\r\n").replace("HTTP/1.1", "HTTP/1.0"), "head"),
        (request("Content-Length: +5\r\n", "12345"), "head"),
        (request("Content-Length: 5\r\nContent-Length: 6\r\n", "12345"), "head"),
    ]
}

#[tokio::test]
async fn a_request_that_could_end_elsewhere_is_refused_and_nothing_behind_it_is_read() {
    let server = Server::with_tools(&[]).await;
    let sidecar = Sidecar::guarding(&server.url(), &json!({"default": "allow"}));
    for (number, (bytes, reason)) in faulty().into_iter().enumerate() {
        let answer = send(&sidecar, &format!("{bytes}{}", good())).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{bytes:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{bytes:?}: {answer}");
        let lines = sidecar.audit.at_least(number + 1).await;
        assert_eq!(lines.len(), number + 1, "{bytes:?}");
        assert_eq!((&lines[number]["code"], &lines[number]["malformed"]), (&Value::from("malformed"), &Value::from(reason)), "{bytes:?}");
    }
    assert_eq!(server.requests(), 0);
}

#[tokio::test]
async fn what_came_before_it_on_the_connection_is_answered() {
    let server = Server::with_tools(&[]).await;
    let sidecar = Sidecar::guarding(&server.url(), &json!({"default": "allow"}));
    for (number, (bytes, _)) in faulty().into_iter().enumerate() {
        let answer = send(&sidecar, &format!("{}{bytes}", good())).await;
        assert_eq!(server.requests(), number + 1, "{bytes:?}: {answer}");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{bytes:?}: {answer}");
        assert!(answer.contains("HTTP/1.1 400 "), "{bytes:?}: {answer}");
    }
}

#[tokio::test]
async fn requests_that_all_read_alike_follow_one_another() {
    let server = Server::with_tools(&[]).await;
    let sidecar = Sidecar::guarding(&server.url(), &json!({"default": "allow"}));
    let in_chunks = request("transfer-encoding: Chunked\r\n", &chunked());
    let last = in_chunks.replace("transfer-encoding", "Connection: close\r\ntransfer-encoding");
    let answer = send(&sidecar, &format!("{}{in_chunks}\r\n{}{last}", good(), good())).await;
    assert_eq!(answer.matches("HTTP/1.1 200 ").count(), 4, "{answer}");
    assert_eq!(server.requests(), 4);
}

#[tokio::test]
async fn a_caller_of_the_older_version_gets_answers_without_chunks() {
    let server = Server::with_tools(&[]).await;
    let sidecar = Sidecar::guarding(&server.url(), &json!({"default": "allow"}));
    let old = good().replace("HTTP/1.1", "HTTP/1.0");
    let kept = old.replace("Content-Length", "Connection: keep-alive\r\nContent-Length");
    let answer = send(&sidecar, &format!("{kept}{old}{}", good())).await;
    assert_eq!(answer.matches("HTTP/1.1 200 ").count(), 2, "the second one closes: {answer}");
    assert_eq!((answer.matches("connection: keep-alive\r\n").count(), answer.matches("connection: close\r\n").count()), (1, 1), "{answer}");
    assert!(!answer.contains("transfer-encoding"), "{answer}");
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn an_answer_to_head_has_no_body() {
    let server = Server::with_tools(&[]).await;
    let sidecar = Sidecar::guarding(&server.url(), &json!({"default": "allow"}));
    let head = "HEAD /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
    let last = good().replace("Content-Length", "Connection: close\r\nContent-Length");
    let answer = send(&sidecar, &format!("{head}{last}")).await;
    let (first, second) = answer.split_once("\r\n\r\n").unwrap();
    assert!(first.starts_with("HTTP/1.1 405 ") && second.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn who_waits_to_be_told_to_send_the_body_is_told_once_the_head_is_judged() {
    let server = Server::with_tools(&[]).await;
    let sidecar = Sidecar::guarding(&server.url(), &json!({"default": "allow"}));
    let body = call(1, "read").to_string();
    let head = request(&format!("Connection: close\r\nExpect: 100-Continue\r\nContent-Length: {}\r\n", body.len()), "");
    let mut stream = TcpStream::connect(sidecar.proxy).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut told = [0; 25];
    support::in_time("the word to go on", stream.read_exact(&mut told)).await.unwrap();
    assert_eq!(&told, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    support::in_time("the connection is closed", stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");

    let elsewhere = head.replace("/mcp", "/elsewhere");
    let answer = send(&sidecar, &elsewhere).await;
    assert!(answer.starts_with("HTTP/1.1 404 ") && answer.contains("connection: close\r\n"), "{answer}");
    assert_eq!(server.requests(), 1);
}
