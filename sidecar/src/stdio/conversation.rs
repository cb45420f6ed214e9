//! What is said on stdio. Each line of the client is judged and then written to the server, or answered here; each line of the server
//! passes the gate of the request that it answers.
//!
//! Guarantee: a line that is not written to the server leaves the server untouched, and a line of the server that cannot be told
//! from others does not pass.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use bytes::Bytes;
use mcp_policy::{Caller, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::Mutex as AsyncMutex;

use crate::answer::answer_fault::AnswerFault;
use crate::answer::asked::Asked;
use crate::books::metrics::InFlight;
use crate::books::{Books, Record};
use crate::config::Limits;
use crate::message::era::{self, Era};
use crate::message::{self, Malformed, Message};
use crate::respond;
use crate::session::Sessions;
use crate::session::channel::{Channel, Said};
use crate::stdio::child::Input;
use crate::stdio::lines::{Line, Lines, one_line};
use crate::verdict::{Received, Verdict, judge};

/// The one session of a client on stdio, as limits of scope `session` know it.
const SESSION: &str = "stdio";

/// A client and a server that talk through the sidecar.
#[derive(Debug)]
pub struct Conversation<W> {
    books: Arc<Books>,
    /// The server, for audit lines.
    name: Arc<str>,
    limits: Limits,
    sessions: Arc<Sessions>,
    channel: Channel,
    server: Input,
    client: AsyncMutex<Option<W>>,
}

/// Why a conversation cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The client cannot be read from or written to.
    #[error("the client is gone: {0}")]
    Client(#[from] io::Error),
}

impl<W: AsyncWrite + Unpin> Conversation<W> {
    /// A conversation between the client that reads `client` and a server of this name.
    pub fn new(books: Arc<Books>, name: Arc<str>, limits: Limits, server: Input, client: W) -> Self {
        // Whoever started us is on this machine.
        let caller = Caller::anonymous(Ipv4Addr::LOCALHOST.into());
        let sessions = Arc::<Sessions>::default();
        let channel = Channel::new(Arc::clone(&books), caller, Arc::clone(&name), SESSION.to_owned(), Arc::clone(&sessions));
        Self { books, name, limits, sessions, channel, server, client: AsyncMutex::new(Some(client)) }
    }

    /// Takes what the client says, until it ends.
    pub async fn from_client(&self, said: impl AsyncRead + Unpin) -> Result<(), Broken> {
        let mut lines = Lines::new(said, self.limits.body_bytes);
        while let Some(line) = lines.next().await? {
            match line {
                Line::Whole(line) => self.judge(&line).await?,
                Line::TooLong => self.refuse(self.record().await, &Malformed::too_large()).await?,
            }
        }
        Ok(())
    }

    /// Takes what the server says, until it ends.
    pub async fn from_server(&self, said: impl AsyncRead + Unpin) -> Result<(), Broken> {
        // Answers may be longer than requests: pictures, files. They are held one at a time.
        let mut lines = Lines::new(said, self.limits.held_bytes);
        // A server that cannot be read is one that has ended.
        while let Ok(Some(line)) = lines.next().await {
            match line {
                Line::Whole(line) => self.pass(&line).await?,
                Line::TooLong => {
                    tracing::warn!("a message of the server is too long; every request that waits may have been the one it answers");
                    self.fail_all(AnswerFault::TooLarge).await?;
                }
            }
        }
        self.end().await
    }

    /// The server has ended: whoever waits for an answer is told that none comes.
    pub async fn end(&self) -> Result<(), Broken> {
        self.fail_all(AnswerFault::NoAnswer).await
    }

    /// Tells the client whenever a change of policy changes its list of tools.
    pub async fn follow_policies(&self) -> Result<(), Broken> {
        let mut changes = self.books.state.changes();
        while changes.changed().await.is_ok() {
            for told in self.channel.policies_changed() {
                self.tell_client(&told).await?;
            }
        }
        // Nothing can change any more.
        std::future::pending().await
    }

    /// Judges one message of the client.
    async fn judge(&self, line: &[u8]) -> Result<(), Broken> {
        let in_flight = self.books.metrics.request();
        let mut record = self.record().await;
        let body = one_line(line);
        let message = match message::parse(&body) {
            Ok(message) => message,
            Err(malformed) => return self.refuse(record, &malformed).await,
        };
        record.message(&message, &body, None);
        let era = match era::of_body(&message) {
            Ok(era) => era,
            Err(malformed) => return self.refuse(record, &malformed).await,
        };
        if let Message::Request(request) = &message
            && self.channel.expects(&request.id)
        {
            return self.refuse(record, &Malformed::id_in_use()).await;
        }
        let verdict = {
            let enforced = self.books.state.enforced();
            let server = ServerName { namespace: "", name: &self.name };
            let received = Received {
                caller: self.channel.caller(),
                session: Some(self.channel.session()),
                sessions: &self.sessions,
                server,
                message: &message,
                body: &body,
                era,
            };
            judge(&self.books, &enforced, &received, &mut record).await.at_once()
        };
        match verdict {
            Verdict::Answered(answer) | Verdict::Hidden(answer) => {
                drop(record);
                self.tell_client(answer.body()).await
            }
            Verdict::Passes(asked) => {
                if let Message::Notification(notification) = &message
                    && let Some(id) = &notification.cancels
                {
                    self.channel.cancelled(id);
                }
                self.send(Bytes::from(body.into_owned()), asked, era, record, in_flight).await
            }
        }
    }

    /// Writes a message that passes to the server.
    async fn send(&self, line: Bytes, asked: Asked, era: Era, record: Record, in_flight: InFlight) -> Result<(), Broken> {
        let Some(id) = asked.expects().cloned() else {
            drop(record);
            if let Err(error) = self.server.write(line).await {
                tracing::warn!(%error, "a message of the client did not reach the server");
            }
            return Ok(());
        };
        if let Some(forgotten) = self.channel.asked(id.clone(), asked, era, record, in_flight) {
            self.tell_client(&forgotten).await?;
        }
        let Err(error) = self.server.write(line).await else { return Ok(()) };
        match self.channel.failed(&id, error.fault()) {
            Some(answer) => self.tell_client(&answer).await,
            None => Ok(()),
        }
    }

    /// Passes on one message of the server, as far as it may pass.
    async fn pass(&self, line: &[u8]) -> Result<(), Broken> {
        let Said { passes, words } = self.channel.said(&one_line(line));
        for word in words {
            let Some(answer) = word.settle(&self.books, self.channel.caller(), &self.name).await else { continue };
            // Not waiting for a server that may be waiting for us to read.
            if !self.server.offer(answer) {
                tracing::warn!("the server did not take the answer to a request that was refused");
            }
        }
        self.tell_client(&passes.unwrap_or_default()).await
    }

    async fn fail_all(&self, fault: AnswerFault) -> Result<(), Broken> {
        for answer in self.channel.fail_all(fault) {
            self.tell_client(&answer).await?;
        }
        Ok(())
    }

    /// Refuses what no rule was asked about.
    async fn refuse(&self, mut record: Record, malformed: &Malformed) -> Result<(), Broken> {
        record.malformed(malformed.reason.as_str());
        drop(record);
        self.tell_client(respond::malformed(malformed).body()).await
    }

    async fn tell_client(&self, line: &[u8]) -> Result<(), Broken> {
        if line.is_empty() {
            return Ok(());
        }
        let mut client = self.client.lock().await;
        // Taken out: if this is given up in the middle of the line, nothing may follow it.
        let Some(mut writer) = client.take() else { return Ok(()) };
        writer.write_all(&[line, b"\n"].concat()).await?;
        writer.flush().await?;
        *client = Some(writer);
        Ok(())
    }

    async fn record(&self) -> Record {
        self.books.record(self.channel.caller(), &self.name).await
    }
}
