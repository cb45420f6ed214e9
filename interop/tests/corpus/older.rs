//! HTTP+SSE of 2024-11-05, between a server and a client of the official Python SDK; and the corpus, posted for its streams.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use mcp_policy_interop::client::{Agent, Client};
use mcp_policy_interop::server::Server;
use mcp_policy_interop::sidecar::Sidecar;
use mcp_policy_interop::wire::{End, exchange};
use serde_json::{Value, json};

use crate::{envelope, json as texts, request};

const POLICY: &str = r#"{"tools": {"safe": {}, "danger": {"action": "deny", "reason": "Too dangerous."}, "echo": {}}, "hide": ["region"]}"#;

#[test]
fn a_client_lists_calls_is_refused_and_goes_on_in_the_same_session() {
    let mut server = Server::start_older();
    let sidecar = Sidecar::start_older(POLICY, &format!("http://{}", server.address()));
    let connecting = Client::Python1.command();
    let mut client = Command::new(connecting.get_program());
    client.args(connecting.get_args()).arg(format!("http://{}/sse", sidecar.address()));
    let mut agent = Agent::connect(client);
    assert_eq!(agent.list(), ["safe", "echo"]);
    let denied = agent.call("danger", &json!({}));
    assert_eq!((denied.code(), denied.text().contains("Too dangerous.")), ("tool_denied", true), "{denied:?}");
    assert!(!agent.call("region", &json!({})).passed());
    let passed = agent.call("echo", &json!({"text": "again"}));
    assert!(passed.passed() && passed.text().contains("again"), "{passed:?}");
    let ran: Vec<_> = server.executed().into_iter().map(|execution| execution.tool).collect();
    assert_eq!(ran, ["echo"]);
    drop(agent);
    assert_eq!(tools(&sidecar.end(), "allowed"), ["echo"]);
}

fn tools(audit: &[Value], code: &str) -> Vec<String> {
    audit.iter().filter(|line| line["code"] == code).filter_map(|line| line["tool"].as_str().map(str::to_owned)).collect()
}

/// A stream whose messages are posted by hand.
struct Session {
    stream: BufReader<TcpStream>,
    target: String,
    to: SocketAddr,
}

impl Session {
    fn open(to: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(to).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(b"GET /sse HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n").unwrap();
        let mut session = Self { stream: BufReader::new(stream), target: String::new(), to };
        session.target = session.data(|_| true);
        session.post(r#"{"jsonrpc":"2.0","id":"i","method":"initialize","params":{"protocolVersion":"2024-11-05","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#);
        session.data(|data| data.contains("serverInfo"));
        session.post(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        session
    }

    /// The next data that is wanted.
    fn data(&mut self, wanted: impl Fn(&str) -> bool) -> String {
        loop {
            let mut line = String::new();
            assert!(self.stream.read_line(&mut line).unwrap() > 0, "the stream ended");
            if let Some(data) = line.trim_end().strip_prefix("data: ").filter(|data| wanted(data)) {
                return data.to_owned();
            }
        }
    }

    fn post(&self, message: &str) {
        let request = request::post(message).to(&self.target);
        assert_eq!(exchange(self.to, &request.bytes(), End::Waits).answers()[0].status, 202, "{message}");
    }

    /// Sends these bytes to where the stream's messages go, and waits until whatever they led to is done.
    fn exchange(&mut self, bytes: &[u8], end: End, fence: usize) {
        let moved = replace(bytes, b"POST /mcp HTTP", format!("POST {} HTTP", self.target).as_bytes());
        exchange(self.to, &moved, end);
        self.post(&format!(
            r#"{{"jsonrpc":"2.0","id":"fence-{fence}","method":"tools/call","params":{{"name":"echo","arguments":{{"fence":{fence}}}}}}}"#
        ));
        self.data(|data| data.contains(&format!(r#""fence-{fence}""#)));
    }
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    match mcp_policy_interop::wire::split(bytes, from) {
        Some((before, after)) => [before, to, after].concat(),
        None => bytes.to_vec(),
    }
}

#[test]
fn what_is_logged_as_allowed_is_what_ran() {
    let mut server = Server::start_older();
    let sidecar = Sidecar::start_older(POLICY, &format!("http://{}", server.address()));
    let mut ran: HashMap<String, usize> = HashMap::new();
    let variants: Vec<_> = [texts::all(), envelope::all()].into_iter().flatten().collect();
    assert!(variants.len() > 60, "{}", variants.len());
    for (fence, variant) in variants.iter().enumerate() {
        // What a variant does to a session must not change what the next one does.
        let mut session = Session::open(sidecar.address());
        session.exchange(&variant.bytes, variant.end, fence);
        for execution in server.executed() {
            assert_ne!(execution.tool, "danger", "{}", variant.name);
            *ran.entry(execution.tool).or_default() += 1;
        }
    }
    let mut logged: HashMap<String, usize> = HashMap::new();
    for tool in tools(&sidecar.end(), "allowed") {
        *logged.entry(tool).or_default() += 1;
    }
    assert!(ran["safe"] > 0 && ran["echo"] >= variants.len());
    for (tool, runs) in ran {
        // The server refuses some of what the policy allows.
        assert!(logged.get(&tool).is_some_and(|calls| *calls >= runs), "{tool}: ran {runs} times, logged: {logged:?}");
    }
}
