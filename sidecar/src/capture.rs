//! Puts the pod's inbound traffic under the sidecar: loads `capture.nft` in one transaction.

use std::io::{self, Write};
use std::process::{Command, Stdio};

/// The rules, as `nft` reads them.
pub const RULES: &str = include_str!("capture.nft");

/// Where the image has nft.
const NFT: &str = "/usr/sbin/nft";

/// Why the rules are not in force.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// There is no nft.
    #[error("{NFT} is missing: `capture` needs the sidecar's own image, or nftables installed")]
    NoNft,
    /// nft could not be run.
    #[error("cannot run {NFT}: {0}")]
    Run(#[from] io::Error),
    /// nft was not permitted to change the network.
    #[error("nft is not permitted to load the capture rules: the container needs uid 0 and the capability NET_ADMIN, and no other ({0})")]
    NotPermitted(String),
    /// The kernel lacks something.
    #[error(
        "the kernel cannot load the capture rules; it needs nf_tables with inet, nat, redir, reject, fib, socket and conntrack, as modules or built in: {0}"
    )]
    Kernel(String),
}

/// Loads the rules. They are then in force until the pod's network ends; loading them again replaces them without a gap.
pub fn load() -> Result<(), CaptureError> {
    load_with(NFT)
}

fn load_with(nft: &str) -> Result<(), CaptureError> {
    let mut child = match Command::new(nft).args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn() {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Err(CaptureError::NoNft),
        spawned => spawned?,
    };
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(RULES.as_bytes()) {
            // It ended before it read everything; what it said tells why.
            Err(cause) if cause.kind() == io::ErrorKind::BrokenPipe => {}
            written => written?,
        }
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if said.contains("Operation not permitted") { Err(CaptureError::NotPermitted(said)) } else { Err(CaptureError::Kernel(said)) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;
    use crate::config::{ADMIN_PORT, CANARY_PORT, PROXY_PORT};

    fn nft_that(script: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("nft");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        (dir, path)
    }

    #[test]
    fn nft_gets_the_rules_in_one_piece() {
        let (dir, nft) = nft_that("[ \"$1 $2\" = '-f -' ] && cat > \"$(dirname \"$0\")/got\"");
        load_with(nft.to_str().unwrap()).unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join("got")).unwrap(), RULES);
    }

    #[test]
    fn a_missing_nft_a_missing_right_and_an_old_kernel_are_told_apart() {
        assert!(matches!(load_with("/nonexistent/nft"), Err(CaptureError::NoNft)));
        let (_dir, nft) = nft_that("cat >/dev/null; echo 'Error: Could not process rule: Operation not permitted' >&2; exit 1");
        assert!(matches!(load_with(nft.to_str().unwrap()), Err(CaptureError::NotPermitted(_))));
        let (_dir, nft) = nft_that("cat >/dev/null; echo 'Error: Could not process rule: No such file or directory' >&2; exit 1");
        assert!(matches!(load_with(nft.to_str().unwrap()), Err(CaptureError::Kernel(_))));
    }

    #[test]
    fn the_rules_use_the_ports_of_the_program() {
        assert!(RULES.contains(&format!("redirect to :{PROXY_PORT}")));
        assert!(RULES.contains(&format!("tcp dport {ADMIN_PORT} return")));
        // Nobody listens on the canary: it is redirected before anybody asks who listens, and exempt nowhere.
        let canary = CANARY_PORT.to_string();
        let of_canary: Vec<_> = RULES.lines().filter(|line| !line.starts_with('#') && line.contains(&canary)).map(str::trim).collect();
        assert_eq!(of_canary, [format!("tcp dport {CANARY_PORT} redirect to :{PROXY_PORT}")]);
    }
}
