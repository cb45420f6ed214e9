//! Evaluation of a checked expression for one call.

use std::rc::Rc;

use super::arithmetic;
use super::fault::{Fault, decide};
use super::function::Function;
use super::item::{Item, Key, List, Map, Text, whole};
use super::node::{Body, Constant, Macro, Node, OfCaller, Variable};
use super::steps::Steps;
use crate::caller::Caller;
use crate::facts::Facts;
use crate::value::Value;

/// Whether the expression is true for the call.
pub(super) fn condition<'v>(root: &'v Node, facts: &'v Facts<'v>) -> Result<bool, Fault<'v>> {
    let mut evaluation = Evaluation { facts, steps: Steps::new(), locals: Vec::new() };
    match evaluation.value(root)? {
        Item::Bool(holds) => Ok(holds),
        other => Err(Fault::NotBool(other.kind())),
    }
}

pub(super) struct Evaluation<'v> {
    facts: &'v Facts<'v>,
    pub steps: Steps,
    /// The variables of the macros around, outermost first.
    locals: Vec<Local<'v>>,
}

/// What the variable of a macro stands for.
pub(super) enum Local<'v> {
    /// Read where the expression reads it.
    Sent(&'v Value<'v>),
    Made(Item<'v>),
}

/// A value, or why there is none.
pub(super) type Given<'v> = Result<Item<'v>, Fault<'v>>;

impl<'v> Evaluation<'v> {
    pub fn value(&mut self, node: &'v Node) -> Given<'v> {
        self.steps.spend(1)?;
        match node {
            Node::Constant(constant) => Ok(literal(constant)),
            Node::Variable(variable) => self.variable(*variable),
            Node::Local(local) => match self.locals.get(*local) {
                Some(Local::Sent(value)) => Item::read(value),
                Some(Local::Made(item)) => Ok(item.clone()),
                // The checker counts them as evaluation does.
                None => Err(Fault::MissingIndex),
            },
            Node::HasOfCaller(member) => Ok(Item::Bool(self.of_caller(*member)?.is_some())),
            Node::Select(operand, name) => self.select(operand, name),
            Node::Has(operand, name) => self.has(operand, name),
            Node::Index(sides) => self.index(sides),
            Node::Not(operand) => Ok(Item::Bool(!self.bool(operand, "!")?)),
            Node::Negate(operand) => arithmetic::negate(&self.value(operand)?),
            Node::And(sides) => decide(false, sides.iter().map(|side| self.bool(side, "&&"))).map(Item::Bool),
            Node::Or(sides) => decide(true, sides.iter().map(|side| self.bool(side, "||"))).map(Item::Bool),
            Node::Conditional(parts) => {
                let [condition, first, second] = &**parts;
                if self.bool(condition, "? :")? { self.value(first) } else { self.value(second) }
            }
            Node::Equal(sides) => self.equal(sides).map(Item::Bool),
            Node::NotEqual(sides) => self.equal(sides).map(|equal| Item::Bool(!equal)),
            Node::Compare(operator, sides) => {
                let [left, right] = self.both(sides)?;
                arithmetic::compare(*operator, &left, &right, &mut self.steps).map(Item::Bool)
            }
            Node::Arithmetic(operator, sides) => {
                let [left, right] = self.both(sides)?;
                arithmetic::compute(*operator, &left, &right, &mut self.steps)
            }
            Node::In(sides) => self.contained(sides).map(Item::Bool),
            Node::List(elements) => {
                let elements: Result<Rc<[_]>, _> = elements.iter().map(|element| self.value(element)).collect();
                Ok(Item::List(List::Made(elements?)))
            }
            Node::Map(entries) => self.map(entries),
            Node::Macro(macro_call) => self.run(macro_call),
            Node::Call(function, operands) => self.call(*function, operands),
            Node::Matches(text, pattern) => {
                let text = self.text(text, Function::Matches)?;
                self.steps.pattern(text.as_str().len())?;
                Ok(Item::Bool(pattern.is_match(text.as_str())))
            }
        }
    }

    fn variable(&mut self, variable: Variable) -> Given<'v> {
        let facts = self.facts;
        Ok(match variable {
            Variable::Args => return Item::read(facts.args),
            Variable::Tool => Item::Text(Text::Borrowed(facts.tool)),
            Variable::Caller => {
                let mut members = Vec::with_capacity(OfCaller::ALL.len());
                for member in OfCaller::ALL {
                    if let Some(value) = self.of_caller(member)? {
                        members.push((Key::Text(Text::Borrowed(member.name())), value));
                    }
                }
                Item::Map(Map::made(members)?)
            }
            Variable::OfCaller(member) => self.of_caller(member)?.ok_or(Fault::MissingMember(member.name()))?,
            Variable::Server => {
                let mut members = Vec::with_capacity(Variable::OF_SERVER.len());
                for (name, member) in Variable::OF_SERVER {
                    members.push((Key::Text(Text::Borrowed(name)), self.variable(member)?));
                }
                Item::Map(Map::made(members)?)
            }
            Variable::ServerNamespace => Item::Text(Text::Borrowed(facts.server.namespace)),
            Variable::ServerName => Item::Text(Text::Borrowed(facts.server.name)),
        })
    }

