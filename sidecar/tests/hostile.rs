//! Servers that mean harm, or are broken, byte by byte on raw sockets: the agent gets an error that it can read, nothing of what must
//! not pass does, what went wrong is counted and written down, and what the sidecar holds is bounded.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

mod support;

use std::time::Duration;

use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use mcp_policy_sidecar::config::{Config, Limits};
use serde_json::{Value, json};
use support::raw::{RawServer, Step, flood, say};
use support::{Answered, Client, Sidecar, call, eventually, in_time, mcp, next_bytes};

/// Stands in everything that must not come through.
const LEAK: &str = "must-not-pass";

/// More than the kernel and the sidecar hold of one connection, and less than an answer without an end.
const HELD_AT_MOST: usize = 24 * 1024 * 1024;

const JSON: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
const EVENTS: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

/// The policy: everything is allowed but one tool, which lists must not show.
fn policy() -> Value {
    json!({"default": "allow", "tools": {LEAK: {"action": "deny"}}})
}

/// Times that a test can wait for, and sizes that it can go beyond.
fn small(config: &mut Config) {
    config.limits = Limits {
        body_bytes: 256 * 1024,
        event_bytes: 256 * 1024,
        answer_timeout: Duration::from_millis(400),
        idle_timeout: Duration::from_millis(300),
        stream_idle_timeout: Duration::from_millis(300),
        total_timeout: Duration::from_millis(800),
        ..Limits::default()
    };
}

fn list(id: u64) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/list"})
}

/// An answer that shows what must not be shown.
fn leaking() -> String {
    let result = json!({"tools": [{"name": LEAK, "inputSchema": {"type": "object"}}]});
    json!({"jsonrpc": "2.0", "id": 1, "result": result}).to_string()
}

/// An answer in which some read one list and some another.
fn two_lists() -> String {
    leaking().replace("\"tools\"", "\"tools\":[],\"tools\"")
}

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

/// What a connection says that behaves.
fn good() -> Vec<Step> {
    let body = json!({"jsonrpc": "2.0", "id": 2, "result": {"content": [{"type": "text", "text": "ran"}], "tools": []}}).to_string();
    vec![Step::Read, say(format!("{JSON}content-length: {}\r\n\r\n{body}", body.len())), Step::Wait]
}

struct Case {
    name: &'static str,
    /// What the server does when it has read the request.
    then: Vec<Step>,
    /// The reason as metrics and audit lines give it.
    reason: &'static str,
}

fn case(name: &'static str, reason: &'static str, then: Vec<Step>) -> Case {
    Case { name, then, reason }
}

