//! Messages that no SDK would send.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    process::{Child, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use serde::Deserialize;
use serde_json::Value;

use crate::cluster::{command, root, run};

/// An HTTP answer.
#[derive(Debug, Clone, Deserialize)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The headers, their names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body as it came.
    pub body: String,
}

impl Response {
    /// The JSON-RPC message in the body, be it JSON or the first event of a stream.
    pub fn message(&self) -> Value {
        let event = self.body.lines().filter_map(|line| line.strip_prefix("data:")).find(|data| !data.trim().is_empty());
        serde_json::from_str(event.unwrap_or(&self.body)).unwrap_or_else(|error| panic!("{error} in {:?}", self.body))
    }
}

/// Posts these very bytes. `headers` are `name: value`, and replace those that a client would send.
pub fn post(url: &str, headers: &[&str], body: &[u8]) -> Response {
    let mut python = command("python3");
    python.arg(root().join("e2e/raw.py")).arg(url).args(headers);
    serde_json::from_str(&run(&mut python, Some(body)).unwrap_or_else(|why| panic!("POST {url}: {why}"))).unwrap()
}

/// An event stream that a GET has opened.
#[derive(Debug)]
pub struct Stream {
    child: Child,
    lines: Receiver<String>,
}

impl Stream {
    /// Opens one. `headers` are `name: value`.
    pub fn open(url: &str, headers: &[&str]) -> Self {
        let mut python = command("python3");
        python.arg(root().join("e2e/stream.py")).arg(url).args(headers);
        let mut child = python.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let stream = Self { child, lines };
        assert_eq!(stream.line(Duration::from_mins(1)).as_deref(), Some("200"), "the stream was not opened");
        stream
    }

    /// Whether it ends within this time.
    pub fn ends_within(&self, time: Duration) -> bool {
        self.line(time).as_deref() == Some("end")
    }

    fn line(&self, time: Duration) -> Option<String> {
        self.lines.recv_timeout(time).ok()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The text of a `tools/call` with this id.
pub fn call(id: u64, tool: &str, arguments: &Value) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}","arguments":{arguments}}}}}"#)
}
