//! The watch stream, against a stub of the operator over TLS.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

mod support;

use bytes::Bytes;
use http::StatusCode;
use mcp_policy::snapshot::{ReportResult, SnapshotPolicy, WatchMessage};
use mcp_policy::{Document, Snapshot};
use serde_json::{Value, json};
use support::operator::{Operator, TOKEN, ca, run_dir, source};
use support::{Server, Sidecar, eventually};

fn snapshot(tool: &str, generation: i64) -> Snapshot {
    let document: Document = serde_json::from_value(json!({"tools": {tool: {}}})).unwrap();
    let server = mcp_policy::Server::default();
    Snapshot::new(vec![SnapshotPolicy {
        namespace: Some("imaging".into()),
        name: "imaging".into(),
        generation,
        mode: mcp_policy::Mode::Enforce,
        server,
        from: None,
        on_audit_error: mcp_policy::resource::OnAuditError::Deny,
        document: Some(document),
    }])
}

async fn shown(sidecar: &Sidecar) -> Value {
    sidecar.get_admin("/snapshot").await.json()
}

#[tokio::test]
async fn a_snapshot_is_in_force_and_acknowledged() {
    let (ca, server) = (ca(), Server::with_tools(&[]).await);
    let mut operator = Operator::start(&ca, "localhost").await;
    let dir = run_dir(&ca, TOKEN);
    let sidecar = Sidecar::following(&server.url(), source(operator.port, dir.path()));
    assert_eq!(sidecar.call("read").await.denial()["code"], "no_policy");

    let stream = operator.opened().await;
    let first = snapshot("read", 1);
    stream.send(&WatchMessage::Snapshot(first.clone()));
    let report = operator.reported(1).await;
    assert_eq!((report.sha256, report.result, report.error), (first.sha256.clone(), ReportResult::Ack, None));
    assert!(sidecar.call("read").await.ran());
    assert_eq!(sidecar.get_admin("/readyz").await.status, StatusCode::OK);
    let seen = shown(&sidecar).await;
    assert_eq!(seen["sha256"], first.sha256);
    assert_eq!(seen["policies"], json!([{"name": "imaging/imaging", "revision": "1", "mode": "enforce", "accepted": true}]));

    stream.send(&WatchMessage::Snapshot(snapshot("write", 2)));
    assert_eq!(operator.reported(2).await.result, ReportResult::Ack);
    assert_eq!(sidecar.call("read").await.denial()["code"], "default_deny");
    assert!(sidecar.call("write").await.ran());
    assert_eq!(sidecar.audit.at_least(4).await[3]["revision"], "2");

    stream.send(&WatchMessage::Snapshot(Snapshot::new(Vec::new())));
    assert_eq!(operator.reported(3).await.result, ReportResult::Ack);
    assert_eq!(sidecar.call("write").await.denial()["code"], "no_policy");
    assert!(sidecar.get_admin("/readyz").await.text().contains("no policy selects this pod"));
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_enforced_is_refused_and_the_one_before_stays() {
    let (ca, server) = (ca(), Server::with_tools(&[]).await);
    let mut operator = Operator::start(&ca, "localhost").await;
    let dir = run_dir(&ca, TOKEN);
    let sidecar = Sidecar::following(&server.url(), source(operator.port, dir.path()));
    let stream = operator.opened().await;
    let good = snapshot("read", 1);
    stream.send(&WatchMessage::Snapshot(good.clone()));
    operator.reported(1).await;

    let altered = Snapshot { sha256: good.sha256.clone(), ..snapshot("write", 2) };
    let unknown = Snapshot { version: "99".into(), ..snapshot("write", 3) };
    let wrong_document =
        serde_json::from_value(json!({"tools": {"write": {"limits": [{"counter": "c", "window": "1x", "max": 1}]}}})).unwrap();
    let mut policies = snapshot("write", 4).policies;
    policies[0].document = Some(wrong_document);
    let uncompilable = Snapshot::new(policies);
    for (count, (wrong, reason)) in
        [(altered, "digest"), (unknown, "version 99"), (uncompilable, "imaging/imaging")].into_iter().enumerate()
    {
        stream.send(&WatchMessage::Snapshot(wrong.clone()));
        let report = operator.reported(count + 2).await;
        assert_eq!((report.sha256, report.result), (wrong.sha256, ReportResult::Nack));
        assert!(report.error.as_ref().unwrap().contains(reason), "{:?}", report.error);
        assert_eq!(shown(&sidecar).await["sha256"], good.sha256);
        assert!(sidecar.call("read").await.ran());
        assert_eq!(sidecar.call("write").await.denial()["code"], "default_deny");
    }
    let newer = json!({"type": "SNAPSHOT", "version": "1", "sha256": "of-a-newer-operator", "policies": [
        {"namespace": "imaging", "name": "imaging", "generation": 5, "document": {"tools": {}, "fieldOfTomorrow": 1}}]});
    stream.0.send(format!("{newer}\n").into()).unwrap();
    let report = operator.reported(5).await;
    assert_eq!((report.sha256.as_str(), report.result), ("of-a-newer-operator", ReportResult::Nack));
    assert!(report.error.unwrap().contains("fieldOfTomorrow"));
    stream.send(&WatchMessage::Heartbeat { sha256: "of-a-newer-operator".into() });
    assert!(sidecar.call("read").await.ran());
    assert!(stream.is_open(), "a refused snapshot is no reason to leave");
}

#[tokio::test]
async fn a_stream_that_ends_or_lags_is_opened_anew_and_what_is_in_force_stays() {
    let (ca, server) = (ca(), Server::with_tools(&[]).await);
    let mut operator = Operator::start(&ca, "localhost").await;
    let dir = run_dir(&ca, TOKEN);
    let sidecar = Sidecar::following(&server.url(), source(operator.port, dir.path()));
    let first = operator.opened().await;
    first.send(&WatchMessage::Snapshot(snapshot("read", 1)));
    operator.reported(1).await;

    drop(first);
    let second = operator.opened().await;
    assert!(sidecar.call("read").await.ran());
    second.send(&WatchMessage::Snapshot(snapshot("read", 1)));
    operator.reported(2).await;
    second.send(&WatchMessage::Heartbeat { sha256: snapshot("read", 1).sha256 });
    second.send(&WatchMessage::Heartbeat { sha256: snapshot("write", 2).sha256 });
    let third = operator.opened().await;
    eventually("the stream that lags is left", async || !second.is_open()).await;
    third.send(&WatchMessage::Snapshot(snapshot("write", 2)));
    operator.reported(3).await;
    assert!(sidecar.call("write").await.ran());

    let _ = third.0.send(Bytes::from_static(b"not a message\n"));
    operator.opened().await;
    assert!(sidecar.call("write").await.ran());
}

#[tokio::test]
async fn the_token_is_read_for_each_request() {
    let (ca, server) = (ca(), Server::with_tools(&[]).await);
    let mut operator = Operator::start(&ca, "localhost").await;
    let dir = run_dir(&ca, "expired");
    let sidecar = Sidecar::following(&server.url(), source(operator.port, dir.path()));
    eventually("the old token is refused", async || *operator.state.refused.lock().unwrap() > 0).await;
    assert_eq!(sidecar.call("read").await.denial()["code"], "no_policy");
    std::fs::write(dir.path().join("token"), TOKEN).unwrap();
    operator.opened().await.send(&WatchMessage::Snapshot(snapshot("read", 1)));
    operator.reported(1).await;
    assert!(sidecar.call("read").await.ran());
}

#[tokio::test]
async fn an_operator_with_another_ca_or_another_name_is_not_believed_until_the_ca_file_says_so() {
    let (old_ca, new_ca, server) = (ca(), ca(), Server::with_tools(&[]).await);
    let mut wrong_name = Operator::start(&old_ca, "other.example").await;
    let dir = run_dir(&old_ca, TOKEN);
    let misled = Sidecar::following(&server.url(), source(wrong_name.port, dir.path()));
    let mut operator = Operator::start(&new_ca, "localhost").await;
    let sidecar = Sidecar::following(&server.url(), source(operator.port, dir.path()));
    assert_eq!(sidecar.call("read").await.denial()["code"], "no_policy");
    assert!(operator.streams.try_recv().is_err());

    std::fs::write(dir.path().join("ca.crt"), format!("{}{}", old_ca.pem(), new_ca.pem())).unwrap();
    operator.opened().await.send(&WatchMessage::Snapshot(snapshot("read", 1)));
    operator.reported(1).await;
    assert!(sidecar.call("read").await.ran());
    assert!(wrong_name.streams.try_recv().is_err(), "the name in the certificate is checked");
    assert_eq!(misled.call("read").await.denial()["code"], "no_policy");
}
