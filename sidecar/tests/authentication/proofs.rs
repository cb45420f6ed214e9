//! Who is let in, and what of the proof the server gets to see.

use http::{HeaderValue, Request, StatusCode};
use http_body_util::Full;
use mcp_policy::Snapshot;
use mcp_policy::snapshot::ReportResult;
use mcp_policy_sidecar::authenticate::now;
use mcp_policy_sidecar::config::{Config, UpstreamUrl};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Client, Server, call, eventually, in_time, manifest, mcp};
use crate::{CLUSTER, Guarded, ISSUER, Issuer, all_allowed, challenge, get, hashed, policy, proving, required, with_token};

#[tokio::test]
async fn a_caller_is_let_in_by_each_kind_of_proof_and_audit_lines_name_it() {
    let (server, issuer, cluster) = (Server::with_tools(&[]).await, Issuer::new(ISSUER), Issuer::new(CLUSTER));
    let authentication =
        required(&json!({"jwt": [issuer.told()], "serviceAccounts": cluster.told(), "keys": [hashed("ci", "mcpk_ci.secret")]}));
    let guarded = Guarded::start(&server, &proving(all_allowed(), authentication)).await;
    let proofs = [
        (issuer.token("alice"), "jwt:https://id.example.com#alice"),
        (cluster.service_account("agents", "planner"), "serviceaccount:agents/planner"),
        ("mcpk_ci.secret".to_owned(), "key:ci"),
    ];
    // On one connection: who calls is each request's own.
    let mut client = Client::connect(guarded.sidecar.proxy).await;
    for (token, _) in &proofs {
        assert!(client.send(with_token(mcp(call(1, "read").to_string()), Some(token))).await.ran());
    }
    assert!(challenge(&client.send(mcp(call(1, "read").to_string())).await).starts_with("Bearer"));
    let lines = guarded.sidecar.audit.at_least(4).await;
    for ((_, name), line) in proofs.iter().zip(&lines) {
        assert_eq!((&line["caller"], &line["code"]), (&json!(name), &json!("allowed")));
    }
    assert_eq!((&lines[3]["caller"], &lines[3]["code"]), (&json!("anonymous:127.0.0.1"), &json!("unauthenticated")));
    let told = format!("{lines:?}{:?}", guarded.sidecar.metrics().await);
    assert!(proofs.iter().all(|(token, _)| !told.contains(token)), "a token is nowhere to be read");
    assert_eq!(server.requests(), 3);
}

