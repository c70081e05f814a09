//! The tables, and how an older file becomes a current one.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension};

/// Marks the file as ours (`PRAGMA application_id`): "PRTN".
const APPLICATION_ID: i32 = 0x5052_544E;
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of a store's secret.
const SECRET: usize = 32;
/// Bytes of the header of SQLite's files.
pub(super) const HEADER: usize = 100;

/// One step per version of the file (`PRAGMA user_version`), oldest first. A step that has been
/// released is never edited.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE record (
        kind TEXT NOT NULL,
        key TEXT NOT NULL,
        body BLOB NOT NULL,
        PRIMARY KEY (kind, key)
    );
    -- Where else a record is found: every record of `kind` that belongs under `name`, in the
    -- order of `sort`.
    CREATE TABLE record_index (
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        sort TEXT NOT NULL,
        key TEXT NOT NULL,
        PRIMARY KEY (kind, name, sort, key)
    ) WITHOUT ROWID;
    CREATE INDEX record_index_by_key ON record_index (kind, key);
    -- What the engine must do later, in the same transaction as the reason for it.
    CREATE TABLE task (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        due_millis INTEGER NOT NULL,
        subject TEXT NOT NULL,
        body BLOB NOT NULL
    );
    CREATE INDEX task_by_due ON task (due_millis, id);
    CREATE INDEX task_by_subject ON task (subject);
    -- Copies of registered bundles, once per content.
    CREATE TABLE bundle (
        digest TEXT PRIMARY KEY,
        body BLOB NOT NULL
    );
",
    "
    -- Idempotency keys: a digest of whose key it is for what, and what came of it.
    CREATE TABLE ledger (
        scope BLOB PRIMARY KEY,
        caller BLOB NOT NULL,
        fingerprint BLOB NOT NULL,
        expires_millis INTEGER NOT NULL,
        evidence BLOB NOT NULL,
        outcome BLOB,
        -- A row, its places in the indexes, and what it holds.
        bytes INTEGER NOT NULL GENERATED ALWAYS AS
            (512 + length(evidence) + coalesce(length(outcome), 0)) STORED
    );
    CREATE INDEX ledger_by_expiry ON ledger (expires_millis);
    CREATE INDEX ledger_by_caller ON ledger (caller, expires_millis);
    -- What the keys of each caller take; those of all under the empty name.
    CREATE TABLE ledger_use (
        caller BLOB PRIMARY KEY,
        bytes INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TRIGGER ledger_added AFTER INSERT ON ledger BEGIN
        INSERT INTO ledger_use (caller, bytes) VALUES (new.caller, new.bytes), (x'', new.bytes)
        ON CONFLICT DO UPDATE SET bytes = bytes + excluded.bytes;
    END;
    CREATE TRIGGER ledger_removed AFTER DELETE ON ledger BEGIN
        UPDATE ledger_use SET bytes = bytes - old.bytes WHERE caller IN (old.caller, x'');
        DELETE FROM ledger_use WHERE caller = old.caller AND bytes = 0;
    END;
    CREATE TABLE ledger_secret (
        id INTEGER PRIMARY KEY CHECK (id = 0),
        secret BLOB NOT NULL
    );
",
    "
    -- The account and the region that the ARNs in records name.
    CREATE TABLE owner (
        id INTEGER PRIMARY KEY CHECK (id = 0),
        account_id TEXT NOT NULL,
        region TEXT NOT NULL
    );
",
];

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
    #[error("the machine gives no random numbers: {0}")]
    NoRandomness(getrandom::Error),
    #[error("it is not a database of this program")]
    Foreign,
    #[error(
        "it was written by a newer version of this program (format {found}, this one knows up to {known}); use that version"
    )]
    TooNew { found: usize, known: usize },
}

/// What all connections to a file have in common.
fn settle(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // What a savepoint remembers is a few pages. SQLite would take 64 KiB for it each time, and a
    // file where that is not enough; the file system may be one that cannot be written.
    connection.pragma_update(None, "temp_store", "MEMORY")
}

pub(super) fn open_for_writing(path: &Path) -> Result<Connection, SchemaError> {
    let connection = Connection::open(path)?;
    settle(&connection)?;
    migrate(&connection)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // An acknowledged write survives not only this process but the machine.
    connection.pragma_update(None, "synchronous", "FULL")?;
    Ok(connection)
}

pub(super) fn open_for_reading(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    settle(&connection)?;
    Ok(connection)
}

/// A database that goes with its connection: `:memory:`, or nothing for one that may be in a file.
pub(super) fn open_passing(name: &str) -> Result<Connection, SchemaError> {
    let connection = Connection::open(name)?;
    migrate(&connection)?;
    Ok(connection)
}

/// The secret of a store, which is made where there is none.
pub(super) fn secret(connection: &Connection) -> Result<Arc<[u8]>, SchemaError> {
    let known = connection.query_row("SELECT secret FROM ledger_secret", [], |row| {
        row.get::<_, Vec<u8>>(0)
    });
    if let Some(known) = known.optional()? {
        return Ok(known.into());
    }
    let mut fresh = [0; SECRET];
    getrandom::fill(&mut fresh).map_err(SchemaError::NoRandomness)?;
    connection.execute(
        "INSERT INTO ledger_secret (id, secret) VALUES (0, ?1)",
        [fresh.as_slice()],
    )?;
    Ok(fresh.as_slice().into())
}

