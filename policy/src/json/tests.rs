use proptest::prelude::*;
use serde_json::value::RawValue;

use super::*;

fn scan(text: &[u8]) -> Result<(), Fault> {
    let mut scanner = Scanner::new(text)?;
    scanner.value()?;
    scanner.finish()
}

#[test]
fn what_reads_one_way_passes() {
    let digits = "9".repeat(100);
    for text in [
        "{}",
        "[]",
        " \t\r\n0 ",
        "-0",
        "-0.0e-0",
        "1E+2",
        "true",
        "false",
        "null",
        r#""""#,
        r#""\"\\\/\b\f\n\r\t\u00e9""#,
        r#""\ud83d\ude00""#,
        r#"{"a":{"a":[{"a":1},{"a":1}]}}"#,
        r#"{"":1," ":2}"#,
        "\"\u{7f}\u{feff}\"",
        &digits,
        "9007199254740993",
        "1e399",
        "1e-400",
        "0.0001e403",
        "9.99e399",
    ] {
        assert_eq!(scan(text.as_bytes()), Ok(()), "{text}");
    }
}

#[test]
fn what_is_not_json_does_not_pass() {
    for text in [
        "",
        " ",
        "{",
        "}",
        "[1,]",
        "{\"a\":1,}",
        "{,}",
        "[,1]",
        "{a:1}",
        "{'a':1}",
        "{1:1}",
        "{\"a\"}",
        "{\"a\":}",
        "01",
        "-",
        "-01",
        "+1",
        ".5",
        "1.",
        "1e",
        "1e+",
        "0x1",
        "NaN",
        "Infinity",
        "-Infinity",
        "tru",
        "nul",
        "True",
        "\"",
        "\"\\",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "\"a\nb\"",
        "\"\u{0}\"",
        "/**/1",
        "1//",
        "\u{a0}1",
        "\u{b}1",
        "[1 2]",
        "\u{2028}1",
        "{\"a\":1 \"b\":2}",
        "(",
    ] {
        let fault = scan(text.as_bytes()).expect_err(text);
        assert!(matches!(fault, Fault::Syntax | Fault::TrailingBytes), "{text}: {fault:?}");
    }
    assert_eq!(scan(b"{}{}"), Err(Fault::TrailingBytes));
    assert_eq!(scan(b"{}\0"), Err(Fault::TrailingBytes));
    assert_eq!(scan(b"\xEF\xBB\xBF{}"), Err(Fault::Bom));
    assert_eq!(scan(b"\"\xff\""), Err(Fault::NotUtf8));
    // A surrogate in UTF-8's clothes.
    assert_eq!(scan(b"\"\xed\xa0\x80\""), Err(Fault::NotUtf8));
    assert_eq!(scan(b"\xff\xfe{\0}\0"), Err(Fault::NotUtf8));
    assert_eq!(scan(b"{\0}\0"), Err(Fault::Syntax));
}

