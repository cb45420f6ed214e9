//! Heads that two readers could take differently: rules 7 to 11 and 14, and the table of eras (0).

use crate::request::{META, Request, Variant, danger, modern, params, post, safe, variant};

pub fn all() -> Vec<Variant> {
    [paths(), http_methods(), content(), repeated(), legacy_mirrors(), modern_mirrors(), eras()].into_iter().flatten().collect()
}

fn paths() -> Vec<Variant> {
    let v = |name, target: &str| variant(8, name, post(danger()).to(target));
    vec![
        v("`/mcp/`", "/mcp/"),
        v("`//mcp`", "//mcp"),
        v("`/%6dcp`", "/%6dcp"),
        v("`/%6Dcp`", "/%6Dcp"),
        v("`/./mcp`", "/./mcp"),
        v("`/x/../mcp`", "/x/../mcp"),
        v("`/x/%2e%2e/mcp`", "/x/%2e%2e/mcp"),
        v("`/MCP`", "/MCP"),
        v("`/mcp;x`", "/mcp;x"),
        v("`/mcp%00`", "/mcp%00"),
        v("`/mcp%20`", "/mcp%20"),
        v("`/mcp%2f`", "/mcp%2f"),
        v("`/mcp%3fx`", "/mcp%3fx"),
        v("`/mcp.`", "/mcp."),
        v("`/mcp?x=1`", "/mcp?x=1"),
        v("`/mcp#x`", "/mcp#x"),
        v("`\\mcp`", "\\mcp"),
        v("`mcp` without a slash", "mcp"),
        v("`/`", "/"),
        v("`/sse`", "/sse"),
        v("`/message?sessionId=1`", "/message?sessionId=1"),
        v("`*`", "*"),
        v("absolute, this host", "http://127.0.0.1:8080/mcp"),
        v("absolute, another host", "http://evil.example/mcp"),
        v("absolute, https", "https://127.0.0.1:8080/mcp"),
        v("absolute, with a user", "http://user@127.0.0.1:8080/mcp"),
        v("an authority for a target", "127.0.0.1:8080"),
        v("a target beyond ASCII", "/mcp\u{e9}"),
    ]
}

fn http_methods() -> Vec<Variant> {
    let v = |name, method: &str| variant(9, name, post(danger()).line(&format!("{method} /mcp HTTP/1.1")));
    vec![
        v("PUT", "PUT"),
        v("PATCH", "PATCH"),
        v("OPTIONS with a body", "OPTIONS"),
        v("TRACE with a body", "TRACE"),
        v("QUERY", "QUERY"),
        v("`post`", "post"),
        v("`Post`", "Post"),
        v("GET with a body", "GET"),
        v("DELETE with a body", "DELETE"),
        v("an HTTP method that nobody knows", "MCP"),
        variant(9, "HEAD", post("").line("HEAD /mcp HTTP/1.1")),
        variant(9, "CONNECT", post("").line("CONNECT 127.0.0.1:8080 HTTP/1.1")),
        variant(
            9,
            "GET with a body that a header calls POST",
            post(danger()).line("GET /mcp HTTP/1.1").with("X-HTTP-Method-Override: POST"),
        ),
        variant(9, "POST that a header calls DELETE", post(danger()).with("X-HTTP-Method-Override: DELETE")),
        variant(9, "POST that the query calls GET", post(danger()).to("/mcp?_method=GET")),
        variant(
            9,
            "an upgrade to websocket",
            post("")
                .line("GET /mcp HTTP/1.1")
                .but("Connection: close, Upgrade")
                .with("Upgrade: websocket")
                .with("Sec-WebSocket-Version: 13")
                .with("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==")
                .with("MCP-Protocol-Version: 2026-07-28"),
        ),
        variant(
            9,
            "an upgrade to h2c",
            post(danger()).but("Connection: close, Upgrade, HTTP2-Settings").with("Upgrade: h2c").with("HTTP2-Settings: AAMAAABkAAQAAP__"),
        ),
    ]
}