/// Answers that fail whatever was asked.
fn broken() -> Vec<Case> {
    let leaking = leaking();
    let whole = format!("content-length: {}\r\n\r\n{leaking}", leaking.len());
    vec![
        case("the connection is closed without a word", "no_answer", vec![]),
        case("it is closed within the head", "no_answer", vec![say("HTTP/1.1 200 OK\r\ncontent-ty")]),
        case("no word, and the connection stays", "answer_timeout", vec![Step::Wait]),
        case("another protocol", "not_http", vec![say(format!("SSH-2.0-{LEAK}\r\n"))]),
        case("HTTP/2", "not_http", vec![say("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")]),
        case("a body without a head", "not_http", vec![say(leaking.clone())]),
        case("a status that is no number", "not_http", vec![say(format!("HTTP/1.1 2x0 OK\r\n{whole}"))]),
        case("a folded header", "not_http", vec![say(format!("{JSON}x-a: b\r\n {LEAK}\r\n{whole}"))]),
        case("a NUL in a header", "not_http", vec![say(format!("{JSON}x-a: b\0c\r\n{whole}"))]),
        case("a space before the colon", "not_http", vec![say(format!("HTTP/1.1 200 OK\r\ncontent-type : a/b\r\n{whole}"))]),
        case("headers without an end", "not_http", vec![say(JSON), flood("x-more: of the same\r\n")]),
        case("a header without an end", "not_http", vec![say(JSON), say("x-long: "), flood("xxxxxxxxxxxxxxxx")]),
        case("too many headers", "not_http", vec![say(JSON), say("x-more: of the same\r\n".repeat(200)), say(whole.clone()), Step::Wait]),
        case("a head that drips", "answer_timeout", vec![say(JSON), Step::Drip("x-more: of the same\r\n".into())]),
        case("informational answers without an end", "answer_timeout", vec![flood("HTTP/1.1 100 Continue\r\n\r\n")]),
        case("hints without an end", "answer_timeout", vec![flood("HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n")]),
        case("another protocol, politely", "redirect", vec![say("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n"), Step::Wait]),
        case("a redirect", "redirect", vec![say(format!("HTTP/1.1 307 Temporary Redirect\r\nlocation: /{LEAK}\r\n{whole}"))]),
        case("a redirect that is none", "redirect", vec![say(format!("HTTP/1.1 302 Found\r\n{whole}"))]),
        case("a negative length", "not_http", vec![say(format!("{JSON}content-length: -1\r\n\r\n{leaking}"))]),
        case("a length with a sign", "not_http", vec![say(format!("{JSON}content-length: +9\r\n\r\n{leaking}"))]),
        case("a length beyond all numbers", "not_http", vec![say(format!("{JSON}content-length: 99999999999999999999\r\n\r\n{leaking}"))]),
        case("two lengths that differ", "not_http", vec![say(format!("{JSON}content-length: 9\r\n{whole}"))]),
        case("fewer bytes than the length says", "cut_off", vec![say(format!("{JSON}content-length: 1000\r\n\r\n{leaking}"))]),
        case(
            "a chunked body without its end",
            "cut_off",
            vec![say(format!("{JSON}transfer-encoding: chunked\r\n\r\n{}", chunk(&leaking)))],
        ),
        case("a chunk without a size", "cut_off", vec![say(format!("{JSON}transfer-encoding: chunked\r\n\r\n{leaking}"))]),
        case(
            "a chunk of a size beyond all numbers",
            "cut_off",
            vec![say(format!("{JSON}transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n{leaking}"))],
        ),
        case(
            "a chunk whose extension has no end",
            "cut_off",
            vec![say(format!("{JSON}transfer-encoding: chunked\r\n\r\n1;x")), flood("xxxxxxxxxxxxxxxx")],
        ),
        case(
            "trailers without an end",
            "cut_off",
            vec![say(format!("{JSON}transfer-encoding: chunked\r\n\r\n{}0\r\n", chunk(&leaking))), flood("x-more: of the same\r\n")],
        ),
        case("a body that stops coming", "idle_timeout", vec![say(format!("{JSON}content-length: 1000\r\n\r\n{leaking}")), Step::Wait]),
        case("a body that drips", "total_timeout", vec![say(format!("{JSON}content-length: 100000\r\n\r\n")), Step::Drip(" ".into())]),
    ]
}

/// Answers that a call may have, and a list that has to be filtered may not.
fn unfilterable() -> Vec<Case> {
    let leaking = leaking();
    let chunked = format!("{JSON}connection: close\r\ntransfer-encoding: chunked\r\n\r\n");
    vec![
        case(
            "an encoded answer",
            "encoded",
            vec![say(format!("{JSON}content-encoding: gzip\r\ncontent-length: {}\r\n\r\n{leaking}", leaking.len())), Step::Wait],
        ),
        case(
            "a length over the limit",
            "too_large",
            vec![say(format!("{JSON}content-length: 1000000000000\r\n\r\n{leaking}")), Step::Wait],
        ),
        case("an answer without an end", "too_large", vec![say(chunked.clone()), flood(chunk(&" ".repeat(4096)))]),
        case("no JSON", "unreadable", vec![say(format!("{chunked}{}0\r\n\r\n", chunk(LEAK))), Step::Wait]),
        case("two answers in one body", "unreadable", vec![say(format!("{chunked}{}0\r\n\r\n", chunk(&leaking.repeat(2)))), Step::Wait]),
        case("two lists in one answer", "unreadable", vec![say(format!("{chunked}{}0\r\n\r\n", chunk(&two_lists()))), Step::Wait]),
    ]
}

