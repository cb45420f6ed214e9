//! What makes others trust the operator: its certificates in a Secret, and their CA where API server and sidecars look for it.
//!
//! Every replica follows the Secret and serves with what it says. The leader renews it, writes the CA and the list of governed
//! namespaces into the webhook configuration, and keeps the CA `ConfigMap` of each governed namespace, edited or deleted ones too.

use std::collections::{BTreeSet, HashMap};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, RuleWithOperations};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::watcher::Event;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::certs::Certificates;
use crate::certs::lifetimes::Lifetimes;
use crate::inject::CA_CONFIG_MAP;
use crate::metrics::{Certificate, CertificateLabels, Metrics, Step, Watched};
use crate::names::{OPERATOR, SECRET, WEBHOOK, WEBHOOK_CONFIGURATION, service_host};
use crate::tls::Served;
use crate::watch::{Selection, Trouble, watch};
use crate::world::World;

/// Key of the certificates in the Secret.
const CERTIFICATES: &str = "certificates.json";
/// Key of the CA bundle, in the Secret for people and in the `ConfigMap`s for sidecars.
const BUNDLE: &str = "ca.crt";
/// The schedule is looked at this often, and failed writes are tried again.
const TICK: Duration = Duration::from_secs(30);
const QUIET: Duration = Duration::from_millis(20);
const REQUEST: Duration = Duration::from_secs(5);
/// `ConfigMap`s written at one time.
const CONCURRENT: usize = 8;

/// The Secret as it was last seen.
#[derive(Clone, Debug, Default)]
pub enum Stored {
    /// It was not read yet.
    #[default]
    Unknown,
    /// There is none.
    Absent,
    /// There is one. Without certificates if somebody broke it.
    Present {
        /// What to name when it is replaced, so that no other change is lost.
        resource_version: Option<String>,
        /// What it says.
        certificates: Option<Arc<Certificates>>,
    },
}

impl Stored {
    /// The certificates, if there are any.
    #[must_use]
    pub fn certificates(&self) -> Option<&Arc<Certificates>> {
        match self {
            Self::Present { certificates, .. } => certificates.as_ref(),
            Self::Unknown | Self::Absent => None,
        }
    }
}

/// Follows the Secret: serves with what it says, and tells `stored`. Runs until its future is dropped.
pub async fn follow(client: Client, namespace: String, served: Arc<Served>, stored: watch::Sender<Stored>, metrics: Metrics) {
    let api = Api::<Secret>::namespaced(client, &namespace);
    let mut events = pin!(watch(api, named(SECRET), Watched::Secret, &metrics, Trouble::default()));
    let mut is_listed = false;
    while let Some(event) = events.next().await {
        match event {
            Event::Init => is_listed = false,
            Event::InitApply(secret) | Event::Apply(secret) => {
                is_listed = true;
                let certificates = read(&secret);
                if let Some(certificates) = &certificates {
                    serve(&served, certificates, &metrics);
                } else {
                    tracing::warn!("the Secret {SECRET} cannot be read; the leader replaces it");
                }
                let certificates = certificates.map(Arc::new);
                stored.send_replace(Stored::Present { resource_version: secret.metadata.resource_version, certificates });
            }
            Event::InitDone if is_listed => {}
            Event::InitDone | Event::Delete(_) => {
                stored.send_replace(Stored::Absent);
            }
        }
    }
}

fn read(secret: &Secret) -> Option<Certificates> {
    let ByteString(stored) = secret.data.as_ref()?.get(CERTIFICATES)?;
    serde_json::from_slice(stored).ok()
}

fn serve(served: &Served, certificates: &Certificates, metrics: &Metrics) {
    match served.set(certificates.leaf()) {
        Ok(()) => {
            let (ca, leaf) = certificates.expiry();
            for (certificate, expiry) in [(Certificate::Ca, ca), (Certificate::Leaf, leaf)] {
                metrics.certificate_expiry.get_or_create(&CertificateLabels { certificate }).set(expiry);
            }
        }
        Err(error) => tracing::error!(%error, "failed to serve with the stored certificate; the one before stays"),
    }
}

