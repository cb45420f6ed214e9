//! What is to be said of files: as lines for people, as JSON, or as annotations of GitHub workflows.

use std::io;

use clap::ValueEnum;
use mcp_policy::read::{FieldError, FileError};
use serde::Serialize;

use crate::style::Style;

/// The form of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Lines for people
    #[default]
    Text,
    /// One JSON object
    Json,
    /// Workflow commands, which GitHub shows beside the lines of a pull request
    Github,
}

/// The form of what is told of a cluster or a call: there is no file to annotate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Lines for people
    #[default]
    Text,
    /// One JSON object
    Json,
}

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    Warning,
}

/// Something to be said of a file.
#[derive(Debug, Serialize)]
pub struct Finding {
    severity: Severity,
    file: String,
    line: Option<u64>,
    column: Option<u64>,
    field: Option<String>,
    message: String,
}

impl Finding {
    pub fn new(severity: Severity, FileError { file, place, field: FieldError { path, message } }: FileError) -> Self {
        let field = (!path.is_empty()).then_some(path);
        Self { severity, file, line: place.map(|place| place.line), column: place.map(|place| place.column), field, message }
    }

    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// `error: policy.yaml:3:5: spec.tools.x.limts: unknown field; …`
    pub fn text(&self, style: Style) -> String {
        let severity = match self.severity {
            Severity::Error => style.bad("error"),
            Severity::Warning => style.doubtful("warning"),
        };
        let place = match (self.line, self.column) {
            (Some(line), Some(column)) => format!(":{line}:{column}"),
            _ => String::new(),
        };
        let field = self.field.as_ref().map_or_else(String::new, |field| format!("{field}: "));
        format!("{severity}: {}{place}: {field}{}", self.file, self.message)
    }

    /// `::error file=policy.yaml,line=3,col=5,title=spec.tools.x.limts::unknown field; …`
    pub fn github(&self) -> String {
        let command = if self.is_error() { "error" } else { "warning" };
        annotation(command, &self.file, self.line.zip(self.column), self.field.as_deref().unwrap_or("mcp-policy"), &self.message)
    }
}

/// A workflow command of GitHub that annotates a line.
pub fn annotation(command: &str, file: &str, place: Option<(u64, u64)>, title: &str, message: &str) -> String {
    let place = place.map_or_else(String::new, |(line, column)| format!(",line={line},col={column}"));
    format!("::{command} file={}{place},title={}::{}", property(file), property(title), data(message))
}

fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

/// Prints findings where people look for them: lines on standard error, annotations on standard output.
pub fn print(findings: &[Finding], format: Format) {
    for finding in findings {
        match format {
            Format::Text => eprintln!("{}", finding.text(Style::of(&io::stderr()))),
            Format::Github => println!("{}", finding.github()),
            Format::Json => {}
        }
    }
}

/// `1 error`, `2 errors`.
pub fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_something_to_github_is_escaped() {
        assert_eq!(
            annotation("error", "a,b:c.yaml", Some((3, 5)), "spec.tools.a:b", "100%\nof ::it"),
            "::error file=a%2Cb%3Ac.yaml,line=3,col=5,title=spec.tools.a%3Ab::100%25%0Aof ::it"
        );
        assert_eq!(annotation("warning", "f", None, "t", "m"), "::warning file=f,title=t::m");
    }
}