/// Runs a case on a server of its own, and checks what holds of all of them. Returns the answer and the sidecar.
async fn run(case: &Case, request: &Value) -> (Answered, Sidecar) {
    let name = case.name;
    let first = std::iter::once(Step::Read).chain(case.then.clone()).collect();
    let server = RawServer::start(vec![first, good()]).await;
    let sidecar = Sidecar::configured(&server.url(), &policy(), small);
    let mut client = Client::connect(sidecar.proxy).await;

    let answer = client.send(mcp(request.to_string())).await;
    assert_eq!((answer.status, &answer.json()["id"]), (StatusCode::OK, &json!(1)), "{name}: {}", answer.text());
    assert!(!answer.text().contains(LEAK), "{name}: {}", answer.text());
    assert_eq!(server.requests(), 1, "{name}: it was sent once");
    assert!(server.sent() < HELD_AT_MOST, "{name}: {} bytes were taken", server.sent());
    let counted = format!("mcp_policy_upstream_faults_total{{reason=\"{}\"}} 1\n", case.reason);
    let metrics = sidecar.metrics().await;
    assert!(metrics.contains(&counted), "{name}: {:?}", metrics.lines().filter(|line| line.contains("faults_total{")).collect::<Vec<_>>());

    let next = client.send(mcp(call(2, "read").to_string())).await;
    assert!(next.ran(), "{name}: the next call on the same connection: {}", next.text());
    assert_eq!(server.connections(), 2, "{name}: on another connection to the server");
    (answer, sidecar)
}

#[tokio::test]
async fn whatever_a_server_does_a_call_gets_an_error_that_the_model_can_read() {
    for case in broken() {
        let (answer, sidecar) = run(&case, &call(1, "read")).await;
        assert_eq!(answer.denial()["code"], "upstream_unreachable", "{}", case.name);
        let text = answer.json()["result"]["content"][0]["text"].as_str().unwrap().to_owned();
        assert!(text.contains("The tool may have run"), "{}: {text}", case.name);
        let line = &sidecar.audit.at_least(1).await[0];
        assert_eq!((line["code"].as_str(), line["tool"].as_str()), (Some("upstream_unreachable"), Some("read")), "{}", case.name);
        assert_eq!(line["upstreamFault"], case.reason, "{}", case.name);
        assert_eq!(line["decisionId"], answer.denial()["decisionId"], "{}", case.name);
    }
}

#[tokio::test]
async fn whatever_a_server_does_a_list_is_filtered_or_does_not_pass() {
    for case in broken().into_iter().chain(unfilterable()) {
        let (answer, _) = run(&case, &list(1)).await;
        assert_eq!(answer.json()["error"]["code"], -32603, "{}: {}", case.name, answer.text());
    }
}

#[tokio::test]
async fn an_event_stream_that_cannot_be_filtered_ends_with_an_error_in_its_place() {
    let event = |data: &str| chunk(&format!("data: {data}\n\n"));
    let cases = [
        case("an event without an end", "too_large", vec![say(chunk("data: ")), flood(chunk(&"x".repeat(4096)))]),
        case("a line of many small pieces", "too_large", vec![flood(chunk("data: x\n"))]),
        case("an event that is no JSON, and then nothing", "idle_timeout", vec![say(event(LEAK)), Step::Wait]),
        case("two lists in one event", "unreadable", vec![say(event(&two_lists())), Step::Wait]),
        case("the same with lone CRs", "unreadable", vec![say(chunk(&format!("event: message\rdata: {}\r\r", two_lists()))), Step::Wait]),
    ];
    for case in cases {
        let name = case.name;
        let server = RawServer::start(vec![[vec![Step::Read, say(EVENTS)], case.then].concat()]).await;
        let sidecar = Sidecar::configured(&server.url(), &policy(), small);
        let answer = sidecar.post(&list(1)).await;
        assert!(!answer.text().contains(LEAK), "{name}: {}", answer.text());
        assert_eq!((&answer.events()[0]["id"], &answer.events()[0]["error"]["code"]), (&json!(1), &json!(-32603)), "{name}");
        assert!(sidecar.metrics().await.contains(&format!("mcp_policy_upstream_faults_total{{reason=\"{}\"}} 1\n", case.reason)), "{name}");
        eventually("the server is left", async || server.left() == 1).await;
        assert!(server.sent() < HELD_AT_MOST, "{name}");
    }
}

