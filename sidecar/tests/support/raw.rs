//! A server whose bytes are scripted: what it sends is not HTTP unless the script says so.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What the server does next on a connection. After the last step it closes it.
#[derive(Clone, Debug)]
pub enum Step {
    /// Reads one request to its end.
    Read,
    /// Sends these bytes.
    Say(Bytes),
    /// Sends these bytes again and again, as fast as they are taken, for as long as anybody is there.
    Flood(Bytes),
    /// Sends these bytes again and again, one of them at a time.
    Drip(Bytes),
    /// Says nothing until the other side leaves.
    Wait,
}

pub fn say(text: impl Into<String>) -> Step {
    Step::Say(text.into().into())
}

pub fn flood(text: impl Into<String>) -> Step {
    Step::Flood(text.into().into())
}

#[derive(Debug, Default)]
struct Counts {
    connections: AtomicUsize,
    requests: AtomicUsize,
    sent: AtomicUsize,
    left: AtomicUsize,
}

/// The server. Each connection has its own script; the last one is every further connection's.
pub struct RawServer {
    pub address: SocketAddr,
    counts: Arc<Counts>,
    accepting: JoinHandle<()>,
}

impl RawServer {
    pub async fn start(scripts: Vec<Vec<Step>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let counts = Arc::new(Counts::default());
        let accepting = tokio::spawn({
            let counts = Arc::clone(&counts);
            async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let number = counts.connections.fetch_add(1, Ordering::SeqCst);
                    let script = scripts[number.min(scripts.len() - 1)].clone();
                    let counts = Arc::clone(&counts);
                    tokio::spawn(async move {
                        if follow(stream, script, &counts).await.is_err() {
                            counts.left.fetch_add(1, Ordering::SeqCst);
                        }
                    });
                }
            }
        });
        Self { address, counts, accepting }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn connections(&self) -> usize {
        self.counts.connections.load(Ordering::SeqCst)
    }

    /// How many requests came whole.
    pub fn requests(&self) -> usize {
        self.counts.requests.load(Ordering::SeqCst)
    }

    /// How many bytes the kernel took from the server.
    pub fn sent(&self) -> usize {
        self.counts.sent.load(Ordering::SeqCst)
    }

    /// How many connections the other side left before their script was over.
    pub fn left(&self) -> usize {
        self.counts.left.load(Ordering::SeqCst)
    }

    /// Waits until nobody takes anything of what the server sends, and tells how many bytes were taken.
    pub async fn stalled(&self) -> usize {
        let mut before = 0;
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let sent = self.sent();
            if sent > 0 && sent == before {
                return sent;
            }
            before = sent;
        }
    }
}

impl Drop for RawServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn follow(mut stream: TcpStream, script: Vec<Step>, counts: &Counts) -> std::io::Result<()> {
    for step in script {
        match step {
            Step::Read => {
                read_request(&mut stream).await?;
                counts.requests.fetch_add(1, Ordering::SeqCst);
            }
            Step::Say(bytes) => send(&mut stream, &bytes, counts).await?,
            Step::Flood(bytes) => loop {
                send(&mut stream, &bytes, counts).await?;
            },
            Step::Drip(bytes) => loop {
                for byte in bytes.chunks(1) {
                    send(&mut stream, byte, counts).await?;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            },
            Step::Wait => {
                while stream.read(&mut [0; 1024]).await? > 0 {}
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
    Ok(())
}

async fn send(stream: &mut TcpStream, mut bytes: &[u8], counts: &Counts) -> std::io::Result<()> {
    while !bytes.is_empty() {
        let sent = stream.write(bytes).await?;
        counts.sent.fetch_add(sent, Ordering::SeqCst);
        bytes = &bytes[sent..];
    }
    Ok(())
}

/// Reads a head and as much of a body as its length says.
async fn read_request(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let length = head.split("content-length: ").nth(1).map_or(0, |rest| rest.split("\r\n").next().unwrap().parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.map(drop)
}
