use super::*;
use crate::message::parse;

const ENDPOINT: &str = "/mcp";

/// Headers as written, one a line; a line twice is a header twice.
fn headers(lines: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap();
        headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

fn names(headers: &HeaderMap) -> Vec<&str> {
    let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    names
}

/// A refusal, without its words.
fn fault(malformed: &Malformed) -> (u16, i64, Reason) {
    (malformed.status.as_u16(), malformed.code, malformed.reason)
}

fn head(method: &str, target: &str, lines: &[&str]) -> Result<Route, (u16, i64, Reason)> {
    route(&method.parse().unwrap(), &target.parse().unwrap(), &headers(lines), ENDPOINT).map_err(|malformed| fault(&malformed))
}

fn post(lines: &[&str]) -> Result<Route, (u16, i64, Reason)> {
    head("POST", "/mcp", lines)
}

const JSON: &str = "content-type: application/json";

#[test]
fn only_the_very_path_is_the_endpoint() {
    assert_eq!(head("POST", "/mcp", &[JSON]), Ok(Route::Post));
    // The query is accepted, and not forwarded.
    assert_eq!(head("POST", "/mcp?x=1", &[JSON]), Ok(Route::Post));
    for path in ["/", "/mcp/", "//mcp", "/%6dcp", "/./mcp", "/x/../mcp", "/MCP", "/mcp;x", "/mcp%2f", "/metrics", "/mcp%00", "*"] {
        assert_eq!(head("POST", path, &[JSON]), Err((404, -32600, Reason::Path)), "{path}");
    }
}

#[test]
fn the_endpoint_has_three_methods() {
    assert_eq!(head("GET", "/mcp", &[]), Ok(Route::Get));
    assert_eq!(head("DELETE", "/mcp", &["content-length: 0", "mcp-protocol-version: 2025-11-25"]), Ok(Route::Delete));
    for method in ["HEAD", "PUT", "PATCH", "TRACE", "OPTIONS", "CONNECT", "post", "PROPFIND"] {
        assert_eq!(head(method, "/mcp", &[JSON]), Err((405, -32600, Reason::HttpMethod)), "{method}");
    }
    assert_eq!(head("GET", "/mcp", &["x-http-method-override: POST"]), Ok(Route::Get));
    for method in ["GET", "DELETE"] {
        assert_eq!(head(method, "/mcp", &["mcp-protocol-version: 2026-07-28"]), Err((405, -32600, Reason::HttpMethod)), "{method}");
        assert_eq!(head(method, "/mcp", &["content-length: 5"]), Err((400, -32600, Reason::Framing)), "{method}");
        assert_eq!(head(method, "/mcp", &["transfer-encoding: chunked"]), Err((400, -32600, Reason::Framing)), "{method}");
    }
}

#[test]
fn documents_of_discovery_can_be_got() {
    for path in
        ["/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-authorization-server"]
    {
        assert_eq!(head("GET", path, &[]), Ok(Route::Discovery), "{path}");
        assert_eq!(head("POST", path, &[JSON]), Err((404, -32600, Reason::Path)), "{path}");
        assert_eq!(head("GET", path, &["content-length: 5"]), Err((400, -32600, Reason::Framing)), "{path}");
    }
    for path in [
        "/.well-known/",
        "/.well-known/x",
        "/.well-known/oauth-protected-resource/mcp/",
        "/.well-known/oauth-protected-resource/../../mcp",
        "/authorize",
    ] {
        assert_eq!(head("GET", path, &[]), Err((404, -32600, Reason::Path)), "{path}");
    }
}

#[test]
fn a_body_is_declared_as_plain_json_in_utf8() {
    for value in [
        "application/json",
        "Application/JSON",
        "application/json;x=y",
        "application/json; charset=utf-8",
        "application/json;charset=\"UTF-8\"",
        " application/json ",
    ] {
        assert_eq!(post(&[&format!("content-type: {value}")]), Ok(Route::Post), "{value}");
    }
    for value in [
        "text/plain",
        "application/jsonp",
        "application/x+json",
        "application/json, text/plain",
        "application/json,application/json",
        "application/json;",
        "application/json;x",
        "application/json; charset=utf-8; charset=utf-16",
        "application/json;x=\"a,b\"",
        "application/json;x=\"\\\"\"",
        "json",
        "",
        "application /json",
    ] {
        assert_eq!(post(&[&format!("content-type: {value}")]), Err((415, -32600, Reason::ContentType)), "{value}");
    }
    assert_eq!(post(&[]), Err((415, -32600, Reason::ContentType)));
    for charset in ["iso-8859-1", "utf-7", "utf-16", "utf8"] {
        assert_eq!(
            post(&[&format!("content-type: application/json;charset={charset}")]),
            Err((400, -32700, Reason::ContentType)),
            "{charset}"
        );
    }
    assert_eq!(post(&[JSON, "content-encoding: Identity"]), Ok(Route::Post));
    for encoding in ["gzip", "deflate", "identity, gzip", "gzip, identity", ""] {
        assert_eq!(post(&[JSON, &format!("content-encoding: {encoding}")]), Err((415, -32600, Reason::ContentEncoding)), "{encoding}");
    }
}

#[test]
fn what_decides_is_there_once() {
    for line in [
        "host: a",
        "content-type: application/json",
        "content-length: 1",
        "content-encoding: identity",
        "authorization: x",
        "origin: x",
        "last-event-id: 1",
        "mcp-session-id: s",
    ] {
        let once: Vec<&str> = if line.starts_with("content-type") { vec![line] } else { vec![JSON, line] };
        assert_eq!(post(&once), Ok(Route::Post), "{line}");
        assert_eq!(post(&[once, vec![line]].concat()), Err((400, -32600, Reason::RepeatedHeader)), "{line}");
    }
    assert_eq!(post(&[JSON, "accept: application/json", "accept: text/event-stream"]), Ok(Route::Post));
    for line in ["mcp-session-id: é", "host: é"] {
        assert_eq!(post(&[JSON, line]), Err((400, -32600, Reason::HeaderBytes)), "{line}");
    }
    for name in ["Mcp-Session-Id", "keep-alive, mcp-name", "Authorization", "host", "content-type"] {
        assert_eq!(post(&[JSON, &format!("connection: {name}")]), Err((400, -32600, Reason::RepeatedHeader)), "{name}");
    }
    assert_eq!(post(&[JSON, "connection: keep-alive, x-mine"]), Ok(Route::Post));
}

#[test]
fn the_end_of_a_body_is_told_in_one_way() {
    assert_eq!(post(&[JSON, "transfer-encoding: Chunked"]), Ok(Route::Post));
    for lines in [
        ["transfer-encoding: chunked", "content-length: 3"],
        ["transfer-encoding: gzip, chunked", "x-a: b"],
        ["transfer-encoding: identity", "x-a: b"],
        ["transfer-encoding: chunked, chunked", "x-a: b"],
    ] {
        assert_eq!(post(&[JSON, lines[0], lines[1]]), Err((400, -32600, Reason::Framing)), "{lines:?}");
    }
    assert_eq!(head("POST", "http://a/mcp", &[JSON, "host: A"]), Ok(Route::Post));
    assert_eq!(head("POST", "http://a/mcp", &[JSON, "host: b"]), Err((400, -32600, Reason::Framing)));
}

/// The era of a body under these headers; a refusal with the id that it echoes.
fn era_of(body: &str, lines: &[&str]) -> Result<Era, (u16, i64, Reason)> {
    let message = parse(body.as_bytes()).unwrap();
    era(&headers(lines), &message).map_err(|malformed| {
        assert_eq!(malformed.id.as_ref(), message.id(), "{body}");
        fault(&malformed)
    })
}

fn request(method: &str, params: &str, version: Option<&str>) -> String {
    let meta = version.map_or_else(String::new, |version| {
        format!(r#","_meta":{{"io.modelcontextprotocol/protocolVersion":{version},"io.modelcontextprotocol/clientCapabilities":{{}}}}"#)
    });
    format!(r#"{{"jsonrpc":"2.0","id":7,"method":"{method}","params":{{"x":1{params}{meta}}}}}"#)
}

const MODERN_BODY: Option<&str> = Some(r#""2026-07-28""#);
const MODERN_HEADER: &str = "mcp-protocol-version: 2026-07-28";

#[test]
fn body_and_version_header_tell_the_era() {
    let list = |version: Option<&str>| request("tools/list", "", version);
    let lists = "mcp-method: tools/list";
    assert_eq!(era_of(&list(MODERN_BODY), &[MODERN_HEADER, lists]), Ok(Era::Modern));
    for header in ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"] {
        let header = format!("mcp-protocol-version: {header}");
        assert_eq!(era_of(&list(None), &[&header]), Ok(Era::Legacy), "{header}");
        // The downgrade: a modern body under an old header.
        assert_eq!(era_of(&list(MODERN_BODY), &[&header, lists]), Err((400, -32020, Reason::HeaderMismatch)), "{header}");
    }
    assert_eq!(era_of(&list(None), &[]), Ok(Era::Legacy));
    assert_eq!(era_of(&list(MODERN_BODY), &[lists]), Err((400, -32020, Reason::HeaderMismatch)));
    assert_eq!(era_of(&list(MODERN_BODY), &[MODERN_HEADER, MODERN_HEADER, lists]), Err((400, -32020, Reason::RepeatedHeader)));
    assert_eq!(era_of(&list(None), &[MODERN_HEADER, MODERN_HEADER]), Err((400, -32600, Reason::RepeatedHeader)));
    let legacy = "mcp-protocol-version: 2025-11-25";
    assert_eq!(era_of(&list(None), &[legacy, legacy]), Err((400, -32600, Reason::RepeatedHeader)));
    assert_eq!(era_of(&list(None), &[MODERN_HEADER, lists]), Err((400, -32602, Reason::MissingVersion)));
    assert_eq!(era_of(&list(Some("1")), &[MODERN_HEADER, lists]), Err((400, -32602, Reason::MissingVersion)));
    assert_eq!(era_of(&list(None), &["mcp-protocol-version: 2027-01-01"]), Err((400, -32600, Reason::UnsupportedVersion)));
    assert_eq!(era_of(&list(None), &["mcp-protocol-version: x"]), Err((400, -32600, Reason::UnsupportedVersion)));
    for version in ["2027-01-01", "2025-11-25", "x"] {
        let (body, header) = (list(Some(&format!("\"{version}\""))), format!("mcp-protocol-version: {version}"));
        assert_eq!(era_of(&body, &[&header, lists]), Err((400, -32022, Reason::UnsupportedVersion)), "{version}");
        let malformed = era(&headers(&[&header, lists]), &parse(body.as_bytes()).unwrap()).unwrap_err();
        assert_eq!(malformed.requested.as_deref(), Some(version));
    }
}

#[test]
fn what_needs_no_answer_takes_its_era_from_the_header() {
    let notification = r#"{"jsonrpc":"2.0","method":"notifications/cancelled"}"#;
    assert_eq!(era_of(notification, &[MODERN_HEADER]), Ok(Era::Modern));
    assert_eq!(era_of(notification, &["mcp-protocol-version: 2025-11-25"]), Ok(Era::Legacy));
    assert_eq!(era_of(notification, &[MODERN_HEADER, "mcp-method: notifications/cancelled"]), Ok(Era::Modern));
    assert_eq!(era_of(notification, &[MODERN_HEADER, "mcp-method: tools/call"]), Err((400, -32020, Reason::HeaderMismatch)));
    let response = r#"{"jsonrpc":"2.0","id":7,"result":{}}"#;
    assert_eq!(era_of(response, &[]), Ok(Era::Legacy));
    assert_eq!(era_of(response, &[MODERN_HEADER]), Err((400, -32600, Reason::Envelope)));
    assert_eq!(era_of(response, &["mcp-method: tools/call"]), Err((400, -32600, Reason::HeaderMismatch)));
}

#[test]
fn modern_headers_repeat_the_body() {
    let modern =
        |method: &str, params: &str, lines: &[&str]| era_of(&request(method, params, MODERN_BODY), &[&[MODERN_HEADER], lines].concat());
    let mismatch = Err((400, -32020, Reason::HeaderMismatch));
    let call = |name: &str, lines: &[&str]| modern("tools/call", &format!(r#","name":"{name}""#), lines);
    let calls = "mcp-method: tools/call";

    assert_eq!(call("danger", &[calls, "mcp-name: danger"]), Ok(Era::Modern));
    assert_eq!(call("danger", &[calls, "mcp-name:   danger\t "]), Ok(Era::Modern));
    assert_eq!(call("danger", &[calls, "mcp-name: =?base64?ZGFuZ2Vy?="]), Ok(Era::Modern));
    assert_eq!(call("caf\u{e9}", &[calls, "mcp-name: =?base64?Y2Fmw6k=?="]), Ok(Era::Modern));
    for line in [
        "mcp-name: safe",
        "mcp-name: Danger",
        "mcp-name: ",
        "mcp-name: =?base64?ZGFuZ2Vy",
        "mcp-name: =?base64?ZGFu*2Vy?=",
        "mcp-name: =?base64?ZGFuZ2V?=",
        "mcp-name: =?BASE64?ZGFuZ2Vy?=",
        "mcp-name: =?base64?c2FmZQ==?=",
    ] {
        assert_eq!(call("danger", &[calls, line]), mismatch, "{line}");
    }
    // Two ways to write the same bytes, and padding that is missing.
    for line in ["mcp-name: =?base64?YR==?=", "mcp-name: =?base64?YQ?="] {
        assert_eq!(call("a", &[calls, line]), mismatch, "{line}");
    }
    // A plain name that looks encoded is to be encoded.
    assert_eq!(call("=?base64?YQ==?=", &[calls, "mcp-name: =?base64?YQ==?="]), mismatch);
    assert_eq!(call("danger", &[calls]), mismatch);
    assert_eq!(call("danger", &["mcp-name: danger"]), mismatch);
    for method in ["tools/list", "Tools/Call", "TOOLS/CALL", "tools/call x"] {
        assert_eq!(call("danger", &[&format!("mcp-method: {method}"), "mcp-name: danger"]), mismatch, "{method}");
    }
    assert_eq!(call("danger", &[calls, calls, "mcp-name: danger"]), Err((400, -32020, Reason::RepeatedHeader)));
    assert_eq!(call("danger", &[calls, "mcp-name: safe", "mcp-name: danger"]), Err((400, -32020, Reason::RepeatedHeader)));
    assert_eq!(call("danger", &[calls, "mcp-name: dangér"]), Err((400, -32020, Reason::HeaderBytes)));

    for (method, key) in [
        ("prompts/get", "name"),
        ("resources/read", "uri"),
        ("tasks/get", "taskId"),
        ("tasks/update", "taskId"),
        ("tasks/cancel", "taskId"),
    ] {
        let (params, says) = (format!(r#","{key}":"x""#), format!("mcp-method: {method}"));
        assert_eq!(modern(method, &params, &[&says, "mcp-name: x"]), Ok(Era::Modern), "{method}");
        assert_eq!(modern(method, &params, &[&says, "mcp-name: y"]), mismatch, "{method}");
        assert_eq!(modern(method, &params, &[&says]), mismatch, "{method}");
        assert_eq!(modern(method, "", &[&says]), Ok(Era::Modern), "{method}");
        assert_eq!(modern(method, "", &[&says, "mcp-name: y"]), mismatch, "{method}");
    }
    assert_eq!(modern("server/discover", "", &["mcp-method: server/discover"]), Ok(Era::Modern));
    assert_eq!(modern("tools/list", r#","name":"x""#, &["mcp-method: tools/list", "mcp-name: y"]), Ok(Era::Modern));
}

#[test]
fn legacy_headers_may_be_missing_but_not_lie() {
    let call = |lines: &[&str]| era_of(&request("tools/call", r#","name":"danger""#, None), lines);
    assert_eq!(call(&[]), Ok(Era::Legacy));
    assert_eq!(call(&["mcp-method: tools/call", "mcp-name: danger"]), Ok(Era::Legacy));
    for line in ["mcp-name: safe", "mcp-method: tools/list"] {
        assert_eq!(call(&["mcp-protocol-version: 2025-11-25", line]), Err((400, -32600, Reason::HeaderMismatch)), "{line}");
    }
    assert_eq!(call(&["mcp-name: safe", "mcp-name: danger"]), Err((400, -32600, Reason::RepeatedHeader)));
}

#[test]
fn a_session_id_is_visible_ascii() {
    assert_eq!(session_id(&headers(&["mcp-session-id: a!~"])), Some("a!~"));
    for line in ["mcp-session-id: ", "mcp-session-id: a b", "mcp-session-id: é", "x: y"] {
        assert_eq!(session_id(&headers(&[line])), None, "{line}");
    }
}

#[test]
fn the_server_gets_what_the_client_means_and_no_claims() {
    let sent = headers(&[
        "host: server",
        "authorization: Bearer x",
        "origin: http://o",
        "content-type: application/json",
        "accept: text/event-stream",
        "mcp-session-id: s",
        "mcp-protocol-version: 2025-11-25",
        "mcp-param-x: 1",
        "traceparent: 00",
        "cookie: a",
        "cookie: b",
        "content-length: 3",
        "transfer-encoding: chunked",
        "connection: keep-alive, x-mine",
        "x-mine: 1",
        "keep-alive: 1",
        "te: trailers",
        "trailer: x",
        "upgrade: h2c",
        "http2-settings: x",
        "proxy-authorization: x",
        "proxy-connection: x",
        "expect: 100-continue",
        "accept-encoding: gzip, br",
        "x-forwarded-for: 1.2.3.4",
        "x-forwarded-client-cert: x",
        "forwarded: for=1",
        "x-real-ip: 1",
        "x-http-method-override: DELETE",
        "x-original-url: /admin",
        "mcp-policy-caller: root",
        "x_forwarded_for: 1",
        "mcp_session_id: t",
        "content_type: text/plain",
        "my_own: kept",
    ]);
    let forwarded: HeaderMap = to_upstream(&sent).fold(HeaderMap::new(), |mut kept, (name, value)| {
        kept.append(name, value.clone());
        kept
    });
    assert_eq!(
        names(&forwarded),
        [
            "accept",
            "accept-encoding",
            "authorization",
            "content-type",
            "cookie",
            "host",
            "mcp-param-x",
            "mcp-protocol-version",
            "mcp-session-id",
            "my_own",
            "origin",
            "traceparent"
        ]
    );
    assert_eq!(forwarded.get_all("accept-encoding").iter().collect::<Vec<_>>(), ["identity"]);
    assert_eq!(forwarded.get_all("cookie").iter().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(forwarded["host"], "server");
}

#[test]
fn the_client_gets_what_the_server_says_of_the_body_that_goes_on() {
    let sent = headers(&[
        "content-type: application/json",
        "content-length: 3",
        "etag: x",
        "mcp-session-id: s",
        "www-authenticate: Bearer",
        "connection: close, x-mine",
        "x-mine: 1",
        "transfer-encoding: chunked",
        "x-accel-buffering: no",
        "set-cookie: a",
        "set-cookie: b",
    ]);
    let always = ["content-type", "mcp-session-id", "set-cookie", "www-authenticate", "x-accel-buffering"];
    assert_eq!(names(&to_client(sent.clone(), Body::Replaced)), always);
    let mut untouched = names(&sent);
    untouched.retain(|name| always.contains(name) || matches!(*name, "content-length" | "etag"));
    assert_eq!(names(&to_client(sent.clone(), Body::Untouched)), untouched);
}

#[test]
fn the_carrier_is_told_by_the_content_type() {
    for (line, expected) in [
        ("content-type: application/json; charset=utf-8", Carrier::Json),
        ("content-type: Text/Event-Stream", Carrier::EventStream),
        ("content-type: text/plain", Carrier::Other),
        ("content-type: application/json, text/event-stream", Carrier::Other),
        ("x: y", Carrier::Other),
    ] {
        assert_eq!(carrier(&headers(&[line])), expected, "{line}");
    }
    assert_eq!(carrier(&headers(&["content-type: application/json", "content-type: text/event-stream"])), Carrier::Other);
    assert!(!is_encoded(&headers(&["content-encoding: identity"])) && !is_encoded(&headers(&["x: y"])));
    assert!(
        is_encoded(&headers(&["content-encoding: gzip"])) && is_encoded(&headers(&["content-encoding: identity", "content-encoding: br"]))
    );
}

#[test]
fn a_message_of_our_own_has_the_clients_session_and_nothing_of_its_request() {
    let headers = of_own_message(&headers(&[
        "authorization: Bearer x",
        "mcp-session-id: s",
        "mcp-protocol-version: 2025-11-25",
        "mcp-method: tools/call",
        "mcp-name: pay",
        "mcp-param-region: eu",
        "x-api-key: k",
        "last-event-id: 7",
        "content-type: text/event-stream",
        "content-digest: sha-256=:x:",
        "content-length: 3",
        "accept: text/event-stream",
    ]));
    let mut kept: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    kept.sort_unstable();
    assert_eq!(
        kept,
        [
            ("accept", "application/json, text/event-stream"),
            ("authorization", "Bearer x"),
            ("content-type", "application/json"),
            ("mcp-protocol-version", "2025-11-25"),
            ("mcp-session-id", "s"),
            ("x-api-key", "k"),
        ]
    );
}