fn content() -> Vec<Variant> {
    let v = |name, media: &str| variant(10, name, post(danger()).but(format!("Content-Type: {media}")));
    let encoded = |name, encoding: &str| variant(10, name, post(danger()).with(format!("Content-Encoding: {encoding}")));
    let accept = |name, accept: &str| variant(10, name, post(danger()).but(format!("Accept: {accept}")));
    let gzip = gzip(danger().as_bytes());
    vec![
        variant(10, "no content type", post(danger()).without("Content-Type")),
        v("an empty content type", ""),
        v("text/plain", "text/plain"),
        v("text/json", "text/json"),
        v("application/jsonp", "application/jsonp"),
        v("application/vnd.mcp+json", "application/vnd.mcp+json"),
        v("application/json-rpc", "application/json-rpc"),
        v("application/json, text/plain", "application/json, text/plain"),
        v("text/plain, application/json", "text/plain, application/json"),
        v("text/plain; application/json", "text/plain; application/json"),
        v("text/plain; x=\"application/json\"", "text/plain; x=\"application/json\""),
        v("application/x-www-form-urlencoded", "application/x-www-form-urlencoded"),
        v("multipart/form-data", "multipart/form-data; boundary=x"),
        v("application/json with a blank in it", "application / json"),
        v("application/json; with nothing behind it", "application/json;"),
        v("*/*", "*/*"),
        encoded("labelled gzip", "gzip"),
        encoded("labelled deflate", "deflate"),
        encoded("labelled br", "br"),
        encoded("labelled identity, gzip", "identity, gzip"),
        encoded("labelled x-gzip", "x-gzip"),
        encoded("an empty content encoding", ""),
        variant(10, "compressed", post(&gzip).with("Content-Encoding: gzip")),
        variant(10, "compressed and not labelled", post(&gzip)),
        accept("Accept: */*", "*/*"),
        accept("Accept: application/json", "application/json"),
        accept("Accept: text/event-stream", "text/event-stream"),
        accept("Accept: text/html", "text/html"),
        accept("Accept with qualities of 0", "application/json;q=0, text/event-stream;q=0"),
        variant(10, "no Accept", post(danger()).without("Accept")),
    ]
}

/// A gzip file with one block that is stored as it is.
fn gzip(data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).unwrap();
    let crc = !data.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 })
    });
    let mut file = b"\x1f\x8b\x08\0\0\0\0\0\0\xff\x01".to_vec();
    file.extend_from_slice(&length.to_le_bytes());
    file.extend_from_slice(&(!length).to_le_bytes());
    file.extend_from_slice(data);
    file.extend_from_slice(&crc.to_le_bytes());
    file.extend_from_slice(&u32::from(length).to_le_bytes());
    file
}

