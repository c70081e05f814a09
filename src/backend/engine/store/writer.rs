//! The one thread that changes the store, and how it commits for several callers at once.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::{Notify, oneshot};

use super::threads::Threads;
use super::transaction::{Transaction, fault, rolled_back};
use super::version::Version;
use crate::changes::Changes;
use crate::error::{Error, Result};
use crate::telemetry::Metrics;

/// Mutations that wait for the thread; a caller beyond them waits for a place.
const QUEUE: usize = 1024;
/// The most mutations in one commit, so that the first of them does not wait too long.
const BATCH: usize = 64;
/// How long the end waits for reads that are under way.
const READS: Duration = Duration::from_secs(1);

/// Runs inside the batch's transaction, or is told why there is none; returns what answers the
/// caller once the batch is committed, or failed to.
type Job = Box<dyn FnOnce(Result<&Connection>) -> Answer + Send>;
type Answer = Box<dyn FnOnce(Result<()>) + Send>;
/// `None` ends the thread.
type Next = Option<Job>;

#[derive(Clone)]
pub(super) struct Writer {
    jobs: Sender<Next>,
    /// Told of every mutation that was committed, whoever waited for it.
    pub(super) committed: Arc<Notify>,
    /// Where the names of what was changed are published then.
    pub(super) changes: Changes,
    pub(super) version: Version,
    /// Who is told of commits, once that is known.
    pub(super) metrics: Arc<OnceLock<Metrics>>,
}

/// Who is told of a mutation.
struct Told {
    worker: Arc<Notify>,
    changes: Changes,
    version: Version,
}

impl Writer {
    /// The thread ends when it is told to, or the last `Writer` is dropped; the last of all that use
    /// the database, so that it leaves one file.
    pub(super) fn start(connection: Connection, readers: Option<Threads>) -> (Self, Threads) {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let metrics = Arc::new(OnceLock::new());
        let told = Arc::clone(&metrics);
        let thread = Threads::of([move || {
            serve(&connection, queue, &told);
            close(connection, readers.as_ref());
        }]);
        let writer = Self {
            jobs,
            committed: Arc::default(),
            changes: Changes::default(),
            version: Version::default(),
            metrics,
        };
        (writer, thread)
    }

    /// Has the thread end after what waits for it.
    pub(super) async fn end(&self) {
        // It may have ended before.
        drop(self.jobs.send(None).await);
    }

    /// How many wait for the thread; asks as long as a `Writer` lives.
    pub(super) fn waiting(&self) -> impl Fn() -> Option<u64> + Send + Sync + 'static {
        let jobs = self.jobs.downgrade();
        move || {
            let jobs = jobs.upgrade()?;
            u64::try_from(jobs.max_capacity() - jobs.capacity()).ok()
        }
    }

    /// Returns when the thread has ended: by a defect, unless it was told to.
    pub(super) async fn ended(&self) {
        self.jobs.closed().await;
    }

    /// Runs a mutation.
    pub(super) async fn run<R, F>(&self, work: F) -> Result<R>
    where
        R: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<R> + Send + 'static,
    {
        let told = Told {
            worker: Arc::clone(&self.committed),
            changes: self.changes.clone(),
            version: self.version.clone(),
        };
        self.submit(work, Some(told)).await
    }

    /// Runs work that changes nothing.
    pub(super) async fn look<R, F>(&self, work: F) -> Result<R>
    where
        R: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<R> + Send + 'static,
    {
        self.submit(work, None).await
    }

    async fn submit<R, F>(&self, work: F, told: Option<Told>) -> Result<R>
    where
        R: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<R> + Send + 'static,
    {
        let stopped = || Error::internal("the store's writer stopped");
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            // Nobody was told of work that has not begun.
            if answer.is_closed() {
                return Box::new(drop);
            }
            if let Some(told) = &told {
                told.version.begin();
            }
            let (outcome, changed) = match connection {
                Ok(connection) => in_savepoint(connection, work),
                Err(error) => (Err(error), Vec::new()),
            };
            Box::new(move |committed| {
                if let Some(told) = told {
                    told.version.end();
                    if committed.is_ok() {
                        told.worker.notify_one();
                        changed.iter().for_each(|name| told.changes.publish(name));
                    }
                }
                // A caller that went away wants no answer; its mutation stands all the same.
                drop(answer.send(committed.and(outcome)));
            })
        });
        self.jobs.send(Some(job)).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }
}

fn serve(connection: &Connection, mut queue: Receiver<Next>, metrics: &OnceLock<Metrics>) {
    let mut ends = false;
    while !ends && let Some(Some(first)) = queue.blocking_recv() {
        if let Err(error) = connection.execute_batch("BEGIN IMMEDIATE") {
            // Running the job outside a transaction is not an option; its answer is the fault.
            first(Err(fault(&error)))(Ok(()));
            continue;
        }
        let mut answers = vec![first(Ok(connection))];
        // SQLite gives the whole transaction up by itself when its disk fails. What was done in
        // it is gone then, and what came after would be committed without being part of it.
        while !connection.is_autocommit() && answers.len() < BATCH {
            match queue.try_recv() {
                Ok(Some(job)) => answers.push(job(Ok(connection))),
                Ok(None) => {
                    ends = true;
                    break;
                }
                Err(_) => break,
            }
        }
        let committed = if connection.is_autocommit() {
            Err(rolled_back())
        } else {
            let began = Instant::now();
            let committed = commit(connection);
            if let Some(metrics) = metrics.get() {
                let mutations = u64::try_from(answers.len()).unwrap_or(u64::MAX);
                metrics.commit(mutations, began.elapsed());
            }
            committed
        };
        for answer in answers {
            answer(committed.clone());
        }
    }
}

