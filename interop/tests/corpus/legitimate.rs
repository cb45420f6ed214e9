//! Messages that are unusual and mean one thing: they must arrive as they were sent, and run.

use crate::request::{META, Request, arguments, call, modern, params, post, safe};

/// A message that must pass.
pub struct Legitimate {
    pub name: &'static str,
    pub request: Request,
    /// Whether some of the five servers run a tool for it. The others are answered without one.
    pub runs: bool,
}

pub fn all() -> Vec<Legitimate> {
    [texts(), values(), ids(), envelopes(), heads(), content(), framing(), modern_calls(), other_methods()].into_iter().flatten().collect()
}

fn runs(name: &'static str, request: Request) -> Legitimate {
    Legitimate { name, request, runs: true }
}

fn texts() -> Vec<Legitimate> {
    vec![
        runs("a name with an escape", params(r#""name":"s\u0061fe""#)),
        runs("a key with an escape", params(r#""n\u0061me":"safe""#)),
        runs("a method with an escaped slash", post(safe().replace("tools/call", r"tools\/call"))),
        runs(
            "every member escaped",
            post(r#"{"\u006asonrpc":"2.0","\u0069d":1,"\u006dethod":"tools/call","p\u0061rams":{"name":"safe"}}"#),
        ),
        runs(
            "white space everywhere",
            post("{ \"jsonrpc\" :\t\"2.0\" ,\r\n\"id\" : 1 , \"method\" : \"tools/call\" , \"params\" : { \"name\" : \"safe\" } }"),
        ),
        runs("white space around the document", post(format!("\r\n\t {} \n", safe()))),
        runs(
            "the keys in the other order",
            post(r#"{"params":{"arguments":{},"name":"safe"},"method":"tools/call","id":1,"jsonrpc":"2.0"}"#),
        ),
        runs("text in many scripts", arguments(r#"{"a":"häßlich 日本語 עברית 😀"}"#)),
        runs("the same by escapes", arguments(r#"{"a":"h\u00e4\u00dflich \u65e5\u672c \ud83d\ude00"}"#)),
        runs("control characters by escapes", arguments(r#"{"a":"\u0000\u001f\b\f\n\r\t\u007f"}"#)),
        runs("line separators", arguments("{\"a\":\"\u{2028}\u{2029}\"}")),
        runs("a byte order mark in a string", arguments("{\"a\":\"\u{feff}\"}")),
        runs("noncharacters", arguments("{\"a\":\"\u{fffe}\u{ffff}\"}")),
        runs("a decomposed character", arguments("{\"a\":\"e\u{301}\"}")),
        runs("a string that looks like a message", arguments(format!(r#"{{"a":{:?}}}"#, call(r#""name":"danger""#)))),
        runs("a string of 100 KiB", arguments(format!(r#"{{"a":"{}"}}"#, "x".repeat(100 * 1024)))),
        runs("a body of 1 MiB", arguments(format!(r#"{{"a":"{}"}}"#, "y".repeat(1024 * 1024)))),
    ]
}

fn values() -> Vec<Legitimate> {
    let many: Vec<String> = (0..1000).map(|key| format!(r#""k{key}":{key}"#)).collect();
    vec![
        runs("no arguments", params(r#""name":"safe""#)),
        runs("arguments of every type", arguments(r#"{"s":"","n":0,"t":true,"f":false,"z":null,"a":[],"o":{}}"#)),
        runs("keys that only look like MCP's own, in arguments", arguments(r#"{"Name":1,"ARGUMENTS":2," method":3,"\u017fafe":4}"#)),
        runs("keys of the envelope, in arguments", arguments(r#"{"jsonrpc":"1.0","id":null,"method":"x","params":[],"_meta":1}"#)),
        runs("an empty key", arguments(r#"{"":1}"#)),
        runs("keys with dots, slashes and blanks", arguments(r#"{"a.b":1,"a/b":2,"a b":3,"$ref":4,"@":5}"#)),
        runs("a thousand keys", arguments(format!("{{{}}}", many.join(",")))),
        runs("the same key in two objects", arguments(r#"{"a":{"x":1},"b":{"x":2},"c":[{"x":3},{"x":4}]}"#)),
        runs("a number with an exponent", arguments(r#"{"a":1.50e2,"b":1E-7,"c":0e0}"#)),
        runs("the largest double", arguments(r#"{"a":1.7976931348623157e308}"#)),
        runs("a decimal with trailing zeros", arguments(r#"{"a":1.10000}"#)),
        runs("2^53 + 1", arguments(r#"{"a":9007199254740993}"#)),
        runs("-0", arguments(r#"{"a":-0,"b":-0.0}"#)),
        runs("a number of 40 digits", arguments(r#"{"a":0.1234567890123456789012345678901234567890}"#)),
        runs("60 levels", arguments(format!(r#"{{"a":{}{}}}"#, "[".repeat(57), "]".repeat(57)))),
        runs("an array of 10000", arguments(format!(r#"{{"a":[{}0]}}"#, "0,".repeat(9999)))),
    ]
}

fn ids() -> Vec<Legitimate> {
    let id = |name, id: &str| runs(name, post(safe().replace(r#""id":1"#, &format!(r#""id":{id}"#))));
    vec![
        id("id 0", "0"),
        id("a negative id", "-7"),
        id("the largest exact id", "9007199254740991"),
        id("a text id", r#""a""#),
        id("an empty text id", r#""""#),
        id("a text id that looks like a number", r#""1""#),
        id("an id with an escape", r#""\u0061""#),
        id("an id in another script", r#""日本""#),
        id("an id of 1000 characters", &format!(r#""{}""#, "i".repeat(1000))),
    ]
}

fn envelopes() -> Vec<Legitimate> {
    vec![
        runs("a progress token", params(r#""name":"safe","_meta":{"progressToken":"t"}"#)),
        runs("a progress token that is a number", params(r#""name":"safe","_meta":{"progressToken":7}"#)),
        runs("a vendor's key in `_meta`", params(r#""name":"safe","_meta":{"com.example/x":{"a":[1]}}"#)),
        runs(
            "a trace in `_meta`",
            params(r#""name":"safe","_meta":{"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}"#),
        ),
        runs("an empty `_meta`", params(r#""name":"safe","_meta":{}"#)),
        runs("a key of `params` that nobody knows", params(r#""name":"safe","vendor":true"#)),
    ]
}

fn heads() -> Vec<Legitimate> {
    let with = |name, lines: &[&[u8]]| runs(name, lines.iter().fold(post(safe()), super::request::Request::with));
    vec![
        runs("names of headers in upper case", post(safe()).without("Content-Type").with("CONTENT-TYPE: application/json")),
        runs("white space around a header's value", post(safe()).but("Content-Type: \t application/json \t")),
        runs("no white space before a header's value", post(safe()).but("Content-Type:application/json")),
        with("version 2025-03-26", &[b"MCP-Protocol-Version: 2025-03-26"]),
        with("version 2025-06-18", &[b"MCP-Protocol-Version: 2025-06-18"]),
        with("version 2025-11-25", &[b"mcp-protocol-version: 2025-11-25"]),
        with("legacy, with the headers of the modern era", &[b"Mcp-Method: tools/call", b"Mcp-Name: safe"]),
        with("a trace", &[b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", b"tracestate: a=1", b"baggage: k=v"]),
        with("a bearer token of 4 KiB", &[format!("Authorization: Bearer {}", "t".repeat(4096)).as_bytes()]),
        with("cookies", &[b"Cookie: a=1; b=2"]),
        with("a header of nobody, twice", &[b"X-Thing: 1", b"X-Thing: 2"]),
        with("a header without a value", &[b"X-Empty:"]),
        with("a header of nobody beyond ASCII", &[b"X-Latin: caf\xE9"]),
        with("claims about who is asking", &[b"X-Forwarded-For: 10.0.0.1", b"X-Real-IP: 10.0.0.1", b"Forwarded: for=10.0.0.1"]),
        with("another method, by a header", &[b"X-HTTP-Method-Override: PUT"]),
        with("an answer that may be compressed", &[b"Accept-Encoding: gzip, br"]),
        with("an Origin of this machine", &[b"Origin: http://127.0.0.1:8080"]),
        with("headers of the connection", &[b"Keep-Alive: timeout=5", b"TE: trailers", b"Proxy-Connection: keep-alive"]),
        runs("a header that the connection names", post(safe()).but("Connection: close, X-Gone").with("X-Gone: 1")),
        runs("an upgrade that nobody needs to take", post(safe()).but("Connection: close, Upgrade").with("Upgrade: h2c")),
        runs("Expect: 100-continue", post(safe()).with("Expect: 100-continue")),
        with("a session where there are none", &[b"Mcp-Session-Id: 0123456789abcdef"]),
    ]
}

fn content() -> Vec<Legitimate> {
    let typed = |name, media: &str| runs(name, post(safe()).but(format!("Content-Type: {media}")));
    vec![
        typed("Application/JSON", "Application/JSON"),
        typed("charset=utf-8", "application/json; charset=utf-8"),
        typed("charset=UTF-8, without a blank", "application/json;charset=UTF-8"),
        typed("charset in quotes", "application/json; charset=\"utf-8\""),
        typed("a parameter of nobody", "application/json; x=y"),
        runs("Content-Encoding: identity", post(safe()).with("Content-Encoding: identity")),
        runs("Accept in the other order, with qualities", post(safe()).but("Accept: text/event-stream;q=0.9, application/json")),
        runs("Accept with blanks left out", post(safe()).but("Accept: application/json,text/event-stream")),
    ]
}

fn framing() -> Vec<Legitimate> {
    vec![
        runs("chunks of one byte", post(safe()).chunked(1)),
        runs("one chunk", post(safe()).chunked(4096)),
        runs("Transfer-Encoding in another case", post(safe()).chunked(100).but("transfer-encoding: Chunked")),
        runs("a target with a query", post(safe()).to("/mcp?x=1")),
        runs("a length with zeros in front", post(safe()).but(format!("Content-Length: 00{}", safe().len()))),
    ]
}

fn modern_calls() -> Vec<Legitimate> {
    let region = |value: &str| modern(&format!(r#""name":"region","arguments":{{"region":"{value}"}}"#)).with("Mcp-Name: region");
    let info = r#""io.modelcontextprotocol/clientInfo":{"name":"x","version":"1"},"com.example/x":1}"#;
    vec![
        runs("modern", modern(r#""name":"safe""#).with("Mcp-Name: safe")),
        runs(
            "modern, names of headers in lower case",
            params(format!(r#""name":"safe",{META}"#))
                .with("mcp-protocol-version: 2026-07-28")
                .with("mcp-method: tools/call")
                .with("mcp-name: safe"),
        ),
        runs("modern, the name in base64", modern(r#""name":"safe""#).with("Mcp-Name: =?base64?c2FmZQ==?=")),
        runs("modern, the name with an escape", modern(r#""name":"s\u0061fe""#).with("Mcp-Name: safe")),
        runs(
            "modern, `_meta` first",
            params(format!(r#"{META},"name":"safe""#))
                .with("MCP-Protocol-Version: 2026-07-28")
                .with("Mcp-Method: tools/call")
                .with("Mcp-Name: safe"),
        ),
        runs(
            "modern, with more in `_meta`",
            params(format!(r#""name":"safe",{},{info}"#, &META[..META.len() - 1]))
                .with("MCP-Protocol-Version: 2026-07-28")
                .with("Mcp-Method: tools/call")
                .with("Mcp-Name: safe"),
        ),
        runs("modern, an argument in a header", region("eu").with("Mcp-Param-Region: eu")),
        runs("modern, an argument in a header, in base64", region("日本").with("Mcp-Param-Region: =?base64?5pel5pys?=")),
        runs("modern, an argument that is null and in no header", modern(r#""name":"region","arguments":{}"#).with("Mcp-Name: region")),
        runs("modern, a header for no argument", modern(r#""name":"safe""#).with("Mcp-Name: safe").with("Mcp-Param-Other: x")),
    ]
}

fn other_methods() -> Vec<Legitimate> {
    let v = |name, body: &str| Legitimate { name, request: post(body), runs: false };
    let initialize = |name, version: &str| Legitimate {
        name,
        request: post(format!(
            r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"{version}","capabilities":{{}},"clientInfo":{{"name":"x","version":"1"}}}}}}"#
        )),
        runs: false,
    };
    vec![
        v("ping", r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#),
        v("tools/list", r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#),
        v("tools/list with a cursor", r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"cursor":""}}"#),
        v("notifications/initialized", r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#),
        v("notifications/cancelled", r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"reason":"x"}}"#),
        v("notifications/progress", r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":0.5}}"#),
        v("a response with a result", r#"{"jsonrpc":"2.0","id":"s-1","result":{"roots":[]}}"#),
        v("a response with an error", r#"{"jsonrpc":"2.0","id":2,"error":{"code":-1,"message":"no"}}"#),
        initialize("initialize 2025-11-25", "2025-11-25"),
        initialize("initialize 2025-03-26", "2025-03-26"),
        Legitimate {
            name: "server/discover",
            request: post(format!(r#"{{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{{{META}}}}}"#))
                .with("MCP-Protocol-Version: 2026-07-28")
                .with("Mcp-Method: server/discover"),
            runs: false,
        },
    ]
}
