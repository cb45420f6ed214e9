//! Regular expressions of policies: the syntax of the `regex` crate with its defaults, in linear time, bounded in size.

use regex::{Regex, RegexBuilder};

/// The longest expression.
pub(crate) const MAX_CHARACTERS: usize = 1024;
/// Bytes of a compiled expression. Time to match grows with the size, so what a person writes fits and what explodes does not.
pub(crate) const MAX_COMPILED_BYTES: usize = 2 << 20;
/// Bytes that matching may keep for speed, per expression and thread.
pub(crate) const MAX_CACHE_BYTES: usize = 1 << 20;

/// Compiles an expression. The error says what is wrong and where.
pub(crate) fn compile(text: &str) -> Result<Regex, String> {
    let characters = text.chars().count();
    if characters > MAX_CHARACTERS {
        return Err(format!("a regular expression has at most {MAX_CHARACTERS} characters; this one has {characters}"));
    }
    RegexBuilder::new(text).size_limit(MAX_COMPILED_BYTES).dfa_size_limit(MAX_CACHE_BYTES).build().map_err(|cause| match cause {
        regex::Error::CompiledTooBig(_) => too_big(),
        _ => explain(text),
    })
}

/// Why an expression that compiles to too much is refused.
pub(crate) fn too_big() -> String {
    "the regular expression would be slow: its repetitions multiply to more than 2 MiB; lower the counts in `{…}`, or write `[0-9]` for `\\d` and \
     `[0-9A-Za-z_]` for `\\w`"
        .to_owned()
}

/// What is wrong with an expression that does not compile.
fn explain(text: &str) -> String {
    use regex_syntax::Error;
    let (kind, start) = match regex_syntax::parse(text) {
        Err(Error::Parse(cause)) => (cause.kind().to_string(), cause.span().start.offset),
        Err(Error::Translate(cause)) => (cause.kind().to_string(), cause.span().start.offset),
        Err(cause) => return format!("is no regular expression: {cause}"),
        Ok(_) => return "is no regular expression".to_owned(),
    };
    let character = text.get(..start).map_or(0, |before| before.chars().count()) + 1;
    let hint = if kind.contains("look-around") || kind.contains("backreferences") {
        "; it could not be matched in linear time: ask with two conditions instead"
    } else {
        ""
    };
    format!("is no regular expression: at character {character}: {kind}{hint}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_compiles() {
        for text in
            ["", "^a+$", r"^[\w.+-]{1,32}@example\.com$", r"^\d{4}-\d{2}-\d{2}$", "(?i)^drop\\s", "^s3://team-a/", r"\p{Greek}", "a|b|c"]
        {
            assert!(compile(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn what_does_not_compile_says_why_and_where() {
        let cases = [
            ("a(b", "is no regular expression: at character 2: unclosed group"),
            ("é[z-a]", "is no regular expression: at character 3: invalid character class range, the start must be <= the end"),
            ("*", "is no regular expression: at character 1: repetition operator missing expression"),
            (
                "a(?=b)",
                "is no regular expression: at character 2: look-around, including look-ahead and look-behind, is not supported; it could not be \
                 matched in linear time: ask with two conditions instead",
            ),
            (
                r"(a)\1",
                "is no regular expression: at character 4: backreferences are not supported; it could not be matched in linear time: ask with two \
                 conditions instead",
            ),
            (r"\p{Klingon}", "is no regular expression: at character 1: Unicode property not found"),
        ];
        for (text, expected) in cases {
            assert_eq!(compile(text).unwrap_err(), expected, "{text}");
        }
    }

    #[test]
    fn what_would_be_slow_is_refused() {
        for text in ["(((a{100}){100}){100}){100}", r"\w{1000}", r"(?:\pL{100}){20}"] {
            assert_eq!(compile(text).unwrap_err(), too_big(), "{text}");
        }
        assert_eq!(compile(&"x".repeat(1025)).unwrap_err(), "a regular expression has at most 1024 characters; this one has 1025");
        assert!(compile(&"é".repeat(1024)).is_ok(), "characters are counted, not bytes");
    }
}
