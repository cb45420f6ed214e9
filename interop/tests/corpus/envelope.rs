//! Messages that are JSON and not quite JSON-RPC, or not quite a call: rules 4 to 7.

use crate::request::{META, Variant, danger, params, post, safe, variant};

pub fn all() -> Vec<Variant> {
    [envelopes(), ids(), names_and_arguments(), batches(), methods()].into_iter().flatten().collect()
}

fn envelopes() -> Vec<Variant> {
    let v = |name, body: &str| variant(4, name, post(body));
    vec![
        v("no `jsonrpc`", r#"{"id":1,"method":"tools/call","params":{"name":"danger"}}"#),
        v("`jsonrpc` 1.0", r#"{"jsonrpc":"1.0","id":1,"method":"tools/call","params":{"name":"danger"}}"#),
        v("`jsonrpc` as a number", r#"{"jsonrpc":2.0,"id":1,"method":"tools/call","params":{"name":"danger"}}"#),
        v("`jsonrpc` with a blank", r#"{"jsonrpc":"2.0 ","id":1,"method":"tools/call","params":{"name":"danger"}}"#),
        v("`jsonrpc` null", r#"{"jsonrpc":null,"id":1,"method":"tools/call","params":{"name":"danger"}}"#),
        v("another key at the top", r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"danger"},"x":1}"#),
        v("`_meta` at the top", r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"danger"},"_meta":{}}"#),
        v("`method` and `result`", r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"danger"},"result":{}}"#),
        v("`method` and `result` null", r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"danger"},"result":null}"#),
        v(
            "`method` and `error`",
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"danger"},"error":{"code":1,"message":""}}"#,
        ),
        v("`method` and `error` null", r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"danger"},"error":null}"#),
        v("`result` and `error`", r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{"code":1,"message":""}}"#),
        v("`result` and `params`", r#"{"jsonrpc":"2.0","id":1,"result":{},"params":{"name":"danger"}}"#),
        v("`error` as a string", r#"{"jsonrpc":"2.0","id":1,"error":"x"}"#),
        v("a response without an id", r#"{"jsonrpc":"2.0","result":{}}"#),
        v("`method` as a number", r#"{"jsonrpc":"2.0","id":1,"method":1,"params":{"name":"danger"}}"#),
        v("`method` null", r#"{"jsonrpc":"2.0","id":1,"method":null,"params":{"name":"danger"}}"#),
        v("`method` in an array", r#"{"jsonrpc":"2.0","id":1,"method":["tools/call"],"params":{"name":"danger"}}"#),
        v("no `method`", r#"{"jsonrpc":"2.0","id":1,"params":{"name":"danger"}}"#),
        v("`params` as an array", r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":["danger",{}]}"#),
        v("`params` as a string", r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":"{\"name\":\"danger\"}"}"#),
        v("`params` null", r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":null}"#),
        v("`_meta` as an array", r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"danger","_meta":[]}}"#),
        v("an empty object", "{}"),
    ]
}

fn ids() -> Vec<Variant> {
    let v = |name, id: &str| {
        variant(4, name, post(format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"danger"}}}}"#)))
    };
    vec![
        v("id null", "null"),
        v("id 1.5", "1.5"),
        v("id 1.0", "1.0"),
        v("id 1e0", "1e0"),
        v("id -0", "-0"),
        v("id true", "true"),
        v("id as an object", "{}"),
        v("id as an array", "[1]"),
        v("id of 200 digits", &"9".repeat(200)),
        variant(4, "a call without an id", post(r#"{"jsonrpc":"2.0","method":"tools/call","params":{"name":"danger"}}"#)),
    ]
}

fn names_and_arguments() -> Vec<Variant> {
    let name = |title, name: &str| variant(5, title, params(format!(r#""name":{name},"arguments":{{}}"#)));
    let arguments = |title, arguments: &str| variant(5, title, params(format!(r#""name":"danger","arguments":{arguments}"#)));
    vec![
        variant(5, "no name", params(r#""arguments":{}"#)),
        variant(5, "no params", post(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#)),
        name("an empty name", r#""""#),
        name("name null", "null"),
        name("name as a number", "1"),
        name("name true", "true"),
        name("name in an array", r#"["danger"]"#),
        name("name in an object", r#"{"name":"danger"}"#),
        name("`danger `", r#""danger ""#),
        name("` danger`", r#"" danger""#),
        name("`danger\\n`", r#""danger\n""#),
        name("`danger\\u0000`", r#""danger\u0000""#),
        name("`DANGER`", r#""DANGER""#),
        name("`Danger`", r#""Danger""#),
        name("`d\\u0430nger`, the `a` of Cyrillic", r#""d\u0430nger""#),
        name("full-width `danger`", r#""ｄａｎｇｅｒ""#),
        name("`danger` with a zero-width space", r#""dan\u200bger""#),
        name("`danger` with a combining mark", r#""danger\u0301""#),
        name("`safe/../danger`", r#""safe/../danger""#),
        name("`server:danger`", r#""server:danger""#),
        name("`safe,danger`", r#""safe,danger""#),
        name("`safe\\u0000danger`", r#""safe\u0000danger""#),
        name("a name of 129 letters", &format!(r#""{}""#, "d".repeat(129))),
        name("`d\\u0061nger`, which is danger", r#""d\u0061nger""#),
        name("`__proto__`", r#""__proto__""#),
        name("`constructor`", r#""constructor""#),
        arguments("arguments as an array", "[]"),
        arguments("arguments as a string", r#""{}""#),
        arguments("arguments as a number", "0"),
        arguments("arguments false", "false"),
        variant(5, "arguments null, for a tool that is allowed", params(r#""name":"safe","arguments":null"#)),
    ]
}

fn batches() -> Vec<Variant> {
    let v = |name, body: String| variant(6, name, post(body));
    let both = format!("[{},{}]", safe(), danger().replace(r#""id":1"#, r#""id":2"#));
    let modern = danger().replace(r#""arguments":{}"#, META);
    let notification = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    vec![
        v("a batch of safe and danger", both.clone()),
        v("a batch of one", format!("[{}]", danger())),
        v("an empty batch", "[]".to_owned()),
        v("a batch in a batch", format!("[{both}]")),
        v("a batch of a notification and danger", format!("[{notification},{}]", danger())),
        v("a batch behind white space", format!("\n \t{both}")),
        v("a batch of one id twice", format!("[{},{}]", safe(), danger())),
        v("a batch that is cut off", both[..both.len() - 1].to_owned()),
        variant(6, "a batch, 2025-03-26", post(&both).with("MCP-Protocol-Version: 2025-03-26")),
        variant(6, "a batch, 2025-06-18", post(&both).with("MCP-Protocol-Version: 2025-06-18")),
        variant(
            6,
            "a batch, 2026-07-28",
            post(format!("[{modern}]")).with("MCP-Protocol-Version: 2026-07-28").with("Mcp-Method: tools/call").with("Mcp-Name: safe"),
        ),
        v("an object with the keys of an array", format!(r#"{{"0":{},"1":{},"length":2}}"#, safe(), danger())),
    ]
}

fn methods() -> Vec<Variant> {
    let v = |name, method: &str| {
        variant(7, name, post(format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{"name":"danger"}}}}"#)))
    };
    vec![
        v("`Tools/Call`", "Tools/Call"),
        v("`TOOLS/CALL`", "TOOLS/CALL"),
        v("`tools/call `", "tools/call "),
        v("` tools/call`", " tools/call"),
        v("`tools/call\\u0000`", r"tools/call\u0000"),
        v("`tools/call\\n`", r"tools/call\n"),
        v("`tools//call`", "tools//call"),
        v("`tools/call/`", "tools/call/"),
        v("`/tools/call`", "/tools/call"),
        v("`tools/./call`", "tools/./call"),
        v("`tools.call`", "tools.call"),
        v("`tools\\\\call`", r"tools\\call"),
        v("`tools\\u2215call`, another slash", r"tools\u2215call"),
        v("full-width `tools/call`", "ｔools/call"),
        v("`tools/call?x`", "tools/call?x"),
        v("`tools%2fcall`", "tools%2fcall"),
        v("`tools\\/call`, which is tools/call", r"tools\/call"),
        v("an empty method", ""),
        v("a method that nobody knows", "x/y"),
        v("`rpc.discover`", "rpc.discover"),
        variant(
            7,
            "`notifications/tools/call`",
            post(r#"{"jsonrpc":"2.0","method":"notifications/tools/call","params":{"name":"danger"}}"#),
        ),
        variant(7, "a notification with an id", post(r#"{"jsonrpc":"2.0","id":1,"method":"notifications/initialized"}"#)),
    ]
}
