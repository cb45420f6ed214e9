//! From the syntax tree to a checked expression: what is unknown, badly typed or not part of the language is refused here.

use cel::IdedExpr;
use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, MapExpr, SelectExpr, operators};

use super::function::{Function, resolve};
use super::node::{Body, Constant, Macro, Node, OfCaller, Variable};
use super::operator::{Arithmetic, Comparison, can_be_key, comparable};
use super::spelling::nearest;
use super::types::Type;
use crate::regexp::Regexps;

/// Levels of an expression. Brackets within each other are bounded by the parser; this bounds chains such as `a + a + a` and `a.b.c`
/// too, each link of which is a level, and so how deep evaluation recurses.
const MAX_LEVELS: usize = 64;

const VARIABLES: [&str; 4] = ["args", "caller", "server", "tool"];

/// Why an expression is refused.
#[derive(Debug)]
pub(super) struct Problem {
    /// The part of the expression, as the parser numbers them.
    pub id: u64,
    pub message: String,
}

/// Checks an expression that must give a boolean.
pub(super) fn condition(expression: &IdedExpr, regexps: &mut Regexps) -> Result<Node, Problem> {
    let (node, given) = Checker { locals: Vec::new(), level: 0, regexps }.check(expression)?;
    if given.can_be(Type::Bool) {
        return Ok(node);
    }
    Err(problem(
        expression,
        format!("the expression gives {}: a condition must give a bool, as `args.amount <= 100` does", given.describe()),
    ))
}

fn problem(at: &IdedExpr, message: impl Into<String>) -> Problem {
    Problem { id: at.id, message: message.into() }
}

struct Checker<'e, 'r> {
    /// The variables of the macros around, outermost first.
    locals: Vec<&'e str>,
    level: usize,
    regexps: &'r mut Regexps,
}

type Checked = Result<(Node, Type), Problem>;

