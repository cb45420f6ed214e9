//! A policy of the cluster, of a test's own.

use serde_json::{Value, json};

use crate::{
    cluster::{command, kubectl, run, try_kubectl},
    policy::until_condition,
    wait::until,
};

/// A `ClusterMcpPolicy` that ends with the test.
#[derive(Debug)]
pub struct ClusterPolicy {
    /// Its name.
    pub name: String,
}

impl ClusterPolicy {
    /// Applies one. `spec` is YAML in flow style, without the outer braces.
    pub fn new(name: &str, spec: &str) -> Self {
        let policy = Self { name: name.to_owned() };
        policy.change(spec);
        policy
    }

    /// Gives it another spec.
    pub fn change(&self, spec: &str) {
        let manifest =
            format!("{{apiVersion: mcp-policy.dev/v1alpha1, kind: ClusterMcpPolicy, metadata: {{name: {}}}, spec: {{{spec}}}}}", self.name);
        run(command("kubectl").args(["apply", "-f", "-"]), Some(manifest.as_bytes())).unwrap_or_else(|why| panic!("{why}\n{manifest}"));
    }

    /// The policy as it is now.
    pub fn get(&self) -> Value {
        serde_json::from_str(&kubectl(&["get", "clustermcppolicy", &self.name, "-o", "json"])).unwrap()
    }

    /// Waits until the operator has said this of the present generation; gives the condition's message.
    pub fn until_condition(&self, condition: &str, status: &str) -> String {
        until_condition(&self.name, condition, status, || self.get())
    }

    /// Waits until that many pods are selected and all of them enforce the present generation.
    pub fn until_programmed(&self, pods: usize) {
        until(&format!("cluster policy {} is enforced by {pods} pods", self.name), || {
            self.until_condition("Programmed", "True");
            let status = &self.get()["status"];
            let counts = [&status["selected"], &status["injected"], &status["enforcing"]];
            if counts.iter().all(|count| **count == json!(pods)) { Ok(()) } else { Err(format!("{counts:?}")) }
        });
    }
}

impl Drop for ClusterPolicy {
    fn drop(&mut self) {
        let _ = try_kubectl(&["delete", "clustermcppolicy", &self.name, "--ignore-not-found"]);
    }
}
