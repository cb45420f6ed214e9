//! Tool patterns: an exact name, or a glob with `*` (any characters) and `?` (one Unicode scalar value). Case matters, nothing
//! is trimmed or normalised.

/// Whether the key is a glob. A key with `*` or `?` always is one.
pub(crate) fn is_glob(pattern: &str) -> bool {
    pattern.contains(['*', '?'])
}

/// How many characters of a glob stand for themselves: of two globs that match, the one with more is the closer one.
pub(crate) fn literal_characters(glob: &str) -> usize {
    glob.chars().filter(|c| !matches!(c, '*' | '?')).count()
}

/// Whether the pattern matches the whole name.
///
/// Takes at most `pattern × name` steps: after a mismatch only the last `*` is tried again, one character further on.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    matches_by(pattern, name, |expected, found| expected == '?' || expected == found)
}

/// `takes` tells whether a character of the pattern, but `*`, takes one of the name.
fn matches_by(pattern: &str, name: &str, takes: impl Fn(char, char) -> bool) -> bool {
    let (mut pattern, mut name) = (pattern.chars(), name.chars());
    // What follows the last `*`, and the part of the name where it was tried.
    let mut last_star = None;
    loop {
        let (mut pattern_rest, mut name_rest) = (pattern.clone(), name.clone());
        match (pattern_rest.next(), name_rest.next()) {
            (None, None) => return true,
            (Some('*'), _) => {
                last_star = Some((pattern_rest.clone(), name.clone()));
                pattern = pattern_rest;
                continue;
            }
            (Some(expected), Some(found)) if takes(expected, found) => {
                (pattern, name) = (pattern_rest, name_rest);
                continue;
            }
            _ => {}
        }
        let Some((after_star, tried)) = &mut last_star else { return false };
        if tried.next().is_none() {
            return false;
        }
        (pattern, name) = (after_star.clone(), tried.clone());
    }
}

/// Whether every name that `inner` matches is matched by `outer` too. The wild cards of `inner` are read as characters that no
/// literal of `outer` equals, and its `*` as one that not even `?` takes: what matches those matches all names.
pub(crate) fn covers(outer: &str, inner: &str) -> bool {
    matches_by(outer, inner, |expected, found| found != '*' && (expected == '?' || expected == found))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn matches_as_documented() {
        let cases = [
            ("a", "a", true),
            ("a", "A", false),
            ("a", "a ", false),
            ("", "", true),
            ("*", "", true),
            ("*", "anything", true),
            ("?", "é", true),
            ("?", "", false),
            ("??", "a", false),
            ("get_*", "get_", true),
            ("get_*", "forget_it", false),
            ("*_delete", "pods_delete", true),
            ("*_delete", "pods_delete_all", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("a*?c", "abc", true),
            ("a*?c", "ac", false),
            ("**", "x", true),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(matches(pattern, name), expected, "{pattern} on {name}");
        }
    }

    #[test]
    fn covers_as_documented() {
        let cases = [
            ("*", "a", true),
            ("*", "a*", true),
            ("a*", "ab", true),
            ("a*", "ab*", true),
            ("ab*", "a*", false),
            ("?", "*", false),
            ("?", "?", true),
            ("a", "?", false),
            ("*_delete", "*_delete", true),
            ("*delete*", "x_delete_?", true),
            ("a", "a", true),
            ("a", "b", false),
        ];
        for (outer, inner, expected) in cases {
            assert_eq!(covers(outer, inner), expected, "{outer} over {inner}");
        }
    }

    /// The slow and obvious reading of a glob.
    fn matches_naively(pattern: &[char], name: &[char]) -> bool {
        match pattern {
            [] => name.is_empty(),
            ['*', rest @ ..] => (0..=name.len()).any(|skip| matches_naively(rest, &name[skip..])),
            [expected, rest @ ..] => name.first().is_some_and(|c| *expected == '?' || expected == c) && matches_naively(rest, &name[1..]),
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_obvious_reading(pattern in "[ab*?]{0,8}", name in "[abc]{0,8}") {
            let naive = matches_naively(&pattern.chars().collect::<Vec<_>>(), &name.chars().collect::<Vec<_>>());
            prop_assert_eq!(matches(&pattern, &name), naive);
        }

        #[test]
        fn what_covers_matches_every_name(outer in "[ab*?]{0,5}", inner in "[ab*?]{0,5}", name in "[abc]{0,6}") {
            prop_assert!(!covers(&outer, &inner) || !matches(&inner, &name) || matches(&outer, &name));
        }
    }
}
