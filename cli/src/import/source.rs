//! Reading the file of another product: fields that know their path, and notes of everything that is wrong instead of the first only.

use mcp_policy::read::{FieldError, FileError, Located, Places, documents};
use mcp_policy::value;
use serde_json::{Number, Value};

/// Everything that is wrong so far.
#[derive(Debug, Default)]
pub struct Refusals(pub Vec<FieldError>);

/// A value within the file, and what its author would call it.
#[derive(Clone, Debug)]
pub struct Field<'a> {
    value: &'a Value,
    path: String,
    places: &'a Places,
}

/// The members of an object.
#[derive(Debug)]
pub struct Fields<'a>(Vec<(&'a str, Field<'a>)>);

/// Reads the one document of a file, YAML or JSON.
pub fn read(name: &str, text: &str) -> Result<Located, FileError> {
    let mut documents = documents(name, text)?;
    match (documents.pop(), documents.len()) {
        (Some(document), 0) => match octal(text).into_iter().find_map(|number| path_of(&document.value, number, "")) {
            None => Ok(document),
            Some(path) => {
                let message = "begins with a zero, which makes it octal there and not here; write it without".to_owned();
                Err(FileError::new(name, &document.places, FieldError { path, message }))
            }
        },
        (last, more) => {
            let message = match &last {
                None => "the file is empty".to_owned(),
                Some(_) => format!("the file holds {} documents; import reads one policy from a file", more + 1),
            };
            let field = FieldError { path: String::new(), message };
            Err(FileError { file: name.to_owned(), place: last.and_then(|last| last.places.of("")), field })
        }
    }
}

/// The numbers of a text that begin with a zero, like `010`: 8 in YAML 1.1, 10 in YAML 1.2. Words and quoted texts that look like one are
/// among them.
fn octal(text: &str) -> Vec<f64> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '.' | '-'));
    words
        .filter_map(|word| {
            let digits = word.trim_start_matches('-');
            let is_octal = digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_');
            is_octal.then(|| word.replace('_', "").parse().ok()).flatten()
        })
        .collect()
}

/// Where this number stands. The reader makes a double of a number that begins with a zero, and of few others that are whole.
fn path_of(value: &Value, number: f64, path: &str) -> Option<String> {
    match value {
        Value::Number(found) if found.is_f64() && found.as_f64() == Some(number) => Some(path.to_owned()),
        Value::Array(elements) => elements.iter().enumerate().find_map(|(i, element)| path_of(element, number, &format!("{path}[{i}]"))),
        Value::Object(members) => {
            let dot = if path.is_empty() { "" } else { "." };
            members.iter().find_map(|(key, member)| path_of(member, number, &format!("{path}{dot}{key}")))
        }
        _ => None,
    }
}

impl<'a> Field<'a> {
    /// The whole file.
    pub fn root(document: &'a Located) -> Self {
        Self { value: &document.value, path: String::new(), places: &document.places }
    }

    /// What its author would call it: `tools.create_issue.rules[0].rate_limit`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What it says.
    pub fn value(&self) -> &'a Value {
        self.value
    }

    /// Notes that this is wrong. Always `None`, to end a reader with.
    pub fn refuse<T>(&self, refusals: &mut Refusals, message: impl Into<String>) -> Option<T> {
        refusals.0.push(FieldError { path: self.path.clone(), message: message.into() });
        None
    }

    /// Its members in the order of the file, without looking at their names; none of what is no object.
    pub fn members(&self) -> Vec<(&'a str, Self)> {
        let Value::Object(members) = self.value else { return Vec::new() };
        let dot = if self.path.is_empty() { "" } else { "." };
        let member = |(key, value): (&'a String, &'a Value)| {
            (key.as_str(), Self { value, path: format!("{}{dot}{key}", self.path), places: self.places })
        };
        let mut members: Vec<_> = members.iter().map(member).collect();
        members.sort_by_key(|(_, field)| self.places.of(&field.path));
        members
    }

    /// A member by name.
    pub fn member(&self, name: &str) -> Option<Self> {
        self.members().into_iter().find(|(key, _)| *key == name).map(|(_, field)| field)
    }

    /// Its members, where it is an object.
    pub fn object(&self, refusals: &mut Refusals) -> Option<Vec<(&'a str, Self)>> {
        if !self.value.is_object() {
            return self.refuse(refusals, format!("must be an object, but is {}", self.describe()));
        }
        Some(self.members())
    }

    /// Its members, where it is an object. A key that is none of these is noted.
    pub fn fields(&self, known: &[&str], refusals: &mut Refusals) -> Option<Fields<'a>> {
        let members = self.object(refusals)?;
        for (_, unknown) in members.iter().filter(|(key, _)| !known.contains(key)) {
            unknown.refuse::<()>(refusals, format!("unknown field; that format has {} here", known.join(", ")));
        }
        Some(Fields(members))
    }

    /// Its elements.
    pub fn list(&self, refusals: &mut Refusals) -> Option<Vec<Self>> {
        let Value::Array(elements) = self.value else {
            return self.refuse(refusals, format!("must be a list, but is {}", self.describe()));
        };
        let element = |(i, value)| Self { value, path: format!("{}[{i}]", self.path), places: self.places };
        Some(elements.iter().enumerate().map(element).collect())
    }

    /// A text.
    pub fn text(&self, refusals: &mut Refusals) -> Option<&'a str> {
        let text = self.value.as_str();
        if text.is_some() { text } else { self.refuse(refusals, format!("must be a string, but is {}", self.describe())) }
    }

    /// A number.
    pub fn number(&self, refusals: &mut Refusals) -> Option<&'a Number> {
        let number = self.value.as_number();
        if number.is_some() { number } else { self.refuse(refusals, format!("must be a number, but is {}", self.describe())) }
    }

    /// A whole number that is not negative.
    pub fn count(&self, refusals: &mut Refusals) -> Option<u64> {
        let number = self.number(refusals)?;
        number.as_u64().or_else(|| self.refuse(refusals, format!("must be a whole number, 0 or more, but is {number}")))
    }

    /// What it is, in words that fit "is …".
    pub fn describe(&self) -> &'static str {
        value::describe(self.value)
    }
}

impl<'a> Fields<'a> {
    /// The field, if it is there and not null.
    pub fn get(&self, name: &str) -> Option<&Field<'a>> {
        self.written(name).filter(|field| !field.value.is_null())
    }

    /// The field, if it is there, `null` included.
    pub fn written(&self, name: &str) -> Option<&Field<'a>> {
        self.0.iter().find(|(key, _)| *key == name).map(|(_, field)| field)
    }
}