#[tokio::test]
async fn a_list_is_filtered_however_its_lines_end() {
    for end in ["\n", "\r\n", "\r"] {
        let shown = leaking().replacen("\"tools\":[", "\"tools\":[{\"name\":\"read\"},", 1);
        let stream = format!(": comment{end}event: message{end}data: {shown}{end}{end}");
        let server = RawServer::start(vec![vec![Step::Read, say(EVENTS), say(chunk(&stream)), say("0\r\n\r\n")]]).await;
        let answer = Sidecar::configured(&server.url(), &policy(), small).post(&list(1)).await;
        assert_eq!(support::names(&answer.events()[0]), ["read"], "{end:?}: {}", answer.text());
    }
}

#[tokio::test]
async fn what_follows_an_answer_is_never_taken_for_the_next_one() {
    let leaking = leaking();
    let smuggled = format!("{JSON}content-length: {}\r\n\r\n{leaking}", leaking.len());
    let body = json!({"jsonrpc": "2.0", "id": 1, "result": {"content": [{"type": "text", "text": "ran"}]}}).to_string();
    let lengths = format!("{JSON}content-length: {}\r\n\r\n{body}", body.len());
    let chunks = format!("{JSON}transfer-encoding: chunked\r\n\r\n{}0\r\n\r\n", chunk(&body));
    for answer in [lengths, chunks] {
        let server = RawServer::start(vec![vec![Step::Read, say(format!("{answer}{smuggled}")), Step::Wait], good()]).await;
        let sidecar = Sidecar::configured(&server.url(), &policy(), small);
        let mut client = Client::connect(sidecar.proxy).await;
        assert!(client.send(mcp(call(1, "read").to_string())).await.ran());
        let second = client.send(mcp(call(2, "read").to_string())).await;
        assert!(second.ran() && second.json()["id"] == 2, "{}", second.text());
        assert_eq!((server.connections(), server.left()), (2, 1), "the connection with the remainder was closed");
    }
}

#[tokio::test]
async fn an_answer_that_comes_before_its_request_is_filtered_or_does_not_pass() {
    let leaking = leaking();
    let early = say(format!("{JSON}connection: close\r\ncontent-length: {}\r\n\r\n{leaking}", leaking.len()));
    let server = RawServer::start(vec![vec![early, Step::Wait], good()]).await;
    let sidecar = Sidecar::configured(&server.url(), &policy(), small);
    let mut client = Client::connect(sidecar.proxy).await;
    let answer = client.send(mcp(list(1).to_string())).await;
    assert!(answer.status == StatusCode::OK && !answer.text().contains(LEAK), "{}", answer.text());
    assert!(client.send(mcp(call(2, "read").to_string())).await.ran());
}

#[tokio::test]
async fn an_answer_with_two_framings_is_read_in_one_way_and_framed_anew() {
    let body = json!({"jsonrpc": "2.0", "id": 1, "result": {"content": [{"type": "text", "text": "ran"}]}}).to_string();
    let both = format!("{JSON}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n{}0\r\n\r\n", chunk(&body));
    let server = RawServer::start(vec![vec![Step::Read, say(both), Step::Wait]]).await;
    let answer = Sidecar::configured(&server.url(), &policy(), small).call("read").await;
    assert!(answer.ran(), "{}", answer.text());
    assert_eq!(answer.headers["content-length"], body.len().to_string());
}

