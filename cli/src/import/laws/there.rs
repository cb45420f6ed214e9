//! What the neighbours do with a call, written from their documentation: it reads the original file and shares nothing with the import.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::super::format::Format;

/// A call.
#[derive(Clone, Debug)]
pub struct Step {
    /// Seconds since the call before it.
    pub after: u64,
    pub tool: String,
    pub arguments: Value,
    /// One of several callers. A grant is one caller.
    pub caller: u8,
    pub session: u8,
    /// Whether the tool did not run after all.
    pub failed: bool,
}

/// The other product, in the middle of its work.
pub struct There<'a> {
    format: Format,
    policy: &'a Value,
    /// The number of the window, and what it counts.
    counters: HashMap<String, (u64, i64)>,
}

/// A counter that a call would be counted in: name, seconds of the window, what the call adds, and what the window admits.
type Claim = (String, u64, i64, i64);

const NOTHING: &Value = &Value::Null;

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn seconds(window: &Value) -> u64 {
    match window.as_str() {
        Some("minute") => 60,
        Some("hour") => 3600,
        Some("day") => 86_400,
        _ => window.as_u64().unwrap(),
    }
}

impl<'a> There<'a> {
    pub fn new(format: Format, policy: &'a Value) -> Self {
        Self { format, policy, counters: HashMap::new() }
    }

    /// Whether the call passes. Then it is counted, and what it was counted in is given back.
    pub fn admits(&mut self, step: &Step, now: u64) -> Option<Vec<(String, i64)>> {
        let hidden = list(self.policy, "hide");
        let is_hidden = hidden.iter().any(|name| name == "*" || name == step.tool.as_str());
        let entry = self.policy.get("tools").and_then(|tools| tools.get(&step.tool));
        let denies_others = match self.format {
            Format::Proxy => text(self.policy, "default") == "deny",
            _ => text(self.policy, "default") != "allow",
        };
        if is_hidden || (entry.is_none() && denies_others) {
            return None;
        }
        let entry = entry.unwrap_or(NOTHING);
        let claims = match self.format {
            Format::Gateway => self.gateway(entry, step)?,
            Format::Block => Self::block(entry, step)?,
            Format::Proxy => self.proxy(entry, step, now)?,
        };
        let mut taken = Vec::new();
        for (name, window, amount, admitted) in claims {
            let (number, used) = self.counters.entry(name.clone()).or_insert((0, 0));
            if *number != now / window {
                (*number, *used) = (now / window, 0);
            }
            if *used + amount > admitted {
                self.give_back(&taken);
                return None;
            }
            *used += amount;
            taken.push((name, amount));
        }
        Some(taken)
    }

    /// The call failed, so it does not count.
    pub fn give_back(&mut self, taken: &[(String, i64)]) {
        for (name, amount) in taken {
            let (_, used) = self.counters.get_mut(name).unwrap();
            *used = (*used - amount).max(0);
        }
    }

    fn gateway(&self, entry: &Value, step: &Step) -> Option<Vec<Claim>> {
        for required in list(entry, "require") {
            let all = if required.get("conditions").is_some() { list(required, "conditions") } else { std::slice::from_ref(required) };
            if !all.iter().all(|condition| holds(condition, &step.arguments, false)) {
                return None;
            }
        }
        if list(entry, "deny_if")
            .iter()
            .any(|denied| list(denied, "conditions").iter().all(|condition| holds(condition, &step.arguments, false)))
        {
            return None;
        }
        let limits = list(entry, "limits").iter().chain(list(self.policy.get("all_tools").unwrap_or(NOTHING), "limits"));
        let mut claims: Vec<Claim> = Vec::new();
        for limit in limits {
            let who = match text(limit, "scope") {
                "server" => String::new(),
                "session" => format!("session {}", step.session),
                _ => format!("caller {}", step.caller),
            };
            let name = format!("{} {who}", text(limit, "counter"));
            if !claims.iter().any(|(known, ..)| *known == name) {
                claims.push((name, seconds(&limit["window"]), 1, limit["max"].as_i64().unwrap()));
            }
        }
        Some(claims)
    }

