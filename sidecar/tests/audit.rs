//! What happens to calls while nobody takes the audit lines: no call hangs, no line is lost without being counted, and none of what is
//! refused reaches the server.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

use std::fs::File;
use std::io::{BufRead, BufReader, PipeReader, pipe};
use std::thread;
use std::time::{Duration, Instant};

use mcp_policy_sidecar::books::lines::ROOM;
use serde_json::{Value, json};
use support::{Client, Server, Sidecar, call, eventually, manifest, mcp};

mod support;

/// Longer than any of these may take, also on a busy machine; far shorter than it would take if calls waited for a reader.
const SOON: Duration = Duration::from_secs(5);

fn policy(on_audit_error: Option<&str>) -> Value {
    let mut policy = manifest("enforce", &json!({"tools": {"x": {}}}));
    if let Some(word) = on_audit_error {
        policy["spec"]["onAuditError"] = word.into();
    }
    policy
}

/// More lines than can wait, and than a pipe holds.
const ENOUGH: usize = ROOM + 1500;

/// Makes so many lines that no more can wait, by calls that are refused: they cost least. Returns their codes.
async fn fill(sidecar: &Sidecar) -> Vec<String> {
    let mut client = Client::connect(sidecar.proxy).await;
    let mut codes = Vec::new();
    while codes.len() < ENOUGH && codes.last().is_none_or(|code| code != "audit_unavailable") {
        let answer = client.send(mcp(call(1, "other").to_string())).await;
        codes.push(answer.denial()["code"].as_str().unwrap().to_owned());
    }
    codes
}

async fn lost(sidecar: &Sidecar) -> usize {
    let metrics = sidecar.metrics().await;
    let line = metrics.lines().find(|line| line.starts_with("mcp_policy_audit_lines_lost_total")).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// Reads to the end: how many lines there are, and how many are missing by their own word.
fn read(reader: PipeReader) -> thread::JoinHandle<(usize, usize)> {
    thread::spawn(|| {
        BufReader::new(reader).lines().fold((0, 0), |(lines, missing), line| {
            match serde_json::from_str::<Value>(&line.unwrap()).unwrap()["linesLost"].as_u64() {
                Some(lost) => (lines, missing + usize::try_from(lost).unwrap()),
                None => (lines + 1, missing),
            }
        })
    })
}

/// Returns how many decisions there were.
async fn refuses_while_nothing_can_be_written(server: &Server, sidecar: &Sidecar) -> usize {
    let filled = fill(sidecar).await.len();
    assert!(filled < ENOUGH, "it is never full");
    for _ in 0..3 {
        let began = Instant::now();
        let refused = sidecar.call("x").await;
        assert!(began.elapsed() < SOON);
        assert_eq!(refused.denial()["code"], "audit_unavailable");
        assert_eq!(refused.denial()["retryAfterSeconds"], 5);
        assert!(refused.text().contains("Nothing was executed. Try again in 5 seconds"), "{}", refused.text());
    }
    assert_eq!(server.requests(), 0);
    // What has no line when it passes, passes; what is refused anyway is refused as ever.
    let list = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/list"});
    assert_eq!(sidecar.post(&list).await.tools(), ["x"]);
    assert_eq!(sidecar.post_bytes("[]").await.status, 400);
    assert_eq!(server.requests(), 1, "of all these, only the list reached the server");
    assert_eq!(lost(sidecar).await, 1 + 3 + 1);
    let refused = "mcp_policy_decisions_total{policy=\"\",tool=\"x\",decision=\"refused\",code=\"audit_unavailable\",mode=\"enforce\"} 3";
    assert!(sidecar.metrics().await.contains(refused));
    filled + 4
}

/// Ends the sidecar: each decision is in the log, or its absence is.
async fn everything_is_told(sidecar: Sidecar, decisions: usize, lines: thread::JoinHandle<(usize, usize)>) {
    let lost = lost(&sidecar).await;
    sidecar.drain.terminate();
    sidecar.ended.await.unwrap();
    assert_eq!(lines.join().unwrap(), (decisions - lost, lost));
}

#[tokio::test]
async fn calls_are_refused_while_lines_are_not_taken_and_go_on_when_they_are() {
    for on_audit_error in [None, Some("deny")] {
        let (reader, writer) = pipe().unwrap();
        let server = Server::with_tools(&["x"]).await;
        let sidecar = Sidecar::writing_to(writer, &server.url(), &policy(on_audit_error));
        let mut decisions = refuses_while_nothing_can_be_written(&server, &sidecar).await;
        let lines = read(reader);
        eventually("a call runs again", async || {
            decisions += 1;
            sidecar.call("x").await.ran()
        })
        .await;
        everything_is_told(sidecar, decisions, lines).await;
    }
}

#[tokio::test]
async fn a_full_disk_refuses_calls_as_a_reader_that_stalls_does() {
    let server = Server::with_tools(&["x"]).await;
    let full = File::options().write(true).open("/dev/full").unwrap();
    let sidecar = Sidecar::writing_to(full, &server.url(), &policy(None));
    refuses_while_nothing_can_be_written(&server, &sidecar).await;
}

#[tokio::test]
async fn calls_run_and_lines_are_dropped_and_counted_where_all_policies_say_so() {
    let (reader, writer) = pipe().unwrap();
    let server = Server::with_tools(&["x"]).await;
    let sidecar = Sidecar::writing_to(writer, &server.url(), &policy(Some("drop")));
    let filled = fill(&sidecar).await;
    assert_eq!(filled.len(), ENOUGH);
    assert!(filled.iter().all(|code| code == "default_deny"));
    let before = lost(&sidecar).await;
    for _ in 0..3 {
        let began = Instant::now();
        assert!(sidecar.call("x").await.ran());
        assert!(began.elapsed() < SOON);
    }
    assert_eq!((server.requests(), lost(&sidecar).await), (3, before + 3));
    let lines = read(reader);
    eventually("a line is written again", async || {
        let before = lost(&sidecar).await;
        sidecar.call("x").await.ran() && lost(&sidecar).await == before
    })
    .await;
    let decisions = filled.len() + server.requests();
    everything_is_told(sidecar, decisions, lines).await;
}
