//! Rules on arguments, audit mode, and policies that cannot work.

use mcp_policy_e2e::{
    client::Client,
    cluster::{command, run},
    metrics::{complaints, scraped},
    sandbox::{Sandbox, manifest},
    wait::until_true,
};
use serde_json::{Value, json};

const SELECTOR: &str = "selector: {matchLabels: {app: healthimaging-mcp}}";

#[test]
fn a_call_whose_arguments_a_rule_refuses_never_reaches_the_server() {
    let sandbox = Sandbox::new("require");
    sandbox.policy(
        "imaging",
        &format!(
            "{SELECTOR}, tools: {{start_dicom_export_job: {{reason: only our own buckets, require: [{{path: args.bucket, op: regex, value: '^imaging-'}}], \
             denyIf: [{{conditions: [{{cel: 'args.datastore_id == \"d-cardiology\"'}}], reason: cardiology is closed}}]}}, \
             get_image_set: {{arguments: {{schema: {{properties: {{image_set_id: {{pattern: '^i-'}}}}}}}}}}}}"
        ),
    );
    let pod = sandbox.imaging();
    sandbox.until_programmed("imaging");
    let (mut agent, _way) = pod.agent(Client::Python2);
    let export = |datastore: &str, bucket: Value| json!({"datastore_id": datastore, "bucket": bucket});
    let tool = "start_dicom_export_job";
    for (arguments, code, rule, text) in [
        (export("d-radiology", json!("elsewhere")), "require_failed", "/tools/start_dicom_export_job/require/0", "only our own buckets"),
        (json!({"datastore_id": "d-radiology"}), "require_failed", "/tools/start_dicom_export_job/require/0", "only our own buckets"),
        (export("d-radiology", json!(7)), "policy_error", "/tools/start_dicom_export_job/require/0", "only our own buckets"),
        (export("d-cardiology", json!("imaging-1")), "deny_if", "/tools/start_dicom_export_job/denyIf/0", "cardiology is closed"),
    ] {
        let refused = agent.call(tool, &arguments);
        assert_eq!((refused.code(), &refused.denial()["rule"]), (code, &json!(rule)), "{arguments}: {refused:?}");
        assert!(refused.text().contains(text), "{arguments}: {refused:?}");
    }
    assert_eq!(agent.call("get_image_set", &json!({"image_set_id": "../i-0001"})).code(), "arguments_invalid");
    assert_eq!(pod.executions(), [].into());
    assert!(agent.call(tool, &export("d-radiology", json!("imaging-1"))).passed());
    assert!(agent.call("get_image_set", &json!({"image_set_id": "i-0001"})).passed());
    assert_eq!(pod.executions(), [("get_image_set".to_owned(), 1), (tool.to_owned(), 1)].into());
}

#[test]
fn a_policy_in_audit_mode_refuses_nothing_and_tells_what_it_would_have_refused() {
    let sandbox = Sandbox::new("audit-mode");
    let spec = |mode: &str| {
        format!("{SELECTOR}, mode: {mode}, tools: {{list_datastores: {{limits: [{{counter: lists, window: hour, max: 1}}]}}}}")
    };
    sandbox.policy("imaging", &spec("audit"));
    let pod = sandbox.imaging();
    sandbox.until_programmed("imaging");
    let message = sandbox.until_condition("imaging", "Accepted", "True");
    assert!(message.contains("audit mode"), "{message}");
    let columns = sandbox.kubectl(&["get", "mcpp", "imaging", "--no-headers"]);
    let columns: Vec<_> = columns.split_whitespace().collect();
    assert_eq!(columns[..6], ["imaging", "audit", "True", "True", "1", "1"], "{columns:?}");

    let (mut agent, _way) = pod.agent(Client::Python2);
    let (none, image_set) = (json!({}), json!({"image_set_id": "i-0001"}));
    for (tool, arguments) in [("list_datastores", &none), ("list_datastores", &none), ("delete_image_set", &image_set)] {
        let answer = agent.call(tool, arguments);
        assert!(answer.passed() && answer.denial().is_null(), "{tool}: {answer:?}");
    }
    assert!(agent.list().contains(&"delete_image_set".to_owned()), "audit mode hides nothing");
    let executed = [("delete_image_set".to_owned(), 1), ("list_datastores".to_owned(), 2)];
    assert_eq!(pod.executions(), executed.clone().into());

    let labels = format!("policy=\"{}/imaging\",pod=\"{}\",mode=\"audit\"", sandbox.namespace(), pod.name);
    for (tool, code) in [("list_datastores", "allowed"), ("list_datastores", "limit_exceeded"), ("delete_image_set", "default_deny")] {
        let query = format!("mcp_policy_decisions_total{{{labels},tool=\"{tool}\",code=\"{code}\"}}");
        until_true(&format!("{query} is 1"), || scraped(&query) == Some(1.0));
    }
    let metrics = mcp_policy_e2e::metrics::offered(&pod.namespace, &pod.name);
    assert_eq!(complaints(&metrics), Ok(String::new()), "{metrics}");

    sandbox.policy("imaging", &spec("enforce"));
    sandbox.until_programmed("imaging");
    assert_eq!(agent.call("delete_image_set", &image_set).code(), "default_deny");
    assert_eq!(pod.executions(), executed.into());
    let columns = sandbox.kubectl(&["get", "mcpp", "imaging", "--no-headers"]);
    assert_eq!(columns.split_whitespace().nth(1), Some("enforce"), "{columns}");
}

