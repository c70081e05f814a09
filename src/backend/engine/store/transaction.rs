//! What the engine can do inside a transaction.

use std::cell::RefCell;
use std::collections::HashSet;
use std::ops::ControlFlow;
use std::time::Duration;

use prost::Message;
use rusqlite::{Connection, OptionalExtension, params};

use crate::error::{Error, ErrorKind, Result};

/// Something stored under a key that its own fields determine.
pub trait Record: Message + Default {
    /// Names the type in the store. Never changed once released.
    const KIND: &'static str;

    /// Unique within the kind. Parts are separated by `/`, outermost first.
    fn key(&self) -> String;

    /// What changes of the record are published under: the first part of its key.
    fn published(key: &str) -> &str {
        key.split('/').next().unwrap_or(key)
    }

    /// Where else the record is found: (index name, sort key) pairs.
    fn indexes(&self) -> Vec<(String, String)> {
        Vec::new()
    }
}

/// Something to do later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    pub id: i64,
    pub due_millis: i64,
    pub subject: String,
    pub body: Vec<u8>,
}

/// The account and the region that stand in the ARNs of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    pub account_id: String,
    pub region: String,
}

/// A transaction: all of it happens, or nothing.
pub struct Transaction<'a> {
    connection: &'a Connection,
    /// Names of what was changed.
    changed: RefCell<Vec<String>>,
}

/// When to try again what the machine could not do.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What a failure of SQLite means: a disk may have room again, a defect stays.
pub(super) fn fault(error: &rusqlite::Error) -> Error {
    use rusqlite::ErrorCode;
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure | ErrorCode::DatabaseBusy) => {
            // Callers are not told, and whoever runs the gateway has to know.
            tracing::error!(cause = %error, "the store's disk fails");
            unavailable()
        }
        _ => Error::internal(format!("the store failed: {error}")),
    }
}

/// SQLite gave up the transaction of a whole batch.
pub(super) fn rolled_back() -> Error {
    tracing::error!("SQLite rolled a transaction back by itself");
    unavailable()
}

fn unavailable() -> Error {
    Error::new(
        ErrorKind::Unavailable {
            retry_after: RETRY_AFTER,
        },
        "the disk of the gateway's state directory is full, busy or failing; nothing was changed",
    )
}

pub(super) fn snapshot<R>(
    connection: &Connection,
    work: impl FnOnce(&Transaction<'_>) -> Result<R>,
) -> Result<R> {
    let run = |sql: &str| connection.execute_batch(sql).map_err(|error| fault(&error));
    run("BEGIN")?;
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        work(&Transaction::new(connection))
    }))
    .unwrap_or_else(|_| Err(Error::internal("a read panicked")));
    run("ROLLBACK")?;
    outcome
}

/// The end of the range of keys that begin with `prefix`; `None` where there is no end.
fn after_prefix(prefix: &str) -> String {
    // The store's keys are ASCII: nothing sorts above this character.
    format!("{prefix}\u{10FFFF}")
}

impl<'a> Transaction<'a> {
    pub(super) fn new(connection: &'a Connection) -> Self {
        Self {
            connection,
            changed: RefCell::default(),
        }
    }

    fn note<R: Record>(&self, key: &str) {
        let name = R::published(key);
        let mut changed = self.changed.borrow_mut();
        if !changed.iter().any(|known| known == name) {
            changed.push(name.to_owned());
        }
    }

    /// Names of what was changed so far.
    pub(super) fn changed(&self) -> Vec<String> {
        self.changed.take()
    }

    pub(super) fn connection(&self) -> &Connection {
        self.connection
    }

    fn decode<R: Record>(body: &[u8]) -> Result<R> {
        R::decode(body)
            .map_err(|error| Error::internal(format!("a stored {} is damaged: {error}", R::KIND)))
    }

    /// The record under `key`.
    pub fn get<R: Record>(&self, key: &str) -> Result<Option<R>> {
        self.connection
            .prepare_cached("SELECT body FROM record WHERE kind = ?1 AND key = ?2")
            .and_then(|mut query| {
                query
                    .query_row(params![R::KIND, key], |row| row.get::<_, Vec<u8>>(0))
                    .optional()
            })
            .map_err(|error| fault(&error))?
            .map(|body| Self::decode(&body))
            .transpose()
    }

