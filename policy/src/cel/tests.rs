//! Shared by the tests: one way to ask an expression about a call.

mod bounds;
mod laws;
mod refused;
mod spec;
mod values;

use std::net::{IpAddr, Ipv4Addr};

use super::Program;
use crate::caller::Caller;
use crate::facts::{Facts, ServerName};
use crate::regexp::Regexps;
use crate::truth::Truth;
use crate::value::Value;

fn compiled(expression: &str) -> Program {
    Program::compile(expression, &mut Regexps::default()).unwrap_or_else(|error| panic!("{expression}: {error}"))
}

/// What an expression says of a call of `pay` with these arguments.
fn ask(expression: &str, args: &str) -> Truth {
    ask_value(&compiled(expression), &Value::parse(args).unwrap())
}

fn ask_value(program: &Program, args: &Value<'_>) -> Truth {
    let caller = Caller::anonymous(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)));
    program.evaluate(&Facts { args, tool: "pay", caller: &caller, server: ServerName { namespace: "shop", name: "till-0" } })
}

/// An answer without its reason.
fn short(truth: &Truth) -> &'static str {
    match truth {
        Truth::True => "true",
        Truth::False => "false",
        Truth::Undecided(_) => "undecided",
    }
}
