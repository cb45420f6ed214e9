//! Follows the tallies of the other replicas, so that each knows what every sidecar said, whoever it said it to.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use http_body_util::BodyExt;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use kube::api::Api;
use kube::runtime::watcher::Event;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::dial;
use crate::metrics::{Metrics, Step, Watched};
use crate::names::{OPERATOR, service_host};
use crate::tally::Tally;
use crate::trust::Stored;
use crate::watch::{Selection, Trouble};

/// Two heartbeats missed.
const SILENCE: Duration = Duration::from_secs(25);
const RETRY: Duration = Duration::from_secs(2);
/// One line with the tally of many thousand pods fits.
const MAX_LINE: usize = 16 * 1024 * 1024;

/// What it takes to follow the tallies.
#[derive(Clone)]
pub struct Peers {
    /// Namespace of the operator.
    pub namespace: String,
    /// Name of this replica's pod.
    pub me: String,
    /// Port of the HTTPS server.
    pub port: u16,
    /// File with the operator's own token.
    pub token_file: PathBuf,
    /// Where all that is heard goes.
    pub tally: Arc<Tally>,
    /// The CA of the others.
    pub stored: watch::Receiver<Stored>,
    /// Where failures are counted.
    pub metrics: Metrics,
}

impl Peers {
    /// Runs until its future is dropped.
    pub async fn run(self, client: Client) {
        let api = Api::<EndpointSlice>::namespaced(client, &self.namespace);
        let selection = Selection::labels(&format!("kubernetes.io/service-name={OPERATOR}"));
        let mut events = pin!(crate::watch::watch(api, selection, Watched::Replicas, &self.metrics, Trouble::default()));
        let mut slices: HashMap<String, HashMap<String, IpAddr>> = HashMap::new();
        let mut listed = HashMap::new();
        let mut followed: HashMap<String, (IpAddr, AbortHandle)> = HashMap::new();
        // Dropped with this future, and all tasks with it.
        let mut tasks = JoinSet::new();
        while let Some(event) = events.next().await {
            match event {
                Event::Init => listed = HashMap::new(),
                Event::InitApply(slice) => {
                    listed.insert(name(&slice), replicas(&slice, &self.me));
                }
                Event::InitDone => slices = std::mem::take(&mut listed),
                Event::Apply(slice) => {
                    slices.insert(name(&slice), replicas(&slice, &self.me));
                }
                Event::Delete(slice) => {
                    slices.remove(&name(&slice));
                }
            }
            let present: HashMap<&String, IpAddr> = slices.values().flatten().map(|(name, address)| (name, *address)).collect();
            followed.retain(|name, (address, task)| {
                let is_present = present.get(name) == Some(address);
                if !is_present {
                    task.abort();
                }
                is_present
            });
            for (name, address) in present {
                if !followed.contains_key(name) {
                    let task = tasks.spawn(self.clone().follow(name.clone(), address));
                    followed.insert(name.clone(), (address, task));
                }
            }
            while tasks.try_join_next().is_some() {}
        }
    }

    async fn follow(mut self, replica: String, address: IpAddr) {
        // An error says that the process is ending.
        let _ = self.stored.wait_for(|stored| stored.certificates().is_some()).await;
        loop {
            if let Err(error) = self.read(address).await {
                self.metrics.count_error(Step::Tally);
                tracing::warn!(
                    replica,
                    error = &error as &dyn std::error::Error,
                    "failed to follow the tally of a replica; it is tried again"
                );
            }
            sleep(RETRY).await;
        }
    }

    /// Reads the tally of a replica until the stream ends.
    async fn read(&self, address: IpAddr) -> Result<(), FollowError> {
        let bundle = self.stored.borrow().certificates().map(|certificates| certificates.bundle()).ok_or(FollowError::NoCertificates)?;
        // Read each time: the kubelet renews it. A small file in memory: reading it blocks nobody.
        let token = std::fs::read_to_string(&self.token_file).map_err(FollowError::Token)?;
        let response = dial::get((address, self.port), &service_host(&self.namespace), "/v1/tally", &bundle, Some(token.trim())).await?;
        if !response.status().is_success() {
            return Err(FollowError::Refused(response.status()));
        }
        let mut body = response.into_body();
        let mut buffer = Vec::new();
        while let Some(frame) = timeout(SILENCE, body.frame()).await.map_err(|_| FollowError::Silence)? {
            let Ok(data) = frame?.into_data() else { continue };
            buffer.extend_from_slice(&data);
            while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = buffer.drain(..=end).collect();
                self.tally.heard(serde_json::from_slice(&line)?);
            }
            if buffer.len() > MAX_LINE {
                return Err(FollowError::TooLong);
            }
        }
        Ok(())
    }
}

/// Why the tally of a replica could not be followed.
#[derive(Debug, thiserror::Error)]
enum FollowError {
    #[error("there are no certificates yet")]
    NoCertificates,
    #[error("failed to read the operator's own token")]
    Token(#[source] std::io::Error),
    #[error("failed to ask")]
    Dial(#[from] dial::DialError),
    #[error("the replica answered {0}")]
    Refused(http::StatusCode),
    #[error("the replica fell silent")]
    Silence,
    #[error("the stream broke")]
    Stream(#[from] hyper::Error),
    #[error("a line is longer than {MAX_LINE} bytes")]
    TooLong,
    #[error("a line cannot be read")]
    Line(#[from] serde_json::Error),
}

fn name(slice: &EndpointSlice) -> String {
    slice.metadata.name.clone().unwrap_or_default()
}

/// The other replicas of a slice that serve, by pod.
fn replicas(slice: &EndpointSlice, me: &str) -> HashMap<String, IpAddr> {
    let is_serving = |conditions: &k8s_openapi::api::discovery::v1::EndpointConditions| conditions.serving != Some(false);
    let serving = slice.endpoints.iter().filter(|endpoint| endpoint.conditions.as_ref().is_none_or(is_serving));
    serving
        .filter_map(|endpoint| {
            let name = endpoint.target_ref.as_ref()?.name.clone()?;
            let address = endpoint.addresses.first()?.parse().ok()?;
            (name != me).then_some((name, address))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_other_replicas_that_serve_are_followed() {
        let endpoint = |pod: &str, address: &str, serving: Option<bool>| json!({ "addresses": [address], "conditions": { "serving": serving }, "targetRef": { "kind": "Pod", "name": pod } });
        let slice = json!({
            "addressType": "IPv4",
            "metadata": {},
            "endpoints": [
                endpoint("me", "10.0.0.1", Some(true)),
                endpoint("other", "10.0.0.2", Some(true)),
                endpoint("unknown", "10.0.0.3", None),
                endpoint("starting", "10.0.0.4", Some(false)),
            ],
        });
        let slice: EndpointSlice = serde_json::from_value(slice).unwrap();
        let mut found: Vec<_> = replicas(&slice, "me").into_iter().map(|(name, address)| format!("{name} {address}")).collect();
        found.sort();
        assert_eq!(found, ["other 10.0.0.2", "unknown 10.0.0.3"]);
    }
}
