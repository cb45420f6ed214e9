//! Which ports and paths callers reach, from what the pod's policies say of its server.
//!
//! Guarantee: another policy never lets more through. A policy that names no ports or no path has no opinion on them, and those that do
//! must agree; what arrives there is judged by all of them. A port is passed through only if every policy names it, for what is passed
//! through escapes all of them. A policy in audit mode has no say beside one that enforces.

use std::collections::BTreeSet;

use mcp_policy::Server;

/// What is open to callers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exposure {
    /// The ports where the server speaks MCP; every port if no policy names any.
    mcp: Option<BTreeSet<u16>>,
    /// The ports that every policy passes through.
    passthrough: BTreeSet<u16>,
    /// The endpoints that policies name; with more than one they disagree, and nothing is open.
    endpoints: BTreeSet<String>,
    /// The paths that policies name of the event stream of HTTP+SSE; likewise.
    event_streams: BTreeSet<String>,
}

/// What becomes of a connection to a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortUse {
    /// Judged as MCP.
    Mcp,
    /// Forwarded byte by byte, without policy.
    Passthrough,
    /// Refused.
    Closed,
}

impl Exposure {
    /// What these descriptions, one of each policy, leave open together.
    #[must_use]
    pub fn new<'a>(servers: impl IntoIterator<Item = &'a Server>) -> Self {
        let mut exposure: Option<Self> = None;
        for server in servers {
            let ports: BTreeSet<u16> = server.ports.iter().copied().collect();
            let passthrough: BTreeSet<u16> = server.passthrough_ports.iter().copied().collect();
            let one = Self {
                mcp: (!ports.is_empty()).then_some(ports),
                passthrough,
                endpoints: server.path.iter().cloned().collect(),
                event_streams: server.sse_path.iter().cloned().collect(),
            };
            exposure = Some(match exposure {
                None => one,
                Some(others) => others.and(one),
            });
        }
        exposure.unwrap_or_default()
    }

    fn and(self, other: Self) -> Self {
        let mcp = match (self.mcp, other.mcp) {
            (Some(a), Some(b)) => Some(&a & &b),
            (one, None) | (None, one) => one,
        };
        Self {
            mcp,
            passthrough: &self.passthrough & &other.passthrough,
            endpoints: &self.endpoints | &other.endpoints,
            event_streams: &self.event_streams | &other.event_streams,
        }
    }

    /// What becomes of a connection to this port. A port that is named for both is judged.
    #[must_use]
    pub fn port(&self, port: u16) -> PortUse {
        match &self.mcp {
            Some(ports) if ports.contains(&port) => PortUse::Mcp,
            _ if self.passthrough.contains(&port) => PortUse::Passthrough,
            Some(_) => PortUse::Closed,
            None => PortUse::Mcp,
        }
    }

    /// The path of the MCP endpoint; none if the policies disagree, and then every path is refused.
    #[must_use]
    pub fn endpoint(&self) -> Option<&str> {
        match self.endpoints.first() {
            None => Some(Server::DEFAULT_PATH),
            Some(only) if self.endpoints.len() == 1 => Some(only),
            Some(_) => None,
        }
    }

    /// The path of the event stream of HTTP+SSE; none if no policy opens that transport, or if they disagree on its path.
    #[must_use]
    pub fn event_stream(&self) -> Option<&str> {
        self.event_streams.first().filter(|_| self.event_streams.len() == 1).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(ports: &[u16], passthrough: &[u16], path: Option<&str>) -> Server {
        Server { ports: ports.to_vec(), passthrough_ports: passthrough.to_vec(), path: path.map(str::to_owned), ..Server::default() }
    }

    /// "`server.ports`: every TCP port: where the server speaks MCP". "`server.path`: `/mcp`".
    #[test]
    fn without_a_word_every_port_is_judged_at_the_usual_path() {
        for exposure in [Exposure::new([]), Exposure::new([&Server::default()])] {
            assert_eq!(exposure.port(8080), PortUse::Mcp);
            assert_eq!(exposure.endpoint(), Some("/mcp"));
        }
    }

    /// "`server.passthroughPorts`: forwarded without policy (say, the app's own metrics); any other port is refused".
    #[test]
    fn named_ports_close_all_others() {
        let exposure = Exposure::new([&server(&[8080], &[9090], None)]);
        assert_eq!((exposure.port(8080), exposure.port(9090), exposure.port(22)), (PortUse::Mcp, PortUse::Passthrough, PortUse::Closed));
    }

    #[test]
    fn a_port_named_for_both_is_judged() {
        assert_eq!(Exposure::new([&server(&[8080], &[8080], None)]).port(8080), PortUse::Mcp);
    }

    #[test]
    fn another_policy_never_opens_a_port() {
        let exposure = Exposure::new([&server(&[8080, 8081], &[9090], None), &server(&[8081], &[9090, 9091], None)]);
        assert_eq!((exposure.port(8080), exposure.port(8081)), (PortUse::Closed, PortUse::Mcp));
        assert_eq!((exposure.port(9090), exposure.port(9091)), (PortUse::Passthrough, PortUse::Closed));
        let silent = Exposure::new([&server(&[], &[9090], None), &Server::default()]);
        assert_eq!(silent.port(9090), PortUse::Mcp);
    }

    #[test]
    fn policies_that_name_different_endpoints_open_none() {
        assert_eq!(Exposure::new([&server(&[], &[], Some("/a")), &Server::default()]).endpoint(), Some("/a"));
        assert_eq!(Exposure::new([&server(&[], &[], Some("/a")), &server(&[], &[], Some("/b"))]).endpoint(), None);
    }

    /// HTTP+SSE is "off by default, opt-in per server".
    #[test]
    fn the_older_transport_is_open_only_where_policies_name_its_path_and_agree() {
        let naming = |path: &str| Server { sse_path: Some(path.to_owned()), ..Server::default() };
        assert_eq!(Exposure::new([&Server::default()]).event_stream(), None);
        assert_eq!(Exposure::new([&naming("/sse"), &Server::default()]).event_stream(), Some("/sse"));
        assert_eq!(Exposure::new([&naming("/sse"), &naming("/events")]).event_stream(), None);
    }
}
