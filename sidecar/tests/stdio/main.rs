//! `run -- COMMAND`: between a client and a server that both speak MCP on stdio, by the program itself.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod client;
mod lists;

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use client::{Client, SERVER, eventually, is_alive, lines};
use serde_json::{Value, json};

fn ran(answer: &Value) -> bool {
    answer["result"]["content"][0]["text"] == "ran"
}

fn denial(answer: &Value) -> &Value {
    &answer["result"]["_meta"]["mcp-policy.dev/denial"]
}

#[test]
fn ten_calls_pass_and_the_eleventh_is_refused_without_reaching_the_server() {
    let limit = json!({"tools": {"read": {"limits": [{"counter": "c", "window": "minute", "max": 10, "scope": "session"}]}}});
    let mut client = Client::start(&limit);
    assert_eq!(client.ask("initialize", &json!({}))["result"]["protocolVersion"], "2025-11-25");
    client.say(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    assert_eq!(client.ask("tools/list", &json!({}))["result"]["tools"].as_array().unwrap().len(), 1);
    for _ in 0..10 {
        assert!(ran(&client.call("read")));
    }
    let refused = client.call("read");
    assert_eq!((&refused["result"]["isError"], &denial(&refused)["code"]), (&json!(true), &json!("limit_exceeded")));
    assert_eq!(denial(&client.call("purge"))["code"], "default_deny");
    assert_eq!(client.calls(), 10);

    let (code, audit) = client.leave();
    assert_eq!(code, Some(0));
    let codes: Vec<&str> = audit.iter().map(|line| line["code"].as_str().unwrap()).collect();
    assert_eq!(codes, [["allowed"; 10].as_slice(), &["limit_exceeded", "default_deny"]].concat());
    let first = &audit[0];
    assert_eq!((&first["server"], &first["caller"]), (&json!("python3"), &json!("anonymous:127.0.0.1")));
    assert!(first["upstreamStatus"].is_null() && !first.to_string().contains("secret-value"), "{first}");
}

#[test]
fn the_bytes_that_were_judged_are_the_bytes_that_arrive() {
    let mut client = Client::start(&json!({"default": "allow"}));
    let line = r#"{ "params" :{"arguments":{"n":1.50e2,"big":9007199254740993,"t":"\u0061\/"},"name":"re\u0061d"},"method":"tools\/call","id":"\u0031","jsonrpc":"2.0"}  "#;
    client.say(line);
    let answer = client.hear();
    assert!(ran(&answer) && answer["id"] == "1", "{answer}");
    assert_eq!(client.got(), [line]);
}

#[test]
fn a_message_that_reads_two_ways_is_refused_without_reaching_the_server() {
    let mut client = Client::start(&json!({"default": "allow"}));
    let smuggled = r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"purge"}}"#;
    let lines = [
        (r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read","name":"purge"}}"#.to_owned(), -32600, json!(1)),
        (r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read","Name":"purge"}}"#.to_owned(), -32600, json!(1)),
        (format!("[{smuggled}]"), -32600, Value::Null),
        (format!("{smuggled}{smuggled}"), -32700, Value::Null),
        ("Starting up".to_owned(), -32700, Value::Null),
        (r#"{"jsonrpc":"2.0","method":"tools/call","params":{"name":"read"}}"#.to_owned(), -32600, Value::Null),
        // An error with this id would be the answer to a request of the client.
        (r#"{"jsonrpc":"2.0","id":1,"result":{},"more":1}"#.to_owned(), -32600, Value::Null),
        (format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{}"}}}}"#, "x".repeat(5 << 20)), -32600, Value::Null),
    ];
    let count = lines.len();
    for (line, code, id) in lines {
        client.say(&line);
        let answer = client.hear();
        assert_eq!((&answer["error"]["code"], &answer["id"]), (&json!(code), &id), "{}: {answer}", &line[..line.len().min(200)]);
    }
    let modern = |version: &str| {
        json!({"name": "read", "_meta": {
        "io.modelcontextprotocol/protocolVersion": version, "io.modelcontextprotocol/clientCapabilities": {}}})
    };
    assert_eq!(client.ask("tools/call", &modern("2027-01-01"))["error"]["code"], -32022);
    assert_eq!(client.got(), [""; 0]);
    assert!(ran(&client.ask("tools/call", &modern("2026-07-28"))));
    let (_, audit) = client.leave();
    assert_eq!(audit.iter().filter(|line| line["code"] == "malformed").count(), count + 1);
}

#[test]
fn line_breaks_that_some_readers_see_become_spaces_in_both_directions() {
    let mut client = Client::start(&json!({"default": "allow"}));
    let within = r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"purge"}}"#;
    let line = format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{{\"name\":\"lines\",\"arguments\":{{\"x\":[\r{within}\r]}}}}}}\r"
    );
    client.say(&line);
    let answer = client.hear_line();
    assert!(!answer.contains('\r') && answer.contains(r#""id":1"#), "{answer}");
    assert_eq!(client.got(), [line.replace('\r', " ")]);
}

#[test]
fn what_a_server_asks_is_judged_and_answered_for_the_client() {
    let mut client = Client::start(&json!({"default": "allow", "methods": {"sampling/*": "deny"}}));
    let answer = client.call("ask");
    let told = answer["result"]["content"][0]["text"].as_str().unwrap();
    assert!(told.contains("-32601") && told.contains("s1"), "the server was told, and the client saw nothing: {told}");
    let (_, audit) = client.leave();
    let word = audit.iter().find(|line| line["fromServer"] == true).unwrap();
    assert_eq!((&word["method"], &word["code"]), (&json!("sampling/createMessage"), &json!("method_denied")));

    let mut client = Client::start(&json!({"default": "allow"}));
    client.say(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"ask"}}"#);
    assert_eq!(client.hear()["method"], "sampling/createMessage");
    client.say(r#"{"jsonrpc":"2.0","id":"s1","result":{"role":"assistant"}}"#);
    assert!(client.hear().to_string().contains("assistant"));
}

#[test]
fn nothing_passes_of_a_server_but_messages_and_answers_that_somebody_waits_for() {
    let mut client = Client::start(&json!({"tools": {"noise": {}, "read": {}}}));
    assert!(ran(&client.call("noise")));
    // Had anything else passed, it would come before this answer.
    assert!(ran(&client.call("read")));
}

#[test]
fn an_answer_that_is_too_long_fails_what_waits_and_nothing_after_it() {
    let mut client = Client::start(&json!({"tools": {"long": {}, "read": {}}}));
    let answer = client.call("long");
    assert_eq!(denial(&answer)["code"], "upstream_unreachable", "{answer}");
    assert!(ran(&client.call("read")));
}

#[test]
fn without_a_file_audit_lines_go_where_mcp_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("policy.json");
    fs::write(&policy, "{}").unwrap();
    let mut sidecar = Command::new(env!("CARGO_BIN_EXE_mcp-policy-sidecar"))
        .args(["run", "--policy", policy.to_str().unwrap(), "--", "python3", SERVER, folder.path().join("log").to_str().unwrap()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A last line needs no end.
    sidecar.stdin.take().unwrap().write_all(br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}}"#).unwrap();
    let output = sidecar.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(denial(&answer)["code"], "default_deny");
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(errors.lines().filter(|line| line.contains(r#""code":"default_deny""#)).count(), 1, "{errors}");
}

#[test]
fn an_id_that_has_no_answer_yet_is_refused_for_another_request() {
    let mut client = Client::start(&json!({"default": "allow"}));
    for (id, method) in [(1, "tools/call"), (1, "tools/list"), (2, "tools/list")] {
        client.say(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": {"name": "never"}}).to_string());
    }
    let refused = client.hear();
    assert_eq!((&refused["error"]["code"], refused.get("id")), (&json!(-32600), None), "{refused}");
    assert_eq!(client.hear()["id"], 2);
    assert_eq!(client.got().len(), 2);
    // Nor once it is cancelled, for its answer may still come.
    client.say(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#);
    client.say(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
    assert_eq!(client.hear()["error"]["code"], -32600);
    let (_, audit) = client.leave();
    assert_eq!(audit.iter().filter(|line| line["tool"] == "never" && line["code"] == "allowed").count(), 1, "{audit:?}");
}

#[test]
fn only_a_call_that_did_not_run_is_given_back() {
    let mut client = Client::start(&json!({"tools": {"*": {"limits": [{"counter": "c", "window": "hour", "max": 1}]}}}));
    assert_eq!(client.call("fail")["error"]["code"], -32000);
    assert!(ran(&client.call("read")), "an error of JSON-RPC did not run");
    assert_eq!(denial(&client.call("read"))["code"], "limit_exceeded");
}

#[test]
fn a_server_that_ends_fails_what_waits_and_its_exit_code_is_ours() {
    let mut client = Client::start(&json!({"default": "allow"}));
    for (id, tool) in [(1, "never"), (2, "die")] {
        client.say(&json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": tool}}).to_string());
    }
    for id in [1, 2] {
        let answer = client.hear();
        assert_eq!(answer["id"], id, "{answer}");
        assert_eq!(denial(&answer)["code"], "upstream_unreachable", "{answer}");
        assert!(answer.to_string().contains("The tool may have run"), "{answer}");
    }
    assert_eq!(client.leave().0, Some(3));

    let dead = Client::start_in_manner(&json!({}), "dead");
    assert_eq!(dead.leave().0, Some(7));
}

#[test]
fn what_the_server_logs_goes_on_line_by_line_and_its_arguments_are_not_logged() {
    let client = Client::start(&json!({}));
    let errors = client.path("errors");
    eventually("the server's line", || lines(&errors).contains(&"ready to serve".to_owned()));
    let said = fs::read_to_string(&errors).unwrap();
    assert!(said.contains("python3") && !said.contains("server.py"), "{said}");
}

#[test]
fn a_server_that_does_not_end_is_ended_with_all_that_it_started() {
    let mut client = Client::start_in_manner(&json!({"default": "allow"}), "stubborn");
    assert!(ran(&client.call("read")));
    let log = lines(&client.path("log"));
    let pid = |name: &str| log.iter().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
    let (server, its_child) = (pid("pid "), pid("child "));
    assert!(is_alive(&server) && is_alive(&its_child));
    client.signal("-TERM");
    assert_eq!(client.sidecar.wait().unwrap().code(), Some(128 + 9));
    assert!(!is_alive(&server));
    eventually("the server's child ends", || !is_alive(&its_child));
    // Its input was closed first.
    assert!(lines(&client.path("log")).contains(&"end".to_owned()));
}

#[test]
fn what_a_server_leaves_behind_ends_with_it() {
    let mut client = Client::start_in_manner(&json!({"default": "allow"}), "leaving");
    assert!(ran(&client.call("read")));
    let log = lines(&client.path("log"));
    let left = log.iter().find_map(|line| line.strip_prefix("child ")).unwrap();
    assert!(is_alive(left));
    assert_eq!(client.leave().0, Some(0));
    eventually("it ends", || !is_alive(left));
}

#[test]
fn a_server_that_cannot_be_started_is_a_wrong_configuration() {
    let policy = tempfile::NamedTempFile::new().unwrap();
    fs::write(policy.path(), "{}").unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-policy-sidecar"));
        command.args(["run", "--policy", policy.path().to_str().unwrap()]).args(arguments);
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert!(output.stdout.is_empty(), "standard output belongs to MCP");
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for (arguments, said) in [
        (&["--", "/nonexistent"][..], "cannot start /nonexistent: No such file"),
        (&["--audit", "/nonexistent/audit", "--", "true"], "/nonexistent/audit: No such file"),
        (&[], "run --policy <PATH> -- <COMMAND>..."),
        (&["npx", "server"], "run --policy <PATH> -- <COMMAND>..."),
        (&["--upstream", "http://127.0.0.1:1"], "--listen"),
        (&["--upstream", "http://127.0.0.1:1", "--listen", "127.0.0.1:0", "--", "true"], "cannot be used with"),
    ] {
        let (code, errors) = run(arguments);
        assert_eq!(code, Some(64), "{arguments:?}: {errors}");
        assert!(errors.contains(said), "{said}: {errors}");
    }
}
