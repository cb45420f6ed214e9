//! Any condition about any arguments. The first line is the condition, the rest the arguments; both are JSON.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

mod support;

fuzz_target!(|text: &str| {
    let Some((condition, arguments)) = text.split_once('\n') else { return };
    let Ok(condition) = serde_json::from_str::<Value>(condition) else { return };
    support::decide(&json!({"require": [condition], "denyIf": [{"conditions": [condition]}]}), arguments);
});
