//! What the fuzz targets need of what is private.

use bytes::BytesMut;

use crate::config::Limits;
use crate::http1::body::Decoder;
use crate::http1::head;

/// A request as it was delimited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delimited {
    /// Its head, to the empty line.
    pub head: Vec<u8>,
    /// The content of its body.
    pub body: Vec<u8>,
}

/// The requests on a connection on which these pieces come, as far as each is whole, up to the first that is refused.
pub fn delimit<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Delimited> {
    let limits = Limits::default();
    let mut buffer = BytesMut::new();
    let mut requests = Vec::new();
    let mut open: Option<(Vec<u8>, Vec<u8>, Decoder)> = None;
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            if open.is_none() {
                let before = buffer.clone();
                match head::request(&mut buffer, limits.head_bytes) {
                    Ok(Some(head)) => {
                        let head_bytes = before[..before.len() - buffer.len()].to_vec();
                        open = Some((head_bytes, Vec::new(), Decoder::new(head.framing)));
                    }
                    Ok(None) => break,
                    Err(_) => return requests,
                }
            }
            let Some((_, body, decoder)) = &mut open else { break };
            loop {
                match decoder.decode(&mut buffer) {
                    Ok(Some(piece)) => body.extend_from_slice(&piece),
                    Ok(None) => break,
                    Err(_) => return requests,
                }
            }
            if !decoder.is_over() {
                break;
            }
            requests.extend(open.take().map(|(head, body, _)| Delimited { head, body }));
        }
    }
    requests
}
