//! Who may change a resource just now: one that compares, or any number of those that do not.
//!
//! There are as many locks as resources that are being changed, and so no more than calls.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use crate::pipeline::subject::Key;

type Map = HashMap<Key, Arc<RwLock<()>>>;

/// All locks. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Locks(Arc<Mutex<Map>>);

/// A lock that is held.
pub struct Held<G> {
    // Given back first.
    _guard: G,
    _place: Place,
}

impl Locks {
    /// Waits until nobody compares. First come, first served.
    pub async fn shared(&self, key: Key) -> Held<OwnedRwLockReadGuard<()>> {
        let place = self.place(key);
        Held {
            _guard: Arc::clone(&place.lock).read_owned().await,
            _place: place,
        }
    }

    /// Waits until nobody else changes the resource.
    pub async fn alone(&self, key: Key) -> Held<OwnedRwLockWriteGuard<()>> {
        let place = self.place(key);
        Held {
            _guard: Arc::clone(&place.lock).write_owned().await,
            _place: place,
        }
    }

    fn place(&self, key: Key) -> Place {
        let lock = Arc::clone(self.map().entry(key.clone()).or_default());
        Place {
            locks: self.clone(),
            key,
            lock,
        }
    }

    fn map(&self) -> MutexGuard<'_, Map> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.map().is_empty()
    }
}

/// One who has a lock or waits for it. The last one takes it away.
struct Place {
    locks: Locks,
    key: Key,
    lock: Arc<RwLock<()>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut map = self.locks.map();
        // That of the map and ours: others are made with the map in hand.
        if Arc::strong_count(&self.lock) == 2 {
            map.remove(&self.key);
        }
    }
}
