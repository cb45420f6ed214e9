//! The URI that a server announces for its client's messages.

use http::Uri;

/// A longer one is refused; its end names the session.
const MAX_BYTES: usize = 256;

/// Path and query of what was announced on the stream at `path`. Whatever host an absolute URI names, messages go to the server of the
/// stream, so the client is told only these: clients refuse another origin than that of the stream. None for what is no such URI.
pub fn target(announced: &[u8], path: &str) -> Option<String> {
    let announced = std::str::from_utf8(announced).ok().filter(|announced| !announced.is_empty())?;
    if !announced.bytes().all(|byte| byte.is_ascii_graphic()) || announced.contains('#') || announced.starts_with("//") {
        return None;
    }
    let target = if announced.starts_with("http://") || announced.starts_with("https://") {
        announced.parse::<Uri>().ok()?.path_and_query()?.as_str().to_owned()
    } else if announced.starts_with('/') {
        announced.to_owned()
    } else if announced.starts_with('?') {
        format!("{path}{announced}")
    } else {
        format!("{}{announced}", &path[..=path.rfind('/')?])
    };
    let is_one = target.parse::<Uri>().is_ok_and(|uri| uri.path_and_query().is_some_and(|read| read.as_str() == target));
    (is_one && target.len() <= MAX_BYTES).then_some(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_go_to_the_server_of_the_stream_whatever_host_is_announced() {
        for (announced, read) in [
            ("/messages/?session_id=7", "/messages/?session_id=7"),
            ("http://10.0.0.7:8000/messages?sessionId=7", "/messages?sessionId=7"),
            ("https://elsewhere.example/m", "/m"),
            ("message?sessionId=7", "/v1/message?sessionId=7"),
            ("?sessionId=7", "/v1/sse?sessionId=7"),
        ] {
            assert_eq!(target(announced.as_bytes(), "/v1/sse").as_deref(), Some(read), "{announced}");
        }
        let long = format!("/{}", "a".repeat(MAX_BYTES));
        for announced in ["", "//elsewhere.example/m", "/a b", "/a\n", "/a#b", "/\u{e4}", &long] {
            assert_eq!(target(announced.as_bytes(), "/sse"), None, "{announced}");
        }
    }
}