impl<'e> Checker<'e, '_> {
    fn check(&mut self, at: &'e IdedExpr) -> Checked {
        if self.level == MAX_LEVELS {
            return Err(problem(at, "the expression is too deep: at most 64 levels; a chain such as `a + b + c` has one for each link"));
        }
        self.level += 1;
        let checked = match &at.expr {
            Expr::Literal(literal) => constant(at, literal),
            Expr::Ident(name) => self.identifier(at, name),
            Expr::Select(select) => self.select(at, select),
            Expr::Call(call) => self.call(at, call),
            Expr::List(list) => {
                let elements: Result<_, _> = list.elements.iter().map(|element| Ok(self.check(element)?.0)).collect();
                elements.map(|elements| (Node::List(elements), Type::List))
            }
            Expr::Map(map) => self.map(map),
            Expr::Comprehension(comprehension) => self.comprehension(at, comprehension),
            Expr::Struct(message) => {
                Err(problem(at, format!("there are no messages such as `{}{{…}}`: write a map, `{{\"key\": value}}`", message.type_name)))
            }
            Expr::Unspecified => Err(problem(at, "this is no expression")),
        };
        self.level -= 1;
        checked
    }

    fn identifier(&self, at: &IdedExpr, name: &str) -> Checked {
        if let Some(local) = self.locals.iter().rposition(|local| *local == name) {
            return Ok((Node::Local(local), Type::Dyn));
        }
        match name {
            "args" => Ok((Node::Variable(Variable::Args), Type::Map)),
            "tool" => Ok((Node::Variable(Variable::Tool), Type::String)),
            "caller" => Ok((Node::Variable(Variable::Caller), Type::Map)),
            "server" => Ok((Node::Variable(Variable::Server), Type::Map)),
            _ => match Type::named(name) {
                Some(named) => Ok((Node::Constant(Constant::Type(named)), Type::Type)),
                None => Err(problem(at, self.unknown_variable(name))),
            },
        }
    }

    fn unknown_variable(&self, name: &str) -> String {
        let names = || VARIABLES.into_iter().chain(self.locals.iter().copied());
        let hint = match nearest(name, names()) {
            Some(near) => format!(", did you mean `{near}`? There are"),
            None => format!("; an argument is written `args.{name}`. There are"),
        };
        format!("there is no variable `{name}`{hint} {}", names().collect::<Vec<_>>().join(", "))
    }

    fn select(&mut self, at: &'e IdedExpr, select: &'e SelectExpr) -> Checked {
        let (operand, given) = self.check(&select.operand)?;
        if !given.can_be(Type::Map) {
            let message = format!("`.{}` reads a member of a map, and {} has none", select.field, given.describe());
            return Err(problem(at, message));
        }
        let unknown = |map: &str, names: &[&str]| {
            let names = names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>();
            let (last, others) = names.split_last().map_or(("", &[][..]), |(last, others)| (last.as_str(), others));
            problem(at, format!("`{map}` has no member `{}`: it has {} and {last}", select.field, others.join(", ")))
        };
        match operand {
            Node::Variable(Variable::Caller) => {
                let member = OfCaller::ALL.into_iter().find(|member| member.name() == select.field);
                let member = member.ok_or_else(|| unknown("caller", &OfCaller::ALL.map(OfCaller::name)))?;
                return Ok(if select.test {
                    (Node::HasOfCaller(member), Type::Bool)
                } else {
                    (Node::Variable(Variable::OfCaller(member)), member.given())
                });
            }
            Node::Variable(Variable::Server) => {
                let member = Variable::OF_SERVER.into_iter().find(|(name, _)| *name == select.field);
                let (_, variable) = member.ok_or_else(|| unknown("server", &Variable::OF_SERVER.map(|(name, _)| name)))?;
                return Ok(if select.test {
                    (Node::Constant(Constant::Bool(true)), Type::Bool)
                } else {
                    (Node::Variable(variable), Type::String)
                });
            }
            _ => {}
        }
        let (operand, field) = (Box::new(operand), select.field.as_str().into());
        Ok(if select.test { (Node::Has(operand, field), Type::Bool) } else { (Node::Select(operand, field), Type::Dyn) })
    }

    fn map(&mut self, map: &'e MapExpr) -> Checked {
        let mut entries = Vec::with_capacity(map.entries.len());
        let mut keys: Vec<Constant> = Vec::new();
        for entry in &map.entries {
            let EntryExpr::MapEntry(entry) = &entry.expr else {
                return Err(Problem { id: entry.id, message: "a map is written `{\"key\": value}`".to_owned() });
            };
            let (key, given) = self.check(&entry.key)?;
            if !can_be_key(given) || given == Type::Double {
                return Err(problem(&entry.key, format!("a key is a string, an int or a bool, not {}", given.describe())));
            }
            if let Node::Constant(literal) = &key {
                if keys.contains(literal) {
                    return Err(problem(&entry.key, "a map has this key twice"));
                }
                keys.push(literal.clone());
            }
            entries.push([key, self.check(&entry.value)?.0]);
        }
        Ok((Node::Map(entries), Type::Map))
    }

    fn call(&mut self, at: &'e IdedExpr, call: &'e CallExpr) -> Checked {
        match (call.func_name.as_str(), call.args.as_slice()) {
            (operators::LOGICAL_NOT, [operand]) => {
                let operand = self.bool(operand, "`!` negates a bool")?;
                Ok((Node::Not(Box::new(operand)), Type::Bool))
            }
            (operators::LOGICAL_AND, [left, right]) => {
                let sides = [self.bool(left, "`&&` joins bools")?, self.bool(right, "`&&` joins bools")?];
                Ok((Node::And(Box::new(sides)), Type::Bool))
            }
            (operators::LOGICAL_OR, [left, right]) => {
                let sides = [self.bool(left, "`||` joins bools")?, self.bool(right, "`||` joins bools")?];
                Ok((Node::Or(Box::new(sides)), Type::Bool))
            }
            (operators::NEGATE, [operand]) => {
                let (node, given) = self.check(operand)?;
                if !given.is_number() && given != Type::Dyn {
                    return Err(problem(at, format!("`-` negates a number, not {}", given.describe())));
                }
                Ok((Node::Negate(Box::new(node)), given))
            }
            (operators::CONDITIONAL, [condition, first, second]) => {
                let condition = self.bool(condition, "`? :` asks a bool")?;
                let ((first, a), (second, b)) = (self.check(first)?, self.check(second)?);
                if !comparable(a, b) {
                    let message = format!("both values of `? :` must be of one type, not {} and {}", a.describe(), b.describe());
                    return Err(problem(at, message));
                }
                Ok((Node::Conditional(Box::new([condition, first, second])), if a == b { a } else { Type::Dyn }))
            }
            (operator, [left, right]) if call.target.is_none() && !is_name(operator) => self.binary(at, operator, left, right),
            _ => self.function(at, call),
        }
    }

    /// An operand that must be a boolean.
    fn bool(&mut self, operand: &'e IdedExpr, wanted: &str) -> Result<Node, Problem> {
        let (node, given) = self.check(operand)?;
        if given.can_be(Type::Bool) {
            return Ok(node);
        }
        Err(problem(operand, format!("{wanted}, and this is {}", given.describe())))
    }

    fn binary(&mut self, at: &'e IdedExpr, operator: &str, left: &'e IdedExpr, right: &'e IdedExpr) -> Checked {
        let ((left, a), (right, b)) = (self.check(left)?, self.check(right)?);
        let sides = Box::new([left, right]);
        let refuse = |message| problem(at, message);
        if let Some(arithmetic) = arithmetic(operator) {
            let result = arithmetic.result(a, b).map_err(refuse)?;
            return Ok((Node::Arithmetic(arithmetic, sides), result));
        }
        if let Some(comparison) = comparison(operator) {
            comparison.check(a, b).map_err(refuse)?;
            return Ok((Node::Compare(comparison, sides), Type::Bool));
        }
        match operator {
            operators::EQUALS | operators::NOT_EQUALS if !comparable(a, b) => {
                Err(refuse(format!("{} never equals {}", a.describe(), b.describe())))
            }
            operators::EQUALS => Ok((Node::Equal(sides), Type::Bool)),
            operators::NOT_EQUALS => Ok((Node::NotEqual(sides), Type::Bool)),
            operators::IN if b == Type::String => {
                Err(refuse("`in` looks in a list or a map: of a string, ask `text.contains(part)`".to_owned()))
            }
            operators::IN if !b.can_be(Type::List) && !b.can_be(Type::Map) => {
                Err(refuse(format!("`in` looks in a list or a map, not in {}", b.describe())))
            }
            operators::IN if b == Type::Map && !can_be_key(a) => Err(refuse(format!("{} is not a key", a.describe()))),
            operators::IN => Ok((Node::In(sides), Type::Bool)),
            operators::INDEX => match a {
                Type::List if !b.can_be(Type::Int) => Err(refuse(format!("an index of a list is an int, not {}", b.describe()))),
                Type::Map | Type::Dyn if !can_be_key(b) => Err(refuse(format!("{} is not a key", b.describe()))),
                Type::List | Type::Map | Type::Dyn => Ok((Node::Index(sides), Type::Dyn)),
                Type::String => Err(refuse("`[…]` reads a list or a map: of a string, ask `text.substring(from, to)`".to_owned())),
                _ => Err(refuse(format!("`[…]` reads a list or a map, not {}", a.describe()))),
            },
            _ => Err(refuse(format!("`{operator}` is not supported"))),
        }
    }

    fn function(&mut self, at: &'e IdedExpr, call: &'e CallExpr) -> Checked {
        let mut operands = Vec::with_capacity(call.args.len() + 1);
        let mut types = Vec::with_capacity(call.args.len() + 1);
        // An unknown name is told first: it may be what makes the operands wrong as well.
        resolve(&call.func_name, call.target.is_some(), &vec![Type::Dyn; call.args.len() + usize::from(call.target.is_some())])
            .map_err(|message| problem(at, message))?;
        for operand in call.target.as_deref().into_iter().chain(&call.args) {
            let (node, given) = self.check(operand)?;
            operands.push(node);
            types.push(given);
        }
        let resolved = resolve(&call.func_name, call.target.is_some(), &types).map_err(|message| problem(at, message))?;
        if resolved.function != Function::Matches {
            return Ok((Node::Call(resolved.function, operands), resolved.result));
        }
        let (Some(Node::Constant(Constant::String(pattern))), Some(text)) = (operands.pop(), operands.pop()) else {
            return Err(problem(
                at,
                "the pattern of `matches` must be written out as text, so that it can be checked when the policy is accepted",
            ));
        };
        let pattern = self.regexps.compile(&pattern).map_err(|message| problem(at, format!("the pattern of `matches`: {message}")))?;
        Ok((Node::Matches(Box::new(text), pattern), Type::Bool))
    }

    fn comprehension(&mut self, at: &'e IdedExpr, macro_call: &'e ComprehensionExpr) -> Checked {
        let (range, given) = self.check(&macro_call.iter_range)?;
        if !given.can_be(Type::List) && !given.can_be(Type::Map) {
            return Err(problem(at, format!("a macro walks a list, or the keys of a map, not {}", given.describe())));
        }
        if VARIABLES.contains(&macro_call.iter_var.as_str()) {
            return Err(problem(at, format!("`{}` is a variable already: name the macro's variable otherwise", macro_call.iter_var)));
        }
        let Some(shape) = Shape::of(macro_call) else { return Err(problem(at, "this macro is not supported")) };
        self.locals.push(&macro_call.iter_var);
        let checked = self.body(shape);
        self.locals.pop();
        let (body, result) = checked?;
        Ok((Node::Macro(Box::new(Macro { range, body })), result))
    }

    fn body(&mut self, shape: Shape<'e>) -> Result<(Body, Type), Problem> {
        let mut asks = |condition| self.bool(condition, "the condition of a macro is a bool");
        Ok(match shape {
            Shape::All(condition) => (Body::All(asks(condition)?), Type::Bool),
            Shape::Exists(condition) => (Body::Exists(asks(condition)?), Type::Bool),
            Shape::ExistsOne(condition) => (Body::ExistsOne(asks(condition)?), Type::Bool),
            Shape::Collect(condition, element) => {
                let condition = condition.map(asks).transpose()?;
                (Body::Collect { condition, element: self.check(element)?.0 }, Type::List)
            }
        })
    }
}

