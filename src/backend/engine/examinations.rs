//! Which registrations are being examined, beside the engine's other work.
//!
//! Those of one major version are examined one after the other, since each minor has to be
//! compatible with the one before it.

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
    under_way: watch::Sender<HashMap<i64, Examination>>,
    permits: Arc<Semaphore>,
    changed: Arc<Notify>,
}

#[derive(Default)]
struct Examination {
    /// What the version is a minor of.
    major: String,
    /// Absent for as long as it is only about to begin.
    handle: Option<AbortHandle>,
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

    /// Runs an examination beside the caller, unless it runs already; after those of the same
    /// `major` that were started before.
    pub fn start<E>(&self, id: i64, major: &str, examination: E)
    where
        E: Future<Output = ()> + Send + 'static,
    {
        let mut before = None;
        let new = self.under_way.send_if_modified(|under_way| {
            if under_way.contains_key(&id) {
                return false;
            }
            let same = under_way.iter().filter(|(_, other)| other.major == major);
            before = same.map(|(id, _)| *id).max();
            let major = major.to_owned();
            under_way.insert(
                id,
                Examination {
                    major,
                    handle: None,
                },
            );
            true
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
            let ended = ended;
            if let Some(before) = before {
                ended.examinations.one_of(&HashSet::from([before])).await;
            }
            let _permit = permits.acquire_owned().await;
            examination.await;
        });
        self.under_way.send_modify(|under_way| {
            if let Some(examination) = under_way.get_mut(&id) {
                examination.handle = Some(running.abort_handle());
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
            .filter_map(|examination| examination.handle.clone())
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
            examinations.start(7, "a/1", async move {
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
    async fn minors_of_one_major_are_examined_one_after_the_other() {
        let examinations = Examinations::new(Arc::default());
        let (begun, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        for (id, major) in [(7, "a/1"), (8, "a/1"), (9, "a/2")] {
            let (begun, go) = (Arc::clone(&begun), Arc::clone(&go));
            examinations.start(id, major, async move {
                begun.fetch_add(id as usize, Ordering::Relaxed);
                go.notified().await;
            });
        }
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        assert_eq!(begun.load(Ordering::Relaxed), 7 + 9);
        go.notify_one();
        examinations.one_of(&HashSet::from([7])).await;
        while begun.load(Ordering::Relaxed) != 7 + 9 + 8 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn no_more_than_two_run_at_a_time_and_all_can_be_abandoned() {
        let changed = Arc::new(Notify::new());
        let examinations = Examinations::new(Arc::clone(&changed));
        let begun = Arc::new(AtomicUsize::new(0));
        for id in 0..3 {
            let begun = Arc::clone(&begun);
            examinations.start(id, &id.to_string(), async move {
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
