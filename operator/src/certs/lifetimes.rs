//! How long certificates live. Pure.

use std::fmt;

use mcp_policy::document::duration_seconds;

const DAY: i64 = 24 * 3600;
/// Looked at every half minute, a certificate of five minutes is renewed well before its end.
const SHORTEST_LEAF: i64 = 5 * 60;
/// A sixth of it is then still the two minutes that kubelets need.
const SHORTEST_CA: i64 = 12 * 60;
const LONGEST_CA: i64 = 3650 * DAY;
/// The kubelet brings a changed `ConfigMap` into a pod after one to two minutes; ten leave room for a node that lags.
const OVERLAP: i64 = 600;

/// Lives of newly issued certificates, in seconds: each leaf within its CA, and each CA long enough to be replaced in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    leaf: i64,
    ca: i64,
}

/// A length of time as it is written in settings: a number and one of `s`, `m`, `h`, `d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seconds(pub i64);

/// Lifetimes that no rotation could keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LifetimeError {
    /// The leaf would expire before it is looked at again.
    #[error("--certificate-lifetime (or MCP_POLICY_CERTIFICATE_LIFETIME) is {0}; it must be 5m or longer")]
    ShortLeaf(Seconds),
    /// The CA would expire before everybody knows the next one; or never, as far as people are concerned.
    #[error("--ca-lifetime (or MCP_POLICY_CA_LIFETIME) is {0}; it must be 12m to 3650d")]
    Ca(Seconds),
    /// The leaf would be worthless at its end.
    #[error(
        "--certificate-lifetime (or MCP_POLICY_CERTIFICATE_LIFETIME) is {0}, longer than the {1} of --ca-lifetime (or MCP_POLICY_CA_LIFETIME)"
    )]
    LeafOutlivesCa(Seconds, Seconds),
}

impl Default for Lifetimes {
    /// A month, and a year.
    fn default() -> Self {
        Self { leaf: 30 * DAY, ca: 365 * DAY }
    }
}

impl Lifetimes {
    /// Lives that a rotation can keep.
    pub fn new(leaf: Seconds, ca: Seconds) -> Result<Self, LifetimeError> {
        if leaf.0 < SHORTEST_LEAF {
            Err(LifetimeError::ShortLeaf(leaf))
        } else if !(SHORTEST_CA..=LONGEST_CA).contains(&ca.0) {
            Err(LifetimeError::Ca(ca))
        } else if leaf.0 > ca.0 {
            Err(LifetimeError::LeafOutlivesCa(leaf, ca))
        } else {
            Ok(Self { leaf: leaf.0, ca: ca.0 })
        }
    }

    /// Of a leaf certificate.
    #[must_use]
    pub fn leaf(&self) -> i64 {
        self.leaf
    }

    /// Of a CA.
    #[must_use]
    pub fn ca(&self) -> i64 {
        self.ca
    }

    /// How long two CAs are trusted side by side: half of what is left of a CA when it is due, and never more than ten minutes.
    #[must_use]
    pub fn overlap(&self) -> i64 {
        OVERLAP.min(self.ca / 6)
    }
}

impl std::str::FromStr for Seconds {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let seconds = duration_seconds(text).and_then(|seconds| i64::try_from(seconds).ok());
        seconds.map(Self).ok_or("a number and one of s, m, h, d is needed, such as 720h")
    }
}

impl fmt::Display for Seconds {
    /// In the largest unit that leaves no rest.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("d", DAY), ("h", 3600), ("m", 60)];
        let (unit, length) = units.into_iter().find(|(_, length)| self.0 != 0 && self.0 % length == 0).unwrap_or(("s", 1));
        write!(f, "{}{unit}", self.0 / length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_that_does_not_fit_is_named_with_its_value() {
        let of = |leaf: &str, ca: &str| Lifetimes::new(leaf.parse().unwrap(), ca.parse().unwrap()).map_err(|error| error.to_string());
        for (leaf, ca, named) in [
            ("299s", "1h", "--certificate-lifetime (or MCP_POLICY_CERTIFICATE_LIFETIME) is 299s; it must be 5m or longer"),
            ("0s", "1h", "is 0s; it must be 5m"),
            ("5m", "11m", "--ca-lifetime (or MCP_POLICY_CA_LIFETIME) is 11m; it must be 12m to 3650d"),
            ("5m", "3651d", "--ca-lifetime (or MCP_POLICY_CA_LIFETIME) is 3651d;"),
            ("49h", "2d", "is 49h, longer than the 2d of --ca-lifetime"),
        ] {
            let error = of(leaf, ca).unwrap_err();
            assert!(error.contains(named), "{leaf}, {ca}: {error}");
        }
        for (leaf, ca) in [("5m", "12m"), ("720h", "8760h"), ("1d", "24h"), ("3650d", "3650d")] {
            assert!(of(leaf, ca).is_ok(), "{leaf}, {ca}");
        }
    }

    #[test]
    fn a_lifetime_has_a_unit() {
        for text in ["", "5", "m", "5 m", "-5m", "1.5h", "1w", "99999999999999999999d"] {
            assert!(text.parse::<Seconds>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn cas_overlap_for_ten_minutes_or_a_sixth_of_their_life() {
        let overlap = |ca: &str| Lifetimes::new(Seconds(300), ca.parse().unwrap()).unwrap().overlap();
        assert_eq!([overlap("12m"), overlap("30m"), overlap("1h"), overlap("365d")], [120, 300, 600, 600]);
    }
}
