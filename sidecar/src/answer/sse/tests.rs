use proptest::prelude::*;

use super::*;

fn frames_of(pieces: &[&[u8]]) -> Vec<Frame> {
    let mut decoder = Decoder::new(1 << 20);
    let mut frames = Vec::new();
    for piece in pieces {
        decoder.decode(piece, &mut frames).unwrap();
    }
    frames
}

fn data_of_all(stream: &[u8]) -> Vec<String> {
    frames_of(&[stream]).iter().filter_map(|frame| frame.data().map(|data| String::from_utf8(data.into_owned()).unwrap())).collect()
}

fn joined(frames: &[Frame]) -> Vec<u8> {
    frames.iter().flat_map(|frame| frame.raw().to_vec()).collect()
}

#[test]
fn events_are_read_as_the_standard_says() {
    for (stream, expected) in [
        ("data: a\n\n", vec!["a"]),
        ("data: a\r\n\r\n", vec!["a"]),
        ("data: a\r\r", vec!["a"]),
        ("data: a\n\rdata: b\r\n\n", vec!["a", "b"]),
        ("data:a\n\n", vec!["a"]),
        ("data:  a \n\n", vec![" a "]),
        ("data: a\ndata: b\n\n", vec!["a\nb"]),
        ("data: a\ndata\ndata:\n\n", vec!["a\n\n"]),
        ("event: x\nid: 1\nretry: 5\ndata: a\n\n", vec!["a"]),
        ("\u{feff}data: a\n\n", vec!["a"]),
        ("\u{feff}: c\ndata: a\n\n", vec!["a"]),
        // A byte order mark is one at the start only.
        ("\n\u{feff}data: a\n\n", vec![]),
        (": comment\n\ndata: a\n: between\n\n", vec!["a"]),
        (":\ndata: a\n\n", vec!["a"]),
        ("Data: a\ndatax: a\n data: a\n\n", vec![]),
        ("id: 1\ndata:\n\n", vec![]),
        ("id: 1\nretry: 3\n\n", vec![]),
        // Not ended: never told.
        ("data: a\n\ndata: b\n", vec!["a"]),
        ("data: a\n\ndata: b", vec!["a"]),
        ("data: a", vec![]),
    ] {
        assert_eq!(data_of_all(stream.as_bytes()), expected, "{stream:?}");
    }
}

#[test]
fn a_comment_goes_on_before_the_next_event() {
    let mut decoder = Decoder::new(100);
    let mut frames = Vec::new();
    decoder.decode(b": ping\n", &mut frames).unwrap();
    assert_eq!(joined(&frames), b": ping\n");
    decoder.decode(b"\r\ndata: a\n\n: pong\r", &mut frames).unwrap();
    assert_eq!(joined(&frames), b": ping\n\r\ndata: a\n\n: pong\r\n");
}

#[test]
fn an_event_is_told_as_soon_as_its_blank_line_has_begun() {
    let mut frames = Vec::new();
    Decoder::new(100).decode(b"data: a\r\n\r", &mut frames).unwrap();
    assert_eq!(joined(&frames), b"data: a\r\n\r\n");
}

#[test]
fn other_data_leaves_the_rest_of_the_event() {
    let [frame] = &frames_of(&[b"id: 1\r\nevent: message\r\ndata: a\r\n: c\r\ndata: b\r\nretry: 5\r\n\r\n"])[..] else { panic!() };
    assert_eq!(frame.with_data(b"{}"), "id: 1\nevent: message\n: c\nretry: 5\ndata: {}\n\n");
}

#[test]
fn a_field_does_not_come_to_light_when_what_hides_it_is_changed() {
    let [frame] = &frames_of(&[b"data: seen\n\xEF\xBB\xBFdata: unseen\n\n"])[..] else { panic!() };
    assert_eq!(frame.with_data(b"{}"), "data: {}\n\n");
    assert_eq!(frame.raw(), "data: seen\n\n");
}

#[test]
fn data_cannot_begin_a_field_or_an_event() {
    let raw = event(b"{\n\n\"a\":\r1,\r\nid: 7\n}");
    let [frame] = &frames_of(&[&raw])[..] else { panic!("{raw:?}") };
    assert!(frame.lines().all(|line| line.is_empty() || line == b"event: message" || line.starts_with(b"data: ")));
    assert_eq!(event(b"{}"), "event: message\ndata: {}\n\n");
}

#[test]
fn a_frame_over_the_limit_ends_the_stream_however_it_comes() {
    let stream = b"data: 1\n\ndata: 12345678\n\n";
    for size in 1..stream.len() {
        let mut decoder = Decoder::new(15);
        let mut frames = Vec::new();
        let outcome = stream.chunks(size).try_for_each(|piece| decoder.decode(piece, &mut frames));
        assert_eq!((outcome, joined(&frames)), (Err(FrameTooLarge(())), b"data: 1\n\n".to_vec()), "{size}");
        assert!(decoder.raw.len() <= 15);
    }
    let mut frames = Vec::new();
    assert_eq!(Decoder::new(16).decode(stream, &mut frames), Ok(()));
    assert_eq!(joined(&frames), stream);
}

