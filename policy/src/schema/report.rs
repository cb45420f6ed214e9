//! What is wrong with arguments, and with schemas, in words.

use std::collections::HashMap;

use jsonschema::error::ValidationErrorKind;
use jsonschema::paths::Location;
use jsonschema::{ValidationError, Validator};
use serde_json::Value;

/// Longer arguments are told that they are wrong, not where: a part that is wrong costs a text.
pub(super) const MAX_BYTES: usize = 4096;
/// Deeper arguments are not told where, if the schema is recursive: the number of texts can double with each level.
pub(super) const MAX_LEVELS: usize = 8;
const MAX_ERRORS: usize = 3;
const MAX_CHARACTERS: usize = 160;

/// The first few things that are wrong, each with its place: `args.region: "x" is not one of ["y"]`.
pub(super) fn wrong(validator: &Validator, arguments: &Value, patterns: &HashMap<String, String>) -> String {
    let mut errors = validator.iter_errors(arguments);
    let mut texts: Vec<_> = errors.by_ref().take(MAX_ERRORS).map(|error| text(&error, arguments, patterns)).collect();
    match errors.count() {
        0 => {}
        more => texts.push(format!("and {more} more")),
    }
    texts.join("; ")
}

/// Whether a value has at most so many levels.
pub(super) fn is_within(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(elements) => levels > 0 && elements.iter().all(|element| is_within(element, levels - 1)),
        Value::Object(members) => levels > 0 && members.values().all(|member| is_within(member, levels - 1)),
        _ => true,
    }
}

/// A text, cut where it becomes too long for one line.
pub(super) fn shortened(text: &str) -> String {
    match text.char_indices().nth(MAX_CHARACTERS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A place in a schema as policies name it: `properties.id.minLength`.
pub(super) fn place_in_schema(location: &Location) -> String {
    let steps = location.as_str().split('/').skip(1).map(unescape);
    let is_index = |token: &str| token.bytes().all(|byte| byte.is_ascii_digit());
    let place: String = steps.map(|token| if is_index(&token) { format!("[{token}]") } else { format!(".{token}") }).collect();
    place.trim_start_matches('.').to_owned()
}

fn text(error: &ValidationError<'_>, arguments: &Value, patterns: &HashMap<String, String>) -> String {
    let message = match error.kind() {
        ValidationErrorKind::Pattern { pattern } => {
            let written = patterns.get(pattern).unwrap_or(pattern);
            format!("{} does not match \"{written}\"", error.instance())
        }
        _ => error.to_string(),
    };
    format!("{}: {}", place_in_arguments(error.instance_path().as_str(), arguments), shortened(&message))
}

/// A place in arguments, given as a JSON pointer, as paths of conditions are written.
pub(super) fn place_in_arguments(pointer: &str, arguments: &Value) -> String {
    let mut value = Some(arguments);
    let mut step = |token: String| {
        if let Some(Value::Array(elements)) = value {
            value = token.parse::<usize>().ok().and_then(|index| elements.get(index));
            return format!("[{token}]");
        }
        value = value.and_then(|value| value.get(&token));
        let is_name = token.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
        if is_name { format!(".{token}") } else { format!("[{}]", Value::from(token)) }
    };
    let steps: String = pointer.split('/').skip(1).map(|token| step(unescape(token))).collect();
    format!("args{steps}")
}

/// A token of a JSON pointer (RFC 6901).
fn unescape(token: &str) -> String {
    token.replace("~1", "/").replace("~0", "~")
}
