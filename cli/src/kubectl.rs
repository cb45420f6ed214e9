//! What `kubectl` knows.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, bail};
use clap::Args;
use serde::Deserialize as _;
use serde_json::Value;

/// The container that enforces.
pub const SIDECAR: &str = "mcp-policy-sidecar";

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// Which part of which cluster, as kubectl's own options say it.
#[derive(Debug, Args)]
pub struct Target {
    /// The namespace; as kubectl has it, if not given
    #[arg(short, long, global = true)]
    namespace: Option<String>,
    /// The context of kubectl's configuration
    #[arg(long, global = true)]
    context: Option<String>,
}

impl Target {
    /// Asks there.
    pub fn kubectl(&self) -> Kubectl<'_> {
        Kubectl::new(self.namespace.as_deref(), self.context.as_deref())
    }
}

/// Asks the cluster that kubectl is configured for, with the rights of whoever runs it.
pub struct Kubectl<'a> {
    namespace: Option<&'a str>,
    context: Option<&'a str>,
}

impl<'a> Kubectl<'a> {
    pub fn new(namespace: Option<&'a str>, context: Option<&'a str>) -> Self {
        Self { namespace, context }
    }

    /// An object of the namespace.
    pub fn get(&self, kind: &str, name: &str) -> anyhow::Result<Value> {
        // `--` ends the options: a name that begins with a dash is a name.
        self.run(self.namespace, kind, &["--", name])
    }

    /// All objects of a kind in a namespace, or in the cluster.
    pub fn list(&self, kind: &str, namespace: Option<&str>) -> anyhow::Result<Vec<Value>> {
        items(self.run(namespace, kind, &[])?, kind)
    }

    /// All objects of a kind in the namespace that kubectl is configured for, if none was given.
    pub fn list_here(&self, kind: &str) -> anyhow::Result<Vec<Value>> {
        self.list(kind, self.namespace)
    }

    /// All objects of a kind in all namespaces.
    pub fn list_everywhere(&self, kind: &str) -> anyhow::Result<Vec<Value>> {
        items(self.run(None, kind, &["--all-namespaces"])?, kind)
    }

    /// What the API server answers under a path.
    pub fn raw(&self, path: &str) -> anyhow::Result<Value> {
        let mut command = self.command();
        command.args(["get", "--raw", path]);
        json_of(command)
    }

    /// Changes fields of an object of the namespace.
    pub fn patch(&self, kind: &str, name: &str, patch: &Value) -> anyhow::Result<Value> {
        let mut command = self.command();
        command.args(["patch", kind, "--output=json", "--type=merge", &format!("--patch={patch}")]);
        command.args(self.namespace.map(|namespace| format!("--namespace={namespace}")));
        command.args(["--", name]);
        json_of(command)
    }

    /// Creates an object in the namespace.
    pub fn create(&self, object: &Value) -> anyhow::Result<Value> {
        let mut command = self.command();
        command.args(["create", "--output=json", "--filename=-"]);
        command.args(self.namespace.map(|namespace| format!("--namespace={namespace}")));
        fed(command, &object.to_string())
    }

    /// The name by which the API server knows whoever runs this.
    pub fn whoami(&self) -> anyhow::Result<String> {
        let mut command = self.command();
        command.args(["auth", "whoami", "--output=json"]);
        let review = json_of(command)?;
        let name = review.pointer("/status/userInfo/username").and_then(Value::as_str);
        Ok(name.context("kubectl did not say who you are")?.to_owned())
    }

    /// Shows objects of a kind, and each change, until it is ended.
    pub fn watch(&self, kind: &str, everywhere: bool) -> anyhow::Result<ExitCode> {
        let mut command = self.command();
        command.args(["get", kind, "--watch"]);
        command.args(everywhere.then_some("--all-namespaces"));
        command.args(self.namespace.map(|namespace| format!("--namespace={namespace}")));
        let status = command.status().context("failed to run kubectl, which must be installed and on the PATH")?;
        Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Whether the cluster does not let whoever asks see this.
    pub fn is_forbidden(error: &anyhow::Error) -> bool {
        error.to_string().contains("(Forbidden)")
    }

    /// Whether there is no such object.
    pub fn is_not_found(error: &anyhow::Error) -> bool {
        error.to_string().contains("(NotFound)")
    }

    /// Whether there is such an object already.
    pub fn is_already_there(error: &anyhow::Error) -> bool {
        error.to_string().contains("(AlreadyExists)")
    }

    fn run(&self, namespace: Option<&str>, kind: &str, more: &[&str]) -> anyhow::Result<Value> {
        let mut command = self.command();
        command.args(["get", kind, "--output=json"]);
        command.args(namespace.map(|namespace| format!("--namespace={namespace}")));
        command.args(more);
        json_of(command)
    }

    fn command(&self) -> Command {
        let mut command = Command::new("kubectl");
        command.args(self.context.map(|context| format!("--context={context}")));
        command
    }
}

fn items(mut list: Value, kind: &str) -> anyhow::Result<Vec<Value>> {
    match list.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) => Ok(items),
        _ => bail!("kubectl gave no list of {kind}"),
    }
}

fn json_of(command: Command) -> anyhow::Result<Value> {
    fed(command, "")
}

/// What a command that reads this text prints.
fn fed(mut command: Command, text: &str) -> anyhow::Result<Value> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("failed to run kubectl, which must be installed and on the PATH")?;
    if let Some(mut stdin) = child.stdin.take() {
        // It may say why it does not read.
        let _ = stdin.write_all(text.as_bytes());
    }
    let output = child.wait_with_output().context("kubectl broke off")?;
    let asked = || {
        let arguments: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy()).collect();
        format!("kubectl {}", arguments.join(" "))
    };
    if !output.status.success() {
        bail!("{} failed: {}", asked(), String::from_utf8_lossy(&output.stderr).trim());
    }
    serde_json::from_slice(&output.stdout).with_context(|| format!("{} gave no JSON", asked()))
}

/// A text within an object; empty if there is none.
pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The labels of an object.
pub fn labels(object: &Value) -> Labels {
    object.pointer("/metadata/labels").and_then(|labels| Labels::deserialize(labels).ok()).unwrap_or_default()
}
