//! `mcp-policy approvals`: calls that wait for people, and what a person says to them. The cluster decides who may: whoever runs this
//! writes in the name that the API server knows, and the API server refuses any other.

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::kubectl::{Kubectl, Target};
use crate::table;

const KIND: &str = "mcpapprovals.mcp-policy.dev";

/// What is asked.
#[derive(Debug, Args)]
pub struct Options {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the calls that wait
    List {
        /// Those that are decided, used or expired as well
        #[arg(long)]
        all: bool,
        /// In all namespaces
        #[arg(short = 'A', long, conflicts_with = "namespace")]
        all_namespaces: bool,
        /// Go on, and show each change, as kubectl does
        #[arg(short, long)]
        watch: bool,
    },
    /// Show everything that is known of one
    Show {
        /// Its name
        name: String,
    },
    /// Let the call pass, once
    Approve {
        /// Its name
        name: String,
        /// Why
        #[arg(long)]
        reason: Option<String>,
    },
    /// Do not let the call pass
    Deny {
        /// Its name
        name: String,
        /// Why; the agent is told
        #[arg(long)]
        reason: Option<String>,
    },
}

/// Lists, shows or decides.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let kubectl = options.target.kubectl();
    match &options.verb {
        Verb::List { all_namespaces, watch: true, .. } => return kubectl.watch(KIND, *all_namespaces),
        Verb::List { all, all_namespaces, watch: false } => {
            let approvals = if *all_namespaces { kubectl.list_everywhere(KIND)? } else { kubectl.list_here(KIND)? };
            list(&approvals, *all);
        }
        Verb::Show { name } => show(&kubectl.get(KIND, name)?),
        Verb::Approve { name, reason } => decide(&kubectl, name, "Approved", reason.as_deref())?,
        Verb::Deny { name, reason } => decide(&kubectl, name, "Denied", reason.as_deref())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A field, as people read it.
fn field<'a>(approval: &'a Value, pointer: &str) -> &'a str {
    approval.pointer(pointer).and_then(Value::as_str).unwrap_or("-")
}

/// The state as the operator wrote it. Until it has, nobody has decided.
fn state(approval: &Value) -> &str {
    approval.pointer("/status/state").and_then(Value::as_str).unwrap_or("Pending")
}

fn list(approvals: &[Value], all: bool) {
    let mut rows = vec![["NAMESPACE", "NAME", "STATE", "TOOL", "CALLER", "SERVER", "EXPIRES"].map(str::to_owned)];
    let shown = approvals.iter().filter(|approval| all || state(approval) == "Pending");
    rows.extend(shown.map(|approval| {
        let at = |pointer| field(approval, pointer).to_owned();
        let (namespace, name) = (at("/metadata/namespace"), at("/metadata/name"));
        [namespace, name, state(approval).to_owned(), at("/spec/tool"), at("/spec/caller"), at("/spec/server"), at("/spec/expiresAt")]
    }));
    if rows.len() == 1 {
        eprintln!("no call waits for a person");
        return;
    }
    table::print(&rows);
}

fn show(approval: &Value) {
    let at = |pointer| field(approval, pointer);
    println!("approval   {}/{}", at("/metadata/namespace"), at("/metadata/name"));
    println!("state      {}", state(approval));
    println!("caller     {}", at("/spec/caller"));
    println!("server     {}", at("/spec/server"));
    println!("tool       {}", at("/spec/tool"));
    let keys: Vec<_> =
        approval.pointer("/spec/arguments/keys").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    println!("arguments  {}", if keys.is_empty() { "-".to_owned() } else { keys.join(", ") });
    if let Some(values) = approval.pointer("/spec/arguments/values").and_then(Value::as_str) {
        println!("           {values}");
    }
    println!("           sha256 {}", at("/spec/arguments/sha256"));
    let policy = match approval.pointer("/spec/policy/namespace").and_then(Value::as_str) {
        Some(namespace) => format!("{namespace}/{}", at("/spec/policy/name")),
        None => at("/spec/policy/name").to_owned(),
    };
    let generation = approval.pointer("/spec/policy/generation").and_then(Value::as_i64).unwrap_or_default();
    println!("policy     {policy} (generation {generation}) at {}", at("/spec/policy/rule"));
    println!("reason     {}", at("/spec/reason"));
    println!("expires    {}", at("/spec/expiresAt"));
    for decision in decisions(approval) {
        println!("decision   {} by {}: {}", field(&decision, "/verdict"), field(&decision, "/by"), field(&decision, "/reason"));
    }
    if let Some(used) = approval.pointer("/status/usedAt").and_then(Value::as_str) {
        println!("used       {used} through {}", at("/status/usedBy"));
    }
}

fn decisions(approval: &Value) -> Vec<Value> {
    approval.pointer("/spec/decisions").and_then(Value::as_array).cloned().unwrap_or_default()
}

fn decide(kubectl: &Kubectl<'_>, name: &str, verdict: &str, reason: Option<&str>) -> anyhow::Result<()> {
    let approval = kubectl.get(KIND, name)?;
    let state = state(&approval);
    if state != "Pending" {
        bail!("{name} is {} already", state.to_lowercase());
    }
    let me = kubectl.whoami()?;
    let mut decisions = decisions(&approval);
    let mut mine = json!({"verdict": verdict, "by": me});
    if let Some(reason) = reason {
        mine["reason"] = reason.into();
    }
    decisions.push(mine);
    let version = approval.pointer("/metadata/resourceVersion").context("kubectl gave an approval without a version")?;
    // Of the version that was read: what another person said meanwhile is not written over.
    let patch = json!({"metadata": {"resourceVersion": version}, "spec": {"decisions": decisions}});
    kubectl.patch(KIND, name, &patch)?;
    let needed = approval.pointer("/spec/approvers").and_then(Value::as_u64).unwrap_or(1);
    let given = u64::try_from(decisions.len()).unwrap_or(u64::MAX);
    println!("{} {name} as {me}", verdict.to_lowercase());
    if verdict == "Approved" && given < needed {
        println!("another person must approve it too");
    }
    Ok(())
}
