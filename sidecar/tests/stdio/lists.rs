//! A change of policy that changes the client's list of tools.

use std::fs;

use serde_json::{Value, json};

use crate::client::Client;

const ALL: &str = r#"{"default": "allow"}"#;
const HIDING: &str = r#"{"default": "allow", "hide": ["purge"]}"#;

fn started(manner: &str) -> Client {
    Client::start_in_manner(&serde_json::from_str(ALL).unwrap(), manner)
}

fn list(client: &mut Client, params: &Value) -> usize {
    client.ask("tools/list", params)["result"]["tools"].as_array().unwrap().len()
}

#[test]
fn a_client_whose_server_tells_of_lists_is_told_that_its_own_has_changed() {
    let mut client = started("telling");
    client.ask("initialize", &json!({}));
    assert_eq!(list(&mut client, &json!({})), 3);
    for (policy, shown) in [(HIDING, 2), (ALL, 3)] {
        fs::write(client.path("policy.json"), policy).unwrap();
        assert_eq!(client.hear(), json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}));
        assert_eq!(list(&mut client, &json!({})), shown);
    }
}

#[test]
fn a_subscription_is_told_by_its_id() {
    let mut client = started("");
    let mut modern = json!({"_meta": {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}});
    assert_eq!(list(&mut client, &modern), 3);
    modern["notifications"] = json!({"toolsListChanged": true});
    client.say(&json!({"jsonrpc": "2.0", "id": "s", "method": "subscriptions/listen", "params": modern}).to_string());
    let acknowledged = client.hear();
    assert_eq!(acknowledged["method"], "notifications/subscriptions/acknowledged", "{acknowledged}");
    assert_eq!(client.hear()["params"]["data"], "whose?");
    fs::write(client.path("policy.json"), HIDING).unwrap();
    let meta = json!({"io.modelcontextprotocol/subscriptionId": "s"});
    assert_eq!(client.hear(), json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed", "params": {"_meta": meta}}));
}

#[test]
fn a_client_whose_server_does_not_tell_of_lists_is_not_told() {
    let mut client = started("");
    client.ask("initialize", &json!({}));
    assert_eq!(list(&mut client, &json!({})), 3);
    fs::write(client.path("policy.json"), HIDING).unwrap();
    // In force when the list is shorter; and nothing came before each answer, or it would have been read in its place.
    while list(&mut client, &json!({})) == 3 {}
    assert_eq!(list(&mut client, &json!({})), 2);
}
