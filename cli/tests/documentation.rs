//! Every policy that the documentation and the examples show is one that the operator accepts, and decides as its tests say.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;

use mcp_policy::read;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The fenced blocks of YAML and JSON in a Markdown file, with the lines where they begin.
fn blocks(markdown: &str) -> Vec<(usize, String)> {
    let mut blocks = Vec::new();
    let mut lines = markdown.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if ["```yaml", "```json"].contains(&line.trim()) {
            let indent = line.len() - line.trim_start().len();
            let block = lines.by_ref().map(|(_, line)| line).take_while(|line| line.trim() != "```");
            let block = block.map(|line| line.get(indent..).unwrap_or_default()).collect::<Vec<_>>().join("\n");
            blocks.push((number + 1, block));
        }
    }
    blocks
}

fn is_policy(block: &str) -> bool {
    ["kind: McpPolicy", "kind: ClusterMcpPolicy", "tools:", "\"tools\""].iter().any(|sign| block.contains(sign)) && !is_test_file(block)
}

fn is_test_file(block: &str) -> bool {
    block.lines().any(|line| line == "cases:")
}

/// The Markdown files of the project, with what stands in them.
fn documents() -> Vec<(PathBuf, String)> {
    let mut paths = vec![root().join("README.md")];
    paths.extend(["docs", "examples"].iter().flat_map(|folder| files(&root().join(folder), &[".md"])));
    paths.into_iter().map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
}

fn accept(name: &str, text: &str) {
    let manifests = read::file(name, text).unwrap_or_else(|errors| panic_with(name, errors.first().map(ToString::to_string)));
    for manifest in manifests {
        if let Err(errors) = manifest.compile() {
            panic_with(name, errors.first().map(ToString::to_string))
        }
    }
}

#[allow(clippy::panic, reason = "a test fails by panicking")]
fn panic_with(name: &str, error: Option<String>) -> ! {
    panic!("{name}: {}", error.unwrap_or_default())
}

#[test]
fn policies_in_the_documentation_are_accepted() {
    let mut shown = 0;
    for (path, text) in documents() {
        for (line, block) in blocks(&text).iter().filter(|(_, block)| is_policy(block)) {
            accept(&format!("{}:{line}", path.display()), block);
            shown += 1;
        }
    }
    assert!(shown >= 20, "the documentation shows only {shown} policies");
}

/// A test file in the documentation is for the policy that was shown last before it.
#[test]
fn test_files_in_the_documentation_pass() {
    let mut shown = 0;
    for (path, text) in documents() {
        let mut policy = String::new();
        for (line, block) in blocks(&text) {
            if is_policy(&block) {
                policy = block;
            } else if is_test_file(&block) {
                let folder = tempfile::tempdir().unwrap();
                std::fs::write(folder.path().join("policy.yaml"), &policy).unwrap();
                std::fs::write(folder.path().join("policy.test.yaml"), &block).unwrap();
                let output = Command::new(env!("CARGO_BIN_EXE_mcp-policy")).arg("test").arg(folder.path()).output().unwrap();
                let told = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                assert!(output.status.success(), "{}:{line}\n{}{}", path.display(), told(&output.stdout), told(&output.stderr));
                shown += 1;
            }
        }
    }
    assert!(shown >= 1, "the documentation shows no test file");
}

/// The files below a folder with one of these endings.
fn files(folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            found.extend(files(&path, endings));
        } else if endings.iter().any(|ending| path.to_str().unwrap().ends_with(ending)) {
            found.push(path);
        }
    }
    found
}

#[test]
fn policies_of_the_examples_are_accepted_without_a_warning() {
    let folder = root().join("examples");
    let output = Command::new(env!("CARGO_BIN_EXE_mcp-policy")).args(["check", "--strict"]).arg(&folder).output().unwrap();
    let (accepted, errors) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{errors}");
    for policy in files(&folder, &["/policy.yaml"]) {
        assert!(accepted.contains(&format!("{}: ", policy.display())), "{} holds no policy", policy.display());
    }
}

#[test]
fn test_files_of_the_examples_and_the_documentation_pass() {
    let test_files: Vec<_> = ["examples", "docs"].iter().flat_map(|folder| files(&root().join(folder), &[".test.yaml"])).collect();
    assert!(test_files.len() >= 15, "only {} test files", test_files.len());
    let output = Command::new(env!("CARGO_BIN_EXE_mcp-policy")).args(["test", "--output", "github"]).args(&test_files).output().unwrap();
    assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
}

/// "Known methods are those of all supported revisions, listed in the docs".
#[test]
fn the_known_methods_are_listed() {
    use mcp_policy::method::{FROM_CLIENT, FROM_SERVER};
    let reference = std::fs::read_to_string(root().join("docs/policy.md")).unwrap();
    for (side, methods) in [("client", FROM_CLIENT), ("server", FROM_SERVER)] {
        let row = format!("| {side} | {} |", methods.iter().map(|method| format!("`{method}`")).collect::<Vec<_>>().join(", "));
        assert!(reference.lines().any(|line| line == row), "{row}");
    }
}
