//! YAML and JSON texts become values that know where each of their fields stands.

use granit_parser::{Event, Marker, Parser, ScalarStyle};
use serde_json::Value;
use serde_saphyr::Location;

use super::{FieldError, error, plain, shape};

/// A place in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line, from 1.
    pub line: u64,
    /// The column in Unicode characters, from 1.
    pub column: u64,
}

impl Place {
    fn of(location: Location) -> Option<Self> {
        (location != Location::UNKNOWN).then(|| Self { line: location.line(), column: location.column() })
    }

    fn at(marker: Marker) -> Self {
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        Self { line: count(marker.line()), column: count(marker.col()).saturating_add(1) }
    }
}

/// One document of a YAML or JSON text.
#[derive(Clone, Debug)]
pub struct Located {
    /// What it says.
    pub value: Value,
    /// Where it says it.
    pub places: Places,
    /// What it says in a way that not every reader of YAML takes for the same. To be refused in a policy, which kubectl reads too.
    pub doubts: Vec<FieldError>,
}

/// Where the fields of a document stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    own: Option<Place>,
    parts: Parts,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Parts {
    Scalar,
    List(Vec<Places>),
    /// A key, where it stands, and where its value does.
    Map(Vec<(String, Option<Place>, Places)>),
}

impl Places {
    /// Where the field with this path stands: its key, or the element of a list. Of a field that is not there, where the
    /// innermost one around it stands.
    #[must_use]
    pub fn of(&self, path: &str) -> Option<Place> {
        self.follow(path).0
    }

    /// The place of the longest field with which the text begins, and what of the text comes after it.
    ///
    /// A tool's name may hold dots and brackets, so a path is never split: it is compared with the keys that are there, and the
    /// longest way through them counts.
    pub(super) fn follow<'t>(&self, text: &'t str) -> (Option<Place>, &'t str) {
        self.follow_from(text, "")
    }

    /// `dot` stands before a name: none at the top.
    fn follow_from<'t>(&self, text: &'t str, dot: &str) -> (Option<Place>, &'t str) {
        let mut best = (self.own, text);
        let mut step = |place: Option<Place>, inner: &Self, rest: &'t str| {
            let (deeper, remains) = inner.follow_from(rest, ".");
            let (place, rest) = if remains.len() < rest.len() { (deeper, remains) } else { (place, rest) };
            let is_whole = rest.is_empty() || rest.starts_with(['.', '[', ':']);
            if is_whole && rest.len() < best.1.len() {
                best = (place, rest);
            }
        };
        match &self.parts {
            Parts::Scalar => {}
            Parts::List(elements) => {
                if let Some((index, rest)) = index(text)
                    && let Some(element) = elements.get(index)
                {
                    step(element.own, element, rest);
                }
            }
            Parts::Map(members) => {
                for (key, place, inner) in members {
                    if let Some(rest) = text.strip_prefix(dot).and_then(|name| name.strip_prefix(key.as_str())) {
                        step(*place, inner, rest);
                    }
                }
            }
        }
        best
    }
}

/// `[3]…` or `.3…`, as the index and what follows.
fn index(text: &str) -> Option<(usize, &str)> {
    if let Some(inner) = text.strip_prefix('[') {
        let (digits, rest) = inner.split_once(']')?;
        return Some((digits.parse().ok()?, rest));
    }
    let inner = text.strip_prefix('.')?;
    let end = inner.find(|c: char| !c.is_ascii_digit()).unwrap_or(inner.len());
    Some((inner[..end].parse().ok()?, &inner[end..]))
}

/// The documents of a text; empty ones are left out. The error says what is wrong, and where.
pub(super) fn documents(text: &str) -> Result<Vec<Located>, (Option<Place>, String)> {
    let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
    let values: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options).map_err(|cause| {
        let place = cause.location().and_then(Place::of);
        (place, super::hint::syntax(text, place, &cause))
    })?;
    let mut seen = seen(text);
    if seen.len() != values.len() {
        // The two readings left out different documents: no place is better than a wrong one, and any doubt may be of any document.
        let doubts: Vec<_> = seen.into_iter().flat_map(|(_, doubts)| doubts).collect();
        seen = vec![(Places { own: None, parts: Parts::Scalar }, doubts); values.len()];
    }
    Ok(values.into_iter().zip(seen).map(|(value, (places, doubts))| Located { value, places, doubts }).collect())
}

