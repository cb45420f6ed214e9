//! What is told of a field that is wrong, and for the mistakes that people make, what to write instead.

use serde_json::{Map, Value};

use super::located::Place;
use super::shape;
use super::{CLUSTER_KIND, KIND};
use crate::value;

/// Spellings of gateways' formats, and the field that means the same, if there is one.
const GATEWAY_FIELDS: [(&str, &str); 8] = [
    ("all_tools", "allTools"),
    ("deny_if", "denyIf"),
    ("increment_from", "incrementFrom"),
    ("max_bytes", "arguments.maxBytes"),
    ("on_deny", "reason"),
    ("rate_limit", "rateLimit"),
    ("rules", ""),
    ("state", "limits"),
];
/// Words of gateways' formats for what a rule does.
const GATEWAY_ACTIONS: [&str; 2] = ["evaluate", "require_approval"];
/// Signs that people write for operators.
const SIGNS: [(&str, &str); 12] = [
    ("=", "eq"),
    ("==", "eq"),
    ("!=", "neq"),
    ("ne", "neq"),
    ("<", "lt"),
    ("<=", "lte"),
    ("le", "lte"),
    (">", "gt"),
    (">=", "gte"),
    ("ge", "gte"),
    ("=~", "regex"),
    ("matches", "regex"),
];

/// Of a field that nothing knows here. `around` are the objects that it is in, outermost first.
pub(super) fn unknown_field(name: &str, around: &[(String, &Map<String, Value>)]) -> String {
    let Some(((_, here), further_out)) = around.split_last() else { return "unknown field".to_owned() };
    if let Some((_, ours)) = GATEWAY_FIELDS.iter().find(|(theirs, _)| *theirs == name) {
        let ours = if ours.is_empty() { String::new() } else { format!(", here it is `{ours}`") };
        return format!("unknown field; it is a gateway's spelling{ours}; `mcp-policy import` converts whole files");
    }
    if here.contains_key("matchLabels") {
        return "unknown field; labels go under `matchLabels`".to_owned();
    }
    if name == "namespaceSelector" && further_out.is_empty() {
        return format!("belongs to a {CLUSTER_KIND}; an {KIND} governs pods of its own namespace");
    }
    let holders: Vec<_> = here.iter().filter_map(|(field, shape)| holder(field, shape, name)).collect();
    if !holders.is_empty() {
        return format!("unknown field here; it belongs into {}", holders.join(" or "));
    }
    if let Some((path, _)) = further_out.iter().rev().find(|(_, fields)| fields.contains_key(name)) {
        let place = if path.is_empty() { "to the top of the document".to_owned() } else { format!("into `{path}`") };
        return format!("unknown field here; it belongs further out, {place}");
    }
    match nearest(name, here.keys().map(String::as_str)) {
        Some(near) => format!("unknown field; did you mean `{near}`?"),
        None => format!("unknown field; known here: {}", here.keys().map(String::as_str).collect::<Vec<_>>().join(", ")),
    }
}

/// Words for the place within `field` that knows `name`, if there is one.
fn holder(field: &str, field_shape: &Value, name: &str) -> Option<String> {
    let field_shape = shape::essence(field_shape);
    let knows = |inner: &Value| shape::fields(inner).is_some_and(|fields| fields.contains_key(name));
    if knows(field_shape) {
        return Some(format!("`{field}`"));
    }
    let element = field_shape.get("items").or_else(|| field_shape.get("additionalProperties"));
    element.is_some_and(knows).then(|| format!("an entry of `{field}`"))
}

/// Of a text that is none of those that a field takes.
pub(super) fn variant(text: &str, known: &[&str]) -> String {
    let list = listed(known);
    if let [only] = known {
        return format!("must be `{only}`, but is `{text}`");
    }
    let wrong = format!("`{text}` is not one of {list}");
    if GATEWAY_ACTIONS.contains(&text) && known.contains(&"hide") {
        return format!("{wrong}; it is a gateway's word: `mcp-policy import` converts whole files");
    }
    let sign = SIGNS.iter().find(|(sign, operator)| *sign == text && known.contains(operator)).map(|(_, operator)| *operator);
    match sign.or_else(|| nearest(text, known.iter().copied())) {
        Some(near) => format!("{wrong}; did you mean `{near}`?"),
        None => wrong,
    }
}

/// Of a value that is no text, where a field takes one of some texts.
pub(super) fn no_text(value: &Value, known: &[&str]) -> String {
    match known {
        [only] => format!("must be the string \"{only}\", in quotes"),
        known => format!("must be one of {}, but is {}", listed(known), describe(value)),
    }
}

fn listed(known: &[&str]) -> String {
    known.iter().map(|known| format!("`{known}`")).collect::<Vec<_>>().join(", ")
}

