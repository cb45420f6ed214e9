//! Proxy YAML: `tools.<name>.rules`, each with `action`, `conditions`, `on_deny`, `rate_limit` and `state`; `tools."*"` holds for every
//! call. The policy files of the Intercept proxy.
//!
//! There: every rule must let a call pass. `evaluate` asserts its conditions, `deny` refuses always, `require_approval` asks a person
//! where its conditions hold. A counter begins anew with each UTC minute, hour or day, is one for all callers, and is asked twice:
//! before the call by the condition as written, and with the call added to it.

use mcp_policy::document::{DefaultAction, Limit, OnStoreError, Op, Scope, Window};

use super::condition::{self, Purpose};
use super::difference::{AMOUNT, APPROVAL, FOR_ALL, SLIDING};
use super::draft::{Draft, DraftRule, Noted};
use super::parts;
use super::source::{Field, Fields, Refusals};

/// Translates a file.
pub fn import(root: &Field<'_>, refusals: &mut Refusals) -> Option<Draft> {
    let absent = (DefaultAction::Allow, "not written there, which means allow; here it would mean deny");
    let (fields, mut draft) = parts::top(root, &[], absent, refusals)?;
    for (tool, entry) in fields.get("tools").and_then(|tools| tools.object(refusals)).unwrap_or_default() {
        let mut translator = Tool { scope: if tool == "*" { "_global" } else { tool }, counters: Vec::new(), refusals };
        let rule = translator.rules(&entry);
        if tool == "*" {
            draft.all_tools = rule;
        } else {
            parts::tool_name(tool, &entry, refusals);
            draft.tools.extend(rule.map(|rule| (tool.to_owned(), rule)));
        }
    }
    parts::finish(&mut draft);
    Some(draft)
}

/// The rules of one tool become one rule.
struct Tool<'a> {
    /// How paths to its counters begin: `state.<scope>.`
    scope: &'a str,
    counters: Vec<String>,
    refusals: &'a mut Refusals,
}

/// What becomes of a tool's rules as they are read.
struct Reading {
    rule: Noted<DraftRule>,
    reasons: Vec<String>,
    /// A rule that denies every call.
    denies: Option<Always>,
    /// A rule that asks a person about every call.
    asks: Option<Always>,
}

/// A rule for every call.
struct Always {
    name: Option<String>,
    reason: Option<String>,
}

