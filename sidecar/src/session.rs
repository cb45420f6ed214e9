//! What is remembered of the clients' conversations with their servers: which sessions were opened here, which answers are still to
//! come on a resumed stream, which tasks there are. All of it is bounded, and what is forgotten is refused or counts as none.
//!
//! Where callers prove who they are, a session or a task is its opener's, and to all others as if there were none. It is not bound to an
//! address: behind one address there can be many clients (NAT, an agent's gateway), and one client can have many (its pod's IPv4 and
//! IPv6, a reconnect through another node). So among those who proved nothing, whoever has a session's id has the session, as with the
//! server itself; ids are the server's, and hard to guess.

pub mod channel;
pub mod owner;
pub mod pending;
pub mod recent;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::answer::asked::Asked;
use crate::message::Id;
use crate::session::owner::Owner;
use crate::session::recent::Recent;

/// How many sessions are remembered. Clients leave without saying so, so there is always a bound. With ids of the usual 36 characters
/// this is two megabytes.
const MAX_SESSIONS: usize = 10_000;

/// How many requests with a streamed answer are remembered until their answer has passed.
const MAX_STREAMED: usize = 4096;

/// How many tasks are remembered.
const MAX_TASKS: usize = 4096;

/// What has a longer id is not remembered.
const MAX_ID_BYTES: usize = 256;

/// What is remembered.
#[derive(Debug)]
pub struct Sessions {
    open: Mutex<Recent<Arc<str>, Session>>,
    streamed: Mutex<Recent<(Arc<str>, Id), Asked>>,
    tasks: Mutex<Recent<Arc<str>, Task>>,
}

/// A session that is open.
#[derive(Debug)]
struct Session {
    owner: Owner,
    /// Whether the server declared that it tells of changes of its list of tools, so that the client may wait for that.
    tells_of_lists: bool,
    /// Whether the client declared that it shows its user pages, in a revision in which it can be sent to one.
    opens_urls: bool,
}

/// A task that there is.
#[derive(Debug)]
struct Task {
    owner: Owner,
    tool: Arc<str>,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            open: Mutex::new(Recent::new(MAX_SESSIONS)),
            streamed: Mutex::new(Recent::new(MAX_STREAMED)),
            tasks: Mutex::new(Recent::new(MAX_TASKS)),
        }
    }
}

impl Sessions {
    /// The server answered this caller's `initialize` with this id.
    pub fn opened(&self, id: &str, owner: Owner) {
        if !id.is_empty() && id.len() <= MAX_ID_BYTES {
            locked(&self.open).insert(id.into(), Session { owner, tells_of_lists: false, opens_urls: false });
        }
    }

    /// Whether the session is open, and this one's.
    #[must_use]
    pub fn is_of(&self, id: &str, owner: &Owner) -> bool {
        locked(&self.open).get_mut(id).is_some_and(|session| session.owner == *owner)
    }

    /// The session was ended, or the server does not know it any more.
    pub fn closed(&self, id: &str) {
        locked(&self.open).remove(id);
    }

    /// Whether the session was opened through the sidecar and not closed since.
    #[must_use]
    pub fn is_open(&self, id: &str) -> bool {
        locked(&self.open).get_mut(id).is_some()
    }

    /// The server declared in this session that it tells of changes of its list of tools.
    pub fn tells_of_lists(&self, id: &str) {
        if let Some(session) = locked(&self.open).get_mut(id) {
            session.tells_of_lists = true;
        }
    }

    /// Whether clients of this session may wait to be told that the list of tools has changed.
    #[must_use]
    pub fn is_told_of_lists(&self, id: &str) -> bool {
        locked(&self.open).get_mut(id).is_some_and(|session| session.tells_of_lists)
    }

    /// The client declared in this session that it shows its user pages.
    pub fn opens_urls(&self, id: &str) {
        if let Some(session) = locked(&self.open).get_mut(id) {
            session.opens_urls = true;
        }
    }

    /// Whether the client of this session can be sent to a page.
    #[must_use]
    pub fn is_sent_to_urls(&self, id: &str) -> bool {
        locked(&self.open).get_mut(id).is_some_and(|session| session.opens_urls)
    }

    /// The answer to this request has begun to stream. The rest of it may come on a stream that resumes this one.
    pub fn streams(&self, session: Option<&str>, asked: &Asked) {
        if let Some(id) = asked.expects() {
            locked(&self.streamed).insert((session.unwrap_or_default().into(), id.clone()), asked.clone());
        }
    }

