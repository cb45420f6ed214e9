//! A stdio server as a child process: its pipes, and its end.
//!
//! Guarantees: a line is written whole or not at all as far as the server can tell; the processes that the server started end with
//! it, for they are one process group.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use bytes::Bytes;
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::io::{AsyncRead, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::answer::answer_fault::AnswerFault;
use crate::config::ServerCommand;
use crate::stdio::lines::{Line, Lines};

/// How long a server may take to end after its input was closed, and then after SIGTERM. Clients that end us by the same steps give
/// two seconds for each, so ours together must be shorter.
const GRACE: Duration = Duration::from_millis(900);

/// How long is waited for the last words of a server that has ended.
pub(crate) const LAST_WORDS: Duration = Duration::from_millis(500);

/// How often processes that are to end are looked for.
const LOOK: Duration = Duration::from_millis(10);

/// Lines on their way to a server. A server that does not read holds up whoever writes.
const QUEUE: usize = 64;

/// Longer lines of a server's standard error are left out.
const MAX_LOG_LINE: usize = 64 * 1024;

/// The server cannot be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start {program}: {cause}")]
pub struct NotStarted {
    program: String,
    cause: io::Error,
}

/// Starts a server. Its standard error goes to ours, line by line. To be called within a tokio runtime.
pub fn start(command: &ServerCommand) -> Result<Server, NotStarted> {
    spawn(command).map_err(|cause| NotStarted { program: command.program.to_string_lossy().into_owned(), cause })
}

fn spawn(command: &ServerCommand) -> io::Result<Server> {
    let mut child = Command::new(&command.program)
        .args(&command.arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A signal from the terminal reaches us only, and we end the server in order.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    // They were just asked for.
    let (Some(input), Some(output), Some(errors)) = (child.stdin.take(), child.stdout.take(), child.stderr.take()) else {
        return Err(io::ErrorKind::BrokenPipe.into());
    };
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    tokio::spawn(pass_on(errors));
    Ok(Server { process: Process { child, group }, input: Input::new(input), output })
}

/// A server that runs.
#[derive(Debug)]
pub struct Server {
    /// Its processes.
    pub process: Process,
    /// The way into it.
    pub input: Input,
    /// What it says.
    pub output: ChildStdout,
}

impl Server {
    /// Gives every line that the server says to `pass`, none for one of more than `max_line` bytes, until the server ends or `told` does.
    /// Then calls `over`, and ends the server and whatever it started. Returns whether it was told to end.
    pub async fn serve(self, max_line: usize, pass: impl Fn(Option<&[u8]>), told: impl Future<Output = ()>, over: impl FnOnce()) -> bool {
        let Self { mut process, input, output } = self;
        let told = {
            let mut reading = pin!(async {
                let mut lines = Lines::new(output, max_line);
                // A server that cannot be read is one that has ended.
                while let Ok(Some(line)) = lines.next().await {
                    match line {
                        Line::Whole(line) => pass(Some(&line)),
                        Line::TooLong => pass(None),
                    }
                }
            });
            tokio::select! {
                () = &mut reading => false,
                _ = process.ended() => {
                    // It may have left others behind that keep its output open.
                    let _ = timeout(LAST_WORDS, reading).await;
                    false
                }
                () = told => true,
            }
        };
        over();
        input.close();
        match process.end().await {
            Ok(status) if told => tracing::info!(%status, "the server has ended"),
            Ok(status) => tracing::warn!(%status, "the server has ended of its own accord"),
            Err(error) => tracing::error!(%error, "cannot wait for the server"),
        }
        told
    }
}

/// Passes on what a server writes to its standard error, so that lines of several do not mix.
async fn pass_on(errors: impl AsyncRead + Unpin) {
    use std::io::Write;
    let mut lines = Lines::new(errors, MAX_LOG_LINE);
    while let Ok(Some(line)) = lines.next().await {
        let Line::Whole(mut line) = line else { continue };
        line.push(b'\n');
        // Logs that nobody takes are lost, as our own are.
        let _ = io::stderr().write_all(&line);
    }
}

/// The way into a server. Clones are the same.
#[derive(Clone, Debug)]
pub struct Input {
    lines: mpsc::Sender<Entry>,
    closed: CancellationToken,
}

#[derive(Debug)]
struct Entry {
    line: Bytes,
    written: Option<oneshot::Sender<Result<(), WriteError>>>,
}

/// Why a line did not go to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// Nothing of it went.
    #[error("the server takes no more messages")]
    Closed,
    /// A part of it may have gone.
    #[error("the server stopped in the middle of a message")]
    Cut,
}

impl WriteError {
    /// The same for metrics, audit lines and the agent.
    #[must_use]
    pub fn fault(self) -> AnswerFault {
        match self {
            Self::Closed => AnswerFault::NotReached,
            Self::Cut => AnswerFault::NoAnswer,
        }
    }
}

impl Input {
    fn new(input: ChildStdin) -> Self {
        let (lines, entries) = mpsc::channel(QUEUE);
        let closed = CancellationToken::new();
        tokio::spawn(closed.clone().run_until_cancelled_owned(write(input, entries)));
        Self { lines, closed }
    }

    /// Writes a message as one line, and waits until the system has taken it.
    pub async fn write(&self, line: Bytes) -> Result<(), WriteError> {
        let (told, written) = oneshot::channel();
        self.lines.send(Entry { line, written: Some(told) }).await.map_err(|_| WriteError::Closed)?;
        // Given up in the middle of writing, or before.
        written.await.unwrap_or(Err(WriteError::Cut))
    }

    /// Has a message written after those that wait. Returns whether there was room for it.
    #[must_use]
    pub fn offer(&self, line: Bytes) -> bool {
        self.lines.try_send(Entry { line, written: None }).is_ok()
    }

    /// Ends the server's input. What waits is not written.
    pub fn close(&self) {
        self.closed.cancel();
    }
}

async fn write(mut input: ChildStdin, mut entries: mpsc::Receiver<Entry>) {
    while let Some(Entry { line, written }) = entries.recv().await {
        let result = write_line(&mut input, &line).await;
        // Whoever wrote may not wait any more.
        let _ = written.map(|written| written.send(result));
        if result.is_err() {
            return;
        }
    }
}

async fn write_line(input: &mut ChildStdin, line: &[u8]) -> Result<(), WriteError> {
    let line = [line, b"\n"].concat();
    let mut written = 0;
    while written < line.len() {
        match input.write(&line[written..]).await {
            Ok(more) if more > 0 => written += more,
            _ if written == 0 => return Err(WriteError::Closed),
            _ => return Err(WriteError::Cut),
        }
    }
    Ok(())
}

/// The processes of a server. Dropped, the server is killed.
#[derive(Debug)]
pub struct Process {
    child: Child,
    group: Option<Pid>,
}

impl Process {
    /// Waits until the server has ended. Cancel safe.
    pub async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Ends the server whose input was closed, and whatever it started: by waiting, by SIGTERM, by SIGKILL.
    pub async fn end(mut self) -> io::Result<ExitStatus> {
        let mut status = timeout(GRACE, self.child.wait()).await;
        if status.is_err() {
            tracing::info!("the server did not end with its input: SIGTERM");
            self.signal(Signal::TERM);
            status = timeout(GRACE, self.child.wait()).await;
        }
        let status = if let Ok(status) = status {
            status
        } else {
            tracing::warn!("the server did not end on SIGTERM: SIGKILL");
            self.signal(Signal::KILL);
            self.child.wait().await
        };
        // What the server started and left behind.
        self.signal(Signal::TERM);
        let deadline = Instant::now() + GRACE;
        while self.group.is_some_and(|group| test_kill_process_group(group).is_ok()) {
            if Instant::now() > deadline {
                self.signal(Signal::KILL);
                break;
            }
            sleep(LOOK).await;
        }
        status
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            // There may be nobody left to tell.
            let _ = kill_process_group(group, signal);
        }
    }
}

/// The exit code by which shells tell how a process ended.
#[must_use]
pub fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}
