//! The sidecar as a program of its own, for one server.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::Value;
use tempfile::NamedTempFile;

/// How long an audit line may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A sidecar that runs until it is dropped.
#[derive(Debug)]
pub struct Sidecar {
    child: Child,
    address: SocketAddr,
    admin: SocketAddr,
    audit: Arc<(Mutex<Vec<Value>>, Condvar)>,
    lines: Option<JoinHandle<()>>,
    _policy: NamedTempFile,
}

impl Sidecar {
    /// Starts it with a policy, as YAML or JSON, in front of a server's URL, and waits until it listens.
    pub fn start(policy: &str, upstream: &str) -> Self {
        let mut command = Command::new(program());
        command.args(["run", "--upstream", upstream]);
        Self::listen(policy, command, &[])
    }

    /// As [`Sidecar::start`], in front of a server that speaks HTTP+SSE with its stream at `/sse`.
    pub fn start_older(policy: &str, upstream: &str) -> Self {
        let mut command = Command::new(program());
        command.args(["run", "--sse-path", "/sse", "--upstream", upstream]);
        Self::listen(policy, command, &[])
    }

    /// Starts it with a policy and the command of a server on stdio, which it offers over HTTP, and waits until it listens.
    pub fn offer(policy: &str, server: &Command) -> Self {
        let mut command = Command::new(program());
        command.arg("run").envs(server.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let words: Vec<&OsStr> = [OsStr::new("--"), server.get_program()].into_iter().chain(server.get_args()).collect();
        Self::listen(policy, command, &words)
    }

    fn listen(policy: &str, mut command: Command, last: &[&OsStr]) -> Self {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(policy.as_bytes()).unwrap();
        let mut child = command
            .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--policy"])
            .arg(file.path())
            .args(last)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();

        let mut logs = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let mut said = Vec::new();
        let listening = logs.by_ref().find_map(|line| {
            let entry: Value = serde_json::from_str(&line).unwrap_or_default();
            said.push(line);
            (entry["message"] == "listening").then_some(entry)
        });
        let Some(listening) = listening else { panic!("the sidecar did not start: {said:#?}") };
        let address = |name: &str| listening[name].as_str().unwrap().trim_start_matches("Some(").trim_end_matches(')').parse().unwrap();
        let (proxy, admin) = (address("proxy"), address("admin"));
        // A full pipe would block the sidecar.
        thread::spawn(move || logs.for_each(drop));

        let audit = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let written = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let lines = thread::spawn({
            let audit = Arc::clone(&audit);
            move || {
                for line in written {
                    audit.0.lock().unwrap().push(serde_json::from_str(&line).unwrap());
                    audit.1.notify_all();
                }
            }
        });
        Self { child, address: proxy, admin, audit, lines: Some(lines), _policy: file }
    }

    /// Where callers arrive.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where health and metrics are served.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The URL that callers use.
    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// The audit lines that were written so far. A line is written when its call was judged, which may be after its answer arrived.
    pub fn audit(&self) -> Vec<Value> {
        self.audit.0.lock().unwrap().clone()
    }

    /// Waits until an audit line is as wanted: the lines up to that one, which are then forgotten.
    pub fn audit_until(&self, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        let (lines, more) = &*self.audit;
        let lines = lines.lock().unwrap();
        let (mut lines, timeout) = more.wait_timeout_while(lines, PATIENCE, |lines| !lines.iter().any(&wanted)).unwrap();
        assert!(!timeout.timed_out(), "no such line came: {lines:#?}");
        let end = lines.iter().position(wanted).unwrap();
        lines.drain(..=end).collect()
    }

    /// Ends it in order: all audit lines.
    pub fn end(mut self) -> Vec<Value> {
        let told = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(told.success() && self.child.wait().unwrap().success(), "the sidecar did not end in order");
        self.lines.take().unwrap().join().unwrap();
        self.audit()
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The project's folder.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The program, built from this working copy.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| build(&["--package", "mcp-policy-sidecar", "--bin", "mcp-policy-sidecar"]).join("mcp-policy-sidecar"))
}

/// Builds what cargo's arguments name: the folder of the profile.
pub fn build(what: &[&str]) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    // target/<profile>/deps/<test>
    let target = test.ancestors().nth(3).unwrap();
    let built =
        Command::new(env!("CARGO")).args(["build", "--quiet", "--target-dir"]).arg(target).args(what).current_dir(root()).status().unwrap();
    assert!(built.success(), "{what:?} does not build");
    target.join("debug")
}
