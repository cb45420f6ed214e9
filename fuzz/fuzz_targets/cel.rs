//! Any text as a CEL expression about arguments of many shapes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::json;

mod support;

fuzz_target!(|expression: &str| support::decide(&json!({"require": [{"cel": expression}]}), support::SHAPES));
