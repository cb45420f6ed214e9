//! The pod's own HTTP probes. The kubelet's requests are captured like all others; exactly those that the pod declares reach the server
//! without policy, and only the status comes back.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING, USER_AGENT};
use http::{Method, Request};

use crate::config::{Handler, HttpGet, Probe, Scheme};

/// The HTTP probe that this request is, if it is one: port, scheme, method, path with query, and every header that the probe sets.
#[must_use]
pub fn matching<'a, B>(probes: &'a [Probe], port: u16, scheme: Scheme, request: &Request<B>) -> Option<&'a HttpGet> {
    let without_body =
        !request.headers().contains_key(TRANSFER_ENCODING) && request.headers().get(CONTENT_LENGTH).is_none_or(|length| length == "0");
    if request.method() != Method::GET || !without_body {
        return None;
    }
    let target = request.uri().path_and_query()?.as_str();
    probes
        .iter()
        .filter_map(|probe| match &probe.handler {
            Handler::HttpGet(get) => (probe.port == port && get.scheme == scheme).then_some(get),
            Handler::Grpc(_) => None,
        })
        .find(|get| get.path == target && get.headers.iter().all(|(name, _)| are_the_same(&get.headers, request.headers(), name)))
}

/// Whether the values of a header are those that the probe sets, and no others.
fn are_the_same(declared: &[(String, String)], sent: &HeaderMap, name: &str) -> bool {
    let declared = declared.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_bytes());
    declared.eq(sent.get_all(name).iter().map(HeaderValue::as_bytes))
}

/// The request that the server gets: what the probe declares, and nothing else that a caller could add.
#[must_use]
pub fn request(get: &HttpGet, as_sent: &HeaderMap) -> Option<Request<Bytes>> {
    let mut request = Request::get(&get.path).body(Bytes::new()).ok()?;
    let headers = request.headers_mut();
    for name in [HOST, USER_AGENT, ACCEPT] {
        if let Some(value) = as_sent.get(&name) {
            headers.insert(name, value.clone());
        }
    }
    for (name, _) in &get.headers {
        headers.remove(name);
    }
    for (name, value) in &get.headers {
        headers.append(HeaderName::try_from(name).ok()?, HeaderValue::from_bytes(value.as_bytes()).ok()?);
    }
    Some(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probes() -> Vec<Probe> {
        serde_json::from_str(r#"[{"port":8080,"httpGet":{"path":"/healthz?full=1","headers":[["X-Token","a"]]}}]"#).unwrap()
    }

    fn get(target: &str) -> http::request::Builder {
        Request::get(target).header("host", "10.0.0.7:8080").header("x-token", "a")
    }

    #[test]
    fn exactly_the_declared_request_is_a_probe() {
        let probes = probes();
        assert!(matching(&probes, 8080, Scheme::Http, &get("/healthz?full=1").body(()).unwrap()).is_some());
        assert!(matching(&probes, 8080, Scheme::Http, &get("/healthz?full=1").header("content-length", "0").body(()).unwrap()).is_some());
        let over_tls = matching(&probes, 8080, Scheme::Https, &get("/healthz?full=1").body(()).unwrap());
        assert!(over_tls.is_none());
        for (port, request) in [
            (8081, get("/healthz?full=1").body(()).unwrap()),
            (8080, get("/healthz").body(()).unwrap()),
            (8080, get("/healthz?full=1&x").body(()).unwrap()),
            (8080, get("/healthz?full=1").method("POST").body(()).unwrap()),
            (8080, get("/healthz?full=1").method("HEAD").body(()).unwrap()),
            (8080, get("/healthz?full=1").header("content-length", "2").body(()).unwrap()),
            (8080, get("/healthz?full=1").header("transfer-encoding", "chunked").body(()).unwrap()),
            (8080, get("/healthz?full=1").header("x-token", "b").body(()).unwrap()),
            (8080, Request::get("/healthz?full=1").body(()).unwrap()),
        ] {
            assert!(matching(&probes, port, Scheme::Http, &request).is_none(), "{port} {request:?}");
        }
    }

    #[test]
    fn a_header_that_the_probe_sets_twice_comes_twice() {
        let twice = r#"[{"port":8080,"httpGet":{"path":"/","headers":[["X-A","1"],["x-a","2"],["User-Agent","probe"]]}}]"#;
        let probes: Vec<Probe> = serde_json::from_str(twice).unwrap();
        let sent = |values: &[&str]| {
            let request = Request::get("/").header("user-agent", "probe");
            values.iter().fold(request, |request, value| request.header("x-a", *value)).body(()).unwrap()
        };
        for values in [&["1"][..], &["2", "1"], &["1", "2", "3"], &[]] {
            assert!(matching(&probes, 8080, Scheme::Http, &sent(values)).is_none(), "{values:?}");
        }
        let sent = sent(&["1", "2"]);
        let forwarded = request(matching(&probes, 8080, Scheme::Http, &sent).unwrap(), sent.headers()).unwrap();
        assert_eq!(forwarded.headers().get_all("x-a").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(forwarded.headers().get_all("user-agent").iter().count(), 1);
    }

    #[test]
    fn the_server_gets_nothing_that_the_probe_does_not_declare() {
        let probes = probes();
        let sent = get("/healthz?full=1").header("authorization", "stolen").header("user-agent", "kube-probe/1.34").body(()).unwrap();
        let forwarded = request(matching(&probes, 8080, Scheme::Http, &sent).unwrap(), sent.headers()).unwrap();
        assert_eq!(forwarded.uri(), "/healthz?full=1");
        let mut names: Vec<_> = forwarded.headers().keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["host", "user-agent", "x-token"]);
    }
}
