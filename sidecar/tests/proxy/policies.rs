//! Policies that come, change and are missing; documents that anybody may have.

use ::http::{Request, StatusCode};
use http_body_util::Full;
use mcp_policy_sidecar::config::{OperatorSource, Source};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Reply, Server, Sidecar, call, eventually};
use crate::{EXPORT, imaging, initialize};

/// "If none is in force, the call is refused (`no_policy`)." "`no_policy` holds for every method but `initialize`,
/// `server/discover`, `ping` and notifications." "`no_policy`: none in force".
#[tokio::test]
async fn without_a_policy_calls_are_refused_and_the_sidecar_is_not_ready() {
    let server = Server::with_tools(&[]).await;
    let nowhere = std::env::temp_dir().join("mcp-policy-test-no-such-folder");
    let source = OperatorSource {
        host: "127.0.0.1".into(),
        port: 1,
        ca_file: nowhere.join("ca.crt"),
        token_file: nowhere.join("token"),
        namespace: "imaging".into(),
    };
    let sidecar = Sidecar::following(&server.url(), Source::Operator(source));
    assert_eq!(sidecar.call(EXPORT).await.denial()["code"], "no_policy");
    let listed = sidecar.post(&json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})).await;
    assert_eq!(listed.status, StatusCode::OK);
    assert_eq!(listed.json()["error"]["data"]["mcp-policy.dev/denial"]["code"], "no_policy", "{}", listed.text());
    let read = sidecar.post(&json!({"jsonrpc": "2.0", "id": 1, "method": "resources/read", "params": {"uri": "file:///x"}})).await;
    assert_eq!(read.json()["error"]["data"]["mcp-policy.dev/denial"]["code"], "no_policy");
    for method in [http::Method::GET, http::Method::DELETE] {
        let request = Request::builder().method(method).uri("/mcp").header("host", "localhost").body(Full::default()).unwrap();
        assert_eq!(sidecar.send(request).await.status, StatusCode::METHOD_NOT_ALLOWED);
    }
    assert_eq!(server.requests(), 0);
    let ready = sidecar.get_admin("/readyz").await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(ready.text().contains("no policy was received"), "{}", ready.text());
    assert_eq!(sidecar.get_admin("/livez").await.status, StatusCode::OK);

    assert!(sidecar.post(&initialize()).await.json()["result"].is_object());
    let initialized = sidecar.post(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
    assert_eq!(initialized.status, StatusCode::ACCEPTED);
    assert!(sidecar.post(&json!({"jsonrpc": "2.0", "id": 1, "method": "ping"})).await.json()["result"].is_object());
    assert_eq!(server.requests(), 3);
}

#[tokio::test]
async fn a_changed_policy_file_is_in_force_without_a_restart_and_a_wrong_one_never() {
    let server = Server::with_tools(&[]).await;
    let sidecar = Sidecar::guarding(&server.url(), &json!({"tools": {"read": {}}}));
    assert_eq!(sidecar.get_admin("/readyz").await.status, StatusCode::OK);
    assert!(sidecar.call("read").await.ran());
    assert_eq!(sidecar.call("write").await.denial()["code"], "default_deny");
    let before = sidecar.get_admin("/snapshot").await.json();
    assert_eq!(before["policies"][0]["name"], "policy.json");

    std::fs::write(&sidecar.policy, json!({"tools": {"write": {}}}).to_string()).unwrap();
    eventually("the change is in force", async || sidecar.call("write").await.ran()).await;
    assert_eq!(sidecar.call("read").await.denial()["code"], "default_deny");
    let after = sidecar.get_admin("/snapshot").await.json();
    assert_ne!(before["sha256"], after["sha256"]);

    std::fs::write(&sidecar.policy, json!({"tools": {"write": {"limit": []}}}).to_string()).unwrap();
    // While the file is wrong nothing confirms what is enforced, so its age grows.
    eventually("the change was looked at", async || sidecar.get_admin("/snapshot").await.json()["ageSeconds"].as_u64() > Some(1)).await;
    assert!(sidecar.call("write").await.ran());
    assert_eq!(sidecar.get_admin("/snapshot").await.json()["sha256"], after["sha256"]);
}

#[tokio::test]
async fn a_call_that_takes_its_time_is_judged_by_the_policy_of_its_end() {
    let server = Server::with_tools(&[]).await;
    let sidecar = Sidecar::guarding(&server.url(), &json!({"tools": {"read": {}}}));
    let body = call(1, "read").to_string();
    let mut slow = TcpStream::connect(sidecar.proxy).await.unwrap();
    let head = "POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\n";
    slow.write_all(format!("{head}content-length: {}\r\n\r\n{}", body.len(), &body[..10]).as_bytes()).await.unwrap();
    eventually("the head is read", async || sidecar.metrics().await.contains("mcp_policy_requests_in_flight 1")).await;

    std::fs::write(&sidecar.policy, json!({"tools": {"write": {}}}).to_string()).unwrap();
    eventually("the change is in force", async || sidecar.call("write").await.ran()).await;
    let before = server.requests();
    slow.write_all(&body.as_bytes()[10..]).await.unwrap();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("default_deny"), "{answer}");
    assert_eq!(server.requests(), before);
}

/// "`server.path`: the MCP endpoint; every other path is refused, but the discovery documents of OAuth".
#[tokio::test]
async fn discovery_documents_pass_without_policy_and_other_paths_do_not() {
    let server = Server::start(|_| Reply::json(&json!({"resource": "x"}))).await;
    let sidecar = Sidecar::guarding(&server.url(), &imaging());
    let get = |path: &str| Request::get(path).header("host", "localhost").body(Full::default()).unwrap();
    assert_eq!(sidecar.send(get("/.well-known/oauth-protected-resource/mcp")).await.json()["resource"], "x");
    assert_eq!(server.got()[0].target, "/.well-known/oauth-protected-resource/mcp");
    for path in ["/.well-known/oauth-protected-resource/../admin", "/.well-known/other", "/metrics", "/captured"] {
        assert_eq!(sidecar.send(get(path)).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(server.requests(), 1);
}
