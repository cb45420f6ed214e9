use proptest::prelude::*;
use serde_json::Value;

use super::*;

/// A call with these members of `params`.
fn call(params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{{{params}}}}}"#)
}

/// A call of the tool `safe` with this JSON text as an argument.
fn argument(value: &str) -> String {
    call(&format!(r#""name":"safe","arguments":{{"a":{value}}}"#))
}

/// The name of the tool that an accepted call runs.
fn tool(body: impl AsRef<[u8]>) -> String {
    match parse(body.as_ref()) {
        Ok(Message::Request(Request { call: Some(call), .. })) => call.name,
        other => panic!("{}: {other:?}", String::from_utf8_lossy(body.as_ref())),
    }
}

struct Refused<'a> {
    body: &'a [u8],
    status: u16,
    code: i64,
    reason: Reason,
    id: Option<&'a str>,
}

impl<'a> Refused<'a> {
    /// Not one UTF-8 JSON text.
    fn unread(body: &'a (impl AsRef<[u8]> + ?Sized), reason: Reason) -> Self {
        Self { body: body.as_ref(), status: 400, code: -32700, reason, id: None }
    }

    /// JSON, but no message; the id is 7.
    fn invalid(body: &'a (impl AsRef<[u8]> + ?Sized), reason: Reason) -> Self {
        Self { code: -32600, id: Some("7"), ..Self::unread(body, reason) }
    }

    /// As [`Refused::invalid`], with no id to echo.
    fn without_id(body: &'a (impl AsRef<[u8]> + ?Sized), reason: Reason) -> Self {
        Self { id: None, ..Self::invalid(body, reason) }
    }

    fn check(&self) {
        let body = String::from_utf8_lossy(&self.body[..self.body.len().min(200)]);
        let malformed = parse(self.body).expect_err(&body);
        let got = (malformed.status.as_u16(), malformed.code, malformed.reason, malformed.id.as_ref().map(Id::as_json));
        assert_eq!(got, (self.status, self.code, self.reason, self.id), "{body}");
    }
}

/// mcp.md 4.1: what official servers read differently from each other.
#[test]
fn the_corpus_is_refused_with_its_status_code_and_id() {
    let safe = || call(r#""name":"safe""#);
    let utf16: Vec<u8> = safe().encode_utf16().flat_map(u16::to_le_bytes).collect();
    let not_utf8: Vec<u8> = argument("\"?\"").bytes().map(|byte| if byte == b'?' { 0xff } else { byte }).collect();
    let deep = |depth| argument(&format!("{}{}", "[".repeat(depth), "]".repeat(depth)));
    for refused in [
        Refused::unread("", Reason::Syntax),
        Refused::unread(&call(r#""name":"safe","#), Reason::Syntax),
        Refused::unread(&format!("\u{a0}{}", safe()), Reason::Syntax),
        Refused::unread(&format!("\u{b}{}", safe()), Reason::Syntax),
        Refused::unread(&argument("NaN"), Reason::Syntax),
        Refused::unread(&argument("/**/1"), Reason::Syntax),
        Refused::unread(&utf16, Reason::Syntax),
        Refused::unread(&[b"\xff\xfe", utf16.as_slice()].concat(), Reason::NotUtf8),
        Refused::unread(&not_utf8, Reason::NotUtf8),
        Refused::unread(&format!("\u{feff}{}", safe()), Reason::ByteOrderMark),
        Refused::unread(&safe().repeat(2), Reason::TrailingBytes),
        Refused::unread(&format!("{}//", safe()), Reason::TrailingBytes),
        Refused::without_id(&format!("[{}]", safe()), Reason::Batch),
        Refused::without_id(" [", Reason::Batch),
        Refused::invalid(&call(r#""name":"safe","name":"danger""#), Reason::DuplicateKey),
        Refused::invalid(&call(r#""name":"safe","n\u0061me":"danger""#), Reason::DuplicateKey),
        Refused::invalid(&argument(r#"{"x":1,"x":2}"#), Reason::DuplicateKey),
        Refused::invalid(r#"{"jsonrpc":"2.0","id":7,"method":"tools/list","method":"tools/call"}"#, Reason::DuplicateKey),
        Refused::invalid(r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{},"params":{"name":"danger"}}"#, Reason::DuplicateKey),
        // The id stands behind the fault.
        Refused::invalid(r#"{"jsonrpc":"2.0","method":"tools/call","params":{"a":1,"a":1},"id":7}"#, Reason::DuplicateKey),
        Refused::without_id(r#"{"jsonrpc":"2.0","id":7,"id":8,"method":"ping"}"#, Reason::DuplicateKey),
        Refused::without_id(r#"{"jsonrpc":"2.0","id":7,"\u0069d":8,"method":"ping"}"#, Reason::DuplicateKey),
        Refused::invalid(&call(r#""name":"safe","Name":"danger""#), Reason::LookalikeKey),
        Refused::invalid(&call(r#""name":"safe","name\u0000":"danger""#), Reason::LookalikeKey),
        Refused::invalid(&call(r#""name":"safe","\uff4eame":"danger""#), Reason::LookalikeKey),
        Refused::invalid(&call(r#""name":"safe","argument\u017f":{}"#), Reason::LookalikeKey),
        Refused::invalid(&call(r#""name":"safe","_meta":{"io.modelcontextprotocol/ProtocolVersion":"x"}"#), Reason::LookalikeKey),
        Refused::invalid(r#"{"jsonrpc":"2.0","id":7,"method":"ping","Method":"tools/call"}"#, Reason::LookalikeKey),
        Refused::invalid(&argument(r#""\ud800""#), Reason::LoneSurrogate),
        Refused::invalid(&argument("1e400"), Reason::Number),
        Refused::invalid(&argument(&"9".repeat(5000)), Reason::Number),
        Refused::invalid(&deep(62), Reason::TooDeep),
        Refused::invalid(&deep(100_000), Reason::TooDeep),
    ] {
        refused.check();
    }
}

#[test]
fn what_is_not_one_message_is_refused() {
    for id in ["null", "1.5", "1.0", "1e0", "-0", "true", "{}", "[1]"] {
        Refused::without_id(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#), Reason::Id).check();
    }
    for members in [
        r#""method":"tools/call","params":{"name":"danger"},"result":{}"#,
        r#""method":"tools/call","params":{"name":"danger"},"error":{}"#,
        r#""method":7"#,
        r#""method":null"#,
        r#""params":{}"#,
        r#""method":"ping","extra":1"#,
    ] {
        Refused::invalid(&format!(r#"{{"jsonrpc":"2.0","id":7,{members}}}"#), Reason::Envelope).check();
    }
    for version in ["", r#""jsonrpc":"1.0","#, r#""jsonrpc":2.0,"#, r#""jsonrpc":"2.0 ","#, r#""jsonrpc":null,"#] {
        Refused::invalid(&format!(r#"{{{version}"id":7,"method":"ping"}}"#), Reason::Envelope).check();
    }
    for params in ["[]", "null", "7", r#"{"_meta":[]}"#, r#"{"_meta":null}"#] {
        Refused::invalid(&format!(r#"{{"jsonrpc":"2.0","id":7,"method":"ping","params":{params}}}"#), Reason::Params).check();
    }
    for body in ["7", "null", "\"ping\"", "{}"] {
        Refused::without_id(body, Reason::Envelope).check();
    }
    // The id of a response is not the client's: an error that carries it would answer another request.
    for members in [r#""params":{},"result":{}"#, r#""result":{},"error":{}"#, r#""error":"no""#] {
        Refused::without_id(&format!(r#"{{"jsonrpc":"2.0","id":7,{members}}}"#), Reason::Envelope).check();
    }
    Refused::without_id(r#"{"jsonrpc":"2.0","result":{}}"#, Reason::Id).check();
    // A call that asks not to be answered is still a call.
    Refused::without_id(r#"{"jsonrpc":"2.0","method":"tools/call","params":{"name":"danger"}}"#, Reason::Id).check();
}

#[test]
fn a_call_without_a_tool_or_with_odd_arguments_keeps_its_session() {
    for params in [
        r#""arguments":{}"#,
        r#""name":"""#,
        r#""name":null"#,
        r#""name":["danger"]"#,
        r#""name":"danger","arguments":[]"#,
        r#""name":"danger","arguments":"{}""#,
    ] {
        Refused { status: 200, code: -32602, ..Refused::invalid(&call(params), Reason::Params) }.check();
    }
    for arguments in [
        r#"{"operation":"read","Operation":"delete"}"#,
        r#"{"\u004fperation":"delete","operation":"read"}"#,
        r#"{"filter":[{"status":1,"\u017ftatus":2}]}"#,
    ] {
        let params = format!(r#""name":"danger","arguments":{arguments}"#);
        Refused { status: 200, code: -32602, ..Refused::invalid(&call(&params), Reason::LookalikeKey) }.check();
    }
    let bare = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call"}"#;
    Refused { status: 200, code: -32602, ..Refused::invalid(bare, Reason::Params) }.check();
}

#[test]
fn the_rest_of_the_corpus_runs_the_tool_that_is_read() {
    let deep = format!("{}{}", "[".repeat(61), "]".repeat(61));
    for body in [
        call(r#""name":"safe""#),
        call(r#""name":"safe","arguments":null"#),
        call(r#""name":"safe","arguments":{"Name":"danger","method":"danger"}"#),
        call(r#""name":"safe","_meta":{"progressToken":1,"vendor.example/x":{}},"extension":1"#),
        r#"{"params":{"name":"safe"},"method":"tools/call","id":"x","jsonrpc":"2.0"}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":18446744073709551616,"method":"tools\/call","params":{"name":"s\u0061fe"}}"#.to_owned(),
        argument("9007199254740993"),
        argument("18446744073709551617"),
        argument("-0"),
        argument(&deep),
        argument(r#""\ud83d\ude00\u0000""#),
        format!(" \r\n\t{}\n", call(r#""name":"safe""#)),
    ] {
        assert_eq!(tool(&body), "safe", "{body}");
    }
}

#[test]
fn nothing_is_trimmed_folded_or_normalised() {
    for name in ["DANGER", "danger ", " danger", "danger\0", "dａnger", "caf\u{e9}", "cafe\u{301}"] {
        assert_eq!(tool(call(&format!(r#""name":{}"#, Value::from(name)))), name);
    }
    for method in ["Tools/Call", "tools/call ", "tools/call\0", "TOOLS/CALL"] {
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":{},"params":{{"name":"danger"}}}}"#, Value::from(method));
        let Ok(Message::Request(request)) = parse(body.as_bytes()) else { panic!("{body}") };
        assert_eq!((request.method.as_str(), request.call, is_known_method(method)), (method, None, false));
    }
}

#[test]
fn a_client_is_sent_to_pages_only_by_its_own_clear_word() {
    for (capabilities, opens_urls) in [
        (r#"{"elicitation":{"form":{},"url":{}}}"#, Some(true)),
        (r#"{"elicitation":{"url":{"x":1}},"sampling":{}}"#, Some(true)),
        (r#"{"elicitation":{}}"#, Some(false)),
        (r#"{"elicitation":{"form":{"url":{}}}}"#, Some(false)),
        (r#"{"elicitation":{"url":true}}"#, Some(false)),
        (r#"{"elicitation":["url"]}"#, Some(false)),
        (r#"{"url":{}}"#, Some(false)),
        (r#"{"Elicitation":{"url":{}}}"#, Some(false)),
        ("[]", None),
    ] {
        let request = |body: String| match parse(body.as_bytes()) {
            Ok(Message::Request(request)) => request,
            other => panic!("{other:?}"),
        };
        let message = |method: &str, params: &str| format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{{params}}}}}"#);
        let meta = format!(r#""name":"a","_meta":{{"io.modelcontextprotocol/clientCapabilities":{capabilities}}}"#);
        let modern = request(message(TOOLS_CALL, &meta));
        assert_eq!(modern.capabilities.map(|client| client.opens_urls), opens_urls, "{capabilities}");
        let own = format!(r#""capabilities":{capabilities}"#);
        let introduces = request(message("initialize", &own)).introduces;
        assert_eq!(introduces.opens_urls, opens_urls == Some(true), "{capabilities}");
        let elsewhere = request(message("tools/list", &own));
        assert_eq!((elsewhere.capabilities, elsewhere.introduces), (None, Capabilities::default()));
    }
    let twice = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"capabilities":{"elicitation":{"url":{},"url":1}}}}"#;
    assert_eq!(parse(twice.as_bytes()).unwrap_err().reason, Reason::DuplicateKey);
}

#[test]
fn a_call_that_answers_what_was_asked_is_told_apart() {
    for (more, goes_on) in
        [("", false), (r#","inputResponses":{}"#, true), (r#","requestState":"s""#, true), (r#","inputResponses":null"#, true)]
    {
        let body = call(&format!(r#""name":"a"{more}"#));
        let Ok(Message::Request(Request { call: Some(call), .. })) = parse(body.as_bytes()) else { panic!("{body}") };
        assert_eq!(call.goes_on, goes_on, "{body}");
    }
}

#[test]
fn a_name_beyond_the_charset_must_be_one_that_the_server_lists() {
    let proper = |name: &str, listed: bool| {
        let call = ToolCall { name: name.to_owned(), argument_keys: vec![], argument_keys_left_out: 0, goes_on: false, arguments: 0..0 };
        call.has_proper_name(|asked| {
            assert_eq!(asked, name);
            listed
        })
    };
    let longest = "x".repeat(128);
    let longer = "x".repeat(129);
    for name in ["a", "A.b_c-9", &longest] {
        assert!(proper(name, false), "{name}");
    }
    for name in ["a b", "a/b", "café", "a\0", &longer] {
        assert!(!proper(name, false), "{name}");
        assert!(proper(name, true), "{name}");
    }
}

#[test]
fn kinds_are_told_apart() {
    assert_eq!(
        parse(br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#),
        Ok(Message::Notification(Notification { method: "notifications/initialized".into(), cancels: None, version: MetaVersion::Absent }))
    );
    for body in [r#"{"jsonrpc":"2.0","id":"a","result":null}"#, r#"{"jsonrpc":"2.0","id":"a","error":{"code":1,"message":""}}"#] {
        assert!(matches!(parse(body.as_bytes()), Ok(Message::Response(Response { id })) if id.as_json() == r#""a""#), "{body}");
    }
}

#[test]
fn ids_are_echoed_as_sent_and_equal_by_value() {
    let id = |json: &str| match parse(format!(r#"{{"jsonrpc":"2.0","id":{json},"method":"ping"}}"#).as_bytes()) {
        Ok(Message::Request(request)) => request.id,
        other => panic!("{json}: {other:?}"),
    };
    for json in ["0", "-1", "18446744073709551616", r#""""#, r#""\u0061""#, r#""7""#] {
        assert_eq!(id(json).as_json(), json);
    }
    assert_eq!(id(r#""a""#), id(r#""\u0061""#));
    assert_ne!(id("7"), id(r#""7""#));
    assert_ne!(id("9007199254740993"), id("9007199254740992"));
}

#[test]
fn argument_keys_for_the_audit_line_are_bounded() {
    let keys: Vec<String> = (0..100).map(|n| format!(r#""{}{n}":0"#, "é".repeat(100))).collect();
    let Ok(Message::Request(request)) = parse(call(&format!(r#""name":"safe","arguments":{{{}}}"#, keys.join(","))).as_bytes()) else {
        panic!()
    };
    let call = request.call.unwrap();
    assert_eq!((call.argument_keys.len(), call.argument_keys_left_out), (64, 36));
    assert!(call.argument_keys.iter().all(|key| *key == "é".repeat(64)));
}

#[test]
fn the_server_is_read_as_strictly_but_for_extra_keys() {
    let read = |body: &str| parse_server(body.as_bytes());
    let id = || Id::from_json("7").unwrap();
    assert_eq!(read(r#"{"jsonrpc":"2.0","id":7,"result":{},"vendor":1}"#), Ok(ServerMessage::Result { id: id() }));
    assert_eq!(read(r#"{"jsonrpc":"2.0","id":7,"error":{"code":-1,"message":"x"}}"#), Ok(ServerMessage::Error { id: Some(id()) }));
    assert_eq!(read(r#"{"jsonrpc":"2.0","id":null,"error":{"code":-1,"message":"x"}}"#), Ok(ServerMessage::Error { id: None }));
    assert_eq!(
        read(r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{}}"#),
        Ok(ServerMessage::Notification { method: "notifications/progress".into() })
    );
    assert_eq!(read(r#"{"jsonrpc":"2.0","id":7,"method":"ping"}"#), Ok(ServerMessage::Request { id: id(), method: "ping".into() }));
    for body in [
        r#"{"jsonrpc":"2.0","id":7,"result":{},"result":{}}"#,
        r#"{"jsonrpc":"2.0","id":7,"result":{},"error":{}}"#,
        r#"{"jsonrpc":"2.0","id":7,"result":{},"Result":{}}"#,
        r#"{"jsonrpc":"2.0","id":7,"result":{},"method":"x"}"#,
        r#"{"jsonrpc":"2.0","id":null,"result":{}}"#,
        r#"{"jsonrpc":"2.0","id":7}"#,
        r#"{"id":7,"result":{}}"#,
        r#"[{"jsonrpc":"2.0","id":7,"result":{}}]"#,
        "x",
    ] {
        assert!(read(body).is_err(), "{body}");
    }
}

#[test]
fn reasons_are_distinct_labels() {
    let labels: std::collections::BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    assert_eq!(labels.len(), Reason::ALL.len());
    assert!(labels.iter().all(|label| label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')));
}

/// Bodies that are often messages: members in any order, twice, missing, misspelt.
fn nearly_message() -> impl Strategy<Value = String> {
    let value = prop::sample::select(vec![
        r#""safe""#,
        r#""d\u0061nger""#,
        r#""tools/call""#,
        r#""tools\/list""#,
        r#""2.0""#,
        "7",
        "null",
        "{}",
        "[]",
        "1.0",
        r#"{"name":"x"}"#,
    ]);
    let member =
        move |keys: Vec<&'static str>| (prop::sample::select(keys), value.clone()).prop_map(|(key, value)| format!("{key}:{value}"));
    let params =
        prop::collection::vec(member(vec![r#""name""#, r#""n\u0061me""#, r#""Name""#, r#""arguments""#, r#""_meta""#, r#""uri""#]), 0..4)
            .prop_map(|members| format!(r#""params":{{{}}}"#, members.join(",")));
    let fixed = prop::sample::select(vec![r#""jsonrpc":"2.0""#, r#""id":7"#, r#""method":"tools/call""#]).prop_map(str::to_owned);
    let any = member(vec![r#""id""#, r#""method""#, r#""result""#, r#""error""#, r#""Method""#]);
    // The first three are there most of the time, or nothing would ever be accepted.
    let usual = Just(vec![r#""jsonrpc":"2.0""#.to_owned(), r#""id":7"#.to_owned(), r#""method":"tools/call""#.to_owned()]);
    (prop_oneof![4 => usual, 1 => prop::collection::vec(fixed, 0..4)], prop::collection::vec(prop_oneof![4 => params, 1 => any], 1..3))
        .prop_map(|(first, rest)| [first, rest].concat())
        .prop_shuffle()
        .prop_map(|members| format!("{{{}}}", members.join(",")))
}

fn agrees_with_others(body: &[u8]) -> Result<(), TestCaseError> {
    let Ok(message) = parse(body) else { return Ok(()) };
    let theirs: Value = serde_json::from_slice(body).map_err(|error| TestCaseError::fail(error.to_string()))?;
    prop_assert_eq!(message.method(), theirs["method"].as_str());
    prop_assert_eq!(message.id().map(|id| id.as_json().parse::<Value>().unwrap()), theirs.get("id").cloned());
    if let Message::Request(Request { call: Some(call), .. }) = message {
        prop_assert_eq!(Some(call.name.as_str()), theirs["params"]["name"].as_str());
    }
    Ok(())
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        agrees_with_others(&bytes)?;
        let _ = parse_server(&bytes);
    }

    #[test]
    fn what_is_read_is_what_others_read(body in nearly_message()) {
        agrees_with_others(body.as_bytes())?;
    }

    #[test]
    fn no_change_of_a_byte_makes_another_reading(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut body = call(r#""name":"safe","n\u0062me":"x","arguments":{"k":[1,"\ud83d\ude00"]}"#).into_bytes();
        let at = at.index(body.len());
        body[at] = byte;
        agrees_with_others(&body)?;
    }

    #[test]
    fn any_name_is_read_as_sent(name in "\\PC{1,20}|[\\x00-\\x7f]{1,20}") {
        prop_assert_eq!(tool(call(&format!(r#""name":{}"#, Value::from(name.as_str())))), name);
    }
}