/// RFC 6750, 3: what was sent and was wrong is told, and nothing to who sent nothing. mcp.md section 3: "401 no/bad credential".
#[tokio::test]
async fn who_proves_nothing_is_answered_with_a_challenge_and_the_server_hears_nothing() {
    let (server, issuer, other) = (Server::with_tools(&[]).await, Issuer::new(ISSUER), Issuer::new(ISSUER));
    let guarded = Guarded::start(&server, &proving(all_allowed(), required(&json!({"jwt": [issuer.told()]})))).await;

    let missing = guarded.call("read", None).await;
    let metadata = r#"resource_metadata="http://127.0.0.1/.well-known/oauth-protected-resource/mcp""#;
    assert_eq!(challenge(&missing), format!(r#"Bearer realm="mcp", {metadata}"#));
    for (token, reason) in [
        (other.token("alice"), "signature"),
        (issuer.token_until("alice", now() - 60), "expired"),
        (issuer.sign(&json!({"iss": ISSUER, "aud": "another", "sub": "alice", "exp": now() + 60})), "audience"),
        ("not-a-token, of this form at least".to_owned(), "malformed"),
        ("mcpk_ci.secret".to_owned(), "key"),
    ] {
        let refused = guarded.call("read", Some(&token)).await;
        assert!(challenge(&refused).starts_with(r#"Bearer realm="mcp", error="invalid_token", error_description=""#));
        assert!(!refused.text().contains(&token));
        let counted = format!("mcp_policy_unproved_requests_total{{reason=\"{reason}\"}} 1");
        assert!(guarded.sidecar.metrics().await.contains(&counted), "{counted}");
    }
    let oversize = guarded.call("read", Some(&"x".repeat(64 * 1024))).await;
    assert_eq!(oversize.status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    let mut twice = with_token(mcp(call(1, "read").to_string()), Some(&issuer.token("alice")));
    twice.headers_mut().append("authorization", HeaderValue::from_static("Bearer x"));
    assert_eq!(guarded.sidecar.send(twice).await.status, StatusCode::BAD_REQUEST);
    for request in [get("/mcp"), Request::delete("/mcp").header("host", "localhost").body(Full::default()).unwrap()] {
        challenge(&guarded.sidecar.send(request).await);
    }
    challenge(&guarded.sidecar.post(&json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}})).await);
    // From the head: what the body is does not matter, and it is not waited for.
    challenge(&guarded.sidecar.post_bytes("not JSON").await);
    let counted = r#"mcp_policy_decisions_total{policy="",tool="",decision="refused",code="unauthenticated",mode="enforce"} 10"#;
    assert!(guarded.sidecar.metrics().await.contains(counted), "{}", guarded.sidecar.metrics().await);
    assert_eq!(server.requests(), 0);
    assert!(guarded.call("read", Some(&issuer.token("alice"))).await.ran());
}

/// However many callers there are, and however they call themselves: a policy has at most 64 entries.
#[tokio::test]
async fn a_caller_is_a_label_of_metrics_only_in_the_words_of_the_policy_that_names_it() {
    let (server, issuer) = (Server::with_tools(&["read"]).await, Issuer::new(ISSUER));
    let open = json!({"default": "allow"});
    let entry = json!([
        {"kind": "jwt", "issuer": "https://id.*", "subject": "team-*"},
        {"kind": "jwt", "issuer": ISSUER, "claims": {"groups": "radiology"}},
    ]);
    let policies = vec![policy("all", None, &open), policy("teams", Some(entry), &open)];
    let guarded = Guarded::start(&server, &proving(policies, required(&json!({"jwt": [issuer.told()]})))).await;
    for subject in ["team-a", "team-b", "mallory", "eve"] {
        assert!(guarded.call("read", Some(&issuer.token(subject))).await.ran());
    }
    let claims = json!({"iss": ISSUER, "aud": "mcp", "sub": "ann", "exp": now() + 60, "groups": ["x", "radiology"]});
    assert!(guarded.call("read", Some(&issuer.sign(&claims))).await.ran());
    let metrics = guarded.sidecar.metrics().await;
    let decisions: Vec<_> =
        metrics.lines().filter_map(|line| line.strip_prefix("mcp_policy_decisions_total{")?.split_once("mode=")).collect();
    let mut callers: Vec<_> = decisions.into_iter().map(|(_, rest)| rest).collect();
    callers.sort_unstable();
    let expected = [
        r#""enforce",caller="jwt:https://id.*#team-*"} 2"#,
        r#""enforce",caller="jwt:https://id.example.com#* groups=\"radiology\""} 1"#,
        r#""enforce"} 2"#,
    ];
    assert_eq!(callers, expected, "{metrics}");
}

/// "An anonymous caller gets `unauthenticated` with 401 if a policy of the pod names a kind of caller that this sidecar can prove."
#[tokio::test]
async fn the_anonymous_are_let_in_only_where_a_policy_names_them_and_nothing_was_sent() {
    let (server, issuer) = (Server::with_tools(&["open", "secret"]).await, Issuer::new(ISSUER));
    let policies = vec![
        policy("alice", Some(json!([{"kind": "jwt", "issuer": ISSUER, "subject": "alice"}])), &json!({"tools": {"secret": {}}})),
        policy("anybody", Some(json!([{"kind": "anonymous", "address": "127.0.0.0/8"}])), &json!({"tools": {"open": {}}})),
    ];
    let authentication = required(&json!({"jwt": [issuer.told()]}));
    let mut guarded = Guarded::start(&server, &proving(policies, authentication.clone())).await;
    let (alice, bob) = (issuer.token("alice"), issuer.token("bob"));
    assert!(guarded.call("open", None).await.ran());
    assert_eq!(guarded.call("secret", None).await.denial()["code"], "default_deny");
    assert!(guarded.call("secret", Some(&alice)).await.ran());
    assert_eq!(guarded.call("open", Some(&alice)).await.denial()["code"], "default_deny");
    assert_eq!(guarded.call("open", Some(&bob)).await.denial()["code"], "no_policy", "proved, and nobody speaks of him");
    challenge(&guarded.call("open", Some("rubbish")).await);

    let lists = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}});
    assert_eq!(guarded.post(&lists, &alice, None).await.tools(), ["secret"]);
    let refused = guarded.post(&lists, &bob, None).await.json();
    assert_eq!(refused["error"]["data"]["mcp-policy.dev/denial"]["code"], "no_policy");
    assert_eq!(guarded.sidecar.post(&lists).await.tools(), ["open"]);
    assert_eq!(server.requests(), 4);

    let elsewhere = policy("anybody", Some(json!([{"kind": "anonymous", "address": "10.0.0.0/8"}])), &json!({"default": "allow"}));
    guarded.enforce(&proving(vec![elsewhere], authentication)).await;
    challenge(&guarded.call("open", None).await);
    assert_eq!(server.requests(), 4);
}

