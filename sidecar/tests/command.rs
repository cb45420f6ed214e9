//! The program itself: exit codes, where it writes what, and its end on SIGTERM.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};

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
    let file = policy("{}");
    let arguments = ["run", "--policy", file.path().to_str().unwrap(), "--listen", "127.0.0.1:0", "--upstream", "http://127.0.0.1:1"];
    let mut child = sidecar(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut logs = BufReader::new(child.stderr.take().unwrap()).lines();
    let listening =
        logs.by_ref().map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap()).find(|line| line["message"] == "listening");
    let address: SocketAddr = listening.unwrap()["proxy"].as_str().unwrap().parse().unwrap();

    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "x"}}).to_string();
    let mut stream = TcpStream::connect(address).unwrap();
    let head = "POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\n";
    write!(stream, "{head}content-length: {}\r\n\r\n{call}", call.len()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");

    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let line: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(line["code"], "default_deny");
}
