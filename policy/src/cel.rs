//! CEL expressions as conditions: the part of the [Common Expression Language](https://cel.dev) that a policy can use.
//!
//! # Variables
//!
//! | name | type | what it is |
//! |---|---|---|
//! | `args` | map | the call's arguments; an empty map where it has none |
//! | `tool` | string | the name of the tool |
//! | `caller` | map | `{kind: "anonymous", address: "10.0.0.1"}` |
//! | `server` | map | `{namespace, name}`; without a cluster an empty namespace, and the authority that the server is reached at |
//!
//! # Types
//!
//! null, bool, int (64 bits), double, string, list, map, and the types themselves (`type(args.to) == list`). A JSON number that is
//! whole by value is an int (`1.0` too), any other the nearest double. A number beyond ±2^53 is an error where the expression reads it.
//! Literals of bytes and of unsigned integers, messages, timestamps, durations and optional values are not part of the language.
//!
//! What comes from `args` has a type that is known only when a call comes (`dyn`). Everything else is checked when the policy is
//! accepted: `tool + 1`, or an expression that gives an int, is refused then.
//!
//! # Operators
//!
//! | operator | takes | notes |
//! |---|---|---|
//! | `a && b`, <code>a &#124;&#124; b</code> | bool | false (true) if one side is, even if the other errs |
//! | `!a` | bool | |
//! | `c ? a : b` | bool, then any two of one type | |
//! | `==`, `!=` | any | across int and double by value; values of different types are unequal; lists and maps member by member |
//! | `<`, `<=`, `>`, `>=` | numbers, strings, bools | across int and double by value; strings by code points |
//! | `+` | two ints, doubles, strings or lists | |
//! | `-`, `*`, `/` | two ints or doubles | an int and a double do not mix: convert with `int(…)` or `double(…)` |
//! | `%` | two ints | |
//! | `-a` | int, double | |
//! | `a in b` | list; map (its keys) | |
//! | `a.name`, `a["key"]`, `a[0]` | map; map; list | what is not there is an error: ask with `has(a.name)` or `"key" in a` |
//!
//! Overflow, division by zero and a double that is not finite are errors.
//!
//! # Functions and macros
//!
//! | written | gives | meaning |
//! |---|---|---|
//! | `has(a.name)` | bool | whether the map has the member |
//! | `a.all(x, p)`, `a.exists(x, p)` | bool | whether `p` holds for all (any) elements of a list, or keys of a map; errors as with `&&` (<code>&#124;&#124;</code>) |
//! | `a.exists_one(x, p)` | bool | whether `p` holds for exactly one; any error is an error |
//! | `a.map(x, e)`, `a.map(x, p, e)` | list | `e` of each element (for which `p` holds) |
//! | `a.filter(x, p)` | list | the elements for which `p` holds |
//! | `size(a)`, `a.size()` | int | code points of a string, elements of a list, members of a map |
//! | `s.contains(t)`, `s.startsWith(t)`, `s.endsWith(t)` | bool | |
//! | `s.matches("…")`, `matches(s, "…")` | bool | a regular expression that matches anywhere unless anchored; written out as text, at most 1,024 characters |
//! | `s.lowerAscii()`, `s.upperAscii()` | string | only ASCII letters change |
//! | `s.trim()` | string | without white space at both ends |
//! | `s.split(t)` | list | the parts between each `t`; between all characters if `t` is empty |
//! | `s.substring(from)`, `s.substring(from, to)` | string | code points `from` up to and without `to`, from 0; outside the string is an error |
//! | `int(a)` | int | of a double: without its fraction; of a string: decimal |
//! | `double(a)`, `string(a)` | double, string | of a number or a string, `string` of a bool too |
//! | `type(a)` | type | one of `null_type`, `bool`, `int`, `double`, `string`, `list`, `map`, `type` |
//!
//! # Bounds
//!
//! An expression has at most 2,048 characters and 64 levels. Each evaluation has 10,000 steps, and what takes more cannot be
//! decided, whatever else the expression says. Each operator, call, literal and variable that is evaluated is one step; and there is
//! one more
//!
//! * for each element that a macro visits, `in` or `==` compares, `+` or `split` puts into a list, or a map is built of;
//! * for each 1,024 bytes of text that are compared, searched, counted or copied;
//! * for each 64 bytes of text that `matches` reads.
//!
//! No operation does more than its steps allow, so that 10,000 steps bound both time and memory.
//!
//! The crate `cel` parses. Its interpreter is not used: it bounds no cost, checks no types and reads JSON numbers as doubles.

mod arithmetic;
mod call;
mod check;
mod convert;
mod evaluate;
mod fault;
mod function;
mod item;
mod node;
mod operator;
mod parse;
mod spelling;
mod steps;
#[cfg(test)]
mod tests;
mod text;
mod types;

use std::sync::Arc;

use crate::facts::Facts;
use crate::regexp::Regexps;
use crate::truth::Truth;

/// A compiled expression that gives a boolean.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    root: Arc<node::Node>,
}

impl Program {
    /// Compiles and type-checks an expression. The error says what is wrong and where.
    pub fn compile(text: &str, regexps: &mut Regexps) -> Result<Self, String> {
        let parsed = parse::parse(text)?;
        match check::condition(&parsed, regexps) {
            Ok(root) => Ok(Self { root: Arc::new(root) }),
            Err(problem) => Err(match parse::place(text, problem.id) {
                Some(place) => format!("{place}: {}", problem.message),
                None => problem.message,
            }),
        }
    }

    /// Whether the expression is true for the call.
    pub fn evaluate(&self, facts: &Facts<'_>) -> Truth {
        match evaluate::condition(&self.root, facts) {
            Ok(holds) => holds.into(),
            Err(fault) => Truth::Undecided(fault.to_string().into()),
        }
    }
}
