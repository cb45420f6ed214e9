//! Who may speak to a server on a laptop. A web page can make the browser send requests to a server on the same machine; the
//! browser then says from where in `Origin`, and a page that has rebound its own name says that name in `Host`.
//!
//! Captured servers get both headers unchanged and judge them by themselves; in front of a URL, `Host` is replaced, so the check has
//! to be here (mcp.md 5.3).

use std::net::{IpAddr, SocketAddr};

use http::Uri;
use http::header::{HOST, HeaderMap, ORIGIN};

/// Admits only requests that name this machine.
#[derive(Clone, Copy, Debug)]
pub struct LocalOnly;

impl LocalOnly {
    /// The check for a listener: only one on a loopback address can know by which names it is called.
    #[must_use]
    pub fn for_listener(address: SocketAddr) -> Option<Self> {
        address.ip().to_canonical().is_loopback().then_some(Self)
    }

    /// Whether `Host`, and `Origin` if there is one, name this machine.
    #[must_use]
    #[allow(clippy::unused_self, reason = "holding a value is having to check")]
    pub fn admits(self, headers: &HeaderMap) -> bool {
        let local =
            |value: &http::HeaderValue| value.to_str().ok().and_then(|text| text.parse::<Uri>().ok()).is_some_and(|uri| is_local(&uri));
        headers.get(HOST).is_some_and(local) && headers.get_all(ORIGIN).iter().all(local)
    }
}

fn is_local(uri: &Uri) -> bool {
    let Some(host) = uri.host() else { return false };
    host.eq_ignore_ascii_case("localhost")
        || host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(host: &str, origin: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(ORIGIN, origin.parse().unwrap());
        }
        headers
    }

    #[test]
    fn only_names_of_this_machine_are_admitted() {
        for host in ["localhost:8080", "LOCALHOST", "127.0.0.1:8080", "127.0.0.1", "[::1]:8080", "[::1]"] {
            assert!(LocalOnly.admits(&headers(host, None)), "{host}");
            assert!(LocalOnly.admits(&headers(host, Some("http://localhost:3000"))), "{host}");
        }
        for host in ["evil.example:8080", "localhost.evil.example", "10.0.0.1:8080", "127.0.0.1.evil.example"] {
            assert!(!LocalOnly.admits(&headers(host, None)), "{host}");
        }
        assert!(!LocalOnly.admits(&HeaderMap::new()));
    }

    #[test]
    fn a_page_of_elsewhere_is_not_admitted() {
        for origin in ["http://evil.example", "https://evil.example:8080", "null", "http://localhost.evil.example"] {
            assert!(!LocalOnly.admits(&headers("localhost:8080", Some(origin))), "{origin}");
        }
    }

    #[test]
    fn a_listener_that_others_reach_cannot_know_its_names() {
        assert!(LocalOnly::for_listener("127.0.0.1:80".parse().unwrap()).is_some());
        assert!(LocalOnly::for_listener("0.0.0.0:80".parse().unwrap()).is_none());
    }
}
