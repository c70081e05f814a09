//! The one thread that changes the store, and how it commits for several callers at once.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::transaction::{Transaction, fault};
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
}

impl Writer {
    pub(super) fn start(connection: Connection) -> Self {
        let (jobs, queue) = sync_channel(QUEUE);
        // Ends when the last `Writer` is dropped.
        thread::spawn(move || serve(&connection, &queue));
        Self { jobs }
    }

    pub(super) async fn run<R, F>(&self, work: F) -> Result<R>
    where
        R: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<R> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            let outcome = in_savepoint(connection, work);
            // A caller that went away wants no answer; its mutation stands all the same.
            Box::new(move |committed| drop(answer.send(committed.and(outcome))))
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

fn in_savepoint<R>(
    connection: &Connection,
    work: impl FnOnce(&Transaction<'_>) -> Result<R>,
) -> Result<R> {
    let run = |sql: &str| connection.execute_batch(sql).map_err(|error| fault(&error));
    run("SAVEPOINT call")?;
    // A defect in one operation must not end the thread that serves all of them.
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        work(&Transaction::new(connection))
    }))
    .unwrap_or_else(|_| Err(Error::internal("a mutation panicked")));
    if outcome.is_err() {
        run("ROLLBACK TO call")?;
    }
    run("RELEASE call")?;
    outcome
}
