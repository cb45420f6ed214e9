//! The cluster that is meant, and commands that run where it can be reached.

use std::{
    env, fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

/// The namespace of the operator.
pub const SYSTEM: &str = "mcp-policy-system";

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Sees to it, once per process, that the cluster runs and the product of this working copy is installed.
pub fn install() {
    static DONE: OnceLock<()> = OnceLock::new();
    DONE.get_or_init(reinstall);
}

/// As [`install`], also where it was done before.
pub fn reinstall() {
    if let Err(why) = run(Command::new(root().join("e2e/install")).arg("all"), None) {
        panic!("the product could not be installed: {why}");
    }
}

/// A command that runs in the cluster's network, with `KUBECONFIG` set.
pub fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(root().join("e2e/in-cluster"));
    command.arg(program);
    command
}

/// Runs a command to its end: what it wrote to stdout, or to stderr and stdout if it failed.
pub fn run(command: &mut Command, stdin: Option<&[u8]>) -> Result<String, String> {
    let mut child = command
        .stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    if let (Some(bytes), Some(mut pipe)) = (stdin, child.stdin.take()) {
        // A command that ends without reading all of it tells why by its exit code.
        let _ = pipe.write_all(bytes);
    }
    let output = child.wait_with_output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() { Ok(stdout) } else { Err(format!("{}{stdout}", String::from_utf8_lossy(&output.stderr))) }
}

/// Runs kubectl: what it printed, or why it failed.
pub fn try_kubectl(arguments: &[&str]) -> Result<String, String> {
    run(command("kubectl").args(arguments), None)
}

/// Runs kubectl, which must succeed.
pub fn kubectl(arguments: &[&str]) -> String {
    try_kubectl(arguments).unwrap_or_else(|why| panic!("kubectl {}: {why}", arguments.join(" ")))
}

/// A file of `examples/`, with the images that the cluster can have.
pub fn example(path: &str) -> String {
    let path: PathBuf = root().join("examples").join(path);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    match (env::var_os("KUBECONFIG"), env::var("IMAGES")) {
        // The embedded cluster pulls from nowhere: the distribution's Redis stands in.
        (None, _) => text.replace("docker.io/valkey/valkey:8.1", "registry.local/redis:1"),
        (Some(_), Ok(prefix)) => text.replace("ghcr.io/mcp-policy/", &format!("{prefix}/")),
        (Some(_), Err(_)) => text,
    }
}

/// An image with a shell, `wget` and `httpd`.
pub fn busybox() -> &'static str {
    if env::var_os("KUBECONFIG").is_some() { "busybox:1" } else { "registry.local/busybox:1" }
}
