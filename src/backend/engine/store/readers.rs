//! The threads that read the store, each by a connection of its own.
//!
//! They are few and stay the same. A pool that grows and shrinks would read as well, but a system's
//! allocator keeps an area for each thread that ever was, as large as the most that it ever held.

use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::oneshot;

use super::threads::Threads;
use super::transaction::{self, Transaction};
use crate::error::{Error, Result};

/// Reads that wait for a thread; a caller beyond them waits for a place.
const QUEUE: usize = 64;

type Job = Box<dyn FnOnce(&Connection) + Send>;
/// `None` ends the threads.
type Next = Option<Job>;

#[derive(Clone)]
pub(super) struct Readers {
    jobs: Sender<Next>,
}

impl Readers {
    /// One thread for each connection. They end when they are told to, or the last clone is dropped.
    pub(super) fn start(connections: Vec<Connection>) -> (Self, Threads) {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let queue = Arc::new(Mutex::new(queue));
        let threads = Threads::of(connections.into_iter().map(|connection| {
            let queue = Arc::clone(&queue);
            move || serve(&connection, &queue)
        }));
        (Self { jobs }, threads)
    }

    /// Has the threads end after what waits for them.
    pub(super) async fn end(&self) {
        // They may have ended before.
        drop(self.jobs.send(None).await);
    }

    /// Runs `work` on a consistent snapshot, unless nobody waits for it any more.
    pub(super) async fn read<R, F>(&self, work: F) -> Result<R>
    where
        R: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<R> + Send + 'static,
    {
        let stopped = || Error::internal("the store's readers stopped");
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            if !answer.is_closed() {
                // Who went away meanwhile needs no answer.
                let _ = answer.send(transaction::snapshot(connection, work));
            }
        });
        self.jobs.send(Some(job)).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }
}

fn serve(connection: &Connection, queue: &Mutex<Receiver<Next>>) {
    // Whoever waits for the next job holds the lock; the others wait for that.
    let next = || {
        let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
        let next = queue.blocking_recv().flatten();
        if next.is_none() {
            queue.close();
        }
        next
    };
    while let Some(job) = next() {
        job(connection);
    }
}