fn named(name: &str) -> Selection {
    Selection::fields(&format!("metadata.name={name}"))
}

/// The leader's part.
pub struct Keeper {
    /// How the API server is reached.
    pub client: Client,
    /// Namespace of the operator.
    pub namespace: String,
    /// How long certificates live.
    pub lifetimes: Lifetimes,
    /// Which namespaces are governed.
    pub world: Arc<World>,
    /// Told when policies, namespaces or pods change.
    pub changed: watch::Receiver<()>,
    /// The Secret.
    pub stored: watch::Receiver<Stored>,
    /// Where failures are counted.
    pub metrics: Metrics,
}

/// What others have, as it was last seen.
#[derive(Default)]
struct Published {
    webhook: Option<MutatingWebhookConfiguration>,
    config_maps: HashMap<String, Option<String>>,
    are_config_maps_complete: bool,
}

impl Keeper {
    /// Runs until its future is dropped.
    pub async fn run(mut self) {
        let webhooks = Api::<MutatingWebhookConfiguration>::all(self.client.clone());
        let mut webhooks = pin!(watch(webhooks, named(WEBHOOK_CONFIGURATION), Watched::Webhook, &self.metrics, Trouble::default()));
        let config_maps = Api::<ConfigMap>::all(self.client.clone());
        let mut config_maps = pin!(watch(config_maps, named(CA_CONFIG_MAP), Watched::ConfigMaps, &self.metrics, Trouble::default()));
        let mut published = Published::default();
        loop {
            tokio::select! {
                Some(event) = webhooks.next() => published.take_webhook(event),
                Some(event) = config_maps.next() => published.take_config_map(event),
                // An error says that the process is ending.
                _ = self.stored.changed() => {}
                _ = self.changed.changed() => {}
                () = sleep(TICK) => {}
            }
            // What comes at once is answered at once.
            sleep(QUIET).await;
            drain(&mut webhooks, |event| published.take_webhook(event));
            drain(&mut config_maps, |event| published.take_config_map(event));
            self.renew().await;
            let Some(bundle) = self.stored.borrow().certificates().map(|certificates| certificates.bundle()) else { continue };
            if self.world.is_complete() {
                self.changed.mark_unchanged();
                self.configure_webhook(&mut published, &bundle).await;
                self.publish_ca(&mut published, &bundle).await;
            }
        }
    }

