//! Messages about approvals, posted to a real HTTP server that fails first.

#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers outside of test functions")]

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use mcp_policy_operator::approvals::notify::message::{Form, SigningKey};
use mcp_policy_operator::approvals::notify::{Notifier, Settings};
use mcp_policy_operator::approvals::resource::McpApproval;
use mcp_policy_operator::metrics::Metrics;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::time::timeout;

/// What came, and what is answered: the last status first, then 204.
#[derive(Clone, Default)]
struct Web {
    got: Arc<Mutex<Vec<(HeaderMap, String)>>>,
    answers: Arc<Mutex<Vec<StatusCode>>>,
}

impl Web {
    async fn listen(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let router = Router::new().route("/hook", post(take)).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        url
    }

    async fn got(&self, count: usize) -> Vec<(HeaderMap, String)> {
        let waiting = async {
            while self.got.lock().unwrap().len() < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(30), waiting).await.expect("enough posts in time");
        self.got.lock().unwrap().clone()
    }
}

async fn take(State(web): State<Web>, headers: HeaderMap, body: Bytes) -> StatusCode {
    web.got.lock().unwrap().push((headers, String::from_utf8(body.to_vec()).unwrap()));
    web.answers.lock().unwrap().pop().unwrap_or(StatusCode::NO_CONTENT)
}

fn approval(name: &str, seconds: i64) -> Arc<McpApproval> {
    let expires = Timestamp::now().saturating_add(SignedDuration::from_secs(seconds)).unwrap();
    let approval: McpApproval = serde_json::from_value(json!({
        "metadata": {"namespace": "billing", "name": name, "uid": format!("uid-of-{name}")},
        "spec": {
            "caller": "serviceaccount:agents/buyer", "server": "Deployment/payments", "tool": "send_payout",
            "arguments": {"sha256": "0".repeat(64), "keys": ["amount"]},
            "policy": {"namespace": "billing", "name": "payments", "generation": 1, "rule": "/tools/send_payout/action"},
            "approvers": 1, "expiresAt": expires.to_string(),
        },
    }))
    .unwrap();
    Arc::new(approval)
}

fn notifier(folder: &TempDir, url: &str, form: Form) -> (Notifier, Metrics) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    write(folder.path(), "url", url);
    let metrics = Metrics::default();
    let (notifier, posting) = Notifier::new(Settings { folder: folder.path().to_owned(), form }, metrics.clone());
    tokio::spawn(posting);
    (notifier, metrics)
}

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), format!("{text}\n")).unwrap();
}

async fn counted(metrics: &Metrics, line: &str) {
    let line = format!("mcp_policy_operator_approval_notifications_total{{result={line}");
    let waiting = async {
        while !metrics.openmetrics().unwrap().contains(&line) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(Duration::from_secs(30), waiting).await.is_ok(), "no {line} in {}", metrics.openmetrics().unwrap());
}

#[tokio::test]
async fn a_message_is_posted_until_it_is_taken_signed_and_under_one_id() {
    let (web, folder) = (Web::default(), tempfile::tempdir().unwrap());
    web.answers.lock().unwrap().extend([StatusCode::SERVICE_UNAVAILABLE, StatusCode::FOUND]);
    let (notifier, metrics) = notifier(&folder, &web.listen().await, Form::Json);
    write(folder.path(), "signing-secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    notifier.tell(approval("a-1", 900));
    let got = web.got(3).await;
    for (headers, body) in &got {
        let header = |name: &str| headers[name].to_str().unwrap();
        let time = Timestamp::from_second(header("webhook-timestamp").parse().unwrap()).unwrap();
        let key = SigningKey::read("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        assert_eq!((header("webhook-id"), header("webhook-signature")), ("uid-of-a-1", key.sign("uid-of-a-1", time, body).as_str()));
        assert_eq!(*body, got[0].1);
    }
    let said: Value = serde_json::from_str(&got[0].1).unwrap();
    assert_eq!(
        (&said["type"], &said["data"]["name"], &said["data"]["tool"]),
        (&json!("approval.requested"), &json!("a-1"), &json!("send_payout"))
    );
    counted(&metrics, "\"delivered\"} 1").await;
    counted(&metrics, "\"refused\"} 2").await;
}

#[tokio::test]
async fn a_message_for_people_is_a_text_and_without_a_secret_it_is_not_signed() {
    let (web, folder) = (Web::default(), tempfile::tempdir().unwrap());
    let (notifier, _) = notifier(&folder, &web.listen().await, Form::Slack);
    notifier.tell(approval("a-1", 900));
    let (headers, body) = web.got(1).await.remove(0);
    assert!(!headers.contains_key("webhook-signature"));
    let said: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(said.as_object().unwrap().len(), 1);
    assert!(said["text"].as_str().unwrap().contains("kubectl mcp-policy approvals show a-1 -n billing"), "{said}");
}

#[tokio::test]
async fn one_that_nobody_can_answer_any_more_is_given_up_and_the_next_finds_a_new_url() {
    let (web, folder) = (Web::default(), tempfile::tempdir().unwrap());
    let (notifier, metrics) = notifier(&folder, "http://127.0.0.1:1/nobody", Form::Json);
    notifier.tell(approval("a-1", 0));
    counted(&metrics, "\"given_up\"} 1").await;
    write(folder.path(), "url", &web.listen().await);
    notifier.tell(approval("a-2", 900));
    assert_eq!(web.got(1).await[0].0["webhook-id"], "uid-of-a-2");
}

#[tokio::test]
async fn who_does_not_keep_up_loses_messages_and_they_are_counted() {
    let (web, folder) = (Web::default(), tempfile::tempdir().unwrap());
    let (notifier, metrics) = notifier(&folder, &web.listen().await, Form::Json);
    // Nothing is posted before this test waits for something.
    for number in 0..1001 {
        notifier.tell(approval(&format!("a-{number}"), 900));
    }
    counted(&metrics, "\"dropped\"} 1").await;
    assert_eq!(web.got(1000).await.len(), 1000);
}