fn repeated() -> Vec<Variant> {
    let v = |name, request: Request| variant(11, name, request);
    let with = |name, lines: &[&[u8]]| variant(11, name, lines.iter().fold(post(danger()), super::request::Request::with));
    vec![
        with("Host twice, equal", &[b"Host: 127.0.0.1:8080"]),
        with("Host twice, different", &[b"Host: evil.example"]),
        v("no Host", post(danger()).without("Host")),
        v("an empty Host", post(danger()).but("Host:")),
        v("a Host of elsewhere", post(danger()).but("Host: evil.example")),
        v("two Hosts in one line", post(danger()).but("Host: 127.0.0.1:8080, evil.example")),
        with("an Origin of elsewhere", &[b"Origin: https://evil.example"]),
        with("Origin null", &[b"Origin: null"]),
        with("Origin twice", &[b"Origin: http://127.0.0.1:8080", b"Origin: https://evil.example"]),
        with("Content-Type twice, equal", &[b"Content-Type: application/json"]),
        with("Content-Type twice, different", &[b"Content-Type: text/plain"]),
        with("Content-Encoding twice", &[b"Content-Encoding: identity", b"Content-Encoding: gzip"]),
        with("Authorization twice", &[b"Authorization: Bearer a", b"Authorization: Bearer b"]),
        with("Mcp-Session-Id twice", &[b"Mcp-Session-Id: a", b"Mcp-Session-Id: b"]),
        with("Last-Event-ID twice", &[b"Last-Event-ID: 1", b"Last-Event-ID: 2"]),
        with("MCP-Protocol-Version twice, equal", &[b"MCP-Protocol-Version: 2025-06-18", b"MCP-Protocol-Version: 2025-06-18"]),
        with("MCP-Protocol-Version twice, different", &[b"MCP-Protocol-Version: 2025-06-18", b"MCP-Protocol-Version: 2025-11-25"]),
        with("two versions in one line", &[b"MCP-Protocol-Version: 2025-06-18, 2025-11-25"]),
        with("Mcp-Method twice", &[b"Mcp-Method: tools/call", b"Mcp-Method: tools/list"]),
        with("Mcp-Name twice", &[b"Mcp-Name: danger", b"Mcp-Name: safe"]),
        with("Mcp-Name beyond ASCII", &[b"Mcp-Name: danger\xC3\xA9"]),
        with("Mcp-Param-Region twice", &[b"Mcp-Param-Region: a", b"Mcp-Param-Region: b"]),
        with("Mcp-Param-Region beyond ASCII", &[b"Mcp-Param-Region: \xFF"]),
        with("Authorization beyond ASCII", &[b"Authorization: Bearer \xFF"]),
        v("Connection that names Mcp-Name", post(danger()).but("Connection: close, Mcp-Name").with("Mcp-Name: danger")),
        v("Connection that names Content-Type", post(danger()).but("Connection: close, Content-Type")),
        v("Connection that names Host", post(danger()).but("Connection: close, Host")),
        with("Content_Type beside Content-Type", &[b"Content_Type: text/plain"]),
        with("Mcp_Name beside nothing", &[b"Mcp_Name: safe"]),
        with("Transfer_Encoding beside a length", &[b"Transfer_Encoding: chunked"]),
        with("Content_Length beside a length", &[b"Content_Length: 1"]),
    ]
}

