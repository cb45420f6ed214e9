//! Messages of many clients to one server: each request under an id of our own, and its answers under the client's again. All other
//! bytes stay as they are. For the modern revision.

use std::ops::Range;

use mcp_policy::json::{Fault, Kind, Scanner};

use super::Id;
use super::envelope::{Member, read_id, skip};
use crate::message::edit::{Edit, apply};

/// The key of `_meta` that names the subscription which a message is for.
pub(crate) const SUBSCRIPTION_ID: &str = "io.modelcontextprotocol/subscriptionId";
const TOKEN: &str = "progressToken";

/// What a client called its request: JSON texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Renamed {
    id: String,
    token: Option<String>,
}

/// The request under another id, which is its progress token, too, if it has one; and what its client called it.
pub(crate) fn rename(request: &[u8], id: &Id) -> Result<(Vec<u8>, Renamed), Fault> {
    let mut scanner = Scanner::new(request)?;
    let (mut id_place, mut token) = (0..0, None);
    scanner.object(|scanner, key| match key {
        "id" => scanner.value().map(|place| id_place = place),
        "params" => member(scanner, "_meta", |scanner| member(scanner, TOKEN, |scanner| scanner.value().map(|place| token = Some(place)))),
        _ => skip(scanner),
    })?;
    let text = |place: &Range<usize>| scanner.source(place.clone()).to_owned();
    let renamed = Renamed { id: text(&id_place), token: token.as_ref().map(text) };
    let edits = [Some(id_place), token].into_iter().flatten().map(|place| Edit { place, text: id.as_json().into() }).collect();
    Ok((apply(request, edits), renamed))
}

/// Where a message of the server names a request.
#[derive(Debug, Default)]
pub(crate) struct Back {
    /// The request that it answers.
    pub(crate) id: Option<Id>,
    /// The request that it is about, where it is a notification.
    pub(crate) about: Option<Id>,
    ids: Vec<Range<usize>>,
    token: Option<Range<usize>>,
}

/// Reads where a message of the server names a request.
pub(crate) fn rename_back(message: &[u8]) -> Result<Back, Fault> {
    let mut back = Back::default();
    let mut scanner = Scanner::new(message)?;
    scanner.object(|scanner, key| match key {
        "id" => {
            let (id, place) = id(scanner)?;
            back.id = id;
            back.ids.push(place);
            Ok(())
        }
        "params" | "result" => {
            if scanner.kind()? != Kind::Object {
                return skip(scanner);
            }
            scanner.object(|scanner, key| match key {
                TOKEN => {
                    let (about, place) = id(scanner)?;
                    back.about = about;
                    back.token = Some(place);
                    Ok(())
                }
                "_meta" => member(scanner, SUBSCRIPTION_ID, |scanner| {
                    let (about, place) = id(scanner)?;
                    back.about = about;
                    back.ids.push(place);
                    Ok(())
                }),
                _ => skip(scanner),
            })
        }
        _ => skip(scanner),
    })?;
    Ok(back)
}

impl Back {
    /// The message with the client's own names for its request.
    pub(crate) fn restored(&self, message: &[u8], renamed: &Renamed) -> Vec<u8> {
        let id = |place: &Range<usize>| Edit { place: place.clone(), text: renamed.id.as_str().into() };
        let token = self.token.iter().zip(&renamed.token).map(|(place, token)| Edit { place: place.clone(), text: token.as_str().into() });
        apply(message, self.ids.iter().map(id).chain(token).collect())
    }
}

fn id(scanner: &mut Scanner<'_>) -> Result<(Option<Id>, Range<usize>), Fault> {
    scanner.kind()?;
    let start = scanner.position();
    let id = if let Member::Is(id) = read_id(scanner)? { Some(id) } else { None };
    Ok((id, start..scanner.position()))
}

/// Reads an object's member of this name by `read`, and skips what is none.
fn member<'a>(scanner: &mut Scanner<'a>, name: &str, mut read: impl FnMut(&mut Scanner<'a>) -> Result<(), Fault>) -> Result<(), Fault> {
    if scanner.kind()? != Kind::Object {
        return skip(scanner);
    }
    scanner.object(|scanner, key| if key == name { read(scanner) } else { skip(scanner) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn renamed(request: &str) -> (String, Renamed) {
        let (message, renamed) = rename(request.as_bytes(), &Id::from(7)).unwrap();
        (String::from_utf8(message).unwrap(), renamed)
    }

    fn back(message: &str, renamed: &Renamed) -> String {
        String::from_utf8(rename_back(message.as_bytes()).unwrap().restored(message.as_bytes(), renamed)).unwrap()
    }

    #[test]
    fn a_request_gets_our_id_and_keeps_every_other_byte() {
        let (message, names) =
            renamed(r#"{"params" :{"_meta":{"progressToken":"t","x":1},"id":3}, "id":"\u0061","jsonrpc":"2.0","method":"tools/call"}"#);
        assert_eq!(message, r#"{"params" :{"_meta":{"progressToken":7,"x":1},"id":3}, "id":7,"jsonrpc":"2.0","method":"tools/call"}"#);
        assert_eq!(back(r#"{"result":{"id":7},"id":7}"#, &names), r#"{"result":{"id":7},"id":"\u0061"}"#);
        let progress = r#"{"method":"notifications/progress","params":{"progressToken":7,"progress":7}}"#;
        assert_eq!(back(progress, &names), progress.replacen('7', r#""t""#, 1));
    }

    #[test]
    fn events_of_a_subscription_name_the_request_as_its_client_does() {
        let (_, names) = renamed(r#"{"id":1,"method":"subscriptions/listen","params":{}}"#);
        for (message, about) in [
            (r#"{"method":"notifications/tools/list_changed","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":7}}}"#, true),
            (r#"{"id":7,"result":{"_meta":{"io.modelcontextprotocol/subscriptionId":7}}}"#, true),
            (r#"{"method":"notifications/message","params":{"data":7}}"#, false),
        ] {
            let read = rename_back(message.as_bytes()).unwrap();
            assert_eq!(read.about == Some(Id::from(7)), about, "{message}");
            assert_eq!(back(message, &names), if about { message.replace('7', "1") } else { message.to_owned() });
        }
    }
}
