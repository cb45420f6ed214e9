//! Keys that some servers take for others: they fold case, as Go does when it reads JSON, compatibility forms (`ſ`, the Kelvin sign,
//! full width), or drop NUL, blanks and invisible characters. mcp.md, rule 2.

use unicode_normalization::UnicodeNormalization;

/// A key that the policy names is missing, and another is there that some servers take for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a key that the policy names is missing, and one is there that some servers take for it: they overlook case, blanks and forms of letters"
)]
pub struct Lookalike;

/// Whether a key is none of the known ones, but some parsers take it for one. `known` is ASCII.
#[must_use]
pub fn is_lookalike(key: &str, known: &[&str]) -> bool {
    if known.contains(&key) {
        return false;
    }
    if key.is_ascii() { folds_to_one_of(key.chars(), known) } else { folds_to_one_of(key.nfkc(), known) }
}

fn folds_to_one_of(key: impl Iterator<Item = char>, known: &[&str]) -> bool {
    let mut folded = String::new();
    for c in fold(key) {
        folded.push(c);
        // To end at the first difference keeps a body full of odd keys cheap.
        let begins = |known: &&str| known.get(..folded.len()).is_some_and(|start| start.eq_ignore_ascii_case(&folded));
        if !known.iter().any(begins) {
            return false;
        }
    }
    known.iter().any(|known| known.eq_ignore_ascii_case(&folded))
}

/// What is left of a key for those who overlook the most, as a number: keys that one server takes for another have the same one.
/// Keys that nobody confuses have different ones, but for chance (2^-64) and for a caller who searches for two: such a call is refused,
/// and none passes that should not.
pub(crate) fn folded(key: &str) -> u64 {
    const START: u64 = 0xcbf2_9ce4_8422_2325;
    // FNV-1a: the same everywhere, and quick on the few bytes of a key.
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    if key.is_ascii() {
        return key.bytes().filter(u8::is_ascii_graphic).map(|byte| byte.to_ascii_lowercase()).fold(START, mix);
    }
    fold(key.nfkc()).fold(START, |hash, c| c.encode_utf8(&mut [0; 4]).bytes().fold(hash, mix))
}

/// The characters of a normalised key without case, and without those that are overlooked.
fn fold(key: impl Iterator<Item = char>) -> impl Iterator<Item = char> {
    // The lower case of `İ` is an `i` and a combining dot.
    let lower = key.filter(|c| !is_overlooked(*c)).flat_map(char::to_uppercase).flat_map(char::to_lowercase);
    lower.filter(|c| *c != '\u{307}')
}

/// NUL and its like, blanks, and what Unicode calls default ignorable.
fn is_overlooked(c: char) -> bool {
    c.is_control()
        || c.is_whitespace()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::{folded, is_lookalike};
    use proptest::prelude::*;

    #[test]
    fn lookalikes_of_a_known_key_are_found() {
        let known = &["name", "taskId", "_meta"];
        for key in [
            "Name",
            "NAME",
            "name\0",
            "\0name",
            " name",
            "name ",
            "na me",
            "ｎame",
            "n\u{200b}ame",
            "name\u{feff}",
            "taskid",
            "TASKID",
            "tas\u{212a}Id",
            "ta\u{17f}kId",
            "task\u{130}d",
            "task\u{131}d",
            "_Meta",
        ] {
            assert!(is_lookalike(key, known), "{key:?}");
        }
        for key in ["name", "taskId", "_meta", "nam", "names", "title", "", "\0", "task_id", "näme", "n\u{301}ame", &"name".repeat(100)] {
            assert!(!is_lookalike(key, known), "{key:?}");
        }
    }

    #[test]
    fn keys_that_some_server_confuses_fold_alike() {
        for (one, other) in [
            ("operation", "Operation"),
            ("taskId", "TASKID"),
            ("key", "\u{212a}ey"),
            ("status", "\u{17f}tatus"),
            ("name", "ｎａｍｅ"),
            ("name", "name\0"),
            ("file name", "filename"),
            ("id", "\u{130}d"),
            ("id", "i\u{200d}d"),
            ("größe", "GRÖSSE"),
            ("größe", "gro\u{308}ße"),
            ("σ", "ς"),
            ("", "\0"),
        ] {
            assert_eq!(folded(one), folded(other), "{one:?} {other:?}");
        }
    }

    #[test]
    fn keys_that_nobody_confuses_do_not_fold_alike() {
        let keys = ["a", "b", "ab", "ba", "a_b", "a-b", "a.b", "ä", "é", "e", "👍", "👎", "→", "←", "क", "कि", "कु", "€", "£", "1", "2", ""];
        for (i, one) in keys.iter().enumerate() {
            for other in &keys[i + 1..] {
                assert_ne!(folded(one), folded(other), "{one:?} {other:?}");
            }
        }
    }

    proptest! {
        /// Both ways to ask must agree, whichever of them a part of the system uses.
        #[test]
        fn to_look_like_a_known_key_is_to_fold_like_it(key in "(?i)[\\x00 naſ\u{200b}]?n[aä]m[eéｅ][\\x00 s]?") {
            prop_assert_eq!(is_lookalike(&key, &["name"]), key != "name" && folded(&key) == folded("name"));
        }
    }
}
