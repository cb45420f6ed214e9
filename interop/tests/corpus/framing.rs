//! Requests whose end, or whose lines, two readers could see in different places: rule 12.

use crate::request::{Request, Variant, danger, post, raw, safe, two, unfinished, variant};

pub fn all() -> Vec<Variant> {
    [lengths(), codings(), chunks(), lines(), versions(), smuggled()].into_iter().flatten().collect()
}

/// A second request, which only a reader that was misled sees.
fn hidden() -> Vec<u8> {
    post(danger()).bytes()
}

fn then(first: &Request, second: &[u8]) -> Vec<u8> {
    [&first.bytes(), second].concat()
}

/// `danger` in one chunk, with these header lines for its coding.
fn coded(lines: &[&str]) -> Request {
    let chunked = post(danger()).chunked(4096);
    lines.iter().fold(chunked.without("Transfer-Encoding"), super::request::Request::with)
}

fn lengths() -> Vec<Variant> {
    let length = danger().len();
    let v = |name, value: String| variant(12, name, post(danger()).but(format!("Content-Length: {value}")));
    vec![
        v("a length with a plus", format!("+{length}")),
        v("a length with a minus", format!("-{length}")),
        v("a length in hexadecimal", format!("0x{length:x}")),
        v("a length twice in one line", format!("{length}, {length}")),
        v("two lengths in one line", format!("{length}, 1")),
        v("a length with a blank in it", format!("{} {}", length / 10, length % 10)),
        v("a length with a fraction", format!("{length}.0")),
        v("a length over 64 bits", "18446744073709551617".to_owned()),
        v("an empty length", String::new()),
        variant(12, "Content-Length twice, equal", post(danger()).with(format!("Content-Length: {length}"))),
        variant(12, "Content-Length twice, different", post(danger()).with("Content-Length: 1")),
        unfinished(12, "a length longer than the body", post(danger()).but(format!("Content-Length: {}", length + 10)).bytes()),
        variant(12, "a length shorter than the body", post(danger()).but(format!("Content-Length: {}", length - 10))),
        unfinished(12, "the request cut off in its head", post(danger()).bytes()[..60].to_vec()),
        variant(12, "neither length nor coding", post(danger()).without("Content-Length")),
    ]
}

fn codings() -> Vec<Variant> {
    let v = |name, lines: &[&str]| variant(12, name, coded(lines));
    vec![
        v("Transfer-Encoding: gzip, chunked", &["Transfer-Encoding: gzip, chunked"]),
        v("Transfer-Encoding: identity, chunked", &["Transfer-Encoding: identity, chunked"]),
        v("Transfer-Encoding: chunked, chunked", &["Transfer-Encoding: chunked, chunked"]),
        v("Transfer-Encoding: chunked twice", &["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"]),
        v("Transfer-Encoding: xchunked", &["Transfer-Encoding: xchunked"]),
        v("Transfer-Encoding: \"chunked\"", &["Transfer-Encoding: \"chunked\""]),
        v("Transfer-Encoding: chunked;x", &["Transfer-Encoding: chunked;x"]),
        v("Transfer-Encoding: chunked, identity", &["Transfer-Encoding: chunked, identity"]),
        v("Transfer-Encoding: gzip", &["Transfer-Encoding: gzip"]),
        v("an empty Transfer-Encoding", &["Transfer-Encoding:"]),
        v("Transfer-Encoding with a blank before the colon", &["Transfer-Encoding : chunked"]),
        v("Transfer-Encoding with a vertical tab", &["Transfer-Encoding: \u{b}chunked"]),
        v("Transfer-Encoding on a folded line", &["Transfer-Encoding:\r\n chunked"]),
        v("a coding beside a length", &["Transfer-Encoding: chunked", "Content-Length: 5"]),
        v("a length beside a coding", &["Content-Length: 5", "Transfer-Encoding: chunked"]),
        v("a length of 0 beside a coding", &["Content-Length: 0", "Transfer-Encoding: chunked"]),
        variant(12, "Transfer-Encoding: identity beside a length", post(danger()).with("Transfer-Encoding: identity")),
    ]
}

