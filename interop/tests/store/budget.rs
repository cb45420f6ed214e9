//! Sidecars as these tests see them: a store each, the engine, and one policy.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mcp_policy::snapshot::StoreCredentials;
use mcp_policy::{Call, Caller, Code, Decision, Policies, PolicyId, ServerName, compile, read};
use mcp_policy_sidecar::state::State;
use mcp_policy_sidecar::store::StoreAddress;
use serde_json::{Value, json};

/// A sidecar without its proxy.
#[derive(Clone)]
pub struct Sidecar {
    pub state: Arc<State>,
    policies: Arc<Policies>,
}

/// A policy of the tool `t` with one limit for all callers.
pub fn limited(max: u64, window: u64, on_store_error: &str) -> Value {
    let limit = json!({"counter": "c", "window": window, "max": max, "scope": "server", "onStoreError": on_store_error});
    json!({"tools": {"t": {"limits": [limit]}}})
}

pub fn credentials(password: Option<&str>) -> StoreCredentials {
    StoreCredentials { password: password.map(str::to_owned), ..StoreCredentials::default() }
}

impl Sidecar {
    pub fn new(url: &str, document: &Value) -> Self {
        Self::with(url, credentials(None), document)
    }

    pub fn with(url: &str, credentials: StoreCredentials, document: &Value) -> Self {
        let policy = compile(PolicyId::new(Some("ns"), "p"), &read::document(document).unwrap()).unwrap();
        let state = Arc::new(State::default());
        state.share_counters(Some(StoreAddress::parse(url, credentials).unwrap()), "ns");
        Self { state, policies: Arc::new(Policies::new(vec![policy])) }
    }

    /// Calls once. The refusal, if it is one: its code and the seconds to wait.
    pub async fn call(&self, arguments: &str) -> Result<(), (Code, Option<u64>)> {
        let caller = Caller::anonymous("10.0.0.1".parse().unwrap());
        let server = ServerName { namespace: "ns", name: "pod" };
        let call = Call { tool: "t", arguments, caller: &caller, session: None, server };
        match self.state.decide(&self.policies, &call).await.outcome.decision {
            Decision::Allowed(_) => Ok(()),
            Decision::Refused(refusal) => Err((refusal.code, refusal.retry_after_seconds)),
        }
    }

    /// Calls once and gives it back.
    pub async fn call_that_does_not_run(&self) {
        let caller = Caller::anonymous("10.0.0.1".parse().unwrap());
        let server = ServerName { namespace: "ns", name: "pod" };
        let call = Call { tool: "t", arguments: "", caller: &caller, session: None, server };
        let decided = self.state.decide(&self.policies, &call).await;
        let Decision::Allowed(allowed) = decided.outcome.decision else { panic!("refused") };
        self.state.refund(allowed.reservation, &decided.receipt);
    }

    /// Waits until the store is connected.
    pub async fn until_connected(&self) {
        let began = Instant::now();
        while !self.state.store().is_some_and(|store| store.is_connected()) {
            assert!(began.elapsed() < Duration::from_secs(20), "never connected");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// How many of so many calls pass.
    pub async fn passed(&self, calls: usize) -> usize {
        let mut passed = 0;
        for _ in 0..calls {
            passed += usize::from(self.call("").await.is_ok());
        }
        passed
    }

    /// Waits until a call gets this code, at the latest after 20 seconds. Calls that passed meanwhile.
    pub async fn until(&self, code: Code) -> usize {
        let (began, mut passed) = (Instant::now(), 0);
        loop {
            let answer = self.call("").await;
            passed += usize::from(answer.is_ok());
            if answer.map_or_else(|(code, _)| code, |()| Code::Allowed) == code {
                return passed;
            }
            assert!(began.elapsed() < Duration::from_secs(20), "never {code}; last {answer:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}
