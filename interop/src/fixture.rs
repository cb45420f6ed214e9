//! The server that the conformance suite asks for (see `conformance/fixture/`).

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::prepared::{folder, node};
use crate::wait::within;

/// How long a tool may take to write down what it did.
const PATIENCE: Duration = Duration::from_secs(10);

/// The command of one that speaks on standard input and output.
pub fn on_stdio() -> Command {
    let mut command = node();
    command.arg(folder().join("conformance/fixture/serve.js")).arg("--stdio");
    command
}

/// A fixture that runs until it is dropped.
#[derive(Debug)]
pub struct Fixture {
    child: Child,
    url: String,
}

impl Fixture {
    /// Starts it, and waits until it listens.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// One that checks neither `Host` nor the headers that mirror the body.
    pub fn trusting() -> Self {
        Self::with(&["--trusting"])
    }

    fn with(arguments: &[&str]) -> Self {
        let serve = folder().join("conformance/fixture/serve.js");
        let mut child = node().arg(serve).args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        assert!(url.starts_with("http://"), "the fixture did not start");
        Self { child, url: url.trim().to_owned() }
    }

    /// Its endpoint.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How often each tool `ran` so far, how many calls were `cancelled`, how many `sessions` were opened.
    pub fn account(&self) -> Value {
        let authority = self.url.trim_start_matches("http://").trim_end_matches("/mcp");
        let mut stream = TcpStream::connect(authority).unwrap();
        write!(stream, "GET /account HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    /// The same as soon as it is so.
    pub fn account_once(&self, is_so: impl Fn(&Value) -> bool) -> Value {
        within(PATIENCE, "the fixture's account", || {
            let account = self.account();
            if is_so(&account) { Ok(account) } else { Err(account.to_string()) }
        })
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
