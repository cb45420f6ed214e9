//! URLs that people write into policies and settings.

/// Whether this is a URL of one of these schemes, with a host, no user, and none of these characters.
#[must_use]
pub fn is_url(text: &str, schemes: &[&str], without: &[char]) -> bool {
    let rest = text.split_once("://").filter(|(scheme, _)| schemes.contains(scheme)).map(|(_, rest)| rest);
    rest.is_some_and(|rest| {
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let is_plain = rest.chars().all(|character| character.is_ascii_graphic() && !without.contains(&character));
        !host.is_empty() && !host.contains('@') && is_plain
    })
}
