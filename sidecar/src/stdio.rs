//! Between a client and a server that both speak MCP on stdio: what a desktop client starts in the place of the server. The server
//! is a child process; it ends with its client, or on a signal, and its exit code becomes ours.

pub mod child;
pub mod conversation;
pub mod lines;

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::process::ChildStdout;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::books::Books;
use crate::drain::Drain;
use crate::error::Error;
use crate::stdio::child::{Input, LAST_WORDS, Process, exit_code};
pub use conversation::{Broken, Conversation};

/// A sidecar between one client and one server.
#[derive(Debug)]
pub struct Pair<R, W> {
    /// Where health and metrics are served.
    pub admin: Option<SocketAddr>,
    /// How it is made to end.
    pub drain: Drain,
    pub(crate) tasks: JoinSet<&'static str>,
    pub(crate) books: Arc<Books>,
    pub(crate) client: R,
    pub(crate) conversation: Conversation<W>,
    pub(crate) input: Input,
    pub(crate) output: ChildStdout,
    pub(crate) process: Process,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Pair<R, W> {
    /// Runs until the server ends, the client is gone, or it is told to end ([`Drain::terminate`]). Returns the server's exit code.
    /// The end of the client's input is the end of the server's: what the server makes of that is its own business.
    pub async fn finished(self) -> Result<u8, Error> {
        let Self { drain, mut tasks, books, client, conversation, input, output, mut process, .. } = self;
        let outcome = {
            let mut from_server = pin!(conversation.from_server(output));
            let from_client = async {
                if let Err(broken) = conversation.from_client(client).await {
                    return broken;
                }
                input.close();
                std::future::pending().await
            };
            tokio::select! {
                ended = &mut from_server => ended.map_err(Error::from),
                broken = from_client => Err(broken.into()),
                told = conversation.follow_policies() => told.map_err(Error::from),
                _ = process.ended() => {
                    // It may have left others behind that keep its output open.
                    timeout(LAST_WORDS, from_server).await.unwrap_or(Ok(())).map_err(Error::from)
                }
                () = drain.terminating() => Ok(()),
                Some(ended) = tasks.join_next() => Err(Error::TaskEnded(ended.unwrap_or("a task"))),
            }
        };
        drain.terminate();
        input.close();
        // A client that does not listen is not waited for.
        let _ = timeout(LAST_WORDS, conversation.end()).await;
        let status = process.end().await.map_err(|cause| Error::System { what: "cannot wait for the server", cause })?;
        books.flush().await;
        match outcome {
            // How every client leaves.
            Ok(()) | Err(Error::Broken(Broken::Client(_))) => Ok(exit_code(status)),
            Err(error) => Err(error),
        }
    }
}
