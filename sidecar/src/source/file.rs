//! Policies from a file, read again when its content changes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mcp_policy::read;
use mcp_policy::snapshot::hex_sha256;
use tokio::time::{MissedTickBehavior, interval};

use crate::error::Error;
use crate::state::{ApplyError, Enforced, State};

/// How often the file is looked at. Its content is compared: volumes swap links, and watches on a file go deaf then.
const LOOK: Duration = Duration::from_secs(1);

/// A policy file, and what was in it.
#[derive(Debug)]
pub struct PolicyFile {
    path: PathBuf,
    /// The content that was last looked at, good or not; none while the file cannot be read.
    seen: Option<String>,
}

impl PolicyFile {
    /// Reads the file and puts it in force. Without a good beginning there is none.
    pub fn load(path: PathBuf, state: &State) -> Result<Self, Error> {
        let text = fs::read_to_string(&path).map_err(|cause| Error::PolicyFile { path: path.clone(), cause })?;
        state.apply(enforced(&path, &text)?);
        Ok(Self { path, seen: Some(text) })
    }

    /// Puts each new content in force, for ever. A content that is not a policy is reported, and the one before stays.
    pub async fn follow(mut self, state: Arc<State>) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            looks.tick().await;
            // A file of policies is small, and reading it is quicker than handing it to another thread.
            match fs::read_to_string(&self.path) {
                Ok(text) if self.seen.as_ref() == Some(&text) => {
                    if state.enforces(&hex_sha256(text.as_bytes())) {
                        state.confirm();
                    }
                }
                Ok(text) => {
                    match enforced(&self.path, &text) {
                        Ok(enforced) => {
                            state.apply(enforced);
                            tracing::info!(path = %self.path.display(), "the changed policy file is in force");
                        }
                        Err(error) => tracing::error!(%error, "the changed policy file is not in force; the one before is"),
                    }
                    self.seen = Some(text);
                }
                Err(cause) => {
                    if self.seen.take().is_some() {
                        tracing::error!(path = %self.path.display(), %cause, "the policy file cannot be read; what was in it stays in force");
                    }
                }
            }
        }
    }
}

fn enforced(path: &Path, text: &str) -> Result<Enforced, ApplyError> {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let manifests = read::file(&name, text)
        .map_err(|errors| ApplyError::File(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")))?;
    if manifests.is_empty() {
        return Err(ApplyError::File(format!("{}: holds no policy", path.display())));
    }
    Enforced::from_file(&manifests, text)
}
