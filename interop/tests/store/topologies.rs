//! Servers that belong together: sentinels that fail over, a cluster, and one server over TLS for a user of its own.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use mcp_policy::Code;
use mcp_policy::snapshot::StoreCredentials;

use crate::budget::{Sidecar, limited};
use crate::server::{Redis, free_port};

/// Waits for a condition of the servers.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(30), "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_failover_of_sentinels_never_allows_more_than_max_and_is_followed() {
    let mut main = Redis::start(&[]);
    let replica = Redis::start(&["--replicaof", &format!("127.0.0.1 {}", main.port)]);
    until("the replica has the data", || replica.cli(&["info", "replication"]).contains("master_link_status:up")).await;
    let sentinels: Vec<Redis> = (0..3)
        .map(|_| {
            let port = free_port();
            let folder = tempfile::tempdir().unwrap().keep();
            let file = folder.join("sentinel.conf");
            let text = format!(
                "sentinel monitor budget 127.0.0.1 {} 2\nsentinel down-after-milliseconds budget 500\nsentinel failover-timeout budget 3000\n",
                main.port
            );
            fs::write(&file, text).unwrap();
            Redis::sentinel(port, &file)
        })
        .collect();
    until("the sentinels know each other and the replica", || {
        sentinels.iter().all(|sentinel| {
            let told = sentinel.cli(&["sentinel", "master", "budget"]);
            let value = |name: &str| told.lines().skip_while(|line| *line != name).nth(1).unwrap_or_default().to_owned();
            value("num-slaves") == "1" && value("num-other-sentinels") == "2"
        })
    })
    .await;
    let url = format!("redis+sentinel://127.0.0.1:{},127.0.0.1:{}/budget", sentinels[0].port, sentinels[1].port);
    let (deny, local) = (Sidecar::new(&url, &limited(5, 600, "deny")), Sidecar::new(&url, &limited(5, 600, "local")));
    let mut passed = deny.until(Code::Allowed).await;
    main.kill();
    until("the replica serves", || replica.cli(&["role"]).starts_with("master")).await;
    deny.until_connected().await;
    passed += deny.passed(20).await;
    assert!(passed <= 5, "{passed}");
    let (code, wait) = deny.call("").await.unwrap_err();
    assert_eq!(code, Code::StoreUnavailable, "what the last moments of the other server knew may be lost");
    assert!(wait.unwrap() > 500, "{wait:?}");
    local.until_connected().await;
    assert!(local.passed(20).await <= 5, "who says local goes on with what is known");
}

#[tokio::test]
async fn the_counters_of_a_call_sit_on_one_node_of_a_cluster() {
    let nodes: Vec<_> = (0..3)
        .map(|_| Redis::start(&["--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-config-file", "nodes.conf"]))
        .collect();
    let addresses: Vec<_> = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
    let made = Command::new("redis-cli").args(["--cluster", "create"]).args(&addresses).arg("--cluster-yes").output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
    until("the cluster serves", || nodes.iter().all(|node| node.cli(&["cluster", "info"]).contains("cluster_state:ok"))).await;
    let limit = |counter: &str, max| serde_json::json!({"counter": counter, "window": 600, "max": max, "scope": "server"});
    let document = serde_json::json!({"tools": {"t": {"limits": [limit("a", 3), limit("b", 9), limit("c", 9)]}}});
    // Each knows another node first.
    let sidecars = [0, 1, 2].map(|n| Sidecar::new(&format!("redis+cluster://{}", addresses[n]), &document));
    let mut passed = 0;
    for sidecar in &sidecars {
        passed += sidecar.until(Code::Allowed).await;
    }
    assert_eq!(passed, 3);
    assert_eq!(sidecars[1].call("").await.unwrap_err().0, Code::LimitExceeded);
    let keys: Vec<_> = nodes.iter().map(|node| node.cli(&["dbsize"])).filter(|size| size != "0").collect();
    assert_eq!(keys, ["4"], "three budgets and what is known of them, on one node");
}

/// A certificate for 127.0.0.1 and its authority, of which only the sidecar is told.
fn certificates(folder: &std::path::Path) -> String {
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let certificate = authority.self_signed(&authority_key).unwrap();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let server = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    fs::write(folder.join("ca.crt"), certificate.pem()).unwrap();
    fs::write(folder.join("tls.crt"), server.pem()).unwrap();
    fs::write(folder.join("tls.key"), key.serialize_pem()).unwrap();
    certificate.pem()
}

#[tokio::test]
async fn over_tls_a_user_who_may_do_no_more_than_it_needs_is_let_in() {
    let folder = tempfile::tempdir().unwrap();
    let ca = certificates(folder.path());
    let file = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let plain = free_port();
    let (cert, key, ca_file) = (file("tls.crt"), file("tls.key"), file("ca.crt"));
    let tls = free_port();
    let redis = Redis::start_at(
        plain,
        &[
            "--tls-port",
            &tls.to_string(),
            "--tls-cert-file",
            &cert,
            "--tls-key-file",
            &key,
            "--tls-ca-cert-file",
            &ca_file,
            "--tls-auth-clients",
            "no",
        ],
    );
    // As docs/shared-counters.md has it.
    let rules = "resetchannels ~mcp-policy:* +eval +evalsha +info +time +hget +hmget +hset +hdel +del +pexpire +ping";
    let mut command = vec!["acl", "setuser", "mcp-policy", "on", ">geheim"];
    command.extend(rules.split(' '));
    assert_eq!(redis.cli(&command), "OK");
    let user = |password: &str, ca: Option<String>| StoreCredentials {
        username: Some("mcp-policy".to_owned()),
        password: Some(password.to_owned()),
        ca,
        ..StoreCredentials::default()
    };
    let url = format!("rediss://127.0.0.1:{tls}");
    let sidecar = Sidecar::with(&url, user("geheim", Some(ca.clone())), &limited(2, 600, "deny"));
    assert_eq!(sidecar.until(Code::Allowed).await, 1);
    assert_eq!(sidecar.passed(5).await, 1);
    let strangers = [user("geheim", None), user("falsch", Some(ca))];
    for stranger in strangers {
        let stranger = Sidecar::with(&url, stranger, &limited(2, 600, "deny"));
        assert_eq!(stranger.passed(5).await, 0);
        assert!(!stranger.state.store().unwrap().is_connected());
    }
}
