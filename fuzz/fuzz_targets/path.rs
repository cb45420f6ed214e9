//! Any text as a path into arguments of many shapes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::json;

mod support;

fuzz_target!(|path: &str| {
    let condition = json!({"path": path, "op": "exists"});
    support::decide(&json!({"require": [condition], "limits": [{"counter": "c", "window": 1, "max": 1, "incrementFrom": path}]}), support::SHAPES);
});
