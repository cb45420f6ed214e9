//! Clients that others wrote, unchanged, and a tool that waits for a person: those that declare that they can send their user to a page
//! are told where people decide, and the call passes when a person has said yes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../../sidecar/tests/support/mod.rs"]
mod support;

use std::process::Command;
use std::sync::Arc;

use mcp_policy::Snapshot;
use mcp_policy::snapshot::{SnapshotPolicy, WatchMessage};
use mcp_policy_interop::client::{Agent, Answer, Client};
use mcp_policy_interop::fixture::Fixture;
use mcp_policy_interop::server::{Sdk, Server};
use serde_json::{Value, json};
use support::Sidecar;
use support::operator::{Operator, OperatorState, TOKEN, ca, run_dir, source};

const PAGE: &str = "https://approvals.example.com/imaging/a-1";
/// Of the fixture, and of the servers of the SDKs.
const TOOLS: [&str; 2] = ["test_simple_text", "safe"];
/// Asks its user something of its own before it has done its work.
const ASKING: &str = "test_input_required_result_elicitation";

fn policy() -> SnapshotPolicy {
    let approve = json!({"action": "approve"});
    let document = json!({"default": "allow", "tools": {TOOLS[0]: approve, TOOLS[1]: approve, ASKING: approve}});
    SnapshotPolicy {
        namespace: Some("imaging".into()),
        name: "imaging".into(),
        generation: 1,
        mode: mcp_policy::Mode::Enforce,
        server: mcp_policy::Server { sse_path: Some("/sse".to_owned()), ..mcp_policy::Server::default() },
        from: None,
        on_audit_error: mcp_policy::resource::OnAuditError::Deny,
        document: Some(serde_json::from_value(document).unwrap()),
    }
}

fn waiting() -> Value {
    json!({"state": "waiting", "approval": {"namespace": "imaging", "name": "a-1", "secondsLeft": 840, "url": PAGE}})
}

fn granted() -> Value {
    json!({"state": "granted"})
}

/// A client, a sidecar, and what the operator says to it.
struct Case {
    client: Client,
    agent: Agent,
    operator: Arc<OperatorState>,
}

impl Case {
    fn new(client: Client, url: &str, operator: &Arc<OperatorState>) -> Self {
        let command = client.command();
        let mut program = Command::new(command.get_program());
        program.args(command.get_args()).arg(url);
        Self { client, agent: Agent::connect(program), operator: Arc::clone(operator) }
    }

    /// Calls a tool about which the operator answers so, question by question.
    fn call<const N: usize>(&mut self, tool: &str, mut answers: [Value; N]) -> Answer {
        answers.reverse();
        *self.operator.approvals.lock().unwrap() = answers.into();
        let answer = self.agent.call(tool, &json!({}));
        assert!(self.operator.approvals.lock().unwrap().is_empty(), "{:?} was not asked as often as that: {answer:?}", self.client);
        answer
    }

    /// Calls a tool, first while nobody decides, then until it passes. `ran` tells how often it did.
    fn passes_once_a_person_said_yes(&mut self, tool: &str, mut ran: impl FnMut() -> usize) {
        let before = ran();
        if self.agent.protocol == "2025-11-25" {
            let asked = self.call(tool, [waiting()]);
            assert_eq!((&asked.0["error"]["code"], asked.pages()), (&json!(-32042), vec![PAGE]), "{:?}: {asked:?}", self.client);
            assert_eq!(ran(), before);
            let passed = self.call(tool, [granted()]);
            assert!(passed.passed() && passed.pages().is_empty(), "{:?}: {passed:?}", self.client);
        } else {
            let asked = self.call(tool, [waiting(), waiting()]);
            assert!(asked.text().contains("Nothing was executed. A person was asked"), "{:?}: {asked:?}", self.client);
            assert_eq!((asked.pages(), ran()), (vec![PAGE], before), "{:?}: once, though it comes back by itself", self.client);
            let passed = self.call(tool, [waiting(), granted()]);
            assert!(passed.passed() && passed.pages() == [PAGE], "{:?}: {passed:?}", self.client);
        }
        assert_eq!(ran(), before + 1, "{:?}", self.client);
    }
}

