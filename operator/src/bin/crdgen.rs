//! Writes the definitions of the custom resources: into `crds/` for people who apply them, and the same as templates of the chart
//! `mcp-policy-crds`. With `--check` it writes nothing, and fails where a file differs.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde_json::Value;

use mcp_policy_operator::approvals;
use mcp_policy_operator::approvals::resource::PLURAL;
use mcp_policy_operator::crd::{self, Kind};

fn main() -> anyhow::Result<()> {
    let check = match std::env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => false,
        [flag] if flag == "--check" => true,
        other => bail!("unknown arguments {other:?}; the only one is --check"),
    };
    for (path, text) in files()? {
        if check {
            let found = std::fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
            if found != text {
                bail!("{} differs from the Rust types; run `make generate`", path.display());
            }
        } else {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder).with_context(|| format!("failed to create {}", folder.display()))?;
            }
            std::fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))?;
        }
    }
    Ok(())
}

const HEADER: &str = "# Generated from the Rust types by crdgen. Do not edit; run `make generate`.\n";

/// The files and what belongs in them.
fn files() -> anyhow::Result<Vec<(PathBuf, String)>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the crate lies in the workspace")?;
    let mut files = Vec::new();
    let definitions = Kind::ALL.map(|kind| (kind.plural(), crd::definition(kind)));
    for (plural, plain) in definitions.into_iter().chain([(PLURAL, approvals::definition())]) {
        let mut kept = plain.clone();
        // Helm deletes what a chart no longer renders, and with the definition every policy of the cluster.
        kept["metadata"]["annotations"]["helm.sh/resource-policy"] = "keep".into();
        let name = format!("{plural}.yaml");
        files.push((root.join("crds").join(&name), format!("{HEADER}{}", yaml(&plain)?)));
        files.push((
            root.join("charts/mcp-policy-crds/templates").join(&name),
            format!("{HEADER}{{{{- if .Values.crds.install }}}}\n{}{{{{- end }}}}\n", yaml(&kept)?),
        ));
    }
    Ok(files)
}

fn yaml(value: &Value) -> anyhow::Result<String> {
    let mut text = serde_saphyr::to_string(value)?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_are_current() {
        for (path, text) in files().unwrap() {
            let found = std::fs::read_to_string(&path).unwrap();
            assert!(found == text, "{} differs from the Rust types; run `make generate`", path.display());
        }
    }

    #[test]
    fn the_yaml_says_what_the_definition_says() {
        for definition in Kind::ALL.map(crd::definition) {
            let read: Value = serde_saphyr::from_str(&yaml(&definition).unwrap()).unwrap();
            assert_eq!(read, definition);
        }
    }
}