impl Tool<'_> {
    fn rules(&mut self, entry: &Field<'_>) -> Option<Noted<DraftRule>> {
        let mut reading = Reading { rule: Noted::new(DraftRule::default(), entry.path()), reasons: Vec::new(), denies: None, asks: None };
        if entry.value().is_null() {
            return Some(reading.rule);
        }
        let fields = entry.fields(&["rules"], self.refusals)?;
        let rules = match fields.get("rules") {
            Some(rules) => rules.list(self.refusals)?,
            None => Vec::new(),
        };
        for rule in &rules {
            self.rule(rule, &mut reading);
        }
        let Reading { mut rule, reasons, denies, asks } = reading;
        parts::join_reasons(&mut rule.value, &reasons);
        if let Some(always) = denies {
            parts::deny(&mut rule, always.reason);
            named(&mut rule, always.name.as_deref());
            match rules.len() {
                1 => {}
                2 => rule.note("left out, since every call is denied: another rule"),
                more => rule.note(format!("left out, since every call is denied: {} other rules", more - 1)),
            }
        } else if let Some(always) = asks {
            parts::ask(&mut rule, always.reason);
            named(&mut rule, always.name.as_deref());
        }
        Some(rule)
    }

    fn rule(&mut self, rule: &Field<'_>, reading: &mut Reading) -> Option<()> {
        let fields = rule.fields(&["name", "action", "conditions", "on_deny", "rate_limit", "state"], self.refusals)?;
        let name = fields.get("name").and_then(|name| name.text(self.refusals));
        let reason = parts::reason(&fields, "on_deny", self.refusals);
        let action = match fields.get("action") {
            Some(action) => action.text(self.refusals)?,
            None => "evaluate",
        };
        let conditions = match fields.get("conditions") {
            Some(conditions) => conditions.list(self.refusals)?,
            None => Vec::new(),
        };
        match action {
            "evaluate" if fields.get("rate_limit").is_some() => {
                self.refuse_beside(&fields, "rate_limit", &["conditions", "state"]);
                let mut limit = self.rate_limit(fields.get("rate_limit")?)?;
                named(&mut limit, name);
                reading.rule.value.limits.push(limit);
                reading.reasons.extend(reason);
            }
            "evaluate" => {
                if conditions.is_empty() {
                    return rule.refuse(self.refusals, "has no conditions to evaluate");
                }
                self.evaluate(&fields, &conditions, name, reading)?;
                reading.reasons.extend(reason);
            }
            "deny" => {
                self.refuse_beside(&fields, "action: deny", &["conditions", "rate_limit", "state"]);
                reading.denies.get_or_insert(Always { name: name.map(str::to_owned), reason });
            }
            "require_approval" => {
                self.refuse_beside(&fields, "action: require_approval", &["rate_limit", "state"]);
                if conditions.is_empty() {
                    reading.asks.get_or_insert(Always { name: name.map(str::to_owned), reason });
                    return Some(());
                }
                let triggers = conditions.iter().map(|condition| condition::argument(condition, Purpose::Refuse, self.refusals));
                let triggers = triggers.collect::<Option<Vec<_>>>()?;
                let mut entries = parts::entries(triggers, reason.as_ref(), rule.path());
                for entry in &mut entries {
                    named(entry, name);
                    entry.differences.push(&APPROVAL);
                }
                reading.rule.value.approve_if.extend(entries);
            }
            other => {
                let message = format!("`{other}` is no action; that format knows evaluate, deny and require_approval");
                fields.get("action")?.refuse::<()>(self.refusals, message);
            }
        }
        Some(())
    }

    /// What that format refuses too: it would not act.
    fn refuse_beside(&mut self, fields: &Fields<'_>, beside: &str, never: &[&str]) {
        for field in never.iter().filter_map(|name| fields.get(name)) {
            if *field.value() != serde_json::json!([]) {
                field.refuse::<()>(self.refusals, format!("cannot stand beside `{beside}`"));
            }
        }
    }

    /// The conditions of a rule that asserts them, and the counter that it limits.
    fn evaluate(&mut self, fields: &Fields<'_>, conditions: &[Field<'_>], name: Option<&str>, reading: &mut Reading) -> Option<()> {
        let is_on_state = |condition: &&Field<'_>| {
            condition.member("path").is_some_and(|path| path.value().as_str().is_some_and(|path| path.starts_with("state.")))
        };
        let (on_state, on_arguments): (Vec<_>, Vec<_>) = conditions.iter().partition(is_on_state);
        let mut first = name;
        for condition in on_arguments {
            for mut required in condition::argument(condition, Purpose::Require, self.refusals).unwrap_or_default() {
                named(&mut required, first.take());
                reading.rule.value.require.push(required);
            }
        }
        match (on_state.as_slice(), fields.get("state")) {
            ([], None) => {}
            ([], Some(state)) => {
                let counter = state.fields(&["counter", "window", "increment", "increment_from"], self.refusals)?;
                let counter = counter.get("counter").and_then(|counter| counter.text(self.refusals)).unwrap_or_default();
                if let Some(last) = reading.rule.value.require.last_mut() {
                    last.note(format!(
                        "left out: the counter `{counter}`, which no condition of the rule limits, and so is never counted there"
                    ));
                }
            }
            ([condition], state) => {
                let mut limit = self.limit(condition, state)?;
                named(&mut limit, name);
                reading.rule.value.limits.push(limit);
            }
            ([_, second, ..], _) => {
                return second.refuse(self.refusals, "asks about a counter a second time; import reads one such condition in a rule");
            }
        }
        Some(())
    }

    /// `10/minute`
    fn rate_limit(&mut self, field: &Field<'_>) -> Option<Noted<Limit>> {
        let text = field.text(self.refusals)?;
        let parsed = text.split_once('/').and_then(|(count, window)| Some((count.parse::<u64>().ok().filter(|count| *count > 0)?, window)));
        let Some((max, window)) = parsed.filter(|(_, window)| is_window(window)) else {
            return field.refuse(
                self.refusals,
                format!("`{text}` is no rate limit; write a whole number above 0 and minute, hour or day: `10/minute`"),
            );
        };
        self.counter(field, &format!("_rate_{window}"))?;
        Some(self.make(&format!("_rate_{window}"), window, max, None, field))
    }

    /// A condition on a counter, and the `state` that counts it.
    fn limit(&mut self, condition: &Field<'_>, state: Option<&Field<'_>>) -> Option<Noted<Limit>> {
        let asked = condition.fields(&condition::FIELDS, self.refusals)?;
        let path = asked.get("path")?;
        let Some(state) = state else {
            return path.refuse(self.refusals, format!("{} is counted by another rule; a limit here counts what it limits", path.value()));
        };
        let counts = state.fields(&["counter", "window", "increment", "increment_from"], self.refusals)?;
        let (Some(name), Some(window)) = (counts.get("counter"), counts.get("window")) else {
            return state.refuse(self.refusals, "needs `counter` and `window`");
        };
        let counter = name.text(self.refusals)?;
        let own = format!("state.{}.{counter}", self.scope);
        if path.text(self.refusals)? != own {
            return path.refuse(
                self.refusals,
                format!("{} is not the counter of the rule, `{own}`; a limit here counts what it limits", path.value()),
            );
        }
        self.counter(name, counter)?;
        let window_name = window.text(self.refusals)?;
        if !is_window(window_name) {
            return window.refuse(self.refusals, format!("`{window_name}` is no window; that format knows minute, hour and day"));
        }
        let op = condition::operator(&asked, condition, self.refusals)?;
        if !matches!(op, Op::Lt | Op::Lte) {
            return asked.get("op")?.refuse(self.refusals, "on a counter only `lt` and `lte` make a limit");
        }
        let Some(value) = asked.get("value") else { return condition.refuse(self.refusals, "has no `value`") };
        let bound = value.number(self.refusals)?;
        // As it is cut there: towards zero.
        #[allow(clippy::cast_possible_truncation, reason = "beyond 2^63 the bound is refused when the policy is compiled")]
        let bound = bound.as_i64().or_else(|| bound.as_f64().map(|bound| bound.trunc() as i64)).unwrap_or(i64::MAX);
        let admitted = if op == Op::Lt { bound.saturating_sub(1) } else { bound };
        let Ok(admitted) = u64::try_from(admitted) else {
            return value.refuse(self.refusals, "admits no call, not even of an amount of 0; write `action: deny`");
        };
        let amount = match counts.get("increment_from") {
            Some(path) => Some(condition::path(path, self.refusals)?),
            None => None,
        };
        let step = match counts.get("increment") {
            Some(step) if amount.is_none() => step.count(self.refusals)?.max(1),
            _ => 1,
        };
        let mut limit = self.make(counter, window_name, admitted / step, amount.clone(), condition);
        if op == Op::Lt {
            limit.note(format!("`lt {}` admits {admitted} there: the call itself is counted before it is compared", value.value()));
        }
        if step > 1 {
            limit.note(format!("each call adds {step} there, so {admitted} admits {}", admitted / step));
        }
        Some(if amount.is_some() { limit.differing(&AMOUNT) } else { limit })
    }

    /// Two rules of one tool cannot count under one name there.
    fn counter(&mut self, field: &Field<'_>, counter: &str) -> Option<()> {
        if counter.is_empty() {
            return field.refuse(self.refusals, "must not be empty");
        }
        if self.counters.iter().any(|known| known == counter) {
            return field
                .refuse(self.refusals, format!("counter `{counter}` stands in another rule of the tool too; give it a name of its own"));
        }
        self.counters.push(counter.to_owned());
        Some(())
    }

    fn make(&self, counter: &str, window: &str, max: u64, increment_from: Option<String>, field: &Field<'_>) -> Noted<Limit> {
        let limit = Limit {
            counter: format!("{}.{counter}", self.scope),
            window: Window::Text(window.to_owned()),
            max: max.into(),
            scope: Scope::Server,
            increment_from,
            on_store_error: OnStoreError::default(),
        };
        Noted::new(limit, field.path()).differing(&SLIDING).differing(&FOR_ALL)
    }
}

fn is_window(text: &str) -> bool {
    ["minute", "hour", "day"].contains(&text)
}

/// A rule's name stands first.
fn named<T>(part: &mut Noted<T>, name: Option<&str>) {
    if let Some(name) = name {
        part.notes.insert(0, name.to_owned());
    }
}
