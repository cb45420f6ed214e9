//! Clients that others wrote, unchanged, through a sidecar that refuses some of what they ask for.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fmt::Write;
use std::process::{Command, Output};
use std::sync::LazyLock;
use std::thread;

use mcp_policy_interop::client::{Agent, Answer, Client};
use mcp_policy_interop::fixture::Fixture;
use mcp_policy_interop::golden;
use mcp_policy_interop::prepared::{folder, node};
use mcp_policy_interop::sidecar::Sidecar;
use serde_json::{Value, json};

const POLICY: &str = "
default: allow
hide: [test_error_handling]
tools:
  test_image_content: {action: deny, reason: Ask the archive.}
  test_x_mcp_header: {denyIf: [{conditions: [{path: args.region, op: eq, value: moon}], reason: Too far.}]}
  test_audio_content: {limits: [{counter: sounds, window: hour, max: 1}]}
";

const QUESTIONS: [&str; 2] = ["test_input_required_result_elicitation", "test_input_required_result_sampling"];

const NO_QUESTIONS: &str = "
default: allow
methods: {elicitation/create: deny, sampling/createMessage: deny}
";

/// What one client saw, and what the server and the sidecar tell of it.
struct Seen {
    client: Client,
    protocol: String,
    tools: Vec<String>,
    denied: Answer,
    forbidden: Answer,
    first: Answer,
    limited: Answer,
    hidden: Answer,
    unknown: Answer,
    /// A call after each refusal.
    afterwards: Vec<Answer>,
    progress: Answer,
    elicited: Answer,
    sampled: Answer,
    last: Answer,
    /// Of the tools that ask, where a policy denies that.
    not_asked: [Answer; 2],
    account: Value,
    audit: Vec<Value>,
}

static SEEN: LazyLock<Vec<Seen>> = LazyLock::new(|| {
    // Built and installed once, before they run beside each other.
    let clients = Client::ALL.map(|client| (client, client.command()));
    thread::scope(|scope| {
        let running = clients.map(|(client, command)| scope.spawn(move || see(client, &command)));
        running.into_iter().map(|seen| seen.join().unwrap()).collect()
    })
});

fn connect(command: &Command, sidecar: &Sidecar) -> Agent {
    let mut client = Command::new(command.get_program());
    client.args(command.get_args()).arg(sidecar.url());
    Agent::connect(client)
}

fn see(client: Client, command: &Command) -> Seen {
    let fixture = Fixture::start();
    let sidecar = Sidecar::start(POLICY, fixture.url());
    let mut agent = connect(command, &sidecar);
    let none = json!({});
    let tools = agent.list();
    let first = agent.call("test_audio_content", &none);
    let mut afterwards = Vec::new();
    let mut refused = |tool: &str, arguments: &Value| {
        let answer = agent.call(tool, arguments);
        afterwards.push(agent.call("test_simple_text", &none));
        answer
    };
    let denied = refused("test_image_content", &none);
    let forbidden = refused("test_x_mcp_header", &json!({"region": "moon"}));
    let limited = refused("test_audio_content", &none);
    // The sidecar learns from the server how it speaks of a tool that it does not have.
    let unknown = refused("test_nothing", &none);
    let hidden = refused("test_error_handling", &none);
    let progress = agent.call("test_tool_with_progress", &none);
    let [elicited, sampled] = QUESTIONS.map(|tool| agent.call(tool, &none));
    agent.call_and_cancel("test_until_cancelled");
    let last = agent.call("test_x_mcp_header", &json!({"region": "earth"}));
    // While the client lives: its end would cancel too.
    let account = fixture.account_once(|account| account["cancelled"] == 1);
    let protocol = agent.protocol.clone();
    drop(agent);
    let audit = sidecar.end();

    let sidecar = Sidecar::start(NO_QUESTIONS, fixture.url());
    let mut agent = connect(command, &sidecar);
    let not_asked = QUESTIONS.map(|tool| agent.call(tool, &none));
    assert!(agent.call("test_simple_text", &none).passed(), "{client:?} does not go on");
    Seen {
        client,
        protocol,
        tools,
        denied,
        forbidden,
        first,
        limited,
        hidden,
        unknown,
        afterwards,
        progress,
        elicited,
        sampled,
        last,
        not_asked,
        account,
        audit,
    }
}

