//! `kubectl port-forward` and `kubectl proxy`.

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
        Self::of(&["-n", namespace, "port-forward", target, &format!(":{port}")])
    }

    /// A port at which the API server answers: as it answers us, or this user.
    pub fn api(user: Option<&str>) -> Self {
        let user = user.map(|user| format!("--as={user}"));
        Self::of(&["proxy", "--port=0"].into_iter().chain(user.as_deref()).collect::<Vec<_>>())
    }

    fn of(arguments: &[&str]) -> Self {
        let mut child =
            command("kubectl").args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        // "Forwarding from 127.0.0.1:41807 -> 8080", "Starting to serve on 127.0.0.1:41807": printed once the port is open.
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines.next().unwrap_or_else(|| panic!("kubectl {} ended at once", arguments.join(" "))).unwrap();
        let port = line.split([':', ' ']).find_map(|word| word.parse().ok()).unwrap_or_else(|| panic!("no port in {line:?}"));
        // The pipe stays open: kubectl writes a line for each connection, and would die of a closed one.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, port }
    }

    /// Where the API server answers.
    pub fn api_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
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