#[tokio::test]
async fn while_no_policy_that_enforces_asks_callers_are_proved_for_the_record_and_nobody_is_refused() {
    let (server, issuer) = (Server::with_tools(&[]).await, Issuer::new(ISSUER));
    let authentication = json!({"required": false, "jwt": [issuer.told()]});
    let guarded = Guarded::start(&server, &proving(all_allowed(), authentication)).await;
    for token in [None, Some("rubbish"), Some(&*issuer.token("alice"))] {
        assert!(guarded.call("read", token).await.ran(), "{token:?}");
    }
    let callers: Vec<_> = guarded.sidecar.audit.at_least(3).await.iter().map(|line| line["caller"].clone()).collect();
    assert_eq!(callers, ["anonymous:127.0.0.1", "anonymous:127.0.0.1", "jwt:https://id.example.com#alice"]);
    let foreign = guarded.post(&call(1, "read"), &issuer.token("bob"), Some("of-nobody")).await;
    assert!(foreign.ran());
    assert_eq!(server.got()[1].headers["authorization"], "Bearer rubbish", "it may be the server's own matter");
    guarded.sidecar.send(get("/.well-known/oauth-protected-resource")).await;
    assert_eq!(server.requests(), 5, "and so may be the document");
}

#[tokio::test]
async fn the_server_sees_of_the_proof_what_the_policies_say() {
    let (server, issuer) = (Server::with_tools(&[]).await, Issuer::new(ISSUER));
    let token = issuer.token("alice");
    let kept = format!("Bearer {token}");
    let said = |more: Value| {
        let mut authentication = required(&json!({"jwt": [issuer.told()]}));
        authentication.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        proving(all_allowed(), authentication)
    };
    let own = json!({"credential": {"revision": "1", "value": "Basic b3duOnNlY3JldA=="}, "authorization": "keep"});
    let mut guarded = Guarded::start(&server, &Snapshot::new(all_allowed())).await;
    for (snapshot, seen) in [
        (Snapshot::new(all_allowed()), Some(kept.as_str())),
        (said(json!({})), None),
        (said(json!({"authorization": "keep"})), Some(kept.as_str())),
        (said(own), Some("Basic b3duOnNlY3JldA==")),
    ] {
        guarded.enforce(&snapshot).await;
        assert!(guarded.call("read", Some(&token)).await.ran());
        let got = server.got().pop().unwrap();
        assert_eq!(got.headers.get("authorization").map(|value| value.to_str().unwrap()), seen);
    }
    let mut discovery = get("/.well-known/oauth-authorization-server");
    discovery.headers_mut().insert("authorization", HeaderValue::from_static("Bearer x"));
    guarded.sidecar.send(discovery).await;
    let got = server.got().pop().unwrap();
    assert_eq!((got.target.as_str(), got.headers.get("authorization")), ("/.well-known/oauth-authorization-server", None));
    let lines = format!("{:?}", guarded.sidecar.audit.at_least(4).await);
    assert!(!lines.contains("b3duOnNlY3JldA"));
}

