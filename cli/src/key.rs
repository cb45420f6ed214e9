//! `mcp-policy key`: keys by which callers prove who they are. A key is shown once, when it is made; a Secret holds a salted hash of it.
//! Each key has an entry of its own there, and each change writes that entry only: what two people do at once stands side by side.

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use mcp_policy::document::duration_seconds;
use mcp_policy::key::{KEY_PREFIX, StoredKey, is_key_name, read_key};
use mcp_policy::snapshot::SnapshotKey;
use serde_json::{Map, Value, json};

use crate::kubectl::{Kubectl, Target};
use crate::table;

const KIND: &str = "secrets";
/// When a key was made, in its id.
const MADE: &str = "%y%m%d-%H%M%S";

/// What is asked.
#[derive(Debug, Args)]
pub struct Options {
    #[command(subcommand)]
    verb: Verb,
    /// The Secret that has the keys, as `server.authentication.keys.secretName` of a policy names it
    #[arg(long, global = true, value_name = "SECRET", default_value = "mcp-policy-keys")]
    secret: String,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a key for a caller, and print it
    Create {
        /// The caller: a name as Kubernetes' labels have it
        #[arg(value_parser = name)]
        name: String,
        /// For how long it is valid: one number and one of s, m, h, d; without it, until it is revoked
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        expires: Option<u64>,
    },
    /// List the keys: for whom, since when and until when
    List,
    /// Take keys back; within a second nobody proves anything with them
    Revoke {
        /// A caller, for all its keys, or one of them: NAME.ID
        #[arg(value_name = "NAME[.ID]")]
        which: String,
    },
}

fn name(text: &str) -> Result<String, String> {
    if is_key_name(text) {
        Ok(text.to_owned())
    } else {
        Err("is not a name: at most 63 of a-z, 0-9 and -, with none of - at an end".to_owned())
    }
}

fn duration(text: &str) -> Result<u64, String> {
    duration_seconds(text).filter(|seconds| *seconds > 0).ok_or_else(|| "is not a duration such as 90d".to_owned())
}

/// Makes, lists or takes back.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let keys = Keys { kubectl: options.target.kubectl(), secret: &options.secret };
    match &options.verb {
        Verb::Create { name, expires } => keys.create(name, *expires)?,
        Verb::List => keys.list()?,
        Verb::Revoke { which } => keys.revoke(which)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The keys of one Secret.
struct Keys<'a> {
    kubectl: Kubectl<'a>,
    secret: &'a str,
}

impl Keys<'_> {
    fn create(&self, name: &str, expires: Option<u64>) -> anyhow::Result<()> {
        let key = format!("{KEY_PREFIX}{name}.{}", URL_SAFE_NO_PAD.encode(random::<32>()?));
        let now = Timestamp::now();
        let until = expires.map(|seconds| seconds.saturating_add(now.as_second().unsigned_abs()));
        let stored = StoredKey::new(&key, random()?, until);
        let [high, low] = random()?;
        let entry = format!("{name}.{}-{high:02x}{low:02x}", now.strftime(MADE));
        self.put(&entry, &serde_json::to_string(&stored)?)?;
        println!("{key}");
        let end = until.map_or_else(|| "has no end".to_owned(), |until| format!("ends {}", moment(until)));
        eprintln!("{entry} {end}. This is the only time that the key is shown.");
        Ok(())
    }

    /// Writes one entry, into a new Secret if there is none.
    fn put(&self, entry: &str, value: &str) -> anyhow::Result<()> {
        let entries = json!({ (entry): value });
        match self.kubectl.patch(KIND, self.secret, &json!({ "stringData": entries })) {
            Err(error) if Kubectl::is_not_found(&error) => {}
            patched => return patched.map(drop),
        }
        let secret =
            json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": self.secret }, "type": "Opaque", "stringData": entries });
        match self.kubectl.create(&secret) {
            // Somebody else was faster.
            Err(error) if Kubectl::is_already_there(&error) => {
                self.kubectl.patch(KIND, self.secret, &json!({ "stringData": entries })).map(drop)
            }
            created => created.map(drop),
        }
    }

    /// The entries of the Secret, with those of them that are keys.
    fn entries(&self) -> anyhow::Result<Vec<(String, Option<SnapshotKey>)>> {
        let secret = self.kubectl.get(KIND, self.secret)?;
        let data = secret.get("data").and_then(Value::as_object).cloned().unwrap_or_default();
        let read = |entry: &str, value: &Value| read_key(entry, &STANDARD.decode(value.as_str()?).ok()?).ok();
        Ok(data.iter().map(|(entry, value)| (entry.clone(), read(entry, value))).collect())
    }

    fn list(&self) -> anyhow::Result<()> {
        let now = Timestamp::now().as_second().unsigned_abs();
        let mut rows = vec![["NAME", "ID", "MADE", "EXPIRES"].map(str::to_owned)];
        for (entry, key) in self.entries()? {
            let (Some(key), Some((name, id))) = (key, entry.split_once('.')) else {
                eprintln!("warning: {entry} is not a key, and proves nobody");
                continue;
            };
            let expires = match key.until {
                Some(until) if until < now => "expired".to_owned(),
                Some(until) => moment(until),
                None => "never".to_owned(),
            };
            rows.push([name.to_owned(), id.to_owned(), made(id).map_or_else(|| "-".to_owned(), moment), expires]);
        }
        if rows.len() == 1 {
            eprintln!("no keys");
        } else {
            table::print(&rows);
        }
        Ok(())
    }

    fn revoke(&self, which: &str) -> anyhow::Result<()> {
        let is_meant = |entry: &str| entry == which || entry.split_once('.').is_some_and(|(name, _)| name == which);
        let entries: Vec<_> = self.entries()?.into_iter().map(|(entry, _)| entry).filter(|entry| is_meant(entry)).collect();
        if entries.is_empty() {
            bail!("Secret {} has no key {which}", self.secret);
        }
        let gone: Map<_, _> = entries.iter().map(|entry| (entry.clone(), Value::Null)).collect();
        self.kubectl.patch(KIND, self.secret, &json!({ "data": gone }))?;
        for entry in entries {
            println!("revoked {entry}");
        }
        Ok(())
    }
}

fn random<const BYTES: usize>() -> anyhow::Result<[u8; BYTES]> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).context("the system gives no random bytes")?;
    Ok(bytes)
}

/// A moment in seconds since 1970, as people read it.
fn moment(seconds: u64) -> String {
    let timestamp = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    timestamp.map_or_else(|| "never".to_owned(), |timestamp| timestamp.to_string())
}

/// When a key was made, by its id.
fn made(id: &str) -> Option<u64> {
    let (text, _) = id.rsplit_once('-')?;
    let zoned = DateTime::strptime(MADE, text).ok()?.to_zoned(TimeZone::UTC).ok()?;
    u64::try_from(zoned.timestamp().as_second()).ok()
}
