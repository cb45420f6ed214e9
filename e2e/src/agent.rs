//! Agents written with official MCP SDKs, told what to do step by step (see `clients/`).

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use serde_json::Value;

use crate::cluster::{command, root, run};

/// An SDK, at the version of its list in `clients/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sdk {
    /// Python, first major line: `mcp` 1.30.0.
    Python1,
    /// Python, second major line: `mcp` 2.3.0.
    Python2,
    /// TypeScript: `@modelcontextprotocol/sdk` 1.32.2.
    TypeScript,
}

/// One client with one session.
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

    /// The denial's code; empty if it was none.
    pub fn code(&self) -> &str {
        self.denial()["code"].as_str().unwrap_or_default()
    }
}

impl Agent {
    /// Connects to an MCP endpoint and opens a session.
    pub fn connect(sdk: Sdk, url: &str) -> Self {
        let mut child = client(sdk).arg(url).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
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
        let answer = self.step("list");
        answer["tools"]
            .as_array()
            .unwrap_or_else(|| panic!("no list: {answer}"))
            .iter()
            .map(|name| name.as_str().unwrap().to_owned())
            .collect()
    }

    /// Calls a tool.
    pub fn call(&mut self, tool: &str, arguments: &Value) -> Answer {
        Answer(self.step(&format!("{tool}={arguments}")))
    }

    fn step(&mut self, step: &str) -> Value {
        writeln!(self.steps, "{step}").unwrap_or_else(|error| panic!("{step}: the client has ended: {error}"));
        self.read(step)
    }

    fn read(&self, step: &str) -> Value {
        let line =
            self.lines.recv_timeout(Duration::from_mins(1)).unwrap_or_else(|error| panic!("{step}: the client said nothing: {error}"));
        serde_json::from_str(&line).unwrap()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn client(sdk: Sdk) -> Command {
    let clients = root().join("e2e/clients");
    let prepare = |arguments: &[&str]| {
        let path = run(Command::new(clients.join("prepare")).args(arguments), None).unwrap_or_else(|why| panic!("{sdk:?}: {why}"));
        path.trim().to_owned()
    };
    let (program, script) = match sdk {
        Sdk::Python1 => (prepare(&["python", "1.30.0"]), clients.join("python/steps.py")),
        Sdk::Python2 => (prepare(&["python", "2.3.0"]), clients.join("python/steps.py")),
        Sdk::TypeScript => ("node".to_owned(), prepare(&["typescript"]).into()),
    };
    let mut command = command(program);
    command.arg(script);
    command
}
