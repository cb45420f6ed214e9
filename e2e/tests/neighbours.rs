//! Injection among others: mutating webhooks of other products, called before ours and after.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests: whatever goes wrong fails the test")]

use std::{
    env, fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use mcp_policy_e2e::{
    cluster::{command, root, run, try_kubectl},
    sandbox::{Sandbox, bare},
    wait::until,
};
use serde_json::{Value, json};

const OURS: [&str; 2] = ["mcp-policy-capture", "mcp-policy-sidecar"];
const IDLE: &str = "trap exit TERM; sleep 3600 & wait";

/// `webhook.py`, and its certificate.
struct Server {
    child: Child,
    port: u16,
    folder: PathBuf,
    ca: String,
}

impl Server {
    fn start(sandbox: &Sandbox) -> Self {
        let folder = env::temp_dir().join(sandbox.namespace());
        fs::create_dir_all(&folder).unwrap();
        let (certificate, key) = (folder.join("certificate"), folder.join("key"));
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=neighbour"]);
        openssl.args(["-addext", "subjectAltName=IP:127.0.0.1", "-out"]).arg(&certificate).arg("-keyout").arg(&key);
        run(&mut openssl, None).unwrap_or_else(|why| panic!("{why}"));
        let mut python = command("python3");
        python.arg(root().join("e2e/webhook.py")).arg(&certificate).arg(&key);
        let mut child = python.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ca = run(Command::new("base64").arg("-w0").arg(&certificate), None).unwrap();
        Self { child, port: line.trim().parse().unwrap(), folder, ca }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        fs::remove_dir_all(&self.folder).unwrap();
    }
}

/// Webhook configurations of a sandbox's own. An API server calls them in the order of their names; ours is called `mcp-policy`.
struct Neighbours<'a> {
    sandbox: &'a Sandbox,
    server: &'a Server,
    names: Vec<String>,
}

impl<'a> Neighbours<'a> {
    fn new(sandbox: &'a Sandbox, server: &'a Server, before: &str, after: &str) -> Self {
        let mut neighbours = Self { sandbox, server, names: Vec::new() };
        neighbours.add("a", before);
        neighbours.add("z", after);
        neighbours
    }

    fn add(&mut self, prefix: &str, kind: &str) {
        let name = format!("{prefix}-{kind}-{}", self.sandbox.namespace());
        let webhook = json!({
            "name": format!("{kind}.example.org"),
            "admissionReviewVersions": ["v1"],
            "clientConfig": { "url": format!("https://127.0.0.1:{}/{kind}", self.server.port), "caBundle": self.server.ca },
            "failurePolicy": "Fail",
            "reinvocationPolicy": "IfNeeded",
            "sideEffects": "None",
            "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": self.sandbox.namespace() } },
            "rules": [{ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"] }],
        });
        let configuration = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration", "metadata": { "name": name }, "webhooks": [webhook],
        });
        self.sandbox.apply(&configuration.to_string());
        self.names.push(name);
    }
}

impl Drop for Neighbours<'_> {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = try_kubectl(&["delete", "mutatingwebhookconfiguration", name, "--ignore-not-found"]);
        }
    }
}

/// The pod as it would be admitted, or why it would not.
fn admitted(sandbox: &Sandbox, manifest: &str) -> Result<Value, String> {
    let create = ["-n", sandbox.namespace(), "create", "--dry-run=server", "-o", "json", "-f", "-"];
    run(command("kubectl").args(create), Some(manifest.as_bytes())).map(|pod| serde_json::from_str(&pod).unwrap())
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(|item| item["name"].as_str()).collect()
}

fn has_variable(container: &Value) -> bool {
    names(&container["env"]).contains(&"NEIGHBOUR")
}

