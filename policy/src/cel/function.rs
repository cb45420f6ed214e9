//! The functions there are, and which types they take.

use super::spelling::nearest;
use super::types::Type;

/// A function that an expression can call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Size,
    Contains,
    StartsWith,
    EndsWith,
    Matches,
    LowerAscii,
    UpperAscii,
    Trim,
    Split,
    Substring,
    Int,
    Double,
    String,
    Type,
}

/// How a function is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    /// `a.f(b)`
    Member,
    /// `f(a, b)`
    Global,
    Both,
}

/// One way to call a function.
struct Signature {
    function: Function,
    name: &'static str,
    style: Style,
    /// How it is written, for messages.
    usage: &'static str,
    /// Of each operand, the types that it can have. The receiver is the first operand.
    operands: &'static [&'static [Type]],
    result: Type,
}

/// What a call turned out to be.
pub(super) struct Resolved {
    pub function: Function,
    pub result: Type,
}

const TEXT: &[Type] = &[Type::String];
const NUMBER_OR_TEXT: &[Type] = &[Type::Int, Type::Double, Type::String];

const SIGNATURES: [Signature; 15] = [
    signature(Function::Size, "size", Style::Both, "size(a)", &[&[Type::String, Type::List, Type::Map]], Type::Int),
    signature(Function::Contains, "contains", Style::Member, "text.contains(part)", &[TEXT, TEXT], Type::Bool),
    signature(Function::StartsWith, "startsWith", Style::Member, "text.startsWith(part)", &[TEXT, TEXT], Type::Bool),
    signature(Function::EndsWith, "endsWith", Style::Member, "text.endsWith(part)", &[TEXT, TEXT], Type::Bool),
    signature(Function::Matches, "matches", Style::Both, "text.matches(\"pattern\")", &[TEXT, TEXT], Type::Bool),
    signature(Function::LowerAscii, "lowerAscii", Style::Member, "text.lowerAscii()", &[TEXT], Type::String),
    signature(Function::UpperAscii, "upperAscii", Style::Member, "text.upperAscii()", &[TEXT], Type::String),
    signature(Function::Trim, "trim", Style::Member, "text.trim()", &[TEXT], Type::String),
    signature(Function::Split, "split", Style::Member, "text.split(separator)", &[TEXT, TEXT], Type::List),
    signature(Function::Substring, "substring", Style::Member, "text.substring(from)", &[TEXT, &[Type::Int]], Type::String),
    signature(
        Function::Substring,
        "substring",
        Style::Member,
        "text.substring(from, to)",
        &[TEXT, &[Type::Int], &[Type::Int]],
        Type::String,
    ),
    signature(Function::Int, "int", Style::Global, "int(a)", &[NUMBER_OR_TEXT], Type::Int),
    signature(Function::Double, "double", Style::Global, "double(a)", &[NUMBER_OR_TEXT], Type::Double),
    signature(
        Function::String,
        "string",
        Style::Global,
        "string(a)",
        &[&[Type::Bool, Type::Int, Type::Double, Type::String]],
        Type::String,
    ),
    // An empty list of types stands for all.
    signature(Function::Type, "type", Style::Global, "type(a)", &[&[]], Type::Type),
];

/// Macros, and how they are written. The parser has replaced those that are written well.
const MACROS: [(&str, &str); 6] = [
    ("has", "has(args.name)"),
    ("all", "list.all(x, condition)"),
    ("exists", "list.exists(x, condition)"),
    ("exists_one", "list.exists_one(x, condition)"),
    ("map", "list.map(x, value)"),
    ("filter", "list.filter(x, condition)"),
];

const fn signature(
    function: Function,
    name: &'static str,
    style: Style,
    usage: &'static str,
    operands: &'static [&'static [Type]],
    result: Type,
) -> Signature {
    Signature { function, name, style, usage, operands, result }
}

/// Finds the function that is called by this name, on these operands (the receiver first, if there is one). The error says how it
/// is called, or what there is.
pub(super) fn resolve(name: &str, has_receiver: bool, operands: &[Type]) -> Result<Resolved, String> {
    let same_name = || SIGNATURES.iter().filter(|signature| signature.name == name);
    if same_name().next().is_none() {
        return Err(unknown(name));
    }
    let wrong_style = if has_receiver { Style::Global } else { Style::Member };
    let fits = |signature: &&Signature| signature.style != wrong_style && signature.operands.len() == operands.len();
    let Some(signature) = same_name().find(fits) else {
        let usages: Vec<_> = same_name().map(|signature| format!("`{}`", signature.usage)).collect();
        return Err(format!("`{name}` is written {}", usages.join(" or ")));
    };
    for (position, (operand, wanted)) in operands.iter().zip(signature.operands).enumerate() {
        if !wanted.is_empty() && !wanted.iter().any(|wanted| operand.can_be(*wanted)) {
            return Err(mismatch(signature, has_receiver, position, *operand, wanted));
        }
    }
    Ok(Resolved { function: signature.function, result: signature.result })
}

fn mismatch(signature: &Signature, has_receiver: bool, position: usize, operand: Type, wanted: &[Type]) -> String {
    let (name, wanted, found) = (signature.name, any_of(wanted), operand.describe());
    match (has_receiver, position) {
        (true, 0) => format!("`{name}` is called on {wanted}, not on {found}"),
        _ => format!("`{name}` takes {wanted} here, not {found}"),
    }
}

fn unknown(name: &str) -> String {
    if let Some((name, usage)) = MACROS.iter().find(|(macro_name, _)| *macro_name == name) {
        return format!("`{name}` is written `{usage}`");
    }
    let mut names: Vec<&str> = SIGNATURES.iter().map(|signature| signature.name).chain(MACROS.map(|(name, _)| name)).collect();
    names.sort_unstable();
    names.dedup();
    let hint = match nearest(name, names.iter().copied()) {
        Some(near) => format!(", did you mean `{near}`? There are"),
        None => "; there are".to_owned(),
    };
    format!("there is no function `{name}`{hint} {}", names.join(", "))
}

/// `a string, a list or a map`
fn any_of(types: &[Type]) -> String {
    match types {
        [] => String::new(),
        [only] => only.describe().to_owned(),
        [first @ .., last] => {
            let first: Vec<_> = first.iter().map(|wanted| wanted.describe()).collect();
            format!("{} or {}", first.join(", "), last.describe())
        }
    }
}

impl Function {
    /// Its name.
    pub fn name(self) -> &'static str {
        SIGNATURES.iter().find(|signature| signature.function == self).map_or("", |signature| signature.name)
    }
}