    /// Stores the record in the place of an earlier one under its key.
    pub fn put<R: Record>(&self, record: &R) -> Result<()> {
        let key = record.key();
        self.note::<R>(&key);
        self.drop_indexes(R::KIND, &key)
            .and_then(|()| {
                self.connection
                    .prepare_cached(
                        "INSERT INTO record (kind, key, body) VALUES (?1, ?2, ?3)
                         ON CONFLICT (kind, key) DO UPDATE SET body = excluded.body",
                    )?
                    .execute(params![R::KIND, key, record.encode_to_vec()])?;
                for (name, sort) in record.indexes() {
                    self.connection
                        .prepare_cached(
                            "INSERT INTO record_index (kind, name, sort, key) VALUES (?1, ?2, ?3, ?4)",
                        )?
                        .execute(params![R::KIND, name, sort, key])?;
                }
                Ok(())
            })
            .map_err(|error| fault(&error))
    }

    /// Removes the record under `key`; says whether there was one.
    pub fn delete<R: Record>(&self, key: &str) -> Result<bool> {
        self.note::<R>(key);
        self.drop_indexes(R::KIND, key)
            .and_then(|()| {
                self.connection
                    .prepare_cached("DELETE FROM record WHERE kind = ?1 AND key = ?2")?
                    .execute(params![R::KIND, key])
            })
            .map(|rows| rows > 0)
            .map_err(|error| fault(&error))
    }

