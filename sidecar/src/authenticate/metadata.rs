//! How clients find out whose tokens are taken: the challenge of a 401 (RFC 6750), and the document that it leads to (RFC 9728).

use http::Uri;
use http::header::HeaderValue;
use mcp_policy::snapshot::SnapshotAuthentication;
use serde_json::{Value, json};

use super::Rejected;
use super::material::MaterialError;

/// Where the document stands; the path of the endpoint may follow.
pub const PATH: &str = "/.well-known/oauth-protected-resource";

/// What the document says.
#[derive(Clone, Debug)]
pub(super) struct Metadata {
    /// Trusted issuers of tokens. Of the cluster's own nobody can get a token by asking.
    issuers: Vec<String>,
    /// The URL by which callers know the server, if it was said.
    resource: Option<Resource>,
}

/// The URL of the server. Clients compare it letter by letter.
#[derive(Clone, Debug)]
struct Resource {
    url: String,
    /// Scheme and authority.
    origin: String,
}

impl Metadata {
    pub(super) fn from_snapshot(said: &SnapshotAuthentication) -> Result<Self, MaterialError> {
        let resource = said
            .resource
            .as_deref()
            .map(|resource| Resource::parse(resource).ok_or_else(|| MaterialError::Resource { resource: resource.to_owned() }));
        Ok(Self { issuers: said.jwt.iter().map(|issuer| issuer.issuer.clone()).collect(), resource: resource.transpose()? })
    }

    /// The document, for who asked at this `host`; none if there is no authorization server to find.
    pub(super) fn document(&self, host: Option<&str>, endpoint: &str) -> Option<Value> {
        let resource = match &self.resource {
            Some(resource) => resource.url.clone(),
            None => format!("http://{}{endpoint}", host_name(host)?),
        };
        let is_known = !self.issuers.is_empty();
        is_known.then(|| json!({ "resource": resource, "authorization_servers": self.issuers, "bearer_methods_supported": ["header"] }))
    }

    /// What a client is told that has to prove more than it does. `error` is left out for who sent nothing (RFC 6750, 3.1).
    pub(super) fn challenge(&self, rejected: Rejected, host: Option<&str>, endpoint: &str) -> HeaderValue {
        let error = (rejected != Rejected::Missing).then(|| format!(r#", error="invalid_token", error_description="{rejected}""#));
        let document = self.document_url(host, endpoint).map(|document| format!(r#", resource_metadata="{document}""#));
        let challenge = format!(r#"Bearer realm="mcp"{}{}"#, error.unwrap_or_default(), document.unwrap_or_default());
        // All of its parts are visible ASCII without quotes.
        HeaderValue::try_from(challenge).unwrap_or(HeaderValue::from_static("Bearer"))
    }

    fn document_url(&self, host: Option<&str>, endpoint: &str) -> Option<String> {
        let origin = match &self.resource {
            Some(resource) => resource.origin.clone(),
            None => format!("http://{}", host_name(host)?),
        };
        (!self.issuers.is_empty()).then(|| format!("{origin}{PATH}{endpoint}"))
    }
}

impl Resource {
    fn parse(url: &str) -> Option<Self> {
        let parsed: Uri = url.parse().ok()?;
        let scheme = parsed.scheme_str().filter(|scheme| matches!(*scheme, "http" | "https"))?;
        Some(Self { url: url.to_owned(), origin: format!("{scheme}://{}", parsed.authority()?) })
    }
}

/// What a client says that it asked, if that is a host and can be no more than that.
fn host_name(host: Option<&str>) -> Option<&str> {
    host.filter(|host| !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.:[]_".contains(&byte)))
}

#[cfg(test)]
mod tests {
    use mcp_policy::snapshot::SnapshotIssuer;

    use super::*;

    fn metadata(issuers: &[&str], resource: Option<&str>) -> Metadata {
        let issuer = |issuer: &&str| SnapshotIssuer {
            issuer: (*issuer).to_owned(),
            audiences: Vec::new(),
            algorithms: Vec::new(),
            review: false,
            jwks: Value::Null,
        };
        let jwt = issuers.iter().map(issuer).collect();
        let resource = resource.map(str::to_owned);
        Metadata::from_snapshot(&SnapshotAuthentication { jwt, resource, ..SnapshotAuthentication::default() }).unwrap()
    }

    /// RFC 6750, 3.1: "If the request lacks any authentication information […], the resource server SHOULD NOT include an error code".
    #[test]
    fn a_challenge_says_what_is_wrong_only_to_who_sent_something() {
        let metadata = metadata(&["https://id"], None);
        assert_eq!(
            metadata.challenge(Rejected::Missing, Some("mcp.example:8080"), "/mcp"),
            r#"Bearer realm="mcp", resource_metadata="http://mcp.example:8080/.well-known/oauth-protected-resource/mcp""#
        );
        assert_eq!(
            metadata.challenge(Rejected::Expired, Some("bad\"host"), "/mcp"),
            r#"Bearer realm="mcp", error="invalid_token", error_description="the token or key has expired""#
        );
    }

    #[test]
    fn without_an_issuer_that_clients_can_ask_there_is_no_document() {
        let metadata = metadata(&[], Some("https://mcp.example.com/mcp"));
        assert_eq!(metadata.document(Some("a"), "/mcp"), None);
        assert_eq!(metadata.challenge(Rejected::Missing, Some("a"), "/mcp"), r#"Bearer realm="mcp""#);
    }

    #[test]
    fn the_resource_is_what_was_said_else_where_the_client_asked() {
        let issuers = ["https://id", "https://other"];
        let said = metadata(&issuers, Some("https://mcp.example.com/imaging"));
        assert_eq!(
            said.document(Some("10.0.0.1"), "/mcp").unwrap(),
            json!({
                "resource": "https://mcp.example.com/imaging",
                "authorization_servers": issuers,
                "bearer_methods_supported": ["header"],
            })
        );
        let document = "https://mcp.example.com/.well-known/oauth-protected-resource/mcp";
        assert!(said.challenge(Rejected::Missing, None, "/mcp").to_str().unwrap().contains(document));
        assert_eq!(metadata(&issuers, None).document(Some("[::1]:80"), "/v1/mcp").unwrap()["resource"], "http://[::1]:80/v1/mcp");
    }

    #[test]
    fn what_is_no_url_is_named() {
        for resource in ["mcp.example.com", "/mcp", "ftp://mcp", ""] {
            let said = SnapshotAuthentication { resource: Some(resource.to_owned()), ..SnapshotAuthentication::default() };
            assert!(Metadata::from_snapshot(&said).unwrap_err().to_string().contains("resource"), "{resource}");
        }
    }
}
