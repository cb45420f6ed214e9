//! A draft as the YAML of an `McpPolicy`, with its comments. Whatever a text holds, it is read back as it was.

use std::fmt::Write as _;

use mcp_policy::document::{Action, Condition, DefaultAction, Limit, OnStoreError, RateLimit, Window};
use mcp_policy::read::{API_VERSION, KIND};
use serde_json::Value;

use super::draft::{Draft, DraftEntry, DraftRule, Noted};

/// Columns that comments fill, and up to which a condition or a limit stands in one line.
const WIDTH: usize = 110;

/// Prints an `McpPolicy` of this name. `origin` says in a few words what it was made from.
pub fn manifest(name: &str, origin: &str, draft: &Draft) -> String {
    let mut printer = Printer::default();
    printer.comment(0, origin);
    if let Some(description) = &draft.description {
        printer.comment(0, description);
    }
    let differences = draft.all_differences();
    if !differences.is_empty() {
        printer.line(0, "#");
        printer.comment(0, "What is different here:");
        for difference in differences {
            printer.item(difference.everywhere);
        }
    }
    printer.line(0, &format!("apiVersion: {API_VERSION}"));
    printer.line(0, &format!("kind: {KIND}"));
    printer.line(0, "metadata:");
    printer.line(1, &format!("name: {}", scalar(name)));
    printer.line(1, "# namespace: where the pods of the server run; `kubectl apply -n` says it too");
    printer.line(0, "spec:");
    printer.line(1, "# FILL IN: the pods that run the server. Until then nothing is governed, and the policy is not accepted.");
    printer.line(1, "# selector: {matchLabels: {app: my-mcp-server}}");
    printer.line(1, "version: \"1\"");
    printer.notes(1, &draft.default);
    printer.line(1, if draft.default.value == DefaultAction::Allow { "default: allow" } else { "default: deny" });
    if !draft.hide.is_empty() {
        printer.line(1, "hide:");
        for pattern in &draft.hide {
            printer.notes(2, pattern);
            printer.line(2, &format!("- {}", scalar(&pattern.value)));
        }
    }
    if let Some(rule) = &draft.all_tools {
        printer.rule(1, "allTools", rule);
    }
    if !draft.tools.is_empty() {
        printer.line(1, "tools:");
        for (tool, rule) in &draft.tools {
            printer.rule(2, tool, rule);
        }
    }
    printer.out
}

#[derive(Default)]
struct Printer {
    out: String,
}

impl Printer {
    fn line(&mut self, indent: usize, text: &str) {
        let _ = writeln!(self.out, "{:width$}{text}", "", width = indent * 2);
    }

    fn notes<T>(&mut self, indent: usize, part: &Noted<T>) {
        for note in &part.notes {
            self.comment(indent, note);
        }
        if !part.differences.is_empty() {
            self.comment(indent, &part.differences.iter().map(|difference| difference.here).collect::<Vec<_>>().join("; "));
        }
    }

    fn comment(&mut self, indent: usize, text: &str) {
        self.wrapped(indent, text, "# ", "# ");
    }

    fn item(&mut self, text: &str) {
        self.wrapped(0, text, "# - ", "#   ");
    }

    /// Breaks between words. What is no printable character could end the comment, and becomes a space or a question mark.
    fn wrapped(&mut self, indent: usize, text: &str, first: &str, next: &str) {
        let text: String = text
            .chars()
            .map(|c| match c {
                c if c.is_whitespace() => ' ',
                c if !is_printable(c) => '?',
                c => c,
            })
            .collect();
        let mut line = first.to_owned();
        let mut is_empty = true;
        for word in text.split_whitespace() {
            if !is_empty && indent * 2 + line.chars().count() + 1 + word.chars().count() > WIDTH {
                self.line(indent, &line);
                next.clone_into(&mut line);
                is_empty = true;
            }
            if !is_empty {
                line.push(' ');
            }
            line.push_str(word);
            is_empty = false;
        }
        self.line(indent, line.trim_end());
    }

    fn rule(&mut self, indent: usize, key: &str, rule: &Noted<DraftRule>) {
        self.notes(indent, rule);
        let DraftRule { action, reason, reason_notes, require, deny_if, approve_if, limits, rate_limit } = &rule.value;
        let is_empty = *action == Action::Allow
            && reason.is_none()
            && require.is_empty()
            && deny_if.is_empty()
            && approve_if.is_empty()
            && limits.is_empty()
            && rate_limit.is_none();
        if is_empty {
            self.line(indent, &format!("{}: {{}}", scalar(key)));
            return;
        }
        self.line(indent, &format!("{}:", scalar(key)));
        let indent = indent + 1;
        match action {
            Action::Allow => {}
            Action::Approve => self.line(indent, "action: approve"),
            Action::Deny => self.line(indent, "action: deny"),
            Action::Hide => self.line(indent, "action: hide"),
        }
        if let Some(reason) = reason {
            for note in reason_notes {
                self.comment(indent, note);
            }
            self.line(indent, &format!("reason: {}", scalar(reason)));
        }
        if !require.is_empty() {
            self.line(indent, "require:");
            self.conditions(indent + 1, require);
        }
        self.entries(indent, "denyIf", deny_if);
        self.entries(indent, "approveIf", approve_if);
        if !limits.is_empty() {
            self.line(indent, "limits:");
            for limit in limits {
                self.notes(indent + 1, limit);
                self.entry(indent + 1, &limit_members(&limit.value));
            }
        }
        if let Some(limit) = rate_limit {
            self.notes(indent, limit);
            let RateLimit { max, window } = &limit.value;
            self.line(indent, &format!("rateLimit: {{max: {max}, window: {}}}", self::window(window)));
        }
    }

