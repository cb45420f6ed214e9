//! One walk over a schema: every keyword is known and used as it should be, and every reference leads to a schema that was seen.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::keyword::{self, Keyword};
use super::pattern::spelled_out;
use crate::regexp::Regexps;
use crate::value::describe;

/// Schemas within each other, the whole included.
const MAX_LEVELS: usize = 32;
/// JSON values of a schema, in all.
const MAX_VALUES: usize = 20_000;
/// JSON levels, so that values under `const` or `examples` are bounded too.
const MAX_JSON_LEVELS: usize = 128;
/// The one draft, with and without the empty fragment that some write.
const DRAFT: [&str; 2] = ["https://json-schema.org/draft/2020-12/schema", "https://json-schema.org/draft/2020-12/schema#"];

/// What is wrong, and at which place of the schema.
pub(super) type Error = (String, String);

/// What the walk found.
pub(super) struct Walked {
    /// The schema as the validator gets it.
    pub schema: Value,
    /// The schemas in it; the whole is the first.
    pub parts: Vec<Part>,
    /// Patterns as they were written, by what the validator gets.
    pub patterns: HashMap<String, String>,
}

/// A schema in the schema, and where it sends a value.
#[derive(Debug, Default)]
pub(super) struct Part {
    /// Its place, for errors.
    pub place: String,
    /// Parts that are asked about the same value.
    pub same_value: Vec<usize>,
    /// The members that it names, and the parts that are asked about each.
    pub members: HashMap<String, Vec<usize>>,
    /// Parts that are asked about other parts of the value: elements, and members that have no name here.
    pub parts_of_value: Vec<usize>,
}

/// Walks over a schema.
pub(super) fn walk(schema: &Value, is_known_format: &dyn Fn(&str) -> bool, regexps: &mut Regexps) -> Result<Walked, Error> {
    check_size(schema)?;
    let mut schema = schema.clone();
    let mut walk = Walk {
        is_known_format,
        regexps,
        parts: Vec::new(),
        pointers: HashMap::new(),
        anchors: HashMap::new(),
        references: Vec::new(),
        patterns: HashMap::new(),
    };
    walk.schema(&mut schema, &Place::default(), 1)?;
    let Walk { mut parts, pointers, anchors, references, patterns, .. } = walk;
    for (from, place, reference) in references {
        let to = target(&reference, &pointers, &anchors).ok_or_else(|| (place, unknown_reference(&reference)))?;
        parts[from].same_value.push(to);
    }
    Ok(Walked { schema, parts, patterns })
}

/// Bounds what everything after it, and the validator's own recursion, has to do.
fn check_size(schema: &Value) -> Result<(), Error> {
    let mut open = vec![(schema, 1)];
    let mut values = 0;
    while let Some((value, level)) = open.pop() {
        values += 1;
        if values > MAX_VALUES {
            return Err((String::new(), format!("is too large: a schema has at most {MAX_VALUES} values in all")));
        }
        if level > MAX_JSON_LEVELS {
            return Err((String::new(), too_deep()));
        }
        match value {
            Value::Array(elements) => open.extend(elements.iter().map(|element| (element, level + 1))),
            Value::Object(members) => open.extend(members.values().map(|member| (member, level + 1))),
            _ => {}
        }
    }
    Ok(())
}

fn too_deep() -> String {
    format!("is too deep: at most {MAX_LEVELS} schemas can be within each other")
}

/// A place in the schema.
#[derive(Clone, Default)]
struct Place {
    /// As errors name it: `properties.id`, `allOf[0]`.
    name: String,
    /// As references name it: `/properties/id`.
    pointer: String,
}

impl Place {
    fn member(&self, key: &str) -> Self {
        let dot = if self.name.is_empty() { "" } else { "." };
        Self { name: format!("{}{dot}{key}", self.name), pointer: format!("{}/{}", self.pointer, crate::pointer::escape(key)) }
    }

    fn element(&self, index: usize) -> Self {
        Self { name: format!("{}[{index}]", self.name), pointer: format!("{}/{index}", self.pointer) }
    }

    fn error<T>(&self, message: impl Into<String>) -> Result<T, Error> {
        Err((self.name.clone(), message.into()))
    }
}

struct Walk<'a> {
    is_known_format: &'a dyn Fn(&str) -> bool,
    regexps: &'a mut Regexps,
    parts: Vec<Part>,
    /// Parts by their pointers.
    pointers: HashMap<String, usize>,
    /// Parts by their `$anchor`.
    anchors: HashMap<String, usize>,
    /// Each `$ref`: the part that it is in, its place, and what it says.
    references: Vec<(usize, String, String)>,
    patterns: HashMap<String, String>,
}