#[test]
fn every_client_speaks_its_newest_revision_and_opens_one_session_at_most() {
    for seen in &*SEEN {
        assert_eq!(seen.protocol, seen.client.revision(), "{:?}", seen.client);
        let has_sessions = seen.protocol == "2025-11-25";
        assert_eq!(seen.account["sessions"], i32::from(has_sessions), "{:?}", seen.client);
    }
}

#[test]
fn no_client_sees_a_tool_that_no_call_could_reach() {
    for seen in &*SEEN {
        let sees = |tool: &str| seen.tools.iter().any(|seen| seen == tool);
        assert!(!sees("test_error_handling") && !sees("test_image_content"), "{:?}: {:?}", seen.client, seen.tools);
        assert!(sees("test_audio_content") && sees("test_x_mcp_header") && sees("test_simple_text"), "{:?}: {:?}", seen.client, seen.tools);
    }
}

#[test]
fn every_client_hands_a_refusal_to_its_user_and_goes_on_in_the_same_session() {
    for seen in &*SEEN {
        let client = seen.client;
        for (answer, code, says) in [
            (&seen.denied, "tool_denied", "Ask the archive."),
            (&seen.forbidden, "deny_if", "Too far."),
            (&seen.limited, "limit_exceeded", "Try again in"),
        ] {
            assert_eq!(answer.0["isError"], true, "{client:?}: {answer:?}");
            assert!(answer.text().contains(says), "{client:?}: {answer:?}");
            if client == Client::FastMcp {
                // Its users get an exception with the text.
                assert_eq!(answer.0["raised"], "ToolError", "{answer:?}");
            } else {
                assert_eq!((answer.code(), &answer.0["raised"]), (code, &Value::Null), "{client:?}: {answer:?}");
            }
        }
        for answer in [&seen.first, &seen.last].into_iter().chain(&seen.afterwards) {
            assert!(answer.passed(), "{client:?}: {answer:?}");
        }
    }
}

#[test]
fn no_client_can_tell_a_hidden_tool_from_an_unknown_one() {
    for seen in &*SEEN {
        assert_eq!(seen.unknown.0["error"]["code"], -32602, "{:?}: {:?}", seen.client, seen.unknown);
        let unknown = seen.unknown.0.to_string().replace("test_nothing", "test_error_handling");
        assert_eq!(seen.hidden.0.to_string(), unknown, "{:?}", seen.client);
    }
}

#[test]
fn progress_and_what_the_server_asks_come_through_and_the_answers_come_back() {
    for seen in &*SEEN {
        let steps: Vec<f64> = seen.progress.0["progress"].as_array().unwrap().iter().filter_map(Value::as_f64).collect();
        assert_eq!(steps, [0.0, 50.0, 100.0], "{:?}: {:?}", seen.client, seen.progress);
        assert_eq!(seen.elicited.text(), "Hello, Ada!", "{:?}: {:?}", seen.client, seen.elicited);
        assert_eq!(seen.sampled.text(), "Sampling response: Ada", "{:?}: {:?}", seen.client, seen.sampled);
    }
}

#[test]
fn no_client_is_asked_what_a_policy_denies_the_server_to_ask() {
    for seen in &*SEEN {
        for (answer, method) in seen.not_asked.iter().zip(["elicitation/create", "sampling/createMessage"]) {
            assert_eq!(answer.0["isError"], true, "{:?}: {answer:?}", seen.client);
            assert!(answer.text().contains(method) && answer.text().contains("refuse"), "{:?}: {answer:?}", seen.client);
        }
    }
}

#[test]
fn a_call_that_a_client_cancels_is_cancelled_at_the_server() {
    for seen in &*SEEN {
        assert_eq!((&seen.account["cancelled"], &seen.account["ran"]["test_until_cancelled"]), (&json!(1), &json!(1)), "{:?}", seen.client);
    }
}

