//! Every policy that the documentation and the examples show is one that the operator accepts.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use mcp_policy::{compile, read};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The fenced blocks of YAML and JSON in a Markdown file that hold a policy, with the lines where they begin.
fn policies(markdown: &str) -> Vec<(usize, String)> {
    let mut blocks = Vec::new();
    let mut lines = markdown.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if ["```yaml", "```json"].contains(&line.trim()) {
            let indent = line.len() - line.trim_start().len();
            let block = lines.by_ref().map(|(_, line)| line).take_while(|line| line.trim() != "```");
            let block = block.map(|line| line.get(indent..).unwrap_or_default()).collect::<Vec<_>>().join("\n");
            if block.contains("kind: McpPolicy") || block.contains("tools:") || block.contains("\"tools\"") {
                blocks.push((number + 1, block));
            }
        }
    }
    blocks
}

fn accept(name: &str, text: &str) {
    let manifests = read::file(name, text).unwrap_or_else(|errors| panic_with(name, errors.first().map(ToString::to_string)));
    for manifest in manifests {
        if let Err(errors) = compile(manifest.id, &manifest.document) {
            panic_with(name, Some(errors.to_string()))
        }
    }
}

#[allow(clippy::panic, reason = "a test fails by panicking")]
fn panic_with(name: &str, error: Option<String>) -> ! {
    panic!("{name}: {}", error.unwrap_or_default())
}

#[test]
fn policies_in_the_documentation_are_accepted() {
    let mut files = vec![root().join("README.md")];
    files.extend(std::fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path()));
    let mut shown = 0;
    for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "md")) {
        for (line, block) in policies(&std::fs::read_to_string(file).unwrap()) {
            accept(&format!("{}:{line}", file.display()), &block);
            shown += 1;
        }
    }
    assert!(shown >= 5, "the documentation shows only {shown} policies");
}

#[test]
fn policies_of_the_examples_are_accepted() {
    let mut examples = 0;
    for folder in std::fs::read_dir(root().join("examples")).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
        let policy = folder.join("policy.yaml");
        accept(&policy.display().to_string(), &std::fs::read_to_string(&policy).unwrap());
        examples += 1;
    }
    assert!(examples > 0);
}
