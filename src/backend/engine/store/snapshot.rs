//! A store as it is seen from beside: read only, while a gateway may be writing to it.
//!
//! SQLite's write-ahead log lets any process read the state of one moment; the directory's lock,
//! which keeps a second writer away, is not asked for.

use std::path::Path;

use rusqlite::Connection;

use super::directory::{self, OpenError};
use super::schema::{self, SchemaError};
use super::transaction::{self, Transaction};
use crate::error::Result;

/// A store that is only read.
pub struct Snapshot {
    connection: Connection,
}

impl Snapshot {
    /// Opens the store in `directory`. One of an earlier version is read as it is.
    pub fn of(directory: &Path) -> std::result::Result<Self, OpenError> {
        let path = directory.join(directory::DATABASE);
        if !path.exists() {
            return Err(OpenError::Absent(directory.to_owned()));
        }
        directory::look_for_orphans(directory)?;
        let open = || {
            let connection = schema::open_for_reading(&path)?;
            if schema::version_of(&connection)? == 0 {
                return Err(SchemaError::Foreign);
            }
            Ok(connection)
        };
        let connection = open().map_err(|cause| OpenError::database(&path, cause))?;
        Ok(Self { connection })
    }

    /// Runs `work` on the state of one moment.
    pub fn read<R>(&self, work: impl FnOnce(&Transaction<'_>) -> Result<R>) -> Result<R> {
        transaction::snapshot(&self.connection, work)
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }
}