#[test]
fn an_audit_policy_beside_an_enforcing_one_changes_nothing() {
    let sandbox = Sandbox::new("audit-beside");
    sandbox.policy("a-audits", &format!("{SELECTOR}, mode: audit, default: deny"));
    sandbox.policy("b-enforces", &format!("{SELECTOR}, tools: {{list_datastores: {{}}}}"));
    let pod = sandbox.imaging();
    sandbox.until_programmed("a-audits");
    sandbox.until_programmed("b-enforces");
    let (mut agent, _way) = pod.agent(Client::TypeScript1);
    assert!(agent.call("list_datastores", &json!({})).passed());
    let refused = agent.call("list_dicom_export_jobs", &json!({}));
    assert_eq!((refused.code(), &refused.denial()["policy"]), ("default_deny", &json!(format!("{}/b-enforces", sandbox.namespace()))));
    assert_eq!(agent.list(), ["list_datastores"]);
    assert_eq!(pod.executions(), [("list_datastores".to_owned(), 1)].into());
}

#[test]
fn a_wrong_field_of_a_condition_is_refused_at_apply_by_name() {
    let sandbox = Sandbox::new("condition-field");
    for (field, rule) in [
        ("pth", "require: [{pth: args.x, op: eq, value: 1}]"),
        ("vaule", "require: [{path: args.x, op: eq, vaule: 1}]"),
        ("opp", "denyIf: [{conditions: [{path: args.x, opp: eq, value: 1}]}]"),
        ("maxbytes", "arguments: {maxbytes: 7}"),
    ] {
        let wrong = manifest("wrong", &format!("{SELECTOR}, tools: {{t: {{{rule}}}}}"));
        // Not every client asks for strictness.
        for validate in ["--validate=strict", "--validate=false"] {
            let mut apply = command("kubectl");
            apply.args(["-n", sandbox.namespace(), "apply", validate, "-f", "-"]);
            let why = run(&mut apply, Some(wrong.as_bytes())).expect_err(&wrong);
            assert!(why.contains(&format!("{field}: unknown field")), "{field} is not named: {why}");
        }
    }
    for (words, rule) in [
        ("spec.tools.t.require[].op: is required", "require: [{path: args.x, value: 1}]"),
        ("has both `path` and `cel`", "require: [{path: args.x, op: exists, cel: 'true'}]"),
        ("whole number", "limits: [{counter: c, window: day, max: 0.5}]"),
    ] {
        let why = sandbox.try_apply(&manifest("wrong", &format!("{SELECTOR}, tools: {{t: {{{rule}}}}}"))).expect_err(rule);
        assert!(why.contains(words), "{why}");
    }
    // kubectl drops a null itself, but where the server applies.
    let mut server_side = command("kubectl");
    server_side.args(["-n", sandbox.namespace(), "apply", "--server-side", "-f", "-"]);
    let null = manifest("wrong", &format!("{SELECTOR}, tools: {{t: null}}"));
    let why = run(&mut server_side, Some(null.as_bytes())).expect_err("null");
    assert!(why.contains("t: must not be null; write `{}`"), "{why}");
}

#[test]
fn a_condition_that_cannot_work_is_said_within_a_second_and_the_revision_before_stays_in_force() {
    let sandbox = Sandbox::new("condition-bad");
    let spec = |rule: &str| format!("{SELECTOR}, tools: {{list_datastores: {{}}, list_dicom_export_jobs: {{{rule}}}}}");
    sandbox.policy("imaging", &spec("action: deny"));
    let pod = sandbox.imaging();
    sandbox.until_programmed("imaging");
    let (mut agent, _way) = pod.agent(Client::Python2);
    for (path, rule) in [
        ("spec.tools.list_dicom_export_jobs.require[0].value", "require: [{path: args.x, op: regex, value: '('}]"),
        ("spec.tools.list_dicom_export_jobs.require[0].path", "require: [{path: arguments.x, op: exists}]"),
        ("spec.tools.list_dicom_export_jobs.denyIf[0].conditions[0].cel", "denyIf: [{conditions: [{cel: 'tool + 1'}]}]"),
        ("spec.tools.list_dicom_export_jobs.require[0].cel", "require: [{cel: 'size('}]"),
        ("spec.tools.list_dicom_export_jobs.arguments.schema.type", "arguments: {schema: {type: 7}}"),
    ] {
        sandbox.policy("imaging", &spec("action: deny"));
        sandbox.until_programmed("imaging");
        let in_force = sandbox.get_policy("imaging")["metadata"]["generation"].clone();
        sandbox.policy("imaging", &spec(rule));
        let message = sandbox.until_condition("imaging", "Accepted", "False");
        assert!(message.contains(&format!("{path}: ")), "{path} is not named: {message}");
        assert!(message.ends_with(&format!("Generation {in_force} stays in force.")), "{message}");
        let policy: Value =
            serde_json::from_str(&sandbox.kubectl(&["get", "mcppolicy", "imaging", "-o", "json", "--show-managed-fields"])).unwrap();
        let managers = policy["metadata"]["managedFields"].as_array().unwrap();
        let applied = managers.iter().find(|manager| manager["subresource"].is_null()).unwrap();
        let conditions = policy["status"]["conditions"].as_array().unwrap();
        let accepted = conditions.iter().find(|condition| condition["type"] == "Accepted").unwrap();
        // Kubernetes keeps whole seconds.
        let seconds = |time: &Value| {
            let clock = time.as_str().unwrap().split(['T', 'Z']).nth(1).unwrap();
            clock.split(':').fold(0, |sum, part| sum * 60 + part.parse::<i64>().unwrap())
        };
        let took = seconds(&accepted["lastTransitionTime"]) - seconds(&applied["time"]);
        assert!((0..=1).contains(&took.rem_euclid(24 * 3600)), "{took} s: {policy}");
        assert_eq!(agent.call("list_dicom_export_jobs", &json!({})).code(), "tool_denied");
    }
    assert_eq!(pod.executions(), [].into());
    assert!(agent.call("list_datastores", &json!({})).passed());
}
