//! Follows the Secrets with callers' keys and servers' credentials: those of a few names, in whichever namespace. So the operator needs
//! the right to these names and to no other Secret.

use std::collections::{BTreeSet, HashMap, HashSet};

use futures::{Stream, StreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::watcher::Event;

use super::secret::Content;
use crate::world::{Part, World};

/// What was read of them.
#[derive(Debug)]
pub struct Secrets {
    /// The names whose Secrets were never all read.
    unread: BTreeSet<String>,
    /// The namespaces that a reading has found so far, by name.
    listed: HashMap<String, HashSet<String>>,
}

/// The events of several watches, each with the name of its Secrets. It never ends.
pub fn together<S>(watches: impl IntoIterator<Item = (String, S)>) -> impl Stream<Item = (String, Event<Secret>)>
where
    S: Stream<Item = Event<Secret>> + Send,
{
    let watches = watches.into_iter().map(|(name, events)| Box::pin(events.map(move |event| (name.clone(), event))));
    stream::select_all(watches).chain(stream::pending())
}

impl Secrets {
    /// Nothing was read yet of Secrets with these names.
    #[must_use]
    pub fn new(names: &[String]) -> Self {
        Self { unread: names.iter().cloned().collect(), listed: HashMap::new() }
    }

    /// Marks them as read, if all are.
    pub fn mark(&self, world: &World) {
        if self.unread.is_empty() {
            world.mark_read(Part::Secrets);
        }
    }

    /// Takes an event about a Secret of this name. True if sidecars may have to know.
    pub fn take(&mut self, world: &World, name: &str, event: Event<Secret>) -> bool {
        let listed = self.listed.entry(name.to_owned()).or_default();
        match event {
            Event::Init => {
                listed.clear();
                false
            }
            Event::InitApply(secret) => {
                listed.insert(namespace(&secret).to_owned());
                world.policies_mut().callers.put_secret(namespace(&secret), name, Content::read(&secret))
            }
            Event::Apply(secret) => world.policies_mut().callers.put_secret(namespace(&secret), name, Content::read(&secret)),
            Event::Delete(secret) => {
                let gone = (namespace(&secret), name);
                world.policies_mut().callers.retain_secrets(|namespace, name| (namespace, name) != gone);
                true
            }
            Event::InitDone => {
                world.policies_mut().callers.retain_secrets(|namespace, other| other != name || listed.contains(namespace));
                self.unread.remove(name);
                self.mark(world);
                true
            }
        }
    }
}

fn namespace(secret: &Secret) -> &str {
    secret.metadata.namespace.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use mcp_policy::authentication::SecretRef;

    use super::*;

    fn secret(namespace: &str, value: &str) -> Secret {
        let mut secret = Secret::default();
        secret.metadata.namespace = Some(namespace.to_owned());
        secret.data = Some([("authorization".to_owned(), ByteString(value.as_bytes().to_vec()))].into());
        secret
    }

    /// The credentials that are known of the Secrets `a` and `b`, in the namespaces `one` and `two`.
    fn known(world: &World) -> Vec<String> {
        let policies = world.policies();
        let all = [("one", "a"), ("two", "a"), ("one", "b")].map(|(namespace, name)| SecretRef { namespace: Some(namespace), name });
        all.into_iter().filter_map(|secret| Some(policies.callers.secret(secret).ok()?.credential.as_ref()?.value.clone())).collect()
    }

    #[test]
    fn what_is_gone_when_they_are_read_anew_is_forgotten_and_of_no_other_name() {
        let world = World::default();
        let mut secrets = Secrets::new(&["a".to_owned(), "b".to_owned()]);
        for event in [Event::Init, Event::InitApply(secret("one", "1")), Event::InitApply(secret("two", "2")), Event::InitDone] {
            secrets.take(&world, "a", event);
        }
        assert!(!world.has(Part::Secrets), "those of the other name are not read yet");
        for event in [Event::Init, Event::InitApply(secret("one", "3")), Event::InitDone] {
            secrets.take(&world, "b", event);
        }
        assert!(world.has(Part::Secrets));
        assert_eq!(known(&world), ["1", "2", "3"]);
        assert!(!secrets.take(&world, "a", Event::Apply(secret("one", "1"))), "the same again is no change");
        assert!(secrets.take(&world, "a", Event::Apply(secret("one", "4"))));
        assert_eq!(known(&world), ["4", "2", "3"]);
        for event in [Event::Init, Event::InitApply(secret("two", "2")), Event::InitDone] {
            secrets.take(&world, "a", event);
        }
        assert_eq!(known(&world), ["2", "3"]);
        assert!(secrets.take(&world, "a", Event::Delete(secret("two", "2"))));
        assert_eq!(known(&world), ["3"]);
    }
}
