//! From text to the syntax tree of the crate `cel`.
//!
//! Of the crate's two parsers this is the recursive one (feature `parser_pratt`), for safety: the generated one needs more than
//! 2 MiB of stack for thirty pairs of parentheses, so that a short expression could end the process, and takes ten times as long. This
//! one takes a limit on its recursion; the other things that it recurses on are bounded here by the length of the text and the number
//! of its question marks. The crate does not document it: that it keeps its promises is for the tests of this module to show.

use cel::IdedExpr;
use cel::parser::{ParseError, PrattParser};

/// Characters of an expression.
const MAX_CHARACTERS: usize = 2_048;
/// Brackets within each other.
const MAX_NESTING: u16 = 32;
/// The parser recurses once for each `? :` of a chain, and does not count that.
const MAX_QUESTION_MARKS: usize = 64;

/// Parses an expression. The error says what is wrong and where.
pub(super) fn parse(text: &str) -> Result<IdedExpr, String> {
    if text.trim().is_empty() {
        return Err("the expression is empty: write a condition such as `args.amount <= 100`".to_owned());
    }
    if text.chars().count() > MAX_CHARACTERS {
        return Err("the expression is too long: at most 2,048 characters".to_owned());
    }
    if text.bytes().filter(|byte| *byte == b'?').count() > MAX_QUESTION_MARKS {
        return Err("the expression has more than 64 question marks, those within text included: write fewer choices".to_owned());
    }
    parser().parse(text).map_err(|errors| explain(text, &errors.errors))
}

/// Where the part of an expression with this id stands. The expression must be one that parses.
pub(super) fn place(text: &str, id: u64) -> Option<String> {
    // The parser tells places only with errors. So it reads the text again, with one bracket too many on a line of its own: up to
    // there it gives out the same ids, and its complaint brings the places of all of them.
    let errors = parser().parse(&format!("{text}\n)")).err()?;
    let places = errors.errors.into_iter().find_map(|error| error.source_info)?;
    let (offset, _) = places.offset_for(id)?;
    let before = text.get(..usize::try_from(offset).ok()?)?;
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    Some(describe(text, line, column))
}

fn parser() -> PrattParser {
    PrattParser::new().max_recursion_depth(MAX_NESTING)
}

/// The first error that has a place, in plain words.
fn explain(text: &str, errors: &[ParseError]) -> String {
    if errors.iter().any(|error| error.msg.contains("recursion limit")) {
        return "the expression is too deep: at most 32 brackets within each other".to_owned();
    }
    let first = errors.iter().find_map(|error| Some((usize::try_from(error.pos.0).ok().filter(|line| *line > 0)?, error)));
    let Some((line, error)) = first else { return "this is no expression".to_owned() };
    // The parser's columns count bytes, from 1.
    let bytes = usize::try_from(error.pos.1 - 1).unwrap_or(0);
    let before = text.split('\n').nth(line - 1).and_then(|line| line.get(..bytes)).unwrap_or_default();
    format!("{}: {}", describe(text, line, before.chars().count() + 1), in_plain_words(&error.msg))
}

fn describe(text: &str, line: usize, column: usize) -> String {
    if text.contains('\n') { format!("line {line}, column {column}") } else { format!("column {column}") }
}

fn in_plain_words(message: &str) -> String {
    let message = message.strip_prefix("Syntax error: ").unwrap_or(message);
    match message {
        "invalid argument to has() macro" => "`has` asks for one member: write `has(args.name)`, or `\"any key\" in args`".to_owned(),
        "argument must be a simple name" => {
            "the first argument of a macro is the name of its variable, as in `list.all(x, x > 0)`".to_owned()
        }
        "unsupported syntax: '`'" => "a name in backticks: write `args[\"any key\"]`".to_owned(),
        "unsupported syntax '.?'" | "unsupported syntax '?'" => "optional values are not supported: ask with `has(args.name)`".to_owned(),
        "mismatched input '<EOF>' expecting expression" => "the expression ends too early".to_owned(),
        "expected identifier after '.'" => "a name should stand after `.`; any other key is read as `args[\"any key\"]`".to_owned(),
        "unable to unescape string" => "a string has an escape that is not known; a backslash is written `\\\\`".to_owned(),
        "invalid int literal" => "an int must fit into 64 bits".to_owned(),
        "invalid double literal" => "a double must be finite".to_owned(),
        _ if let Some(word) = message.strip_prefix("reserved identifier: ") => format!("`{word}` is a reserved word"),
        _ => match message.strip_prefix("mismatched input ").and_then(|rest| rest.split_once(" expecting ")) {
            Some(("'='", _)) => "`=` is no operator: write `==`".to_owned(),
            Some(("'and'", _)) => "`and` is no operator: write `&&`".to_owned(),
            Some(("'or'", _)) => "`or` is no operator: write `||`".to_owned(),
            Some((found, "<EOF>")) => format!("the expression should end before {found}"),
            Some(("<EOF>", expected)) => format!("the expression ends where {expected} should stand"),
            _ => message.to_owned(),
        },
    }
}
