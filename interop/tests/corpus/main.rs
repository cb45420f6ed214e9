//! The invariant, between five servers of the official SDKs and whatever a caller can think of: either a request is refused and nothing
//! ran, or exactly what the audit log says ran. mcp.md section 3; each variant names its rule.
//!
//! `docs/conformance/strictness.md` shows what was found: `UPDATE_GOLDEN=1 make test-interop` writes it anew.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod envelope;
mod framing;
mod http;
mod json;
mod legitimate;
mod older;
mod request;
mod run;
mod table;

use std::collections::HashSet;

use mcp_policy_interop::recorder::Recorder;
use mcp_policy_interop::sidecar::Sidecar;
use mcp_policy_interop::wire::{End, exchange};

use request::{Request, Variant};
use run::{ALLOWING, Seen, results};

fn variants() -> Vec<Variant> {
    [json::all(), envelope::all(), http::all(), framing::all()].into_iter().flatten().collect()
}

#[test]
fn there_are_enough_variants_and_each_has_a_name_of_its_own() {
    let (variants, legitimate) = (variants(), legitimate::all());
    assert!(variants.len() >= 150, "{}", variants.len());
    assert!(legitimate.len() >= 60, "{}", legitimate.len());
    let names: HashSet<_> = variants.iter().map(|variant| variant.name).collect();
    assert_eq!(names.len(), variants.len());
}

#[test]
fn what_is_logged_as_allowed_is_what_ran() {
    let mut wrong = Vec::new();
    for found in results() {
        for (variant, row) in variants().iter().zip(&found.variants) {
            for (policy, seen) in [("deny danger", &row.denying), ("allow all", &row.allowing)] {
                if let Err(why) = agrees(seen) {
                    wrong.push(format!("{:?}, {}, {policy}: {why}: {seen:?}", found.sdk, variant.name));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of them:\n{}", wrong.len(), wrong.join("\n"));
}

/// What ran was logged, by name and count; and all that was logged ran, but what the server itself refused.
fn agrees(seen: &Seen) -> Result<(), &'static str> {
    let mut logged = seen.allowed();
    for tool in seen.outcome.tools() {
        let at = logged.iter().position(|logged| *logged == tool).ok_or("something ran that is not logged as allowed")?;
        logged.swap_remove(at);
    }
    if seen.outcome.hung {
        return Err("the connection stayed open without an answer");
    }
    if !logged.is_empty() && seen.outcome.all_succeeded() {
        return Err("something is logged as allowed and did not run, though the server says so");
    }
    Ok(())
}

#[test]
fn a_tool_that_is_denied_never_runs() {
    for found in results() {
        for (variant, row) in variants().iter().zip(&found.variants) {
            assert!(!row.denying.outcome.tools().contains(&"danger"), "{:?}, {}: {row:?}", found.sdk, variant.name);
            assert!(!row.denying.allowed().contains(&"danger"), "{:?}, {}: {row:?}", found.sdk, variant.name);
        }
    }
}

#[test]
fn the_corpus_can_fail() {
    // Without the sidecar most of these servers run the tool that is not to run.
    for found in results() {
        let ran = found.variants.iter().filter(|row| row.direct.tools().contains(&"danger")).count();
        assert!(ran > 30, "{:?}: {ran}", found.sdk);
    }
}

#[test]
fn unusual_messages_run_as_they_run_without_the_sidecar() {
    let mut wrong = Vec::new();
    for (at, message) in legitimate::all().iter().enumerate() {
        let rows: Vec<_> = results().iter().map(|found| (found.sdk, &found.legitimate[at])).collect();
        for (sdk, row) in &rows {
            for seen in [&row.denying, &row.allowing] {
                if seen.outcome.ran != row.direct.ran || seen.outcome.statuses != row.direct.statuses {
                    wrong.push(format!("{sdk:?}, {}: {:?}, without: {:?}", message.name, seen, row.direct));
                }
            }
        }
        if message.runs && rows.iter().all(|(_, row)| row.direct.ran.is_empty()) {
            wrong.push(format!("{}: runs nowhere", message.name));
        }
    }
    assert!(wrong.is_empty(), "{} of them:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn unusual_messages_arrive_as_they_were_sent() {
    let recorder = Recorder::start();
    let sidecar = Sidecar::start(ALLOWING, &recorder.url());
    for message in legitimate::all() {
        let received = exchange(sidecar.address(), &message.request.bytes(), End::Waits);
        assert!(!received.hung && received.answers().len() == 1, "{}: {received:?}", message.name);
        let arrived = recorder.take();
        assert_eq!(arrived.len(), 1, "{}: {:?}", message.name, String::from_utf8_lossy(&received.bytes));
        assert_eq!(arrived[0].line, "POST /mcp HTTP/1.1", "{}", message.name);
        assert_eq!(arrived[0].body, message.request.message(), "{}", message.name);
        let mut headers = arrived[0].headers.clone();
        // Lines of one name keep their order; names may come in another.
        headers.sort_by(|(one, _), (other, _)| one.cmp(other));
        assert_eq!(headers, expected(&message.request, &recorder.address().to_string()), "{}", message.name);
    }
}

/// The headers that may arrive: without those of the connection and without claims, framed by a length, for the server's own authority
/// and with an answer that is not encoded. Rules 12, 13 and 16, and 5.3.
fn expected(request: &Request, authority: &str) -> Vec<(String, Vec<u8>)> {
    let mut headers = Vec::new();
    for line in request.headers() {
        let at = line.iter().position(|byte| *byte == b':').unwrap();
        let name = String::from_utf8(line[..at].to_ascii_lowercase()).unwrap();
        let value = line[at + 1..].trim_ascii();
        match name.as_str() {
            // `Connection` named `x-gone`.
            "connection"
            | "keep-alive"
            | "proxy-connection"
            | "te"
            | "transfer-encoding"
            | "upgrade"
            | "content-length"
            | "expect"
            | "forwarded"
            | "x-forwarded-for"
            | "x-real-ip"
            | "x-http-method-override"
            | "x-gone"
            | "accept-encoding" => {}
            "host" => headers.push((name, authority.into())),
            _ => headers.push((name, value.to_vec())),
        }
    }
    headers.push(("accept-encoding".to_owned(), b"identity".to_vec()));
    headers.push(("content-length".to_owned(), request.message().len().to_string().into_bytes()));
    headers.sort_by(|(one, _), (other, _)| one.cmp(other));
    headers
}

#[test]
fn the_table_is_current() {
    let path = mcp_policy_interop::sidecar::root().join("docs/conformance/strictness.md");
    let table = table::markdown(&variants(), &legitimate::all(), results());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, table).unwrap();
        return;
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    for (number, (written, found)) in written.lines().zip(table.lines()).enumerate() {
        assert_eq!(written, found, "line {}", number + 1);
    }
    assert_eq!(written.lines().count(), table.lines().count(), "run with UPDATE_GOLDEN=1 and read the difference");
}
