//! The reference's section "Limits" and its fine print, sentence by sentence. Each test quotes what it shows.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod amounts;
mod audit;
mod counters;
mod reservations;
mod shared;
mod windows;

use std::time::Duration;

use mcp_policy::{Call, Caller, Code, Counters, Decision, Outcome, Policies, Policy, PolicyId, Reservation, ServerName, compile, read};
use serde_json::{Value, json};

/// A policy of this name in the namespace `ns`.
fn policy(name: &str, document: &Value) -> Policy {
    compile(PolicyId::new(Some("ns"), name), &read::document(document).unwrap()).unwrap()
}

/// The policy `p` alone.
fn one(document: &Value) -> Policies {
    Policies::new(vec![policy("p", document)])
}

/// What is wrong with a document.
fn errors(document: &Value) -> String {
    match read::document(document) {
        Err(error) => error.to_string(),
        Ok(document) => compile(PolicyId::new(Some("ns"), "p"), &document).unwrap_err().to_string(),
    }
}

/// A policy of the tool `t` with these limits.
fn limits(limits: &Value) -> Value {
    json!({"tools": {"t": {"limits": limits}}})
}

/// One server: its counters and who calls it.
struct Server {
    policies: Policies,
    counters: Counters,
    caller: &'static str,
    session: Option<&'static str>,
    now: Duration,
}

impl Server {
    fn new(policies: Policies) -> Self {
        Self { policies, counters: Counters::default(), caller: "10.0.0.1", session: None, now: Duration::ZERO }
    }

    fn at(&mut self, milliseconds: u64) -> &mut Self {
        self.now = Duration::from_millis(milliseconds);
        self
    }

    fn by(&mut self, caller: &'static str, session: Option<&'static str>) -> &mut Self {
        (self.caller, self.session) = (caller, session);
        self
    }

    fn outcome(&mut self, tool: &str, arguments: &str) -> Outcome {
        let caller = Caller::anonymous(self.caller.parse().unwrap());
        let server = ServerName { namespace: "ns", name: "server-0" };
        let call = Call { tool, arguments, caller: &caller, session: self.session, server };
        self.policies.decide(&mut self.counters, &call, self.now)
    }

    /// `allowed`, or `code counter seconds pointer` without what is none.
    fn call(&mut self, tool: &str, arguments: &str) -> String {
        match self.outcome(tool, arguments).decision {
            Decision::Allowed(_) => "allowed".to_owned(),
            Decision::Refused(refusal) => {
                let counter = refusal.counter.map(|counter| format!(" {counter}")).unwrap_or_default();
                let seconds = refusal.retry_after_seconds.map(|seconds| format!(" {seconds}")).unwrap_or_default();
                format!("{}{counter}{seconds} {}", refusal.code, refusal.rule.unwrap())
            }
        }
    }

    fn code(&mut self, tool: &str) -> Code {
        match self.outcome(tool, "").decision {
            Decision::Allowed(_) => Code::Allowed,
            Decision::Refused(refusal) => refusal.code,
        }
    }

    fn reservation(&mut self, tool: &str) -> Reservation {
        match self.outcome(tool, "").decision {
            Decision::Allowed(allowed) => allowed.reservation,
            Decision::Refused(refusal) => panic!("{refusal:?}"),
        }
    }

    /// How many of so many calls pass.
    fn passed(&mut self, calls: usize, tool: &str) -> usize {
        (0..calls).filter(|_| self.call(tool, "") == "allowed").count()
    }

    fn used(&mut self) -> Vec<(String, f64)> {
        let usage = self.policies.usage(&mut self.counters, self.now);
        usage.into_iter().map(|usage| (format!("{} {}", usage.policy, usage.counter), usage.used)).collect()
    }
}
