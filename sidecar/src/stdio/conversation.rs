//! What is said on stdio. Each line of the client is judged and then written to the server, or answered here; each line of the server
//! passes the gate of the request that it answers.
//!
//! Guarantee: a line that is not written to the server leaves the server untouched, and a line of the server that cannot be told
//! from others does not pass.

use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use mcp_policy::{Caller, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::Mutex as AsyncMutex;

use crate::answer::answer_fault::AnswerFault;
use crate::answer::from_server::Word;
use crate::answer::gate::{Asked, Gate, Judged, Passed, Passing};
use crate::answer::relay::CallAnswer;
use crate::books::audit::Ended;
use crate::books::metrics::InFlight;
use crate::books::{Books, Record};
use crate::config::Limits;
use crate::message::era::{self, Era};
use crate::message::{self, Malformed, Message, ServerWord, server_word};
use crate::respond;
use crate::session::Sessions;
use crate::session::pending::Pending;
use crate::stdio::child::Input;
use crate::stdio::lines::{Line, Lines, one_line};
use crate::verdict::{Received, Verdict, judge};

/// The one session of a client on stdio, as limits of scope `session` know it.
const SESSION: &str = "stdio";

/// A client and a server that talk through the sidecar.
#[derive(Debug)]
pub struct Conversation<W> {
    books: Arc<Books>,
    caller: Caller,
    /// The server, for audit lines.
    name: String,
    limits: Limits,
    sessions: Arc<Sessions>,
    pending: Mutex<Pending<Waiting>>,
    server: Input,
    client: AsyncMutex<Option<W>>,
}

/// A request that the server has, and what its answer has to pass.
#[derive(Debug)]
struct Waiting {
    gate: Gate,
    _in_flight: InFlight,
}

/// Why a conversation cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The client cannot be read from or written to.
    #[error("the client is gone: {0}")]
    Client(#[from] io::Error),
    /// Nothing may be judged any more.
    #[error(transparent)]
    Unaudited(#[from] Ended),
}

impl<W: AsyncWrite + Unpin> Conversation<W> {
    /// A conversation between the client that reads `client` and a server of this name.
    pub fn new(books: Arc<Books>, name: String, limits: Limits, server: Input, client: W) -> Self {
        // Whoever started us is on this machine.
        let caller = Caller::anonymous(Ipv4Addr::LOCALHOST.into());
        Self {
            books,
            caller,
            name,
            limits,
            sessions: Arc::default(),
            pending: Mutex::default(),
            server,
            client: AsyncMutex::new(Some(client)),
        }
    }

    /// Takes what the client says, until it ends.
    pub async fn from_client(&self, said: impl AsyncRead + Unpin) -> Result<(), Broken> {
        let mut lines = Lines::new(said, self.limits.body_bytes);
        while let Some(line) = lines.next().await? {
            match line {
                Line::Whole(line) => self.judge(&line).await?,
                Line::TooLong => self.refuse(self.record().await?, &Malformed::too_large()).await?,
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

    /// Judges one message of the client.
    async fn judge(&self, line: &[u8]) -> Result<(), Broken> {
        let in_flight = self.books.metrics.request();
        let mut record = self.record().await?;
        let body = one_line(line);
        let message = match message::parse(&body) {
            Ok(message) => message,
            Err(malformed) => return self.refuse(record, &malformed).await,
        };
        if let Some(method) = message.method() {
            record.method(method);
        }
        let era = match era::of_body(&message) {
            Ok(era) => era,
            Err(malformed) => return self.refuse(record, &malformed).await,
        };
        if let Message::Request(request) = &message
            && self.pending().expects(&request.id)
        {
            return self.refuse(record, &Malformed::id_in_use()).await;
        }
        let verdict = {
            let enforced = self.books.state.enforced();
            let server = ServerName { namespace: "", name: &self.name };
            let received = Received {
                caller: &self.caller,
                session: Some(SESSION),
                sessions: &self.sessions,
                server,
                message: &message,
                body: &body,
                era,
            };
            judge(&self.books, &enforced, &received, &mut record).await
        };
        match verdict {
            Verdict::Answered(answer) => {
                drop(record);
                self.tell_client(answer.body()).await
            }
            Verdict::Passes(asked) => {
                if let Message::Notification(notification) = &message
                    && let Some(id) = &notification.cancels
                {
                    self.pending().cancel(id);
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
        let mut gate = self.gate(asked, era, record.decision_id().to_owned());
        // What audit policies say of another message is written now: its answer may take any time.
        gate.call = matches!(gate.asked, Asked::Call { .. }).then(|| CallAnswer::without_status(record));
        let forgotten = self.pending().insert(id.clone(), Waiting { gate, _in_flight: in_flight });
        if let Some(forgotten) = forgotten {
            self.fail(forgotten, AnswerFault::AnswerTimeout).await?;
        }
        let Err(error) = self.server.write(line).await else { return Ok(()) };
        let unsent = self.pending().answered(&id);
        match unsent {
            Some(unsent) => self.fail(unsent, error.fault()).await,
            None => Ok(()),
        }
    }

    /// Passes on one message of the server, as far as it may pass.
    async fn pass(&self, line: &[u8]) -> Result<(), Broken> {
        let line = one_line(line);
        match server_word(&line) {
            Ok(ServerWord::Response { id, .. }) => {
                let answered = id.and_then(|id| self.pending().answered(&id));
                // Rule 18: nothing but answers to what was asked.
                let Some(waiting) = answered else {
                    tracing::debug!("dropped an answer of the server that nobody waits for");
                    return Ok(());
                };
                self.answer(waiting, &line).await
            }
            Ok(ServerWord::Request { .. } | ServerWord::Notification { .. }) => {
                let Judged { passing, words } = self.gate(Asked::Nothing, Era::Legacy, String::new()).judge(&line);
                self.settle(words).await;
                match passing {
                    Passing::AsItCame => self.tell_client(&line).await,
                    Passing::Changed(_) | Passing::Dropped | Passing::NoMessage | Passing::Unreadable => Ok(()),
                }
            }
            Err(_) => {
                tracing::warn!("dropped a line of the server that is no message");
                Ok(())
            }
        }
    }

    /// Passes on the answer to a request, as far as it may pass.
    async fn answer(&self, waiting: Waiting, line: &[u8]) -> Result<(), Broken> {
        let Waiting { mut gate, .. } = waiting;
        let Judged { passing, words } = gate.judge(line);
        let answer = match passing {
            Passing::AsItCame => Bytes::copy_from_slice(line),
            Passing::Changed(changed) => changed,
            Passing::Dropped | Passing::NoMessage | Passing::Unreadable => gate.refuse(AnswerFault::Unreadable).into_body(),
        };
        // Settled before the client has the answer: whoever has it finds it counted.
        drop(gate);
        self.settle(words).await;
        self.tell_client(&answer).await
    }

    /// Writes down what policies say of the server's messages, and answers requests that are held back.
    async fn settle(&self, words: Vec<Word>) {
        for word in words {
            let Some(answer) = word.settle(&self.books, &self.caller, &self.name).await else { continue };
            // Not waiting for a server that may be waiting for us to read.
            if !self.server.offer(answer) {
                tracing::warn!("the server did not take the answer to a request that was refused");
            }
        }
    }

    async fn fail_all(&self, fault: AnswerFault) -> Result<(), Broken> {
        let waiting = self.pending().cancel_all();
        for waiting in waiting {
            self.fail(waiting, fault).await?;
        }
        Ok(())
    }

    /// Tells the client that a request has no usable answer.
    async fn fail(&self, waiting: Waiting, fault: AnswerFault) -> Result<(), Broken> {
        let Waiting { mut gate, .. } = waiting;
        if let (AnswerFault::NotReached, Some(call)) = (fault, &mut gate.call) {
            call.did_not_run();
        }
        let answer = gate.refuse(fault).into_body();
        drop(gate);
        self.tell_client(&answer).await
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

    async fn record(&self) -> Result<Record, Ended> {
        self.books.record(&self.caller, &self.name).await
    }

    fn gate(&self, asked: Asked, era: Era, decision_id: String) -> Gate {
        Gate {
            books: Arc::clone(&self.books),
            caller: self.caller.clone(),
            server: self.name.clone(),
            session: None,
            sessions: Arc::clone(&self.sessions),
            asked,
            era,
            decision_id,
            call: None,
            passed: Passed::default(),
        }
    }

    // Never held across an await.
    fn pending(&self) -> MutexGuard<'_, Pending<Waiting>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
