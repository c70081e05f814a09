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
mod transaction;
mod vacancy;
mod version;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
/// When to come back where somebody has to put the database back.
const LATER: Duration = Duration::from_secs(5);

/// A store. Clones share it.
#[derive(Clone)]
pub struct Store {
    writer: writer::Writer,
    readers: Option<readers::Readers>,
    /// Held for as long as the store is open; nobody else can open the directory meanwhile.
    _lock: Option<Arc<std::fs::File>>,
    /// Where the database is, unless it is in memory.
    place: Option<Arc<directory::Place>>,
    /// Whether the database was there when it was last looked for.
    in_place: Arc<AtomicBool>,
    /// Random bytes that nobody else has, and that stay.
    secret: Arc<[u8]>,
}

/// Why nothing is stored any more.
fn lost() -> Error {
    let kind = ErrorKind::Unavailable { retry_after: LATER };
    Error::new(
        kind,
        "the gateway's database was deleted or replaced, so that a change would be lost; nothing was changed",
    )
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
        let path = directory.join(directory::DATABASE);
        let writer =
            schema::open_for_writing(&path).map_err(|cause| OpenError::database(&path, cause))?;
        let secret = schema::secret(&writer).map_err(|cause| OpenError::database(&path, cause))?;
        let place = directory::Place::of(&path).map_err(|cause| OpenError::Unusable {
            path: directory.to_owned(),
            cause,
        })?;
        let readers = (0..READERS)
            .map(|_| schema::open_for_reading(&path))
            .collect::<rusqlite::Result<Vec<_>>>()
            .map_err(|cause| OpenError::database(&path, schema::SchemaError::Sqlite(cause)))?;
        Ok(Self {
            writer: writer::Writer::start(writer),
            readers: Some(readers::Readers::start(readers)),
            _lock: Some(Arc::new(lock)),
            place: Some(Arc::new(place)),
            in_place: Arc::new(AtomicBool::new(true)),
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
        Ok(Self {
            writer: writer::Writer::start(connection),
            readers: None,
            _lock: None,
            place: None,
            in_place: Arc::new(AtomicBool::new(true)),
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
        if !self.in_place.load(Ordering::Relaxed) {
            return Err(lost());
        }
        self.writer.run(work).await
    }

    /// Returns when the store can change nothing any more because of a defect.
    pub async fn ended(&self) {
        self.writer.ended().await;
    }

    /// Whether the database is still where the next start will look for it. SQLite goes on with
    /// a file that was deleted or replaced, and all of that is lost. So nothing is stored any more until
    /// it is there again.
    pub async fn is_in_place(&self) -> bool {
        let Some(place) = self.place.clone() else {
            return true;
        };
        let kept = tokio::task::spawn_blocking(move || place.is_kept())
            .await
            .unwrap_or(false);
        self.in_place.store(kept, Ordering::Relaxed);
        kept
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
