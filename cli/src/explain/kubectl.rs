//! What `kubectl` knows.

use std::process::Command;

use anyhow::{Context as _, bail};
use serde_json::Value;

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
        match self.run(namespace, kind, &[])?.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) => Ok(items),
            _ => bail!("kubectl gave no list of {kind}"),
        }
    }

    /// Whether the cluster does not let whoever asks see this.
    pub fn is_forbidden(error: &anyhow::Error) -> bool {
        error.to_string().contains("(Forbidden)")
    }

    fn run(&self, namespace: Option<&str>, kind: &str, more: &[&str]) -> anyhow::Result<Value> {
        let mut command = Command::new("kubectl");
        command.args(["get", kind, "--output=json"]);
        command.args(self.context.map(|context| format!("--context={context}")));
        command.args(namespace.map(|namespace| format!("--namespace={namespace}")));
        command.args(more);
        let output = command.output().context("failed to run kubectl, which must be installed and on the PATH")?;
        if !output.status.success() {
            let arguments: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy()).collect();
            bail!("kubectl {} failed: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        serde_json::from_slice(&output.stdout).with_context(|| format!("kubectl get {kind} gave no JSON"))
    }
}
