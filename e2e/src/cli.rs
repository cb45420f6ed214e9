//! The command line of this working copy.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use crate::cluster::{command, root, run};

/// Runs `mcp-policy` with this kubeconfig, or as everybody in the cluster does: what it printed, or why it failed.
pub fn mcp_policy(kubeconfig: Option<&Path>, arguments: &[&str]) -> Result<String, String> {
    let mut command = command("env");
    command.args(kubeconfig.map(|file| format!("KUBECONFIG={}", file.display())));
    run(command.arg(binary()).args(arguments), None)
}

/// The binary, built once.
fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let mut build = Command::new(env!("CARGO"));
        build.current_dir(root()).args(["build", "--quiet", "--package", "mcp-policy-cli"]);
        run(&mut build, None).unwrap_or_else(|why| panic!("mcp-policy was not built: {why}"));
        // Tests run in `deps`, beside which binaries are.
        env::current_exe().unwrap().parent().unwrap().with_file_name("mcp-policy")
    })
}
