//! Which of MCP's two protocols a message speaks (mcp.md 1.2). The body decides; where there are headers, they only confirm it
//! ([`crate::front::headers::era`]).

use crate::message::{INVALID_PARAMS, Malformed, Message, MetaVersion, Reason, UNSUPPORTED_VERSION};

/// The revision without handshake and sessions.
pub(crate) const MODERN: &str = "2026-07-28";
/// Every revision that is spoken here, newest first.
pub(crate) const REVISIONS: &[&str] = &[MODERN, "2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

/// Those of them that begin with a handshake.
pub(crate) const LEGACY_REVISIONS: &[&str] = REVISIONS.split_at(1).1;

/// The only one of them in which a request can be answered with pages that the user has to open first (`-32042`).
pub(crate) const WITH_URL_ELICITATION: &str = LEGACY_REVISIONS[0];

/// Which of the two protocols a message speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Era {
    /// Revisions up to 2025-11-25: handshake, sessions.
    Legacy,
    /// 2026-07-28: each request stands for itself.
    Modern,
}

/// The era of a message that has nothing but its body, as on stdio. What names no revision is legacy.
pub fn of_body(message: &Message) -> Result<Era, Malformed> {
    let era = match message.version() {
        MetaVersion::Absent => Ok(Era::Legacy),
        MetaVersion::Named(named) if named == MODERN => check_meta(message).map(|()| Era::Modern),
        MetaVersion::Named(named) => Err(unsupported(named)),
        MetaVersion::NotText => Err(not_text()),
    };
    era.map_err(|malformed| malformed.with_id(message.id().cloned()))
}

/// Whether a modern message has in `_meta` all that it must have.
pub(crate) fn check_meta(message: &Message) -> Result<(), Malformed> {
    match message {
        Message::Request(request) if request.capabilities.is_none() => {
            let missing = Malformed::bad_request(Reason::MissingCapabilities, "the client's capabilities are missing from `_meta`");
            Err(missing.with_code(INVALID_PARAMS))
        }
        _ => Ok(()),
    }
}

pub(crate) fn unsupported(requested: &str) -> Malformed {
    let malformed = Malformed::bad_request(Reason::UnsupportedVersion, "this revision is not spoken here").with_code(UNSUPPORTED_VERSION);
    Malformed { requested: Some(requested.to_owned()), ..malformed }
}

pub(crate) fn not_text() -> Malformed {
    Malformed::bad_request(Reason::MissingVersion, "the revision in `_meta` is not a string").with_code(INVALID_PARAMS)
}
