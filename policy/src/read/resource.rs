//! What no selector and no server can be, in the words of the API server, which refuses the same.

use super::{FieldError, error};
use crate::resource::{Operator, Selector, Server};

/// As many ports as either field takes.
const MAX_PORTS: usize = 16;
/// The ports of the sidecar.
const OWN_PORTS: std::ops::RangeInclusive<u16> = 14140..=14142;

/// Fields that cannot mean anything, from `spec` down.
pub(super) fn impossible<'a>(
    namespaces: Option<&'a Selector>,
    pods: Option<&'a Selector>,
    server: &'a Server,
) -> impl Iterator<Item = FieldError> + 'a {
    let selectors = [("spec.namespaceSelector", namespaces), ("spec.selector", pods)];
    let selectors = selectors.into_iter().filter_map(|(path, selector)| Some((path, selector?)));
    selectors.flat_map(|(path, selector)| requirements(path, selector)).chain(ports(server)).chain(paths(server))
}

fn requirements<'a>(path: &'a str, selector: &'a Selector) -> impl Iterator<Item = FieldError> + 'a {
    let wrong = selector.match_expressions.iter().enumerate().filter(|(_, requirement)| {
        let takes_values = matches!(requirement.operator, Operator::In | Operator::NotIn);
        takes_values == requirement.values.is_empty()
    });
    wrong.map(move |(i, _)| {
        let message = "In and NotIn need at least one of values; Exists and DoesNotExist take none";
        error(format!("{path}.matchExpressions[{i}]"), message)
    })
}

fn ports(server: &Server) -> impl Iterator<Item = FieldError> {
    let fields = [("ports", &server.ports), ("passthroughPorts", &server.passthrough_ports)];
    let many = fields.into_iter().filter(|(_, ports)| ports.len() > MAX_PORTS);
    let many = many
        .map(|(field, ports)| error(format!("spec.server.{field}"), format!("has {} ports; at most {MAX_PORTS} are allowed", ports.len())));
    let reserved = fields.into_iter().flat_map(|(field, ports)| {
        let own = ports.iter().enumerate().filter(|(_, port)| OWN_PORTS.contains(port));
        own.map(move |(i, _)| error(format!("spec.server.{field}[{i}]"), "14140, 14141 and 14142 belong to the sidecar"))
    });
    let twice = server.passthrough_ports.iter().enumerate().filter(|(_, port)| server.ports.contains(port));
    let twice = twice.map(|(i, port)| {
        let message = format!("a port is one of ports or one of passthroughPorts, not both; {port} is");
        error(format!("spec.server.passthroughPorts[{i}]"), message)
    });
    many.chain(reserved).chain(twice)
}

fn paths(server: &Server) -> impl Iterator<Item = FieldError> {
    let fields = [("path", &server.path), ("ssePath", &server.sse_path)];
    let paths = fields.into_iter().filter_map(|(field, path)| Some((field, path.as_deref()?)));
    let wrong = paths.clone().filter(|(_, path)| !path.starts_with('/') || path.contains(['?', '#']));
    let wrong = wrong.map(|(field, path)| {
        error(format!("spec.server.{field}"), format!("`{path}` is not a path: it begins with `/` and has neither `?` nor `#`"))
    });
    let endpoint = server.path.as_deref().unwrap_or(Server::DEFAULT_PATH);
    let same = server.sse_path.iter().filter(move |path| *path == endpoint);
    wrong.chain(same.map(|path| error("spec.server.ssePath", format!("`{path}` is the path of the endpoint"))))
}
