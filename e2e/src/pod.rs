//! One pod, seen from outside.

use std::collections::BTreeMap;

use mcp_policy_interop::client::{Agent, Client};
use serde_json::Value;

use crate::{
    cluster::{command, kubectl, try_kubectl},
    forward::Forward,
};

/// A pod that ran when it was looked up.
#[derive(Debug, Clone)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Pod {
    /// The object as it is now.
    pub fn object(&self) -> Value {
        serde_json::from_str(&kubectl(&["-n", &self.namespace, "get", "pod", &self.name, "-o", "json"])).unwrap()
    }

    /// Its address of that family: the first with, or without, a colon.
    pub fn address(&self, v6: bool) -> String {
        let object = self.object();
        let mut addresses = object["status"]["podIPs"].as_array().unwrap().iter().filter_map(|entry| entry["ip"].as_str());
        addresses
            .find(|address| address.contains(':') == v6)
            .unwrap_or_else(|| panic!("no such address in {}", object["status"]))
            .to_owned()
    }

    /// The log of one of its containers.
    pub fn logs(&self, container: &str) -> String {
        kubectl(&["-n", &self.namespace, "logs", &self.name, "-c", container])
    }

    /// How often the imaging server really executed each tool, by its own account.
    pub fn executions(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for tool in self.logs("server").lines().filter_map(|line| line.strip_prefix("executed ")) {
            *counts.entry(tool.to_owned()).or_insert(0) += 1;
        }
        counts
    }

    /// Whether the sidecar is the first of its init containers but the capture.
    pub fn injected(&self) -> bool {
        let object = self.object();
        let names: Vec<_> = object["spec"]["initContainers"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|container| container["name"].as_str())
            .take(2)
            .collect();
        names == ["mcp-policy-capture", "mcp-policy-sidecar"]
    }

    /// Its unique id, and the restarts of all its containers: equal before and after if nothing was restarted.
    pub fn lives(&self) -> (String, u64) {
        let object = self.object();
        let restarts = ["initContainerStatuses", "containerStatuses"]
            .iter()
            .flat_map(|list| object["status"][list].as_array().into_iter().flatten())
            .filter_map(|status| status["restartCount"].as_u64())
            .sum();
        (object["metadata"]["uid"].as_str().unwrap().to_owned(), restarts)
    }

    /// A local port that leads to one of its ports.
    pub fn forward(&self, port: u16) -> Forward {
        Forward::open(&self.namespace, &format!("pod/{}", self.name), port)
    }

    /// An agent that talks to its port 8080. The way there must live as long as the agent.
    pub fn agent(&self, client: Client) -> (Agent, Forward) {
        let forward = self.forward(8080);
        let client = client.command();
        let mut inside = command(client.get_program());
        inside.args(client.get_args()).arg(forward.url());
        (Agent::connect(inside), forward)
    }

    /// As [`Pod::agent`], with this token.
    pub fn agent_with(&self, client: Client, bearer: &str) -> (Agent, Forward) {
        let forward = self.forward(8080);
        let client = client.command();
        let mut inside = command("env");
        inside.arg(format!("BEARER={bearer}")).arg(client.get_program()).args(client.get_args()).arg(forward.url());
        (Agent::connect(inside), forward)
    }

    /// Runs a shell command in it: what it printed, or why it failed.
    pub fn shell(&self, script: &str) -> Result<String, String> {
        try_kubectl(&["-n", &self.namespace, "exec", &self.name, "--", "sh", "-c", script])
    }

    /// As [`Pod::shell`], in one of its containers.
    pub fn shell_in(&self, container: &str, script: &str) -> Result<String, String> {
        try_kubectl(&["-n", &self.namespace, "exec", &self.name, "-c", container, "--", "sh", "-c", script])
    }

    /// How many connections its busybox server (`httpd -vvv`) has accepted, by its own account.
    pub fn accepted(&self) -> usize {
        self.logs("server").lines().filter(|line| line.ends_with(": connected")).count()
    }
}
