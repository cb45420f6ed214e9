//! Whether a value has the shape of a type: every field that is unknown, missing or of the wrong type, not only the first. The
//! shape is the JSON Schema that is derived from the type itself, so there is one list of fields.

use std::sync::LazyLock;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use super::{FieldError, error, hint};

/// More than this many are not told: whoever has so many has given the wrong file.
const MAX_ERRORS: usize = 64;

/// The fields of an object of which nothing but the form of its keys is known.
static NO_FIELDS: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);

/// The shape of a type, with every part in its place.
pub(super) fn of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

/// Everything in which the value differs from the shape.
pub(super) fn differences(value: &Value, shape: &Value, path: &str) -> Vec<FieldError> {
    let mut check = Check { around: Vec::new(), errors: Vec::new() };
    check.value(path, value, shape);
    check.errors
}

/// The fields of an object's shape.
pub(super) fn fields(shape: &Value) -> Option<&Map<String, Value>> {
    essence(shape).get("properties")?.as_object()
}

/// The shape without the `null` that an optional field may be.
pub(super) fn essence(shape: &Value) -> &Value {
    match shape.get("anyOf").and_then(Value::as_array).map(Vec::as_slice) {
        Some([inner, null] | [null, inner]) if has_type(null, "null") => inner,
        _ => shape,
    }
}

fn has_type(shape: &Value, name: &str) -> bool {
    match shape.get("type") {
        Some(Value::String(only)) => only == name,
        Some(Value::Array(several)) => several.iter().any(|one| one == name),
        _ => false,
    }
}

/// The values of an enum; none for other shapes.
fn constants(shape: &Value) -> Option<Vec<&str>> {
    if let Some(constants) = shape.get("enum").and_then(Value::as_array) {
        return Some(constants.iter().filter_map(Value::as_str).collect());
    }
    // Where variants have descriptions of their own.
    let variants = shape.get("oneOf")?.as_array()?;
    let values = variants.iter().map(|variant| match variant.get("const") {
        Some(constant) => constant.as_str().map(|constant| vec![constant]),
        None => constants(variant),
    });
    values.collect::<Option<Vec<_>>>().map(|values| values.concat())
}

struct Check<'a> {
    /// The objects around the value, with their paths, outermost first.
    around: Vec<(String, &'a Map<String, Value>)>,
    errors: Vec<FieldError>,
}

impl<'a> Check<'a> {
    fn error(&mut self, path: &str, message: impl Into<String>) {
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(error(path, message));
        }
    }

    fn value(&mut self, path: &str, value: &Value, shape: &'a Value) {
        let inner = essence(shape);
        let is_optional = has_type(shape, "null") || !std::ptr::eq(inner, shape);
        if value.is_null() && is_optional {
            return;
        }
        let shape = inner;
        if let Some(constants) = constants(shape) {
            match value.as_str() {
                Some(text) if constants.contains(&text) => {}
                Some(text) => self.error(path, hint::variant(text, &constants)),
                None => self.error(path, hint::no_text(value, &constants)),
            }
            return;
        }
        let Some(wanted) = wanted(shape) else { return };
        match (wanted, value) {
            (Wanted::Object, Value::Object(members)) => self.object(path, members, shape),
            (Wanted::List, Value::Array(elements)) => {
                let Some(inner) = shape.get("items") else { return };
                for (i, element) in elements.iter().enumerate() {
                    self.value(&format!("{path}[{i}]"), element, inner);
                }
            }
            (Wanted::Text | Wanted::TextOrWhole, Value::String(_))
            | (Wanted::Boolean, Value::Bool(_))
            | (Wanted::Number, Value::Number(_)) => {}
            (Wanted::Whole(bounds), Value::Number(number)) => {
                if !number.as_u64().is_some_and(|number| bounds.contains(&number)) {
                    self.error(path, format!("must be a whole number {}, but is {number}", describe(&bounds)));
                }
            }
            (Wanted::TextOrWhole, Value::Number(number)) if number.is_u64() => {}
            (wanted, value) => self.error(path, hint::wrong_type(wanted.name(), value, shape)),
        }
    }

    fn object(&mut self, path: &str, members: &Map<String, Value>, shape: &'a Value) {
        let known = fields(shape).unwrap_or(&NO_FIELDS);
        let others = shape.get("additionalProperties");
        self.around.push((path.to_owned(), known));
        for (name, member) in members {
            let inner = join(path, name);
            match known.get(name).or(others) {
                Some(Value::Bool(false)) => {
                    let message = hint::unknown_field(name, &self.around);
                    self.error(&inner, message);
                }
                Some(shape) => self.value(&inner, member, shape),
                None => {}
            }
        }
        self.around.pop();
        let required = shape.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        for name in required.filter(|name| !members.contains_key(*name)) {
            self.error(&join(path, name), hint::missing(name));
        }
    }
}

/// The path of a member.
pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// What a shape wants a value to be.
enum Wanted {
    Object,
    List,
    Text,
    TextOrWhole,
    Boolean,
    Number,
    Whole(std::ops::RangeInclusive<u64>),
}

impl Wanted {
    fn name(&self) -> &'static str {
        match self {
            Self::Object => "an object",
            Self::List => "a list",
            Self::Text => "a string",
            Self::TextOrWhole => "a string or a whole number",
            Self::Boolean => "a boolean",
            Self::Number => "a number",
            Self::Whole(_) => "a whole number",
        }
    }
}

fn wanted(shape: &Value) -> Option<Wanted> {
    if shape.get("x-kubernetes-int-or-string").is_some() {
        return Some(Wanted::TextOrWhole);
    }
    let is = |name| has_type(shape, name);
    // What the type itself cannot hold. Closer bounds are the compiler's to tell.
    let whole = || {
        let max = match shape.get("format").and_then(Value::as_str) {
            Some("uint16") => u16::MAX.into(),
            Some("uint32") => u32::MAX.into(),
            _ => u64::MAX,
        };
        shape.get("minimum").and_then(Value::as_u64).unwrap_or(0)..=max
    };
    if is("object") {
        Some(Wanted::Object)
    } else if is("array") {
        Some(Wanted::List)
    } else if is("integer") {
        Some(Wanted::Whole(whole()))
    } else if is("number") {
        Some(Wanted::Number)
    } else if is("string") {
        Some(Wanted::Text)
    } else if is("boolean") {
        Some(Wanted::Boolean)
    } else {
        None
    }
}

fn describe(bounds: &std::ops::RangeInclusive<u64>) -> String {
    match *bounds.end() {
        u64::MAX => format!("from {} up", bounds.start()),
        end => format!("from {} to {end}", bounds.start()),
    }
}
