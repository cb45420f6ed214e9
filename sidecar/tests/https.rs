//! A server that is reached over TLS. The authorities that the machine trusts are those of the process, so the sidecar is one.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

mod support;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};
use support::operator::{Ca, ca, certified};
use support::{Client, Reply, Server, call, in_time, list, mcp, ran};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStderr, Command};

/// Puts TLS before a server; gives the port.
async fn behind_tls(server: &Server, ca: &Ca, name: &str) -> u16 {
    let (tls, listener) = (certified(ca, name), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let (port, address) = (listener.local_addr().unwrap().port(), server.url().strip_prefix("http://").unwrap().to_owned());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (tls, address) = (tls.clone(), address.clone());
            tokio::spawn(async move {
                let Ok(mut stream) = tls.accept(stream).await else { return };
                let mut server = TcpStream::connect(address).await.unwrap();
                let _ = copy_bidirectional(&mut stream, &mut server).await;
            });
        }
    });
    port
}

/// A folder with a policy, and a file with the authorities that are trusted.
fn configured(trusted: &str) -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("policy.yaml"), "tools: {allowed: {}}").unwrap();
    let file = folder.path().join("ca.crt");
    fs::write(&file, trusted).unwrap();
    (folder, file)
}

fn command(policy: &Path, trusted: &Path, upstream: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-policy-sidecar"));
    command.env_clear().env("SSL_CERT_FILE", trusted).arg("run").arg("--policy").arg(policy);
    command.args(["--listen", "127.0.0.1:0", "--upstream", upstream]).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// A sidecar in front of that server, as long as the first two live, and a connection to it.
async fn guard(trusted: &Ca, port: u16) -> (Child, TempDir, Logs, Client) {
    let (folder, file) = configured(&trusted.pem());
    let mut child = command(folder.path(), &file, &format!("https://localhost:{port}")).spawn().unwrap();
    let mut logs = Logs(BufReader::new(child.stderr.take().unwrap()));
    let address: SocketAddr = logs.until("listening").await["proxy"].as_str().unwrap().parse().unwrap();
    (child, folder, logs, Client::connect(address).await)
}

struct Logs(BufReader<ChildStderr>);

impl Logs {
    /// The next line with this message.
    async fn until(&mut self, message: &str) -> Value {
        in_time(message, async {
            loop {
                let mut line = String::new();
                assert_ne!(self.0.read_line(&mut line).await.unwrap(), 0, "the sidecar has ended");
                let line: Value = serde_json::from_str(&line).unwrap();
                if line["message"] == message {
                    return line;
                }
            }
        })
        .await
    }
}

#[tokio::test]
async fn a_server_with_a_certificate_of_a_trusted_authority_is_guarded_as_any_other() {
    let text = "x".repeat(3 << 20);
    let server = Server::start(move |got| match got.json()["method"].as_str().unwrap() {
        "tools/list" => Reply::json(&list(&got.json()["id"], &["allowed", "other"], None)),
        // What is long does not fit into one write.
        _ if got.json()["params"]["arguments"]["echo"] == true => {
            Reply::events(&[json!({"jsonrpc": "2.0", "id": got.json()["id"], "result": {"content": [{"type": "text", "text": text}]}})])
        }
        _ => ran(&got.json()),
    })
    .await;
    let ca = ca();
    let (_child, _folder, _logs, mut client) = guard(&ca, behind_tls(&server, &ca, "localhost").await).await;

    let tools = client.send(mcp(json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).to_string())).await;
    assert_eq!(tools.tools(), ["allowed"]);
    assert!(client.send(mcp(call(2, "allowed").to_string())).await.ran());
    let host = server.got()[0].headers["host"].to_str().unwrap().to_owned();
    assert!(host.starts_with("localhost:"), "{host}");

    let mut long = call(3, "allowed");
    long["params"]["arguments"] = json!({"echo": true, "text": "y".repeat(1 << 20)});
    let answer = client.send(mcp(long.to_string())).await;
    assert_eq!(answer.events()[0]["result"]["content"][0]["text"].as_str().unwrap().len(), 3 << 20);
    assert_eq!(server.got()[2].json(), long);

    let requests = server.requests();
    assert_eq!(client.send(mcp(call(4, "other").to_string())).await.denial()["code"], "default_deny");
    assert_eq!(server.requests(), requests);
    assert_eq!(server.connections(), 1, "a connection is kept for the next request");
}

#[tokio::test]
async fn a_server_that_cannot_prove_its_name_gets_nothing() {
    let server = Server::with_tools(&["allowed"]).await;
    let (ours, theirs) = (ca(), ca());
    for (signed_by, name) in [(&theirs, "localhost"), (&ours, "elsewhere.example")] {
        let (_child, _folder, mut logs, mut client) = guard(&ours, behind_tls(&server, signed_by, name).await).await;
        let denial = client.send(mcp(call(1, "allowed").to_string())).await.denial();
        assert_eq!(denial["code"], "upstream_unreachable");
        let why = logs.until("the server gave no answer").await["error"].as_str().unwrap().to_owned();
        assert!(why.contains("certificate"), "{why}");
    }
    assert_eq!(server.requests(), 0);
}

#[tokio::test]
async fn without_an_authority_to_trust_the_sidecar_does_not_start() {
    let (folder, file) = configured("");
    let output = command(folder.path(), &file, "https://localhost").output().await.unwrap();
    assert_eq!(output.status.code(), Some(64));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("https: no authority is trusted here; SSL_CERT_FILE"), "{said}");
}
