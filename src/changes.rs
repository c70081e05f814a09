//! Who wants to know when something about a name has changed.
//!
//! The names are those of environments, services, templates and components, and ids of
//! deployments. Kinds are not told apart: a needless nudge costs one poll.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::Notify;

/// The exchange of news. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    listeners: Arc<Mutex<HashMap<String, Vec<Weak<Notify>>>>>,
}

impl Changes {
    /// What is notified of each change about `name` from now on, for as long as it is kept.
    pub fn listen(&self, name: &str) -> Arc<Notify> {
        let listener = Arc::new(Notify::new());
        let mut listeners = self
            .listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let of_name = listeners.entry(name.to_owned()).or_default();
        of_name.retain(|listener| listener.strong_count() > 0);
        of_name.push(Arc::downgrade(&listener));
        listener
    }

    /// Tells who listens that something about `name` has changed.
    pub fn publish(&self, name: &str) {
        let mut listeners = self
            .listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let Some(of_name) = listeners.get_mut(name) else {
            return;
        };
        of_name.retain(|listener| match listener.upgrade() {
            Some(listener) => {
                listener.notify_one();
                true
            }
            None => false,
        });
        if of_name.is_empty() {
            listeners.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_listener_is_told_of_its_own_name_only_and_forgotten_when_it_is_gone() {
        let changes = Changes::default();
        let listener = changes.listen("prod");
        changes.publish("test");
        assert!(listener.notified().now_or_never().is_none());
        changes.publish("prod");
        assert!(listener.notified().now_or_never().is_some());
        drop(listener);
        changes.publish("prod");
        assert!(changes.listeners.lock().unwrap().is_empty());
    }
}
