//! Keys that some parsers take for others. mcp.md, rule 2.

use unicode_normalization::UnicodeNormalization;

/// Whether a key is none of the known ones, but some parsers take it for one: they fold case, compatibility forms (`ſ`, the Kelvin
/// sign, full width) or drop NUL, blanks and invisible characters. `known` is ASCII.
pub(crate) fn is_lookalike(key: &str, known: &[&str]) -> bool {
    if known.contains(&key) {
        return false;
    }
    if key.is_ascii() { folds_to_one_of(key.chars(), known) } else { folds_to_one_of(key.nfkc(), known) }
}

fn folds_to_one_of(key: impl Iterator<Item = char>, known: &[&str]) -> bool {
    let visible = |c: &char| c.is_alphanumeric() || c.is_ascii_graphic();
    let mut folded = String::new();
    // Case folding can itself leave a combining mark (`İ` becomes `i` and a dot), hence the second filter.
    for c in key.filter(visible).flat_map(char::to_uppercase).flat_map(char::to_lowercase).filter(visible) {
        folded.push(c);
        // To end at the first difference keeps a body full of odd keys cheap.
        let begins = |known: &&str| known.get(..folded.len()).is_some_and(|start| start.eq_ignore_ascii_case(&folded));
        if !known.iter().any(begins) {
            return false;
        }
    }
    known.iter().any(|known| known.eq_ignore_ascii_case(&folded))
}

#[cfg(test)]
mod tests {
    use super::is_lookalike;

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
}
