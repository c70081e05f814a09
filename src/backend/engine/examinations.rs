//! Which registrations are being examined, beside the engine's other work.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::Arc;

use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::AbortHandle;

/// Bundles that are examined at the same time.
const AT_A_TIME: usize = 2;

/// The tasks whose registration is under way, by their ids. What is forgotten here at the end of
/// the process is still a task in the store.
#[derive(Clone)]
pub struct Examinations {
    /// Without a handle for as long as it is only about to begin.
    under_way: watch::Sender<HashMap<i64, Option<AbortHandle>>>,
    permits: Arc<Semaphore>,
    changed: Arc<Notify>,
}

/// Removes a task when its examination ends, however it does.
struct Ended {
    examinations: Examinations,
    id: i64,
}

impl Drop for Ended {
    fn drop(&mut self) {
        let under_way = &self.examinations.under_way;
        under_way.send_modify(|under_way| drop(under_way.remove(&self.id)));
        self.examinations.changed.notify_one();
    }
}

impl Examinations {
    /// Notifies `changed` whenever an examination has ended.
    pub fn new(changed: Arc<Notify>) -> Self {
        Self {
            under_way: watch::Sender::new(HashMap::new()),
            permits: Arc::new(Semaphore::new(AT_A_TIME)),
            changed,
        }
    }

    pub fn under_way(&self) -> HashSet<i64> {
        self.under_way.borrow().keys().copied().collect()
    }

    /// Runs an examination beside the caller, unless it runs already.
    pub fn start<E>(&self, id: i64, examination: E)
    where
        E: Future<Output = ()> + Send + 'static,
    {
        let new = self.under_way.send_if_modified(|under_way| {
            let new = !under_way.contains_key(&id);
            under_way.entry(id).or_default();
            new
        });
        if !new {
            return;
        }
        let ended = Ended {
            examinations: self.clone(),
            id,
        };
        let permits = Arc::clone(&self.permits);
        // Not while the map is held: a runtime that shuts down drops the task at once.
        let running = tokio::spawn(async move {
            let _ended = ended;
            let _permit = permits.acquire_owned().await;
            examination.await;
        });
        self.under_way.send_modify(|under_way| {
            if let Some(handle) = under_way.get_mut(&id) {
                *handle = Some(running.abort_handle());
            }
        });
    }

    /// Returns when one of these examinations has ended.
    pub async fn one_of(&self, ids: &HashSet<i64>) {
        let mut under_way = self.under_way.subscribe();
        // Fails only if the sender is gone, which is `self`.
        let _ = under_way
            .wait_for(|under_way| ids.iter().any(|id| !under_way.contains_key(id)))
            .await;
    }

    /// Gives up what is under way.
    pub fn abandon(&self) {
        // An examination that ends changes the map, so it is not held meanwhile.
        let running: Vec<AbortHandle> = self
            .under_way
            .borrow()
            .values()
            .flatten()
            .cloned()
            .collect();
        for examination in running {
            examination.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn an_examination_is_not_started_twice_and_can_be_awaited() {
        let examinations = Examinations::new(Arc::default());
        let (begun, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        for _ in 0..2 {
            let (begun, go) = (Arc::clone(&begun), Arc::clone(&go));
            examinations.start(7, async move {
                begun.fetch_add(1, Ordering::Relaxed);
                go.notified().await;
            });
        }
        let under_way = examinations.under_way();
        assert_eq!(under_way, HashSet::from([7]));
        go.notify_one();
        examinations.one_of(&under_way).await;
        assert_eq!(begun.load(Ordering::Relaxed), 1);
        assert!(examinations.under_way().is_empty());
    }

    #[tokio::test]
    async fn no_more_than_two_run_at_a_time_and_all_can_be_abandoned() {
        let changed = Arc::new(Notify::new());
        let examinations = Examinations::new(Arc::clone(&changed));
        let begun = Arc::new(AtomicUsize::new(0));
        for id in 0..3 {
            let begun = Arc::clone(&begun);
            examinations.start(id, async move {
                begun.fetch_add(1, Ordering::Relaxed);
                std::future::pending().await
            });
        }
        while begun.load(Ordering::Relaxed) < AT_A_TIME {
            tokio::task::yield_now().await;
        }
        examinations.abandon();
        while !examinations.under_way().is_empty() {
            changed.notified().await;
        }
        assert_eq!(begun.load(Ordering::Relaxed), AT_A_TIME);
    }
}
