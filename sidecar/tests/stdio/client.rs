//! A client that starts the sidecar in the place of a server on stdio.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

pub const SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/server.py");

/// Longer than anything here takes, shorter than a person waits.
const PATIENCE: Duration = Duration::from_secs(20);

/// A client that started the sidecar, which started the server.
pub struct Client {
    pub sidecar: Child,
    pub input: Option<ChildStdin>,
    pub output: BufReader<ChildStdout>,
    pub folder: TempDir,
    requests: u64,
}

impl Client {
    pub fn start(policy: &Value) -> Self {
        Self::start_in_manner(policy, "")
    }

    pub fn start_in_manner(policy: &Value, manner: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("policy.json"), policy.to_string()).unwrap();
        let path = |name: &str| folder.path().join(name);
        let mut sidecar = Command::new(env!("CARGO_BIN_EXE_mcp-policy-sidecar"))
            .args(["run", "--policy"])
            .arg(path("policy.json"))
            .arg("--audit")
            .arg(path("audit"))
            .args(["--", "python3", SERVER])
            .arg(path("log"))
            .arg(manner)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(path("errors")).unwrap())
            .spawn()
            .unwrap();
        let input = sidecar.stdin.take();
        let output = BufReader::new(sidecar.stdout.take().unwrap());
        Self { sidecar, input, output, folder, requests: 0 }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn say(&mut self, line: &str) {
        let input = self.input.as_mut().unwrap();
        input.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    pub fn hear_line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line
    }

    pub fn hear(&mut self) -> Value {
        let line = self.hear_line();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("not JSON: {line:?}"))
    }

    pub fn ask(&mut self, method: &str, params: &Value) -> Value {
        self.requests += 1;
        let id = self.requests;
        self.say(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string());
        let answer = self.hear();
        assert_eq!(answer["id"], id, "{answer}");
        answer
    }

    pub fn call(&mut self, tool: &str) -> Value {
        self.ask("tools/call", &json!({"name": tool, "arguments": {"study": "secret-value"}}))
    }

    /// What reached the server.
    pub fn got(&self) -> Vec<String> {
        lines(&self.path("log")).into_iter().filter_map(|line| Some(line.strip_prefix("got ")?.to_owned())).collect()
    }

    pub fn calls(&self) -> usize {
        self.got().iter().filter(|line| line.contains("tools/call")).count()
    }

    /// Closes the sidecar's input and returns its exit code and its audit lines.
    pub fn leave(mut self) -> (Option<i32>, Vec<Value>) {
        self.input = None;
        let status = self.sidecar.wait().unwrap();
        (status.code(), lines(&self.path("audit")).iter().map(|line| serde_json::from_str(line).unwrap()).collect())
    }

    pub fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.sidecar.id().to_string()]).status().unwrap().success());
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.sidecar.kill();
        let _ = self.sidecar.wait();
    }
}

pub fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

pub fn is_alive(pid: &str) -> bool {
    // A process that nobody has waited for yet is none any more.
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}
