//! Scalars without quotes that readers of YAML take for different values.
//!
//! A policy is read here as YAML 1.2, and by kubectl as what remains of YAML 1.1. Where the two differ, the file that was checked
//! is not the policy that is applied. So a policy is written in what both read alike.

/// What is to be said of a scalar without quotes that not everyone reads alike.
pub(super) fn doubt(text: &str) -> Option<String> {
    match text {
        "<<" => Some("merge keys are not YAML 1.2, and readers differ in which field wins; write the fields out".to_owned()),
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Some(word(text, true)),
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Some(word(text, false)),
        _ if is_number(text) && !is_json_number(text) => Some(format!(
            "readers of YAML take `{text}` for different numbers, or for a string; write a number as in JSON, a string in quotes"
        )),
        _ => None,
    }
}

/// What is to be said of a tag.
pub(super) fn tagged() -> String {
    "readers of YAML differ in what a tag (`!…`) does; write the value without it, a string in quotes".to_owned()
}

fn word(text: &str, kubectl_reads: bool) -> String {
    format!("kubectl reads `{text}` as {kubectl_reads}, YAML 1.2 as a string; write {kubectl_reads} or \"{text}\"")
}

/// Whether some reader takes the text for a number.
fn is_number(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return false;
    }
    let digits = unsigned.replace('_', "").to_ascii_lowercase();
    let in_radix = |prefix: &str, radix| {
        digits.strip_prefix(prefix).is_some_and(|digits| !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(radix)))
    };
    in_radix("0x", 16) || in_radix("0o", 8) || in_radix("0b", 2) || digits.parse::<f64>().is_ok()
}

fn is_json_number(text: &str) -> bool {
    serde_json::from_str::<serde_json::Number>(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_readers_take_for_different_values_is_doubtful() {
        // What kubectl 1.32 reads is told where it is not what YAML 1.2 says.
        let numbers = [
            "010", // 8
            "-010", "+010", "08", "00", "010.5", "0x1F", "0X1F", "0x_1", // 1
            "0o10", "0O10", "-0o10", "0b101", // 5
            "1_000", // 1000
            "1_", "1_0.5", "+1", ".5", "1.",
        ];
        for text in numbers {
            assert!(doubt(text).is_some_and(|doubt| doubt.contains("as in JSON")), "{text}");
        }
        for (word, value) in [("y", true), ("Yes", true), ("ON", true), ("N", false), ("no", false), ("Off", false)] {
            assert!(doubt(word).is_some_and(|doubt| doubt.contains(&format!("as {value},"))), "{word}");
        }
        assert!(doubt("<<").is_some());
    }

    #[test]
    fn what_all_read_alike_is_not_doubtful() {
        let numbers = ["0", "-0", "10", "1.0", "1e3", "1E+3", "-1.5e-3", "100000000000000000000"];
        let words = ["true", "False", "NULL", "~", "", "yEs", "nope", "deny", "oN", "="];
        let texts =
            ["1m", "90s", "2001-01-01", "12:30", "1.2.3", "_1", "0x", "0xg", "0b2", "0o8", "1e", ".", "-", "+", "..", "a010", "0-1"];
        for text in numbers.into_iter().chain(words).chain(texts) {
            assert_eq!(doubt(text), None, "{text}");
        }
    }
}
