//! Calls of functions.

use super::convert;
use super::evaluate::{Evaluation, Given};
use super::fault::Fault;
use super::function::Function;
use super::item::Item;
use super::node::Node;
use super::text;

impl<'v> Evaluation<'v> {
    /// Calls a function. The checker made sure that it has as many operands as it takes.
    pub fn call(&mut self, function: Function, operands: &'v [Node]) -> Given<'v> {
        match operands {
            [only] => self.call_on_one(function, only),
            [text, part] => self.call_on_two(function, text, part),
            [text, from, to] => {
                let text = self.text(text, function)?;
                let (from, to) = (self.int(from, function)?, self.int(to, function)?);
                text::substring(&text, from, Some(to), &mut self.steps).map(Item::Text)
            }
            _ => Err(Fault::Arity(function.name())),
        }
    }

    fn call_on_one(&mut self, function: Function, operand: &'v Node) -> Given<'v> {
        let operand = self.value(operand)?;
        let steps = &mut self.steps;
        match (function, &operand) {
            (Function::Size, Item::Text(text)) => size(text::size(text, steps)?),
            (Function::Size, Item::List(list)) => size(list.len()),
            (Function::Size, Item::Map(map)) => size(map.len()),
            (Function::LowerAscii, Item::Text(text)) => text::changed(text, steps, str::to_ascii_lowercase).map(Item::Text),
            (Function::UpperAscii, Item::Text(text)) => text::changed(text, steps, str::to_ascii_uppercase).map(Item::Text),
            (Function::Trim, Item::Text(text)) => text::trim(text, steps).map(Item::Text),
            (Function::Int, _) => convert::int(&operand, steps).map(Item::Int),
            (Function::Double, _) => convert::double(&operand, steps).map(Item::Double),
            (Function::String, _) => convert::string(&operand).map(Item::Text),
            (Function::Type, _) => Ok(Item::Type(operand.kind())),
            _ => Err(Fault::Operand { operator: function.name(), given: operand.kind() }),
        }
    }

    fn call_on_two(&mut self, function: Function, text: &'v Node, operand: &'v Node) -> Given<'v> {
        let text = self.text(text, function)?;
        if function == Function::Substring {
            let from = self.int(operand, function)?;
            return text::substring(&text, from, None, &mut self.steps).map(Item::Text);
        }
        let part = self.text(operand, function)?;
        let steps = &mut self.steps;
        match function {
            Function::Contains => text::search(&text, &part, steps, |text, part| text.contains(part)).map(Item::Bool),
            Function::StartsWith => text::search(&text, &part, steps, |text, part| text.starts_with(part)).map(Item::Bool),
            Function::EndsWith => text::search(&text, &part, steps, |text, part| text.ends_with(part)).map(Item::Bool),
            Function::Split => text::split(&text, &part, steps).map(Item::List),
            _ => Err(Fault::Arity(function.name())),
        }
    }
}

fn size<'v>(size: usize) -> Given<'v> {
    i64::try_from(size).map(Item::Int).map_err(|_| Fault::Overflow)
}