fn legacy_mirrors() -> Vec<Variant> {
    let v = |name, lines: &[&str]| variant(14, name, lines.iter().fold(post(danger()), super::request::Request::with));
    vec![
        v("legacy: Mcp-Name says safe", &["Mcp-Name: safe"]),
        v("legacy: Mcp-Name says safe, with a version", &["MCP-Protocol-Version: 2025-11-25", "Mcp-Name: safe"]),
        v("legacy: Mcp-Method says tools/list", &["Mcp-Method: tools/list"]),
        v("legacy: Mcp-Method in another case", &["Mcp-Method: Tools/Call"]),
        v("legacy: Mcp-Name in another case", &["Mcp-Name: Danger"]),
        v("legacy: an empty Mcp-Name", &["Mcp-Name:"]),
        v("legacy: an empty Mcp-Method", &["Mcp-Method:"]),
        v("legacy: Mcp-Name is safe in base64", &["Mcp-Name: =?base64?c2FmZQ==?="]),
        v("legacy: two names in one line", &["Mcp-Name: danger, safe"]),
        variant(14, "legacy: Mcp-Method on a response", post(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#).with("Mcp-Method: tools/call")),
    ]
}

fn modern_mirrors() -> Vec<Variant> {
    let name = |title, line: &str| variant(14, title, modern(r#""name":"danger""#).with(line));
    let region = |title, lines: &[&str]| {
        let request = modern(r#""name":"region","arguments":{"region":"eu"}"#).with("Mcp-Name: region");
        variant(14, title, lines.iter().fold(request, super::request::Request::with))
    };
    vec![
        variant(14, "modern: no Mcp-Name", modern(r#""name":"danger""#)),
        name("modern: Mcp-Name says safe", "Mcp-Name: safe"),
        name("modern: Mcp-Name in another case", "Mcp-Name: DANGER"),
        name("modern: Mcp-Name is safe in base64", "Mcp-Name: =?base64?c2FmZQ==?="),
        name("modern: Mcp-Name in bad base64", "Mcp-Name: =?base64?###?="),
        name("modern: Mcp-Name in base64 without an end", "Mcp-Name: =?base64?ZGFuZ2Vy"),
        name("modern: Mcp-Name in base64, mark in upper case", "Mcp-Name: =?BASE64?ZGFuZ2Vy?="),
        name("modern: Mcp-Name in base64 without padding", "Mcp-Name: =?base64?c2FmZQ?="),
        name("modern: Mcp-Name in quotes", "Mcp-Name: \"danger\""),
        variant(14, "modern: Mcp-Name twice", modern(r#""name":"danger""#).with("Mcp-Name: danger").with("Mcp-Name: safe")),
        variant(14, "modern: no Mcp-Method", modern(r#""name":"danger""#).with("Mcp-Name: danger").without("Mcp-Method")),
        variant(
            14,
            "modern: Mcp-Method says tools/list",
            modern(r#""name":"danger""#).with("Mcp-Name: danger").but("Mcp-Method: tools/list"),
        ),
        variant(
            14,
            "modern: Mcp-Method in another case",
            modern(r#""name":"danger""#).with("Mcp-Name: danger").but("Mcp-Method: Tools/Call"),
        ),
        variant(
            14,
            "modern: tools/list that Mcp-Method calls tools/call",
            post(format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{{"name":"danger",{META}}}}}"#))
                .with("MCP-Protocol-Version: 2026-07-28")
                .with("Mcp-Method: tools/call")
                .with("Mcp-Name: danger"),
        ),
        region("modern: no Mcp-Param-Region", &[]),
        region("modern: Mcp-Param-Region differs", &["Mcp-Param-Region: us"]),
        region("modern: Mcp-Param-Region in another case", &["Mcp-Param-Region: EU"]),
        region("modern: Mcp-Param-Region in bad base64", &["Mcp-Param-Region: =?base64?#?="]),
        region("modern: Mcp-Param-Region twice", &["Mcp-Param-Region: eu", "Mcp-Param-Region: us"]),
    ]
}

fn eras() -> Vec<Variant> {
    let v = |name, request: Request| variant(0, name, request);
    let named = |request: Request| request.with("Mcp-Method: tools/call").with("Mcp-Name: danger");
    let body = || params(format!(r#""name":"danger",{META}"#));
    vec![
        v("`_meta` is modern, no header", named(body())),
        v("`_meta` is modern, the header 2025-11-25", named(body()).with("MCP-Protocol-Version: 2025-11-25")),
        v("`_meta` is modern, no version, Mcp-Name says safe", body().with("Mcp-Method: tools/call").with("Mcp-Name: safe")),
        v(
            "`_meta` is modern, the header 2025-11-25, Mcp-Name says safe",
            body().with("MCP-Protocol-Version: 2025-11-25").with("Mcp-Method: tools/call").with("Mcp-Name: safe"),
        ),
        v("the header is modern, no `_meta`", named(post(danger())).with("MCP-Protocol-Version: 2026-07-28")),
        v("the modern version twice", named(body()).with("MCP-Protocol-Version: 2026-07-28").with("MCP-Protocol-Version: 2026-07-28")),
        v(
            "the modern version, then a legacy one",
            named(body()).with("MCP-Protocol-Version: 2026-07-28").with("MCP-Protocol-Version: 2025-11-25"),
        ),
        v("a version of the future", post(danger()).with("MCP-Protocol-Version: 2099-01-01")),
        v(
            "a version of the future, in `_meta` too",
            named(params(format!(r#""name":"danger",{}"#, META.replace("2026-07-28", "2099-01-01"))))
                .with("MCP-Protocol-Version: 2099-01-01"),
        ),
        v("a version that is none", post(danger()).with("MCP-Protocol-Version: latest")),
        v("an empty version", post(danger()).with("MCP-Protocol-Version:")),
        v("a version before the first", post(danger()).with("MCP-Protocol-Version: 2024-10-07")),
        v(
            "a version in `_meta` that is a number",
            named(params(format!(r#""name":"danger",{}"#, META.replace(r#""2026-07-28""#, "20260728"))))
                .with("MCP-Protocol-Version: 2026-07-28"),
        ),
        v("`_meta` names 2025-11-25", named(params(format!(r#""name":"danger",{}"#, META.replace("2026-07-28", "2025-11-25"))))),
        v("a modern response", post(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#).with("MCP-Protocol-Version: 2026-07-28")),
        v("a session that nobody opened", post(safe()).with("Mcp-Session-Id: nobody-opened-this")),
    ]
}
