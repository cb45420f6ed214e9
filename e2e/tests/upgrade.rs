//! Another version of the charts is installed over this one, and taken back, while agents call and pods are made.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests: whatever goes wrong fails the test")]
#![allow(clippy::print_stdout, reason = "what was seen, for `--nocapture`")]

use std::{
    env, fs,
    path::PathBuf,
    process::{self, Command},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use mcp_policy_e2e::{
    cluster::{SYSTEM, command, reinstall, root, run},
    sandbox::{Sandbox, bare},
    traffic::Traffic,
};
use serde_json::Value;

/// The server, and pods to which its Service sends nothing.
const SELECTOR: &str = "selector: {matchExpressions: [{key: app, operator: In, values: [healthimaging-mcp, new]}]}";
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The version that the other charts say they are; their images are these, under this tag.
const OTHER: &str = "0.0.9";

/// The charts as another version, for as long as this lives; then the product is installed as it was.
struct OtherCharts(PathBuf);

impl OtherCharts {
    fn new() -> Self {
        let folder = env::temp_dir().join(format!("mcp-policy-upgrade-{}", process::id()));
        let other = Self(folder.clone());
        run(Command::new("cp").arg("-r").arg(root().join("charts")).arg(&folder), None).unwrap();
        for chart in ["mcp-policy", "mcp-policy-crds"] {
            let path = folder.join(chart).join("Chart.yaml");
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.contains(VERSION));
            fs::write(path, text.replace(VERSION, OTHER)).unwrap();
        }
        for image in ["operator", "sidecar"] {
            let name = |tag: &str| format!("ghcr.io/mcp-policy/{image}:{tag}");
            run(Command::new(root().join("e2e/cluster/cluster")).args(["tag", &name(VERSION), &name(OTHER)]), None).unwrap();
        }
        other
    }

    fn install(&self) {
        for chart in ["mcp-policy-crds", "mcp-policy"] {
            helm(&["upgrade", chart, self.0.join(chart).to_str().unwrap(), "--reuse-values"]);
        }
    }
}

impl Drop for OtherCharts {
    fn drop(&mut self) {
        reinstall();
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn helm(arguments: &[&str]) {
    let mut helm = command("helm");
    helm.args(arguments).args(["--namespace", SYSTEM, "--wait", "--timeout", "120s"]);
    run(&mut helm, None).unwrap_or_else(|why| panic!("helm {}: {why}", arguments.join(" ")));
}

/// What became of selected pods that were made all the while.
#[derive(Debug, Default)]
struct Made {
    injected: usize,
    denied: usize,
}

/// Makes selected pods until told to stop; dry, so that admission is all that happens. None is admitted without its sidecar.
fn make_pods(sandbox: &Sandbox, stop: &AtomicBool) -> Made {
    let manifest = bare("dry", "app: new", "true");
    let create = ["-n", sandbox.namespace(), "create", "--dry-run=server", "-o", "json", "-f", "-"];
    let mut made = Made::default();
    while !stop.load(Ordering::Relaxed) {
        match run(command("kubectl").args(create), Some(manifest.as_bytes())) {
            Ok(pod) => {
                let pod: Value = serde_json::from_str(&pod).unwrap();
                assert_eq!(pod["spec"]["initContainers"][0]["name"], "mcp-policy-capture", "{pod}");
                assert_eq!(pod["spec"]["initContainers"][1]["name"], "mcp-policy-sidecar", "{pod}");
                made.injected += 1;
            }
            // While replicas of both versions serve, or an API server reads the definitions anew.
            Err(why) => {
                assert!(why.contains("mcp-policy") || why.contains("paramKind"), "{why}");
                made.denied += 1;
            }
        }
    }
    made
}

/// Stops [`make_pods`] when it is dropped, also by a test that fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The running pod follows the operator, and a new one is admitted with the sidecar of this version.
fn serves(sandbox: &Sandbox, version: &str) {
    sandbox.policy("imaging", &format!("{SELECTOR}, tools: {{list_datastores: {{}}, 'version-{version}': {{}}}}"));
    sandbox.until_programmed("imaging");
    let new = sandbox.bare("new", "app: new", "trap exit TERM; sleep 3600 & wait");
    let image = new.object()["spec"]["initContainers"][1]["image"].clone();
    assert!(image.as_str().unwrap().ends_with(&format!("/sidecar:{version}")), "{image}");
    sandbox.kubectl(&["delete", "pod", "new", "--wait=true"]);
}

#[test]
#[ignore = "embedded cluster only: the other version's images exist nowhere else"]
fn an_upgrade_and_a_rollback_change_no_decision_and_admit_no_pod_without_its_sidecar() {
    let sandbox = Sandbox::new("upgrade");
    sandbox.policy("imaging", &format!("{SELECTOR}, tools: {{list_datastores: {{}}}}"));
    let pod = sandbox.imaging();
    sandbox.until_programmed("imaging");
    let lives = pod.lives();
    let traffic = Traffic::begin(&sandbox, 10);
    let other = OtherCharts::new();
    let stop = AtomicBool::new(false);
    let made = thread::scope(|scope| {
        let making = scope.spawn(|| make_pods(&sandbox, &stop));
        let stop = Stop(&stop);
        other.install();
        serves(&sandbox, OTHER);
        for chart in ["mcp-policy-crds", "mcp-policy"] {
            helm(&["rollback", chart]);
        }
        serves(&sandbox, VERSION);
        drop(stop);
        making.join().unwrap()
    });
    println!("{made:?}");
    assert!(made.injected > made.denied && made.injected > 20, "{made:?}");
    assert_eq!(pod.lives(), lives, "something was restarted");
    let seen = traffic.end();
    println!("{seen:?}");
    assert!(seen.allowed > 100 && seen.denied > 100 && seen.sessions == 10, "{seen:?}");
}
