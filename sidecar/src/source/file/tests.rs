use std::os::unix::fs::symlink;

use mcp_policy::{Call, Caller, Counters, Decision, ServerName};
use tempfile::TempDir;

use super::*;

const ALLOWS_READ: &str = "tools: {read: {}}";
const ALLOWS_BOTH: &str = "tools: {read: {}, write: {}}";

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn loaded(path: &Path) -> Result<Enforced, String> {
    Content::read(path).map_err(|error| error.to_string())?.enforced(path).map_err(|error| error.to_string())
}

fn allows(state: &State, tool: &str) -> bool {
    let caller = Caller::anonymous([127, 0, 0, 1].into());
    let call = Call { tool, arguments: "", caller: &caller, session: None, server: ServerName { namespace: "", name: "s" } };
    let outcome = state.enforced().policies.decide(&mut Counters::default(), &call, Duration::ZERO);
    matches!(outcome.decision, Decision::Allowed(_))
}

#[test]
fn every_policy_of_a_folder_is_in_force_and_what_is_no_document_is_left_alone() {
    let folder =
        folder(&[("b.yaml", ALLOWS_BOTH), ("a.yml", ALLOWS_READ), ("c.json", r#"{"tools": {"read": {}}}"#), ("notes.txt", "x: [")]);
    fs::write(folder.path().join(".hidden.yaml"), "x: [").unwrap();
    fs::create_dir(folder.path().join("folder.yaml")).unwrap();
    let enforced = loaded(folder.path()).unwrap();
    let names: Vec<_> = enforced.revisions.iter().map(|one| one.policy.to_string()).collect();
    assert_eq!(names, ["a.yml", "b.yaml", "c.json"]);
    let state = State::default();
    state.apply(enforced);
    assert!(allows(&state, "read") && !allows(&state, "write"), "all policies have to agree");
}

#[test]
fn everything_that_is_wrong_with_a_folder_is_told() {
    let manifest = "{apiVersion: mcp-policy.dev/v1alpha1, kind: McpPolicy, metadata: {name: p}, spec: {}}";
    let wrong = folder(&[("a.yaml", "tolls: {}"), ("b.yaml", manifest), ("c.yaml", manifest), ("d.yaml", "x: [")]);
    let error = loaded(wrong.path()).unwrap_err();
    for said in ["a.yaml:1:1: tolls: ", "c.yaml", "already in b.yaml", "d.yaml:"] {
        assert!(error.contains(said), "{said}: {error}");
    }
    assert!(loaded(folder(&[]).path()).unwrap_err().contains("holds no policy"));
    assert!(loaded(Path::new("/nonexistent")).unwrap_err().contains("No such file"));
}

#[test]
fn the_digest_of_a_file_is_that_of_its_text_and_a_folder_changes_with_each_file_that_comes_or_goes() {
    let folder = folder(&[("a.yaml", ALLOWS_READ)]);
    let file = Content::read(&folder.path().join("a.yaml")).unwrap();
    assert_eq!(file.sha256(), hex_sha256(ALLOWS_READ.as_bytes()));
    let digest = || Content::read(folder.path()).unwrap().sha256();
    let one = digest();
    assert_eq!(one, hex_sha256(format!("{}  a.yaml\n", file.sha256()).as_bytes()));
    fs::write(folder.path().join("b.yaml"), ALLOWS_READ).unwrap();
    assert_ne!(digest(), one);
    fs::remove_file(folder.path().join("b.yaml")).unwrap();
    assert_eq!(digest(), one);
}

/// As the kubelet updates a `ConfigMap`: a new folder beside the old one, and one link that is moved from one to the other.
#[tokio::test(start_paused = true)]
async fn a_volume_that_swaps_its_link_is_followed_and_a_wrong_content_never() {
    let volume = tempfile::tempdir().unwrap();
    let path = |name: &str| volume.path().join(name);
    let publish = |version: &str, text: &str| {
        fs::create_dir(path(version)).unwrap();
        fs::write(path(version).join("policy.yaml"), text).unwrap();
        symlink(version, path("..data_tmp")).unwrap();
        fs::rename(path("..data_tmp"), path("..data")).unwrap();
    };
    publish("..2026_1", ALLOWS_READ);
    symlink("..data/policy.yaml", path("policy.yaml")).unwrap();

    for watched in [volume.path().to_owned(), path("policy.yaml")] {
        publish(&format!("..{}", fastrand::u64(..)), ALLOWS_READ);
        let state = Arc::new(State::default());
        let files = PolicyFiles::load(watched, &state).unwrap();
        let following = tokio::spawn(files.follow(Arc::clone(&state)));
        let look = || tokio::time::sleep(2 * LOOK);

        assert!(!allows(&state, "write"));
        publish(&format!("..{}", fastrand::u64(..)), ALLOWS_BOTH);
        look().await;
        assert!(allows(&state, "write"), "the new content is in force");

        publish(&format!("..{}", fastrand::u64(..)), "tolls: {}");
        look().await;
        assert!(allows(&state, "write"), "a wrong content changes nothing");
        let enforced = state.enforced().snapshot.clone().unwrap().sha256;
        assert!(!state.enforces(&hex_sha256(b"tolls: {}")) && state.enforces(&enforced));

        fs::remove_file(path("..data")).unwrap();
        look().await;
        assert!(allows(&state, "write"), "what cannot be read changes nothing");

        publish(&format!("..{}", fastrand::u64(..)), ALLOWS_READ);
        look().await;
        assert!(!allows(&state, "write"), "the next good content is in force");
        following.abort();
    }
}
