//! What can stop the sidecar, and the exit code that says which kind it was.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::capture::CaptureError;
use crate::config::ConfigError;
use crate::drain::NotAsked;
use crate::state::ApplyError;
use crate::stdio::child::NotStarted;
use crate::stdio::conversation::Broken;

/// Exit code of a wrong configuration (`EX_USAGE`): starting again with the same one cannot help.
pub const EXIT_CONFIGURATION: u8 = 64;
/// Exit code of everything that fails at run time.
pub const EXIT_RUN_TIME: u8 = 1;

/// Why the sidecar did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An option or environment variable is missing or wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The policy file cannot be read.
    #[error("{}: {cause}", path.display())]
    PolicyFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The policy file is not a policy.
    #[error(transparent)]
    Policy(#[from] ApplyError),
    /// The server cannot be reached over TLS from this machine.
    #[error("https: {0}")]
    Tls(String),
    /// The server cannot be started.
    #[error(transparent)]
    Server(#[from] NotStarted),
    /// A conversation on stdio broke off.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {cause}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        cause: io::Error,
    },
    /// The capture rules could not be loaded.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The system refused something that the sidecar cannot do without.
    #[error("{what}: {cause}")]
    System {
        /// What was wanted.
        what: &'static str,
        /// What the system said.
        cause: io::Error,
    },
    /// A part that must run as long as the process does has ended.
    #[error("{0} ended unexpectedly")]
    TaskEnded(&'static str),
    /// The running sidecar could not be asked to drain.
    #[error(transparent)]
    Drain(#[from] NotAsked),
}

impl Error {
    /// The process's exit code for this error.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::PolicyFile { .. } | Self::Policy(_) | Self::Tls(_) | Self::Server(_) => EXIT_CONFIGURATION,
            Self::Listen { .. } | Self::Broken(_) | Self::Capture(_) | Self::System { .. } | Self::TaskEnded(_) | Self::Drain(_) => {
                EXIT_RUN_TIME
            }
        }
    }
}
