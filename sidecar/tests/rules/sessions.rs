//! Rule 21 and sessions: opened by the server, ended by the client or by the server, and never made up.

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::Duration;

use ::http::{Request, Response, StatusCode};
use bytes::Bytes;
use http_body_util::Full;
use mcp_policy_sidecar::config::DrainTimes;
use serde_json::json;

use crate::support::{Reply, Server, Sidecar, call, mcp, ran};
use crate::{get, initialize, with_headers};

/// A server that opens the sessions that the test names, and answers 404 to all others.
async fn with_sessions() -> Server {
    let open = Mutex::new(HashSet::new());
    Server::start(move |got| {
        let message = got.json();
        let session = |name: &str| got.headers.get(name).map(|session| session.to_str().unwrap().to_owned());
        if message["method"] == "initialize" {
            let opened = session("x-session").unwrap();
            open.lock().unwrap().insert(opened.clone());
            let Reply::Whole(mut response) = Reply::json(&json!({"jsonrpc": "2.0", "id": message["id"], "result": {}})) else {
                unreachable!()
            };
            response.headers_mut().insert("mcp-session-id", opened.parse().unwrap());
            return Reply::Whole(response);
        }
        let known = session("mcp-session-id").is_none_or(|id| open.lock().unwrap().contains(&id));
        match got.method.as_str() {
            _ if !known => {
                Reply::status(StatusCode::NOT_FOUND, &json!({"jsonrpc": "2.0", "error": {"code": -32001, "message": "Session not found"}}))
            }
            "DELETE" => {
                open.lock().unwrap().remove(&session("mcp-session-id").unwrap_or_default());
                Reply::Whole(Response::new(Bytes::new()))
            }
            "GET" => Reply::events(&[]),
            _ => ran(&message),
        }
    })
    .await
}

fn in_session(request: Request<Full<Bytes>>, session: &str) -> Request<Full<Bytes>> {
    with_headers(request, &[("mcp-session-id", session)])
}

fn delete(session: &str) -> Request<Full<Bytes>> {
    in_session(Request::delete("/mcp").header("host", "localhost").body(Full::default()).unwrap(), session)
}

async fn open(sidecar: &Sidecar, session: &str) {
    let opened = sidecar.send(with_headers(mcp(initialize().to_string()), &[("x-session", session)])).await;
    assert_eq!(opened.headers["mcp-session-id"], session);
}

/// "Only a session that was opened through the sidecar is one; any other id is as none." "`session`: […] it keeps a well-meant agent in
/// bounds and stops nobody else."
#[tokio::test]
async fn rule_21_only_a_session_that_was_opened_here_has_a_budget_of_its_own() {
    let server = Server::start(|got| {
        let Reply::Whole(mut response) = ran(&got.json()) else { unreachable!() };
        if let Some(session) = got.headers.get("x-session") {
            response.headers_mut().insert("mcp-session-id", session.clone());
        }
        Reply::Whole(response)
    })
    .await;
    let sidecar = Sidecar::guarding(&server.url(), &json!({"tools": {"read": {"rateLimit": {"max": 1, "window": "hour"}}}}));
    let read = async |session: &str| sidecar.send(in_session(mcp(call(1, "read").to_string()), session)).await;
    open(&sidecar, "one").await;
    open(&sidecar, "two").await;
    assert!(read("one").await.ran());
    assert!(read("two").await.ran());
    assert_eq!(read("one").await.denial()["code"], "limit_exceeded");
    assert!(read("made-up").await.ran(), "the caller's own budget");
    assert_eq!(read("made-up-2").await.denial()["code"], "limit_exceeded", "not a budget for each made-up session");
    open(&sidecar, "three").await;
    assert_eq!(sidecar.send(delete("three")).await.status, StatusCode::OK);
    assert_eq!(read("three").await.denial()["code"], "limit_exceeded", "an ended session counts as none");
}

#[tokio::test]
async fn rule_21_a_session_that_the_server_does_not_know_is_404_for_every_method() {
    let server = with_sessions().await;
    let sidecar = Sidecar::guarding(&server.url(), &json!({"default": "allow"}));
    open(&sidecar, "mine").await;
    assert!(sidecar.send(in_session(mcp(call(1, "read").to_string()), "mine")).await.ran());
    assert_eq!(sidecar.send(in_session(get(), "mine")).await.status, StatusCode::OK);
    for request in [in_session(mcp(call(1, "read").to_string()), "foreign"), in_session(get(), "foreign"), delete("foreign")] {
        let answer = sidecar.send(request).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{}", answer.text());
        assert_eq!(answer.json()["error"]["message"], "Session not found", "the server's own words");
    }
    assert_eq!(sidecar.send(delete("mine")).await.status, StatusCode::OK);
    assert_eq!(sidecar.send(in_session(mcp(call(1, "read").to_string()), "mine")).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn rule_21_a_session_id_and_an_event_id_arrive_as_they_were_sent() {
    let server = with_sessions().await;
    let sidecar = Sidecar::guarding(&server.url(), &json!({"default": "allow"}));
    let id = "!~#$%&'()*+,-./09:;<=>?@AZ[]^_`az{|}";
    open(&sidecar, id).await;
    assert_eq!(sidecar.send(with_headers(in_session(get(), id), &[("last-event-id", "a b/=\"7\"")])).await.status, StatusCode::OK);
    let got = server.got().pop().unwrap();
    assert_eq!((&got.headers["mcp-session-id"], &got.headers["last-event-id"]), (&id.parse().unwrap(), &"a b/=\"7\"".parse().unwrap()));
}

/// While the end of a pod is announced, its endpoints are not yet forgotten: whoever still arrives is served, and opens another session
/// elsewhere when this one is gone. To refuse would be an outage for them.
#[tokio::test]
async fn a_session_can_be_opened_while_the_end_is_announced() {
    let server = with_sessions().await;
    let forever = Duration::from_hours(1);
    let sidecar = Sidecar::configured(&server.url(), &json!({"default": "allow"}), |config| {
        config.drain = DrainTimes { announce: forever, deadline: forever };
    });
    sidecar.drain.announce();
    open(&sidecar, "late").await;
    assert!(sidecar.send(in_session(mcp(call(1, "read").to_string()), "late")).await.ran());
}
