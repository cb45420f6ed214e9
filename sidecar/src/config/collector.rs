//! Where spans go, as the environment names it.

use http::Uri;

use super::ConfigError;

/// Base URL of a collector; the path of spans is added. Standard.
pub const ENV_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
/// URL to which spans go, whole; before the other. Standard.
pub const ENV_TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";

/// Where spans go, and what they say of who sends them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collector {
    /// URL of the collector's traces, `http://host:port/v1/traces`.
    pub url: Uri,
    /// Namespace and name of the pod.
    pub pod: Option<(String, String)>,
}

impl Collector {
    /// The collector that the environment names; none if it names none.
    pub fn from_env(get: impl Fn(&'static str) -> Option<String>) -> Result<Option<Self>, ConfigError> {
        let set = |name| get(name).filter(|value| !value.is_empty()).map(|value| (name, value));
        let (name, url) = match set(ENV_TRACES_ENDPOINT) {
            Some(whole) => whole,
            None => match set(ENV_ENDPOINT) {
                Some((name, base)) => (name, format!("{}/v1/traces", base.trim_end_matches('/'))),
                None => return Ok(None),
            },
        };
        let invalid = |reason: &str| ConfigError::Invalid { name, reason: reason.to_owned() };
        let url: Uri = url.parse().map_err(|_| invalid("it is not a URL"))?;
        match (url.scheme_str(), url.authority()) {
            (Some("http"), Some(authority)) if !authority.as_str().contains('@') => Ok(Some(Self { url, pod: None })),
            (Some("http"), _) => Err(invalid("it names no host, or a user")),
            _ => Err(invalid("only http:// is supported: name a collector nearby, and let it send on over TLS")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_names_a_collector_by_its_base_or_by_the_whole_url() {
        let of = |base: Option<&'static str>, whole: Option<&'static str>| {
            let get = move |name| if name == ENV_ENDPOINT { base } else { whole };
            Collector::from_env(move |name| get(name).map(str::to_owned)).map(|found| found.map(|collector| collector.url.to_string()))
        };
        let named = |url: &str| Ok(Some(url.to_owned()));
        assert_eq!(of(None, None), Ok(None));
        assert_eq!(of(Some(""), Some("")), Ok(None));
        assert_eq!(of(Some("http://otel:4318"), None), named("http://otel:4318/v1/traces"));
        assert_eq!(of(Some("http://otel:4318/base/"), None), named("http://otel:4318/base/v1/traces"));
        assert_eq!(of(Some("http://a"), Some("http://otel/t")), named("http://otel/t"));
        for wrong in ["https://otel:4318", "otel:4318", "http://", "http://me:secret@otel", "grpc://otel:4317"] {
            let error = of(Some(wrong), None).unwrap_err().to_string();
            assert!(error.starts_with(ENV_ENDPOINT) && !error.contains("secret"), "{wrong}: {error}");
        }
    }
}