#[test]
fn what_the_audit_lines_allow_is_what_ran() {
    for seen in &*SEEN {
        let mut allowed = serde_json::Map::new();
        for line in seen.audit.iter().filter(|line| line["method"] == "tools/call" && line["code"] == "allowed") {
            let count = allowed.entry(line["tool"].as_str().unwrap()).or_insert(json!(0));
            *count = json!(count.as_u64().unwrap() + 1);
        }
        // The server has no such tool, so nothing ran.
        assert_eq!(allowed.remove("test_nothing"), Some(json!(1)), "{:?}", seen.client);
        if seen.protocol == "2025-11-25" {
            // The server's SDK asks a client with a session by requests, and runs the tool again with the answers: for the sidecar that is one call.
            for tool in QUESTIONS {
                allowed.insert(tool.to_owned(), json!(2));
            }
        }
        assert_eq!(Value::Object(allowed), seen.account["ran"], "{:?}", seen.client);
    }
}

/// The command line of MCP Inspector: each run is a session.
fn inspector(url: &str, arguments: &[&str]) -> Output {
    let catalog = tempfile::tempdir().unwrap();
    let mut command = node();
    command.arg(folder().join("node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js"));
    command
        .args(["--cli", url, "--transport", "http", "--method"])
        .args(arguments)
        .env("MCP_CATALOG_PATH", catalog.path().join("mcp.json"));
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_command_line_of_mcp_inspector_lists_calls_and_is_refused() {
    let fixture = Fixture::start();
    let sidecar = Sidecar::start(POLICY, fixture.url());
    let run = |arguments: &[&str]| inspector(&sidecar.url(), arguments);
    let call = |tool: &str, arguments: &[&str]| run(&[&["tools/call", "--tool-name", tool], arguments].concat());

    let listed = run(&["tools/list"]);
    let tools: Value = serde_json::from_slice(&listed.stdout).unwrap();
    let names: Vec<&str> = tools["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"test_audio_content") && !names.contains(&"test_error_handling"), "{names:?}");

    let first = call("test_audio_content", &[]);
    assert!(first.status.success(), "{first:?}");
    for (output, says) in
        [(call("test_audio_content", &[]), "Try again in"), (call("test_x_mcp_header", &["--tool-arg", "region=moon"]), "Too far.")]
    {
        assert_eq!(output.status.code(), Some(5), "{output:?}");
        let result: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(result["content"][0]["text"].as_str().unwrap().contains(says), "{result}");
        assert!(text(&output.stderr).contains("tool_is_error"), "{output:?}");
    }
    // It looks into the list before it calls.
    for tool in ["test_error_handling", "test_image_content", "test_nothing"] {
        let output = call(tool, &[]);
        assert_eq!(output.status.code(), Some(5), "{output:?}");
        assert!(text(&output.stderr).contains("tool_not_found"), "{output:?}");
    }
    assert_eq!(fixture.account()["ran"], json!({"test_audio_content": 1}));
}

#[test]
fn the_table_is_that_of_the_documentation() {
    let mut text = String::from(
        "| client | revision | refused | limit | hidden | unknown | progress | elicitation | sampling | denied question | cancel |\n",
    );
    text += "|---|---|---|---|---|---|---|---|---|---|---|\n";
    for seen in &*SEEN {
        let shown = |answer: &Answer| match (answer.0["raised"].as_str(), &answer.0["error"]["code"]) {
            (None, _) if answer.code().is_empty() => "result of the server".to_owned(),
            (None, _) => format!("result, `{}`", answer.code()),
            (Some(raised), Value::Null) => format!("`{raised}` with the text"),
            (Some(raised), code) => format!("`{raised}` {code}"),
        };
        let yes = |yes: bool| if yes { "yes" } else { "no" };
        write!(text, "| {} | {} |", seen.client.name(), seen.protocol).unwrap();
        for answer in [&seen.denied, &seen.limited, &seen.hidden, &seen.unknown] {
            write!(text, " {} |", shown(answer)).unwrap();
        }
        for works in [seen.progress.passed(), seen.elicited.passed(), seen.sampled.passed()] {
            write!(text, " {} |", yes(works)).unwrap();
        }
        let denied_question = shown(&seen.not_asked[0]);
        writeln!(text, " {denied_question} | {} |", yes(seen.account["cancelled"] == 1)).unwrap();
    }
    golden::check("docs/conformance/clients.md", &text);
}
