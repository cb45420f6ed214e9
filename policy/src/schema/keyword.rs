//! The keywords of JSON Schema 2020-12, and what people write instead of them.

/// What stands under a keyword.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keyword {
    /// A schema for the same value.
    SameValue,
    /// Schemas for the same value.
    SameValues,
    /// Schemas for the same value, by name.
    SameValueByName,
    /// A schema for parts of the value.
    Part,
    /// Schemas for parts of the value.
    Parts,
    /// Schemas for parts of the value, by name.
    PartByName,
    /// Schemas for parts of the value, by regular expression.
    PartByPattern,
    /// Schemas that are only referred to.
    Definitions,
    /// A reference to a schema.
    Reference,
    /// A name of this schema.
    Anchor,
    /// The draft.
    Draft,
    /// The name of the whole.
    Id,
    /// The types of the value.
    Type,
    /// A regular expression.
    Pattern,
    /// The name of a format.
    Format,
    /// Something to compare with, or a bound.
    Value,
    /// Means something only beside another keyword.
    Beside(&'static str),
    /// Says nothing of what is valid.
    Annotation,
}

const KEYWORDS: [(&str, Keyword); 55] = [
    ("$anchor", Keyword::Anchor),
    ("$comment", Keyword::Annotation),
    ("$defs", Keyword::Definitions),
    ("$id", Keyword::Id),
    ("$ref", Keyword::Reference),
    ("$schema", Keyword::Draft),
    ("additionalProperties", Keyword::Part),
    ("allOf", Keyword::SameValues),
    ("anyOf", Keyword::SameValues),
    ("const", Keyword::Value),
    ("contains", Keyword::Part),
    ("contentEncoding", Keyword::Annotation),
    ("contentMediaType", Keyword::Annotation),
    ("contentSchema", Keyword::Annotation),
    ("default", Keyword::Annotation),
    // Old for `$defs`; the meta-schema still has it.
    ("definitions", Keyword::Definitions),
    ("dependentRequired", Keyword::Value),
    ("dependentSchemas", Keyword::SameValueByName),
    ("deprecated", Keyword::Annotation),
    ("description", Keyword::Annotation),
    ("else", Keyword::SameValue),
    ("enum", Keyword::Value),
    ("examples", Keyword::Annotation),
    ("exclusiveMaximum", Keyword::Value),
    ("exclusiveMinimum", Keyword::Value),
    ("format", Keyword::Format),
    ("if", Keyword::SameValue),
    ("items", Keyword::Part),
    ("maxContains", Keyword::Beside("contains")),
    ("maxItems", Keyword::Value),
    ("maxLength", Keyword::Value),
    ("maxProperties", Keyword::Value),
    ("maximum", Keyword::Value),
    ("minContains", Keyword::Beside("contains")),
    ("minItems", Keyword::Value),
    ("minLength", Keyword::Value),
    ("minProperties", Keyword::Value),
    ("minimum", Keyword::Value),
    ("multipleOf", Keyword::Value),
    ("not", Keyword::SameValue),
    ("oneOf", Keyword::SameValues),
    ("pattern", Keyword::Pattern),
    ("patternProperties", Keyword::PartByPattern),
    ("prefixItems", Keyword::Parts),
    ("properties", Keyword::PartByName),
    ("propertyNames", Keyword::Part),
    ("readOnly", Keyword::Annotation),
    ("required", Keyword::Value),
    ("then", Keyword::SameValue),
    ("title", Keyword::Annotation),
    ("type", Keyword::Type),
    ("unevaluatedItems", Keyword::Part),
    ("unevaluatedProperties", Keyword::Part),
    ("uniqueItems", Keyword::Value),
    ("writeOnly", Keyword::Annotation),
];

