//! The one thread that changes the store, and how it commits for several callers at once.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::transaction::{Transaction, fault};
use crate::changes::Changes;
use crate::error::{Error, Result};

/// Mutations that wait for the thread; a caller beyond them waits for a place.
const QUEUE: usize = 1024;
/// The most mutations in one commit, so that the first of them does not wait too long.
const BATCH: usize = 64;

/// Runs inside the batch's transaction; returns what answers the caller once the batch is
/// committed, or failed to.
type Job = Box<dyn FnOnce(&Connection) -> Answer + Send>;
type Answer = Box<dyn FnOnce(Result<()>) + Send>;

#[derive(Clone)]
pub(super) struct Writer {
    jobs: SyncSender<Job>,
    /// Who is told of what was committed.
    pub(super) changes: Changes,
}

impl Writer {
    pub(super) fn start(connection: Connection) -> Self {
        let (jobs, queue) = sync_channel(QUEUE);
        // Ends when the last `Writer` is dropped.
        thread::spawn(move || serve(&connection, &queue));
        Self {
            jobs,
            changes: Changes::default(),
        }
    }

    pub(super) async fn run<R, F>(&self, work: F) -> Result<R>
    where
        R: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<R> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let changes = self.changes.clone();
        let job: Job = Box::new(move |connection| {
            let (outcome, changed) = in_savepoint(connection, work);
            Box::new(move |committed| {
                if committed.is_ok() {
                    changed.iter().for_each(|name| changes.publish(name));
                }
                // A caller that went away wants no answer; its mutation stands all the same.
                drop(answer.send(committed.and(outcome)));
            })
        });
        self.submit(job).await?;
        answered
            .await
            .map_err(|_| Error::internal("the store's writer stopped"))?
    }

    async fn submit(&self, job: Job) -> Result<()> {
        use std::sync::mpsc::TrySendError;
        let stopped = || Error::internal("the store's writer stopped");
        match self.jobs.try_send(job) {
            Ok(()) => Ok(()),
            Err(TrySendError::Disconnected(_)) => Err(stopped()),
            Err(TrySendError::Full(job)) => {
                let jobs = self.jobs.clone();
                tokio::task::spawn_blocking(move || jobs.send(job))
                    .await
                    .map_err(|_| stopped())?
                    .map_err(|_| stopped())
            }
        }
    }
}

fn serve(connection: &Connection, queue: &Receiver<Job>) {
    while let Ok(first) = queue.recv() {
        if let Err(error) = connection.execute_batch("BEGIN IMMEDIATE") {
            // Running the job outside a transaction is not an option; its answer is the fault.
            refuse(connection, first, &fault(&error));
            continue;
        }
        let mut answers = vec![first(connection)];
        while answers.len() < BATCH {
            let Ok(job) = queue.try_recv() else { break };
            answers.push(job(connection));
        }
        let committed = connection
            .execute_batch("COMMIT")
            .map_err(|error| fault(&error));
        if committed.is_err() {
            // The transaction may still be open (disk full); the next batch must start clean.
            drop(connection.execute_batch("ROLLBACK"));
        }
        for answer in answers {
            answer(committed.clone());
        }
    }
}

/// Answers a job with `error` and leaves no trace of its work.
fn refuse(connection: &Connection, job: Job, error: &Error) {
    let answer = job(connection);
    drop(connection.execute_batch("ROLLBACK"));
    answer(Err(error.clone()));
}

/// Runs `work`; also says which names it has changed.
fn in_savepoint<R>(
    connection: &Connection,
    work: impl FnOnce(&Transaction<'_>) -> Result<R>,
) -> (Result<R>, Vec<String>) {
    let run = |sql: &str| connection.execute_batch(sql).map_err(|error| fault(&error));
    if let Err(error) = run("SAVEPOINT call") {
        return (Err(error), Vec::new());
    }
    let transaction = Transaction::new(connection);
    // A defect in one operation must not end the thread that serves all of them.
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&transaction)))
        .unwrap_or_else(|_| Err(Error::internal("a mutation panicked")));
    let mut changed = transaction.changed();
    let undone = match outcome {
        Ok(_) => Ok(()),
        Err(_) => {
            changed.clear();
            run("ROLLBACK TO call")
        }
    };
    match undone.and_then(|()| run("RELEASE call")) {
        Ok(()) => (outcome, changed),
        Err(error) => (Err(error), Vec::new()),
    }
}
