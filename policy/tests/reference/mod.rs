//! The slow and obvious reading of the language: it shares nothing with the engine but the document. Numbers are tenths, as the
//! generated ones are.

use std::collections::{BTreeMap, HashMap};

use mcp_policy::document::{Action, Condition, DefaultAction, Document, Op, Rule, Scope};
use serde_json::Value;

/// One call of a run: seconds since the one before it, tool, arguments, caller, session, and whether the tool did not run after all.
#[derive(Clone, Debug)]
pub struct Step {
    pub after: u64,
    pub tool: String,
    pub arguments: Value,
    pub caller: u8,
    pub session: Option<u8>,
    pub refunded: bool,
}

/// A place where calls are counted: policy, counter, and who shares it.
pub type Place = (usize, String, String);

/// The policies and what was counted so far.
pub struct Reference<'a> {
    pub documents: &'a [Document],
    /// Times and amounts in tenths.
    pub calls: HashMap<Place, Vec<(u64, i64)>>,
}

/// The number in tenths.
fn tenths(value: &Value) -> Option<i64> {
    let text = value.as_number()?.to_string();
    let (whole, tenth) = text.split_once('.').unwrap_or((&text, "0"));
    let (whole, tenth): (i64, i64) = (whole.parse().ok()?, tenth.parse().ok()?);
    Some(whole * 10 + if text.starts_with('-') { -tenth } else { tenth })
}

const EXACT: i64 = 1 << 53;

fn is_huge(value: &Value) -> bool {
    match value {
        Value::Number(_) => tenths(value).is_none_or(|tenths| tenths.abs() > EXACT * 10),
        Value::Array(elements) => elements.iter().any(is_huge),
        Value::Object(members) => members.values().any(is_huge),
        _ => false,
    }
}

fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(_), Value::Number(_)) => tenths(a) == tenths(b),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| equal(a, b))),
        _ => a == b,
    }
}

/// The key as a server may read it that overlooks case and NUL. Generated keys are ASCII.
fn overlooked(key: &str) -> String {
    key.replace('\0', "").to_lowercase()
}

/// Whether some object has two keys that such a server takes for one.
fn has_twins(value: &Value) -> bool {
    match value {
        Value::Array(elements) => elements.iter().any(has_twins),
        Value::Object(members) => {
            let twins = members.keys().any(|a| members.keys().any(|b| a != b && overlooked(a) == overlooked(b)));
            twins || members.values().any(has_twins)
        }
        _ => false,
    }
}

enum Found<'v> {
    Missing,
    Wrong,
    Is(&'v Value),
}

/// Every value at the path. Generated paths know `.a`, `[0]` and `[*]`.
fn find<'v>(path: &str, args: &'v Value) -> Vec<Found<'v>> {
    let mut found = vec![Found::Is(args)];
    let mut rest = path.strip_prefix("args").unwrap();
    while !rest.is_empty() {
        let end = rest[1..].find(['.', '[']).map_or(rest.len(), |at| at + 1);
        let (step, after) = rest.split_at(end);
        rest = after;
        found = found.into_iter().flat_map(|value| follow(step, value)).collect();
    }
    found
}

fn follow<'v>(step: &str, value: Found<'v>) -> Vec<Found<'v>> {
    let value = match value {
        Found::Is(Value::Null) => return vec![Found::Missing],
        Found::Is(value) => value,
        other => return vec![other],
    };
    let one = |found: Option<&'v Value>| vec![found.map_or(Found::Missing, Found::Is)];
    match (step, value) {
        ("[*]", Value::Array(elements)) => elements.iter().map(Found::Is).collect(),
        ("[0]", Value::Array(elements)) => one(elements.first()),
        (step, Value::Object(members)) if step.starts_with('.') => match members.get(&step[1..]) {
            None if members.keys().any(|key| overlooked(key) == overlooked(&step[1..])) => vec![Found::Wrong],
            found => one(found),
        },
        _ => vec![Found::Wrong],
    }
}

/// None: it cannot be decided.
type Truth = Option<bool>;

fn and(values: &[Truth]) -> Truth {
    if values.contains(&Some(false)) {
        Some(false)
    } else if values.contains(&None) {
        None
    } else {
        Some(true)
    }
}

fn or(values: &[Truth]) -> Truth {
    and(&values.iter().map(|value| value.map(|value| !value)).collect::<Vec<_>>()).map(|value| !value)
}

fn compare(op: Op, wanted: &Value, found: &Value) -> Truth {
    if op == Op::Exists {
        return Some(wanted == &Value::Bool(true));
    }
    if is_huge(found) {
        return None;
    }
    let one_of = || wanted.as_array().unwrap().iter().any(|wanted| equal(wanted, found));
    let order = |holds: fn(i64, i64) -> bool| match found {
        Value::Number(_) => Some(holds(tenths(found).unwrap(), tenths(wanted).unwrap())),
        _ => None,
    };
    match op {
        Op::Eq => Some(equal(wanted, found)),
        Op::Neq => Some(!equal(wanted, found)),
        Op::In => Some(one_of()),
        Op::NotIn => Some(!one_of()),
        Op::Lt => order(|found, wanted| found < wanted),
        Op::Lte => order(|found, wanted| found <= wanted),
        Op::Gt => order(|found, wanted| found > wanted),
        Op::Gte => order(|found, wanted| found >= wanted),
        // Generated patterns are `^` and letters.
        Op::Regex => found.as_str().map(|found| found.starts_with(&wanted.as_str().unwrap()[1..])),
        Op::Contains => match (found, wanted) {
            (Value::String(found), Value::String(wanted)) => Some(found.contains(wanted.as_str())),
            (Value::Array(found), wanted) => Some(found.iter().any(|found| equal(found, wanted))),
            _ => None,
        },
        Op::Exists => unreachable!(),
    }
}

