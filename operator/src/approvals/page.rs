//! The page where people decide about an approval. It is theirs: the operator only knows where it is.

use std::str::FromStr;

use mcp_policy::url::is_url;

/// The URL of such pages, with `{namespace}` and `{name}` where those of the approval belong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page(String);

/// Why a text is no such URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// People are to give approvals there.
    #[error("is an https URL with a host and without a user")]
    NotHttps,
    /// There is something else in braces, or half of a pair.
    #[error("has nothing in braces but {{namespace}} and {{name}}")]
    Placeholder,
}

impl FromStr for Page {
    type Err = PageError;

    fn from_str(template: &str) -> Result<Self, PageError> {
        let page = Self(template.to_owned());
        let url = page.url("namespace", "name");
        if url.contains(['{', '}']) {
            return Err(PageError::Placeholder);
        }
        if is_url(&url, &["https"], &[]) { Ok(page) } else { Err(PageError::NotHttps) }
    }
}

impl Page {
    /// The page of this approval. Names of Kubernetes need no escape in a URL.
    #[must_use]
    pub fn url(&self, namespace: &str, name: &str) -> String {
        self.0.replace("{namespace}", namespace).replace("{name}", name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_approval_has_its_page() {
        for (template, url) in [
            ("https://approvals.example.com/{namespace}/{name}", "https://approvals.example.com/billing/a-1"),
            (
                "https://approvals.example.com:8443/#/?name={name}&in={namespace}",
                "https://approvals.example.com:8443/#/?name=a-1&in=billing",
            ),
            ("https://{namespace}.example.com/{name}/{name}", "https://billing.example.com/a-1/a-1"),
            ("https://approvals.example.com", "https://approvals.example.com"),
        ] {
            assert_eq!(template.parse::<Page>().unwrap().url("billing", "a-1"), url);
        }
    }

    #[test]
    fn what_is_no_page_for_people_is_an_error_at_the_start() {
        for (template, error) in [
            ("", PageError::NotHttps),
            ("http://approvals.example.com/{name}", PageError::NotHttps),
            ("HTTPS://approvals.example.com/{name}", PageError::NotHttps),
            ("javascript:alert(1)", PageError::NotHttps),
            ("https:///{name}", PageError::NotHttps),
            ("https://bank@approvals.example.com/{name}", PageError::NotHttps),
            ("https://approvals.example.com/{name} ", PageError::NotHttps),
            ("https://approvals.example.com/\n{name}", PageError::NotHttps),
            ("https://approvals.example.com/{caller}", PageError::Placeholder),
            ("https://approvals.example.com/{Name}", PageError::Placeholder),
            ("https://approvals.example.com/{name}}", PageError::Placeholder),
            ("https://approvals.example.com/{", PageError::Placeholder),
        ] {
            assert_eq!(template.parse::<Page>(), Err(error), "{template}");
        }
    }
}
