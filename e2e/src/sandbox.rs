//! A namespace of a test's own.

use std::{
    process,
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use serde_json::Value;

use crate::{
    cluster::{self, busybox, command, example, run},
    pod::Pod,
    policy::until_condition,
    wait::until,
};

/// A namespace that ends with the test. A test that fails shows what went on in it.
#[derive(Debug)]
pub struct Sandbox {
    namespace: String,
}

impl Sandbox {
    /// Makes it, in a cluster on which the product is installed.
    pub fn new(purpose: &str) -> Self {
        Self::labelled(purpose, "")
    }

    /// As [`Sandbox::new`], with these labels from its first moment on. `labels` is YAML in flow style, without braces.
    pub fn labelled(purpose: &str, labels: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        cluster::install();
        let namespace = format!("e2e-{purpose}-{}-{}", process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let manifest = format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {namespace}, labels: {{{labels}}}}}}}");
        run(command("kubectl").args(["create", "-f", "-"]), Some(manifest.as_bytes())).unwrap_or_else(|why| panic!("{why}"));
        Self { namespace }
    }

    /// Its name.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Sets a label of the namespace itself, or takes it away: `team=one`, `team-`.
    pub fn label(&self, label: &str) {
        cluster::kubectl(&["label", "--overwrite", "namespace", &self.namespace, label]);
    }

    /// Runs kubectl in it: what it printed, or why it failed.
    pub fn try_kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        cluster::try_kubectl(&[&["-n", &self.namespace], arguments].concat())
    }

    /// Runs kubectl in it, which must succeed.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        cluster::kubectl(&[&["-n", &self.namespace], arguments].concat())
    }

    /// Applies a manifest: what kubectl printed, or why it was refused.
    pub fn try_apply(&self, manifest: &str) -> Result<String, String> {
        run(command("kubectl").args(["-n", &self.namespace, "apply", "-f", "-"]), Some(manifest.as_bytes()))
    }

    /// Applies a manifest, which must be accepted.
    pub fn apply(&self, manifest: &str) {
        self.try_apply(manifest).unwrap_or_else(|why| panic!("{why}\n{manifest}"));
    }

    /// Applies a policy of that name. `spec` is YAML in flow style, without the outer braces.
    pub fn policy(&self, name: &str, spec: &str) {
        self.apply(&manifest(name, spec));
    }

    /// The policy as it is now.
    pub fn get_policy(&self, name: &str) -> Value {
        serde_json::from_str(&self.kubectl(&["get", "mcppolicy", name, "-o", "json"])).unwrap()
    }

    /// Waits until the operator has said this of the policy's present generation; gives the condition's message.
    pub fn until_condition(&self, name: &str, condition: &str, status: &str) -> String {
        until_condition(name, condition, status, || self.get_policy(name))
    }

    /// Waits until the present generation of the policy is enforced wherever it applies.
    pub fn until_programmed(&self, name: &str) {
        self.until_condition(name, "Programmed", "True");
    }

    /// Applies a file of `examples/` as it is, but for the namespace.
    pub fn example(&self, path: &str, namespace: &str) {
        self.apply(&example(path).replace(&format!("namespace: {namespace}"), &format!("namespace: {}", self.namespace)));
    }

    /// As [`Sandbox::example`], but only the objects of these kinds.
    pub fn example_of_kind(&self, path: &str, namespace: &str, kinds: &[&str]) {
        let text = example(path).replace(&format!("namespace: {namespace}"), &format!("namespace: {}", self.namespace));
        let documents = text.split("\n---\n").filter(|document| kinds.iter().any(|kind| document.contains(&format!("\nkind: {kind}\n"))));
        self.apply(&documents.collect::<Vec<_>>().join("\n---\n"));
    }

    /// Runs the imaging server; gives its pod.
    pub fn imaging(&self) -> Pod {
        self.example("imaging/server.yaml", "imaging");
        self.rolled_out("healthimaging-mcp")
    }

    /// Waits for a Deployment whose pods carry its name as label `app`; gives the youngest pod.
    pub fn rolled_out(&self, name: &str) -> Pod {
        let deployment = format!("deployment/{name}");
        until(&format!("{deployment} is rolled out"), || {
            // `rollout status` gives up early where admission refused the pod once; the Deployment itself tries again.
            self.try_kubectl(&["rollout", "status", &deployment, "--timeout=20s"])
        });
        let pods = self.kubectl(&["get", "pods", "-l", &format!("app={name}"), "--sort-by=.metadata.creationTimestamp", "-o", "name"]);
        let youngest = pods.lines().last().unwrap_or_else(|| panic!("{deployment} has no pod"));
        self.pod(youngest.trim_start_matches("pod/"))
    }

    /// A pod of that name.
    pub fn pod(&self, name: &str) -> Pod {
        Pod { namespace: self.namespace.clone(), name: name.to_owned() }
    }

    /// A pod with a shell, `wget` and `nc`, which no policy of these tests selects: another tenant of the cluster.
    pub fn neighbour(&self) -> Pod {
        self.bare("neighbour", "", "trap exit TERM; sleep 3600 & wait")
    }

    /// A bare pod that runs a shell script, its container called `server`. `labels` is YAML in flow style, without braces.
    pub fn bare(&self, name: &str, labels: &str, script: &str) -> Pod {
        let manifest = bare(name, labels, script);
        // Admission may refuse a selected pod in the moment in which the policy is new and the operator has not heard of it.
        until(&format!("pod {name} is admitted"), || self.try_apply(&manifest));
        until(&format!("pod {name} is ready"), || {
            self.try_kubectl(&["wait", "--for=condition=Ready", &format!("pod/{name}"), "--timeout=20s"])
        });
        self.pod(name)
    }

    fn tell(&self) {
        for arguments in [
            &["get", "pods,mcppolicies,clustermcppolicies", "-o", "wide"][..],
            &["get", "events", "--sort-by=.lastTimestamp"],
            &["get", "mcppolicies", "-o", "yaml"],
            &["logs", "--all-containers", "--prefix", "--tail=40", "-l", "app"],
        ] {
            let told = self.try_kubectl(arguments).unwrap_or_else(|why| why);
            eprintln!("--- kubectl -n {} {}\n{told}", self.namespace, arguments.join(" "));
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if thread::panicking() {
            self.tell();
        }
        let _ = cluster::try_kubectl(&["delete", "namespace", &self.namespace, "--wait=false"]);
    }
}

/// The manifest of a policy. `spec` is YAML in flow style, without the outer braces.
pub fn manifest(name: &str, spec: &str) -> String {
    format!("{{apiVersion: mcp-policy.dev/v1alpha1, kind: McpPolicy, metadata: {{name: {name}}}, spec: {{{spec}}}}}")
}

/// The manifest of a pod that runs a shell script, its container called `server`.
pub fn bare(name: &str, labels: &str, script: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, labels: {{{labels}}}}}, spec: {{terminationGracePeriodSeconds: 1, \
         containers: [{{name: server, image: '{}', command: [sh, -c, '{script}']}}]}}}}",
        busybox()
    )
}
