//! What a connection can begin with, and how an answer is sent by hand.

#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers outside of test functions")]

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::{Instant, timeout};

use mcp_policy_operator::streams::{Beginning, HEAD_BYTES, Rewound, answer, beginning};

const WATCH: &str = "GET /v1/watch HTTP/1.1\r\nhost: operator\r\nauthorization: Bearer t\r\n\r\n";

/// What these parts, each sent after the other was read, are the beginning of.
async fn begin(parts: &[&[u8]]) -> Beginning {
    let (mut client, mut server) = duplex(256 * 1024);
    let send = async {
        for part in parts {
            client.write_all(part).await.unwrap();
            tokio::task::yield_now().await;
        }
        drop(client);
    };
    let (read, ()) = tokio::join!(timeout(Duration::from_secs(5), beginning(&mut server)), send);
    read.expect("it is clear at the latest when the connection ends").unwrap()
}

#[tokio::test]
async fn a_plain_get_is_taken_however_it_is_cut() {
    for cut in 0..WATCH.len() {
        let (one, other) = WATCH.as_bytes().split_at(cut);
        let Beginning::Get(request) = begin(&[one, other]).await else { panic!("cut at {cut}") };
        assert_eq!((request.uri().path(), &request.headers()["authorization"]), ("/v1/watch", &"Bearer t".parse().unwrap()));
    }
}

#[tokio::test]
async fn whatever_is_no_plain_get_goes_to_hyper_as_it_came() {
    let long = format!("GET /v1/watch HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(HEAD_BYTES));
    let endless = format!("GET /v1/watch HTTP/1.1\r\n{}", "x: y\r\n".repeat(HEAD_BYTES));
    let many = format!("GET /v1/watch HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(101));
    let pipelined = WATCH.repeat(2);
    for (head, is_whole) in [
        ("", true),
        ("\r\n", true),
        ("\x16\x03\x01", true),
        ("POST /v1/report HTTP/1.1\r\n\r\n", true),
        ("GETS /v1/watch HTTP/1.1\r\n\r\n", true),
        ("GET /v1/watch HTTP/1.0\r\n\r\n", true),
        ("GET /v1/watch HTTP/2\r\n\r\n", true),
        ("GET /v1/watch\r\n\r\n", true),
        ("GET  HTTP/1.1\r\n\r\n", true),
        ("GET /v1/watch HTTP/1.1\r\nhost", true),
        ("GET /v1/watch HTTP/1.1\r\nno colon\r\n\r\n", true),
        ("GET /v1/watch HTTP/1.1\r\na b: c\r\n\r\n", true),
        ("GET /v1/watch HTTP/1.1\r\ncontent-length: 1\r\n\r\n", true),
        ("GET /v1/watch HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n", true),
        ("GET /v1/watch HTTP/1.1\r\nexpect: 100-continue\r\n\r\n", true),
        ("GET /v1/watch HTTP/1.1\r\nupgrade: h2c\r\n\r\n", true),
        (&many, true),
        (&pipelined, true),
        (&long, false),
        (&endless, false),
    ] {
        let Beginning::Other(read) = begin(&[head.as_bytes()]).await else { panic!("{head:.60}") };
        assert!(head.as_bytes().starts_with(&read) && (!is_whole || read.len() == head.len()), "{head:.60}: {} read", read.len());
        assert!(read.len() <= 2 * HEAD_BYTES, "{head:.60}: {} are held", read.len());
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_has_half_a_minute_however_it_drips() {
    let (mut client, mut server) = duplex(64);
    let drip = async {
        for byte in WATCH.as_bytes() {
            client.write_all(&[*byte]).await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let begun = Instant::now();
    tokio::select! {
        begins = beginning(&mut server) => assert_eq!(begins.unwrap_err().kind(), io::ErrorKind::TimedOut),
        () = drip => panic!("the whole head was awaited"),
    }
    assert_eq!(begun.elapsed().as_secs(), 30);
}

#[tokio::test]
async fn what_was_read_comes_again_before_the_rest() {
    let (mut client, rest) = duplex(64);
    client.write_all(b" and the rest").await.unwrap();
    drop(client);
    let mut read = Vec::new();
    Rewound { beginning: Bytes::from_static(b"the beginning"), rest }.read_to_end(&mut read).await.unwrap();
    assert_eq!(read, b"the beginning and the rest");
}

/// Answers over a pipe with room for so much, in a task of its own; and the other end of the pipe.
fn answering(room: usize, response: Response<Body>) -> (DuplexStream, tokio::task::JoinHandle<io::Result<()>>) {
    let (client, mut server) = duplex(room);
    (client, tokio::spawn(async move { answer(&mut server, response).await }))
}

fn lines(lines: &'static [&'static str]) -> Body {
    Body::from_stream(stream::iter(lines).map(|line| Ok::<_, Infallible>(Bytes::from_static(line.as_bytes()))))
}

fn endless() -> Body {
    Body::from_stream(stream::pending::<Result<Bytes, Infallible>>())
}

#[tokio::test]
async fn a_client_of_another_make_reads_the_whole_answer() {
    for (status, body, wanted) in [
        (
            StatusCode::OK,
            lines(&["one\n", "", "two, which is longer than fifteen bytes\n"]),
            "one\ntwo, which is longer than fifteen bytes\n",
        ),
        (StatusCode::FORBIDDEN, Body::from("no\n"), "no\n"),
        (StatusCode::NOT_FOUND, Body::empty(), ""),
    ] {
        let response = Response::builder().status(status).header("content-length", "4096").header("x", "y").body(body).unwrap();
        let (client, mut server) = duplex(16);
        let serve = async {
            let Beginning::Get(_) = beginning(&mut server).await.unwrap() else { panic!("the client sends a plain GET") };
            answer(&mut server, response).await.unwrap();
        };
        let ask = async {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(client)).await.unwrap();
            tokio::spawn(connection);
            let response = sender.send_request(Request::get("/").body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
            let ((head, body), is_date) = (response.into_parts(), |date: &HeaderValue| date.to_str().unwrap().ends_with(" GMT"));
            assert_eq!((head.status, &head.headers["x"], is_date(&head.headers["date"])), (status, &HeaderValue::from_static("y"), true));
            assert_eq!(body.collect().await.unwrap().to_bytes(), wanted);
        };
        tokio::join!(serve, ask);
    }
}

#[tokio::test]
async fn an_answer_ends_with_the_connection_or_with_more_than_was_asked() {
    for sends in [None, Some(WATCH)] {
        let (mut client, answered) = answering(1024, Response::new(endless()));
        let mut head = [0; 17];
        client.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 200 OK\r\n");
        match sends {
            None => drop(client),
            Some(sends) => client.write_all(sends.as_bytes()).await.unwrap(),
        }
        timeout(Duration::from_secs(5), answered).await.expect("it ends").unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn who_takes_nothing_is_given_up() {
    let begun = Instant::now();
    let (client, answered) = answering(8, Response::new(endless()));
    assert_eq!(answered.await.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert_eq!(begun.elapsed().as_secs(), 30);
    drop(client);
}

#[tokio::test]
async fn an_answer_that_breaks_off_does_not_look_whole() {
    let body = Body::from_stream(stream::iter([Ok(Bytes::from_static(b"one")), Err(io::Error::other("broken"))]));
    let (mut client, answered) = answering(1024, Response::new(body));
    let mut read = Vec::new();
    client.read_to_end(&mut read).await.unwrap();
    answered.await.unwrap().unwrap_err();
    assert!(read.ends_with(b"\r\n\r\n3\r\none\r\n"), "{}", String::from_utf8_lossy(&read));
}