    fn block(entry: &Value, step: &Step) -> Option<Vec<Claim>> {
        if !["", "allow"].contains(&text(entry, "action")) {
            return None;
        }
        let limit = entry.get("rate_limit");
        let claim =
            |limit: &Value| (format!("{} {}", step.tool, step.session), seconds(&limit["window"]), 1, limit["max"].as_i64().unwrap());
        Some(limit.map(claim).into_iter().collect())
    }

    fn proxy(&self, entry: &Value, step: &Step, now: u64) -> Option<Vec<Claim>> {
        let everywhere = self.policy["tools"].get("*").unwrap_or(NOTHING);
        let own = list(entry, "rules").iter().map(|rule| (step.tool.as_str(), rule));
        let rules = own.chain(list(everywhere, "rules").iter().map(|rule| ("_global", rule)));
        let mut claims = Vec::new();
        for (scope, rule) in rules {
            let conditions = list(rule, "conditions");
            match text(rule, "action") {
                "deny" => return None,
                // It waits, and nobody comes.
                "require_approval" if conditions.iter().all(|condition| holds(condition, &step.arguments, true)) => return None,
                "require_approval" => continue,
                _ => {}
            }
            if let Some((count, window)) = text(rule, "rate_limit").split_once('/') {
                claims.push((format!("{scope}._rate_{window}"), seconds(&window.into()), 1, count.parse().unwrap()));
                continue;
            }
            let state = rule.get("state").unwrap_or(NOTHING);
            let counter = format!("{scope}.{}", text(state, "counter"));
            for condition in conditions {
                if text(condition, "path") != format!("state.{counter}") {
                    if !holds(condition, &step.arguments, true) {
                        return None;
                    }
                    continue;
                }
                let window = seconds(&state["window"]);
                let used = self.counters.get(&counter).filter(|(number, _)| *number == now / window).map_or(0, |(_, used)| *used);
                let bound = condition["value"].as_f64().unwrap();
                #[allow(clippy::cast_precision_loss, reason = "counts are small")]
                let asked = used as f64;
                #[allow(clippy::cast_possible_truncation, reason = "as it is done there")]
                let cut = bound as i64;
                let (passes, admitted) = if text(condition, "op") == "lt" { (asked < bound, cut - 1) } else { (asked <= bound, cut) };
                if !passes {
                    return None;
                }
                let amount = match text(state, "increment_from") {
                    "" => state.get("increment").and_then(Value::as_i64).filter(|step| *step != 0).unwrap_or(1),
                    #[allow(clippy::cast_possible_truncation, reason = "as it is done there")]
                    path => resolve(path, &step.arguments).and_then(Value::as_f64)? as i64,
                };
                claims.push((counter.clone(), window, amount, admitted));
            }
        }
        Some(claims)
    }
}

fn resolve<'a>(path: &str, arguments: &'a Value) -> Option<&'a Value> {
    path.strip_prefix("args.")?.split('.').try_fold(arguments, |value, name| value.as_object()?.get(name))
}

