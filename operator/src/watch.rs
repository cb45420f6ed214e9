//! Watches that never end: errors are counted, told, and followed by a new attempt after a growing pause.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use futures::{Stream, StreamExt};
use kube::Resource;
use kube::api::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use serde::de::DeserializeOwned;

use crate::metrics::{Metrics, WatchLabels, Watched};
use crate::world::Part;

/// The API server ends an idle watch after this many seconds and is asked anew; five seconds later the client gives it up by
/// itself. So a connection that swallows everything costs half a minute, not the five minutes of the defaults.
const TIMEOUT_SECONDS: u32 = 25;

/// The last failure of a watch, until it works again.
#[derive(Clone, Debug, Default)]
pub struct Trouble(Arc<Mutex<Option<String>>>);

impl Trouble {
    fn set(&self, trouble: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    /// What is wrong, if something is.
    #[must_use]
    pub fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The troubles of the watches that keep the parts of the world.
#[derive(Clone, Debug, Default)]
pub struct Troubles([Trouble; Part::ALL.len()]);

impl Troubles {
    /// Of the watch of a part.
    #[must_use]
    pub fn of(&self, part: Part) -> &Trouble {
        &self.0[part as usize]
    }
}

/// Which objects to watch.
#[derive(Clone, Debug)]
pub struct Selection(watcher::Config);

impl Selection {
    /// All of them.
    #[must_use]
    pub fn all() -> Self {
        Self(watcher::Config::default().timeout(TIMEOUT_SECONDS).page_size(500))
    }

    /// Those that a field selector selects.
    #[must_use]
    pub fn fields(selector: &str) -> Self {
        Self(Self::all().0.fields(selector))
    }

    /// Those that a label selector selects.
    #[must_use]
    pub fn labels(selector: &str) -> Self {
        Self(Self::all().0.labels(selector))
    }
}

/// Watches objects.
pub fn watch<K>(
    api: Api<K>,
    selection: Selection,
    watched: Watched,
    metrics: &Metrics,
    trouble: Trouble,
) -> impl Stream<Item = Event<K>> + Send + use<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let errors = metrics.watch_errors.get_or_create_owned(&WatchLabels { resource: watched });
    watcher::watcher(api, selection.0).default_backoff().filter_map(move |event| {
        let event = match event {
            Ok(event) => {
                trouble.set(None);
                Some(event)
            }
            Err(error) => {
                errors.inc();
                tracing::warn!(resource = ?watched, %error, "a watch failed; it is tried again");
                trouble.set(Some(error.to_string()));
                None
            }
        };
        std::future::ready(event)
    })
}
