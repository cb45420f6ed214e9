//! Real servers on loopback, each in a folder and with a process of its own.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mcp_policy_interop::prepared;
use tempfile::TempDir;

/// A server; it ends with the test.
pub struct Redis {
    pub port: u16,
    arguments: Vec<String>,
    folder: TempDir,
    child: Option<Child>,
}

pub fn free_port() -> u16 {
    // The bus of a cluster listens 10,000 ports above.
    loop {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        if port < 55_000 && TcpListener::bind(("127.0.0.1", port + 10_000)).is_ok() {
            return port;
        }
    }
}

impl Redis {
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_at(free_port(), arguments)
    }

    pub fn start_at(port: u16, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(ToString::to_string).collect();
        let mut redis = Self { port, arguments, folder: tempfile::tempdir().unwrap(), child: None };
        redis.up();
        redis
    }

    /// A sentinel; it writes what it learns into its file.
    pub fn sentinel(port: u16, file: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new(prepared::redis_server());
        child.arg(file).args(["--sentinel", "--port", &port.to_string(), "--bind", "127.0.0.1"]);
        let mut redis = Self { port, arguments: Vec::new(), folder, child: Some(child.stdout(Stdio::null()).spawn().unwrap()) };
        redis.answers();
        redis
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Starts it, with what its folder holds.
    pub fn up(&mut self) {
        let child = Command::new(prepared::redis_server())
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"])
            .arg(self.folder.path())
            .args(&self.arguments)
            .stdout(Stdio::null())
            .spawn();
        self.child = Some(child.unwrap());
        self.answers();
    }

    fn answers(&mut self) {
        let began = Instant::now();
        while !self.cli(&["ping"]).contains("PONG") && !self.cli(&["ping"]).contains("NOAUTH") {
            assert!(began.elapsed() < Duration::from_secs(20), "redis-server did not start");
            std::thread::yield_now();
        }
    }

    /// Ends it at once, as a lost node does. What is not on disk is gone.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Stops it without closing anything, as a partition does; or lets it go on.
    pub fn freeze(&self, frozen: bool) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([if frozen { "-STOP" } else { "-CONT" }, &pid]).status().unwrap().success());
    }

    /// What `redis-cli` says.
    pub fn cli(&self, arguments: &[&str]) -> String {
        let output = Command::new("redis-cli").args(["-p", &self.port.to_string()]).args(arguments).stderr(Stdio::null()).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
