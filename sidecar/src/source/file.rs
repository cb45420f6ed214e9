//! Policies from a file, or from the files of a folder, read again when their content changes.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mcp_policy::read;
use mcp_policy::snapshot::hex_sha256;
use tokio::time::{MissedTickBehavior, interval};

use crate::error::Error;
use crate::state::{ApplyError, Enforced, FilePolicy, State};

/// How often the files are looked at. Their content is compared: volumes swap links, and watches on a file go deaf then.
const LOOK: Duration = Duration::from_secs(1);

/// How often files are read until they stand still.
const TRIES: usize = 5;

/// Files of policies, and what was in them.
#[derive(Debug)]
pub struct PolicyFiles {
    path: PathBuf,
    /// The content that was last looked at, good or not; none while it cannot be read.
    seen: Option<Content>,
}

/// The texts of the files, by name.
#[derive(Debug, PartialEq, Eq)]
struct Content {
    /// Of a folder: a file that comes or goes is a change, too.
    is_folder: bool,
    texts: BTreeMap<String, String>,
}

impl PolicyFiles {
    /// Reads the file, or the files of the folder, and puts them in force. Without a good beginning there is none.
    pub fn load(path: PathBuf, state: &State) -> Result<Self, Error> {
        let content = Content::read(&path).map_err(|cause| Error::PolicyFile { path: path.clone(), cause })?;
        state.apply(content.enforced(&path)?);
        Ok(Self { path, seen: Some(content) })
    }

    /// Puts each new content in force, for ever. A content that is no policy is reported, and the one before stays.
    pub async fn follow(mut self, state: Arc<State>) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            looks.tick().await;
            // Policies are small, and reading them is quicker than handing that to another thread.
            match Content::read(&self.path) {
                Ok(content) if self.seen.as_ref() == Some(&content) => {
                    if state.enforces(&content.sha256()) {
                        state.confirm();
                    }
                }
                Ok(content) => {
                    match content.enforced(&self.path) {
                        Ok(enforced) => {
                            state.apply(enforced);
                            tracing::info!(path = %self.path.display(), "the changed policies are in force");
                        }
                        Err(error) => tracing::error!(%error, "the changed policies are not in force; those before are"),
                    }
                    self.seen = Some(content);
                }
                Err(cause) => {
                    if self.seen.take().is_some() {
                        tracing::error!(path = %self.path.display(), %cause, "the policies cannot be read; what was in them stays in force");
                    }
                }
            }
        }
    }
}

impl Content {
    /// Reads a file, or the `.yaml`, `.yml` and `.json` files of a folder. Hidden ones are none: editors and volumes keep their own
    /// there.
    fn read(path: &Path) -> io::Result<Self> {
        if !path.is_dir() {
            let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
            return Ok(Self { is_folder: false, texts: BTreeMap::from([(name, fs::read_to_string(path)?)]) });
        }
        // A volume swaps all its files at once, and it may do so while they are read.
        let mut texts = read_folder(path)?;
        for _ in 0..TRIES {
            let again = read_folder(path)?;
            if again == texts {
                return Ok(Self { is_folder: true, texts });
            }
            texts = again;
        }
        Err(io::Error::other("the files change while they are read"))
    }

    /// Names the content. Of a file, its digest; of a folder, that of a list of its files as `sha256sum *` writes it.
    fn sha256(&self) -> String {
        let digest = |text: &str| hex_sha256(text.as_bytes());
        if self.is_folder {
            let lines: Vec<_> = self.texts.iter().map(|(name, text)| format!("{}  {name}\n", digest(text))).collect();
            digest(&lines.concat())
        } else {
            self.texts.values().map(|text| digest(text)).collect()
        }
    }

    /// Compiles it; or tells everything that is wrong with it.
    fn enforced(&self, path: &Path) -> Result<Enforced, ApplyError> {
        let mut policies = Vec::new();
        let mut errors = Vec::new();
        for (name, text) in &self.texts {
            match read::file(name, text) {
                Ok(manifests) => {
                    let sha256 = hex_sha256(text.as_bytes());
                    policies.extend(manifests.into_iter().map(|manifest| FilePolicy { manifest, revision: sha256[..12].to_owned() }));
                }
                Err(wrong) => errors.extend(wrong),
            }
        }
        let mut files = BTreeMap::new();
        for FilePolicy { manifest, .. } in &policies {
            if let Some(first) = files.insert(&manifest.id, manifest.file()).filter(|first| *first != manifest.file()) {
                errors.push(manifest.named_twice(first));
            }
        }
        if !errors.is_empty() {
            return Err(ApplyError::File(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")));
        }
        if policies.is_empty() {
            return Err(ApplyError::File(format!("{}: holds no policy", path.display())));
        }
        Enforced::from_files(&policies, self.sha256())
    }
}

fn read_folder(folder: &Path) -> io::Result<BTreeMap<String, String>> {
    let mut texts = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let is_document = path.extension().and_then(OsStr::to_str).is_some_and(|extension| ["yaml", "yml", "json"].contains(&extension));
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).filter(|name| !name.starts_with('.'));
        if let Some(name) = name.filter(|_| is_document && path.is_file()) {
            texts.insert(name, fs::read_to_string(&path)?);
        }
    }
    Ok(texts)
}

#[cfg(test)]
mod tests;
