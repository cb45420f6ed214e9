//! The program itself: exit codes, where it writes what, and its end on SIGTERM.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

fn sidecar(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-policy-sidecar"));
    command.args(arguments).env_clear();
    command
}

fn policy(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn errors(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A sidecar in front of a server that is not there; what it logs from then on; and where it listens.
fn serving(document: &str) -> (Child, BufReader<ChildStderr>, SocketAddr) {
    let file = policy(document);
    let arguments = ["run", "--policy", file.path().to_str().unwrap(), "--listen", "127.0.0.1:0", "--upstream", "http://127.0.0.1:1"];
    let mut child = sidecar(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut logs = BufReader::new(child.stderr.take().unwrap());
    let listening = logs.by_ref().lines().map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let listening = listening.into_iter().find(|line| line["message"] == "listening").unwrap();
    (child, logs, listening["proxy"].as_str().unwrap().parse().unwrap())
}

/// Calls a tool; gives the answer's body.
fn call(stream: &mut TcpStream) -> String {
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "x"}}).to_string();
    let head = "POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    stream.write_all(format!("{head}content-length: {}\r\n\r\n{call}", call.len()).as_bytes()).unwrap();
    let mut answer = BufReader::new(stream);
    let mut length = 0;
    for line in answer.by_ref().lines().map(Result::unwrap).take_while(|line| !line.is_empty()) {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    answer.read_exact(&mut body).unwrap();
    String::from_utf8(body).unwrap()
}

#[test]
fn the_version_is_told() {
    let output = sidecar(&["--version"]).output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stdout).unwrap(), concat!("mcp-policy-sidecar ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn a_wrong_configuration_is_told_from_a_failure() {
    let wrong_field = policy(r#"{"tools": {"x": {"limits": [{"counter": "c", "widow": "minute", "max": 1}]}}}"#);
    let good = policy("{}");
    let (wrong_field, good) = (wrong_field.path().to_str().unwrap(), good.path().to_str().unwrap());
    let run = |policy, upstream| sidecar(&["run", "--policy", policy, "--listen", "127.0.0.1:0", "--upstream", upstream]).output().unwrap();
    for (output, said) in [
        (sidecar(&["run"]).output().unwrap(), "--policy"),
        (sidecar(&["serve"]).output().unwrap(), "MCP_POLICY_OPERATOR is not set"),
        (sidecar(&["serve"]).env("MCP_POLICY_LOG", "=x=").output().unwrap(), "MCP_POLICY_LOG"),
        (run("/nonexistent.yaml", "http://127.0.0.1:1"), "/nonexistent.yaml: No such file"),
        (run(wrong_field, "http://127.0.0.1:1"), "tools.x.limits[0].widow"),
        (run(good, "ftp://127.0.0.1:1"), "it must begin with http:// or https://"),
    ] {
        assert_eq!(output.status.code(), Some(64), "{output:?}");
        assert!(errors(&output).contains(said), "{said}: {}", errors(&output));
        assert!(output.stdout.is_empty(), "standard output belongs to audit lines");
    }

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = sidecar(&["run", "--policy", good, "--listen", &address, "--upstream", "http://127.0.0.1:1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(errors(&output).contains(&address), "{}", errors(&output));
}

#[test]
fn it_serves_writes_its_lines_and_ends_on_sigterm() {
    let (child, _logs, address) = serving("{}");
    let mut stream = TcpStream::connect(address).unwrap();
    let answer = call(&mut stream);
    assert!(answer.contains("default_deny"), "{answer}");

    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let line: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(line["code"], "default_deny");
}

#[test]
fn a_log_that_nobody_reads_holds_up_no_call_and_says_later_how_much_is_lost() {
    let (mut child, logs, address) = serving("{default: allow}");
    // Audit lines have a way of their own.
    let mut audit = child.stdout.take().unwrap();
    let reading = thread::spawn(move || io::copy(&mut audit, &mut io::sink()));
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // Each of them is a line in the log: more than a pipe and the lines that may wait.
    for _ in 0..8000 {
        assert!(call(&mut stream).contains("upstream_unreachable"));
    }
    let lines = thread::spawn(move || logs.lines().map(Result::unwrap).find(|line| line.contains("some lines are lost")));
    let told = Instant::now();
    while !lines.is_finished() && told.elapsed() < Duration::from_secs(20) {
        call(&mut stream);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    reading.join().unwrap().unwrap();
    let told: Value = serde_json::from_str(&lines.join().unwrap().expect("the log tells of lost lines")).unwrap();
    assert!(told["lost"].as_u64().unwrap() > 100, "{told}");
}
