//! What people write wrong, and what they are told: the whole text, with the place and a hint.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write as _;
use std::process::{Command, Stdio};

/// What `mcp-policy check` says of a text on standard error, line by line, without the count at the end.
fn said(policy: &str) -> Vec<String> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_mcp-policy"))
        .args(["check", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(policy.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{policy}");
    assert_eq!(output.stdout, b"", "{policy}");
    let lines = String::from_utf8(output.stderr).unwrap().lines().map(str::to_owned).collect::<Vec<_>>();
    let (count, errors) = lines.split_last().unwrap();
    assert_eq!(*count, if errors.len() == 1 { "1 error".to_owned() } else { format!("{} errors", errors.len()) });
    errors.to_vec()
}

#[test]
fn every_mistake_is_told_with_its_place_and_a_hint() {
    let mut blocks = include_str!("wrong_policies.txt").split("====\n");
    assert!(blocks.next().unwrap().starts_with("Wrong policies"));
    let mut cases = 0;
    for block in blocks {
        let (policy, expected) = block.split_once("=>\n").unwrap();
        let said = said(policy);
        let expected = expected.lines().map(|line| format!("error: <stdin>{line}")).collect::<Vec<_>>();
        let agree = said.len() == expected.len()
            && said.iter().zip(&expected).all(|(said, expected)| match expected.strip_suffix('…') {
                Some(beginning) => said.starts_with(beginning) && said.len() > beginning.len(),
                None => said == expected,
            });
        assert!(agree, "{policy}\n  said:     {said:#?}\n  expected: {expected:#?}");
        cases += 1;
    }
    assert!(cases >= 40, "{cases}");
}
