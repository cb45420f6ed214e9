//! An `OpenID` Connect provider beside the cluster, where pods can reach it.

use std::{
    env, fs,
    io::{BufRead, BufReader, Lines, Write},
    process::{Child, ChildStdin, ChildStdout, Stdio},
};

use mcp_policy_interop::prepared::{folder, node};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cluster::{command, kubectl};

/// A provider with one client, `agent`.
#[derive(Debug)]
pub struct Issuer {
    child: Child,
    steps: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    /// Its URL, which is its name.
    pub url: String,
    /// The certificate by which it is known, in PEM form.
    pub certificate: String,
    _folder: TempDir,
}

impl Issuer {
    /// Starts it at an address of this machine that pods reach: that of the embedded cluster's node, or `HOST_ADDRESS`.
    pub fn start() -> Self {
        let address = env::var("HOST_ADDRESS").unwrap_or_else(|_| {
            let addresses = kubectl(&["get", "nodes", "-o", r#"jsonpath={.items[0].status.addresses[?(@.type=="InternalIP")].address}"#]);
            addresses.split_whitespace().next().unwrap().to_owned()
        });
        let signed = rcgen::generate_simple_self_signed([address.clone()]).unwrap();
        let (certificate, files) = (signed.cert.pem(), tempfile::tempdir().unwrap());
        fs::write(files.path().join("cert.pem"), &certificate).unwrap();
        fs::write(files.path().join("key.pem"), signed.signing_key.serialize_pem()).unwrap();
        let trust = format!("NODE_EXTRA_CA_CERTS={}", files.path().join("cert.pem").display());
        let mut inside = command("env");
        inside.arg(trust).arg(node().get_program()).arg(folder().join("servers/oidc.js")).arg(address).arg(files.path());
        let mut child = inside.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let steps = child.stdin.take().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let url = lines.next().expect("the provider ended at once").unwrap();
        Self { child, steps, lines, url, certificate, _folder: files }
    }

    /// A token for this audience, a URL.
    pub fn token(&mut self, audience: &str) -> String {
        let answer = self.step(&json!({"token": audience}));
        answer["token"].as_str().unwrap_or_else(|| panic!("no token: {answer}")).to_owned()
    }

    /// Replaces its keys: no token from before is valid any more.
    pub fn rotate(&mut self) {
        assert_eq!(self.step(&json!({"rotate": true}))["rotated"], true);
    }

    fn step(&mut self, step: &Value) -> Value {
        writeln!(self.steps, "{step}").unwrap();
        serde_json::from_str(&self.lines.next().unwrap().unwrap()).unwrap()
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
