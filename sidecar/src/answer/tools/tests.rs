use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn answer(result: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":7,"result":{result}}}"#)
}

fn safe_only(name: &str) -> bool {
    name.starts_with("safe")
}

/// The text that the client gets, and how many tools went.
fn filtered(message: &str, era: Era) -> (String, usize) {
    match filter(message.as_bytes(), era, safe_only) {
        Ok(list) => (list.changed.map_or(message.to_owned(), |changed| String::from_utf8(changed).unwrap()), list.removed),
        other => panic!("{message}: {other:?}"),
    }
}

/// A known mistake that this must not make: "list filtering that fails open or drops fields".
#[test]
fn what_the_client_may_not_see_goes_and_nothing_else_changes() {
    for (before, after, removed) in [
        (r#"{"tools":[{"name":"safe"},{"name":"danger"}]}"#, r#"{"tools":[{"name":"safe"}]}"#, 1),
        (r#"{"tools":[{"name":"danger"},{"name":"safe"}]}"#, r#"{"tools":[{"name":"safe"}]}"#, 1),
        (r#"{"tools":[{"name":"danger"}],"nextCursor":""}"#, r#"{"tools":[],"nextCursor":""}"#, 1),
        (r#"{"tools":[]}"#, r#"{"tools":[]}"#, 0),
        (r#"{"tools":[ {"name":"safe"} , {"name":"safe2"} ]}"#, r#"{"tools":[ {"name":"safe"} , {"name":"safe2"} ]}"#, 0),
        // Numbers, escapes, order and fields that nobody here knows.
        (
            r#"{"vendor":1.00,"tools":[{"z":1e2,"name":"s\u0061fe","inputSchema":{"maximum":100000000000000000000,"é":"\u00e9"}},{"name":"danger"}],"nextCursor":"\u0041="}"#,
            r#"{"vendor":1.00,"tools":[{"z":1e2,"name":"s\u0061fe","inputSchema":{"maximum":100000000000000000000,"é":"\u00e9"}}],"nextCursor":"\u0041="}"#,
            1,
        ),
        // No name, no tool.
        (r#"{"tools":[{"title":"x"},{"name":7},null,"safe",["safe"],{"name":"safe"}]}"#, r#"{"tools":[{"name":"safe"}]}"#, 5),
        // Poisoned: nobody knows which of the two would run.
        (r#"{"tools":[{"name":"safe","v":1},{"name":"safe2"},{"name":"s\u0061fe","v":2}]}"#, r#"{"tools":[{"name":"safe2"}]}"#, 2),
    ] {
        assert_eq!(filtered(&answer(before), Era::Legacy), (answer(after), removed), "{before}");
    }
}

#[test]
fn the_list_is_private_to_the_caller() {
    let safe = r#""tools":[{"name":"safe"}]"#;
    let check = |before: &str, era, after: &str| assert_eq!(filtered(&answer(before), era), (answer(after), 0), "{before}");
    check(&format!("{{{safe}}}"), Era::Legacy, &format!("{{{safe}}}"));
    check(&format!("{{{safe}}}"), Era::Modern, &format!(r#"{{"cacheScope":"private",{safe}}}"#));
    for era in [Era::Legacy, Era::Modern] {
        for scope in [r#""public""#, "null", "[1]", r#""priv\u0061te""#] {
            check(
                &format!(r#"{{{safe},"cacheScope": {scope},"ttlMs":1}}"#),
                era,
                &format!(r#"{{{safe},"cacheScope": "private","ttlMs":1}}"#),
            );
        }
        check(&format!(r#"{{"cacheScope":"private",{safe}}}"#), era, &format!(r#"{{"cacheScope":"private",{safe}}}"#));
    }
    let both = filtered(&answer(r#"{"cacheScope":"public","tools":[{"name":"danger"}]}"#), Era::Modern);
    assert_eq!(both, (answer(r#"{"cacheScope":"private","tools":[]}"#), 1));
}

#[test]
fn what_cannot_be_read_in_one_way_does_not_pass() {
    let nested = format!(r#"{{"tools":[{{"name":"safe","x":{}{}}}]}}"#, "[".repeat(100), "]".repeat(100));
    for result in [
        r#"{"tools":[{"name":"safe","name":"danger"}]}"#,
        r#"{"tools":[{"name":"safe","n\u0061me":"danger"}]}"#,
        r#"{"tools":[{"name":"safe","Name":"danger"}]}"#,
        r#"{"tools":[],"tools":[{"name":"danger"}]}"#,
        r#"{"tools":[],"Tools":[{"name":"danger"}]}"#,
        r#"{"tools":[{"name":"safe","x":{"a":1,"a":2}}]}"#,
        r#"{"tools":[{"name":"safe","x":"\ud800"}]}"#,
        r#"{"tools":[{"name":"safe","x":1e999}]}"#,
        r#"{"tools":{"name":"danger"}}"#,
        r#"{"tools":null}"#,
        r#"{"nextCursor":"x"}"#,
        "{}",
        "[]",
        r#"{"tools":[{"name":"danger"}],}"#,
        &nested,
    ] {
        assert_eq!(filter(answer(result).as_bytes(), Era::Legacy, |_| true), Err(Unreadable::new()), "{result}");
    }
    let list = answer(r#"{"tools":[{"name":"danger"}]}"#);
    for message in [format!("[{list}]"), format!("\u{feff}{list}"), format!("{list}{list}"), String::new(), list.replace("2.0", "1.0")] {
        assert_eq!(filter(message.as_bytes(), Era::Legacy, |_| true), Err(Unreadable::new()), "{message}");
    }
}

#[test]
fn only_a_result_is_a_list() {
    for message in [
        r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32601,"message":"x"}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"tools":[]}}"#,
        r#"{"jsonrpc":"2.0","id":7,"method":"sampling/createMessage"}"#,
    ] {
        assert_eq!(filter(message.as_bytes(), Era::Legacy, safe_only), Err(Unreadable::new()), "{message}");
    }
}

#[test]
fn a_list_is_not_cached_for_longer_than_a_change_of_policy_may_take_to_show() {
    for (before, after) in [("0", "0"), ("30000", "30000"), ("30001", "30000"), ("1e3", "30000"), ("-1", "30000"), ("\"x\"", "30000")] {
        let list = |ttl| answer(&format!(r#"{{"tools":[],"ttlMs":{ttl},"cacheScope":"private"}}"#));
        assert_eq!(filtered(&list(before), Era::Modern).0, list(after));
    }
}

fn listed(names: &[&str]) -> Vec<Listed> {
    names.iter().map(|name| Listed { name: (*name).to_owned(), mirrored: Vec::new() }).collect()
}

#[test]
fn what_the_server_lists_is_remembered_within_bounds() {
    let list = filter(answer(r#"{"tools":[{"name":"safe"},{"name":"d\u0061nger"},{}]}"#).as_bytes(), Era::Legacy, safe_only).unwrap();
    assert_eq!(list.tools, listed(&["safe", "danger"]));
    let mut tools = ListedTools::default();
    tools.learn(list.tools);
    assert!(tools.contains("danger") && !tools.contains("Danger"));
    assert!(tools.any(|name| name == "danger") && !tools.any(|name| name == "Danger"));

    tools.learn(listed(&[&"x".repeat(257)]));
    assert!(!tools.contains(&"x".repeat(257)));
    let many: Vec<String> = (0..2000).map(|n| n.to_string()).collect();
    tools.learn(listed(&many.iter().map(String::as_str).collect::<Vec<_>>()));
    assert!(tools.contains("0") && tools.contains("safe") && !tools.contains("1999"));
    assert_eq!(tools.tools.len(), MAX_LISTED);
    assert!(tools.any(|name| name == "1999"), "what is not remembered could be any");
}

fn tool() -> impl Strategy<Value = Value> {
    (prop::sample::select(vec!["safe", "safe2", "safe3", "danger", "dånger", ""]), any::<Option<u32>>())
        .prop_map(|(name, extra)| json!({ "description": extra, "name": name, "inputSchema": { "type": "object", "name": "danger" } }))
}

proptest! {
    #[test]
    fn the_list_is_a_part_of_the_servers_in_its_order(tools in prop::collection::vec(tool(), 0..8), pretty in any::<bool>(), modern in any::<bool>()) {
        let before = json!({ "jsonrpc": "2.0", "id": 7, "result": { "tools": tools, "nextCursor": "c", "_meta": { "x": [1, 2] } } });
        let text = if pretty { serde_json::to_string_pretty(&before).unwrap() } else { before.to_string() };
        let era = if modern { Era::Modern } else { Era::Legacy };
        let (text, removed) = filtered(&text, era);
        let after: Value = serde_json::from_str(&text).unwrap();

        let times = |tool: &Value| tools.iter().filter(|other| other["name"] == tool["name"]).count();
        let kept: Vec<Value> = tools.iter().filter(|tool| times(tool) == 1 && safe_only(tool["name"].as_str().unwrap())).cloned().collect();
        prop_assert_eq!(removed, tools.len() - kept.len());
        let mut expected = before;
        expected["result"]["tools"] = kept.into();
        if modern {
            expected["result"]["cacheScope"] = "private".into();
        }
        prop_assert_eq!(after, expected);
        // What was filtered can be filtered again, and is then as it should be.
        prop_assert_eq!(filtered(&text, era), (text.clone(), 0));
    }

    #[test]
    fn no_bytes_panic(at in any::<prop::sample::Index>(), bytes in prop::collection::vec(any::<u8>(), 0..4)) {
        let mut message = answer(r#"{"tools":[{"name":"safe"},{"name":"danger"}],"cacheScope":"public"}"#).into_bytes();
        let at = at.index(message.len());
        message.splice(at..at, bytes);
        // Whatever the change, what passes shows no tool that may not be seen.
        if let Ok(List { changed, .. }) = filter(&message, Era::Modern, safe_only) {
            let shown: Value = serde_json::from_slice(&changed.unwrap_or(message)).unwrap();
            prop_assert!(shown["result"]["tools"].as_array().unwrap().iter().all(|tool| safe_only(tool["name"].as_str().unwrap())));
        }
    }
}
