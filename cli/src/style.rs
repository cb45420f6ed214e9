//! Colours, for people only: on a terminal, unless `NO_COLOR` is set.

use std::env;
use std::io::IsTerminal;

/// How text is set off.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    coloured: bool,
}

impl Style {
    /// For what is written to a stream.
    pub fn of(stream: &impl IsTerminal) -> Self {
        let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { coloured: stream.is_terminal() && !refused }
    }

    /// What is wrong.
    pub fn bad(self, text: &str) -> String {
        self.set(text, "1;31")
    }

    /// What is well.
    pub fn good(self, text: &str) -> String {
        self.set(text, "32")
    }

    /// What may be wrong.
    pub fn doubtful(self, text: &str) -> String {
        self.set(text, "1;33")
    }

    fn set(self, text: &str, code: &str) -> String {
        if self.coloured { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}