/// Of a value of the wrong type.
pub(super) fn wrong_type(wanted: &str, value: &Value, shape: &Value) -> String {
    let is_rule = shape::fields(shape).is_some_and(|fields| fields.contains_key("rateLimit"));
    if value.is_null() && is_rule {
        return "must not be null; write `{}` to allow the tool without checks".to_owned();
    }
    let wrong = format!("must be {wanted}, but is {}", describe(value));
    match value {
        Value::String(text) if wanted.ends_with("number") && text.parse::<f64>().is_ok() => format!("{wrong}; take the quotes away"),
        Value::String(text) if wanted == "a list" => format!("{wrong}; write `[\"{text}\"]`"),
        Value::String(text) if is_rule && ["allow", "approve", "deny", "hide"].contains(&text.as_str()) => {
            format!("{wrong}; write `{{action: {text}}}`")
        }
        Value::Object(_) if wanted == "a list" => format!("{wrong}; begin each entry with `- `"),
        Value::Number(_) | Value::Bool(_) if wanted == "a string" => format!("{wrong}; put it in quotes"),
        _ => wrong,
    }
}

/// Of a field that must be there.
pub(super) fn missing(name: &str) -> &'static str {
    match name {
        "selector" => "is required; `{}` selects every pod of the namespace",
        "namespaceSelector" => "is required; `{}` selects every namespace but those of the system",
        "conditions" => "is required; `action: deny` refuses every call",
        _ => "is required",
    }
}

/// Of a text that is not YAML.
pub(super) fn syntax(text: &str, place: Option<Place>, cause: &serde_saphyr::Error) -> String {
    let line = place.and_then(|place| text.lines().nth(usize::try_from(place.line).ok()?.checked_sub(1)?));
    if line.is_some_and(|line| line.trim_start_matches(' ').starts_with('\t')) {
        return "a tab cannot indent YAML; write spaces".to_owned();
    }
    let cause = original(cause);
    match cause {
        serde_saphyr::Error::DuplicateMappingKey { key: Some(key), .. } => {
            format!("the key `{key}` is given twice; which one counts would be anyone's guess")
        }
        serde_saphyr::Error::DuplicateMappingKey { key: None, .. } => "a key is given twice".to_owned(),
        serde_saphyr::Error::UnknownAnchor { .. } => "an alias (`*name`) stands for an anchor (`&name`) that is not there".to_owned(),
        serde_saphyr::Error::Budget { .. }
        | serde_saphyr::Error::AliasReplayLimitExceeded { .. }
        | serde_saphyr::Error::AliasExpansionLimitExceeded { .. }
        | serde_saphyr::Error::AliasReplayStackDepthExceeded { .. } => {
            format!("the document is too large, too deep, or its anchors expand to too much: {}", words(cause))
        }
        _ => words(cause),
    }
}

/// The error itself, which may be wrapped in where an alias stands.
fn original(cause: &serde_saphyr::Error) -> &serde_saphyr::Error {
    match cause.without_snippet() {
        serde_saphyr::Error::AliasError { error, .. } => original(error),
        cause => cause,
    }
}

/// The error's words without the place, which is told before them.
fn words(cause: &serde_saphyr::Error) -> String {
    let whole = cause.to_string();
    let end = cause.location().and_then(|location| whole.find(&format!(" at line {}", location.line())));
    whole[..end.unwrap_or(whole.len())].to_owned()
}

/// What a value is, as an error names it.
pub(super) fn describe(value: &Value) -> &'static str {
    if value.is_null() { "missing or null" } else { value::describe(value) }
}

/// The known word that was probably meant: a few letters away, or the same but for case and `_`.
fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |word: &str| word.chars().filter(|c| !matches!(c, '_' | '-')).flat_map(char::to_lowercase).collect::<Vec<_>>();
    let word = plain(word);
    let allowed = (word.len() / 3).clamp(1, 3);
    known.map(|known| (distance(&word, &plain(known)), known)).filter(|(distance, _)| *distance <= allowed).min().map(|(_, known)| known)
}

/// How many letters must be added, removed, changed or swapped with the next to make one word of the other.
fn distance(a: &[char], b: &[char]) -> usize {
    // Words of a policy's author can be long; a known one is not, so what is far away is told without counting.
    if a.len().abs_diff(b.len()) > 3 {
        return usize::MAX;
    }
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = change.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_one_that_could_be_meant() {
        let known = ["allow", "deny", "hide", "denyIf", "limits", "rateLimit"];
        let cases = [
            ("limts", Some("limits")),
            ("limit", Some("limits")),
            ("denyif", Some("denyIf")),
            ("DENY", Some("deny")),
            ("rate-limit", Some("rateLimit")),
            ("dney", Some("deny")),
            ("x", None),
            ("", None),
            ("conditions", None),
            ("limitslimitslimits", None),
        ];
        for (word, expected) in cases {
            assert_eq!(nearest(word, known.into_iter()), expected, "{word}");
        }
    }
}