fn chunks() -> Vec<Variant> {
    let body = danger();
    let size = body.len();
    let v = |name, chunked: String| variant(12, name, coded(&["Transfer-Encoding: chunked"]).body(chunked));
    vec![
        v("a chunk extension", format!("{size:x};a=b\r\n{body}\r\n0\r\n\r\n")),
        v("a chunk extension with a quoted line end", format!("{size:x};a=\"\r\n{body}\r\n0\r\n\r\n")),
        v("a chunk extension with a bare LF", format!("{size:x};a\n{body}\r\n0\r\n\r\n")),
        v("a chunk size with a blank", format!("{size:x} \r\n{body}\r\n0\r\n\r\n")),
        v("a chunk size with 0x", format!("0x{size:x}\r\n{body}\r\n0\r\n\r\n")),
        v("a chunk size with a plus", format!("+{size:x}\r\n{body}\r\n0\r\n\r\n")),
        v("a chunk size with a minus", format!("-{size:x}\r\n{body}\r\n0\r\n\r\n")),
        v("a chunk size over 64 bits", format!("1000000000000000{size:02x}\r\n{body}\r\n0\r\n\r\n")),
        v("a chunk that ends in a bare LF", format!("{size:x}\r\n{body}\n0\r\n\r\n")),
        v("chunk sizes that end in a bare LF", format!("{size:x}\n{body}\r\n0\r\n\r\n")),
        v("a chunk longer than its size", format!("{:x}\r\n{body}\r\n0\r\n\r\n", size - 3)),
        v("trailers", format!("{size:x}\r\n{body}\r\n0\r\nX-Trailer: 1\r\n\r\n")),
        v("a trailer that names a tool", format!("{size:x}\r\n{body}\r\n0\r\nMcp-Name: safe\r\n\r\n")),
        v("a trailer that gives a length", format!("{size:x}\r\n{body}\r\n0\r\nContent-Length: 1\r\n\r\n")),
        unfinished(12, "chunks without the last", coded(&["Transfer-Encoding: chunked"]).body(format!("{size:x}\r\n{body}\r\n")).bytes()),
    ]
}

fn lines() -> Vec<Variant> {
    let with = |name, line: &[u8]| variant(12, name, post(danger()).with(line));
    let text = |request: Request, from: &str, to: &str| {
        let bytes = String::from_utf8(request.bytes()).unwrap();
        let (head, body) = bytes.split_once("\r\n\r\n").unwrap();
        format!("{}{to}{}", head.replace(from, to), if from == "\r\n" { format!("{to}{body}") } else { format!("\r\n\r\n{body}") })
            .into_bytes()
    };
    let bare = |end: &str| text(post(danger()), "\r\n", end);
    vec![
        raw(12, "bare LF everywhere", bare("\n")),
        unfinished(12, "bare CR everywhere", bare("\r")),
        with("a bare LF in the head", b"X-A: 1\nMcp-Name: safe"),
        with("a bare CR in the head", b"X-A: 1\rMcp-Name: safe"),
        with("a NUL in the head", b"X-A: 1\0Mcp-Name: safe"),
        with("a folded header", b"X-A: 1\r\n 2"),
        with("a header folded with a tab", b"X-A: 1\r\n\t2"),
        with("a folded Mcp-Name", b"Mcp-Name:\r\n danger"),
        with("a line without a colon", b"Mcp-Name"),
        with("a header without a name", b": 1"),
        with("a blank in a header's name", b"X A: 1"),
        with("a blank before the colon", b"Mcp-Name : safe"),
        with("a header's name beyond ASCII", b"X-\xC3\xA9: 1"),
        raw(
            12,
            "a blank before the first header",
            String::from_utf8(post(danger()).bytes()).unwrap().replacen("\r\n", "\r\n ", 1).into_bytes(),
        ),
        raw(12, "empty lines before the request", [b"\r\n\r\n", post(danger()).bytes().as_slice()].concat()),
        raw(12, "a blank before the request", [b" ", post(danger()).bytes().as_slice()].concat()),
        variant(12, "two blanks in the request line", post(danger()).line("POST  /mcp HTTP/1.1")),
        variant(12, "tabs in the request line", post(danger()).line("POST\t/mcp\tHTTP/1.1")),
        variant(12, "a blank behind the request line", post(danger()).line("POST /mcp HTTP/1.1 ")),
        variant(12, "a request line with two targets", post(danger()).line("POST /mcp /mcp HTTP/1.1")),
        variant(12, "a header of 64 KiB", post(danger()).with(format!("X-A: {}", "a".repeat(65_536)))),
        variant(12, "500 headers", (0..500).fold(post(danger()), |request, number| request.with(format!("X-{number}: 1")))),
    ]
}

