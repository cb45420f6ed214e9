//! What a server says it can do, in the results of `initialize` and `server/discover`: without the features that `methods` deny as a
//! whole, and without revisions that are not spoken here. Clients then do not try what would be refused. mcp.md 1.5.

use std::ops::Range;

use mcp_policy::json::{Fault, Kind, Scanner};
use serde_json::Value;

use crate::message::edit::{Edit, apply};
use crate::message::era::{LEGACY_REVISIONS, REVISIONS, WITH_URL_ELICITATION};
use crate::message::{ServerMessage, Unreadable, parse_server_with};

/// A part of a server's capabilities, and the methods that it is for: it goes if all of them are denied.
const FEATURES: &[(&[&str], &[&str])] = &[
    (&["completions"], &["completion/complete"]),
    (&["logging"], &["logging/setLevel"]),
    (&["prompts"], &["prompts/get", "prompts/list"]),
    (&["resources"], &["resources/list", "resources/read", "resources/templates/list"]),
    (&["resources", "subscribe"], &["resources/subscribe"]),
    (&["tasks"], &["tasks/get", "tasks/result"]),
    (&["tasks", "cancel"], &["tasks/cancel"]),
    (&["tasks", "list"], &["tasks/list"]),
    (&["extensions", "io.modelcontextprotocol/tasks"], &["tasks/get"]),
    (&["tools"], &["tools/list"]),
];

/// What was found in a result.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    /// The message to forward instead; none where it passes as it came.
    pub changed: Option<Vec<u8>>,
    /// Whether the server tells of changes of its list of tools.
    pub tells_of_lists: bool,
    /// Whether the revision that the server chose is one that is spoken here. A result that names none chooses none.
    pub is_spoken_here: bool,
    /// Whether it is the one in which a request can be answered with pages that the user has to open first.
    pub has_url_elicitation: bool,
}

/// Reads the result of `initialize` or `server/discover`. `is_denied` tells of a method whether the client may use it.
pub fn filter(message: &[u8], is_denied: impl Fn(&str) -> bool) -> Result<Found, Unreadable> {
    let mut result = Handshake::default();
    if !matches!(parse_server_with(message, |scanner| result.read(scanner))?, ServerMessage::Result { .. }) {
        return Err(Unreadable::new());
    }
    let mut edits = Vec::new();
    let goes = |path: &[&str]| FEATURES.iter().any(|(feature, methods)| *feature == path && methods.iter().all(|method| is_denied(method)));
    edits.extend(result.capabilities.without(message, &mut Vec::new(), &goes));
    edits.extend(result.versions.as_ref().and_then(|versions| versions.spoken_here(message)));
    Ok(Found {
        changed: (!edits.is_empty()).then(|| apply(message, edits)),
        tells_of_lists: result.tells_of_lists,
        has_url_elicitation: result.version.as_deref() == Some(WITH_URL_ELICITATION),
        is_spoken_here: result.version.is_none_or(|version| LEGACY_REVISIONS.contains(&version.as_str())),
    })
}

/// The notification with which a server acknowledges a subscription.
pub const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";

/// Whether a notification acknowledges a subscription and says that the server tells of changes of its list of tools.
#[must_use]
pub fn tells_of_lists(message: &Value) -> bool {
    message["method"] == ACKNOWLEDGED && message["params"]["notifications"]["toolsListChanged"] == true
}

#[derive(Default)]
struct Handshake {
    capabilities: Members,
    tells_of_lists: bool,
    /// What `initialize` chose.
    version: Option<String>,
    /// What `server/discover` offers.
    versions: Option<Versions>,
}

/// The members of an object of the message; none of what is no object.
#[derive(Default)]
struct Members {
    /// Between its braces.
    inside: Range<usize>,
    members: Vec<(String, Range<usize>, Members)>,
}

/// An array of revisions.
struct Versions {
    inside: Range<usize>,
    versions: Vec<(Option<String>, Range<usize>)>,
}

impl Handshake {
    fn read(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Fault> {
        if scanner.kind()? != Kind::Object {
            return scanner.value().map(drop);
        }
        scanner.object(|scanner, key| {
            match (key, scanner.kind()?) {
                ("capabilities", Kind::Object) => {
                    let start = scanner.position();
                    self.capabilities = Members::read(scanner, 2)?;
                    let text = scanner.source(start..scanner.position());
                    self.tells_of_lists = serde_json::from_str::<Value>(text).is_ok_and(|all| all["tools"]["listChanged"] == true);
                }
                ("protocolVersion", Kind::String) => self.version = Some(scanner.string()?.into_owned()),
                ("supportedVersions", Kind::Array) => self.versions = Some(Versions::read(scanner)?),
                _ => {
                    scanner.value()?;
                }
            }
            Ok(())
        })
    }
}

impl Members {
    fn read(scanner: &mut Scanner<'_>, levels: usize) -> Result<Self, Fault> {
        let start = scanner.position() + 1;
        let mut members = Vec::new();
        scanner.object(|scanner, key| {
            let is_object = scanner.kind()? == Kind::Object;
            let start = scanner.position();
            let inner =
                if is_object && levels > 1 { Self::read(scanner, levels - 1)? } else { scanner.value().map(|_| Self::default())? };
            members.push((key.to_owned(), start..scanner.position(), inner));
            Ok(())
        })?;
        Ok(Self { inside: start..scanner.position() - 1, members })
    }