#[test]
fn what_reads_two_ways_does_not_pass() {
    for text in
        [r#"{"a":1,"a":1}"#, r#"{"a":1,"b":2,"\u0061":3}"#, r#"[{"x":{"":0,"":0}}]"#, r#"{"\ud83d\ude00":1,"😀":2}"#, r#"{"\/":1,"/":2}"#]
    {
        assert_eq!(scan(text.as_bytes()), Err(Fault::DuplicateKey), "{text}");
    }
    for text in [
        r#""\ud800""#,
        r#""\udc00""#,
        r#""\ud800\u0041""#,
        r#""\ud800\ud800\udc00""#,
        r#""\udc00\ud800""#,
        r#"{"\ud800":1}"#,
        r#""\ud800x""#,
        r#""\ud800\"""#,
    ] {
        assert_eq!(scan(text.as_bytes()), Err(Fault::LoneSurrogate), "{text}");
    }
    let digits = "9".repeat(101);
    for text in [
        "1e400",
        "-1e400",
        "9.9e-401",
        "1e-401",
        "0.1e-400",
        "10e399",
        "0e400",
        "1e99999999999999999999999",
        "1e-99999999999999999999999",
        &digits,
    ] {
        assert_eq!(scan(text.as_bytes()), Err(Fault::Number), "{text}");
    }
}

#[test]
fn only_in_arguments_are_look_alikes_refused() {
    let arguments = |text: &str| {
        let mut scanner = Scanner::new(text.as_bytes()).unwrap();
        scanner.arguments(Scanner::value).unwrap();
        scanner.finish()
    };
    for text in [
        r#"{"operation": 1, "Operation": 2}"#,
        r#"{"b": 0, "operation": 1, "a": 0, "o\u0050eration": 2}"#,
        r#"{"a": [{"b": {"x": 1, "x\u0000": 2}}]}"#,
        r#"{"\u017ftatus": 1, "status": 2}"#,
        r#"{"": 1, " ": 2}"#,
    ] {
        assert_eq!((arguments(text), scan(text.as_bytes())), (Err(Fault::LookalikeKey), Ok(())), "{text}");
    }
    for text in [r#"{"a": 1, "b": {"A": 1}}"#, r#"[{"a": 1}, {"A": 1}]"#, r#"{"task_id": 1, "taskId": 2}"#] {
        assert_eq!(arguments(text), Ok(()), "{text}");
    }
    for text in [r#"{"a": 1, "a": 2}"#, r#"{"a": 1, "\u0061": 2}"#] {
        assert_eq!(arguments(text), Err(Fault::DuplicateKey), "{text}");
    }
    let keys: Vec<_> = (0..100_000).map(|i| format!("\"ÄK{i}\": 0")).collect();
    let many = |last: &str| format!("{{{}, \"{last}\": 0}}", keys.join(", "));
    assert_eq!((arguments(&many("äk77777")), arguments(&many("äk"))), (Err(Fault::LookalikeKey), Ok(())));
}

#[test]
fn an_ambiguity_does_not_hide_what_is_no_json() {
    assert_eq!(scan(br#"{"a":1,"a":1"#), Err(Fault::Syntax));
}

#[test]
fn depth_is_bounded_however_deep_the_text() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(scan(nested(MAX_DEPTH).as_bytes()), Ok(()));
    assert_eq!(scan(nested(MAX_DEPTH + 1).as_bytes()), Err(Fault::TooDeep));
    assert_eq!(scan("[".repeat(1_000_000).as_bytes()), Err(Fault::TooDeep));
    assert_eq!(scan("{\"a\":".repeat(1_000_000).as_bytes()), Err(Fault::TooDeep));
    // Depth is that of the nesting, not the number of arrays.
    assert_eq!(scan(format!("[{}[]]", "[],".repeat(1000)).as_bytes()), Ok(()));
}

#[test]
fn many_keys_take_little_time_and_are_all_compared() {
    let many = |last: &str| {
        let keys: Vec<String> = (0..200_000).map(|n| format!("\"{n}\":0")).collect();
        format!("{{{},\"{last}\":0}}", keys.join(","))
    };
    assert_eq!(scan(many("x").as_bytes()), Ok(()));
    assert_eq!(scan(many("\\u0031").as_bytes()), Err(Fault::DuplicateKey));
}

/// Texts that are often JSON, and often nearly.
fn nearly_json() -> impl Strategy<Value = String> {
    let token = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "\"a\"",
        "\"\\u0061\"",
        "\"\\ud83d\"",
        "0",
        "1",
        "-",
        ".",
        "e9",
        "true",
        "null",
        " ",
        "\n",
        "\"a\":1",
        "[]",
        "{}",
    ]);
    prop::collection::vec(token, 0..24).prop_map(|tokens| tokens.concat())
}

proptest! {
    #[test]
    fn whatever_ends_plain_text_is_found_where_it_stands(
        text in prop::collection::vec(prop::sample::select(vec![b'"', b'\\', 0, 0x1f, 0x20, 0x21, 0x23, b'[', b']', 0x7f, 0x80, 0x9f, 0xa2, 0xdc, 0xff]), 0..40),
        before in 0_usize..20,
    ) {
        let text = [vec![b'x'; before], text].concat();
        let found = text.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)).unwrap_or(text.len());
        prop_assert_eq!(plain(&text), found);
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        let _ = scan(&bytes);
    }

    #[test]
    fn what_passes_is_json_to_others_too(text in nearly_json()) {
        let theirs = serde_json::from_str::<Box<RawValue>>(&text);
        match scan(text.as_bytes()) {
            Ok(()) => prop_assert!(theirs.is_ok(), "{text}"),
            Err(Fault::Syntax | Fault::TrailingBytes) => prop_assert!(theirs.is_err(), "{text}"),
            Err(_) => {}
        }
    }

    #[test]
    fn strings_read_as_others_read_them(text in any::<String>(), escape_all in any::<bool>()) {
        let json = if escape_all {
            let units: Vec<String> = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
            format!("\"{}\"", units.concat())
        } else {
            serde_json::to_string(&text).unwrap()
        };
        let mut scanner = Scanner::new(json.as_bytes()).unwrap();
        prop_assert_eq!(scanner.string().unwrap(), text);
        prop_assert_eq!(scanner.finish(), Ok(()));
    }
}