impl Walk<'_> {
    /// Walks over one schema and returns its part.
    fn schema(&mut self, schema: &mut Value, place: &Place, level: usize) -> Result<usize, Error> {
        if level > MAX_LEVELS {
            return place.error(too_deep());
        }
        let part = self.parts.len();
        self.parts.push(Part { place: place.name.clone(), ..Part::default() });
        self.pointers.insert(place.pointer.clone(), part);
        match schema {
            Value::Bool(_) => {}
            Value::Object(members) => {
                if level == 1 {
                    check_draft(members)?;
                    // Neither says anything of a value, and an `$id` would change what `$ref` means.
                    members.remove("$schema");
                    members.remove("$id");
                }
                check_conditional(members, place)?;
                for (key, value) in members.iter_mut() {
                    self.keyword(part, key, value, &place.member(key), level)?;
                }
                for key in ["minContains", "maxContains"] {
                    if let (true, Ok(Keyword::Beside(other))) = (members.contains_key(key), keyword::keyword(key))
                        && !members.contains_key(other)
                    {
                        return place.member(key).error(format!("means nothing without `{other}`"));
                    }
                }
            }
            other => return place.error(format!("must be a schema, an object or a boolean, but is {}", describe(other))),
        }
        Ok(part)
    }

    fn keyword(&mut self, part: usize, key: &str, value: &mut Value, place: &Place, level: usize) -> Result<(), Error> {
        let keyword = keyword::keyword(key).or_else(|message| place.error(message))?;
        match keyword {
            Keyword::Annotation | Keyword::Value | Keyword::Beside(_) => {
                if matches!(key, "required" | "dependentRequired") {
                    self.name(part, value);
                }
                check_value(key, value, place)
            }
            Keyword::Type => check_type(value, place),
            Keyword::Format => match value {
                Value::String(name) if !(self.is_known_format)(name) => place.error(keyword::format_error(name)),
                _ => Ok(()),
            },
            Keyword::Pattern => match value {
                Value::String(pattern) => {
                    *pattern = self.pattern(pattern, place)?;
                    Ok(())
                }
                _ => Ok(()),
            },
            Keyword::Draft => place.error("stands at the top of a schema only"),
            Keyword::Id => {
                place.error("stands at the top of a schema only: it changes what `$ref` means; write `$anchor`, and `$ref: '#name'`")
            }
            Keyword::Anchor => match value {
                Value::String(name) => match self.anchors.insert(name.clone(), part) {
                    Some(_) => place.error(format!("`{name}` is already the name of another schema")),
                    None => Ok(()),
                },
                _ => Ok(()),
            },
            Keyword::Reference => match value {
                Value::String(reference) => {
                    self.references.push((part, place.name.clone(), reference.clone()));
                    Ok(())
                }
                other => place.error(format!("must be a string like `#/$defs/name`, but is {}", describe(other))),
            },
            Keyword::SameValue | Keyword::Part => {
                if key == "items" && value.is_array() {
                    return place.error("is one schema for all elements; a list of schemas, one for each, is `prefixItems`");
                }
                let to = self.schema(value, place, level + 1)?;
                self.link(part, to, keyword == Keyword::SameValue);
                Ok(())
            }
            Keyword::SameValues | Keyword::Parts => {
                let Value::Array(schemas) = value else {
                    return place.error(format!("must be a list of schemas, but is {}", describe(value)));
                };
                for (i, schema) in schemas.iter_mut().enumerate() {
                    let to = self.schema(schema, &place.element(i), level + 1)?;
                    self.link(part, to, keyword == Keyword::SameValues);
                }
                Ok(())
            }
            Keyword::SameValueByName | Keyword::PartByName | Keyword::Definitions | Keyword::PartByPattern => {
                let Value::Object(schemas) = value else {
                    return place.error(format!("must be an object of schemas by name, but is {}", describe(value)));
                };
                for (name, schema) in schemas.iter_mut() {
                    let to = self.schema(schema, &place.member(name), level + 1)?;
                    match keyword {
                        Keyword::Definitions => {}
                        Keyword::PartByName => self.parts[part].members.entry(name.clone()).or_default().push(to),
                        _ => self.link(part, to, keyword == Keyword::SameValueByName),
                    }
                    if keyword == Keyword::SameValueByName {
                        self.parts[part].members.entry(name.clone()).or_default();
                    }
                }
                if keyword == Keyword::PartByPattern {
                    self.spell_out_keys(schemas, place)?;
                }
                Ok(())
            }
        }
    }

    fn link(&mut self, from: usize, to: usize, is_same_value: bool) {
        let part = &mut self.parts[from];
        if is_same_value { part.same_value.push(to) } else { part.parts_of_value.push(to) }
    }

    /// Notes the members that are named in lists, or in an object of lists.
    fn name(&mut self, part: usize, names: &Value) {
        match names {
            Value::String(name) => drop(self.parts[part].members.entry(name.clone()).or_default()),
            Value::Array(names) => names.iter().for_each(|name| self.name(part, name)),
            Value::Object(names) => {
                for (name, more) in names {
                    self.parts[part].members.entry(name.clone()).or_default();
                    self.name(part, more);
                }
            }
            _ => {}
        }
    }

    fn pattern(&mut self, pattern: &str, place: &Place) -> Result<String, Error> {
        let spelled_out = spelled_out(pattern, self.regexps).or_else(|message| place.error(message))?;
        if spelled_out != pattern {
            self.patterns.insert(spelled_out.clone(), pattern.to_owned());
        }
        Ok(spelled_out)
    }

    fn spell_out_keys(&mut self, schemas: &mut Map<String, Value>, place: &Place) -> Result<(), Error> {
        let mut spelled = Map::new();
        for (pattern, schema) in std::mem::take(schemas) {
            let mut key = self.pattern(&pattern, &place.member(&pattern))?;
            // Two ways to write the same must both hold.
            while spelled.contains_key(&key) {
                key.push_str("(?:)");
            }
            spelled.insert(key, schema);
        }
        *schemas = spelled;
        Ok(())
    }
}

