//! `Mcp-Param-*`: arguments that a tool's schema asks clients to repeat in a header (`x-mcp-header`). What repeats them differently is
//! refused, for something on the way may have judged by the header. mcp.md 1.5 and section 3, rule 14.
//!
//! Known are the tools that a list brought since the sidecar started; of others, the headers pass.

use http::header::{HeaderMap, HeaderName};
use mcp_policy::json::{Fault, Kind, Scanner};
use mcp_policy::number::Decimal;

use crate::front::headers;
use crate::message::{HEADER_MISMATCH, Malformed, Reason};

/// More annotations of one tool, and deeper ones, are not remembered: their headers pass as unknown ones.
const MAX_MIRRORED: usize = 32;
const MAX_DEPTH: usize = 8;
const MAX_NAME_BYTES: usize = 256;

/// An argument that clients repeat in a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirrored {
    header: HeaderName,
    /// The names of the properties that lead to it.
    path: Vec<Box<str>>,
}

/// Reads a tool's `inputSchema` for the arguments that are to be repeated: strings, integers and booleans that `properties` alone lead
/// to.
pub(crate) fn read_schema(scanner: &mut Scanner<'_>, found: &mut Vec<Mirrored>) -> Result<(), Fault> {
    read_level(scanner, &mut Vec::new(), found)
}

fn read_level(scanner: &mut Scanner<'_>, path: &mut Vec<Box<str>>, found: &mut Vec<Mirrored>) -> Result<(), Fault> {
    if scanner.kind()? != Kind::Object || path.len() > MAX_DEPTH {
        return scanner.value().map(drop);
    }
    let mut header = None;
    let mut is_plain = false;
    scanner.object(|scanner, key| match (key, scanner.kind()?) {
        ("x-mcp-header", Kind::String) => {
            header = HeaderName::try_from(format!("mcp-param-{}", scanner.string()?)).ok();
            Ok(())
        }
        ("type", Kind::String) => {
            is_plain = matches!(&*scanner.string()?, "string" | "integer" | "boolean");
            Ok(())
        }
        ("properties", Kind::Object) => scanner.object(|scanner, name| {
            path.push(name.into());
            let read = read_level(scanner, path, found);
            path.pop();
            read
        }),
        _ => scanner.value().map(drop),
    })?;
    let is_short = path.iter().map(|name| name.len()).sum::<usize>() <= MAX_NAME_BYTES;
    if let Some(header) = header.filter(|header| is_plain && !path.is_empty() && is_short && header.as_str().len() <= MAX_NAME_BYTES)
        && found.len() < MAX_MIRRORED
    {
        found.push(Mirrored { header, path: path.clone() });
    }
    Ok(())
}

/// Compares the headers of a call with its arguments; `arguments` is their text, empty where there are none.
pub(crate) fn check(mirrored: &[Mirrored], headers: &HeaderMap, arguments: &str) -> Result<(), Malformed> {
    for one in mirrored {
        let header = headers::check_value(headers, &one.header).map_err(|malformed| malformed.with_code(HEADER_MISMATCH))?;
        if !agrees(header, &one.value(arguments)) {
            let malformed = Malformed::bad_request(Reason::HeaderMismatch, "an `Mcp-Param` header is not the argument that it repeats");
            return Err(malformed.with_code(HEADER_MISMATCH));
        }
    }
    Ok(())
}

/// The value of an argument.
#[derive(Debug, PartialEq, Eq)]
enum Value {
    /// There is none, or null.
    Absent,
    Text(String),
    Number(Option<Decimal>),
    Bool(bool),
    /// What no header can repeat.
    Other,
}

impl Mirrored {
    fn value(&self, arguments: &str) -> Value {
        let mut value = Value::Absent;
        // The arguments were read already, so there is no fault in them; empty ones have no value.
        if let Ok(mut scanner) = Scanner::new(arguments.as_bytes()) {
            let _ = find(&mut scanner, &self.path, &mut value);
        }
        value
    }
}

fn find(scanner: &mut Scanner<'_>, path: &[Box<str>], found: &mut Value) -> Result<(), Fault> {
    let kind = scanner.kind()?;
    if let Some((first, rest)) = path.split_first() {
        if kind != Kind::Object {
            return scanner.value().map(drop);
        }
        return scanner.object(|scanner, key| if *key == **first { find(scanner, rest, found) } else { scanner.value().map(drop) });
    }
    *found = match kind {
        Kind::Null => Value::Absent,
        Kind::String => return scanner.string().map(|text| *found = Value::Text(text.into_owned())),
        Kind::Number | Kind::Bool => {
            let place = scanner.value()?;
            let text = scanner.source(place);
            *found = if kind == Kind::Bool { Value::Bool(text == "true") } else { Value::Number(Decimal::parse(text)) };
            return Ok(());
        }
        Kind::Object | Kind::Array => Value::Other,
    };
    scanner.value().map(drop)
}

