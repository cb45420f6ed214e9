//! `mcp-policy explain`: why is this call decided as it is, and what would change that?

mod advice;
mod pod;

use std::fs;
use std::io::{self, Read as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use mcp_policy::json::Fault;
use mcp_policy::value::Value as Exact;
use mcp_policy::{Call, Caller, Counters, Decision, Policy, ServerName, Step};
use serde_json::{Map, Value, json};

use crate::caller;
use crate::input::{self, Content};
use crate::kubectl::Kubectl;
use crate::loaded::Loaded;
use crate::outcome;
use crate::report::{self, Finding, Output, Severity};
use crate::steps::{self, StepRecord};
use crate::style::Style;
use crate::test::DEFAULT_CALLER;

/// The call, and what it is asked of.
#[derive(Debug, Args)]
pub struct Options {
    /// Policy files and folders; all policies in them are in force together
    #[arg(short, long = "file", value_name = "FILE", num_args = 1.., required_unless_present = "pod", conflicts_with = "pod")]
    files: Vec<PathBuf>,
    /// A running pod: what its policies in the cluster say. Asks kubectl
    #[arg(long, value_name = "NAME")]
    pod: Option<String>,
    /// The pod's namespace; as kubectl has it, if not given
    #[arg(short, long, requires = "pod")]
    namespace: Option<String>,
    /// The context of kubectl's configuration
    #[arg(long, requires = "pod")]
    context: Option<String>,
    /// The tool that is called
    #[arg(short, long, required_unless_present = "method", conflicts_with = "method")]
    tool: Option<String>,
    /// A method that is no tool call, such as resources/read
    #[arg(short, long, conflicts_with_all = ["arguments", "session", "times"])]
    method: Option<String>,
    /// The call's arguments: a JSON object, @ and a file that holds one, or - for standard input
    #[arg(short, long, value_name = "JSON")]
    arguments: Option<String>,
    /// Who calls: an IP address, or who proved to be serviceaccount:NAMESPACE/NAME, key:NAME, jwt:ISSUER#SUBJECT, or a JSON object
    #[arg(short, long, value_name = "CALLER", default_value_t = Caller::anonymous(DEFAULT_CALLER), value_parser = caller::of_argument)]
    caller: Caller,
    /// The MCP session
    #[arg(short, long, value_name = "ID")]
    session: Option<String>,
    /// How often the call is made at this moment; the last one is explained
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    times: u32,
    /// The form of the output
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// The policies that are asked, and what is to be known of them.
struct Asked {
    loaded: Loaded,
    namespace: String,
    name: String,
    notes: Vec<String>,
}

/// What came of it.
struct Explanation {
    /// In words. Numbers stand here as they were given.
    asked: String,
    question: Value,
    steps: Vec<Step>,
    decision: Map<String, Value>,
    advice: Vec<String>,
}

/// Explains the call.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let asked = match &options.pod {
        Some(pod) => pod::asked(&Kubectl::new(options.namespace.as_deref(), options.context.as_deref()), pod)?,
        None => match of_files(&options.files)? {
            Some(asked) => asked,
            None => return Ok(ExitCode::FAILURE),
        },
    };
    let explanation = match (&options.tool, &options.method) {
        (_, Some(method)) => of_method(&asked.loaded, method, options),
        (Some(tool), None) => of_call(&asked, tool, options)?,
        (None, None) => bail!("nothing is asked; give --tool or --method"),
    };
    match options.output {
        Output::Text => print_text(&asked, &explanation),
        Output::Json => print_json(&asked, &explanation)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The policies of files; none if something is wrong with them, which is told.
fn of_files(files: &[PathBuf]) -> anyhow::Result<Option<Asked>> {
    let mut manifests = Vec::new();
    let mut errors = Vec::new();
    for source in input::sources(files)? {
        match source.content() {
            Ok(Content::Policies(found)) if found.is_empty() && source.is_named => errors.push(source.holds_nothing()),
            Ok(Content::Policies(found)) => manifests.extend(found),
            Ok(Content::Cases(_)) => {}
            Err(more) => errors.extend(more),
        }
    }
    let loaded = if errors.is_empty() { Loaded::of_files(manifests) } else { Err(errors) };
    match loaded {
        Ok(loaded) => Ok(Some(Asked { loaded, namespace: String::new(), name: String::new(), notes: Vec::new() })),
        Err(errors) => {
            let findings: Vec<_> = errors.into_iter().map(|error| Finding::new(Severity::Error, error)).collect();
            report::print(&findings, report::Format::Text);
            Ok(None)
        }
    }
}

fn of_call(asked: &Asked, tool: &str, options: &Options) -> anyhow::Result<Explanation> {
    let arguments = arguments(options.arguments.as_deref())?;
    let caller = &options.caller;
    let server = ServerName { namespace: &asked.namespace, name: &asked.name };
    let call = Call { tool, arguments: &arguments, caller, session: options.session.as_deref(), server };
    let policies = &asked.loaded.policies;
    let mut counters = Counters::default();
    for _ in 1..options.times {
        if let Decision::Allowed(allowed) = policies.decide(&mut counters, &call, Duration::ZERO).decision {
            // The tool ran, so the call stays counted.
            drop(allowed.reservation);
        }
    }
    let (outcome, steps) = policies.explain(&mut counters, &call, Duration::ZERO);
    let advice = advice::of(&asked.loaded, &call, &outcome, &steps, &mut counters);
    let question = json!({
        "tool": tool,
        "arguments": serde_json::from_str::<Value>(&arguments).unwrap_or_else(|_| json!({})),
        "caller": caller.to_string(),
        "session": options.session,
        "times": options.times,
    });
    let shown = if arguments.is_empty() { "{}" } else { &arguments };
    Ok(Explanation { asked: format!("call {tool} {shown} by {caller}"), question, steps, decision: outcome::decision(&outcome), advice })
}

fn of_method(loaded: &Loaded, method: &str, options: &Options) -> Explanation {
    let outcome = loaded.policies.decide_method(&options.caller, method);
    let advice = advice::of_method(loaded, method, &outcome);
    Explanation {
        asked: format!("method {method}"),
        question: json!({"method": method}),
        steps: Vec::new(),
        decision: outcome::method(&outcome),
        advice,
    }
}

/// The text of the arguments, read as strictly as the sidecar reads messages.
fn arguments(given: Option<&str>) -> anyhow::Result<String> {
    let text = match given {
        None => return Ok(String::new()),
        Some("-") => {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text).context("failed to read standard input")?;
            text
        }
        Some(text) => match text.strip_prefix('@') {
            Some(file) => fs::read_to_string(file).with_context(|| format!("failed to read {file}"))?,
            None => text.to_owned(),
        },
    };
    let text = text.trim();
    let refused = "the sidecar refuses such a call as malformed, before any rule";
    match Exact::parse(text) {
        Ok(Exact::Object(_) | Exact::Null) => Ok(text.to_owned()),
        Ok(other) => bail!("the arguments must be an object, but are {}; {refused}", other.describe()),
        Err(fault) => bail!("the arguments {}; {refused}", told(fault)),
    }
}

/// Why a text is not one unambiguous JSON text.
fn told(fault: Fault) -> &'static str {
    match fault {
        Fault::NotUtf8 => "are not UTF-8",
        Fault::Bom => "begin with a byte order mark",
        Fault::Syntax => "are not JSON",
        Fault::TrailingBytes => "have more behind the JSON text",
        Fault::TooLong => "are too long",
        Fault::TooDeep => "are too deeply nested",
        Fault::DuplicateKey => "have a key twice in one object",
        Fault::LookalikeKey => {
            "have two keys in one object that some servers take for one: they overlook case, blanks and forms of letters"
        }
        Fault::LoneSurrogate => "have an escaped surrogate without its other half",
        Fault::Number => "have a number with too many digits or too large an exponent",
    }
}

