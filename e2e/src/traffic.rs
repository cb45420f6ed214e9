//! Many agents that call a server all the while, whatever happens to it.

use std::{
    io::{BufRead, BufReader, Read},
    net::TcpStream,
    process::{Child, ChildStdout, Stdio},
};

use serde_json::Value;

use crate::{
    cluster::{command, root},
    sandbox::Sandbox,
    wait::until,
};

/// Agents of `sessions.py`: each has a session and an open stream, and calls one tool that is allowed and one that is denied.
#[derive(Debug)]
pub struct Traffic {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

/// What the agents saw.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// Calls that were allowed, and ran.
    pub allowed: u64,
    /// Calls that were denied.
    pub denied: u64,
    /// Sessions that were opened.
    pub sessions: u64,
    /// Streams that were opened.
    pub streams: u64,
}

impl Traffic {
    /// Starts that many agents on the imaging server of a sandbox, over its Service, and waits until each has its stream.
    pub fn begin(sandbox: &Sandbox, agents: usize) -> Self {
        let address = sandbox.kubectl(&["get", "service", "healthimaging-mcp", "-o", "jsonpath={.spec.clusterIP}"]);
        // A Service knows of a pod that is ready a moment after the pod does.
        until("the Service reaches the pod", || TcpStream::connect((address.as_str(), 80)).map_err(|error| error.to_string()));
        let mut python = command("python3");
        python.arg(root().join("e2e/sessions.py")).arg(format!("http://{address}/mcp"));
        python.args([&agents.to_string(), "list_datastores", "list_dicom_export_jobs"]);
        let mut child = python.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "the agents ended");
        Self { child, stdout }
    }

    /// Ends them. None may have been answered wrongly, lost a call that it had sent, or seen a stream end within an event.
    pub fn end(mut self) -> Seen {
        drop(self.child.stdin.take());
        let mut told = String::new();
        self.stdout.read_to_string(&mut told).unwrap();
        let told: Value = serde_json::from_str(&told).unwrap_or_else(|error| panic!("{error}: {told}"));
        for fault in ["wrong", "lost", "torn", "refused"] {
            assert!(told[fault].as_array().is_some_and(Vec::is_empty), "{fault}: {told:#}");
        }
        let count = |what: &str| told[what].as_u64().unwrap_or_default();
        Seen { allowed: count("allowed"), denied: count("denied"), sessions: count("sessions"), streams: count("streams") }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
