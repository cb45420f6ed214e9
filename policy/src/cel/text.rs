//! Functions of strings, as CEL's strings extension defines them.

use std::rc::Rc;

use super::fault::Fault;
use super::item::{Item, List, Text};
use super::steps::Steps;

/// How many code points it has.
pub(super) fn size<'v>(text: &Text<'v>, steps: &mut Steps) -> Result<usize, Fault<'v>> {
    steps.text(text.as_str().len())?;
    Ok(text.as_str().chars().count())
}

/// Whether `finds(text, part)`.
pub(super) fn search<'v>(
    text: &Text<'v>,
    part: &Text<'v>,
    steps: &mut Steps,
    finds: impl Fn(&str, &str) -> bool,
) -> Result<bool, Fault<'v>> {
    steps.text(text.as_str().len().saturating_add(part.as_str().len()))?;
    Ok(finds(text.as_str(), part.as_str()))
}

/// A copy that `change` made, of the same length.
pub(super) fn changed<'v>(text: &Text<'v>, steps: &mut Steps, change: impl Fn(&str) -> String) -> Result<Text<'v>, Fault<'v>> {
    steps.text(text.as_str().len())?;
    Ok(Text::Made(change(text.as_str()).into()))
}

/// Without white space (as Unicode defines it) at both ends.
pub(super) fn trim<'v>(text: &Text<'v>, steps: &mut Steps) -> Result<Text<'v>, Fault<'v>> {
    steps.text(text.as_str().len())?;
    Ok(text.part(str::trim))
}

/// The parts between each `separator`; between all code points if that is empty.
pub(super) fn split<'v>(text: &Text<'v>, separator: &Text<'v>, steps: &mut Steps) -> Result<List<'v>, Fault<'v>> {
    steps.text(text.as_str().len().saturating_add(separator.as_str().len()))?;
    let parts = match text {
        Text::Borrowed(text) => collect(pieces(text, separator.as_str()).map(Text::Borrowed), steps),
        Text::Made(text) => collect(pieces(text, separator.as_str()).map(Text::made), steps),
    };
    parts.map(List::Made)
}

fn pieces<'t: 's, 's>(text: &'t str, separator: &'s str) -> Box<dyn Iterator<Item = &'t str> + 's> {
    if separator.is_empty() {
        // Only the empty pieces before the first and after the last code point are left out.
        Box::new(text.split("").filter(|piece| !piece.is_empty()))
    } else {
        Box::new(text.split(separator))
    }
}

fn collect<'v>(pieces: impl Iterator<Item = Text<'v>>, steps: &mut Steps) -> Result<Rc<[Item<'v>]>, Fault<'v>> {
    let pieces = pieces.map(|piece| {
        steps.spend(1)?;
        Ok(Item::Text(piece))
    });
    pieces.collect()
}

/// The code points from `from` up to and without `to`; to the end where there is no `to`.
pub(super) fn substring<'v>(text: &Text<'v>, from: i64, to: Option<i64>, steps: &mut Steps) -> Result<Text<'v>, Fault<'v>> {
    steps.text(text.as_str().len())?;
    let whole = text.as_str();
    let from = offset(whole, from).ok_or(Fault::OutsideText)?;
    let to = to.map_or(Some(whole.len()), |to| offset(whole, to)).ok_or(Fault::OutsideText)?;
    if whole.get(from..to).is_none() {
        return Err(Fault::OutsideText);
    }
    Ok(text.part(|whole| whole.get(from..to).unwrap_or_default()))
}

/// Where a code point begins, or the text ends.
fn offset(text: &str, code_point: i64) -> Option<usize> {
    let code_point = usize::try_from(code_point).ok()?;
    text.char_indices().map(|(offset, _)| offset).chain([text.len()]).nth(code_point)
}