/// The version of a file; 0 of an empty one. Refuses what is not ours, or newer than this program.
pub(super) fn version_of(connection: &Connection) -> Result<usize, SchemaError> {
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let application_id =
        pragma("application_id").map_err(|error| match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::NotADatabase) => SchemaError::Foreign,
            _ => SchemaError::Sqlite(error),
        })?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if application_id != APPLICATION_ID && (application_id != 0 || tables > 0) {
        return Err(SchemaError::Foreign);
    }
    let found = usize::try_from(pragma("user_version")?).unwrap_or(usize::MAX);
    known(found)
}

fn known(found: usize) -> Result<usize, SchemaError> {
    if found > MIGRATIONS.len() {
        return Err(SchemaError::TooNew {
            found,
            known: MIGRATIONS.len(),
        });
    }
    Ok(found)
}

/// The same by the first bytes of a file, before anything opens it.
pub(super) fn version_in(header: &[u8; HEADER]) -> Result<usize, SchemaError> {
    // The file format of SQLite, "The Database Header".
    let number = |at: usize| {
        let bytes = header.get(at..at + 4).and_then(|it| it.try_into().ok());
        bytes.map_or(0, i32::from_be_bytes)
    };
    if !header.starts_with(b"SQLite format 3\0") || number(68) != APPLICATION_ID {
        return Err(SchemaError::Foreign);
    }
    known(usize::try_from(number(60)).unwrap_or(usize::MAX))
}

/// Whether SQLite keeps a log beside the file, without which it is not whole.
pub(super) fn has_log(header: &[u8; HEADER]) -> bool {
    // The versions of the format for writing and for reading; 1 is that without a log.
    header
        .get(18..20)
        .is_some_and(|versions| versions.contains(&2))
}

fn migrate(connection: &Connection) -> Result<(), SchemaError> {
    let found = version_of(connection)?;
    for (version, step) in MIGRATIONS.iter().enumerate().skip(found) {
        connection.execute_batch(&format!(
            "BEGIN IMMEDIATE; {step} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {}; COMMIT;",
            version + 1
        ))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{Store, directory};
    use super::*;

    /// A store as the version wrote it that knew so many steps.
    fn written_with(steps: usize, folder: &Path) {
        let connection = Connection::open(folder.join(directory::DATABASE)).unwrap();
        for step in &MIGRATIONS[..steps] {
            connection.execute_batch(step).unwrap();
        }
        connection
            .execute_batch(&format!(
                "INSERT INTO record (kind, key, body) VALUES ('note', 'a', x'01');
                 PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {steps};"
            ))
            .unwrap();
    }

    #[tokio::test]
    async fn a_store_of_each_earlier_version_is_kept_and_brought_up_to_date() {
        for steps in 1..=MIGRATIONS.len() {
            let folder = tempfile::tempdir().unwrap();
            written_with(steps, folder.path());
            let store = Store::open(folder.path()).unwrap();
            let secret = store.secret().to_vec();
            assert_eq!(secret.len(), SECRET, "{steps}");
            drop(store);
            let store = Store::open(folder.path()).unwrap();
            assert_eq!(store.secret(), secret, "{steps}");
            let notes: i64 = store
                .read(|tx| {
                    let count = "SELECT count(*) FROM record WHERE kind = 'note'";
                    Ok(tx
                        .connection()
                        .query_row(count, [], |row| row.get(0))
                        .unwrap())
                })
                .await
                .unwrap();
            assert_eq!(notes, 1, "{steps}");
        }
    }

    #[test]
    fn a_backup_of_each_earlier_version_is_restored_and_brought_up_to_date() {
        for steps in 1..=MIGRATIONS.len() {
            let folder = tempfile::tempdir().unwrap();
            written_with(steps, folder.path());
            let (file, state) = (folder.path().join("backup"), folder.path().join("state"));
            let copied = super::super::copy::copy(folder.path(), &file, &|_, _| ()).unwrap();
            assert_eq!(copied.format, steps);
            let restored = super::super::copy::restore(&file, &state, &|_, _| ()).unwrap();
            assert_eq!(restored, copied);
            let now = open_for_writing(&state.join(directory::DATABASE)).unwrap();
            assert_eq!(version_of(&now).unwrap(), MIGRATIONS.len());
        }
    }

    #[test]
    fn a_store_of_a_later_version_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        written_with(MIGRATIONS.len(), folder.path());
        let path = folder.path().join(directory::DATABASE);
        let connection = Connection::open(&path).unwrap();
        let later = i32::try_from(MIGRATIONS.len()).unwrap() + 1;
        connection
            .pragma_update(None, "user_version", later)
            .unwrap();
        let error = open_for_writing(&path).unwrap_err();
        assert!(matches!(error, SchemaError::TooNew { .. }), "{error}");
    }
}