/// Keywords of other drafts and of `OpenAPI`, and what to write.
const FOREIGN: [(&str, &str); 14] = [
    ("$dynamicAnchor", "is not read here; write `$anchor`, and `$ref` to it"),
    ("$dynamicRef", "is not read here; write `$ref`"),
    ("$recursiveAnchor", "is of draft 2019-09; write `$anchor`, and `$ref` to it"),
    ("$recursiveRef", "is of draft 2019-09; write `$ref`"),
    ("$vocabulary", "belongs to meta-schemas"),
    ("additionalItems", "is of older drafts; write `prefixItems` for the first elements and `items` for all others"),
    ("dependencies", "is of older drafts; write `dependentRequired` or `dependentSchemas`"),
    ("discriminator", "is of OpenAPI; the variants under `oneOf` tell themselves apart with `const`"),
    ("divisibleBy", "is of older drafts; write `multipleOf`"),
    ("example", "is of OpenAPI; write `examples`, a list"),
    ("extends", "is of older drafts; write `allOf`"),
    ("id", "is of older drafts; write `$id`. To describe an argument of this name, put it under `properties`"),
    ("nullable", "is of OpenAPI; write `type: [string, \"null\"]`"),
    ("optional", "is no keyword: what `required` does not list may be absent"),
];

/// The types of JSON values.
const TYPES: [&str; 7] = ["array", "boolean", "integer", "null", "number", "object", "string"];

/// Names of formats, for hints only: the validator says which it knows.
const FORMATS: [&str; 17] = [
    "date",
    "date-time",
    "duration",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "iri",
    "iri-reference",
    "json-pointer",
    "regex",
    "relative-json-pointer",
    "time",
    "uri",
    "uri-reference",
    "uri-template",
    "uuid",
];

/// The keyword of this name. The error says what to write instead.
pub(super) fn keyword(name: &str) -> Result<Keyword, String> {
    if let Some((_, keyword)) = KEYWORDS.iter().find(|(known, _)| *known == name) {
        return Ok(*keyword);
    }
    if name.starts_with("x-") {
        return Ok(Keyword::Annotation);
    }
    if let Some((_, hint)) = FOREIGN.iter().find(|(known, _)| *known == name) {
        return Err((*hint).to_owned());
    }
    Err(match nearest(name, KEYWORDS.iter().map(|(known, _)| *known)) {
        Some(known) => format!("is no keyword of JSON Schema; did you mean `{known}`?"),
        None => {
            "is no keyword of JSON Schema; arguments are described under `properties`, and notes of your own begin with `x-`".to_owned()
        }
    })
}

/// What is wrong with the name of a type, if anything.
pub(super) fn type_error(name: &str) -> Option<String> {
    if TYPES.contains(&name) {
        return None;
    }
    let synonym = match name {
        "int" | "long" => Some("integer"),
        "float" | "double" => Some("number"),
        "str" | "text" => Some("string"),
        "bool" => Some("boolean"),
        "list" => Some("array"),
        "dict" | "map" => Some("object"),
        "none" | "nil" => Some("null"),
        name => nearest(name, TYPES),
    };
    let hint = synonym.map_or_else(|| format!("write one of {}", TYPES.join(", ")), |known| format!("did you mean `{known}`?"));
    Some(format!("`{name}` is no type; {hint}"))
}

/// Why a format that the validator does not know is refused.
pub(super) fn format_error(name: &str) -> String {
    let hint = nearest(name, FORMATS)
        .map_or_else(|| format!("write `pattern`, or one of {}", FORMATS.join(", ")), |known| format!("did you mean `{known}`?"));
    format!("`{name}` is no format that can be checked; {hint}")
}

/// The name that a typing error may have meant.
fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let written = written.to_ascii_lowercase();
    let nearest = known.into_iter().map(|known| (distance(&written, &known.to_ascii_lowercase()), known)).min()?;
    // Short names are near to everything.
    (nearest.0 <= 2 && nearest.0 * 2 < nearest.1.len()).then_some(nearest.1)
}

/// How many letters must be added, left out or changed to make one of the other.
fn distance(a: &str, b: &str) -> usize {
    if a.len() > 64 {
        return a.len();
    }
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, other) in b.iter().enumerate() {
            let changed = diagonal + usize::from(letter != *other);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
