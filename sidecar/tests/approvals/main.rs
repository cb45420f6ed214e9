//! Calls that wait for people, against a stub of the operator: answered at once, held open, or with the page where people decide.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod pages;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use http::StatusCode;
use mcp_policy::Snapshot;
use mcp_policy::snapshot::{SnapshotPolicy, WatchMessage};
use serde_json::{Value, json};
use support::operator::{Operator, Stream, TOKEN, ca, run_dir, source};
use support::{Answered, Client, Reply, Server, Sidecar, eventually, mcp, next_bytes, ran};
use tempfile::TempDir;

/// A sidecar that enforces one policy, between an operator and a server.
struct Case {
    operator: Operator,
    stream: Stream,
    server: Server,
    sidecar: Sidecar,
    _dir: TempDir,
}

impl Case {
    async fn new(document: Value) -> Self {
        Self::before(Server::with_tools(&[]).await, document).await
    }

    async fn before(server: Server, document: Value) -> Self {
        let ca = ca();
        let mut operator = Operator::start(&ca, "localhost").await;
        let dir = run_dir(&ca, TOKEN);
        let sidecar = Sidecar::following(&server.url(), source(operator.port, dir.path()));
        let stream = operator.opened().await;
        stream.send(&WatchMessage::Snapshot(snapshot(document, 7)));
        operator.reported(1).await;
        Self { operator, stream, server, sidecar, _dir: dir }
    }

    /// What the operator answers next.
    fn says(&self, answer: Value) {
        self.operator.state.approvals.lock().unwrap().push(answer);
    }

    /// Waits until the operator was asked so often.
    async fn asked(&self, times: usize) {
        eventually("the operator is asked", async || self.operator.state.asked.lock().unwrap().len() >= times).await;
    }

    /// Begins a call that people are asked about, and waits until it is held.
    async fn held(&self, call: Value) -> tokio::task::JoinHandle<Answered> {
        self.says(waiting());
        let address = self.sidecar.proxy;
        let answer = tokio::spawn(async move { Client::connect(address).await.send(mcp(call.to_string())).await });
        self.asked(2).await;
        assert_eq!(self.server.requests(), 0);
        answer
    }
}

fn snapshot(document: Value, generation: i64) -> Snapshot {
    Snapshot::new(vec![SnapshotPolicy {
        namespace: Some("imaging".into()),
        name: "imaging".into(),
        generation,
        mode: mcp_policy::Mode::Enforce,
        server: mcp_policy::Server::default(),
        from: None,
        on_audit_error: mcp_policy::resource::OnAuditError::Deny,
        document: Some(serde_json::from_value(document).unwrap()),
    }])
}

fn waiting() -> Value {
    json!({"state": "waiting", "approval": {"namespace": "imaging", "name": "a-1", "secondsLeft": 840}})
}

fn holding(wait: &str) -> Value {
    json!({"tools": {"pay": {"action": "approve", "limits": [{"counter": "c", "window": "hour", "max": 1}]}}, "approvals": {"wait": wait}})
}

fn pay() -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "pay", "arguments": {"amount": 1}}})
}

/// As [`pay`], by a client that wants to be told of progress.
fn pay_with_progress() -> Value {
    let mut call = pay();
    call["params"]["_meta"] = json!({"progressToken": "p-1"});
    call
}

#[tokio::test]
async fn a_call_that_is_held_passes_once_a_person_says_yes() {
    let case = Case::new(holding("20s")).await;
    let answer = case.held(pay()).await;
    case.says(json!({"state": "granted"}));
    let answer = answer.await.unwrap();
    assert!(answer.ran() && answer.headers["content-type"] == "application/json", "{answer:?}");
    assert_eq!(case.server.requests(), 1);
    let asked = case.operator.state.asked.lock().unwrap().clone();
    assert_eq!((&asked[0]["waitSeconds"], &asked[1]["waitSeconds"]), (&Value::Null, &json!(5)));
    assert_eq!(asked[0]["argumentsSha256"], asked[1]["argumentsSha256"]);
    assert_eq!(case.sidecar.audit.at_least(1).await[0]["code"], "allowed");
}

#[tokio::test]
async fn what_is_said_otherwise_lets_nothing_pass() {
    let approval = waiting()["approval"].clone();
    for (says, code) in [
        (json!({"state": "denied", "approval": approval, "reason": "Not today"}), "approval_denied"),
        (json!({"state": "notAsked", "why": "the policy that asks is not the one in force any more"}), "approval_required"),
    ] {
        let case = Case::new(holding("20s")).await;
        let answer = case.held(pay()).await;
        case.says(says);
        assert_eq!(answer.await.unwrap().denial()["code"], code);
        assert_eq!(case.server.requests(), 0);
        assert_eq!(case.sidecar.audit.at_least(1).await[0]["code"], code);
    }
}