/// Whether a condition holds. A missing argument and a value that cannot be compared make every operator but `exists` false.
/// `keeps_integers`: numbers of the policy are integers where they were written so, and not all doubles.
fn holds(condition: &Value, arguments: &Value, keeps_integers: bool) -> bool {
    let wanted = &condition["value"];
    let found = resolve(text(condition, "path"), arguments);
    if text(condition, "op") == "exists" {
        return found.is_some_and(|found| !found.is_null()) == wanted.as_bool().unwrap();
    }
    let Some(found) = found else { return false };
    let is_equal = |found: &Value, wanted: &Value| match (found.as_f64(), wanted.as_f64()) {
        #[allow(clippy::float_cmp, reason = "as it is done there")]
        (Some(found), Some(wanted)) => found == wanted,
        _ => printed(found, false) == printed(wanted, keeps_integers),
    };
    let is_listed = || wanted.as_array().unwrap().iter().any(|wanted| is_equal(found, wanted));
    let compared = |compare: fn(f64, f64) -> bool| found.as_f64().is_some_and(|found| compare(found, wanted.as_f64().unwrap()));
    match text(condition, "op") {
        "eq" => is_equal(found, wanted),
        "neq" => !is_equal(found, wanted),
        "in" => is_listed(),
        "not_in" => !is_listed(),
        "lt" => compared(|a, b| a < b),
        "lte" => compared(|a, b| a <= b),
        "gt" => compared(|a, b| a > b),
        "gte" => compared(|a, b| a >= b),
        "regex" => found.as_str().is_some_and(|found| matches(wanted.as_str().unwrap(), found)),
        "contains" => match (found, wanted) {
            (Value::String(found), Value::String(wanted)) => found.contains(wanted.as_str()),
            (Value::Array(elements), wanted) => elements.iter().any(|element| is_equal(element, wanted)),
            _ => false,
        },
        other => panic!("no operator: {other}"),
    }
}

/// The expressions of the laws, and what they match by the documentation of RE2: digits, words and white space are ASCII, and the
/// vertical tab is no white space.
pub const EXPRESSIONS: [&str; 12] =
    [r"^\d+$", r"\D", r"\w", r"^\W$", r"\s", r"[^\S]", r"\bmain\b", r"^feat/[\d]", "^main$", "(?i)MAIN", "[[:digit:]]", r"^[\w/]+$"];

fn matches(expression: &str, text: &str) -> bool {
    let is_digit = |c: char| c.is_ascii_digit();
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_space = |c: char| matches!(c, '\t' | '\n' | '\u{c}' | '\r' | ' ');
    match EXPRESSIONS.iter().position(|known| *known == expression).unwrap() {
        0 => !text.is_empty() && text.chars().all(is_digit),
        1 => text.chars().any(|c| !is_digit(c)),
        2 => text.chars().any(is_word),
        3 => text.chars().count() == 1 && !text.chars().any(is_word),
        4 | 5 => text.chars().any(is_space),
        6 => text.match_indices("main").any(|(at, found)| {
            let (before, after) = (text[..at].chars().next_back(), text[at + found.len()..].chars().next());
            !before.is_some_and(is_word) && !after.is_some_and(is_word)
        }),
        7 => text.strip_prefix("feat/").is_some_and(|rest| rest.chars().next().is_some_and(is_digit)),
        8 => text == "main",
        9 => text.to_lowercase().contains("main"),
        10 => text.chars().any(is_digit),
        _ => !text.is_empty() && text.chars().all(|c| is_word(c) || c == '/'),
    }
}

/// Go's `%v`.
fn printed(value: &Value, keeps_integers: bool) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) if keeps_integers && !number.is_f64() => number.to_string(),
        Value::Number(number) => {
            let number = number.as_f64().unwrap();
            let (mantissa, exponent) =
                format!("{number:e}").split_once('e').map(|(m, e)| (m.to_owned(), e.parse::<i32>().unwrap())).unwrap();
            let sign = if exponent < 0 { '-' } else { '+' };
            if (-4..6).contains(&exponent) { number.to_string() } else { format!("{mantissa}e{sign}{:02}", exponent.abs()) }
        }
        Value::String(text) => text.clone(),
        Value::Array(elements) => {
            format!("[{}]", elements.iter().map(|element| printed(element, keeps_integers)).collect::<Vec<_>>().join(" "))
        }
        Value::Object(members) => format!("map[{}]", members_printed(members, keeps_integers)),
    }
}

fn members_printed(members: &Map<String, Value>, keeps_integers: bool) -> String {
    members.iter().map(|(key, value)| format!("{key}:{}", printed(value, keeps_integers))).collect::<Vec<_>>().join(" ")
}
