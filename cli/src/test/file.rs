//! The form of a test file, and what is wrong with one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use mcp_policy::document::duration_seconds;
use mcp_policy::read::{self, FieldError, FileError, Located, Place};
use mcp_policy::{Caller, Code};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::caller;

/// Who calls where nothing is said.
pub const DEFAULT_CALLER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

/// More calls than any case needs: a typing error.
const MAX_REPEAT: u32 = 100_000;

/// A test file as it is written.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WrittenFile {
    #[serde(default)]
    policies: Option<Vec<String>>,
    #[serde(default)]
    defaults: Defaults,
    cases: Vec<WrittenCase>,
}

/// What holds for every case that does not say otherwise.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Defaults {
    #[serde(default)]
    caller: Option<Value>,
    #[serde(default)]
    session: Option<String>,
    #[serde(default)]
    server: Server,
    #[serde(default)]
    tool: Option<String>,
}

/// The server that is called.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Server {
    /// Its namespace.
    #[serde(default)]
    pub namespace: String,
    /// The name of its pod.
    #[serde(default)]
    pub name: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WrittenCase {
    name: String,
    #[serde(default)]
    call: Option<WrittenCall>,
    #[serde(default)]
    method: Option<String>,
    #[serde(default)]
    caller: Option<Value>,
    #[serde(default)]
    session: Option<String>,
    #[serde(default)]
    at: Option<String>,
    #[serde(default)]
    fresh: bool,
    #[serde(default)]
    repeat: Option<u32>,
    #[serde(default)]
    refund: bool,
    #[serde(default)]
    approved: bool,
    #[serde(default)]
    expect: Option<Value>,
    #[serde(default)]
    listed: Option<bool>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WrittenCall {
    #[serde(default)]
    tool: Option<String>,
    #[serde(default)]
    arguments: Option<Value>,
}

/// What a case expects, of which only what is written is compared. The comparison takes it as it is written; this type is what
/// it may be.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[allow(dead_code, reason = "read for its errors")]
struct Expect {
    #[serde(default)]
    code: Option<Code>,
    #[serde(default)]
    policy: Option<String>,
    #[serde(default)]
    rule: Option<String>,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    counter: Option<String>,
    #[serde(default)]
    retry_after_seconds: Option<u64>,
    #[serde(default)]
    audited: BTreeMap<String, Code>,
}

/// A test file.
#[derive(Debug)]
pub struct File {
    /// The policies, as they are named; none if they are those beside the file.
    pub policies: Option<Vec<NamedPolicy>>,
    /// The server that is called.
    pub server: Server,
    /// In order.
    pub cases: Vec<Case>,
}

/// A policy file that a test file names.
#[derive(Debug)]
pub struct NamedPolicy {
    /// Relative to the test file.
    pub path: String,
    /// Where it is named.
    pub place: Option<Place>,
}

/// A case.
#[derive(Debug)]
pub struct Case {
    /// Its name, which no other case of the file has.
    pub name: String,
    /// Where it begins.
    pub place: Option<Place>,
    /// What is asked.
    pub question: Question,
    /// Who asks.
    pub caller: Caller,
    /// In which session.
    pub session: Option<String>,
    /// When, since the start; as the case before if none.
    pub at: Option<Duration>,
    /// Whether all counters are empty.
    pub fresh: bool,
    /// How often; all but the last must be allowed.
    pub repeat: u32,
    /// Whether the tool did not run, so that the calls are given back.
    pub refund: bool,
    /// Whether people have approved each of the calls.
    pub approved: bool,
    /// The fields of the decision that are expected.
    pub expect: Map<String, Value>,
    /// Whether `tools/list` shows the tool, if that is asked.
    pub listed: Option<bool>,
}

/// What a case asks.
#[derive(Debug)]
pub enum Question {
    /// A call.
    Call {
        /// Of this tool.
        tool: String,
        /// A JSON text; empty if the call has none.
        arguments: String,
    },
    /// Any other method.
    Method(String),
}

/// Reads a test file; or tells everything that is wrong with it.
pub fn read(name: &str, document: &Located) -> Result<File, Vec<FileError>> {
    let locate = |errors: Vec<FieldError>| errors.into_iter().map(|error| FileError::new(name, &document.places, error)).collect();
    let WrittenFile { policies, defaults, cases } = read::typed(&document.value, "").map_err(|errors| locate(errors.0))?;
    let mut reader = Reader { defaults: &defaults, names: BTreeSet::new(), latest: Duration::ZERO, errors: Vec::new() };
    if cases.is_empty() {
        reader.error("cases", "holds no case");
    }
    let mut read = Vec::with_capacity(cases.len());
    for (i, case) in cases.into_iter().enumerate() {
        let path = format!("cases[{i}]");
        let place = document.places.of(&path);
        read.extend(reader.case(&path, place, case));
    }
    if !reader.errors.is_empty() {
        return Err(locate(reader.errors));
    }
    let named = |(i, path)| NamedPolicy { path, place: document.places.of(&format!("policies[{i}]")) };
    let policies = policies.map(|policies| policies.into_iter().enumerate().map(named).collect());
    Ok(File { policies, server: defaults.server, cases: read })
}

struct Reader<'a> {
    defaults: &'a Defaults,
    names: BTreeSet<String>,
    /// The time of the case before.
    latest: Duration,
    errors: Vec<FieldError>,
}

