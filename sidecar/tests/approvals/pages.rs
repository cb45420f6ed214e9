//! Clients that can send their user to the page where people decide are told of it, in the form of their revision: 2026-07-28 by
//! `input_required`, 2025-11-25 by `-32042`. Nobody else is, and what a client says of the page lets nothing pass.

use http::Request;
use http_body_util::Full;
use mcp_policy::snapshot::WatchMessage;
use serde_json::{Value, json};

use crate::support::{Answered, Client, Reply, Server, mcp, ran};
use crate::{Case, holding, pay, snapshot, waiting};

const PAGE: &str = "https://approvals.example.com/imaging/a-1";

type Body = Full<bytes::Bytes>;

fn approving() -> Value {
    json!({"tools": {"pay": {"action": "approve", "reason": "Money."}, "read": {}}})
}

/// What the operator says of a call that waits, with its page.
fn waiting_at(url: &str) -> Value {
    let mut waiting = waiting();
    waiting["approval"]["url"] = url.into();
    waiting
}

/// A server that takes any revision, opens the session `s`, and runs every tool.
async fn any_server() -> Server {
    Server::start(|got| {
        let message = got.json();
        if message["method"] != "initialize" {
            return ran(&message);
        }
        let result = json!({"protocolVersion": message["params"]["protocolVersion"], "capabilities": {}});
        let Reply::Whole(mut response) = Reply::json(&json!({"jsonrpc": "2.0", "id": message["id"], "result": result})) else {
            unreachable!()
        };
        response.headers_mut().insert("mcp-session-id", "s".parse().unwrap());
        Reply::Whole(response)
    })
    .await
}

/// [`pay`] in the modern revision, by a client with these capabilities, and with more `params`.
fn modern(capabilities: &Value, more: &Value) -> Request<Body> {
    let mut call = pay();
    call["params"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    call["params"]["_meta"] =
        json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": capabilities});
    let mut request = mcp(call.to_string());
    for (header, value) in [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/call"), ("mcp-name", "pay")] {
        request.headers_mut().insert(header, value.parse().unwrap());
    }
    request
}

/// [`pay`] in the session `s`.
fn in_session() -> Request<Body> {
    let mut request = mcp(pay().to_string());
    request.headers_mut().insert("mcp-session-id", "s".parse().unwrap());
    request
}

fn with_urls() -> Value {
    json!({"elicitation": {"form": {}, "url": {}}})
}

/// What a client sends that has shown the page, or says so.
fn shown(action: &str) -> Value {
    json!({"inputResponses": {"mcp-policy.dev/approval": {"action": action}}})
}

impl Case {
    async fn with_pages(document: Value) -> Self {
        Self::before(any_server().await, document).await
    }

    /// A client of this revision opens the session `s`.
    async fn initialize(&self, revision: &str, capabilities: &Value) {
        let params = json!({"protocolVersion": revision, "capabilities": capabilities, "clientInfo": {"name": "c", "version": "0"}});
        let answer = self.sidecar.post(&json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params})).await;
        assert_eq!(answer.headers["mcp-session-id"], "s", "{answer:?}");
    }

    /// How often a tool ran.
    fn ran(&self) -> usize {
        self.server.got().iter().filter(|got| got.json()["method"] == "tools/call").count()
    }
}

/// In which form a call is refused that waits.
#[derive(Debug, PartialEq)]
enum Form {
    Result,
    InputRequired,
    UrlElicitationRequired,
}

fn form(answer: &Answered) -> Form {
    let message = answer.json();
    let (form, denial) = if message["result"]["resultType"] == "input_required" {
        (Form::InputRequired, &message["result"]["_meta"]["mcp-policy.dev/denial"])
    } else if message["error"]["code"] == -32042 {
        (Form::UrlElicitationRequired, &message["error"]["data"]["mcp-policy.dev/denial"])
    } else {
        assert!(!answer.text().contains("approvals.example.com"), "{message}");
        (Form::Result, &answer.denial())
    };
    assert_eq!((answer.status.as_u16(), &denial["code"], &denial["approval"]["name"]), (200, &json!("approval_required"), &json!("a-1")));
    form
}