/// The places in each document of a text that was read before, and so is within the bounds of the reader; and what readers differ in.
fn seen(text: &str) -> Vec<(Places, Vec<FieldError>)> {
    let mut documents = Vec::new();
    let mut doubts = Vec::new();
    let mut open: Vec<Open> = Vec::new();
    for (event, span) in Parser::new_from_str(text).map_while(Result::ok) {
        let own = Some(Place::at(span.start));
        let scalar = event.scalar();
        let doubt = match scalar {
            _ if event.tag().is_some() => Some(plain::tagged()),
            Some((text, ScalarStyle::Plain)) => plain::doubt(text),
            _ => None,
        };
        doubts.extend(doubt.map(|doubt| error(path(&open, scalar.map_or("", |(text, _)| text)), doubt)));
        let (key, done) = match event {
            Event::MappingStart(..) => {
                open.push(Open { own, parts: Parts::Map(Vec::new()), key: None });
                continue;
            }
            Event::SequenceStart(..) => {
                open.push(Open { own, parts: Parts::List(Vec::new()), key: None });
                continue;
            }
            Event::MappingEnd | Event::SequenceEnd => {
                let Some(Open { own, parts, .. }) = open.pop() else { continue };
                (String::new(), Places { own, parts })
            }
            Event::Alias(_) => (String::new(), Places { own, parts: Parts::Scalar }),
            Event::Scalar(value, style, _, tag) => {
                let is_null = style == ScalarStyle::Plain && tag.is_none() && matches!(&*value, "" | "~" | "null" | "Null" | "NULL");
                if is_null && open.is_empty() {
                    continue;
                }
                (value.into_owned(), Places { own, parts: Parts::Scalar })
            }
            _ => continue,
        };
        let Some(around) = open.last_mut() else {
            documents.push((done, std::mem::take(&mut doubts)));
            continue;
        };
        match (&mut around.parts, around.key.take()) {
            (Parts::List(elements), _) => elements.push(done),
            (Parts::Map(members), Some((key, place))) => members.push((key, place, done)),
            (_, _) => around.key = Some((key, done.own)),
        }
    }
    documents
}

/// The path of what comes next in the innermost of these: the scalar itself, where a key is awaited.
fn path(open: &[Open], scalar: &str) -> String {
    open.iter().fold(String::new(), |path, around| match (&around.parts, &around.key) {
        (Parts::List(elements), _) => format!("{path}[{}]", elements.len()),
        (_, Some((key, _))) => shape::join(&path, key),
        (_, None) => shape::join(&path, scalar),
    })
}

/// A list or a map that has not ended yet.
struct Open {
    own: Option<Place>,
    parts: Parts,
    /// The key that waits for its value.
    key: Option<(String, Option<Place>)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place_in(text: &str, path: &str) -> Option<(u64, u64)> {
        documents(text).unwrap()[0].places.of(path).map(|place| (place.line, place.column))
    }

    #[test]
    fn a_field_is_found_by_its_path() {
        let text = "tools:\n  a.b:\n    limits:\n      - window: 1\n      - {max: 1, window: 2}\n  a: {b: {limits: 1}}\n  '':\n    x: 1\n";
        let cases = [
            ("", Some((1, 1))),
            ("tools", Some((1, 1))),
            ("tools.a.b", Some((2, 3))),
            ("tools.a.b.limits", Some((3, 5))),
            ("tools.a.b.limits[0]", Some((4, 9))),
            ("tools.a.b.limits[0].window", Some((4, 9))),
            ("tools.a.b.limits[1].window", Some((5, 18))),
            ("tools.a.b.limits.1.max", Some((5, 10))),
            // What is not there is told with what it should be in.
            ("tools.a.b.limits[1].counter", Some((5, 9))),
            ("tools.a.b.limits[7].counter", Some((3, 5))),
            ("tools.a", Some((6, 3))),
            ("tools..x", Some((8, 5))),
            ("nothing", Some((1, 1))),
        ];
        for (path, expected) in cases {
            assert_eq!(place_in(text, path), expected, "{path}");
        }
    }

    #[test]
    fn json_has_places_too() {
        let text = "{\n  \"tools\": {\"t\": {\"limits\": [\n    {\"max\": 1}]}}}";
        assert_eq!(place_in(text, "tools.t.limits[0].max"), Some((3, 6)));
    }

    #[test]
    fn what_an_alias_stands_for_is_where_the_alias_is() {
        let text = "a: &x {b: 1}\nc: *x\n";
        assert_eq!(place_in(text, "c"), Some((2, 1)));
        assert_eq!(documents(text).unwrap()[0].value["c"]["b"], 1);
    }

    #[test]
    fn the_rest_of_a_text_comes_after_its_longest_field() {
        let documents = documents("tools:\n  'a: b':\n    limits: []\n").unwrap();
        let (place, rest) = documents[0].places.follow("tools.a: b.limits: never acts: why");
        assert_eq!((place.map(|place| place.line), rest), (Some(3), ": never acts: why"));
    }

    #[test]
    fn deep_nesting_is_refused_and_does_not_overflow() {
        for depth in [65, 1_000, 100_000] {
            assert!(documents(&"[".repeat(depth)).is_err(), "{depth}");
            assert!(documents(&"- ".repeat(depth)).is_err(), "{depth}");
            assert!(documents(&format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth))).is_err(), "{depth}");
        }
    }
}
