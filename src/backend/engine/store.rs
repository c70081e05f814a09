//! The engine's one store: records, their indexes, tasks and bundles in SQLite.
//!
//! All SQL of the project stands in this module and its children. A [`Record`] is an encoded
//! protobuf message under a kind and a key; the keys are documented beside each record type.
//!
//! Mutations run one after the other on a writer thread. What waits together is committed
//! together (group commit): each mutation has a savepoint of its own, so one that fails takes
//! nothing from its neighbours, and nobody is answered before the commit is on disk. Reads run on
//! connections of their own and are never blocked by the writer.

pub mod copy;
mod directory;
pub mod ledger;
mod readers;
mod schema;
mod snapshot;
mod threads;
mod transaction;
mod vacancy;
mod version;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::changes::Changes;
use crate::error::{Error, ErrorKind, Result};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::watched;
pub use directory::OpenError;
pub use snapshot::Snapshot;
pub use transaction::{Owner, Record, Task, Transaction};
pub use vacancy::Vacancy;
pub use version::Version;

/// Threads that serve reads at the same time, each by a connection.
const READERS: usize = 4;
/// How long the end waits for the threads.
const CLOSING: Duration = Duration::from_secs(3);
/// When to come back where somebody has to put the database back.
const LATER: Duration = Duration::from_secs(5);

/// A store. Clones share it.
#[derive(Clone)]
pub struct Store {
    writer: writer::Writer,
    readers: Option<readers::Readers>,
    /// After those who make the threads go on.
    closing: Arc<Closing>,
    /// Held for as long as the store is open; nobody else can open the directory meanwhile.
    _lock: Option<Arc<std::fs::File>>,
    /// Where the database is, unless it is in memory.
    place: Option<Arc<directory::Place>>,
    /// Random bytes that nobody else has, and that stay.
    secret: Arc<[u8]>,
}

/// Waits for the threads when nobody needs them any more.
struct Closing(threads::Threads);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.have_ended(CLOSING);
    }
}

/// Why nothing is stored any more.
fn lost(file: &str) -> Error {
    let kind = ErrorKind::Unavailable { retry_after: LATER };
    let consequence = match file {
        directory::LOCK => "another gateway may use the store too",
        _ => "a change would be lost",
    };
    let text = format!(
        "the file {file} of the gateway's state directory was deleted or replaced, so that {consequence}; nothing was changed"
    );
    Error::new(kind, text)
}

fn size(path: &Path) -> Option<u64> {
    Some(std::fs::metadata(path).ok()?.len())
}

impl Store {
    /// Opens the store in `directory`, which is created if absent.
    ///
    /// Fails if another process has it open, if it is not writable, or if it holds something
    /// that this program did not write.
    pub fn open(directory: &Path) -> std::result::Result<Self, OpenError> {
        Self::opened(directory, directory::claim(directory)?)
    }

    /// The same by whoever has claimed the directory.
    fn opened(directory: &Path, lock: std::fs::File) -> std::result::Result<Self, OpenError> {
        let unusable = |cause| OpenError::Unusable {
            path: directory.to_owned(),
            cause,
        };
        let path = directory.join(directory::DATABASE);
        directory::make(&path).map_err(unusable)?;
        let writer =
            schema::open_for_writing(&path).map_err(|cause| OpenError::database(&path, cause))?;
        // It is ours.
        directory::tighten(directory);
        let secret = schema::secret(&writer).map_err(|cause| OpenError::database(&path, cause))?;
        let readers = (0..READERS)
            .map(|_| schema::open_for_reading(&path))
            .collect::<rusqlite::Result<Vec<_>>>()
            .map_err(|cause| OpenError::database(&path, schema::SchemaError::Sqlite(cause)))?;
        let place = directory::Place::of(directory, &lock).map_err(unusable)?;
        let (readers, reading) = readers::Readers::start(readers);
        let (writer, writing) = writer::Writer::start(writer, Some(reading));
        Ok(Self {
            writer,
            readers: Some(readers),
            closing: Arc::new(Closing(writing)),
            _lock: Some(Arc::new(lock)),
            place: Some(Arc::new(place)),
            secret,
        })
    }