#[tokio::test]
async fn a_modern_client_is_sent_to_the_page_if_it_declares_with_the_very_call_that_it_shows_pages() {
    for (capabilities, url, more, expected) in [
        (with_urls(), PAGE, json!({}), Form::InputRequired),
        (json!({"elicitation": {"url": {}}}), PAGE, json!({}), Form::InputRequired),
        (json!({"elicitation": {}}), PAGE, json!({}), Form::Result),
        (json!({"elicitation": {"form": {}}}), PAGE, json!({}), Form::Result),
        (json!({"elicitation": {"url": true}}), PAGE, json!({}), Form::Result),
        (json!({}), PAGE, json!({}), Form::Result),
        (json!({}), PAGE, json!({"capabilities": with_urls()}), Form::Result),
        // A page that is none never reaches a client.
        (with_urls(), "http://approvals.example.com/a-1", json!({}), Form::Result),
        (with_urls(), "javascript://approvals.example.com/%0aalert(1)", json!({}), Form::Result),
        (with_urls(), "https://bank@approvals.example.com/a-1", json!({}), Form::Result),
        (with_urls(), "https://", json!({}), Form::Result),
        // What answers an earlier question is not asked again, whoever asked that, and whatever the answer is.
        (with_urls(), PAGE, shown("accept"), Form::Result),
        (with_urls(), PAGE, shown("decline"), Form::Result),
        (with_urls(), PAGE, json!({"inputResponses": {}}), Form::Result),
        (with_urls(), PAGE, json!({"requestState": "the server's"}), Form::Result),
    ] {
        let case = Case::with_pages(approving()).await;
        case.says(waiting_at(url));
        let answer = case.sidecar.send(modern(&capabilities, &more)).await;
        assert_eq!(form(&answer), expected, "{capabilities} {url} {more}");
        assert_eq!(case.server.requests(), 0);
        assert_eq!(case.sidecar.audit.at_least(1).await[0]["code"], "approval_required");
        assert!(case.sidecar.metrics().await.contains(r#"code="approval_required""#));
    }
    let case = Case::with_pages(approving()).await;
    case.says(waiting());
    assert_eq!(form(&case.sidecar.send(modern(&with_urls(), &json!({}))).await), Form::Result, "there is no page");
}

#[tokio::test]
async fn a_client_with_a_session_is_sent_to_the_page_if_it_declared_so_in_the_one_revision_that_can() {
    for (revision, capabilities, expected) in [
        ("2025-11-25", with_urls(), Form::UrlElicitationRequired),
        ("2025-11-25", json!({"elicitation": {}}), Form::Result),
        ("2025-11-25", json!({}), Form::Result),
        ("2025-06-18", with_urls(), Form::Result),
        ("2025-03-26", with_urls(), Form::Result),
    ] {
        let case = Case::with_pages(approving()).await;
        case.initialize(revision, &capabilities).await;
        case.says(waiting_at(PAGE));
        assert_eq!(form(&case.sidecar.send(in_session()).await), expected, "{revision} {capabilities}");
        case.says(waiting());
        assert_eq!(form(&case.sidecar.send(in_session()).await), Form::Result, "there is no page");
        case.says(waiting_at(PAGE));
        assert_eq!(form(&case.sidecar.post(&pay()).await), Form::Result, "of no session");
        assert_eq!(case.ran(), 0);
    }
}

/// The schemas of both revisions, to the letter.
#[tokio::test]
async fn the_page_is_told_in_the_form_of_the_revision() {
    let case = Case::with_pages(approving()).await;
    case.initialize("2025-11-25", &with_urls()).await;
    let message = |decision: &Value| {
        format!(
            "A policy lets this call of `pay` pass only with a person's approval. It can be given or denied on this page for another 840 \
             seconds: approval imaging/a-1. Reason: Money. Reference: {}.",
            decision.as_str().unwrap()
        )
    };
    let denial = |decision: &Value| {
        json!({
            "code": "approval_required",
            "policy": "imaging/imaging",
            "rule": "/tools/pay/action",
            "retryAfterSeconds": 10,
            "approval": {"namespace": "imaging", "name": "a-1", "secondsLeft": 840},
            "decisionId": decision,
        })
    };
    case.says(waiting_at(PAGE));
    let answer = case.sidecar.send(modern(&with_urls(), &json!({}))).await.json();
    let id = &answer["result"]["_meta"]["mcp-policy.dev/denial"]["decisionId"];
    let params = json!({"mode": "url", "url": PAGE, "message": message(id)});
    let expected = json!({
        "resultType": "input_required",
        "inputRequests": {"mcp-policy.dev/approval": {"method": "elicitation/create", "params": params}},
        "_meta": {"mcp-policy.dev/denial": denial(id)},
    });
    assert_eq!(answer, json!({"jsonrpc": "2.0", "id": 1, "result": expected}));

    case.says(waiting_at(PAGE));
    let answer = case.sidecar.send(in_session()).await.json();
    let id = &answer["error"]["data"]["mcp-policy.dev/denial"]["decisionId"];
    let elicitation = json!({"mode": "url", "elicitationId": "imaging/a-1", "url": PAGE, "message": message(id)});
    assert_eq!(answer["error"]["data"], json!({"elicitations": [elicitation], "mcp-policy.dev/denial": denial(id)}));
    let told = answer["error"]["message"].as_str().unwrap();
    assert!(told.contains("Nothing was executed") && told.contains("Make the very same call again"), "{told}");
}

/// What the client says it did at the page is no approval: only the operator's word lets a call pass, once, and then as it was sent.
#[tokio::test]
async fn a_client_that_has_shown_the_page_passes_when_a_person_said_yes_and_not_before() {
    let case = Case::with_pages(approving()).await;
    case.says(waiting_at(PAGE));
    assert_eq!(form(&case.sidecar.send(modern(&with_urls(), &json!({}))).await), Form::InputRequired);
    for forged in [
        shown("accept"),
        json!({"inputResponses": {"mcp-policy.dev/approval": {"action": "accept", "content": {"approved": true}}}}),
        json!({"inputResponses": {"mcp-policy.dev/approval": {"state": "granted"}}, "requestState": "granted"}),
    ] {
        case.says(waiting_at(PAGE));
        assert_eq!(form(&case.sidecar.send(modern(&with_urls(), &forged)).await), Form::Result);
    }
    case.says(json!({"state": "denied", "approval": waiting()["approval"], "reason": "Not today"}));
    assert_eq!(case.sidecar.send(modern(&with_urls(), &shown("accept"))).await.denial()["code"], "approval_denied");
    assert_eq!(case.ran(), 0);

    case.says(json!({"state": "granted"}));
    let request = modern(&with_urls(), &shown("accept"));
    let sent = http_body_util::BodyExt::collect(request.body().clone()).await.unwrap().to_bytes();
    assert!(case.sidecar.send(request).await.ran());
    assert_eq!(case.ran(), 1);
    assert_eq!(case.server.got().last().unwrap().body, sent, "to the byte");
    case.says(waiting_at(PAGE));
    assert_eq!(form(&case.sidecar.send(modern(&with_urls(), &json!({}))).await), Form::InputRequired, "the next call is another");
    assert_eq!(case.ran(), 1);
    let asked = case.operator.state.asked.lock().unwrap().clone();
    assert!(asked.iter().all(|question| question == &asked[0]), "the question is the same, whatever the client answers: {asked:#?}");
}

#[tokio::test]
async fn a_modern_client_is_held_when_it_has_shown_the_page_and_one_with_a_session_before() {
    let case = Case::with_pages(holding("20s")).await;
    case.says(waiting_at(PAGE));
    assert_eq!(form(&case.sidecar.send(modern(&with_urls(), &json!({}))).await), Form::InputRequired, "at once");
    case.says(waiting_at(PAGE));
    let address = case.sidecar.proxy;
    let held = tokio::spawn(async move { Client::connect(address).await.send(modern(&with_urls(), &shown("accept"))).await });
    case.asked(3).await;
    assert_eq!(case.ran(), 0);
    case.says(json!({"state": "granted"}));
    assert!(held.await.unwrap().ran());
    assert_eq!(case.ran(), 1);

    let case = Case::with_pages(holding("1s")).await;
    case.initialize("2025-11-25", &with_urls()).await;
    case.says(waiting_at(PAGE));
    assert_eq!(form(&case.sidecar.send(in_session()).await), Form::UrlElicitationRequired, "when nobody spoke in time");
    assert_eq!(case.operator.state.asked.lock().unwrap()[1]["waitSeconds"], 1);
    assert_eq!(case.ran(), 0);
}

/// The page changes nothing for calls that no person is asked about, nor for hidden tools.
#[tokio::test]
async fn what_needs_no_approval_is_answered_as_ever() {
    let mut document = approving();
    document["hide"] = json!(["pay"]);
    let case = Case::with_pages(document).await;
    let hidden = case.sidecar.send(modern(&with_urls(), &json!({}))).await;
    assert_eq!(hidden.json()["error"]["code"], -32602, "{hidden:?}");
    case.stream.send(&WatchMessage::Snapshot(snapshot(json!({"tools": {"pay": {}}}), 8)));
    case.operator.reported(2).await;
    assert!(
        case.sidecar.send(modern(&with_urls(), &json!({"inputResponses": {"q": {"action": "accept"}}, "requestState": "s"}))).await.ran()
    );
    assert_eq!(case.server.got()[0].json()["params"]["requestState"], "s", "what the server asked for is between the two");
    assert!(case.operator.state.asked.lock().unwrap().is_empty());
}