    fn entries(&mut self, indent: usize, field: &str, entries: &[Noted<DraftEntry>]) {
        if !entries.is_empty() {
            self.line(indent, &format!("{field}:"));
        }
        for entry in entries {
            self.notes(indent + 1, entry);
            self.line(indent + 1, "- conditions:");
            self.conditions(indent + 3, &entry.value.conditions);
            if let Some(reason) = &entry.value.reason {
                self.line(indent + 2, &format!("reason: {}", scalar(reason)));
            }
        }
    }

    fn conditions(&mut self, indent: usize, conditions: &[Noted<Condition>]) {
        for condition in conditions {
            self.notes(indent, condition);
            self.entry(indent, &condition_members(&condition.value));
        }
    }

    /// An element of a list: in one line where it fits, else a member in each.
    fn entry(&mut self, indent: usize, members: &[(&str, String)]) {
        let members: Vec<_> = members.iter().map(|(key, value)| format!("{key}: {value}")).collect();
        let line = format!("- {{{}}}", members.join(", "));
        if indent * 2 + line.chars().count() <= WIDTH {
            self.line(indent, &line);
            return;
        }
        for (i, member) in members.iter().enumerate() {
            self.line(indent, &format!("{} {member}", if i == 0 { '-' } else { ' ' }));
        }
    }
}

fn condition_members(condition: &Condition) -> Vec<(&'static str, String)> {
    let Condition { path, op, value, cel } = condition;
    let mut members = Vec::new();
    members.extend(path.as_ref().map(|path| ("path", scalar(path))));
    members.extend(op.and_then(|op| serde_json::to_value(op).ok()).map(|op| ("op", flow(&op))));
    members.extend(value.as_ref().map(|value| ("value", flow(value))));
    members.extend(cel.as_ref().map(|cel| ("cel", scalar(cel))));
    members
}

fn limit_members(limit: &Limit) -> Vec<(&'static str, String)> {
    let Limit { counter, window, max, scope, increment_from, on_store_error } = limit;
    let mut members = vec![
        ("counter", scalar(counter)),
        ("window", self::window(window)),
        ("max", max.to_string()),
        ("scope", scope.as_str().to_owned()),
    ];
    members.extend(increment_from.as_ref().map(|path| ("incrementFrom", scalar(path))));
    if *on_store_error == OnStoreError::Local {
        members.push(("onStoreError", "local".to_owned()));
    }
    members
}

fn window(window: &Window) -> String {
    match window {
        Window::Seconds(seconds) => seconds.to_string(),
        Window::Text(text) => scalar(text),
    }
}

/// A value in flow style.
fn flow(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => scalar(text),
        Value::Array(elements) => format!("[{}]", elements.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Object(members) => {
            format!("{{{}}}", members.iter().map(|(key, value)| format!("{}: {}", scalar(key), flow(value))).collect::<Vec<_>>().join(", "))
        }
    }
}

/// A text as a YAML scalar, in quotes unless it is a plain word to every reader of YAML.
fn scalar(text: &str) -> String {
    const RESERVED: [&str; 11] = ["null", "true", "false", "yes", "no", "on", "off", "y", "n", "inf", "nan"];
    let is_word = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'/'))
        && !RESERVED.contains(&text.to_ascii_lowercase().as_str());
    if is_word {
        return text.to_owned();
    }
    if text.contains(['"', '\\']) && text.chars().all(is_printable) {
        return format!("'{}'", text.replace('\'', "''"));
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if is_printable(c) => quoted.push(c),
            c => {
                let _ = write!(quoted, "\\U{:08X}", u32::from(c));
            }
        }
    }
    quoted.push('"');
    quoted
}

/// Whether a character can stand in a line of YAML as it is, and is seen by whoever reads it.
fn is_printable(c: char) -> bool {
    match c {
        // Line and paragraph separators, marks that turn the direction of writing, the byte order mark, and what is no character.
        '\u{2028}'
        | '\u{2029}'
        | '\u{200B}'..='\u{200F}'
        | '\u{202A}'..='\u{202E}'
        | '\u{2060}'..='\u{206F}'
        | '\u{FEFF}'
        | '\u{FFFE}'
        | '\u{FFFF}' => false,
        c => !c.is_control(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_text_is_quoted_where_it_must_be() {
        for (text, expected) in [
            ("main", "main"),
            ("create_issue._rate_hour", "create_issue._rate_hour"),
            ("args.a-b", "args.a-b"),
            ("", "\"\""),
            ("1", "\"1\""),
            ("Null", "\"Null\""),
            ("no", "\"no\""),
            ("a: b", "\"a: b\""),
            ("it's", "\"it's\""),
            ("*", "\"*\""),
            ("~", "\"~\""),
            ("-", "\"-\""),
            (r"^\d+$", r"'^\d+$'"),
            (r#"say "it's""#, r#"'say "it''s"'"#),
            ("a\nb", "\"a\\nb\""),
            ("\u{202E}", "\"\\U0000202E\""),
        ] {
            assert_eq!(scalar(text), expected, "{text:?}");
        }
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (-1e9..1e9).prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            "(null|true|no|~|\\.inf|0x1|1e3|1_0|- |: |#| |'|\"|\\\\|\\n|\\t|\\[|\\{|,|&a|\\*a|!t|%|@|`|a){0,4}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..4).prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_value_is_read_back_as_it_was(value in json(), comment in any::<String>()) {
            let mut printer = Printer::default();
            printer.comment(1, &comment);
            printer.entry(1, &[("value", flow(&value))]);
            let read = super::super::source::read("printed", &printer.out);
            prop_assert!(read.is_ok(), "{:?}\n{}", read, printer.out);
            prop_assert_eq!(&read.unwrap().value, &serde_json::json!([{"value": value}]), "{}", printer.out);
        }
    }
}
