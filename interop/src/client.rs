//! Clients that others wrote, told what to do step by step (see `clients/`).

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::prepared::{folder, node, python};
use crate::sidecar::build;

/// A client, at the version of its list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// The official Python SDK, first major line.
    Python1,
    /// The official Python SDK, second major line: speaks the newest revision that the server has.
    Python2,
    /// `FastMCP`, on the second line of the Python SDK.
    FastMcp,
    /// The official TypeScript SDK, first major line.
    TypeScript1,
    /// The official TypeScript SDK, second major line, as it comes: opens a session.
    TypeScript2,
    /// The same, told to look for the newest revision.
    TypeScript2Newest,
    /// The official Rust SDK, as it comes: opens a session.
    Rust,
    /// The same, told to look for the newest revision.
    RustNewest,
}

impl Client {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Python1,
        Self::Python2,
        Self::FastMcp,
        Self::TypeScript1,
        Self::TypeScript2,
        Self::TypeScript2Newest,
        Self::Rust,
        Self::RustNewest,
    ];

    /// Package and version.
    pub fn name(self) -> &'static str {
        match self {
            Self::Python1 => "Python `mcp` 1.30.0",
            Self::Python2 => "Python `mcp` 2.3.0",
            Self::FastMcp => "Python `fastmcp` 4.0.11",
            Self::TypeScript1 => "`@modelcontextprotocol/sdk` 1.32.2",
            Self::TypeScript2 => "`@modelcontextprotocol/client` 2.4.0",
            Self::TypeScript2Newest => "`@modelcontextprotocol/client` 2.4.0, `auto`",
            Self::Rust => "Rust `rmcp` 3.11.0",
            Self::RustNewest => "Rust `rmcp` 3.11.0, `Discover`",
        }
    }

    /// The revision that it speaks with a server that has all.
    pub fn revision(self) -> &'static str {
        match self {
            Self::Python1 | Self::TypeScript1 | Self::TypeScript2 | Self::Rust => "2025-11-25",
            Self::Python2 | Self::FastMcp | Self::TypeScript2Newest | Self::RustNewest => "2026-07-28",
        }
    }

    /// The program; the server's URL is its last argument.
    pub fn command(self) -> Command {
        let with_python = |list| with(Command::new(python(list)), &["clients/python/agent.py"]);
        let with_node = |line| with(node(), &["clients/typescript.js", line]);
        let rust = |opening| {
            static RUST: OnceLock<std::path::PathBuf> = OnceLock::new();
            let program = RUST.get_or_init(|| build(&["--package", "mcp-policy-interop", "--example", "rmcp"]).join("examples/rmcp"));
            let mut command = Command::new(program);
            command.arg(opening);
            command
        };
        match self {
            Self::Python1 => with_python("mcp-1.30.0"),
            Self::Python2 => with_python("mcp-2.3.0"),
            Self::FastMcp => with_python("fastmcp-4.0.11"),
            Self::TypeScript1 => with_node("1"),
            Self::TypeScript2 => with_node("2"),
            Self::TypeScript2Newest => with_node("2-auto"),
            Self::Rust => rust("initialize"),
            Self::RustNewest => rust("discover"),
        }
    }
}

/// The first argument is a script of this folder.
fn with(mut command: Command, arguments: &[&str]) -> Command {
    command.arg(folder().join(arguments[0])).args(&arguments[1..]);
    command
}

/// A client with one session.
#[derive(Debug)]
pub struct Agent {
    child: Child,
    steps: ChildStdin,
    lines: Receiver<String>,
    /// The protocol version that client and server agreed on.
    pub protocol: String,
}

/// What came back from a call.
#[derive(Debug, Clone)]
pub struct Answer(pub Value);

impl Answer {
    /// The tool ran and reported no error.
    pub fn passed(&self) -> bool {
        self.0["isError"] == false
    }

    /// The text that the model sees.
    pub fn text(&self) -> &str {
        self.0["text"].as_str().unwrap_or_default()
    }

    /// What machines read of a refusal; null if it was none.
    pub fn denial(&self) -> &Value {
        &self.0["meta"]["mcp-policy.dev/denial"]
    }

    /// The pages to which the user was sent.
    pub fn pages(&self) -> Vec<&str> {
        self.0["pages"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// The denial's code; empty if it was none.
    pub fn code(&self) -> &str {
        self.denial()["code"].as_str().unwrap_or_default()
    }
}

impl Agent {
    /// Starts a client, whose last argument is the URL of a server, and waits until it is connected.
    pub fn connect(mut client: Command) -> Self {
        let mut child = client.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let steps = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut agent = Self { child, steps, lines, protocol: String::new() };
        agent.protocol = agent.read("connect")["protocol"].as_str().map(str::to_owned).unwrap();
        agent
    }

    /// The names of the tools that it can see.
    pub fn list(&mut self) -> Vec<String> {
        let answer = self.step(&json!({"list": true}));
        let names = answer["tools"].as_array().unwrap_or_else(|| panic!("no list: {answer}"));
        names.iter().map(|name| name.as_str().unwrap().to_owned()).collect()
    }

    /// Calls a tool.
    pub fn call(&mut self, tool: &str, arguments: &Value) -> Answer {
        Answer(self.step(&json!({"call": tool, "arguments": arguments})))
    }

    /// Calls a tool, and cancels the call once the tool reports progress.
    pub fn call_and_cancel(&mut self, tool: &str) {
        let answer = self.step(&json!({"call": tool, "cancel": true}));
        assert_eq!(answer["cancelled"], true, "{answer}");
    }

    fn step(&mut self, step: &Value) -> Value {
        writeln!(self.steps, "{step}").unwrap_or_else(|error| panic!("{step}: the client has ended: {error}"));
        self.read(&step.to_string())
    }

    fn read(&self, step: &str) -> Value {
        let line =
            self.lines.recv_timeout(Duration::from_mins(1)).unwrap_or_else(|error| panic!("{step}: the client said nothing: {error}"));
        serde_json::from_str(&line).unwrap()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
