//! Gateway JSON: `default`, `hide`, `all_tools.limits`, `tools.<name>.{require, deny_if, limits}`. The policies that MCP gateways attach
//! to a grant.
//!
//! There: every condition of `require` must hold; a call is denied where all conditions of an entry of `deny_if` hold, and an entry
//! without conditions always does. Limits count over fixed windows.

use mcp_policy::document::{DefaultAction, Limit, OnStoreError, Scope, Window};

use super::condition::{self, Purpose, Translated};
use super::difference::{AMOUNT, APPROVAL, GRANT, SLIDING};
use super::draft::{Draft, DraftRule, Noted};
use super::parts;
use super::source::{Field, Refusals};

/// Translates a file.
pub fn import(root: &Field<'_>, refusals: &mut Refusals) -> Option<Draft> {
    let absent = (DefaultAction::Deny, "not written there");
    let (fields, mut draft) = parts::top(root, &["all_tools"], absent, refusals)?;
    if let Some(entry) = fields.get("all_tools")
        && let Some(fields) = entry.fields(&["limits"], refusals)
    {
        let mut rule = Noted::new(DraftRule::default(), entry.path());
        limits(fields.get("limits"), &mut rule.value, refusals);
        draft.all_tools = Some(rule);
    }
    for (tool, entry) in fields.get("tools").and_then(|tools| tools.object(refusals)).unwrap_or_default() {
        parts::tool_name(tool, &entry, refusals);
        if entry.value().is_null() {
            entry.refuse::<()>(refusals, "must not be null; write `{}` to allow the tool without checks");
        } else if let Some(rule) = self::tool(&entry, refusals) {
            draft.tools.push((tool.to_owned(), rule));
        }
    }
    parts::finish(&mut draft);
    Some(draft)
}

fn tool(entry: &Field<'_>, refusals: &mut Refusals) -> Option<Noted<DraftRule>> {
    let fields = entry.fields(&["require", "deny_if", "limits"], refusals)?;
    let mut rule = Noted::new(DraftRule::default(), entry.path());
    let mut reasons = Vec::new();
    for required in fields.get("require").and_then(|require| require.list(refusals)).unwrap_or_default() {
        // One condition, or several with a reason: they must hold in either form.
        if required.member("conditions").is_some() {
            let fields = required.fields(&["conditions", "on_deny"], refusals)?;
            reasons.extend(parts::reason(&fields, "on_deny", refusals));
            for condition in fields.get("conditions").and_then(|conditions| conditions.list(refusals)).unwrap_or_default() {
                rule.value.require.extend(condition::argument(&condition, Purpose::Require, refusals).unwrap_or_default());
            }
        } else {
            rule.value.require.extend(condition::argument(&required, Purpose::Require, refusals).unwrap_or_default());
        }
    }
    parts::join_reasons(&mut rule.value, &reasons);
    let mut always = None;
    for denied in fields.get("deny_if").and_then(|deny_if| deny_if.list(refusals)).unwrap_or_default() {
        let Some(fields) = denied.fields(&["conditions", "on_deny"], refusals) else { continue };
        let reason = parts::reason(&fields, "on_deny", refusals);
        let Some(conditions) = fields.get("conditions") else {
            denied.refuse::<()>(refusals, "has no `conditions`; an empty list denies every call");
            continue;
        };
        let Some(conditions) = conditions.list(refusals) else { continue };
        let is_for_approval = reason.as_deref().is_some_and(asks_for_approval);
        if conditions.is_empty() {
            // The one that can never pass wins over the one that waits.
            if always.as_ref().is_none_or(|(_, waits)| *waits && !is_for_approval) {
                always = Some((reason, is_for_approval));
            }
            continue;
        }
        let translated: Vec<Translated> =
            conditions.iter().filter_map(|condition| condition::argument(condition, Purpose::Refuse, refusals)).collect();
        if translated.len() < conditions.len() {
            continue;
        }
        let mut entries = parts::entries(translated, reason.as_ref(), denied.path());
        if is_for_approval {
            for entry in &mut entries {
                entry.differences.push(&APPROVAL);
            }
            rule.value.approve_if.extend(entries);
        } else {
            rule.value.deny_if.extend(entries);
        }
    }
    limits(fields.get("limits"), &mut rule.value, refusals);
    match always {
        None => {}
        Some((reason, true)) => parts::ask(&mut rule, reason),
        Some((reason, false)) => {
            let leaves_out = fields.written("require").or(fields.written("limits")).is_some();
            parts::deny(&mut rule, reason);
            if leaves_out {
                rule.note("left out, since every call is denied: what else the entry says");
            }
        }
    }
    Some(rule)
}

fn asks_for_approval(reason: &str) -> bool {
    let reason = reason.to_ascii_lowercase();
    ["requires human approval", "requires approval", "require human approval", "require approval"]
        .iter()
        .any(|phrase| reason.contains(phrase))
}

fn limits(field: Option<&Field<'_>>, rule: &mut DraftRule, refusals: &mut Refusals) {
    for field in field.and_then(|limits| limits.list(refusals)).unwrap_or_default() {
        rule.limits.extend(limit(&field, refusals));
    }
}

fn limit(field: &Field<'_>, refusals: &mut Refusals) -> Option<Noted<Limit>> {
    let fields = field.fields(&["counter", "window", "max", "scope", "increment_from"], refusals)?;
    let (Some(counter), Some(window), Some(max)) = (fields.get("counter"), fields.get("window"), fields.get("max")) else {
        return field.refuse(refusals, "needs `counter`, `window` and `max`");
    };
    let counter = counter.text(refusals);
    let window = self::window(window, refusals);
    let max = max.number(refusals);
    let scope = match fields.get("scope").map(|scope| (scope, scope.value().as_str())) {
        None | Some((_, Some("grant"))) => Some(Scope::Grant),
        Some((_, Some("session"))) => Some(Scope::Session),
        Some((_, Some("server"))) => Some(Scope::Server),
        Some((scope, _)) => scope.refuse(refusals, format!("{} cannot be kept; grant, session and server can", scope.value())),
    };
    let increment_from = match fields.get("increment_from") {
        Some(path) => Some(condition::path(path, refusals)?),
        None => None,
    };
    let scope = scope?;
    let limit = Limit {
        counter: counter?.to_owned(),
        window: window?,
        max: max?.clone(),
        scope,
        increment_from,
        on_store_error: OnStoreError::default(),
    };
    let counts_amounts = limit.increment_from.is_some();
    let mut limit = Noted::new(limit, field.path()).differing(&SLIDING);
    if scope == Scope::Grant {
        limit = limit.differing(&GRANT);
    }
    Some(if counts_amounts { limit.differing(&AMOUNT) } else { limit })
}

/// Reads a window: a word, a duration or seconds.
pub fn window(field: &Field<'_>, refusals: &mut Refusals) -> Option<Window> {
    let window = match field.value() {
        serde_json::Value::String(text) => Window::Text(text.clone()),
        _ => Window::Seconds(field.count(refusals)?),
    };
    if window.seconds().is_none() {
        return field.refuse(refusals, format!("`{window}` is no window; write minute, hour, day, or seconds; from 1 second to 31 days"));
    }
    Some(window)
}