    /// Where the names of what was changed are published once it is durable.
    pub fn changes(&self) -> &Changes {
        &self.writer.changes
    }

    /// Has `metrics` told of commits and of the files. At most once.
    pub fn measured_by(&self, metrics: &Metrics) {
        if self.writer.metrics.set(metrics.clone()).is_err() {
            return;
        }
        metrics.watch(watched::STORE_QUEUE, self.writer.waiting());
        if let Some(place) = &self.place {
            let (file, log) = (place.file(), place.log());
            metrics.watch(watched::STORE_BYTES, move || size(&file));
            metrics.watch(watched::STORE_WAL_BYTES, move || size(&log));
            let place = Arc::clone(place);
            metrics.watch(watched::STORE_LOGS, move || Some(place.logs().into()));
        }
    }

    /// The secret of this store.
    pub fn secret(&self) -> &[u8] {
        &self.secret
    }

    /// Which state readers see.
    pub fn version(&self) -> &Version {
        &self.writer.version
    }

    /// Told of every mutation that was committed.
    pub fn committed(&self) -> Arc<Notify> {
        Arc::clone(&self.writer.committed)
    }

    /// A store that is gone when its last clone is dropped.
    pub fn in_memory() -> std::result::Result<Self, OpenError> {
        Self::passing(":memory:")
    }

    /// The same for what may be large: SQLite writes what is too much for memory to a file for
    /// temporary things, which has no name.
    pub fn for_trial() -> std::result::Result<Self, OpenError> {
        Self::passing("")
    }

    fn passing(name: &str) -> std::result::Result<Self, OpenError> {
        let failed = |cause| OpenError::database(Path::new(name), cause);
        let connection = schema::open_passing(name).map_err(failed)?;
        let secret = schema::secret(&connection).map_err(failed)?;
        let (writer, writing) = writer::Writer::start(connection, None);
        Ok(Self {
            writer,
            readers: None,
            closing: Arc::new(Closing(writing)),
            _lock: None,
            place: None,
            secret,
        })
    }

    /// Runs `work` in a transaction and returns once it is durable. An error rolls it back.
    ///
    /// Dropping the returned future does not stop work that has begun.
    pub async fn write<R, F>(&self, work: F) -> Result<R>
    where
        R: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<R> + Send + 'static,
    {
        if let Some(file) = self.place.as_ref().and_then(|place| place.missing()) {
            return Err(lost(file));
        }
        self.writer.run(work).await
    }

    /// Ends the store for all its clones: does what waits, and leaves all in the database's one file.
    /// Says whether that was done; not where it takes too long, or another process reads the store.
    pub async fn close(&self) -> bool {
        let closed = async {
            if let Some(readers) = &self.readers {
                readers.end().await;
            }
            self.writer.end().await;
            let closing = Arc::clone(&self.closing);
            tokio::task::spawn_blocking(move || closing.0.have_ended(CLOSING)).await
        };
        let closed = matches!(tokio::time::timeout(CLOSING, closed).await, Ok(Ok(true)));
        let log = self.place.as_ref().and_then(|place| size(&place.log()));
        closed && log.unwrap_or(0) == 0
    }

    /// Returns when the store can change nothing any more, because of a defect or its end.
    pub async fn ended(&self) {
        self.writer.ended().await;
    }

    /// Looks which file of the store is not where the next start will look for it. SQLite goes on with
    /// files that were deleted or replaced, and all of that is lost; without the lock another gateway may
    /// do so. So nothing is stored any more until it is there again.
    pub async fn missing(&self) -> Option<&'static str> {
        let place = self.place.clone()?;
        tokio::task::spawn_blocking(move || place.look())
            .await
            .unwrap_or(Some(directory::DATABASE))
    }

    /// Runs `work` on a consistent snapshot.
    pub async fn read<R, F>(&self, work: F) -> Result<R>
    where
        R: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<R> + Send + 'static,
    {
        match &self.readers {
            Some(readers) => readers.read(work).await,
            // In memory there is one connection, so reads queue with the writes.
            None => self.writer.look(work).await,
        }
    }
}

#[cfg(test)]
mod tests;
