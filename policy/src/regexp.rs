//! Regular expressions of policies: the syntax of the `regex` crate with its defaults, in linear time, bounded in size each and in all.
//!
//! They are compiled by `regex-automata`, which `regex` is made of, since it tells how much memory an expression takes.

use std::collections::HashMap;
use std::sync::Arc;

use regex_automata::meta::{Config, Regex};

/// The longest expression.
pub(crate) const MAX_CHARACTERS: usize = 1024;
/// Bytes of a compiled expression. Time to match grows with the size, so what a person writes fits and what explodes does not.
pub(crate) const MAX_COMPILED_BYTES: usize = 2 << 20;
/// Bytes of all the expressions of a policy: thousands of those that people write, and little of what a sidecar may take.
const MAX_POLICY_BYTES: usize = 16 << 20;
/// Bytes that matching may keep for speed, per expression and thread.
pub(crate) const MAX_CACHE_BYTES: usize = 1 << 20;

/// A compiled expression. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Regexp {
    /// As it was written.
    text: Arc<str>,
    regex: Regex,
}

impl Regexp {
    pub fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// The expression as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// The regular expressions of one policy, each compiled once.
#[derive(Debug, Default)]
pub(crate) struct Regexps {
    compiled: HashMap<Arc<str>, Regexp>,
    /// What all of them take.
    bytes: usize,
}

impl Regexps {
    /// Compiles an expression, unless the policy has it already. The error says what is wrong and where.
    pub fn compile(&mut self, text: &str) -> Result<Regexp, String> {
        if let Some(compiled) = self.compiled.get(text) {
            return Ok(compiled.clone());
        }
        let regex = compile(text)?;
        self.spend(&regex)?;
        let compiled = Regexp { text: text.into(), regex };
        self.compiled.insert(Arc::clone(&compiled.text), compiled.clone());
        Ok(compiled)
    }

    /// Checks an expression that somebody else compiles, who shares none.
    pub fn check(&mut self, text: &str) -> Result<(), String> {
        self.spend(&compile(text)?)
    }

    fn spend(&mut self, regex: &Regex) -> Result<(), String> {
        let bytes = self.bytes.saturating_add(regex.memory_usage());
        if bytes > MAX_POLICY_BYTES {
            return Err("the regular expressions of the policy take more than 16 MiB in all, counted up to this one; lower the counts in `{…}`, write \
                        `[0-9]` for `\\d` and `[0-9A-Za-z_]` for `\\w`, or write one expression in the same words wherever it stands"
                .to_owned());
        }
        self.bytes = bytes;
        Ok(())
    }
}

fn compile(text: &str) -> Result<Regex, String> {
    let characters = text.chars().count();
    if characters > MAX_CHARACTERS {
        return Err(format!("a regular expression has at most {MAX_CHARACTERS} characters; this one has {characters}"));
    }
    // Whether it matches is all that is asked, and that the lazy automaton answers: the others only take memory.
    let automata = Config::new().dfa(false).onepass(false);
    let bounds = automata.nfa_size_limit(Some(MAX_COMPILED_BYTES)).hybrid_cache_capacity(MAX_CACHE_BYTES);
    let built = Regex::builder().configure(bounds).build(text);
    built.map_err(|cause| if cause.size_limit().is_some() { too_big() } else { explain(text) })
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

    #[test]
    fn the_expressions_of_a_policy_are_bounded_in_all_and_each_counts_once() {
        let large = |i: usize| format!(r"^{i}[\pL]{{20}}$");
        let mut regexps = Regexps::default();
        let fit = (0..1000).take_while(|i| regexps.compile(&large(*i)).is_ok()).count();
        assert!((10..100).contains(&fit), "{fit}");
        let full = regexps.compile(&large(fit)).unwrap_err();
        assert!(full.starts_with("the regular expressions of the policy take more than 16 MiB in all, counted up to this one"), "{full}");
        assert_eq!(regexps.check(&large(0)), Err(full), "what is compiled elsewhere is shared with nobody");
        for i in 0..fit {
            assert_eq!(regexps.compile(&large(i)).unwrap().as_str(), large(i));
        }
        assert!(regexps.compile("^a$").unwrap().is_match("a"), "what still fits is taken");
    }

    #[test]
    fn what_people_write_fits_a_thousand_times() {
        let mut regexps = Regexps::default();
        for i in 0..1000 {
            regexps.compile(&format!(r"^s3://team-{i}/[a-z0-9-]{{1,63}}/.+\.csv$")).unwrap();
        }
    }
}