fn holds(condition: &Condition, args: &Value, all: bool) -> Truth {
    let (path, op) = (condition.path.as_ref().unwrap(), condition.op.unwrap());
    let yes = Value::Bool(true);
    let wanted = condition.value.as_ref().unwrap_or(&yes);
    let values: Vec<Truth> = find(path, args)
        .into_iter()
        .map(|found| match found {
            Found::Missing => Some(op == Op::Exists && wanted == &Value::Bool(false)),
            Found::Wrong => None,
            Found::Is(found) => compare(op, wanted, found),
        })
        .collect();
    if all { and(&values) } else { or(&values) }
}

impl Reference<'_> {
    fn glob(pattern: &[char], name: &[char]) -> bool {
        match (pattern, name) {
            ([], []) => true,
            (['*', rest @ ..], _) => Self::glob(rest, name) || !name.is_empty() && Self::glob(pattern, &name[1..]),
            (['?', rest @ ..], [_, tail @ ..]) => Self::glob(rest, tail),
            ([p, rest @ ..], [n, tail @ ..]) => p == n && Self::glob(rest, tail),
            _ => false,
        }
    }

    fn matches(pattern: &str, name: &str) -> bool {
        Self::glob(&pattern.chars().collect::<Vec<_>>(), &name.chars().collect::<Vec<_>>())
    }

    fn entries<'d>(document: &'d Document, tool: &str) -> Vec<(&'d String, &'d Rule)> {
        if let Some(exact) = document.tools.get_key_value(tool) {
            return vec![exact];
        }
        let literal = |key: &str| key.chars().filter(|c| *c != '*' && *c != '?').count();
        let matching: Vec<_> = document.tools.iter().filter(|(key, _)| Self::matches(key, tool)).collect();
        let best = matching.iter().map(|(key, _)| literal(key)).max();
        matching.into_iter().filter(|(key, _)| Some(literal(key)) == best).collect()
    }

    /// Whether a rule lets the arguments pass, and asks nobody.
    fn lets(rule: &Rule, args: &Value) -> bool {
        let bytes = args.to_string().len() as u64;
        let looks = !(rule.require.is_empty() && rule.deny_if.is_empty() && rule.approve_if.is_empty());
        if rule.action != Action::Allow || has_twins(args) && looks {
            return false;
        }
        let short = rule.arguments.as_ref().and_then(|arguments| arguments.max_bytes).is_none_or(|max| bytes <= max);
        let required: Vec<_> = rule.require.iter().map(|condition| holds(condition, args, true)).collect();
        let entry = |conditions: &[Condition]| and(&conditions.iter().map(|condition| holds(condition, args, false)).collect::<Vec<_>>());
        let denied: Vec<_> = rule.deny_if.iter().map(|one| entry(&one.conditions)).collect();
        let asked: Vec<_> = rule.approve_if.iter().map(|one| entry(&one.conditions)).collect();
        short && and(&required) == Some(true) && or(&denied) == Some(false) && or(&asked) == Some(false)
    }

    /// Whether all policies admit the call; if so it is counted, and the places where it was are given back.
    pub fn admits(&mut self, step: &Step, now: u64) -> Option<Vec<Place>> {
        let mut places: BTreeMap<Place, (u64, i64, i64)> = BTreeMap::new();
        for (i, document) in self.documents.iter().enumerate() {
            if document.hide.iter().any(|hidden| Self::matches(hidden, &step.tool)) {
                return None;
            }
            let entries = Self::entries(document, &step.tool);
            if entries.is_empty() && document.default == DefaultAction::Deny {
                return None;
            }
            let all = "allTools".to_owned();
            for (key, rule) in entries.into_iter().chain(document.all_tools.iter().map(|rule| (&all, rule))) {
                if !Self::lets(rule, &step.arguments) {
                    return None;
                }
                let short = rule
                    .rate_limit
                    .iter()
                    .map(|short| (format!("{key}_rate"), &short.window, i64::try_from(short.max).unwrap() * 10, Scope::Session, None));
                let long = rule.limits.iter().map(|limit| {
                    (
                        limit.counter.clone(),
                        &limit.window,
                        tenths(&Value::Number(limit.max.clone())).unwrap(),
                        limit.scope,
                        limit.increment_from.as_ref(),
                    )
                });
                for (counter, window, max, scope, from) in long.chain(short) {
                    let who = match (scope, step.session) {
                        (Scope::Server, _) => "everybody".to_owned(),
                        (Scope::Session, Some(session)) => format!("session {session}"),
                        _ => format!("caller {}", step.caller),
                    };
                    let amount = match from {
                        None => 10,
                        Some(_) if has_twins(&step.arguments) => return None,
                        Some(path) => match find(path, &step.arguments)[..] {
                            [Found::Is(value @ Value::Number(_))] if !is_huge(value) && tenths(value).unwrap() >= 0 => {
                                tenths(value).unwrap()
                            }
                            _ => return None,
                        },
                    };
                    places.insert((i, counter, who), (window.seconds().unwrap(), max, amount));
                }
            }
        }
        let fits = places.iter().all(|(place, (window, max, amount))| {
            let recent = self.calls.get(place).into_iter().flatten().filter(|(time, _)| now - time < *window);
            *amount == 0 || recent.map(|(_, amount)| amount).sum::<i64>() + amount <= *max
        });
        fits.then(|| {
            for (place, (_, _, amount)) in &places {
                self.calls.entry(place.clone()).or_default().push((now, *amount));
            }
            places.into_keys().collect()
        })
    }
}
