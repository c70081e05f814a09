//! The store's threads as those see them who wait for their end.

use std::cell::Cell;
use std::convert::Infallible;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

thread_local! {
    /// Whether this is a thread of a store, which cannot wait for itself.
    static OF_A_STORE: Cell<bool> = const { Cell::new(false) };
}

/// Some threads, which end by themselves. Nothing is sent: the channel is closed by the last one.
pub(super) struct Threads(Mutex<mpsc::Receiver<Infallible>>);

impl Threads {
    /// Runs each of `works` on a thread of its own.
    pub(super) fn of<W: FnOnce() + Send + 'static>(works: impl IntoIterator<Item = W>) -> Self {
        let (running, ended) = mpsc::channel();
        for work in works {
            let running = running.clone();
            thread::spawn(move || {
                OF_A_STORE.set(true);
                work();
                drop(running);
            });
        }
        Self(Mutex::new(ended))
    }

    /// Waits for their end, but no longer than `bound`; says whether they have ended. A thread of a
    /// store does not wait.
    pub(super) fn have_ended(&self, bound: Duration) -> bool {
        if OF_A_STORE.get() {
            return false;
        }
        self.outlast(bound)
    }

    /// The same by a thread of a store that waits for others.
    pub(super) fn outlast(&self, bound: Duration) -> bool {
        let ended = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(
            ended.recv_timeout(bound),
            Err(RecvTimeoutError::Disconnected)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_last_thread_is_waited_for_and_a_panic_is_one() {
        let (release, held) = mpsc::channel::<()>();
        let first: Box<dyn FnOnce() + Send> = Box::new(move || assert!(held.recv().is_err()));
        let second: Box<dyn FnOnce() + Send> = Box::new(|| std::panic::resume_unwind(Box::new(())));
        let threads = Threads::of([first, second]);
        assert!(!threads.have_ended(Duration::ZERO));
        drop(release);
        assert!(threads.have_ended(Duration::from_secs(60)));
    }
}