#[tokio::test]
async fn after_the_time_the_call_is_answered_as_one_that_is_not_held() {
    let case = Case::new(holding("1s")).await;
    let began = Instant::now();
    let answer = case.held(pay()).await.await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
    assert_eq!(answer.denial()["code"], "approval_required");
    assert_eq!(answer.denial()["approval"]["name"], "a-1");
    assert_eq!(case.server.requests(), 0);
}

#[tokio::test]
async fn who_wants_to_be_told_of_progress_is_told_and_gets_the_answer_on_the_same_stream() {
    let event = |id: &Value| json!({"jsonrpc": "2.0", "id": id, "result": {"content": [{"type": "text", "text": "ran"}]}});
    let progress = json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": "p-1", "progress": 0}});
    let error = json!({"jsonrpc": "2.0", "id": 1, "error": {"code": -32602, "message": "Unknown tool"}});
    for (reply, last) in
        [("json", event(&json!(1))), ("events", event(&json!(1))), ("error", error.clone()), ("page", json!("upstream_unreachable"))]
    {
        let (progress, error) = (progress.clone(), error.clone());
        let server = Server::start(move |got| match reply {
            "json" => ran(&got.json()),
            "events" => Reply::events(&[progress.clone(), event(&got.json()["id"])]),
            "error" => Reply::status(StatusCode::BAD_REQUEST, &error),
            _ => Reply::Whole(http::Response::builder().status(StatusCode::BAD_GATEWAY).body("a page".into()).unwrap()),
        })
        .await;
        let case = Case::before(server, holding("20s")).await;
        let answer = case.held(pay_with_progress()).await;
        case.says(json!({"state": "granted"}));
        let answer = answer.await.unwrap();
        assert_eq!(answer.headers["content-type"], "text/event-stream");
        let events = answer.events();
        let told = &events[0]["params"];
        assert_eq!((events[0]["method"].as_str(), told["progressToken"].as_str()), (Some("notifications/progress"), Some("p-1")));
        assert!(told["progress"].as_i64().unwrap() < 0 && told["message"].as_str().unwrap().contains("imaging/a-1"), "{told}");
        let got = events.last().unwrap();
        if last.is_string() {
            assert_eq!(got["result"]["_meta"]["mcp-policy.dev/denial"]["code"], last);
        } else {
            assert_eq!(*got, last, "{reply}");
        }
        assert_eq!((case.server.requests(), events.len()), (1, if reply == "events" { 3 } else { 2 }), "{reply}");
    }
}

#[tokio::test]
async fn who_takes_no_event_stream_waits_without_progress() {
    let case = Case::new(holding("20s")).await;
    case.says(waiting());
    let mut request = mcp(pay_with_progress().to_string());
    request.headers_mut().insert("accept", "application/json".parse().unwrap());
    let address = case.sidecar.proxy;
    let answer = tokio::spawn(async move { Client::connect(address).await.send(request).await });
    case.asked(2).await;
    case.says(json!({"state": "granted"}));
    assert!(answer.await.unwrap().ran());
}

#[tokio::test]
async fn a_call_whose_caller_hangs_up_is_not_waited_for() {
    for call in [pay(), pay_with_progress()] {
        let case = Case::new(holding("20s")).await;
        let answer = case.held(call).await;
        answer.abort();
        eventually("the question is given up", async || case.operator.state.given_up.load(Ordering::SeqCst) == 1).await;
        case.says(json!({"state": "granted"}));
        assert_eq!(case.sidecar.audit.at_least(1).await[0]["code"], "approval_required");
        assert_eq!((case.server.requests(), case.operator.state.asked.lock().unwrap().len()), (0, 2));
    }
}

#[tokio::test]
async fn a_call_that_its_caller_cancels_is_not_waited_for_and_no_other() {
    let case = Case::new(holding("20s")).await;
    let answer = case.held(pay()).await;
    let cancel = |id: u64| json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}});
    assert_eq!(case.sidecar.post(&cancel(2)).await.status, StatusCode::ACCEPTED);
    assert_eq!(case.operator.state.given_up.load(Ordering::SeqCst), 0);
    assert!(!answer.is_finished());
    assert_eq!(case.sidecar.post(&cancel(1)).await.status, StatusCode::ACCEPTED);
    assert_eq!(answer.await.unwrap().denial()["code"], "approval_required");
    eventually("the question is given up", async || case.operator.state.given_up.load(Ordering::SeqCst) == 1).await;
    assert!(case.server.got().iter().all(|got| got.json()["method"] == "notifications/cancelled"));
}