#[test]
#[ignore = "embedded cluster only: the API server of another does not reach a webhook of this machine"]
fn injection_is_the_same_before_and_after_webhooks_of_others() {
    let sandbox = Sandbox::new("neighbours");
    sandbox.policy("all", "selector: {matchLabels: {app: guarded}}, default: deny");
    sandbox.until_condition("all", "Accepted", "True");
    let manifest = bare("new", "app: guarded", IDLE);
    let alone = until("a selected pod is admitted", || admitted(&sandbox, &manifest));
    let server = Server::start(&sandbox);
    for (before, after) in [("mesh", "defaults"), ("defaults", "mesh")] {
        let _neighbours = Neighbours::new(&sandbox, &server, before, after);
        let pod = until("the neighbours are called", || {
            let pod = admitted(&sandbox, &manifest)?;
            let both = names(&pod["spec"]["initContainers"]).contains(&"mesh") && has_variable(&pod["spec"]["containers"][0]);
            if both { Ok(pod) } else { Err("not both of them".to_owned()) }
        });
        let init = &pod["spec"]["initContainers"];
        assert_eq!(names(init), [&OURS[..], &["mesh"]].concat(), "{before}, {after}");
        for i in 0..2 {
            assert_eq!(init[i], alone["spec"]["initContainers"][i], "{before}, {after}");
        }
        assert_eq!(names(&pod["spec"]["volumes"]).iter().filter(|name| ["mesh", "mcp-policy"].contains(name)).count(), 2);
        assert_eq!(pod["spec"]["containers"][0]["resources"]["limits"]["memory"], "32Mi");
        assert!(pod["spec"]["tolerations"].as_array().unwrap().iter().any(|toleration| toleration["key"] == "neighbour"));

        // What was admitted once is admitted again as it is: a copy of a pod, or one that is restored from a backup.
        let mut copy = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "copy", "labels": { "app": "guarded" } } });
        copy["metadata"]["annotations"] = pod["metadata"]["annotations"].clone();
        copy["spec"] = pod["spec"].clone();
        assert_eq!(admitted(&sandbox, &copy.to_string()).unwrap()["spec"], pod["spec"], "{before}, {after}");

        assert!(sandbox.bare("new", "app: guarded", IDLE).injected(), "{before}, {after}");
        sandbox.kubectl(&["delete", "pod", "new", "--wait=true"]);
    }
}

#[test]
#[ignore = "embedded cluster only: the API server of another does not reach a webhook of this machine"]
fn a_webhook_that_rewrites_the_sidecars_image_is_undone_or_the_pod_is_denied() {
    let sandbox = Sandbox::new("mirror");
    sandbox.policy("all", "selector: {matchLabels: {app: guarded}}, default: deny");
    sandbox.until_condition("all", "Accepted", "True");
    let manifest = bare("new", "app: guarded", IDLE);
    let images = |pod: &Value| [0, 1].map(|i| pod["spec"]["initContainers"][i]["image"].clone());
    let ours = images(&until("a selected pod is admitted", || admitted(&sandbox, &manifest)));
    let server = Server::start(&sandbox);
    // Called before us, it finds nothing of ours; called again because we changed the pod, it is undone, for we are called again, too.
    // Called after us, it has the last word, and the admission policy denies the pod.
    for (place, is_denied) in [("a", false), ("z", true)] {
        let mut neighbours = Neighbours { sandbox: &sandbox, server: &server, names: Vec::new() };
        neighbours.add(place, "mirror");
        let why = until("the mirror is named", || match admitted(&sandbox, &manifest) {
            Err(why) => Ok(Some(why)),
            Ok(pod) if pod["spec"]["containers"][0]["image"].as_str().unwrap().starts_with("mirror.example.org/") => {
                assert_eq!(images(&pod), ours, "{place}: admitted with another image");
                Ok(None)
            }
            Ok(_) => Err("it was not called".to_owned()),
        });
        assert_eq!(why.is_some(), is_denied, "{place}: {why:?}");
        assert!(why.is_none_or(|why| why.contains("as the operator injects it (image")), "{place}");
    }
}
