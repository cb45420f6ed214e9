//! Which of some names was meant.

/// The name that is spelled most like the written one, if one is near.
pub(super) fn nearest<'n>(written: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let near = |name: &&str| {
        let changes = changes(&written.to_ascii_lowercase(), &name.to_ascii_lowercase());
        (changes <= name.len() / 3).then_some(changes)
    };
    names.filter_map(|name| Some((near(&name)?, name))).min_by_key(|(changes, _)| *changes).map(|(_, name)| name)
}

/// How many characters must be put in, left out or replaced to turn one text into the other.
fn changes(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    // The distance between what was read of `from` and each beginning of `to`.
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (read, a) in from.chars().enumerate() {
        let mut diagonal = read;
        row[0] = read + 1;
        for (i, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[i + 1];
            row[i + 1] = replaced.min(diagonal + 1).min(row[i] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_counted() {
        for (from, to, count) in [("", "", 0), ("", "ab", 2), ("ab", "", 2), ("kitten", "sitting", 3), ("flaw", "lawn", 2), ("é", "e", 1)]
        {
            assert_eq!(changes(from, to), count, "{from} to {to}");
            assert_eq!(changes(to, from), count, "{to} to {from}");
        }
    }

    #[test]
    fn only_a_near_name_is_offered() {
        let names = ["args", "tool", "startsWith", "x"];
        for (written, expected) in [
            ("arg", Some("args")),
            ("ARGS", Some("args")),
            ("tools", Some("tool")),
            ("starts_with", Some("startsWith")),
            ("amount", None),
            ("y", None),
        ] {
            assert_eq!(nearest(written, names.into_iter()), expected, "{written}");
        }
    }
}