    /// Makes or renews the certificates, if it is time.
    async fn renew(&mut self) {
        let stored = self.stored.borrow_and_update().clone();
        let host = service_host(&self.namespace);
        let now = Timestamp::now().as_second();
        let issued = match &stored {
            Stored::Unknown => return,
            Stored::Absent | Stored::Present { certificates: None, .. } => Certificates::issue(&host, self.lifetimes, now).map(Some),
            Stored::Present { certificates: Some(certificates), .. } => certificates.renewed(&host, self.lifetimes, now),
        };
        let certificates = match issued {
            Ok(Some(certificates)) => certificates,
            Ok(None) => return,
            Err(error) => return self.metrics.failed(Step::Secret, &error),
        };
        let resource_version = match stored {
            Stored::Present { resource_version, .. } => resource_version,
            Stored::Unknown | Stored::Absent => None,
        };
        let written = match serde_json::to_string(&certificates) {
            Ok(written) => written,
            Err(error) => return self.metrics.failed(Step::Secret, &error),
        };
        let mut secret = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": { "name": SECRET, "labels": managed() },
            "stringData": { CERTIFICATES: written, BUNDLE: certificates.bundle() },
        });
        if let Some(resource_version) = resource_version {
            secret["metadata"]["resourceVersion"] = resource_version.into();
        }
        let api = Api::<Secret>::namespaced(self.client.clone(), &self.namespace);
        match timeout(REQUEST, api.patch(SECRET, &apply(), &Patch::Apply(&secret))).await {
            Ok(Ok(_)) => {
                tracing::info!("issued certificates");
                // Until the watch has brought them back, this replica does not know of them, and would issue them again.
                let _ = timeout(REQUEST, self.stored.changed()).await;
            }
            Ok(Err(error)) => self.metrics.failed(Step::Secret, &error),
            Err(error) => self.metrics.failed(Step::Secret, &error),
        }
    }

    /// Writes the three fields of the webhook that are the operator's. Never creates the configuration: it is the chart's, and
    /// when that is uninstalled none must be left.
    async fn configure_webhook(&self, published: &mut Published, bundle: &str) {
        let Some(present) = &published.webhook else { return };
        let selector = selector(&self.world.policies().governed_namespaces());
        let ca = ByteString(bundle.as_bytes().to_vec());
        let rules = vec![RuleWithOperations {
            api_groups: Some(vec![String::new()]),
            api_versions: Some(vec!["v1".to_owned()]),
            operations: Some(vec!["CREATE".to_owned()]),
            resources: Some(vec!["pods".to_owned()]),
            scope: Some("Namespaced".to_owned()),
        }];
        let is_current = present.webhooks.iter().flatten().any(|webhook| {
            webhook.name == WEBHOOK
                && webhook.client_config.ca_bundle.as_ref() == Some(&ca)
                && webhook.namespace_selector.as_ref() == Some(&selector)
                && webhook.rules.as_ref() == Some(&rules)
        });
        if is_current {
            return;
        }
        let body = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": { "name": WEBHOOK_CONFIGURATION, "uid": present.metadata.uid },
            "webhooks": [{ "name": WEBHOOK, "clientConfig": { "caBundle": ca }, "namespaceSelector": selector, "rules": rules }],
        });
        let api = Api::<MutatingWebhookConfiguration>::all(self.client.clone());
        match timeout(REQUEST, api.patch(WEBHOOK_CONFIGURATION, &apply(), &Patch::Apply(&body))).await {
            Ok(Ok(configured)) => published.webhook = Some(configured),
            Ok(Err(error)) => self.metrics.failed(Step::Webhook, &error),
            Err(error) => self.metrics.failed(Step::Webhook, &error),
        }
    }

    /// Writes the CA where it is missing or wrong, in every namespace that is governed or has a sidecar.
    async fn publish_ca(&self, published: &mut Published, bundle: &str) {
        if !published.are_config_maps_complete {
            return;
        }
        let missing: BTreeSet<String> = {
            let (policies, pods) = (self.world.policies(), self.world.pods());
            let of_sidecars = pods.values().filter(|pod| pod.is_injected).map(|pod| pod.namespace.as_str());
            let is_missing = |namespace: &&str| published.config_maps.get(*namespace).is_none_or(|found| found.as_deref() != Some(bundle));
            policies.governed_namespaces().into_iter().chain(of_sidecars).filter(is_missing).map(str::to_owned).collect()
        };
        // A cluster policy can make many namespaces governed at once.
        let write = |namespace: String| async move { self.publish_ca_in(&namespace, bundle).await.then_some(namespace) };
        let written: Vec<_> = futures::stream::iter(missing).map(write).buffer_unordered(CONCURRENT).collect().await;
        published.config_maps.extend(written.into_iter().flatten().map(|namespace| (namespace, Some(bundle.to_owned()))));
    }

    /// Writes the CA into a namespace. True if it is there now.
    async fn publish_ca_in(&self, namespace: &str, bundle: &str) -> bool {
        let body = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": { "name": CA_CONFIG_MAP, "labels": managed() },
            "data": { BUNDLE: bundle },
        });
        let api = Api::<ConfigMap>::namespaced(self.client.clone(), namespace);
        match timeout(REQUEST, api.patch(CA_CONFIG_MAP, &apply(), &Patch::Apply(&body))).await {
            Ok(Ok(_)) => return true,
            // A namespace that is being deleted takes nothing new; its policies and pods go soon.
            Ok(Err(kube::Error::Api(status)))
                if status.is_not_found() || (status.is_forbidden() && status.message.contains("being terminated")) => {}
            Ok(Err(error)) => self.metrics.failed(Step::ConfigMap, &error),
            Err(error) => self.metrics.failed(Step::ConfigMap, &error),
        }
        false
    }
}