    /// What has to change for the members to be without those that `goes` names by their path.
    fn without<'a>(&'a self, message: &[u8], path: &mut Vec<&'a str>, goes: &dyn Fn(&[&str]) -> bool) -> Vec<Edit> {
        let mut kept = Vec::new();
        let mut deeper = Vec::new();
        for (key, place, inner) in &self.members {
            path.push(key);
            if !goes(path) {
                let edits = inner.without(message, path, goes);
                let value = apply(&message[place.clone()], edits.iter().map(|edit| edit.within(place.start)).collect());
                // A string always prints.
                let key = serde_json::to_string(key).unwrap_or_default();
                kept.push([key.as_bytes(), b":", &value].concat());
                deeper.extend(edits);
            }
            path.pop();
        }
        if kept.len() == self.members.len() { deeper } else { vec![Edit { place: self.inside.clone(), text: kept.join(&b","[..]) }] }
    }
}

impl Edit {
    /// The same change of the part of the message that begins at `start`.
    fn within(&self, start: usize) -> Self {
        Self { place: self.place.start - start..self.place.end - start, text: self.text.clone() }
    }
}

impl Versions {
    fn read(scanner: &mut Scanner<'_>) -> Result<Self, Fault> {
        let start = scanner.position() + 1;
        let mut versions = Vec::new();
        scanner.array(|scanner| {
            let is_string = scanner.kind()? == Kind::String;
            let start = scanner.position();
            let version = if is_string { Some(scanner.string()?.into_owned()) } else { scanner.value().map(|_| None)? };
            versions.push((version, start..scanner.position()));
            Ok(())
        })?;
        Ok(Self { inside: start..scanner.position() - 1, versions })
    }

    fn spoken_here(&self, message: &[u8]) -> Option<Edit> {
        let is_spoken = |version: &Option<String>| version.as_deref().is_some_and(|version| REVISIONS.contains(&version));
        let kept: Vec<_> =
            self.versions.iter().filter(|(version, _)| is_spoken(version)).map(|(_, place)| &message[place.clone()]).collect();
        (kept.len() < self.versions.len()).then(|| Edit { place: self.inside.clone(), text: kept.join(&b","[..]) })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn filtered(result: &str, denied: &[&str]) -> String {
        let message = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{result}}}"#);
        let found = filter(message.as_bytes(), |method| denied.contains(&method)).unwrap();
        let text = found.changed.map_or(message, |changed| String::from_utf8(changed).unwrap());
        text.strip_prefix(r#"{"jsonrpc":"2.0","id":1,"result":"#).and_then(|text| text.strip_suffix('}')).unwrap().to_owned()
    }

    #[test]
    fn a_feature_goes_when_all_of_its_methods_are_denied_and_nothing_else_changes() {
        let before =
            r#"{"capabilities": {"tools" : {"listChanged":true}, "prompts":{},"resources":{"subscribe":true, "listChanged":1e2},"x":1.0}}"#;
        for (denied, after) in [
            (&[][..], before),
            (&["prompts/list", "resources/list"], before),
            (
                &["prompts/list", "prompts/get"],
                r#"{"capabilities": {"tools":{"listChanged":true},"resources":{"subscribe":true, "listChanged":1e2},"x":1.0}}"#,
            ),
            (
                &["resources/subscribe"],
                r#"{"capabilities": {"tools" : {"listChanged":true}, "prompts":{},"resources":{"listChanged":1e2},"x":1.0}}"#,
            ),
            (&["resources/subscribe", "tools/list"], r#"{"capabilities": {"prompts":{},"resources":{"listChanged":1e2},"x":1.0}}"#),
            (
                &["resources/list", "resources/read", "resources/templates/list"],
                r#"{"capabilities": {"tools":{"listChanged":true},"prompts":{},"x":1.0}}"#,
            ),
        ] {
            assert_eq!(filtered(before, denied), after, "{denied:?}");
        }
        let tasks = r#"{"capabilities":{"extensions":{"io.modelcontextprotocol/tasks":{},"vendor":{}}}}"#;
        assert_eq!(filtered(tasks, &["tasks/get"]), r#"{"capabilities":{"extensions":{"vendor":{}}}}"#);
    }

    #[test]
    fn only_revisions_that_are_spoken_here_are_offered() {
        let before = r#"{"supportedVersions":["2099-01-01", "2026-07-28", 7 ,"2025-11-25"],"capabilities":{}}"#;
        assert_eq!(filtered(before, &[]), r#"{"supportedVersions":["2026-07-28","2025-11-25"],"capabilities":{}}"#);
    }

    #[test]
    fn what_the_server_chose_and_declared_is_told() {
        for (result, tells_of_lists, is_spoken_here) in [
            (r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{"listChanged":true}}}"#, true, true),
            (r#"{"protocolVersion":"2025-03-26","capabilities":{"tools":{"listChanged":"true"},"listChanged":true}}"#, false, true),
            (r#"{"protocolVersion":"2024-10-07","capabilities":{}}"#, false, false),
            (r#"{"protocolVersion":"2026-07-28","capabilities":[]}"#, false, false),
            ("{}", false, true),
        ] {
            let message = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{result}}}"#);
            let found = filter(message.as_bytes(), |_| false).unwrap();
            let has_url_elicitation = result.contains("2025-11-25");
            assert_eq!(found, Found { changed: None, tells_of_lists, is_spoken_here, has_url_elicitation }, "{result}");
        }
        assert!(filter(br#"{"jsonrpc":"2.0","id":1,"result":{"capabilities":{},"capabilities":{}}}"#, |_| false).is_err());
    }

    #[test]
    fn only_the_servers_own_word_begins_a_subscription() {
        let says = |method: &str, what: Value| tells_of_lists(&json!({"method": method, "params": {"notifications": what}}));
        assert!(says(ACKNOWLEDGED, json!({"toolsListChanged": true})));
        assert!(!says(ACKNOWLEDGED, json!({"promptsListChanged": true})));
        assert!(!says(ACKNOWLEDGED, json!({"toolsListChanged": false})));
        assert!(!says("notifications/progress", json!({"toolsListChanged": true})));
    }
}