    /// The answer has passed to its end.
    pub fn streamed(&self, session: Option<&str>, id: &Id) {
        let mut streamed = locked(&self.streamed);
        // Of a server that answers without streams.
        if !streamed.is_empty() {
            streamed.remove(&(session.unwrap_or_default().into(), id.clone()));
        }
    }

    /// What was asked with this id, if the answer may come on a resumed stream of this session.
    #[must_use]
    pub fn awaited(&self, session: Option<&str>, id: &Id) -> Option<Asked> {
        locked(&self.streamed).get_mut(&(session.unwrap_or_default().into(), id.clone())).cloned()
    }

    /// The server made a task of this caller's call of this tool.
    pub fn task_created(&self, task: &str, tool: &str, owner: Owner) {
        if task.len() <= MAX_ID_BYTES {
            locked(&self.tasks).insert(task.into(), Task { owner, tool: tool.into() });
        }
    }

    /// The tool that the task runs; none of a task that was not created through the sidecar, or, where tasks are somebody's, is not this
    /// one's.
    #[must_use]
    pub fn tool_of_task(&self, task: &str, owner: Option<&Owner>) -> Option<Arc<str>> {
        let mut tasks = locked(&self.tasks);
        let task = tasks.get_mut(task).filter(|task| owner.is_none_or(|owner| task.owner == *owner));
        task.map(|task| Arc::clone(&task.tool))
    }
}

/// Nothing here can panic half-way, so what a poisoned lock holds is as good as ever.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use mcp_policy::Caller;

    use super::*;

    fn nobody() -> Owner {
        Owner::of(&Caller::anonymous([127, 0, 0, 1].into()))
    }

    fn key(name: &str) -> Owner {
        Owner::of(&Caller::Key { name: name.to_owned() })
    }

    #[test]
    fn a_session_and_a_task_are_their_openers_alone() {
        let sessions = Sessions::default();
        sessions.opened("a", key("alice"));
        sessions.task_created("t", "read", key("alice"));
        for (owner, has) in [(key("alice"), true), (key("mallory"), false), (nobody(), false)] {
            assert_eq!(sessions.is_of("a", &owner), has);
            assert_eq!(sessions.tool_of_task("t", Some(&owner)).is_some(), has);
            assert!(sessions.tool_of_task("t", None).is_some(), "where nobody proves anything");
        }
        assert!(!sessions.is_of("b", &key("alice")), "never opened");
        sessions.opened("n", nobody());
        assert!(sessions.is_of("n", &Owner::of(&Caller::anonymous([10, 0, 0, 1].into()))), "from another address");
    }

    #[test]
    fn only_an_opened_session_is_one_until_it_is_closed() {
        let sessions = Sessions::default();
        assert!(!sessions.is_open("a"));
        sessions.opened("a", nobody());
        assert!(sessions.is_open("a"));
        sessions.closed("a");
        assert!(!sessions.is_open("a"));
    }

    #[test]
    fn a_session_is_told_of_lists_only_if_the_server_said_so_in_it() {
        let sessions = Sessions::default();
        sessions.tells_of_lists("a");
        sessions.opened("a", nobody());
        assert!(!sessions.is_told_of_lists("a"));
        sessions.tells_of_lists("a");
        assert!(sessions.is_told_of_lists("a") && !sessions.is_told_of_lists("b"));
    }

    #[test]
    fn a_client_is_sent_to_pages_only_if_it_said_so_in_this_very_session() {
        let sessions = Sessions::default();
        sessions.opens_urls("a");
        sessions.opened("a", nobody());
        assert!(!sessions.is_sent_to_urls("a"));
        sessions.opens_urls("a");
        assert!(sessions.is_sent_to_urls("a") && !sessions.is_sent_to_urls("b"));
        sessions.opened("a", nobody());
        assert!(!sessions.is_sent_to_urls("a"), "opened anew");
    }

    #[test]
    fn an_endless_id_is_not_remembered() {
        let sessions = Sessions::default();
        let id = "x".repeat(MAX_ID_BYTES + 1);
        sessions.opened(&id, nobody());
        assert!(!sessions.is_open(&id));
        sessions.task_created(&id, "read", nobody());
        assert_eq!(sessions.tool_of_task(&id, None), None);
    }
}
