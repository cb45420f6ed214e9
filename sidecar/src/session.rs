//! Which MCP sessions were opened through the sidecar. Only such an id is a session to a policy: a client makes up as many
//! others as it likes.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

/// How many sessions are remembered; beyond that the one that was opened first is forgotten and counts as none. Clients leave
/// without saying so, so there is always a bound. With ids of the usual 36 characters this is two megabytes.
const MAX_SESSIONS: usize = 10_000;

/// A longer id is not remembered.
const MAX_ID_BYTES: usize = 256;

/// The sessions that are open, as far as the sidecar knows.
#[derive(Debug, Default)]
pub struct Sessions {
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    /// With the number of its opening, so that an id that was closed and opened again is not forgotten for its first life.
    ids: HashMap<Arc<str>, u64>,
    by_age: VecDeque<(u64, Arc<str>)>,
    openings: u64,
}

impl Sessions {
    /// The server answered `initialize` with this id.
    pub fn opened(&self, id: &str) {
        if id.is_empty() || id.len() > MAX_ID_BYTES {
            return;
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.openings += 1;
        let (number, id) = (open.openings, Arc::<str>::from(id));
        open.ids.insert(Arc::clone(&id), number);
        open.by_age.push_back((number, id));
        while open.by_age.len() > MAX_SESSIONS {
            if let Some((number, id)) = open.by_age.pop_front()
                && open.ids.get(&id) == Some(&number)
            {
                open.ids.remove(&id);
            }
        }
    }

    /// The session was ended, or the server does not know it any more.
    pub fn closed(&self, id: &str) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).ids.remove(id);
    }

    /// Whether the session was opened through the sidecar and not closed since.
    #[must_use]
    pub fn is_open(&self, id: &str) -> bool {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).ids.contains_key(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_opened_session_is_one_until_it_is_closed() {
        let sessions = Sessions::default();
        assert!(!sessions.is_open("a"));
        sessions.opened("a");
        assert!(sessions.is_open("a"));
        sessions.closed("a");
        assert!(!sessions.is_open("a"));
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_go_first() {
        let sessions = Sessions::default();
        for i in 0..=MAX_SESSIONS {
            sessions.opened(&i.to_string());
        }
        assert!(!sessions.is_open("0"));
        assert!(sessions.is_open("1"));
        let open = sessions.open.lock().unwrap();
        assert_eq!((open.ids.len(), open.by_age.len()), (MAX_SESSIONS, MAX_SESSIONS));
    }

    #[test]
    fn an_id_that_is_opened_again_lives_as_long_as_its_last_opening() {
        let sessions = Sessions::default();
        sessions.opened("again");
        sessions.closed("again");
        for i in 0..MAX_SESSIONS - 1 {
            sessions.opened(&i.to_string());
        }
        sessions.opened("again");
        assert!(sessions.is_open("again"));
    }

    #[test]
    fn an_endless_id_is_not_remembered() {
        let sessions = Sessions::default();
        let id = "x".repeat(MAX_ID_BYTES + 1);
        sessions.opened(&id);
        assert!(!sessions.is_open(&id));
    }
}
