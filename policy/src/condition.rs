//! Conditions: a document's condition becomes one that can be asked, and is asked about a call.

use crate::cel::Program;
use crate::document;
use crate::facts::Facts;
use crate::path::{Found, Obstacle, Path};
use crate::regexp::Regexps;
use crate::truth::{self, Truth};
use crate::value::Value;

mod account;
mod test;

use test::{Test, Unreadable};

/// Which elements of `[*]` decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Elements {
    /// All of them: an empty array holds. For `require`.
    All,
    /// Any of them: an empty array does not hold. For `denyIf`.
    Any,
}

/// A condition that can be asked.
#[derive(Clone, Debug)]
pub(crate) struct Condition(Question);

#[derive(Clone, Debug)]
enum Question {
    Argument {
        path: Path,
        test: Test,
    },
    Expression {
        /// As it was written.
        text: Box<str>,
        program: Program,
    },
}

/// Why one of the values that a path leads to does not decide.
#[derive(Clone, Copy)]
enum Unclear<'a> {
    Path(Obstacle),
    Value(Unreadable, &'a Value<'a>),
}

impl Condition {
    /// Compiles a condition. Errors name the field within it (`path`, `op`, `value`, `cel`, or nothing for the whole) and say what
    /// would be right.
    pub fn compile(condition: &document::Condition, regexps: &mut Regexps) -> Result<Self, Vec<(&'static str, String)>> {
        let document::Condition { path, op, value, cel } = condition;
        match (path, cel) {
            (None, None) => Err(vec![("", "needs `path`, `op` and `value`, or `cel`".to_owned())]),
            (Some(_), Some(_)) => {
                Err(vec![("", "has both `path` and `cel`; a condition is one of the two, and two conditions ask both".to_owned())])
            }
            (None, Some(text)) => {
                let beside = [("op", op.is_some()), ("value", value.is_some())].into_iter().filter(|(_, written)| *written);
                let mut errors: Vec<_> = beside.map(|(field, _)| (field, "means nothing beside `cel`".to_owned())).collect();
                match Program::compile(text, regexps) {
                    Ok(program) if errors.is_empty() => return Ok(Self(Question::Expression { text: text.as_str().into(), program })),
                    Ok(_) => {}
                    Err(message) => errors.push(("cel", message)),
                }
                Err(errors)
            }
            (Some(path), None) => match (Path::parse(path), Test::compile(*op, value.as_ref(), regexps)) {
                (Ok(path), Ok(test)) => Ok(Self(Question::Argument { path, test })),
                (path, test) => Err(path.err().map(|message| ("path", message)).into_iter().chain(test.err()).collect()),
            },
        }
    }

    /// Whether the condition holds for the call.
    pub fn holds(&self, facts: &Facts<'_>, elements: Elements) -> Truth {
        match &self.0 {
            Question::Expression { program, .. } => program.evaluate(facts),
            Question::Argument { path, test } => argument(path, test, facts.args, elements),
        }
    }

    /// What the condition wants and what it found, in one line, with values: for people who explain a decision, never for logs.
    pub fn account(&self, facts: &Facts<'_>) -> String {
        match &self.0 {
            Question::Expression { text, .. } => account::expression(text, facts.args),
            Question::Argument { path, test } => account::argument(path, test, facts.args),
        }
    }
}

/// Asks each of what the path leads to: one, unless it has `[*]`.
fn argument(path: &Path, test: &Test, args: &Value<'_>, elements: Elements) -> Truth {
    let answers = path.find(args).map(|found| match found {
        Found::Value(value) => test.ask(value).map_err(|cause| Unclear::Value(cause, value)),
        Found::Missing => Ok(test.holds_for_missing()),
        Found::Blocked(cause) => Err(Unclear::Path(cause)),
    });
    let answer = match elements {
        Elements::All => truth::all(answers),
        Elements::Any => truth::any(answers),
    };
    // Only here does the reason become text: of many elements that cannot be read, one is told.
    match answer {
        Ok(holds) => Truth::from(holds),
        Err(Unclear::Path(cause)) => Truth::Undecided(format!("{path} cannot be followed: {cause}").into()),
        Err(Unclear::Value(cause, value)) => Truth::Undecided(cause.told(path, value).into()),
    }
}

#[cfg(test)]
mod tests;
