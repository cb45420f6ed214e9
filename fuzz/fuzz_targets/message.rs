//! Any bytes as a message. What the sidecar reads of it is what a parser of another kind reads, one that knows nothing of what is
//! refused: the tool that is logged is the tool that is executed.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mcp_policy_sidecar::message::{self, Message};
use serde_json::Value;

fuzz_target!(|body: &[u8]| {
    let Ok(message) = message::parse(body) else { return };
    let other: Value = match serde_json::from_slice(body) {
        Ok(value) => value,
        // Exact here, and beyond a double there.
        Err(error) if error.to_string().starts_with("number out of range") => return,
        Err(error) => panic!("accepted, and not JSON to another parser: {error}"),
    };
    assert_eq!(message.method(), other.get("method").map(|method| method.as_str().unwrap()));
    assert_eq!(message.id().map(|id| read(id.as_json())).as_ref(), other.get("id"));
    let is_response = other.get("result").is_some() || other.get("error").is_some();
    assert_eq!(matches!(message, Message::Response(_)), is_response);

    let Message::Request(request) = message else { return };
    assert_eq!(request.call.is_some(), other["method"] == "tools/call");
    let Some(call) = request.call else { return };
    assert_eq!(other["params"]["name"], call.name.as_str());
    match call.arguments(body) {
        "" => assert_eq!(other["params"].get("arguments").unwrap_or(&Value::Null), &Value::Null),
        arguments => {
            let arguments = read(arguments);
            assert_eq!(other["params"]["arguments"], arguments);
            let keys = arguments.as_object().unwrap();
            assert_eq!(call.argument_keys.len() + call.argument_keys_left_out, keys.len());
            // Long ones are cut.
            assert!(call.argument_keys.iter().all(|key| keys.keys().any(|whole| whole.starts_with(key.as_str()))));
        }
    }
});

fn read(json: &str) -> Value {
    serde_json::from_str(json).unwrap()
}