fn check_draft(schema: &Map<String, Value>) -> Result<(), Error> {
    match schema.get("$schema") {
        None => Ok(()),
        Some(Value::String(draft)) if DRAFT.contains(&draft.as_str()) => Ok(()),
        Some(other) => Err((
            "$schema".to_owned(),
            format!("{other} is another draft than 2020-12, the only one that is read: leave it out, or write {}", DRAFT[0]),
        )),
    }
}

fn check_conditional(schema: &Map<String, Value>, place: &Place) -> Result<(), Error> {
    match ["then", "else"].into_iter().find(|key| schema.contains_key(*key) && !schema.contains_key("if")) {
        Some(key) => place.member(key).error("means nothing without `if`"),
        None => Ok(()),
    }
}

fn check_type(value: &Value, place: &Place) -> Result<(), Error> {
    let error = |value: &Value| value.as_str().and_then(keyword::type_error);
    let wrong = match value {
        Value::Array(names) => names.iter().find_map(error),
        name => error(name),
    };
    match wrong {
        Some(message) => place.error(message),
        None => Ok(()),
    }
}

/// Mistakes in values that the meta-schema would tell in words that help nobody.
fn check_value(key: &str, value: &Value, place: &Place) -> Result<(), Error> {
    match (key, value) {
        ("required", Value::Bool(_)) => place.error("is a list of names, and stands beside `properties`, not within one of them"),
        ("exclusiveMinimum" | "exclusiveMaximum", Value::Bool(_)) => {
            place.error("is the bound itself, a number, instead of `minimum` or `maximum`")
        }
        ("enum", Value::Array(values)) if values.is_empty() => place.error("is an empty list, which no value is in; name the values"),
        _ => Ok(()),
    }
}

/// The part that a reference leads to.
fn target(reference: &str, pointers: &HashMap<String, usize>, anchors: &HashMap<String, usize>) -> Option<usize> {
    let fragment = decoded(reference.strip_prefix('#')?)?;
    // Keys of `patternProperties` are spelled out, so the validator would not find what stands under them.
    if fragment.contains("/patternProperties/") {
        return None;
    }
    pointers.get(&fragment).or_else(|| anchors.get(&fragment)).copied()
}

/// The text of a URI fragment.
fn decoded(fragment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(fragment.len());
    let mut rest = fragment.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(if byte == b'%' {
            let mut digit = || char::from(rest.next()?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            digit()? << 4 | digit()?
        } else {
            byte
        });
    }
    String::from_utf8(bytes).ok()
}

fn unknown_reference(reference: &str) -> String {
    if reference.starts_with('#') {
        format!("`{reference}` leads to no schema in this one; what is referred to stands under `$defs`")
    } else {
        format!("`{reference}` leads out of this schema, and nothing is fetched; copy what it names under `$defs` and write `#/$defs/name`")
    }
}
