//! Bytes in, bytes out: requests that no HTTP library would send.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// How long the sidecar may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// How a caller ends a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It waits until the other side closes.
    Waits,
    /// It says that nothing more comes, and then waits. For what would keep the other side waiting for more.
    HalfCloses,
}

/// What came back on one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    pub bytes: Vec<u8>,
    /// Whether the other side kept the connection open, and said no more.
    pub hung: bool,
}

/// Sends these bytes on a connection of their own and reads what comes back until the other side closes it.
pub fn exchange(to: SocketAddr, bytes: &[u8], end: End) -> Received {
    exchange_until(to, bytes, end, usize::MAX, PATIENCE)
}

/// As [`exchange`], but ends when so many answers are there: some servers keep a connection that they were asked to close.
pub fn exchange_until(to: SocketAddr, bytes: &[u8], end: End, answers: usize, patience: Duration) -> Received {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(patience)).unwrap();
    // Whoever refuses the first bytes may close before it has read the last.
    let _ = stream.write_all(bytes);
    if end == End::HalfCloses {
        let _ = stream.shutdown(Shutdown::Write);
    }
    let mut received = Received { bytes: Vec::new(), hung: false };
    let mut piece = [0; 16 * 1024];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return received,
            Ok(length) => received.bytes.extend_from_slice(&piece[..length]),
            Err(error) => {
                received.hung = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
                return received;
            }
        }
        if received.complete() >= answers {
            return received;
        }
    }
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
    /// The final answers, in order, the last as far as it came. What cannot be read as an answer ends them.
    pub fn answers(&self) -> Vec<Answer> {
        self.read().into_iter().map(|(answer, _)| answer).collect()
    }

    fn complete(&self) -> usize {
        self.read().iter().filter(|(_, is_complete)| *is_complete).count()
    }

    /// The final answers, and whether each came to its end.
    fn read(&self) -> Vec<(Answer, bool)> {
        let mut rest = self.bytes.as_slice();
        let mut answers = Vec::new();
        while let Some((answer, after)) = answer(rest) {
            rest = after.unwrap_or_default();
            if answer.status >= 200 {
                answers.push((answer, after.is_some()));
            }
        }
        answers
    }
}

/// The first answer, and what is behind it; nothing if more of it has to come.
fn answer(bytes: &[u8]) -> Option<(Answer, Option<&[u8]>)> {
    let (head, body) = split(bytes, b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(head);
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<(String, String)> =
        lines.filter_map(|line| line.split_once(':')).map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
    let header = |name: &str| headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let (body, after) = if status < 200 || status == 204 || status == 304 {
        (Vec::new(), Some(body))
    } else if header("transfer-encoding").is_some() {
        unchunk(body)
    } else if let Some(length) = header("content-length") {
        let length = length.parse::<usize>().ok()?;
        (body[..length.min(body.len())].to_vec(), body.get(length..))
    } else {
        (body.to_vec(), None)
    };
    Some((Answer { status, headers, body }, after))
}

/// As much of a chunked body as came, and what is behind it.
fn unchunk(mut bytes: &[u8]) -> (Vec<u8>, Option<&[u8]>) {
    let mut body = Vec::new();
    while let Some((size, rest)) = split(bytes, b"\r\n") {
        let Some(size) = std::str::from_utf8(size).ok().and_then(|size| usize::from_str_radix(size, 16).ok()) else { break };
        body.extend_from_slice(&rest[..size.min(rest.len())]);
        let Some(after) = rest.get(size..).and_then(|rest| rest.strip_prefix(b"\r\n")) else { break };
        if size == 0 {
            return (body, Some(after));
        }
        bytes = after;
    }
    (body, None)
}

/// What stands before and behind the first `mark`.
pub fn split<'a>(bytes: &'a [u8], mark: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = bytes.windows(mark.len()).position(|window| window == mark)?;
    Some((&bytes[..at], &bytes[at + mark.len()..]))
}