fn agrees(header: Option<&[u8]>, value: &Value) -> bool {
    let Some(header) = header else { return *value == Value::Absent };
    let Some(header) = headers::decode(header) else { return false };
    let Ok(header) = std::str::from_utf8(&header) else { return false };
    match value {
        Value::Absent | Value::Other => false,
        Value::Text(text) => header == text,
        // `1`, `1.0` and `10e-1` are the same integer.
        Value::Number(number) => number.is_some() && Decimal::parse(header) == *number,
        Value::Bool(value) => header == if *value { "true" } else { "false" },
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const SCHEMA: &str = r#"{"type":"object","properties":{
        "region":{"type":"string","x-mcp-header":"Region"},
        "count":{"x-mcp-header":"count","type":"integer"},
        "dry":{"type":"boolean","x-mcp-header":"Dry"},
        "deep":{"type":"object","x-mcp-header":"No","properties":{"er":{"type":"string","x-mcp-header":"Deeper"}}},
        "list":{"type":"array","items":{"type":"string","x-mcp-header":"Item"}},
        "bad":{"type":"string","x-mcp-header":"no token"}}}"#;

    fn mirrored() -> Vec<Mirrored> {
        let mut found = Vec::new();
        read_schema(&mut Scanner::new(SCHEMA.as_bytes()).unwrap(), &mut found).unwrap();
        found
    }

    #[test]
    fn rule_14_only_plain_properties_that_properties_lead_to_are_repeated() {
        let found: Vec<_> = mirrored().into_iter().map(|one| (one.header.to_string(), one.path.join("."))).collect();
        let expected = [("region", "region"), ("count", "count"), ("dry", "dry"), ("deeper", "deep.er")];
        assert_eq!(found, expected.map(|(header, path)| (format!("mcp-param-{header}"), path.to_owned())));
    }

    #[test]
    fn rule_14_a_header_repeats_its_argument_or_the_call_is_refused() {
        for (header, arguments, passes) in [
            ("", "{}", true),
            ("", "", true),
            ("", r#"{"region":null}"#, true),
            ("region: eu", r#"{"region":"eu"}"#, true),
            ("region: eu", r#"{"region":"\u0065u"}"#, true),
            ("region: =?base64?w7w=?=", r#"{"region":"ü"}"#, true),
            ("region: =?base64?ZXU=?=", r#"{"region":"eu"}"#, true),
            ("deeper: x", r#"{"deep":{"er":"x"}}"#, true),
            ("count: 1", r#"{"count":1}"#, true),
            ("count: 1", r#"{"count":1.0}"#, true),
            ("count: 9007199254740993", r#"{"count":9007199254740993}"#, true),
            ("dry: true", r#"{"dry":true}"#, true),
            ("unknown: x", "{}", true),
            ("", r#"{"region":"eu"}"#, false),
            ("region: eu", "{}", false),
            ("region: eu", r#"{"region":"us"}"#, false),
            ("region: EU", r#"{"region":"eu"}"#, false),
            ("region: =?base64?ZXU?=", r#"{"region":"eu"}"#, false),
            ("region: =?base64?/w==?=", r#"{"region":"eu"}"#, false),
            ("region: eu", r#"{"region":["eu"]}"#, false),
            ("region: eu\nregion: eu", r#"{"region":"eu"}"#, false),
            ("count: 2", r#"{"count":1}"#, false),
            ("count: 9007199254740992", r#"{"count":9007199254740993}"#, false),
            ("count: one", r#"{"count":1}"#, false),
            ("dry: 1", r#"{"dry":true}"#, false),
            ("deeper: x", r#"{"deep":"x"}"#, false),
        ] {
            let mut headers = HeaderMap::new();
            for line in header.lines() {
                let (name, value) = line.split_once(": ").unwrap();
                headers.append(HeaderName::try_from(format!("mcp-param-{name}")).unwrap(), HeaderValue::from_str(value).unwrap());
            }
            let checked = check(&mirrored(), &headers, arguments).map_err(|malformed| (malformed.status.as_u16(), malformed.code));
            assert_eq!(checked, if passes { Ok(()) } else { Err((400, -32020)) }, "{header} with {arguments}");
        }
    }
}