/// Which macro the parser wrote out as a fold over a range, and what its author wrote of it.
#[derive(Clone, Copy)]
enum Shape<'e> {
    All(&'e IdedExpr),
    Exists(&'e IdedExpr),
    ExistsOne(&'e IdedExpr),
    Collect(Option<&'e IdedExpr>, &'e IdedExpr),
}

impl<'e> Shape<'e> {
    /// The macros differ in what they start from, and in the step.
    fn of(fold: &'e ComprehensionExpr) -> Option<Self> {
        let Expr::Call(step) = &fold.loop_step.expr else { return None };
        match (&fold.accu_init.expr, step.args.as_slice()) {
            (Expr::Literal(LiteralValue::Boolean(start)), [_, condition]) => {
                Some(if *start.inner() { Self::All(condition) } else { Self::Exists(condition) })
            }
            (Expr::Literal(LiteralValue::Int(_)), [condition, _, _]) => Some(Self::ExistsOne(condition)),
            (Expr::List(_), [_, appended]) => Some(Self::Collect(None, only_element(appended)?)),
            (Expr::List(_), [condition, append, _]) => {
                let Expr::Call(append) = &append.expr else { return None };
                Some(Self::Collect(Some(condition), only_element(append.args.get(1)?)?))
            }
            _ => None,
        }
    }
}

fn only_element(list: &IdedExpr) -> Option<&IdedExpr> {
    match &list.expr {
        Expr::List(list) => list.elements.first(),
        _ => None,
    }
}

fn constant(at: &IdedExpr, literal: &LiteralValue) -> Checked {
    let (constant, given) = match literal {
        LiteralValue::Null => (Constant::Null, Type::Null),
        LiteralValue::Boolean(value) => (Constant::Bool(*value.inner()), Type::Bool),
        LiteralValue::Int(value) => (Constant::Int(*value.inner()), Type::Int),
        LiteralValue::Double(value) => (Constant::Double(*value.inner()), Type::Double),
        LiteralValue::String(value) => (Constant::String(value.inner().into()), Type::String),
        LiteralValue::UInt(_) | LiteralValue::Bytes(_) => {
            return Err(problem(at, "there are no unsigned ints and no bytes: there are null, bool, int, double, string, list and map"));
        }
    };
    Ok((Node::Constant(constant), given))
}

/// Whether it is the name of a function. The parser names operators so that no expression can spell them.
fn is_name(function: &str) -> bool {
    function.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'))
}

fn arithmetic(operator: &str) -> Option<Arithmetic> {
    Some(match operator {
        operators::ADD => Arithmetic::Add,
        operators::SUBSTRACT => Arithmetic::Subtract,
        operators::MULTIPLY => Arithmetic::Multiply,
        operators::DIVIDE => Arithmetic::Divide,
        operators::MODULO => Arithmetic::Remainder,
        _ => return None,
    })
}

fn comparison(operator: &str) -> Option<Comparison> {
    Some(match operator {
        operators::LESS => Comparison::Less,
        operators::LESS_EQUALS => Comparison::LessOrEqual,
        operators::GREATER => Comparison::Greater,
        operators::GREATER_EQUALS => Comparison::GreaterOrEqual,
        _ => return None,
    })
}
