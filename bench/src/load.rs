//! Calls, as fast as they are answered (closed loop) or at a fixed rate (open loop), and how long each took. The client is written by
//! hand and does next to nothing, so that it leaves the machine to the contestants.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::upstream::ANSWER;

/// Bytes of a call's argument, and of its answer.
pub const SIZES: [usize; 3] = [200, 16 * 1024, 1024 * 1024];

/// How the server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One JSON text.
    Json,
    /// An event stream of one notification and the answer.
    Events,
}

impl Form {
    /// For tables, and for the server.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Events => "events",
        }
    }
}

/// One kind of load.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Connections, each with one call at a time.
    pub connections: usize,
    /// One of [`SIZES`].
    pub size: usize,
    /// How the server answers.
    pub form: Form,
    /// Calls a second over all connections; none: as fast as they are answered.
    pub rate: Option<f64>,
}

impl Shape {
    /// The answer as the server knows it.
    #[must_use]
    pub fn answer(&self) -> String {
        format!("{} {}", self.form.name(), self.size)
    }
}

/// What one run found.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// Calls that were answered.
    pub calls: usize,
    /// Calls a second.
    pub rate: f64,
    /// Half of the calls took at most this long, in microseconds.
    pub p50: f64,
    /// All but one in a hundred did.
    pub p99: f64,
}

/// Runs a load for a time, after a tenth of it that is not measured.
pub async fn run(address: SocketAddr, shape: Shape, time: Duration) -> anyhow::Result<Run> {
    let mut tasks = JoinSet::new();
    let mut connections = Vec::new();
    for _ in 0..shape.connections {
        connections.push(Connection::open(address, shape).await?);
    }
    let begin = Instant::now() + time / 10;
    let end = begin + time;
    for (number, connection) in connections.into_iter().enumerate() {
        tasks.spawn(connection.calls(shape, number, begin, end));
    }
    let mut took = Vec::new();
    while let Some(one) = tasks.join_next().await {
        took.extend(one??);
    }
    ensure!(!took.is_empty(), "no call was answered in {time:?}");
    took.sort_unstable();
    let at = |share: f64| {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "an index")]
        let index = ((took.len() - 1) as f64 * share) as usize;
        took[index].as_secs_f64() * 1e6
    };
    #[allow(clippy::cast_precision_loss, reason = "a rate")]
    let rate = took.len() as f64 / time.as_secs_f64();
    Ok(Run { calls: took.len(), rate, p50: at(0.5), p99: at(0.99) })
}

/// Calls so many times, one call after the other.
pub async fn times(address: SocketAddr, count: usize) -> anyhow::Result<()> {
    let shape = Shape { connections: 1, size: SIZES[0], form: Form::Json, rate: None };
    let mut connection = Connection::open(address, shape).await?;
    for _ in 0..count {
        connection.call().await?;
    }
    Ok(())
}

/// Opens streams and keeps them until the result is dropped.
pub async fn streams(address: SocketAddr, count: usize) -> anyhow::Result<Vec<TcpStream>> {
    let request = format!("GET /mcp HTTP/1.1\r\nhost: {address}\r\naccept: text/event-stream\r\n\r\n");
    let mut streams = Vec::new();
    for _ in 0..count {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut head = [0; 1024];
        let read = stream.read(&mut head).await?;
        ensure!(head[..read].starts_with(b"HTTP/1.1 200"), "no stream: {}", String::from_utf8_lossy(&head[..read]));
        streams.push(stream);
    }
    Ok(streams)
}

/// One connection, and the one request that it sends again and again.
struct Connection {
    stream: TcpStream,
    request: Vec<u8>,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(address: SocketAddr, shape: Shape) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut connection = Self { stream, request: Vec::new(), buffer: vec![0; 64 * 1024] };
        let answer = format!("{ANSWER}: {}\r\n", shape.answer());
        let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
            "name": "read_study",
            "arguments": {"study": "s-1", "padding": "x".repeat(shape.size)},
        }});
        connection.request = post(address, &answer, &call.to_string());
        Ok(connection)
    }

    async fn calls(mut self, shape: Shape, number: usize, begin: Instant, end: Instant) -> anyhow::Result<Vec<Duration>> {
        #[allow(clippy::cast_precision_loss, reason = "numbers of connections")]
        let (connections, number) = (shape.connections as f64, number as f64);
        let interval = shape.rate.map(|rate| Duration::from_secs_f64(connections / rate));
        let mut due = interval.map_or(begin, |interval| begin + interval.mul_f64(number / connections));
        let mut took = Vec::new();
        loop {
            let called = match interval {
                // A call that is late because the one before it was slow has waited since it was due.
                Some(interval) => {
                    while Instant::now() < due {
                        tokio::task::yield_now().await;
                    }
                    let now_due = due;
                    due += interval;
                    now_due
                }
                None => Instant::now(),
            };
            if called >= end {
                return Ok(took);
            }
            self.call().await?;
            if called >= begin {
                took.push(called.elapsed());
            }
        }
    }

    /// Sends the request and reads the whole answer.
    async fn call(&mut self) -> anyhow::Result<()> {
        self.stream.write_all(&self.request).await?;
        let mut filled = 0;
        let head = loop {
            filled += self.read(filled).await?;
            if let Some(end) = self.buffer[..filled].windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let text = std::str::from_utf8(&self.buffer[..head]).context("a head that is no text")?.to_ascii_lowercase();
        ensure!(text.starts_with("http/1.1 20"), "refused: {}", String::from_utf8_lossy(&self.buffer[..filled]));
        let length = text.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next()?.parse::<usize>().ok());
        if let Some(length) = length {
            let mut missing = (head + length).saturating_sub(filled);
            while missing > 0 {
                let read = self.read(0).await?;
                missing = missing.saturating_sub(read);
            }
        } else if text.contains("transfer-encoding: chunked") {
            let mut last = self.buffer[head.max(filled.saturating_sub(5))..filled].to_vec();
            while !last.ends_with(b"0\r\n\r\n") {
                let read = self.read(0).await?;
                last.extend_from_slice(&self.buffer[..read]);
                last.drain(..last.len().saturating_sub(5));
            }
        }
        Ok(())
    }

    async fn read(&mut self, from: usize) -> anyhow::Result<usize> {
        let read = self.stream.read(&mut self.buffer[from..]).await?;
        ensure!(read > 0, "the connection was closed");
        Ok(read)
    }
}

fn post(address: SocketAddr, headers: &str, body: &str) -> Vec<u8> {
    let accept = "application/json, text/event-stream";
    let length = body.len();
    format!("POST /mcp HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\naccept: {accept}\r\n{headers}content-length: {length}\r\n\r\n{body}")
        .into_bytes()
}
