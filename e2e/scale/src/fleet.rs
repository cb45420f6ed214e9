//! The objects of a big cluster, and the conversations of its sidecars.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use futures::{StreamExt, TryStreamExt, stream};
use http::Request;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::Client;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams};
use mcp_policy_sidecar::config::OperatorSource;
use mcp_policy_sidecar::source::operator::follow;
use mcp_policy_sidecar::state::State;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{Options, PATIENCE};

/// The cluster policy that is changed.
pub const GUARD: &str = "scale";
/// Label of every namespace that is made here.
const LABEL: &str = "scale.mcp-policy.dev/run";
/// Requests to the API server at one time.
const AT_ONCE: usize = 16;
/// Where the operator serves; the certificate has this name.
const OPERATOR: &str = "mcp-policy-operator.mcp-policy-system.svc";

/// A big cluster.
pub struct Fleet {
    client: Client,
    options: Options,
    folder: tempfile::TempDir,
}

impl Fleet {
    /// Nothing yet.
    pub fn new(client: Client, options: Options) -> anyhow::Result<Self> {
        Ok(Self { client, options, folder: tempfile::tempdir()? })
    }

    fn policies(&self, namespace: Option<&str>) -> Api<DynamicObject> {
        let kind = if namespace.is_some() { "McpPolicy" } else { "ClusterMcpPolicy" };
        let plural = if namespace.is_some() { "mcppolicies" } else { "clustermcppolicies" };
        let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("mcp-policy.dev", "v1alpha1", kind), plural);
        match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        }
    }

    /// Namespaces, their policies, and the policy that is changed.
    pub async fn create_policies(&self) -> anyhow::Result<()> {
        let namespaces = Api::<Namespace>::all(self.client.clone());
        let make = async |number: usize| {
            let namespace = json!({ "metadata": { "name": namespace(number), "labels": { LABEL: "yes" } } });
            namespaces.create(&PostParams::default(), &serde_json::from_value(namespace)?).await?;
            anyhow::Ok(())
        };
        stream::iter(0..self.options.namespaces).map(make).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        let make = async |number: usize| {
            let namespace = namespace(number % self.options.namespaces);
            let selector = json!({ "matchLabels": { "policy": policy(number) } });
            let limits = json!([{ "counter": "calls", "window": "minute", "max": 10 }]);
            let spec = json!({ "selector": selector, "tools": { "start": { "limits": limits } } });
            apply(&self.policies(Some(&namespace)), &policy(number), &spec).await?;
            anyhow::Ok(())
        };
        stream::iter(0..self.options.policies).map(make).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        self.change_guard(0).await.map(|_| ())
    }

    /// Another revision of the cluster policy: its generation.
    pub async fn change_guard(&self, change: usize) -> anyhow::Result<i64> {
        let namespaces = json!({ "matchLabels": { LABEL: "yes" } });
        let spec = json!({
            "namespaceSelector": namespaces, "selector": { "matchLabels": { "fleet": "yes" } }, "default": "allow",
            "tools": { "stop": { "action": "deny", "reason": format!("Revision {change}.") } },
        });
        let policy = apply(&self.policies(None), GUARD, &spec).await?;
        policy.metadata.generation.context("a policy has no generation")
    }

    /// Waits until the status says that all enforce this generation.
    pub async fn until_programmed(&self, generation: i64) -> anyhow::Result<()> {
        let policies = self.policies(None);
        let end = Instant::now() + PATIENCE;
        loop {
            let status = policies.get_status(GUARD).await?.data["status"].take();
            if status["observedGeneration"] == generation && status["enforcing"] == status["selected"] {
                return Ok(());
            }
            if Instant::now() > end {
                bail!("generation {generation} is never programmed: {status}");
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// The pods. A scheduling gate keeps them from being run.
    pub async fn create_pods(&self) -> anyhow::Result<()> {
        let make = async |number: usize| {
            let policy_number = number % self.options.policies;
            let pods = Api::<Pod>::namespaced(self.client.clone(), &namespace(policy_number % self.options.namespaces));
            let fleet = if number < self.options.fleet { "yes" } else { "no" };
            let labels = json!({ "policy": policy(policy_number), "fleet": fleet });
            let pod: Pod = serde_json::from_value(json!({
                "metadata": { "name": pod(number), "labels": labels },
                "spec": { "schedulingGates": [{ "name": "mcp-policy.dev/scale" }], "containers": [{ "name": "server", "image": "none" }] },
            }))?;
            let end = Instant::now() + PATIENCE;
            // Denied for a moment while the operator has not heard of the namespace's first policy.
            while let Err(error) = pods.create(&PostParams::default(), &pod).await {
                if Instant::now() > end {
                    return Err(error).context("a pod is not admitted");
                }
                sleep(Duration::from_millis(500)).await;
            }
            Ok(())
        };
        stream::iter(0..self.options.pods).map(make).buffer_unordered(AT_ONCE).try_collect::<()>().await
    }

    /// Starts the conversation of each pod's sidecar with the operator; in the order of the pods.
    pub async fn start_sidecars(&self) -> anyhow::Result<Vec<Arc<State>>> {
        let start = async |number: usize| {
            let namespace = namespace(number % self.options.policies % self.options.namespaces);
            let token_file = self.folder.path().join(format!("{number}.token"));
            std::fs::write(&token_file, self.token(&namespace, &pod(number)).await?)?;
            let ca_file = self.ca(&namespace).await?;
            let state = Arc::new(State::default());
            tokio::spawn(follow(
                OperatorSource { namespace: namespace.clone(), host: OPERATOR.to_owned(), port: 443, ca_file, token_file },
                Arc::clone(&state),
            ));
            anyhow::Ok(state)
        };
        stream::iter(0..self.options.pods).map(start).buffered(AT_ONCE).try_collect().await
    }

    /// A token of the namespace's default account that is bound to the pod, as the kubelet asks for it.
    async fn token(&self, namespace: &str, pod: &str) -> anyhow::Result<String> {
        let pods = Api::<Pod>::namespaced(self.client.clone(), namespace);
        let uid = pods.get_metadata(pod).await?.metadata.uid;
        let asked = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": { "audiences": ["mcp-policy-operator"], "expirationSeconds": 7200, "boundObjectRef": { "kind": "Pod", "apiVersion": "v1", "name": pod, "uid": uid } },
        });
        let request = Request::post(format!("/api/v1/namespaces/{namespace}/serviceaccounts/default/token"))
            .header("content-type", "application/json")
            .body(serde_json::to_vec(&asked)?)?;
        let answer: Value = self.client.request(request).await?;
        Ok(answer["status"]["token"].as_str().context("no token")?.to_owned())
    }

    /// The operator's CA, as it is published in the namespace.
    async fn ca(&self, namespace: &str) -> anyhow::Result<PathBuf> {
        let path = self.folder.path().join(format!("{namespace}.pem"));
        if !path.exists() {
            let published = Api::<ConfigMap>::namespaced(self.client.clone(), namespace).get("mcp-policy-ca").await?;
            let bundle = published.data.unwrap_or_default().remove("ca.crt").context("no CA is published")?;
            std::fs::write(&path, bundle)?;
        }
        Ok(path)
    }

    /// Takes everything away, and waits until it is gone: the next fleet has the same names.
    pub async fn remove(&self) -> anyhow::Result<()> {
        self.policies(None).delete(GUARD, &DeleteParams::default()).await?;
        let namespaces = Api::<Namespace>::all(self.client.clone());
        for namespace in namespaces.list(&ListParams::default().labels(LABEL)).await? {
            namespaces.delete(&namespace.metadata.name.unwrap_or_default(), &DeleteParams::background()).await?;
        }
        let end = Instant::now() + PATIENCE;
        while !namespaces.list(&ListParams::default().labels(LABEL)).await?.items.is_empty() {
            if Instant::now() > end {
                bail!("the namespaces do not go");
            }
            sleep(Duration::from_secs(1)).await;
        }
        Ok(())
    }
}

async fn apply(policies: &Api<DynamicObject>, name: &str, spec: &Value) -> anyhow::Result<DynamicObject> {
    let kind = if spec.get("namespaceSelector").is_some() { "ClusterMcpPolicy" } else { "McpPolicy" };
    let policy = json!({ "apiVersion": "mcp-policy.dev/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": spec });
    Ok(policies.patch(name, &PatchParams::apply("mcp-policy-scale").force(), &Patch::Apply(policy)).await?)
}

fn namespace(number: usize) -> String {
    format!("scale-{number}")
}

fn policy(number: usize) -> String {
    format!("p-{number}")
}

fn pod(number: usize) -> String {
    format!("web-{number}")
}
