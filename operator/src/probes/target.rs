//! Pure: what the kubelet asks for when a probe says a path. It reads the path as Go's `net/url` reads a reference, and sends what
//! that writes; a sidecar that compared with the path as it is written would not recognise some.

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// Path and query of the kubelet's request.
pub(super) fn of(path: &str) -> String {
    // What Go cannot read, the kubelet takes for a path as it is.
    let target = reference(path).unwrap_or_else(|| escape(path.as_bytes()));
    if target.starts_with('/') { target } else { format!("/{target}") }
}

/// Without a host and a fragment, the path escaped where it must be; none if Go would refuse it.
fn reference(text: &str) -> Option<String> {
    if text.bytes().any(|byte| byte.is_ascii_control()) {
        return None;
    }
    let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
    unescape(fragment)?;
    let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
    let path = match path.strip_prefix("//") {
        // A host, instead of which the kubelet writes the pod's address.
        Some(host) if !host.starts_with('/') => host.find('/').map_or("", |slash| &host[slash..]),
        _ => path,
    };
    let raw = unescape(path)?;
    let mut target = if path.bytes().all(stands_for_itself) { path.to_owned() } else { escape(&raw) };
    if let Some(query) = query {
        if target.is_empty() {
            target.push('/');
        }
        target.push('?');
        target.push_str(query);
    }
    Some(target)
}

/// Whether a path with this byte is left as it is written.
fn stands_for_itself(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@!'()*[]%".contains(&byte)
}

/// Everything but what never needs it.
fn escape(path: &[u8]) -> String {
    let mut escaped = String::with_capacity(path.len());
    for &byte in path {
        if byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push('%');
            escaped.extend([byte >> 4, byte & 15].map(|digit| char::from(HEX[usize::from(digit)])));
        }
    }
    escaped
}

/// The bytes that are meant; none where a `%` is followed by anything but two hexadecimal digits.
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut raw = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            raw.push(digit()? << 4 | digit()?);
        } else {
            raw.push(byte);
        }
    }
    Some(raw)
}

#[cfg(test)]
mod tests {
    /// Each was given to Go's `url.Parse`, and `RequestURI` written down.
    const CASES: &[(&str, &str)] = &[
        ("/", "/"),
        ("/healthz", "/healthz"),
        ("healthz", "/healthz"),
        ("/healthz?full=1", "/healthz?full=1"),
        ("?full=1", "/?full=1"),
        ("/x?", "/x?"),
        ("/x??", "/x??"),
        ("/api/health/live?a=b&c=%2F", "/api/health/live?a=b&c=%2F"),
        ("/a b", "/a%20b"),
        ("/a%20b", "/a%20b"),
        ("/a%2Fb", "/a%2Fb"),
        ("/ü", "/%C3%BC"),
        ("/café?q=ü", "/caf%C3%A9?q=ü"),
        ("/#/health", "/"),
        ("/app#frag?not=query", "/app"),
        ("//healthz", "/"),
        ("//host/healthz", "/healthz"),
        ("///healthz", "///healthz"),
        ("/a//b", "/a//b"),
        ("/a/../b", "/a/../b"),
        ("/a/./b/", "/a/./b/"),
        ("/[a]", "/[a]"),
        ("/a*b(c)!", "/a*b(c)!"),
        ("/a\"b", "/a%22b"),
        ("/a\"b!", "/a%22b%21"),
        ("/a<b>", "/a%3Cb%3E"),
        ("/{id}", "/%7Bid%7D"),
        ("/a|b", "/a%7Cb"),
        ("/a^b", "/a%5Eb"),
        ("/a`b", "/a%60b"),
        ("/a\\b", "/a%5Cb"),
        ("/%zz", "/%25zz"),
        ("/%zz?q#f", "/%25zz%3Fq%23f"),
        ("/x#%zz", "/x%23%25zz"),
        ("/a;b=c,d", "/a;b=c,d"),
        ("/a:b@c", "/a:b@c"),
        ("/a=b&c+d$e", "/a=b&c+d$e"),
        ("/~user/_x-y.z", "/~user/_x-y.z"),
        ("/x?q=a b", "/x?q=a b"),
        ("/-/ready", "/-/ready"),
        ("/_cluster/health?local=true", "/_cluster/health?local=true"),
        ("/health/liveness", "/health/liveness"),
        ("/q/health/ready", "/q/health/ready"),
        ("/actuator/health/readiness", "/actuator/health/readiness"),
        ("/v1/sys/health?standbyok=true&sealedcode=204&uninitcode=204", "/v1/sys/health?standbyok=true&sealedcode=204&uninitcode=204"),
        ("/api/v2/status?format=json", "/api/v2/status?format=json"),
        ("/metrics", "/metrics"),
        ("/mcp/health", "/mcp/health"),
        ("/?probe", "/?probe"),
    ];

    #[test]
    fn the_kubelet_asks_for_what_go_makes_of_a_path() {
        for (path, target) in CASES {
            assert_eq!(super::of(path), *target, "{path}");
        }
    }

    #[test]
    fn what_go_cannot_read_is_a_path_as_it_is() {
        assert_eq!(super::of("/a\tb?c"), "/a%09b%3Fc");
        assert_eq!(super::of(""), "/");
    }
}
