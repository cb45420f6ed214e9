//! A server that keeps what reached it, byte for byte.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::value::RawValue;

/// A request as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrived {
    pub line: String,
    /// As sent, with names in lower case.
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
}

/// It listens until the test ends.
#[derive(Debug)]
pub struct Recorder {
    address: SocketAddr,
    arrived: Arc<Mutex<Vec<Arrived>>>,
}

impl Recorder {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let arrived = Arc::new(Mutex::new(Vec::new()));
        thread::spawn({
            let arrived = Arc::clone(&arrived);
            move || {
                for stream in listener.incoming() {
                    let arrived = Arc::clone(&arrived);
                    thread::spawn(move || serve(&stream.unwrap(), &arrived));
                }
            }
        });
        Self { address, arrived }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// What arrived since this was asked last.
    pub fn take(&self) -> Vec<Arrived> {
        std::mem::take(&mut self.arrived.lock().unwrap())
    }
}

fn serve(stream: &TcpStream, arrived: &Mutex<Vec<Arrived>>) {
    let mut reader = BufReader::new(stream);
    while let Some(request) = read(&mut reader) {
        let answer = answer(&request);
        arrived.lock().unwrap().push(request);
        // Whoever asked may be gone.
        let _ = { stream }.write_all(&answer);
    }
}

/// The next request; none where the connection ends. The sidecar frames every body by its length.
fn read(reader: &mut impl BufRead) -> Option<Arrived> {
    let mut next_line = || {
        let mut line = Vec::new();
        reader.read_until(b'\n', &mut line).ok()?;
        line.strip_suffix(b"\r\n").map(<[u8]>::to_vec)
    };
    let line = String::from_utf8(next_line()?).unwrap();
    let mut headers = Vec::new();
    loop {
        let line = next_line()?;
        if line.is_empty() {
            break;
        }
        let at = line.iter().position(|byte| *byte == b':').unwrap();
        headers.push((String::from_utf8(line[..at].to_ascii_lowercase()).unwrap(), line[at + 1..].trim_ascii().to_vec()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = length.map_or(0, |(_, length)| str::from_utf8(length).unwrap().parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    Some(Arrived { line, headers, body })
}

/// A result for a request, and nothing for what has no id or is an answer itself.
fn answer(request: &Arrived) -> Vec<u8> {
    let message: HashMap<String, Box<RawValue>> = serde_json::from_slice(&request.body).unwrap_or_default();
    match message.get("id").filter(|_| message.contains_key("method")) {
        Some(id) => {
            let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"resultType":"complete","content":[]}}}}"#);
            format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
        }
        None => b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n".to_vec(),
    }
}
