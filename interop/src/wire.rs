//! Bytes in, bytes out: requests that no HTTP library would send.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// Nobody takes as long as this to answer; whoever does, waits for more.
const PATIENCE: Duration = Duration::from_secs(20);

/// How a caller ends a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It waits until the other side closes.
    Waits,
    /// It says that nothing more comes, and then waits. For what would keep the other side waiting for more.
    HalfCloses,
}

/// What came back on one connection until it was closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    pub bytes: Vec<u8>,
    /// Whether the other side kept the connection open, and said no more.
    pub hung: bool,
}

/// Sends these bytes on a connection of their own and reads what comes back until the other side closes it.
pub fn exchange(to: SocketAddr, bytes: &[u8], end: End) -> Received {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // Whoever refuses the first bytes may close before it has read the last.
    let _ = stream.write_all(bytes);
    if end == End::HalfCloses {
        let _ = stream.shutdown(Shutdown::Write);
    }
    let mut received = Vec::new();
    let hung = match stream.read_to_end(&mut received) {
        Err(error) => matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
        Ok(_) => false,
    };
    Received { bytes: received, hung }
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

impl Received {
    /// The final answers, in order. What cannot be read as an answer ends them.
    pub fn answers(&self) -> Vec<Answer> {
        let mut rest = self.bytes.as_slice();
        let mut answers = Vec::new();
        while let Some((answer, after)) = answer(rest) {
            rest = after;
            if answer.status >= 200 {
                answers.push(answer);
            }
        }
        answers
    }
}

fn answer(bytes: &[u8]) -> Option<(Answer, &[u8])> {
    let (head, body) = split(bytes, b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(head);
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<(String, String)> =
        lines.filter_map(|line| line.split_once(':')).map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
    let header = |name: &str| headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let (body, after) = if status < 200 || status == 204 || status == 304 {
        (Vec::new(), body)
    } else if header("transfer-encoding").is_some() {
        unchunk(body)
    } else if let Some(length) = header("content-length") {
        let length = length.parse::<usize>().ok()?.min(body.len());
        (body[..length].to_vec(), &body[length..])
    } else {
        (body.to_vec(), &[][..])
    };
    Some((Answer { status, headers, body }, after))
}

/// As much of a chunked body as came, and what is behind it.
fn unchunk(mut bytes: &[u8]) -> (Vec<u8>, &[u8]) {
    let mut body = Vec::new();
    while let Some((size, rest)) = split(bytes, b"\r\n") {
        let Some(size) = std::str::from_utf8(size).ok().and_then(|size| usize::from_str_radix(size, 16).ok()) else { break };
        let size_here = size.min(rest.len());
        body.extend_from_slice(&rest[..size_here]);
        bytes = rest[size_here..].strip_prefix(b"\r\n").unwrap_or(&[]);
        if size == 0 {
            return (body, bytes);
        }
    }
    (body, &[])
}

/// What stands before and behind the first `mark`.
pub fn split<'a>(bytes: &'a [u8], mark: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = bytes.windows(mark.len()).position(|window| window == mark)?;
    Some((&bytes[..at], &bytes[at + mark.len()..]))
}