/// RFC 9728, 3 and 5.1; mcp.md 5.3: "These GETs pass (or are served) without JSON-RPC policy, session or body."
#[tokio::test]
async fn clients_find_out_without_a_token_whose_tokens_are_taken() {
    let (server, issuer) = (Server::with_tools(&[]).await, Issuer::new(ISSUER));
    let mut guarded = Guarded::start(&server, &proving(all_allowed(), required(&json!({"jwt": [issuer.told()]})))).await;
    for path in ["/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/mcp"] {
        let document = guarded.sidecar.send(get(path)).await;
        assert_eq!(document.headers["content-type"], "application/json");
        let expected = json!({
            "resource": "http://localhost:8080/mcp",
            "authorization_servers": [ISSUER],
            "bearer_methods_supported": ["header"],
        });
        assert_eq!((document.status, document.json()), (StatusCode::OK, expected));
    }
    assert_eq!(guarded.sidecar.send(get("/.well-known/oauth-protected-resource/other")).await.status, StatusCode::NOT_FOUND);
    assert_eq!(server.requests(), 0);

    let resource = "https://mcp.example.com/imaging";
    let named = required(&json!({"jwt": [issuer.told()], "resource": resource}));
    guarded.enforce(&proving(all_allowed(), named)).await;
    let document = guarded.sidecar.send(get("/.well-known/oauth-protected-resource")).await;
    assert_eq!(document.json()["resource"], resource);
    let metadata = r#"resource_metadata="https://mcp.example.com/.well-known/oauth-protected-resource/mcp""#;
    assert!(challenge(&guarded.call("read", None).await).ends_with(metadata));

    // Without an authorization server there is nothing to find here; the server may have its own.
    let keys = required(&json!({"keys": [hashed("ci", "mcpk_ci.secret")]}));
    guarded.enforce(&proving(all_allowed(), keys)).await;
    assert_eq!(challenge(&guarded.call("read", None).await), r#"Bearer realm="mcp""#);
    guarded.sidecar.send(get("/.well-known/oauth-protected-resource")).await;
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn what_cannot_prove_anybody_is_refused_and_what_was_before_stays() {
    let (server, issuer) = (Server::with_tools(&[]).await, Issuer::new(ISSUER));
    let good = proving(all_allowed(), required(&json!({"jwt": [issuer.told()]})));
    let mut guarded = Guarded::start(&server, &good).await;
    for (wrong, named) in [
        (json!({"jwt": [{"issuer": "https://other", "audiences": ["mcp"], "jwks": "none"}]}), "jwks of issuer https://other"),
        (json!({"keys": [{"name": "ci", "salt": "00", "sha256": "00"}]}), "key of ci"),
        (json!({"credential": {"revision": "1", "value": "Bearer a\nb"}}), "credential"),
        (json!({"resource": "mcp"}), "resource: mcp"),
    ] {
        let (result, error) = guarded.offer(&proving(all_allowed(), required(&wrong))).await;
        assert_eq!(result, ReportResult::Nack);
        assert!(error.contains(named) && !error.contains("Bearer a"), "{error}");
    }
    challenge(&guarded.call("read", None).await);
    assert!(guarded.call("read", Some(&issuer.token("alice"))).await.ran());
}

/// Without an operator there is nobody who fetches keys. A sidecar that took no notice would let everybody in.
#[test]
fn a_policy_file_that_asks_for_proofs_is_refused_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("policy.json");
    let mut policy = manifest("enforce", &json!({"default": "allow"}));
    policy["spec"]["server"] = json!({"authentication": {"jwt": [{"issuer": ISSUER, "audiences": ["mcp"]}]}});
    std::fs::write(&file, policy.to_string()).unwrap();
    let config = Config::standalone(file, "127.0.0.1:0".parse().unwrap(), UpstreamUrl::parse("http://127.0.0.1:1").unwrap(), None);
    let error = mcp_policy_sidecar::run(config, std::io::sink()).unwrap_err().to_string();
    assert!(error.contains("ns/p") && error.contains("server.authentication"), "{error}");
}

/// Who sends its body slowly cannot outlive the key that its head was sent with.
#[tokio::test]
async fn a_key_that_is_revoked_while_a_body_comes_proves_nothing_any_more() {
    let server = Server::with_tools(&[]).await;
    let keys = |keys: Value| proving(all_allowed(), required(&json!({"keys": keys, "authorization": "keep"})));
    let (ci, cd) = (hashed("ci", "mcpk_ci.a"), hashed("cd", "mcpk_cd.b"));
    let mut guarded = Guarded::start(&server, &keys(json!([ci, cd]))).await;
    let body = call(1, "read").to_string();
    let mut slow = Vec::new();
    for key in ["mcpk_ci.a", "mcpk_cd.b"] {
        let mut stream = TcpStream::connect(guarded.sidecar.proxy).await.unwrap();
        let head = format!(
            "POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nauthorization: Bearer {key}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(format!("{head}{}", &body[..10]).as_bytes()).await.unwrap();
        slow.push(stream);
    }
    eventually("both are being read", async || guarded.sidecar.metrics().await.contains("mcp_policy_requests_in_flight 2")).await;
    guarded.enforce(&proving(all_allowed(), required(&json!({"keys": [cd]})))).await;
    for (mut stream, status) in slow.into_iter().zip(["HTTP/1.1 401", "HTTP/1.1 200"]) {
        stream.write_all(&body.as_bytes()[10..]).await.unwrap();
        let mut answer = [0; 12];
        in_time("an answer", stream.read_exact(&mut answer)).await.unwrap();
        assert_eq!(std::str::from_utf8(&answer).unwrap(), status);
    }
    assert_eq!(server.requests(), 1);
    assert_eq!(server.got()[0].headers.get("authorization"), None, "as the policies say by then");
}