/// Answers that never end, to requests that are passed on in each of the ways there are.
fn endless() -> [(&'static str, Value, Vec<Step>); 3] {
    let big = chunk(&" ".repeat(4096));
    let notification = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "x".repeat(4096)}});
    [
        (
            "a JSON answer",
            call(1, "read"),
            vec![Step::Read, say(format!("{JSON}transfer-encoding: chunked\r\n\r\n")), Step::Flood(big.into())],
        ),
        ("the events of a call", call(1, "read"), vec![Step::Read, say(EVENTS), flood(chunk(&format!("data: {notification}\n\n")))]),
        ("events that are read", list(1), vec![Step::Read, say(EVENTS), flood(chunk(&format!(": {}\n\n", "1".repeat(4096))))]),
    ]
}

#[tokio::test]
async fn a_caller_who_takes_an_answer_slowly_slows_the_server_down() {
    for (name, request, script) in endless() {
        let server = RawServer::start(vec![script]).await;
        let sidecar = Sidecar::configured(&server.url(), &policy(), |_| {});
        let mut client = Client::connect(sidecar.proxy).await;
        let mut answer = client.open(mcp(request.to_string())).await;
        let stalled = in_time("the server has to wait", server.stalled()).await;
        assert!(stalled < HELD_AT_MOST, "{name}: {stalled} bytes are held somewhere");

        let mut taken = 0;
        while taken < 2 * stalled {
            taken += next_bytes(&mut answer).await.unwrap().len();
        }
        assert!(server.sent() > stalled, "{name}: and goes on with the caller");
        drop((answer, client));
        eventually("the server is left", async || server.left() == 1).await;
    }
}

#[tokio::test]
async fn a_caller_who_takes_nothing_is_given_up_and_with_it_the_server() {
    for (name, request, script) in endless() {
        let server = RawServer::start(vec![script]).await;
        let sidecar = Sidecar::configured(&server.url(), &policy(), |config| config.limits.write_timeout = Duration::from_millis(200));
        let mut client = Client::connect(sidecar.proxy).await;
        let _answer = client.open(mcp(request.to_string())).await;
        eventually(name, async || server.left() == 1).await;
    }
}

#[tokio::test]
async fn a_caller_who_hangs_up_ends_the_request_at_the_server_at_once() {
    let cut = vec![Step::Read, say(format!("{JSON}content-length: 1000\r\n\r\n{{")), Step::Wait];
    let quiet = vec![Step::Read, say(EVENTS), say(chunk(": priming\n\n")), Step::Wait];
    for (name, request, script) in [
        ("before the answer begins", call(1, "read"), vec![Step::Read, Step::Wait]),
        ("within an answer", call(1, "read"), cut.clone()),
        ("within an answer that is held", list(1), cut),
        ("within a quiet stream", call(1, "read"), quiet.clone()),
        ("within a quiet stream that is read", list(1), quiet),
    ] {
        let server = RawServer::start(vec![script]).await;
        let sidecar = Sidecar::configured(&server.url(), &policy(), |_| {});
        let mut client = Client::connect(sidecar.proxy).await;
        let waiting = tokio::spawn(async move { client.try_open(mcp(request.to_string())).await.map(drop) });
        eventually("the request arrives", async || server.requests() == 1).await;
        waiting.abort();
        eventually(name, async || server.left() == 1).await;
        assert!(!sidecar.metrics().await.contains("upstream_faults_total{"), "{name}: that is not the server's fault");
    }
}