fn versions() -> Vec<Variant> {
    let v = |name, version: &str| variant(12, name, post(danger()).line(&format!("POST /mcp {version}")));
    vec![
        v("HTTP/1.0", "HTTP/1.0"),
        v("HTTP/1.2", "HTTP/1.2"),
        v("HTTP/2.0", "HTTP/2.0"),
        v("HTTP/0.9", "HTTP/0.9"),
        v("`http/1.1`", "http/1.1"),
        v("`HTTP/01.1`", "HTTP/01.1"),
        v("`HTTP/1.10`", "HTTP/1.10"),
        variant(12, "HTTP/1.0 with a coding", post(danger()).chunked(4096).line("POST /mcp HTTP/1.0")),
        variant(12, "no version", post(danger()).line("POST /mcp")),
        // Without the `SM` behind it: whether that is answered as another request hangs on when it is read.
        raw(12, "the head of HTTP/2's preface", b"PRI * HTTP/2.0\r\n\r\n".to_vec()),
        variant(12, "Expect: 100-continue", post(danger()).with("Expect: 100-continue")),
        variant(12, "Expect: something else", post(danger()).with("Expect: 200-ok")),
    ]
}

fn smuggled() -> Vec<Variant> {
    let open = |request: Request| request.without("Connection");
    let hidden = hidden();
    let chunked_hidden = [b"0\r\n\r\n", hidden.as_slice()].concat();
    let safe_chunk = format!("{:x}\r\n{}\r\n0\r\n\r\n", safe().len(), safe());
    let in_front = |lines: &[&str], body: &[u8]| {
        let request = open(post(b"")).without("Content-Length");
        lines.iter().fold(request, super::request::Request::with).body(body)
    };
    vec![
        two(12, "two requests, safe then danger", then(&open(post(safe())), &hidden)),
        two(12, "two requests, malformed then danger", then(&open(post("{")), &hidden)),
        two(12, "two requests, another path then danger", then(&open(post(safe()).to("/x")), &hidden)),
        two(12, "two requests, GET of discovery then danger", {
            let get = open(post("")).without("Content-Length").line("GET /.well-known/oauth-protected-resource HTTP/1.1");
            then(&get, &hidden)
        }),
        two(12, "a request behind a length of 0", then(&in_front(&["Content-Length: 0"], b""), &hidden)),
        two(12, "a request behind `Connection: close`", then(&post(safe()), &hidden)),
        two(12, "a request behind a GET with a length", {
            let get = in_front(&[&format!("Content-Length: {}", hidden.len())], &hidden).line("GET /mcp HTTP/1.1");
            get.bytes()
        }),
        two(12, "a request in the body, by length and coding", {
            in_front(&[&format!("Content-Length: {}", chunked_hidden.len()), "Transfer-Encoding: chunked"], &chunked_hidden).bytes()
        }),
        two(12, "a request in the body, by coding and length", {
            in_front(&["Transfer-Encoding: chunked", &format!("Content-Length: {}", chunked_hidden.len())], &chunked_hidden).bytes()
        }),
        two(12, "a request in the body, by a coding with a blank", {
            in_front(&[&format!("Content-Length: {}", chunked_hidden.len()), "Transfer-Encoding : chunked"], &chunked_hidden).bytes()
        }),
        two(12, "a request in the body, by a coding that nobody knows", {
            in_front(&[&format!("Content-Length: {}", chunked_hidden.len()), "Transfer-Encoding: xchunked"], &chunked_hidden).bytes()
        }),
        two(12, "a request in the body, by a folded coding", {
            in_front(&[&format!("Content-Length: {}", chunked_hidden.len()), "X-A: 1\r\n Transfer-Encoding: chunked"], &chunked_hidden)
                .bytes()
        }),
        two(
            12,
            "a request behind a coded one",
            then(&open(post(safe())).without("Content-Length").with("Transfer-Encoding: chunked").body(&safe_chunk), &hidden),
        ),
        two(12, "a request behind trailers", {
            let body = safe_chunk.replace("\r\n0\r\n\r\n", "\r\n0\r\nX-A: 1\r\n\r\n");
            then(&open(post(safe())).without("Content-Length").with("Transfer-Encoding: chunked").body(body), &hidden)
        }),
        two(12, "a request behind two equal lengths", then(&open(post(safe())).with(format!("Content-Length: {}", safe().len())), &hidden)),
        two(12, "a request behind two lengths, the second 0", then(&open(post(safe())).with("Content-Length: 0"), &hidden)),
        two(12, "a request behind an upgrade", then(&open(post(safe())).with("Connection: Upgrade").with("Upgrade: h2c"), &hidden)),
        two(12, "a request behind HTTP/1.0 kept alive", {
            then(&open(post(safe())).with("Connection: keep-alive").line("POST /mcp HTTP/1.0"), &hidden)
        }),
    ]
}