    /// A member of `caller`, if its kind has it.
    fn of_caller(&mut self, member: OfCaller) -> Result<Option<Item<'v>>, Fault<'v>> {
        let text = |text: &'v str| Item::Text(Text::Borrowed(text));
        Ok(match (member, self.facts.caller) {
            (OfCaller::Kind, caller) => Some(text(caller.kind())),
            (OfCaller::Address, Caller::Anonymous { address }) => Some(Item::Text(Text::made(&address.to_string()))),
            (OfCaller::Namespace, Caller::ServiceAccount { namespace, .. }) => Some(text(namespace)),
            (OfCaller::Name, Caller::ServiceAccount { name, .. } | Caller::Key { name }) => Some(text(name)),
            (OfCaller::Issuer, Caller::Jwt { issuer, .. }) => Some(text(issuer)),
            (OfCaller::Subject, Caller::Jwt { subject, .. }) => Some(text(subject)),
            (OfCaller::Claims, Caller::Jwt { claims, .. }) => Some(Item::claims(claims, &mut self.steps)?),
            _ => None,
        })
    }

    fn both(&mut self, sides: &'v [Node; 2]) -> Result<[Item<'v>; 2], Fault<'v>> {
        let [left, right] = sides;
        Ok([self.value(left)?, self.value(right)?])
    }

    fn bool(&mut self, node: &'v Node, operator: &'static str) -> Result<bool, Fault<'v>> {
        match self.value(node)? {
            Item::Bool(value) => Ok(value),
            other => Err(Fault::Operand { operator, given: other.kind() }),
        }
    }

    pub fn text(&mut self, node: &'v Node, function: Function) -> Result<Text<'v>, Fault<'v>> {
        match self.value(node)? {
            Item::Text(text) => Ok(text),
            other => Err(Fault::Operand { operator: function.name(), given: other.kind() }),
        }
    }

    pub fn int(&mut self, node: &'v Node, function: Function) -> Result<i64, Fault<'v>> {
        match self.value(node)? {
            Item::Int(value) => Ok(value),
            other => Err(Fault::Operand { operator: function.name(), given: other.kind() }),
        }
    }

    fn select(&mut self, operand: &'v Node, name: &'v str) -> Given<'v> {
        let map = match self.value(operand)? {
            Item::Map(map) => map,
            other => return Err(Fault::NoMembers { name, given: other.kind() }),
        };
        map.get(&Key::Text(Text::Borrowed(name)), &mut self.steps)?.unwrap_or(Err(Fault::MissingMember(name)))
    }

    fn has(&mut self, operand: &'v Node, name: &'v str) -> Given<'v> {
        match self.value(operand)? {
            Item::Map(map) => Ok(Item::Bool(map.get(&Key::Text(Text::Borrowed(name)), &mut self.steps)?.is_some())),
            other => Err(Fault::NoMembers { name, given: other.kind() }),
        }
    }

    fn index(&mut self, sides: &'v [Node; 2]) -> Given<'v> {
        let [operand, index] = self.both(sides)?;
        match (&operand, &index) {
            (Item::List(list), Item::Int(_) | Item::Double(_)) => {
                let index = match index {
                    Item::Int(index) => Some(index),
                    Item::Double(index) => whole(index),
                    _ => None,
                };
                list.get(index.and_then(|index| usize::try_from(index).ok()).ok_or(Fault::MissingIndex)?)
            }
            (Item::Map(map), index) => match index.key()? {
                Some(key) => map.get(&key, &mut self.steps)?.unwrap_or(Err(Fault::MissingKey)),
                None => Err(Fault::MissingKey),
            },
            _ => Err(Fault::Operands { operator: "[…]", given: (operand.kind(), index.kind()) }),
        }
    }

    fn equal(&mut self, sides: &'v [Node; 2]) -> Result<bool, Fault<'v>> {
        let [left, right] = self.both(sides)?;
        left.equals(&right, &mut self.steps)
    }

    /// `in`: whether one element of a list equals the value, or it is a key of a map.
    fn contained(&mut self, sides: &'v [Node; 2]) -> Result<bool, Fault<'v>> {
        let [wanted, range] = self.both(sides)?;
        let steps = &mut self.steps;
        match &range {
            Item::List(list) => decide(
                true,
                (0..list.len()).map(|index| {
                    steps.spend(1)?;
                    list.get(index)?.equals(&wanted, steps)
                }),
            ),
            Item::Map(map) => match wanted.key()? {
                Some(key) => Ok(map.get(&key, steps)?.is_some()),
                None => Ok(false),
            },
            _ => Err(Fault::Operands { operator: "in", given: (wanted.kind(), range.kind()) }),
        }
    }

    fn map(&mut self, entries: &'v [[Node; 2]]) -> Given<'v> {
        let mut members = Vec::with_capacity(entries.len());
        for entry in entries {
            self.steps.spend(1)?;
            let [key, value] = self.both(entry)?;
            let key = match (&key, key.key()?) {
                (Item::Double(_), _) | (_, None) => return Err(Fault::NotAKey(key.kind())),
                (_, Some(key)) => key,
            };
            if let Key::Text(text) = &key {
                self.steps.text(text.as_str().len())?;
            }
            members.push((key, value));
        }
        Map::made(members).map(Item::Map)
    }

    fn run(&mut self, macro_call: &'v Macro) -> Given<'v> {
        let elements = elements(self.value(&macro_call.range)?)?;
        match &macro_call.body {
            Body::All(condition) => decide(false, elements.map(|element| self.asked(element, condition))).map(Item::Bool),
            Body::Exists(condition) => decide(true, elements.map(|element| self.asked(element, condition))).map(Item::Bool),
            Body::ExistsOne(condition) => {
                let mut found = 0_usize;
                for element in elements {
                    found += usize::from(self.asked(element, condition)?);
                }
                Ok(Item::Bool(found == 1))
            }
            Body::Collect { condition, element: value } => {
                let mut collected = Vec::new();
                for element in elements {
                    let given = self.with(element, |evaluation| {
                        let wanted = match condition {
                            Some(condition) => evaluation.holds(condition)?,
                            None => true,
                        };
                        if wanted { evaluation.value(value).map(Some) } else { Ok(None) }
                    })?;
                    collected.extend(given);
                }
                Ok(Item::List(List::Made(collected.into())))
            }
        }
    }

    /// Whether the condition of a macro holds for an element.
    fn asked(&mut self, element: Local<'v>, condition: &'v Node) -> Result<bool, Fault<'v>> {
        self.with(element, |evaluation| evaluation.holds(condition))
    }

    fn holds(&mut self, condition: &'v Node) -> Result<bool, Fault<'v>> {
        match self.value(condition)? {
            Item::Bool(value) => Ok(value),
            other => Err(Fault::Condition(other.kind())),
        }
    }

    /// Does something with a macro's variable in scope.
    fn with<T>(&mut self, element: Local<'v>, run: impl FnOnce(&mut Self) -> Result<T, Fault<'v>>) -> Result<T, Fault<'v>> {
        self.steps.spend(1)?;
        self.locals.push(element);
        let result = run(self);
        self.locals.pop();
        result
    }
}

fn literal(constant: &Constant) -> Item<'_> {
    match constant {
        Constant::Null => Item::Null,
        Constant::Bool(value) => Item::Bool(*value),
        Constant::Int(value) => Item::Int(*value),
        Constant::Double(value) => Item::Double(*value),
        Constant::String(text) => Item::Text(Text::Borrowed(text)),
        Constant::Type(named) => Item::Type(*named),
    }
}

/// What a macro walks: the elements of a list, or the keys of a map.
fn elements<'v>(range: Item<'v>) -> Result<Box<dyn Iterator<Item = Local<'v>> + 'v>, Fault<'v>> {
    Ok(match range {
        Item::List(List::Sent(elements)) => Box::new(elements.iter().map(Local::Sent)),
        Item::List(List::Made(elements)) => Box::new((0..elements.len()).map(move |index| Local::Made(elements[index].clone()))),
        Item::Map(map) => Box::new(map.keys().map(|key| Local::Made(key.into()))),
        other => return Err(Fault::Range(other.kind())),
    })
}
