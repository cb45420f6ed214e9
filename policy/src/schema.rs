//! `arguments.schema`: JSON Schema 2020-12 for the arguments as a whole.
//!
//! What a schema cannot say here is refused when it is compiled, never passed over: keywords that nobody knows, formats that
//! nobody checks, other drafts, references to elsewhere.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use jsonschema::{Draft, PatternOptions, ValidationOptions, Validator};

use crate::json::MAX_DEPTH;
use crate::lookalike::Lookalike;
use crate::regexp::{self, Regexps};

mod keyword;
mod names;
mod pattern;
mod recursion;
mod report;
mod walk;

use names::Names;

/// A schema that arguments can be checked against.
#[derive(Clone)]
pub(crate) struct ArgumentsSchema {
    validator: Arc<Validator>,
    /// Patterns as they were written, by what they are compiled as.
    patterns: Arc<HashMap<String, String>>,
    /// Whether a `$ref` leads back to a schema that it is in.
    recursive: bool,
    names: Arc<Names>,
}

impl ArgumentsSchema {
    /// Compiles a schema. The error names the place in the schema (`properties.id.pattern`; empty for the whole) and says what
    /// would be right.
    pub fn compile(schema: &serde_json::Value, regexps: &mut Regexps) -> Result<Self, (String, String)> {
        if !schema.is_object() {
            return Err((String::new(), "must be a JSON Schema, an object; `{}` holds for every value".to_owned()));
        }
        let options = options();
        let is_known_format = |name: &str| options.is_known_format(Draft::Draft202012, name);
        let walked = walk::walk(schema, &is_known_format, regexps)?;
        let recursive = recursion::check(&walked.parts)?;
        let validator = options.build(&walked.schema).map_err(|cause| {
            let place = report::place_in_schema(cause.instance_path());
            (place, report::shortened(&cause.to_string()))
        })?;
        let names = Names::of(walked.parts);
        Ok(Self { validator: Arc::new(validator), patterns: Arc::new(walked.patterns), recursive, names: Arc::new(names) })
    }

    /// Checks arguments, a JSON text that was read strictly before. The error says what is wrong with which argument, with
    /// values: for people who explain a decision, never for logs.
    pub fn check(&self, arguments: &str) -> Result<(), String> {
        let value: serde_json::Value =
            serde_json::from_str(arguments).map_err(|_| "args: a number is out of the range of doubles".to_owned())?;
        if let Some(place) = self.names.lookalike(&value) {
            return Err(format!("{}: {Lookalike}", report::place_in_arguments(&place, &value)));
        }
        if self.validator.is_valid(&value) {
            return Ok(());
        }
        // Telling costs more than finding out: each part that is wrong gets a text, under each alternative that is not met.
        let may_cost = if self.recursive { report::MAX_LEVELS } else { MAX_DEPTH };
        if arguments.len() > report::MAX_BYTES || !report::is_within(&value, may_cost) {
            return Err("args: do not satisfy the schema; what is wrong is told of short arguments only".to_owned());
        }
        Err(report::wrong(&self.validator, &value, &self.patterns))
    }
}

impl fmt::Debug for ArgumentsSchema {
    /// Without the compiled schema, which is long and says nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArgumentsSchema").finish_non_exhaustive()
    }
}

fn options() -> ValidationOptions<'static> {
    // The walk has compiled each pattern within its bounds. What the validator makes of it may be a little larger.
    let patterns = PatternOptions::regex().size_limit(2 * regexp::MAX_COMPILED_BYTES).dfa_size_limit(regexp::MAX_CACHE_BYTES);
    jsonschema::options()
        .with_draft(Draft::Draft202012)
        .offline()
        .should_validate_formats(true)
        .should_ignore_unknown_formats(false)
        .with_pattern_options(patterns)
}

#[cfg(test)]
mod tests;
