//! Which format a file is in, by its content.

use std::fmt;

use mcp_policy::read::FieldError;

use super::source::Field;

/// The formats that import.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Gateway,
    Block,
    Proxy,
}

/// What is looked for in an entry of `tools`.
const IN_A_TOOL: [(Format, &[&str]); 3] = [
    (Format::Gateway, &["require", "deny_if", "limits"]),
    (Format::Block, &["action", "reason", "rate_limit"]),
    (Format::Proxy, &["rules"]),
];
/// What only a policy of ours has, at the top and in an entry of `tools`.
const OURS: [&str; 8] = ["apiVersion", "kind", "spec", "allTools", "methods", "selector", "server", "mode"];
const OURS_IN_A_TOOL: [&str; 3] = ["denyIf", "rateLimit", "arguments"];

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gateway => "gateway JSON",
            Self::Block => "block form",
            Self::Proxy => "proxy YAML",
        })
    }
}

/// Tells the format of a file. The error says what was looked for.
pub fn detect(root: &Field<'_>) -> Result<Format, FieldError> {
    let tools: Vec<_> = root.member("tools").into_iter().flat_map(|tools| tools.members()).collect();
    let ours = OURS.iter().find_map(|name| root.member(name));
    if let Some(ours) = ours.or_else(|| tools.iter().find_map(|(_, tool)| OURS_IN_A_TOOL.iter().find_map(|name| tool.member(name)))) {
        return Err(error(ours.path(), "is a field of mcp-policy's own format: there is nothing to import"));
    }
    let mut found: Vec<(Format, Field<'_>)> = root.member("all_tools").map(|field| (Format::Gateway, field)).into_iter().collect();
    for (_, tool) in &tools {
        for (format, names) in IN_A_TOOL {
            if !found.iter().any(|(known, _)| *known == format) {
                found.extend(names.iter().find_map(|name| tool.member(name)).map(|field| (format, field)));
            }
        }
    }
    match found.as_slice() {
        [(format, _)] => Ok(*format),
        // Without a rule that tells the formats apart, all read the rest alike, but for a missing `default`.
        [] if root.member("default").is_some() && (!tools.is_empty() || root.member("hide").is_some()) => Ok(Format::Gateway),
        [] => Err(error("", unknown(root))),
        [first, .., last] => {
            let (format, field) = first;
            Err(error(last.1.path(), format!("is {}, but `{}` is {format}: the file mixes formats", last.0, field.path())))
        }
    }
}

fn error(path: &str, message: impl Into<String>) -> FieldError {
    FieldError { path: path.to_owned(), message: message.into() }
}

fn unknown(root: &Field<'_>) -> String {
    let fragment = root
        .members()
        .into_iter()
        .find(|(_, entry)| IN_A_TOOL.iter().flat_map(|(_, names)| names.iter()).any(|name| entry.member(name).is_some()));
    if let Some((key, _)) = fragment {
        return format!("`{key}` looks like the entry of a tool: put it under `tools:`, beside `version: \"1\"` and `default: deny`");
    }
    "is in none of the formats that import. Looked for: `all_tools`, or `require`, `deny_if` or `limits` in an entry of `tools` (gateway JSON); \
     `action`, `reason` or `rate_limit` in an entry of `tools` (block form); `rules` in an entry of `tools` (proxy YAML); \
     without any of these, `default` beside `hide` or `tools`, which all of them read alike"
        .to_owned()
}