fn print_text(asked: &Asked, explanation: &Explanation) {
    let style = Style::of(&io::stdout());
    let Explanation { steps, decision, advice, .. } = explanation;
    for policy in &asked.loaded.each {
        let file = asked.loaded.file(policy.id()).map_or_else(String::new, |file| format!(" in {file}"));
        println!("policy {}{file}{}", policy.id(), audit_mark(policy));
    }
    for note in &asked.notes {
        println!("note: {note}");
    }
    println!("{}", explanation.asked);
    println!();
    for line in steps::lines(steps, &asked.loaded, "", style) {
        println!("{line}");
    }
    if !steps.is_empty() {
        println!();
    }
    let code = decision.get("code").and_then(Value::as_str).unwrap_or_default();
    let shown = if code == "allowed" { style.good(code) } else { style.bad(code) };
    let part = |field: &str, before: &str| {
        decision.get(field).filter(|value| !value.is_null()).map_or_else(String::new, |value| format!("{before}{}", bare(value)))
    };
    println!("decision: {shown}{}{}", part("policy", " by "), part("rule", " at "));
    for (field, before) in [
        ("reason", "  the agent is told: "),
        ("counter", "  the counter that is full: "),
        ("retryAfterSeconds", "  seconds until a retry can pass: "),
    ] {
        let line = part(field, before);
        if !line.is_empty() {
            println!("{line}");
        }
    }
    for (policy, code) in decision.get("audited").and_then(Value::as_object).into_iter().flatten() {
        println!("  {policy} is in audit mode, and would have said: {}", bare(code));
    }
    println!("\nwhat would change the answer:");
    for line in advice {
        println!("  - {line}");
    }
}

fn print_json(asked: &Asked, explanation: &Explanation) -> anyhow::Result<()> {
    let Explanation { question, steps, decision, advice, .. } = explanation;
    let policy = |policy: &Policy| {
        let file = asked.loaded.file(policy.id());
        json!({"policy": policy.id().to_string(), "mode": policy.mode().as_str(), "file": file})
    };
    let all = json!({
        "question": question,
        "policies": asked.loaded.each.iter().map(policy).collect::<Vec<_>>(),
        "notes": asked.notes,
        "steps": steps.iter().map(|step| StepRecord::new(step, &asked.loaded)).collect::<Vec<_>>(),
        "decision": decision,
        "advice": advice,
    });
    println!("{}", serde_json::to_string_pretty(&all)?);
    Ok(())
}

fn audit_mark(policy: &Policy) -> &'static str {
    if policy.mode().is_enforce() { "" } else { " (audit)" }
}

fn bare(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
