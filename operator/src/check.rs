//! The command `check`: asks the running operator as the API server does, over its Service and with the CA of the webhook
//! configuration. So one answer proves Service, certificate and configuration.

use std::time::Duration;

use http::StatusCode;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::Client;
use kube::api::Api;
use tokio::time::{Instant, sleep};

use crate::dial::{self, DialError};
use crate::names::{SERVICE_PORT, WEBHOOK, WEBHOOK_CONFIGURATION, service_host};

/// What is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The webhook configuration cannot be read.
    #[error("failed to read the webhook configuration {WEBHOOK_CONFIGURATION}")]
    Configuration(#[source] Box<kube::Error>),
    /// The operator has not configured the webhook yet.
    #[error("the webhook configuration {WEBHOOK_CONFIGURATION} has no CA yet: no operator leads, or it cannot write")]
    NoCa,
    /// The operator cannot be reached.
    #[error("failed to reach the operator at {0}")]
    Dial(String, #[source] DialError),
    /// Somebody else answers.
    #[error("{0} answered {1} to a request without a token; 401 was expected")]
    Answer(String, StatusCode),
}

/// After a leader has died, another leads within 15 seconds; then its first writes need a moment.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_secs(1);

/// Checks the operator in this namespace, and waits for one that is only starting. Returns what to tell.
pub async fn check(client: Client, namespace: &str) -> Result<String, CheckError> {
    let end = Instant::now() + PATIENCE;
    loop {
        match ask(client.clone(), namespace).await {
            Err(CheckError::NoCa | CheckError::Dial(..)) if Instant::now() < end => sleep(PAUSE).await,
            answer => return answer,
        }
    }
}

async fn ask(client: Client, namespace: &str) -> Result<String, CheckError> {
    let api = Api::<MutatingWebhookConfiguration>::all(client);
    let configuration = api.get(WEBHOOK_CONFIGURATION).await.map_err(|error| CheckError::Configuration(Box::new(error)))?;
    let webhook = configuration.webhooks.into_iter().flatten().find(|webhook| webhook.name == WEBHOOK);
    let bundle = webhook.and_then(|webhook| String::from_utf8(webhook.client_config.ca_bundle?.0).ok()).ok_or(CheckError::NoCa)?;
    let host = service_host(namespace);
    let response = dial::get((host.as_str(), SERVICE_PORT), &host, "/v1/watch", &bundle, None)
        .await
        .map_err(|error| CheckError::Dial(host.clone(), error))?;
    match response.status() {
        StatusCode::UNAUTHORIZED => Ok(format!("{host} answers, with a certificate of the CA that the API server trusts")),
        status => Err(CheckError::Answer(host, status)),
    }
}
