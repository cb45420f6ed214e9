//! What the formats have in common: the top of the file, names of tools, reasons, approvals.

use mcp_policy::document::{Action, DefaultAction};
use mcp_policy::read::FieldError;

use super::condition::Translated;
use super::difference::{APPROVAL, EXACT, NOT_LISTED, PATTERN, PER_POD, UNDECIDED, UNNAMED};
use super::draft::{Draft, DraftEntry, DraftRule, Noted};
use super::source::{Field, Fields, Refusals};

/// Reads the top of a file: `version`, `description`, `default` and `hide`. `other` fields can stand there beside `tools`. `absent` is
/// what holds without `default`, and the comment that says so.
pub fn top<'a>(root: &Field<'a>, other: &[&str], absent: (DefaultAction, &str), refusals: &mut Refusals) -> Option<(Fields<'a>, Draft)> {
    let known = [&["version", "description", "default", "hide", "tools"], other].concat();
    let fields = root.fields(&known, refusals)?;
    if let Some(version) = fields.get("version")
        && ![serde_json::json!("1"), serde_json::json!(1)].contains(version.value())
    {
        version.refuse::<()>(refusals, format!("must be \"1\", but is {}", version.value()));
    }
    let draft = Draft {
        description: fields.get("description").and_then(|description| description.text(refusals)).map(str::to_owned),
        differences: Vec::new(),
        warnings: Vec::new(),
        default: default(&fields, root, absent, refusals),
        hide: hide(&fields, refusals),
        all_tools: None,
        tools: Vec::new(),
    };
    Some((fields, draft))
}

fn default(fields: &Fields<'_>, whole: &Field<'_>, absent: (DefaultAction, &str), refusals: &mut Refusals) -> Noted<DefaultAction> {
    let Some(field) = fields.get("default") else {
        let mut default = Noted::new(absent.0, whole.path());
        default.note(absent.1);
        return default;
    };
    let action = match field.text(refusals) {
        Some("allow") => DefaultAction::Allow,
        Some("deny") | None => DefaultAction::Deny,
        Some(other) => {
            field.refuse::<()>(refusals, format!("must be `allow` or `deny`, but is `{other}`"));
            DefaultAction::Deny
        }
    };
    Noted::new(action, field.path())
}

/// Exact names there, and `*` for all.
fn hide(fields: &Fields<'_>, refusals: &mut Refusals) -> Vec<Noted<String>> {
    let Some(entries) = fields.get("hide").and_then(|hide| hide.list(refusals)) else { return Vec::new() };
    let mut hidden = Vec::new();
    for entry in entries {
        let Some(name) = entry.text(refusals) else { continue };
        let pattern = Noted::new(name.to_owned(), entry.path());
        hidden.push(if name != "*" && is_glob(name) { pattern.differing(&PATTERN) } else { pattern });
    }
    hidden
}

/// Notes a key of `tools` that would be a pattern here.
pub fn tool_name(key: &str, entry: &Field<'_>, refusals: &mut Refusals) {
    if is_glob(key) {
        entry.refuse::<()>(
            refusals,
            format!("`{key}` is the name of one tool there, which none has, and would be a pattern here; write the names of the tools"),
        );
    }
}

fn is_glob(name: &str) -> bool {
    name.contains(['*', '?'])
}

/// Reads a text for the agent.
pub fn reason(fields: &Fields<'_>, name: &str, refusals: &mut Refusals) -> Option<String> {
    let field = fields.get(name)?;
    let text = field.text(refusals)?.trim();
    let characters = text.chars().count();
    if characters > MAX_REASON {
        return field.refuse(refusals, format!("has at most {MAX_REASON} characters here; this one has {characters}"));
    }
    (!text.is_empty()).then(|| text.to_owned())
}

const MAX_REASON: usize = 512;

/// One reason for rules of the original that each had their own. A rule of ours tells only one.
pub fn join_reasons(rule: &mut DraftRule, reasons: &[String]) {
    let mut distinct: Vec<&str> = Vec::new();
    for reason in reasons {
        if !distinct.contains(&reason.as_str()) {
            distinct.push(reason);
        }
    }
    let joined = distinct.join(" / ");
    match distinct.as_slice() {
        [] => {}
        [reason] => rule.reason = Some((*reason).to_owned()),
        [first, ..] => {
            let fits = joined.chars().count() <= MAX_REASON;
            rule.reason = Some(if fits { joined } else { (*first).to_owned() });
            let note = if fits {
                "one for the whole tool here; there each rule tells its own"
            } else {
                "the first of several: a tool has one here"
            };
            rule.reason_notes.push(note.to_owned());
        }
    }
}

/// Conditions that refuse together, as entries of `denyIf` or `approveIf`: where one of them needs alternatives, one entry for each.
pub fn entries(conditions: Vec<Translated>, reason: Option<&String>, origin: &str) -> Vec<Noted<DraftEntry>> {
    let mut combinations: Vec<Vec<_>> = vec![Vec::new()];
    for alternatives in conditions {
        combinations = combinations
            .into_iter()
            .flat_map(|combination| {
                alternatives.iter().map(move |condition| [combination.as_slice(), std::slice::from_ref(condition)].concat())
            })
            // More than a rule can have are refused when the policy is compiled.
            .take(MAX_ENTRIES)
            .collect();
    }
    combinations.into_iter().map(|conditions| Noted::new(DraftEntry { conditions, reason: reason.cloned() }, origin)).collect()
}

const MAX_ENTRIES: usize = 64;

/// Makes the rule deny every call.
pub fn deny(rule: &mut Noted<DraftRule>, reason: Option<String>) {
    rule.value = DraftRule { action: Action::Deny, reason, ..DraftRule::default() };
    rule.differences.push(&NOT_LISTED);
}

/// Makes each call wait for a person. What else the rule says stays: it holds for approved calls too.
pub fn ask(rule: &mut Noted<DraftRule>, reason: Option<String>) {
    rule.value.action = Action::Approve;
    rule.value.reason = reason.or_else(|| rule.value.reason.take());
    rule.value.reason_notes.clear();
    rule.differences.push(&APPROVAL);
}

/// Finishes a draft: what holds for the whole of it, and what its reader must know at once.
pub fn finish(draft: &mut Draft) {
    if draft.conditions().next().is_some() {
        draft.differences.extend([&UNDECIDED, &EXACT]);
    }
    if draft.rules().any(|rule| !rule.value.limits.is_empty() || rule.value.rate_limit.is_some()) {
        draft.differences.push(&PER_POD);
    }
    let weaker = draft.conditions().filter(|condition| condition.differences.contains(&&UNNAMED));
    let message = "less is refused than there: not all values that print alike can be listed, which are equal there";
    let warnings: Vec<_> = weaker.map(|condition| FieldError { path: condition.origin.clone(), message: message.to_owned() }).collect();
    draft.warnings.extend(warnings);
}
