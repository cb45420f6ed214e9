//! The trace that a message belongs to, as its `_meta` names it: `traceparent` and `tracestate` of W3C Trace Context.

use std::collections::HashMap;

use mcp_policy::json::{Fault, Kind, Scanner};

use super::envelope::{skip, string};

/// Longer values are none: W3C asks for 512 characters to be kept.
const MAX_VALUE: usize = 512;

/// What `params._meta` says of a trace, by name; nothing where it says nothing. The body was judged before.
#[must_use]
pub fn trace_context(body: &[u8]) -> HashMap<String, String> {
    let mut found = HashMap::new();
    let read = Scanner::new(body).and_then(|mut scanner| {
        members(&mut scanner, |scanner, key| match key {
            "params" => members(scanner, |scanner, key| match key {
                "_meta" => members(scanner, |scanner, key| match key {
                    "traceparent" | "tracestate" => {
                        found.extend(
                            string(scanner)?.into_value().filter(|value| value.len() <= MAX_VALUE).map(|value| (key.to_owned(), value)),
                        );
                        Ok(())
                    }
                    _ => skip(scanner),
                }),
                _ => skip(scanner),
            }),
            _ => skip(scanner),
        })
    });
    if read.is_err() {
        found.clear();
    }
    found
}

/// The members of an object; anything else has none.
fn members<'a>(scanner: &mut Scanner<'a>, each: impl FnMut(&mut Scanner<'a>, &str) -> Result<(), Fault>) -> Result<(), Fault> {
    if scanner.kind()? == Kind::Object { scanner.object(each) } else { skip(scanner) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trace_is_read_from_meta_and_nowhere_else() {
        let of = |json: &str| {
            let mut found: Vec<_> = trace_context(json.as_bytes()).into_iter().collect();
            found.sort();
            found
        };
        let pairs = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<Vec<_>>();
        let both = r#"{"id":1,"params":{"name":"x","_meta":{"traceparent":"00-a","progressToken":1,"tracestate":"v=1"},"arguments":{}}}"#;
        assert_eq!(of(both), pairs(&[("traceparent", "00-a"), ("tracestate", "v=1")]));
        for nothing in [
            r#"{"params":{"arguments":{"_meta":{"traceparent":"00-a"}},"traceparent":"00-a"},"_meta":{"traceparent":"00-a"}}"#,
            r#"{"params":{"_meta":{"traceparent":["00-a"]}}}"#,
            r#"{"params":{"_meta":"traceparent"}}"#,
            &format!(r#"{{"params":{{"_meta":{{"tracestate":"{}"}}}}}}"#, "a".repeat(513)),
            r#"{"params":[]}"#,
            "[]",
            "{",
        ] {
            assert_eq!(of(nothing), [], "{nothing}");
        }
    }
}