impl Reader<'_> {
    fn error(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.errors.push(FieldError { path: path.into(), message: message.into() });
    }

    fn case(&mut self, path: &str, place: Option<Place>, written: WrittenCase) -> Option<Case> {
        let WrittenCase { name, call, method, caller, session, at, fresh, repeat, refund, approved, expect, listed } = written;
        if !self.names.insert(name.clone()) {
            self.error(format!("{path}.name"), format!("a case named `{name}` is already in this file"));
        }
        if method.is_some() {
            let meaningless = [
                ("repeat", repeat.is_some()),
                ("refund", refund),
                ("approved", approved),
                ("listed", listed.is_some()),
                ("session", session.is_some()),
            ];
            for (field, _) in meaningless.iter().filter(|(_, written)| *written) {
                self.error(format!("{path}.{field}"), "means nothing beside `method`");
            }
        }
        if expect.is_none() && listed.is_none() {
            self.error(path, "expects nothing; write `expect`, or `listed`");
        }
        let question = self.question(path, call, method);
        let caller = self.caller(path, caller);
        let at = at.and_then(|text| self.time(&format!("{path}.at"), &text, fresh));
        let repeat = repeat.unwrap_or(1);
        if !(1..=MAX_REPEAT).contains(&repeat) {
            self.error(format!("{path}.repeat"), format!("must be from 1 to {MAX_REPEAT}"));
        }
        let expect = expect.map_or_else(Map::new, |expect| self.expected(&format!("{path}.expect"), expect));
        let session = session.or_else(|| self.defaults.session.clone());
        Some(Case { name, place, question: question?, caller: caller?, session, at, fresh, repeat, refund, approved, expect, listed })
    }

    fn question(&mut self, path: &str, call: Option<WrittenCall>, method: Option<String>) -> Option<Question> {
        let WrittenCall { tool, arguments } = match (call, method) {
            (None, Some(method)) if method == "tools/call" => {
                self.error(format!("{path}.method"), "is written as `call`, with the tool and its arguments");
                return None;
            }
            (None, Some(method)) => return Some(Question::Method(method)),
            (Some(_), Some(_)) => {
                self.error(path, "asks two things; write `call` or `method`");
                return None;
            }
            (Some(call), None) => call,
            (None, None) if self.defaults.tool.is_some() => WrittenCall { tool: None, arguments: None },
            (None, None) => {
                self.error(path, "asks nothing; write `call` or `method`");
                return None;
            }
        };
        let arguments = match arguments {
            None => String::new(),
            Some(arguments @ (Value::Object(_) | Value::Null)) => arguments.to_string(),
            Some(_) => {
                self.error(format!("{path}.call.arguments"), "must be an object: the sidecar refuses anything else before any rule");
                return None;
            }
        };
        let Some(tool) = tool.or_else(|| self.defaults.tool.clone()) else {
            self.error(format!("{path}.call.tool"), "is required, here or in `defaults`");
            return None;
        };
        Some(Question::Call { tool, arguments })
    }

    fn caller(&mut self, path: &str, caller: Option<Value>) -> Option<Caller> {
        let (path, written) = match (caller, &self.defaults.caller) {
            (Some(own), _) => (format!("{path}.caller"), own),
            (None, Some(default)) => ("defaults.caller".to_owned(), default.clone()),
            (None, None) => return Some(Caller::anonymous(DEFAULT_CALLER)),
        };
        match caller::of_value(&written, &path) {
            Ok(caller) => Some(caller),
            Err(errors) => {
                // A wrong default is wrong once.
                let new = errors.into_iter().filter(|error| !self.errors.contains(error)).collect::<Vec<_>>();
                self.errors.extend(new);
                None
            }
        }
    }

    fn time(&mut self, path: &str, text: &str, fresh: bool) -> Option<Duration> {
        let Some(at) = duration_seconds(text).map(Duration::from_secs) else {
            self.error(path, format!("`{text}` is not a time since the start: write one number and one of s, m, h and d, like 90s or 2h"));
            return None;
        };
        if at < self.latest && !fresh {
            self.error(path, format!("time does not run back: the case before is {} s after the start", self.latest.as_secs()));
        }
        self.latest = at;
        Some(at)
    }

    /// What is expected, as the comparison wants it: a code alone is one field.
    fn expected(&mut self, path: &str, expect: Value) -> Map<String, Value> {
        let (is_code, expect) = match expect {
            Value::String(code) => (true, json!({"code": code})),
            other => (false, other),
        };
        if let Err(errors) = read::typed::<Expect>(&expect, path) {
            for FieldError { path: field, message } in errors.0 {
                self.error(if is_code { path.to_owned() } else { field }, message);
            }
        }
        match expect {
            Value::Object(expect) => expect,
            _ => Map::new(),
        }
    }
}