/// Closes the database after all others: SQLite copies what stands in the log into it, and removes the
/// log, when the last connection goes, unless the database was moved away.
fn close(connection: Connection, readers: Option<&Threads>) {
    // Whoever only reads cannot copy, even as the last one.
    if readers.is_some_and(|readers| !readers.outlast(READS)) {
        tracing::warn!("a read of the store goes on while it is closed");
    }
    if let Err((_, error)) = connection.close() {
        tracing::warn!(cause = %error, "the store's log stays; it is read at the next start");
    }
}

fn commit(connection: &Connection) -> Result<()> {
    let committed = connection
        .execute_batch("COMMIT")
        .map_err(|error| fault(&error));
    if committed.is_err() {
        // The transaction may still be open (disk full); the next batch must start clean.
        drop(connection.execute_batch("ROLLBACK"));
    }
    committed
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
    let changed = transaction.changed();
    if connection.is_autocommit() {
        // The savepoint is gone with its transaction.
        return (outcome, Vec::new());
    }
    let (undone, changed) = match outcome {
        Ok(_) => (Ok(()), changed),
        Err(_) => (run("ROLLBACK TO call"), Vec::new()),
    };
    match undone.and_then(|()| run("RELEASE call")) {
        Ok(()) => (outcome, changed),
        Err(error) => (Err(error), Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::error::ErrorKind;

    /// A writer that does nothing before the sender is dropped.
    fn waiting() -> (Writer, std::sync::mpsc::Sender<()>) {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch("CREATE TABLE note (text TEXT)")
            .unwrap();
        let (writer, _) = Writer::start(connection, None);
        let (release, held) = channel::<()>();
        let job: Job = Box::new(move |_| {
            held.recv().unwrap_err();
            Box::new(drop)
        });
        writer.jobs.try_send(Some(job)).unwrap();
        (writer, release)
    }

    fn insert(connection: &Connection) {
        connection
            .execute("INSERT INTO note VALUES ('a')", [])
            .unwrap();
    }

    fn notes(connection: &Connection) -> i64 {
        connection
            .query_row("SELECT count(*) FROM note", [], |row| row.get(0))
            .unwrap()
    }

    #[tokio::test]
    async fn a_transaction_that_is_rolled_back_by_itself_takes_its_batch_along_and_nothing_else() {
        let (writer, release) = waiting();
        let before = writer.run(|tx| {
            insert(tx.connection());
            Ok(())
        });
        let failing = writer.run(|tx| {
            // As SQLite does when its disk fails.
            tx.connection().execute_batch("ROLLBACK").unwrap();
            Ok(())
        });
        let after = writer.run(|tx| {
            insert(tx.connection());
            Ok(())
        });
        let (before, failing, after, ()) =
            tokio::join!(biased; before, failing, after, async { drop(release) });
        for gone in [before, failing] {
            let error = gone.unwrap_err();
            assert!(
                matches!(*error.kind, ErrorKind::Unavailable { .. }),
                "{error:?}"
            );
        }
        assert_eq!(after, Ok(()));
        let left = writer.run(|tx| Ok(notes(tx.connection()))).await;
        assert_eq!(left, Ok(1));
    }

    #[tokio::test]
    async fn a_mutation_whose_caller_left_before_it_began_is_not_made() {
        let (writer, release) = waiting();
        let mut left = Box::pin(writer.run(|tx| {
            insert(tx.connection());
            Ok(())
        }));
        assert!(futures_util::poll!(&mut left).is_pending());
        drop(left);
        drop(release);
        let found = writer.run(|tx| Ok(notes(tx.connection()))).await;
        assert_eq!(found, Ok(0));
    }

    #[tokio::test]
    async fn a_mutation_without_a_transaction_is_not_made() {
        let connection = Connection::open_in_memory().unwrap();
        // A transaction that is open already lets none begin.
        connection
            .execute_batch("CREATE TABLE note (text TEXT); BEGIN")
            .unwrap();
        let (writer, _) = Writer::start(connection, None);
        let (called, call) = channel();
        let refused = writer.run(move |_| {
            called.send(()).unwrap();
            Ok(())
        });
        assert!(refused.await.is_err());
        assert!(call.recv().is_err(), "it was run");
    }

    /// Callers beyond the queue wait without a thread each, of which reads have need.
    #[tokio::test]
    async fn callers_that_wait_for_a_place_leave_the_blocking_threads_alone() {
        let (writer, release) = waiting();
        let callers: Vec<_> = (0..QUEUE + 600)
            .map(|_| {
                let writer = writer.clone();
                tokio::spawn(async move { writer.run(|_| Ok(())).await })
            })
            .collect();
        tokio::task::yield_now().await;
        let read = tokio::time::timeout(
            std::time::Duration::from_secs(20),
            tokio::task::spawn_blocking(|| ()),
        );
        assert!(read.await.is_ok());
        drop(release);
        for caller in callers {
            assert_eq!(caller.await.unwrap(), Ok(()));
        }
    }

    #[tokio::test]
    async fn the_end_of_the_thread_is_seen() {
        let (writer, release) = waiting();
        let job: Job = Box::new(|_| panic!("a defect"));
        writer.jobs.send(Some(job)).await.unwrap();
        drop(release);
        writer.ended().await;
        assert!(writer.run(|_| Ok(())).await.is_err());
    }
}