/// Does this with a sidecar in front of a server.
async fn guarding(upstream: &str, what: impl FnOnce(&str, &Arc<OperatorState>) + Send + 'static) {
    let ca = ca();
    let mut operator = Operator::start(&ca, "localhost").await;
    let dir = run_dir(&ca, TOKEN);
    let sidecar = Sidecar::following(upstream, source(operator.port, dir.path()));
    let stream = operator.opened().await;
    stream.send(&WatchMessage::Snapshot(Snapshot::new(vec![policy()])));
    operator.reported(1).await;
    let (url, state) = (format!("http://{}/mcp", sidecar.proxy), Arc::clone(&operator.state));
    tokio::task::spawn_blocking(move || what(&url, &state)).await.unwrap();
}

#[tokio::test]
async fn every_client_sends_its_user_to_the_page_and_its_call_passes_once_a_person_said_yes() {
    let fixture = Fixture::start();
    let upstream = fixture.url().to_owned();
    guarding(&upstream, move |url, operator| {
        let ran = || usize::try_from(fixture.account()["ran"][TOOLS[0]].as_u64().unwrap_or(0)).unwrap();
        for client in Client::ALL {
            let mut case = Case::new(client, url, operator);
            assert_eq!(case.agent.protocol, client.revision());
            case.passes_once_a_person_said_yes(TOOLS[0], ran);
            assert!(case.agent.call("test_image_content", &json!({})).passed(), "{client:?} does not go on");
        }
    })
    .await;
}

/// The answer to the sidecar's question goes on to the server, which did not ask.
#[tokio::test]
async fn every_modern_server_runs_a_call_whose_user_was_sent_to_the_page() {
    for sdk in [Sdk::TypeScript2, Sdk::Python2, Sdk::Rust] {
        let mut server = Server::start(sdk);
        let upstream = server.url();
        guarding(&upstream, move |url, operator| {
            let mut ran = 0;
            let mut case = Case::new(Client::Python2, url, operator);
            assert_eq!(case.agent.protocol, "2026-07-28");
            case.passes_once_a_person_said_yes(TOOLS[1], || {
                ran += server.executed().len();
                ran
            });
        })
        .await;
    }
}

/// The stream of HTTP+SSE is a session, in which a client may say as much.
#[tokio::test]
async fn a_client_of_the_older_transport_sends_its_user_to_the_page_too() {
    let mut server = Server::start_older();
    let upstream = format!("http://{}", server.address());
    guarding(&upstream, move |url, operator| {
        let mut ran = 0;
        let mut case = Case::new(Client::Python1, &url.replace("/mcp", "/sse"), operator);
        case.passes_once_a_person_said_yes(TOOLS[1], || {
            ran += server.executed().len();
            ran
        });
    })
    .await;
}

/// Its question and the sidecar's do not get into each other's way: each round is a call of its own, and each is decided.
#[tokio::test]
async fn a_server_that_asks_too_gets_its_answer() {
    let fixture = Fixture::start();
    let upstream = fixture.url().to_owned();
    guarding(&upstream, move |url, operator| {
        for client in [Client::Python2, Client::TypeScript2Newest, Client::RustNewest] {
            let mut case = Case::new(client, url, operator);
            let answer = case.call(ASKING, [waiting(), granted(), granted()]);
            assert_eq!((answer.text(), answer.pages()), ("Hello, Ada!", vec![PAGE]), "{client:?}: {answer:?}");
            let answer = case.call(ASKING, [granted(), waiting()]);
            assert_eq!(
                (answer.code(), answer.pages()),
                ("approval_required", vec![]),
                "{client:?}: the next round was not approved: {answer:?}"
            );
        }
    })
    .await;
}
