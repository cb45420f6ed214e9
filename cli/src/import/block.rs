//! Block form: `tools.<name>.{action, reason, rate_limit: {max, window}}`, one block for each tool.
//!
//! There: `action` is `allow` or `deny`, and a rate limit counts the calls of one session over a fixed window of seconds.

use mcp_policy::document::{Action, DefaultAction, RateLimit};

use super::difference::{SESSION, SLIDING};
use super::draft::{Draft, DraftRule, Noted};
use super::gateway::window;
use super::parts;
use super::source::{Field, Refusals};

/// Translates a file.
pub fn import(root: &Field<'_>, refusals: &mut Refusals) -> Option<Draft> {
    let absent = (DefaultAction::Deny, "not written there");
    let (fields, mut draft) = parts::top(root, &[], absent, refusals)?;
    for (tool, entry) in fields.get("tools").and_then(|tools| tools.object(refusals)).unwrap_or_default() {
        parts::tool_name(tool, &entry, refusals);
        if let Some(rule) = self::tool(&entry, refusals) {
            draft.tools.push((tool.to_owned(), rule));
        }
    }
    parts::finish(&mut draft);
    Some(draft)
}

fn tool(entry: &Field<'_>, refusals: &mut Refusals) -> Option<Noted<DraftRule>> {
    let fields = entry.fields(&["action", "reason", "rate_limit"], refusals)?;
    let mut rule = Noted::new(DraftRule { reason: parts::reason(&fields, "reason", refusals), ..DraftRule::default() }, entry.path());
    if let Some(limit) = fields.get("rate_limit") {
        let parts = limit.fields(&["max", "window"], refusals)?;
        let (Some(max), Some(window)) = (parts.get("max"), parts.get("window")) else {
            return limit.refuse(refusals, "needs `max` and `window`");
        };
        let (max, window) = (max.count(refusals), self::window(window, refusals));
        let limit = Noted::new(RateLimit { max: max?, window: window? }, limit.path());
        rule.value.rate_limit = Some(limit.differing(&SLIDING).differing(&SESSION));
    }
    let Some(action) = fields.get("action") else { return Some(rule) };
    match action.text(refusals)? {
        "allow" => {}
        "deny" => {
            let (reason, is_limited) = (rule.value.reason.take(), rule.value.rate_limit.is_some());
            parts::deny(&mut rule, reason);
            if is_limited {
                rule.note("left out, since every call is denied: the rate limit");
            }
        }
        "hide" => rule.value = DraftRule { action: Action::Hide, ..DraftRule::default() },
        "approve" | "require_approval" => {
            let reason = rule.value.reason.take();
            parts::ask(&mut rule, reason);
        }
        other => return action.refuse(refusals, format!("`{other}` is no action; that format knows allow, deny, hide and approve")),
    }
    Some(rule)
}