#[tokio::test]
async fn a_change_of_policy_and_the_end_of_the_sidecar_answer_who_waits() {
    for ends in [false, true] {
        let case = Case::new(holding("20s")).await;
        let answer = case.held(pay()).await;
        if ends {
            case.sidecar.drain.terminate();
        } else {
            case.stream.send(&WatchMessage::Snapshot(snapshot(json!({"tools": {"pay": {"action": "deny"}}}), 8)));
        }
        assert_eq!(answer.await.unwrap().denial()["code"], "approval_required");
        eventually("the question is given up", async || case.operator.state.given_up.load(Ordering::SeqCst) == 1).await;
        assert_eq!(case.server.requests(), 0);
    }
}

/// "→ approval → reserve limits": what is held takes nothing, so the limit may be used up when people have spoken.
#[tokio::test]
async fn a_limit_that_is_used_up_meanwhile_refuses_the_call() {
    let case = Case::new(holding("20s")).await;
    let first = case.held(pay()).await;
    let mut other = pay();
    other["params"]["arguments"]["amount"] = 2.into();
    case.says(json!({"state": "granted"}));
    assert!(first.await.unwrap().ran());
    assert_eq!(case.sidecar.post(&other).await.denial()["code"], "limit_exceeded");
    assert_eq!(case.server.requests(), 1);
}

#[tokio::test]
async fn more_calls_than_there_is_room_for_are_answered_at_once() {
    let case = Case::new(json!({"tools": {"pay": {"action": "approve"}}, "approvals": {"wait": "1m"}})).await;
    let mut held = Vec::new();
    for _ in 0..64 {
        case.says(waiting());
        let mut client = Client::connect(case.sidecar.proxy).await;
        let mut response = client.open(mcp(pay_with_progress().to_string())).await;
        assert!(next_bytes(&mut response).await.is_some());
        held.push((client, response));
    }
    case.says(waiting());
    let last = Client::connect(case.sidecar.proxy).await.send(mcp(pay_with_progress().to_string())).await;
    assert_eq!(last.denial()["code"], "approval_required");
    assert_eq!(case.server.requests(), 0);
}

/// The code of a refused call, and whether the server saw it.
async fn told(sidecar: &Sidecar, arguments: &Value) -> (String, Value, bool) {
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "pay", "arguments": arguments}});
    let answer = sidecar.post(&call).await;
    if answer.ran() {
        return ("allowed".to_owned(), Value::Null, true);
    }
    (answer.denial()["code"].as_str().unwrap().to_owned(), answer.denial(), false)
}

/// The operator is asked each time anew, and its yes is good for one call; no answer and every other answer leave the server untouched.
#[tokio::test]
async fn a_call_that_waits_for_a_person_passes_only_with_the_operators_word() {
    let document =
        json!({"tools": {"pay": {"action": "approve", "reason": "Money.", "limits": [{"counter": "c", "window": "hour", "max": 1}]}}});
    let case = Case::new(document).await;
    let Case { operator, server, sidecar, .. } = &case;
    let approval = json!({"namespace": "imaging", "name": "a-1", "secondsLeft": 840});
    let answers = [
        (None, "approval_required"),
        (Some(json!({"state": "waiting", "approval": approval})), "approval_required"),
        (Some(json!({"state": "denied", "approval": approval, "reason": "Not today"})), "approval_denied"),
        (Some(json!({"state": "notAsked", "why": "too many calls wait"})), "approval_required"),
        (Some(json!({"state": "mumble"})), "approval_required"),
    ];
    for (answer, code) in answers {
        operator.state.approvals.lock().unwrap().extend(answer.clone());
        let (got, denial, ran) = told(sidecar, &json!({"amount": 1.0, "to": "bob"})).await;
        assert_eq!((got.as_str(), ran), (code, false), "{answer:?}");
        assert_eq!(server.requests(), 0, "{answer:?}");
        if answer.as_ref().is_some_and(|answer| answer["approval"].is_object()) {
            assert_eq!(denial["approval"], approval);
        }
    }
    let asked = operator.state.asked.lock().unwrap()[0].clone();
    assert_eq!((asked["caller"].as_str(), asked["tool"].as_str()), (Some("anonymous:127.0.0.1"), Some("pay")));
    assert_eq!(asked["needed"][0]["generation"], 7);
    assert_eq!(asked["needed"][0]["argumentKeys"], json!(["amount", "to"]));
    assert!(!asked.to_string().contains("bob"), "values are not told");

    operator.state.approvals.lock().unwrap().push(json!({"state": "granted"}));
    assert!(told(sidecar, &json!({"to": "bob", "amount": 1})).await.2);
    let digests: Vec<_> = operator.state.asked.lock().unwrap().iter().map(|asked| asked["argumentsSha256"].clone()).collect();
    assert!(digests.iter().all(|digest| *digest == digests[0]), "the same call, however it is written");
    // The limit is used up, so nobody is asked.
    let before = operator.state.asked.lock().unwrap().len();
    assert_eq!(told(sidecar, &json!({})).await.0, "limit_exceeded");
    assert_eq!(operator.state.asked.lock().unwrap().len(), before);
    assert_eq!(server.requests(), 1);
}
