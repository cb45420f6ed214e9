//! Requests that wait for their answers, by their ids.
//!
//! Guarantee: bounded, whatever the client forgets and the server never answers.

use std::collections::{BTreeMap, HashMap};

use crate::message::Id;

/// How many requests wait at one time. The one that has waited longest makes room for the next.
const MAX_PENDING: usize = 1024;

/// Requests that wait, and what is to be done with each answer.
#[derive(Debug)]
pub struct Pending<T> {
    /// With the number of the request. None: nobody waits any more, but the answer may still come.
    waiting: HashMap<Id, (u64, Option<T>)>,
    by_age: BTreeMap<u64, Id>,
    requests: u64,
}

impl<T> Default for Pending<T> {
    fn default() -> Self {
        Self { waiting: HashMap::new(), by_age: BTreeMap::new(), requests: 0 }
    }
}

impl<T> Pending<T> {
    /// Whether an answer with this id may still come. Then the id cannot be used for another request.
    #[must_use]
    pub fn expects(&self, id: &Id) -> bool {
        self.waiting.contains_key(id)
    }

    /// A request waits; its id is none that is expected. Returns the one that had to make room, if somebody still waited for it.
    pub fn insert(&mut self, id: Id, request: T) -> Option<T> {
        self.requests += 1;
        self.by_age.insert(self.requests, id.clone());
        self.waiting.insert(id, (self.requests, Some(request)));
        if self.waiting.len() <= MAX_PENDING {
            return None;
        }
        let (_, oldest) = self.by_age.pop_first()?;
        self.waiting.remove(&oldest)?.1
    }

    /// The request with this id, if somebody waits for its answer.
    #[must_use]
    pub fn get(&self, id: &Id) -> Option<&T> {
        self.waiting.get(id)?.1.as_ref()
    }

    /// As [`Pending::get`], to be changed.
    pub fn get_mut(&mut self, id: &Id) -> Option<&mut T> {
        self.waiting.get_mut(id)?.1.as_mut()
    }

    /// The answer with this id has come.
    pub fn answered(&mut self, id: &Id) -> Option<T> {
        let (number, request) = self.waiting.remove(id)?;
        self.by_age.remove(&number);
        request
    }

    /// Nobody waits for this answer any more. It may still come.
    pub fn cancel(&mut self, id: &Id) -> Option<T> {
        self.waiting.get_mut(id)?.1.take()
    }

    /// The requests that somebody waits for, the newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = &T> {
        self.by_age.values().rev().filter_map(|id| self.waiting.get(id)?.1.as_ref())
    }

    /// Nobody waits for any answer any more: all who did, the oldest first.
    pub fn cancel_all(&mut self) -> Vec<T> {
        self.by_age.values().filter_map(|id| self.waiting.get_mut(id)?.1.take()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Message, parse};

    fn id(id: usize) -> Id {
        match parse(format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#).as_bytes()) {
            Ok(Message::Request(request)) => request.id,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_answer_finds_its_request_once() {
        let mut pending = Pending::default();
        assert_eq!(pending.insert(id(1), "a"), None);
        assert!(pending.expects(&id(1)) && !pending.expects(&id(2)));
        assert_eq!(pending.answered(&id(2)), None);
        assert_eq!(pending.answered(&id(1)), Some("a"));
        assert_eq!(pending.answered(&id(1)), None);
    }

    #[test]
    fn the_id_of_a_cancelled_request_is_taken_until_its_answer_came() {
        let mut pending = Pending::default();
        pending.insert(id(1), "a");
        assert_eq!(pending.cancel(&id(1)), Some("a"));
        assert!(pending.expects(&id(1)));
        assert_eq!(pending.answered(&id(1)), None);
        assert!(!pending.expects(&id(1)));
    }

    #[test]
    fn only_those_that_somebody_waits_for_are_told_of() {
        let mut pending = Pending::default();
        for number in 1..=3 {
            pending.insert(id(number), number);
        }
        assert_eq!(pending.newest_first().collect::<Vec<_>>(), [&3, &2, &1]);
        pending.answered(&id(3));
        pending.cancel(&id(2));
        assert_eq!(pending.newest_first().collect::<Vec<_>>(), [&1]);
    }

    #[test]
    fn the_oldest_makes_room_and_memory_is_bounded() {
        let mut pending = Pending::default();
        for number in 0..MAX_PENDING {
            assert_eq!(pending.insert(id(number), number), None);
        }
        assert_eq!(pending.insert(id(MAX_PENDING), MAX_PENDING), Some(0));
        for number in MAX_PENDING + 1..5 * MAX_PENDING {
            pending.insert(id(number), number);
            pending.answered(&id(number));
        }
        assert_eq!((pending.waiting.len(), pending.by_age.len()), (MAX_PENDING - 1, MAX_PENDING - 1));
        assert_eq!(pending.cancel_all().len(), MAX_PENDING - 1);
    }
}
