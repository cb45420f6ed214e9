use proptest::prelude::*;

use super::*;

fn read(bytes: &[u8]) -> Result<Option<(RequestHead, usize)>, Fault> {
    let mut buffer = BytesMut::from(bytes);
    Ok(request(&mut buffer, 4096)?.map(|head| (head, buffer.len())))
}

fn read_answer(bytes: &str) -> Result<Option<AnswerHead>, Fault> {
    answer(&mut BytesMut::from(bytes), 4096)
}

#[test]
fn a_request_says_where_its_body_ends() {
    for (text, framing) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Framing::NONE),
        ("\r\n\r\nGET / HTTP/1.1\r\n\r\n", Framing::NONE),
        ("POST / HTTP/1.1\r\ncontent-LENGTH:\t4 \r\n\r\n", Framing::Length(4)),
        ("POST / HTTP/1.1\r\nContent-Length: 18446744073709551615\r\n\r\n", Framing::Length(u64::MAX)),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n", Framing::Chunked),
        ("POST / HTTP/1.1\r\nX-Content-Length: a\r\nX-Transfer-Encoding: gzip\r\n\r\n", Framing::NONE),
    ] {
        let (head, left) = read(format!("{text}GET").as_bytes()).unwrap().unwrap();
        assert_eq!((head.framing, left), (framing, 3), "{text:?}");
    }
}

#[test]
fn a_request_that_could_end_elsewhere_is_ambiguous() {
    for text in [
        "POST / HTTP/1.1\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\n\n",
        "\nPOST / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    ] {
        assert_eq!(read(text.as_bytes()).err(), Some(Fault::Ambiguous), "{text:?}");
    }
}

#[test]
fn what_is_no_head_is_unreadable() {
    for text in [
        "POST / HTTP/1.1\r\nContent-Length: 0, 0\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: +0\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length:\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 18446744073709551616\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 000000000000000000001\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding:\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked, identity\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding:\r\n chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding : chunked\r\n\r\n",
        "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST  / HTTP/1.1\r\n\r\n",
        "POST / HTTP/1.2\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\u{16}\u{3}\u{1}",
    ] {
        assert_eq!(read(text.as_bytes()).err(), Some(Fault::Unreadable), "{text:?}");
    }
}

#[test]
fn a_head_is_bounded() {
    let lines = |count: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(count));
    assert!(read(lines(MAX_LINES).as_bytes()).unwrap().is_some());
    assert_eq!(read(lines(MAX_LINES + 1).as_bytes()).err(), Some(Fault::TooLarge));
    let long = |length: usize| format!("GET / HTTP/1.1\r\na: {}", "b".repeat(length));
    assert!(read(long(4000).as_bytes()).unwrap().is_none());
    assert_eq!(read(long(4096).as_bytes()).err(), Some(Fault::TooLarge));
    assert_eq!(read(format!("{}\r\n\r\n", long(4096)).as_bytes()).err(), Some(Fault::TooLarge));
}

#[test]
fn a_connection_is_kept_as_both_versions_have_it() {
    let keeps = |line: &str, lines: &str| read(format!("GET / {line}\r\n{lines}\r\n").as_bytes()).unwrap().unwrap().0.keep_alive;
    assert!(keeps("HTTP/1.1", "") && keeps("HTTP/1.1", "Connection: Keep-Alive, Upgrade\r\n"));
    assert!(keeps("HTTP/1.0", "Connection: keep-alive\r\n") && !keeps("HTTP/1.0", ""));
    for lines in ["Connection: close\r\n", "Connection: x ,Close\r\n", "Connection: close\r\nConnection: keep-alive\r\n"] {
        assert!(!keeps("HTTP/1.1", lines), "{lines:?}");
    }
}

#[test]
fn an_answer_says_where_its_body_ends() {
    for (text, framing) in [
        ("200 OK\r\nContent-Length: 3\r\n", Framing::Length(3)),
        ("200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n", Framing::Length(3)),
        ("200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: CHUNKED\r\n", Framing::Chunked),
        ("200\r\n", Framing::UntilClose),
        ("204 No Content\r\nContent-Length: 3\r\n", Framing::NONE),
        ("304 Not Modified\r\nTransfer-Encoding: chunked\r\n", Framing::NONE),
        ("100 Continue\r\n", Framing::NONE),
        ("101 Switching Protocols\r\nContent-Length: 3\r\n", Framing::UntilClose),
    ] {
        assert_eq!(read_answer(&format!("HTTP/1.1 {text}\r\n")).unwrap().unwrap().framing, framing, "{text:?}");
    }
    for text in ["Content-Length: 3\r\nContent-Length: 4\r\n", "Content-Length: -3\r\n", "Transfer-Encoding: gzip, chunked\r\n"] {
        assert_eq!(read_answer(&format!("HTTP/1.1 200 OK\r\n{text}\r\n")).err(), Some(Fault::Unreadable), "{text:?}");
    }
    assert!(!read_answer("HTTP/1.1 200 OK\r\n\r\n").unwrap().unwrap().keep_alive, "the end of the connection is the body's");
}

#[test]
fn an_answer_is_written_with_framing_and_connection_of_this_hop_only() {
    let mut out = Vec::new();
    let mut headers = HeaderMap::new();
    for (name, value) in [("connection", "x"), ("content-length", "3"), ("transfer-encoding", "chunked"), ("date", "now"), ("x-a", "b")] {
        headers.insert(name, value.parse().unwrap());
    }
    write_answer(&mut out, StatusCode::NOT_FOUND, &headers);
    assert_eq!(String::from_utf8(out).unwrap(), "HTTP/1.1 404 Not Found\r\ndate: now\r\nx-a: b\r\n");
    let mut out = Vec::new();
    write_answer(&mut out, StatusCode::OK, &HeaderMap::new());
    let out = String::from_utf8(out).unwrap();
    assert!(out.starts_with("HTTP/1.1 200 OK\r\ndate: ") && out.ends_with(" GMT\r\n"), "{out}");
}

#[test]
fn numbers_are_written_with_all_their_digits() {
    for number in [0, 7, 10, 4096, u64::MAX] {
        let mut out = Vec::new();
        write_number(&mut out, number);
        assert_eq!(out, number.to_string().as_bytes());
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes);
        let _ = answer(&mut BytesMut::from(bytes.as_slice()), 100);
    }

    #[test]
    fn whatever_passes_has_only_whole_lines(
        at in any::<prop::sample::Index>(),
        byte in prop::sample::select(vec![b'\r', b'\n', b'\0', b' ', b'\t', b':', b',']),
    ) {
        let mut bytes = b"POST /mcp HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nX: y\r\n\r\n".to_vec();
        bytes.insert(at.index(bytes.len()), byte);
        if let Ok(Some((head, left))) = read(&bytes) {
            let read = &bytes[..bytes.len() - left];
            prop_assert!(read.windows(2).all(|pair| (pair[0] == b'\r') == (pair[1] == b'\n')), "{read:?}");
            prop_assert!(head.request.headers().len() <= 4);
        }
    }
}