#[tokio::test]
async fn an_answer_that_its_caller_does_not_take_keeps_its_room() {
    let padding = "x".repeat(8_000_000);
    let body = json!({"jsonrpc": "2.0", "id": 1, "result": {"tools": [{"name": "read", "description": padding}]}}).to_string();
    let answer = vec![Step::Read, say(format!("{JSON}content-length: {}\r\n\r\n{body}", body.len())), Step::Wait];
    let server = RawServer::start(vec![answer]).await;
    let sidecar = Sidecar::configured(&server.url(), &policy(), |config| {
        config.limits.body_bytes = 9_000_000;
        config.limits.held_bytes = 10_000_000;
    });
    let mut client = Client::connect(sidecar.proxy).await;
    let untaken = client.open(mcp(list(1).to_string())).await;
    let refused = sidecar.post(&list(1)).await;
    assert_eq!(refused.json()["error"]["code"], -32603, "there is no room for another");
    assert!(sidecar.metrics().await.contains("mcp_policy_upstream_faults_total{reason=\"no_room\"} 1\n"));
    drop((untaken, client));
    eventually("the room is free again", async || sidecar.post(&list(1)).await.json()["error"].is_null()).await;
}

#[tokio::test]
async fn open_streams_are_fewer_than_connections_so_calls_get_through() {
    let stream = vec![Step::Read, say(EVENTS), Step::Wait];
    let server = RawServer::start(vec![stream.clone(), good(), stream]).await;
    let sidecar = Sidecar::configured(&server.url(), &policy(), |config| config.limits.streams = 1);
    let get = || Request::get("/mcp").header("host", "localhost").header("accept", "text/event-stream").body(Full::default()).unwrap();
    let mut client = Client::connect(sidecar.proxy).await;
    let open = client.open(get()).await;
    assert_eq!(open.status(), StatusCode::OK);

    let refused = sidecar.send(get()).await;
    assert_eq!((refused.status, refused.headers["retry-after"].to_str().unwrap()), (StatusCode::SERVICE_UNAVAILABLE, "1"));
    assert_eq!(sidecar.audit.at_least(1).await[0]["malformed"], "streams");
    assert_eq!(server.requests(), 1);
    assert!(sidecar.post(&call(2, "read")).await.ran());

    drop((open, client));
    let mut client = Client::connect(sidecar.proxy).await;
    eventually("there is room again", async || client.open(get()).await.status() == StatusCode::OK).await;
}

#[tokio::test]
async fn the_trace_of_a_caller_goes_on_untouched() {
    let server = support::Server::with_tools(&[]).await;
    let sidecar = Sidecar::guarding(&server.url(), &policy());
    let mut request = mcp(call(1, "read").to_string());
    let trace = [("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), ("tracestate", "a=1,b=2"), ("baggage", "k=v")];
    for (name, value) in trace {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    assert!(sidecar.send(request).await.ran());
    for (name, value) in trace {
        assert_eq!(server.got()[0].headers[name], value);
    }
}

#[tokio::test]
async fn a_stream_that_breaks_ends_with_an_error_unless_the_client_can_ask_for_the_rest() {
    for (id, told) in [("", true), ("id: 7\n", false)] {
        let first = chunk(&format!("{id}data: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\"}}\n\n"));
        let server = RawServer::start(vec![vec![Step::Read, say(EVENTS), say(first), say(chunk("data: {\"half"))]]).await;
        let answer = Sidecar::configured(&server.url(), &policy(), small).post(&list(1)).await;
        let events = answer.events();
        assert_eq!(events.len(), if told { 2 } else { 1 }, "{}", answer.text());
        assert_eq!(events.last().unwrap()["error"]["code"] == -32603, told, "{}", answer.text());
    }
}

#[tokio::test]
async fn an_answer_that_never_ends_is_ended_however_fast_it_comes() {
    let (_, request, script) = endless().into_iter().next().unwrap();
    let server = RawServer::start(vec![script]).await;
    let sidecar = Sidecar::configured(&server.url(), &policy(), small);
    let mut answer = Client::connect(sidecar.proxy).await.open(mcp(request.to_string())).await;
    in_time("the end", async { while let Some(Ok(_)) = answer.frame().await {} }).await;
    assert!(sidecar.metrics().await.contains("mcp_policy_upstream_faults_total{reason=\"total_timeout\"} 1\n"));
    let line = &sidecar.audit.at_least(1).await[0];
    assert_eq!((line["upstreamFault"].as_str(), &line["upstreamStatus"]), (Some("total_timeout"), &json!(200)));
}
