//! Any text as a policy file: reading and compiling never panic, and what compiles decides.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use mcp_policy::{Call, Caller, Counters, Policies, ServerName, compile, read};

fuzz_target!(|text: &str| {
    let Ok(manifests) = read::file("policy.yaml", text) else { return };
    let compiled = manifests.into_iter().filter_map(|manifest| compile(manifest.id, &manifest.document).ok());
    let policies = Policies::new(compiled.collect());
    let caller = Caller::anonymous([10, 0, 0, 1].into());
    let server = ServerName { namespace: "ns", name: "server-0" };
    let call = Call { tool: "t", arguments: r#"{"a": [1, {"b": "c"}]}"#, caller: &caller, session: None, server };
    let _ = policies.decide(&mut Counters::default(), &call, Duration::ZERO);
});
