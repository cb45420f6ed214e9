//! What callers prove themselves with, from where it is written to the snapshot: issuers over TLS, the API server, Secrets.

#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers outside of test functions")]

mod support;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Redirect, Response};
use http::StatusCode;
use mcp_policy::snapshot::SnapshotAuthentication;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use mcp_policy_operator::callers::fetch::{self, FetchError};
use mcp_policy_operator::callers::issuers::Issuers;
use mcp_policy_operator::callers::{Material, Settings};
use mcp_policy_operator::certs::Certificates;
use mcp_policy_operator::certs::lifetimes::Lifetimes;
use mcp_policy_operator::controller::Controller;
use mcp_policy_operator::metrics::Metrics;
use mcp_policy_operator::select::Snapshots;
use mcp_policy_operator::server;
use mcp_policy_operator::tls::{Served, server_config};
use mcp_policy_operator::watch::Troubles;
use mcp_policy_operator::world::{Part, World};

/// An issuer on this machine.
struct Issuer {
    url: String,
    bundle: String,
    asked: Arc<AtomicUsize>,
    _stop: tokio_util::sync::DropGuard,
}

fn key_set() -> Value {
    json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "1", "x": "x"}]})
}

async fn answer(State((url, asked)): State<(String, Arc<AtomicUsize>)>, request: Request) -> Response {
    asked.fetch_add(1, Ordering::Relaxed);
    let document = |issuer: &str, keys: &str| axum::Json(json!({"issuer": format!("{url}{issuer}"), "jwks_uri": keys})).into_response();
    match request.uri().path() {
        "/.well-known/openid-configuration" => document("", &format!("{url}/keys")),
        "/keys" => axum::Json(key_set()).into_response(),
        "/other/.well-known/openid-configuration" => document("/mallory", &format!("{url}/keys")),
        "/plain/.well-known/openid-configuration" => document("/plain", &format!("{}/keys", url.replace("https", "http"))),
        "/link/.well-known/openid-configuration" => document("/link", "https://169.254.169.254/latest/meta-data"),
        "/moved/.well-known/openid-configuration" => Redirect::temporary("/.well-known/openid-configuration").into_response(),
        "/long/.well-known/openid-configuration" => "x".repeat(300 * 1024).into_response(),
        "/text/.well-known/openid-configuration" => "secret words of somebody else".into_response(),
        "/silent/.well-known/openid-configuration" => std::future::pending().await,
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn issuer() -> Issuer {
    // Another test of this process may have been faster.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let now = k8s_openapi::jiff::Timestamp::now().as_second();
    let certificates = Certificates::issue("localhost", Lifetimes::default(), now).unwrap();
    let (served, stop, asked) = (Arc::<Served>::default(), CancellationToken::new(), Arc::<AtomicUsize>::default());
    served.set(certificates.leaf()).unwrap();
    let router = Router::new().fallback(answer).with_state((url.clone(), Arc::clone(&asked)));
    tokio::spawn(server::serve(listener, server_config(served), router, stop.clone()));
    Issuer { url, bundle: certificates.bundle(), asked, _stop: stop.drop_guard() }
}

#[tokio::test]
async fn keys_are_found_by_the_discovery_document_or_where_a_policy_says() {
    let issuer = issuer().await;
    let found = fetch::keys(&issuer.url, None, Some(&issuer.bundle), true).await.unwrap();
    assert_eq!((found.issuer.as_str(), found.jwks), (issuer.url.as_str(), key_set()));
    assert_eq!(issuer.asked.load(Ordering::Relaxed), 2);
    let keys = format!("{}/keys", issuer.url);
    let named = fetch::keys("https://nowhere.invalid", Some(&keys), Some(&issuer.bundle), true).await.unwrap();
    assert_eq!(named.jwks, key_set());
}

#[tokio::test]
async fn what_is_not_the_issuers_own_word_is_not_taken_and_not_repeated() {
    let issuer = issuer().await;
    let ask = |path: &str| {
        let (name, bundle) = (format!("{}{path}", issuer.url), issuer.bundle.clone());
        async move { fetch::keys(&name, None, Some(&bundle), true).await.unwrap_err() }
    };
    for (path, told) in [
        ("/other", "the discovery document is of issuer"),
        ("/plain", "is not an https URL"),
        ("/link", "169.254.169.254 has no address that is asked: addresses of the link"),
        ("/moved", "answered 307"),
        ("/long", "broke off or is longer than 262144 bytes"),
        ("/text", "is not JSON"),
        ("/nothing", "answered 404"),
    ] {
        let error = ask(path).await.to_string();
        assert!(error.contains(told) && !error.contains("secret words"), "{path}: {error}");
    }
}

#[tokio::test]
async fn a_private_address_is_not_even_connected_to_where_it_is_not_allowed() {
    let issuer = issuer().await;
    let error = fetch::keys(&issuer.url, None, Some(&issuer.bundle), false).await.unwrap_err();
    assert!(matches!(error, FetchError::Address { .. }), "{error}");
    let unknown = fetch::keys(&issuer.url, None, None, true).await.unwrap_err();
    assert!(matches!(unknown, FetchError::Exchange { .. }), "the public web does not vouch for it: {unknown}");
    let odd = fetch::keys(&issuer.url, None, Some("-----BEGIN CERTIFICATE-----"), true).await.unwrap_err();
    assert!(matches!(odd, FetchError::Bundle(_)), "{odd}");
    assert_eq!(issuer.asked.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn an_issuer_that_says_nothing_is_given_up() {
    let issuer = issuer().await;
    let silent = format!("{}/silent", issuer.url);
    let asked = fetch::keys(&silent, None, Some(&issuer.bundle), true);
    let error = timeout(Duration::from_secs(30), asked).await.expect("it gives up by itself").unwrap_err();
    assert!(matches!(error, FetchError::Timeout { .. }), "{error}");
}

fn stored_key(name: &str) -> Value {
    let key = json!({"salt": "0f".repeat(16), "sha256": "ab".repeat(32)}).to_string();
    json!({ "metadata": { "namespace": "imaging", "name": "mcp-policy-keys", "resourceVersion": "7" }, "data": { (format!("{name}.1")): k8s_openapi::ByteString(key.into_bytes()) } })
}

/// An API server with one policy, its Secret, and keys of its own.
fn cluster(asked: &support::Asked) -> (StatusCode, Value) {
    let items = match asked.uri.split('?').next().unwrap() {
        "/.well-known/openid-configuration" => {
            return (StatusCode::OK, json!({"issuer": "https://kubernetes.default.svc", "jwks_uri": "https://elsewhere/keys"}));
        }
        "/openid/v1/jwks" => return (StatusCode::OK, key_set()),
        _ if asked.uri.contains("watch=true") => return support::failure(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable"),
        uri if uri.ends_with("/mcppolicies") => {
            let said = json!({ "serviceAccounts": { "audiences": ["imaging"] }, "keys": { "secretName": "mcp-policy-keys" } });
            let spec = json!({ "selector": {}, "server": { "authentication": said } });
            json!([{ "metadata": { "namespace": "imaging", "name": "p", "uid": "1", "generation": 1 }, "spec": spec }])
        }
        uri if uri.ends_with("/namespaces") => json!([{ "metadata": { "name": "imaging" } }]),
        uri if uri.ends_with("/secrets") => {
            assert!(
                asked.uri.contains("fieldSelector=metadata.name%3Dmcp-policy-keys"),
                "what the operator has no right to: {}",
                asked.uri
            );
            json!([stored_key("ci")])
        }
        _ => json!([]),
    };
    (StatusCode::OK, json!({ "kind": "List", "apiVersion": "v1", "metadata": { "resourceVersion": "1" }, "items": items }))
}

/// The world that a controller makes of an API server, when all of it is read.
async fn read(answer: impl Fn(&support::Asked) -> (StatusCode, Value) + Clone + Send + Sync + 'static) -> Arc<World> {
    let (client, _) = support::api(answer);
    let world = Arc::<World>::default();
    let callers = Settings { secret_names: vec!["mcp-policy-keys".to_owned()], refresh: Duration::from_mins(5), ..Settings::default() };
    world.policies_mut().callers = Material::new(&callers, "mcp-policy-system");
    let (changed, mut world_changes) = watch::channel(());
    let controller = Controller {
        world: Arc::clone(&world),
        hub: Arc::default(),
        tally: Arc::default(),
        changed,
        metrics: Metrics::default(),
        troubles: Troubles::default(),
        store: None,
        callers,
    };
    tokio::spawn(controller.run(client));
    let complete = async {
        while !world.is_complete() {
            world_changes.changed().await.unwrap();
        }
    };
    timeout(Duration::from_mins(1), complete).await.expect("knows the cluster within a minute");
    world
}

fn of_pod(world: &World) -> SnapshotAuthentication {
    let policies = world.policies();
    let snapshot = Snapshots::new(&policies).of("imaging", &[].into());
    assert!(snapshot.is_intact() && snapshot.version == "2");
    *snapshot.authentication.clone().expect("the policy asks for it")
}

#[tokio::test(start_paused = true)]
async fn nothing_is_told_before_keys_and_secrets_are_read() {
    let authentication = of_pod(&*read(cluster).await);
    let accounts = authentication.service_accounts.unwrap();
    assert_eq!((accounts.issuer.as_str(), accounts.jwks), ("https://kubernetes.default.svc", key_set()));
    assert_eq!(authentication.keys.unwrap().iter().map(|key| key.name.as_str()).collect::<Vec<_>>(), ["ci"]);
}

#[tokio::test]
async fn the_world_is_not_complete_while_an_issuer_was_not_asked_to_the_end() {
    let (asked, go) = (Arc::<Notify>::default(), Arc::<Notify>::default());
    let (was_asked, may_go) = (Arc::clone(&asked), Arc::clone(&go));
    let service = tower::service_fn(move |_: http::Request<kube::client::Body>| {
        let (asked, go) = (Arc::clone(&asked), Arc::clone(&go));
        async move {
            asked.notify_one();
            go.notified().await;
            let refused = http::Response::builder().status(StatusCode::FORBIDDEN).body(http_body_util::Full::<bytes::Bytes>::default());
            Ok::<_, std::convert::Infallible>(refused.unwrap())
        }
    });
    let world = Arc::<World>::default();
    let spec = json!({ "selector": {}, "server": { "authentication": { "serviceAccounts": { "audiences": ["a"] } } } });
    world.policies_mut().apply(&support::policy("imaging", "p", 1, spec));
    world.mark_read(Part::Policies);
    world.mark_read(Part::ClusterPolicies);
    let (_changed, changes) = watch::channel(());
    let (refreshed, mut keys) = watch::channel(());
    let client = kube::Client::new(service, "default");
    let metrics = Metrics::default();
    let refresh = Duration::from_mins(5);
    let issuers = Issuers { client, world: Arc::clone(&world), changes, refreshed, refresh, allow_private: false, metrics };
    tokio::spawn(issuers.run());
    was_asked.notified().await;
    assert!(!world.has(Part::Issuers), "a sidecar would forget the keys that it has");
    may_go.notify_one();
    timeout(Duration::from_mins(1), keys.changed()).await.expect("told within a minute").unwrap();
    assert!(world.has(Part::Issuers));
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_tells_no_keys_stops_nothing_and_proves_nobody() {
    let silent = |asked: &support::Asked| {
        if asked.uri.contains("openid") { support::failure(StatusCode::FORBIDDEN, "Forbidden") } else { cluster(asked) }
    };
    let world = read(silent).await;
    let accounts = of_pod(&world).service_accounts.unwrap();
    assert_eq!((accounts.issuer.as_str(), accounts.jwks), ("", Value::Null));
}
