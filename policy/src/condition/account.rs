//! What a condition asks and what it finds, for people who explain a decision. It shows values, so it is never for logs.

use super::test::{Operand, Test};
use crate::document::Op;
use crate::path::{Found, Path};
use crate::value::Value;

/// Longer values are cut.
const MAX_CHARACTERS: usize = 80;
/// Of more values under `[*]`, the first are shown.
const MAX_VALUES: usize = 4;

/// `args.region is "us-west-2"; asked: in ["eu-west-1"]`
pub(super) fn argument(path: &Path, test: &Test, args: &Value<'_>) -> String {
    let mut all = path.find(args);
    let told = |found| match found {
        Found::Value(value) => json(value),
        Found::Missing => "missing".to_owned(),
        Found::Blocked(_) => "not to be reached".to_owned(),
    };
    let shown: Vec<_> = all.by_ref().take(MAX_VALUES).map(told).collect();
    let found = match all.count() {
        0 if shown.is_empty() => "has no elements".to_owned(),
        0 => format!("is {}", shown.join(", ")),
        more => format!("is {} and {more} more", shown.join(", ")),
    };
    format!("{path} {found}; asked: {}", asked(test))
}

/// `args is {"amount":7}; asked: args.amount < 5`
pub(super) fn expression(text: &str, args: &Value<'_>) -> String {
    let line: Vec<_> = text.split_whitespace().collect();
    format!("args is {}; asked: {}", json(args), cut(line.join(" ")))
}

fn asked(test: &Test) -> String {
    let operand = match &test.operand {
        Operand::Value(value) => json(value),
        Operand::List(list) => {
            let mut written = Text::default();
            written.list(list);
            written.finish()
        }
        Operand::Number(number) => number.to_string(),
        Operand::Regex(regex) => cut(serde_json::Value::from(regex.as_str()).to_string()),
        Operand::Present(wanted) => wanted.to_string(),
    };
    format!("{} {operand}", word(test.op))
}

/// The operator as policies write it.
fn word(op: Op) -> &'static str {
    match op {
        Op::Eq => "eq",
        Op::Neq => "neq",
        Op::In => "in",
        Op::NotIn => "not_in",
        Op::Lt => "lt",
        Op::Lte => "lte",
        Op::Gt => "gt",
        Op::Gte => "gte",
        Op::Regex => "regex",
        Op::Contains => "contains",
        Op::Exists => "exists",
    }
}

/// A value as JSON, cut.
pub(super) fn json(value: &Value<'_>) -> String {
    let mut text = Text::default();
    text.value(value);
    text.finish()
}

fn cut(text: String) -> String {
    match text.char_indices().nth(MAX_CHARACTERS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// JSON that stops when it is long enough, whatever the size of the value.
#[derive(Default)]
struct Text(String);

impl Text {
    fn is_full(&self) -> bool {
        // A character has at most four bytes.
        self.0.len() > 4 * MAX_CHARACTERS
    }

    fn finish(self) -> String {
        cut(self.0)
    }

    fn value(&mut self, value: &Value<'_>) {
        match value {
            Value::Null => self.0.push_str("null"),
            Value::Bool(value) => self.0.push_str(if *value { "true" } else { "false" }),
            Value::Number(number) => self.0.push_str(&number.to_string()),
            Value::String(text) => self.string(text),
            Value::Array(elements) => self.list(elements),
            Value::Object(members) => {
                self.0.push('{');
                for (i, (key, value)) in members.iter().enumerate() {
                    if self.is_full() {
                        break;
                    }
                    if i > 0 {
                        self.0.push(',');
                    }
                    self.string(key);
                    self.0.push(':');
                    self.value(value);
                }
                self.0.push('}');
            }
        }
    }

    fn list(&mut self, elements: &[Value<'_>]) {
        self.0.push('[');
        for (i, element) in elements.iter().enumerate() {
            if self.is_full() {
                break;
            }
            if i > 0 {
                self.0.push(',');
            }
            self.value(element);
        }
        self.0.push(']');
    }

    fn string(&mut self, text: &str) {
        // One character more than is shown, so that the cut is seen.
        let end = text.char_indices().nth(MAX_CHARACTERS + 1).map_or(text.len(), |(end, _)| end);
        self.0.push_str(&serde_json::Value::from(&text[..end]).to_string());
    }
}
