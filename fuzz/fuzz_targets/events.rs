//! Any bytes as an event stream, cut anywhere. The frames do not depend on the cuts, and a frame with other data holds just that.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mcp_policy_sidecar::answer::sse::{Decoder, Frame, FrameTooLarge};

const MAX: usize = 256;

fuzz_target!(|input: (Vec<u8>, &[u8])| {
    let (cuts, stream) = input;
    let whole = decode(MAX, [stream]);
    let mut pieces = Vec::new();
    let mut rest = stream;
    for cut in cuts {
        let (piece, after) = rest.split_at(usize::from(cut).min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    assert_eq!(whole, decode(MAX, pieces));

    let (frames, _) = whole;
    for frame in frames {
        assert!(frame.raw().len() <= MAX, "a frame over the limit");
        if frame.data().is_some() {
            let (replaced, ended) = decode(2 * MAX, [&*frame.with_data(b"{}")]);
            assert_eq!(ended, Ok(()));
            let data: Vec<_> = replaced.iter().filter_map(Frame::data).collect();
            assert_eq!(data, [&b"{}"[..]]);
        }
    }
});

/// The frames that came, and how the stream ended.
fn decode<'a>(max: usize, pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Frame>, Result<(), FrameTooLarge>) {
    let mut decoder = Decoder::new(max);
    let mut frames = Vec::new();
    let ended = pieces.into_iter().try_for_each(|piece| decoder.decode(piece, &mut frames));
    (frames, ended)
}
