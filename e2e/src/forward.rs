//! `kubectl port-forward`.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Stdio},
};

use crate::cluster::command;

/// A local port that leads into a pod for as long as this lives.
#[derive(Debug)]
pub struct Forward {
    child: Child,
    port: u16,
}

impl Forward {
    /// Opens one; `target` is as kubectl wants it, `pod/name` or `service/name`.
    pub fn open(namespace: &str, target: &str, port: u16) -> Self {
        let mut child = command("kubectl")
            .args(["-n", namespace, "port-forward", target, &format!(":{port}")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // "Forwarding from 127.0.0.1:41807 -> 8080" is printed once the port is open.
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines.next().unwrap_or_else(|| panic!("port-forward to {target} in {namespace} ended at once")).unwrap();
        let port = line.split([':', ' ']).find_map(|word| word.parse().ok()).unwrap_or_else(|| panic!("no port in {line:?}"));
        // The pipe stays open: kubectl writes a line for each connection, and would die of a closed one.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, port }
    }

    /// The MCP endpoint behind it, as an agent would write it.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/mcp", self.port)
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