    fn drop_indexes(&self, kind: &str, key: &str) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached("DELETE FROM record_index WHERE kind = ?1 AND key = ?2")?
            .execute(params![kind, key])?;
        Ok(())
    }

    /// Visits the records whose key begins with `prefix` and comes after `after`, in the order
    /// of their keys, until told to stop. Only one of them is in memory at a time.
    pub fn scan<R: Record>(
        &self,
        prefix: &str,
        after: Option<&str>,
        mut visit: impl FnMut(R) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let mut query = self
            .connection
            .prepare_cached(
                "SELECT body FROM record
                 WHERE kind = ?1 AND key >= ?2 AND key < ?3 AND key > ?4 ORDER BY key",
            )
            .map_err(|error| fault(&error))?;
        let mut rows = query
            .query(params![
                R::KIND,
                prefix,
                after_prefix(prefix),
                after.unwrap_or_default()
            ])
            .map_err(|error| fault(&error))?;
        Self::visit(&mut rows, &mut visit)
    }

    /// Visits the records found under the index `name`, in the order of (sort, key), those
    /// after the given pair only. `descending` turns the order, and the meaning of after, round.
    pub fn scan_index<R: Record>(
        &self,
        name: &str,
        after: Option<(&str, &str)>,
        descending: bool,
        mut visit: impl FnMut(R) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let (sql, start) = if descending {
            (
                "SELECT record.body FROM record_index AS i
                 JOIN record ON record.kind = i.kind AND record.key = i.key
                 WHERE i.kind = ?1 AND i.name = ?2 AND (i.sort, i.key) < (?3, ?4)
                 ORDER BY i.sort DESC, i.key DESC",
                ("\u{10FFFF}", ""),
            )
        } else {
            (
                "SELECT record.body FROM record_index AS i
                 JOIN record ON record.kind = i.kind AND record.key = i.key
                 WHERE i.kind = ?1 AND i.name = ?2 AND (i.sort, i.key) > (?3, ?4)
                 ORDER BY i.sort, i.key",
                ("", ""),
            )
        };
        let (sort, key) = after.unwrap_or(start);
        let mut query = self
            .connection
            .prepare_cached(sql)
            .map_err(|error| fault(&error))?;
        let mut rows = query
            .query(params![R::KIND, name, sort, key])
            .map_err(|error| fault(&error))?;
        Self::visit(&mut rows, &mut visit)
    }

    fn visit<R: Record>(
        rows: &mut rusqlite::Rows<'_>,
        visit: &mut impl FnMut(R) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        while let Some(row) = rows.next().map_err(|error| fault(&error))? {
            let body = row
                .get_ref(0)
                .and_then(|value| Ok(value.as_blob()?))
                .map_err(|error| fault(&error))?;
            if visit(Self::decode(body)?)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// All records whose key begins with `prefix`. Only for kinds that a quota keeps small.
    pub fn list<R: Record>(&self, prefix: &str) -> Result<Vec<R>> {
        let mut found = Vec::new();
        self.scan(prefix, None, |record| {
            found.push(record);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(found)
    }

    /// All records under the index `name`. Only for indexes that a quota keeps small.
    pub fn list_index<R: Record>(&self, name: &str) -> Result<Vec<R>> {
        let mut found = Vec::new();
        self.scan_index(name, None, false, |record| {
            found.push(record);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(found)
    }

    /// Whether nothing was stored yet; what is about the store itself does not count.
    pub fn is_empty(&self) -> Result<bool> {
        for table in ["record", "task", "bundle", "ledger"] {
            let used = format!("SELECT EXISTS (SELECT 1 FROM {table})");
            if self.has(table)? && self.holds(&used)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether there is such a table; a store of an earlier version has fewer.
    fn has(&self, table: &str) -> Result<bool> {
        self.holds(&format!(
            "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = '{table}')"
        ))
    }

    fn holds(&self, question: &str) -> Result<bool> {
        self.connection
            .query_row(question, [], |row| row.get(0))
            .map_err(|error| fault(&error))
    }

    /// Whose ARNs there are, if anybody has said so.
    pub fn owner(&self) -> Result<Option<Owner>> {
        if !self.has("owner")? {
            return Ok(None);
        }
        let read = |row: &rusqlite::Row<'_>| {
            Ok(Owner {
                account_id: row.get(0)?,
                region: row.get(1)?,
            })
        };
        self.connection
            .query_row("SELECT account_id, region FROM owner", [], read)
            .optional()
            .map_err(|error| fault(&error))
    }

    /// Puts down whose ARNs there are.
    pub fn put_owner(&self, owner: &Owner) -> Result<()> {
        self.connection
            .execute(
                "INSERT OR REPLACE INTO owner (id, account_id, region) VALUES (0, ?1, ?2)",
                params![owner.account_id, owner.region],
            )
            .map_err(|error| fault(&error))?;
        Ok(())
    }

    /// How many records have a key that begins with `prefix`.
    pub fn count<R: Record>(&self, prefix: &str) -> Result<u64> {
        self.connection
            .prepare_cached(
                "SELECT count(*) FROM record WHERE kind = ?1 AND key >= ?2 AND key < ?3",
            )
            .and_then(|mut query| {
                query.query_row(params![R::KIND, prefix, after_prefix(prefix)], |row| {
                    row.get(0)
                })
            })
            .map_err(|error| fault(&error))
    }

    /// How many records stand under the index `name`.
    pub fn count_index<R: Record>(&self, name: &str) -> Result<u64> {
        self.connection
            .prepare_cached("SELECT count(*) FROM record_index WHERE kind = ?1 AND name = ?2")
            .and_then(|mut query| query.query_row(params![R::KIND, name], |row| row.get(0)))
            .map_err(|error| fault(&error))
    }

    /// Has `body` done at `due_millis` (since the epoch). `subject` is what it is about.
    pub fn schedule(&self, due_millis: i64, subject: &str, body: &[u8]) -> Result<()> {
        self.connection
            .prepare_cached("INSERT INTO task (due_millis, subject, body) VALUES (?1, ?2, ?3)")
            .and_then(|mut insert| insert.execute(params![due_millis, subject, body]))
            .map(drop)
            .map_err(|error| fault(&error))
    }

    /// Forgets what was scheduled about `subject`.
    pub fn unschedule(&self, subject: &str) -> Result<()> {
        self.connection
            .prepare_cached("DELETE FROM task WHERE subject = ?1")
            .and_then(|mut delete| delete.execute(params![subject]))
            .map(drop)
            .map_err(|error| fault(&error))
    }

    /// The earliest task, due or not, that is not among `others`.
    pub fn next_task(&self, others: &HashSet<i64>) -> Result<Option<Task>> {
        let mut query = self
            .connection
            .prepare_cached(
                "SELECT id, due_millis, subject, body FROM task ORDER BY due_millis, id",
            )
            .map_err(|error| fault(&error))?;
        let mut rows = query.query([]).map_err(|error| fault(&error))?;
        while let Some(row) = rows.next().map_err(|error| fault(&error))? {
            let id = row.get(0).map_err(|error| fault(&error))?;
            if others.contains(&id) {
                continue;
            }
            let task = || {
                Ok(Task {
                    id,
                    due_millis: row.get(1)?,
                    subject: row.get(2)?,
                    body: row.get(3)?,
                })
            };
            return task().map(Some).map_err(|error| fault(&error));
        }
        Ok(None)
    }

    /// Shows the number of each task, when it is due, and what is to be done to `see`; says when the
    /// first is due, if there is one.
    pub fn see_tasks(&self, mut see: impl FnMut(i64, i64, &[u8])) -> Result<Option<i64>> {
        let mut query = self
            .connection
            .prepare_cached("SELECT id, due_millis, body FROM task ORDER BY due_millis, id")
            .map_err(|error| fault(&error))?;
        let mut rows = query.query([]).map_err(|error| fault(&error))?;
        let mut first = None;
        while let Some(row) = rows.next().map_err(|error| fault(&error))? {
            let id = row.get(0).map_err(|error| fault(&error))?;
            let due = row.get(1).map_err(|error| fault(&error))?;
            first = first.or(Some(due));
            let body = row.get_ref(2).map_err(|error| fault(&error))?;
            see(id, due, body.as_bytes().unwrap_or_default());
        }
        Ok(first)
    }

    /// Has a task done at another time than it was to be.
    pub fn put_task_at(&self, id: i64, due_millis: i64) -> Result<()> {
        self.connection
            .prepare_cached("UPDATE task SET due_millis = ?2 WHERE id = ?1")
            .and_then(|mut update| update.execute(params![id, due_millis]))
            .map(drop)
            .map_err(|error| fault(&error))
    }

    /// Forgets one task; says whether it was still there.
    pub fn finish_task(&self, id: i64) -> Result<bool> {
        self.connection
            .prepare_cached("DELETE FROM task WHERE id = ?1")
            .and_then(|mut delete| delete.execute(params![id]))
            .map(|rows| rows > 0)
            .map_err(|error| fault(&error))
    }

    /// Keeps a bundle under the digest of its bytes.
    pub fn put_bundle(&self, digest: &str, body: &[u8]) -> Result<()> {
        self.connection
            .prepare_cached(
                "INSERT INTO bundle (digest, body) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
            )
            .and_then(|mut insert| insert.execute(params![digest, body]))
            .map(drop)
            .map_err(|error| fault(&error))
    }

    /// The bundle under `digest`.
    pub fn bundle(&self, digest: &str) -> Result<Option<Vec<u8>>> {
        self.connection
            .prepare_cached("SELECT body FROM bundle WHERE digest = ?1")
            .and_then(|mut query| query.query_row([digest], |row| row.get(0)).optional())
            .map_err(|error| fault(&error))
    }

    /// Forgets the bundle under `digest`.
    pub fn delete_bundle(&self, digest: &str) -> Result<()> {
        self.connection
            .prepare_cached("DELETE FROM bundle WHERE digest = ?1")
            .and_then(|mut delete| delete.execute([digest]))
            .map(drop)
            .map_err(|error| fault(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_disk_is_no_defect() {
        let of = |code| {
            fault(&rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(code),
                None,
            ))
        };
        // SQLITE_FULL, SQLITE_IOERR_WRITE, SQLITE_BUSY; SQLITE_CORRUPT.
        for code in [13, 778, 5] {
            assert!(of(code).retry_after().is_some(), "{code}");
        }
        assert_eq!(*of(11).kind, ErrorKind::Internal);
    }
}
