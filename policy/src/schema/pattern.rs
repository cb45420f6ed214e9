//! Patterns of a schema mean what they mean in a condition.
//!
//! The validator reads patterns as ECMA-262 does, where `\d` is ten digits, `.` has other exceptions and `[a&&b]` is no
//! intersection. So a pattern is given to it spelled out: in single characters and ranges, which both read alike.

use regex_syntax::hir::{Hir, HirKind};

use crate::regexp::Regexps;

/// The pattern in words that the validator reads as we do. The error says what is wrong with it.
pub(super) fn spelled_out(pattern: &str, regexps: &mut Regexps) -> Result<String, String> {
    regexps.check(pattern)?;
    if !pattern.contains(['\\', '.', '[']) {
        return Ok(pattern.to_owned());
    }
    let hir = regex_syntax::parse(pattern).map_err(|cause| cause.to_string())?;
    if has_empty_class(&hir) {
        return Err("a class of characters in this regular expression has none, so it never matches".to_owned());
    }
    Ok(hir.to_string())
}

/// A class without characters is the one thing that cannot be spelled out. Expressions nest no deeper than their parser allows.
fn has_empty_class(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Class(class) => class.is_empty(),
        HirKind::Repetition(repetition) => has_empty_class(&repetition.sub),
        HirKind::Capture(capture) => has_empty_class(&capture.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts.iter().any(has_empty_class),
        HirKind::Empty | HirKind::Literal(_) | HirKind::Look(_) => false,
    }
}
