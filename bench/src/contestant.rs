//! What is measured: a process each, all before the same server, all on the same core.

use std::fmt;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::{Map, json};
use tempfile::TempDir;

use crate::load::times;

/// The core of the proxies. Server and load share the other one.
const PROXY_CORE: &str = "0";

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Programs {
    /// What `bench/install` filled.
    pub installed: PathBuf,
    /// Our own.
    pub sidecar: PathBuf,
}

/// Who takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No proxy.
    Direct,
    /// nginx as a plain reverse proxy.
    Nginx,
    /// Envoy with MCP filter, RBAC and local rate limit.
    Envoy,
    /// The sidecar, allowing all.
    Off,
    /// The sidecar with an allow-list, one rule on an argument, one limit.
    On,
    /// The sidecar with 500 rules.
    Rules,
}

impl Kind {
    /// All of them, in the order of tables.
    pub const ALL: [Self; 6] = [Self::Direct, Self::Nginx, Self::Envoy, Self::Off, Self::On, Self::Rules];

    /// For tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Nginx => "nginx",
            Self::Envoy => "Envoy",
            Self::Off => "sidecar, off",
            Self::On => "sidecar, on",
            Self::Rules => "sidecar, 500 rules",
        }
    }
}

impl Programs {
    /// Whether this one can take part.
    #[must_use]
    pub fn have(&self, kind: Kind) -> bool {
        match kind {
            Kind::Envoy => envoy(&self.installed).is_ok(),
            Kind::Direct | Kind::Nginx | Kind::Off | Kind::On | Kind::Rules => true,
        }
    }
}

/// One that runs. It ends with this value.
#[derive(Debug)]
pub struct Contestant {
    /// Which.
    pub kind: Kind,
    /// Where it is called.
    pub address: SocketAddr,
    /// From starting the process to its first answer; none without a process.
    pub ready: Option<Duration>,
    process: Option<Child>,
    _dir: TempDir,
}

/// Resident memory, in MiB.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    resident: f64,
    /// What of it is no file: processes of one image share its files.
    anonymous: f64,
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} ({:.1})", self.resident, self.anonymous)
    }
}

impl Contestant {
    /// Starts it and waits for its first answer.
    pub async fn start(kind: Kind, programs: &Programs, upstream: SocketAddr) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let address = if kind == Kind::Direct { upstream } else { free_address()? };
        let began = Instant::now();
        let process = command(kind, programs, dir.path(), address, upstream)?
            .map(|mut command| command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn())
            .transpose()
            .with_context(|| format!("cannot start {}", kind.name()))?;
        while let Err(cause) = times(address, 1).await {
            if began.elapsed() > Duration::from_secs(20) {
                bail!("{} does not answer: {cause:#}", kind.name());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let ready = process.is_some().then(|| began.elapsed());
        Ok(Self { kind, address, ready, process, _dir: dir })
    }

    /// Memory that is resident.
    pub fn memory(&self) -> anyhow::Result<Memory> {
        let Some(process) = &self.process else { return Ok(Memory::default()) };
        let status = fs::read_to_string(format!("/proc/{}/status", process.id()))?;
        let kibibytes = |name: &str| -> anyhow::Result<f64> {
            let value = status.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
            Ok(value.trim().trim_end_matches(" kB").parse()?)
        };
        Ok(Memory { resident: kibibytes("VmRSS:")? / 1024.0, anonymous: kibibytes("RssAnon:")? / 1024.0 })
    }

    /// Time that all its threads ran so far.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        let Some(process) = &self.process else { return Ok(Duration::ZERO) };
        let mut nanos = 0;
        for thread in fs::read_dir(format!("/proc/{}/task", process.id()))? {
            let text = fs::read_to_string(thread?.path().join("schedstat"))?;
            nanos += text.split(' ').next().context("no schedstat")?.parse::<u64>()?;
        }
        Ok(Duration::from_nanos(nanos))
    }
}

impl Drop for Contestant {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // It may have ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// An address of this machine that nobody listens on.
pub fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn command(kind: Kind, programs: &Programs, dir: &Path, listen: SocketAddr, upstream: SocketAddr) -> anyhow::Result<Option<Command>> {
    let fill = |name: &str, template: &str| -> anyhow::Result<PathBuf> {
        let values = [
            ("{dir}", dir.display().to_string()),
            ("{listen}", listen.to_string()),
            ("{host}", listen.ip().to_string()),
            ("{port}", listen.port().to_string()),
            ("{upstream}", upstream.to_string()),
            ("{upstream_host}", upstream.ip().to_string()),
            ("{upstream_port}", upstream.port().to_string()),
        ];
        let path = dir.join(name);
        fs::write(&path, values.iter().fold(template.to_owned(), |text, (key, value)| text.replace(key, value)))?;
        Ok(path)
    };
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", PROXY_CORE]);
    let sidecar = |mut command: Command, policy: PathBuf| {
        command.arg(&programs.sidecar).args(["run", "--policy"]).arg(policy);
        command.args(["--listen", &listen.to_string(), "--upstream", &format!("http://{upstream}")]);
        Some(command)
    };
    Ok(match kind {
        Kind::Direct => None,
        Kind::Nginx => {
            command.args(["nginx", "-p"]).arg(dir).arg("-c").arg(fill("nginx.conf", include_str!("../contestants/nginx.conf"))?);
            Some(command)
        }
        Kind::Envoy => {
            command.arg(envoy(&programs.installed)?).args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "off", "-c"]);
            command.arg(fill("envoy.yaml", include_str!("../contestants/envoy.yaml"))?);
            Some(command)
        }
        Kind::Off => sidecar(command, fill("off.json", r#"{"default": "allow"}"#)?),
        Kind::On => sidecar(command, fill("on.yaml", include_str!("../contestants/on.yaml"))?),
        Kind::Rules => sidecar(command, fill("rules.json", &rules())?),
    })
}

fn envoy(installed: &Path) -> anyhow::Result<PathBuf> {
    let lib = installed.join("envoy/lib");
    let python = fs::read_dir(&lib).with_context(|| format!("{}: run bench/install", lib.display()))?.next().context("no Envoy")??;
    Ok(python.path().join("site-packages/envoy/_bin/envoy"))
}

/// 500 rules, of which the last concerns the call.
fn rules() -> String {
    let rule = || json!({"require": [{"path": "args.study", "op": "regex", "value": "^s-[0-9]+$"}]});
    let mut tools: Map<_, _> = (0..499).map(|number| (format!("tool_{number}"), rule())).collect();
    let mut last = rule();
    last["limits"] = json!([{"counter": "reads", "window": "minute", "max": 1_000_000_000}]);
    tools.insert("read_study".to_owned(), last);
    json!({"version": "1", "default": "deny", "tools": tools}).to_string()
}