/// Takes the events that are there, without waiting for more.
fn drain<K>(events: &mut (impl Stream<Item = Event<K>> + Unpin), mut take: impl FnMut(Event<K>)) {
    while let Some(Some(event)) = futures::FutureExt::now_or_never(events.next()) {
        take(event);
    }
}

impl Published {
    fn take_webhook(&mut self, event: Event<MutatingWebhookConfiguration>) {
        match event {
            Event::Apply(found) | Event::InitApply(found) => self.webhook = Some(found),
            Event::Delete(_) | Event::Init => self.webhook = None,
            Event::InitDone => {}
        }
    }

    fn take_config_map(&mut self, event: Event<ConfigMap>) {
        let namespace = |found: &ConfigMap| found.metadata.namespace.clone().unwrap_or_default();
        match event {
            Event::Init => {
                self.are_config_maps_complete = false;
                self.config_maps.clear();
            }
            Event::InitApply(found) | Event::Apply(found) => {
                let bundle = found.data.as_ref().and_then(|data| data.get(BUNDLE)).cloned();
                self.config_maps.insert(namespace(&found), bundle);
            }
            Event::Delete(found) => {
                self.config_maps.remove(&namespace(&found));
            }
            Event::InitDone => self.are_config_maps_complete = true,
        }
    }
}

/// Selects exactly these namespaces; none at all if there are none. (`In` without values is refused by the API server; every
/// namespace has this label.)
fn selector(namespaces: &BTreeSet<&str>) -> LabelSelector {
    let values: Vec<_> = namespaces.iter().map(|&namespace| namespace.to_owned()).collect();
    let (operator, values) = if values.is_empty() { ("DoesNotExist", None) } else { ("In", Some(values)) };
    let requirement = LabelSelectorRequirement { key: "kubernetes.io/metadata.name".to_owned(), operator: operator.to_owned(), values };
    LabelSelector { match_expressions: Some(vec![requirement]), match_labels: None }
}

fn managed() -> serde_json::Value {
    json!({ "app.kubernetes.io/managed-by": OPERATOR })
}

fn apply() -> PatchParams {
    PatchParams::apply(OPERATOR).force()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_webhook_is_asked_only_about_governed_namespaces() {
        let of = |namespaces: &[&str]| serde_json::to_value(selector(&namespaces.iter().copied().collect())).unwrap();
        assert_eq!(
            of(&["a", "b"]),
            json!({ "matchExpressions": [{ "key": "kubernetes.io/metadata.name", "operator": "In", "values": ["a", "b"] }] })
        );
        assert_eq!(of(&[]), json!({ "matchExpressions": [{ "key": "kubernetes.io/metadata.name", "operator": "DoesNotExist" }] }));
    }

    #[test]
    fn a_secret_that_somebody_broke_is_as_none() {
        let with = |data: serde_json::Value| serde_json::from_value::<Secret>(json!({ "metadata": {}, "data": data })).unwrap();
        assert!(read(&with(json!({}))).is_none());
        assert!(read(&with(json!({ "certificates.json": "e30=" }))).is_none());
        let certificates = Certificates::issue("h", Lifetimes::default(), 0).unwrap();
        let stored = ByteString(serde_json::to_vec(&certificates).unwrap());
        assert_eq!(read(&with(json!({ "certificates.json": stored }))), Some(certificates));
    }
}
