//! Any bytes as what comes on a connection. What the sidecar takes for a request ends where another reader sees its end, one that looks
//! at all of it at once and knows only the strictest form: nobody finds a request within a request.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mcp_policy_sidecar::fuzzing::{Delimited, delimit};

fuzz_target!(|bytes: &[u8]| {
    // However the bytes were cut on their way.
    let whole = delimit([bytes]);
    assert_eq!(whole, delimit(bytes.chunks(1)));
    let mut rest = bytes;
    for Delimited { head, body } in whole {
        rest = rest.strip_prefix(head.as_slice()).expect("heads are taken from the front, whole");
        let (content, after) = read_body(&head, rest);
        assert_eq!(body, content);
        rest = after;
    }
});

/// The content of the body behind a head, and what stands behind it.
fn read_body<'a>(head: &[u8], rest: &'a [u8]) -> (Vec<u8>, &'a [u8]) {
    let text = head.strip_suffix(b"\r\n\r\n").expect("a head ends with an empty line");
    // Before a request, empty lines mean nothing.
    let lines: Vec<&[u8]> = split(text, b"\r\n").into_iter().skip_while(|line| line.is_empty()).collect();
    assert!(lines.iter().all(|line| !line.contains(&b'\n')), "a line ends in CRLF");
    let of = |wanted: &[u8]| -> Vec<Vec<u8>> {
        let fields = lines[1..].iter().map(|line| line.split_at(line.iter().position(|byte| *byte == b':').expect("a field has a name")));
        let named = fields.filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
        named.map(|(_, value)| value[1..].trim_ascii().to_ascii_lowercase()).collect()
    };
    match (of(b"content-length").as_slice(), of(b"transfer-encoding").as_slice()) {
        ([], []) => (Vec::new(), rest),
        ([length], []) => {
            let length: usize = std::str::from_utf8(length).unwrap().parse().unwrap();
            (rest[..length].to_vec(), &rest[length..])
        }
        ([], [coding]) => {
            assert_eq!(coding, b"chunked");
            read_chunks(rest)
        }
        several => panic!("it ends in more than one way: {several:?}"),
    }
}

fn read_chunks(mut rest: &[u8]) -> (Vec<u8>, &[u8]) {
    let mut content = Vec::new();
    loop {
        let (line, after) = cut(rest);
        let digits = line.split(|byte| !byte.is_ascii_hexdigit()).next().unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap();
        if size == 0 {
            rest = after;
            break;
        }
        content.extend_from_slice(&after[..size]);
        rest = after[size..].strip_prefix(b"\r\n").expect("a chunk ends with a line");
    }
    loop {
        let (line, after) = cut(rest);
        rest = after;
        if line.is_empty() {
            return (content, rest);
        }
    }
}

/// The first line, and what is behind it.
fn cut(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.windows(2).position(|end| end == b"\r\n").expect("a line ends");
    (&bytes[..end], &bytes[end + 2..])
}

fn split<'a>(mut bytes: &'a [u8], mark: &[u8]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    while let Some(at) = bytes.windows(mark.len()).position(|window| window == mark) {
        parts.push(&bytes[..at]);
        bytes = &bytes[at + mark.len()..];
    }
    parts.push(bytes);
    parts
}