/// Streams in which everything that matters happens often.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let token = prop::sample::select(vec![
        b"data: a".as_slice(),
        b"data:",
        b"data",
        b"data: {\"b\":1}",
        b"id: 1",
        b"event: x",
        b": c",
        b":",
        b"\n",
        b"\n",
        b"\r",
        b"\r\n",
        b"\r\n",
        b"\n\n",
        b"\xEF\xBB\xBF",
        b"\xff",
        b" ",
    ]);
    prop::collection::vec(token, 0..24).prop_map(|tokens| tokens.concat())
}

/// Streams as servers write them: no line end of CR alone, no stray byte order mark.
fn ordinary_stream() -> impl Strategy<Value = Vec<u8>> {
    let token = prop::sample::select(vec![b"data: a".as_slice(), b"data:", b"id: 1", b": c", b"x", b"\n", b"\n\n", b"\r\n", b"\r\n\r\n"]);
    let start = prop::sample::select(vec![b"".as_slice(), BYTE_ORDER_MARK]);
    (start, prop::collection::vec(token, 0..24)).prop_map(|(start, tokens)| [start, &tokens.concat()].concat())
}

/// The data of every event, in the plainest way: the standard's steps over the whole stream.
fn plainly(stream: &[u8]) -> Vec<Vec<u8>> {
    let text: String = stream.strip_prefix(BYTE_ORDER_MARK).unwrap_or(stream).iter().map(|byte| char::from(*byte)).collect();
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let Some((ended, _)) = text.rsplit_once('\n') else { return vec![] };
    let (mut events, mut data) = (vec![], None::<String>);
    for line in ended.split('\n') {
        if line.is_empty() {
            events.extend(data.take().filter(|data| !data.is_empty()));
            continue;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        if field == "data" {
            let value = value.strip_prefix(' ').unwrap_or(value);
            data = Some(data.map_or_else(|| value.to_owned(), |data| format!("{data}\n{value}")));
        }
    }
    events.into_iter().map(|data| data.chars().map(|c| u8::try_from(c).unwrap()).collect()).collect()
}

proptest! {
    #[test]
    fn the_cut_into_pieces_does_not_matter(stream in stream(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8)) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.sort_unstable();
        let mut pieces = vec![];
        let mut from = 0;
        for cut in cuts.into_iter().chain([stream.len()]) {
            pieces.push(&stream[from..cut]);
            from = cut;
        }
        let whole = frames_of(&[&stream]);
        prop_assert_eq!(frames_of(&pieces), whole.clone());
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        prop_assert_eq!(frames_of(&bytes), whole);
    }

    #[test]
    fn events_are_those_of_a_plain_reading(stream in stream()) {
        let data: Vec<Vec<u8>> = frames_of(&[&stream]).iter().filter_map(|frame| frame.data().map(Cow::into_owned)).collect();
        prop_assert_eq!(data, plainly(&stream));
    }

    #[test]
    fn what_is_untouched_goes_on_byte_for_byte(stream in ordinary_stream()) {
        prop_assert!(stream.starts_with(&joined(&frames_of(&[&stream]))));
    }

    #[test]
    fn a_normalised_stream_has_the_same_events(stream in stream()) {
        let whole = joined(&frames_of(&[&stream]));
        prop_assert_eq!(plainly(&whole), plainly(&stream));
    }

    #[test]
    fn changed_data_is_what_clients_read(stream in stream(), data in "[a-z{}:\" ]{1,9}") {
        for frame in frames_of(&[&stream]).iter().filter(|frame| frame.data().is_some()) {
            prop_assert_eq!(plainly(&frame.with_data(data.as_bytes())), vec![data.clone().into_bytes()]);
        }
        prop_assert_eq!(plainly(&event(data.as_bytes())), vec![data.into_bytes()]);
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..256), limit in 0_usize..64) {
        let mut frames = Vec::new();
        let _ = Decoder::new(limit).decode(&bytes, &mut frames);
        for frame in frames {
            prop_assert!(frame.raw().len() <= limit);
            let _ = (frame.data(), frame.with_data(b"x"));
        }
    }

    #[test]
    fn a_stream_that_passed_unread_can_be_read_from_the_next_event_on(stream in ordinary_stream(), cut in any::<prop::sample::Index>(), size in 1_usize..9) {
        let cut = cut.index(stream.len() + 1);
        let mut boundary = Boundary::default();
        for piece in stream[..cut].chunks(size) {
            boundary.pass(piece);
        }
        let begun = cut + boundary.pass_to_end(&stream[cut..]);
        let rest = if boundary.is_between_events() { plainly(&stream[begun..]) } else { vec![] };
        // Nothing is lost, nothing is read twice, and only the event that had begun is not read.
        let all = plainly(&stream);
        prop_assert!(all.ends_with(&rest));
        let before = plainly(&stream[..begun]);
        prop_assert_eq!(before.len() + rest.len(), all.len());
        prop_assert!(before.len() <= plainly(&stream[..cut]).len() + 1);
    }
}
