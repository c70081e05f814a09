//! The table of idempotency keys. What a row means is the business of [`crate::ledger`].

use rusqlite::{OptionalExtension, params};

use super::transaction::{Transaction, fault};
use crate::error::Result;

/// The name of a key: a digest.
pub type Scope = [u8; 32];

/// How many rows whose time is over are removed at once.
const SWEEP: u32 = 64;

/// One key that was used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub fingerprint: Vec<u8>,
    pub expires_millis: i64,
    /// What was known before the call.
    pub evidence: Vec<u8>,
    /// Absent as long as the call has not ended for certain.
    pub outcome: Option<Vec<u8>>,
}

impl Transaction<'_> {
    /// The row of a key, whether its time is over or not.
    pub fn ledger_row(&self, scope: &Scope) -> Result<Option<Row>> {
        self.connection()
            .prepare_cached(
                "SELECT fingerprint, expires_millis, evidence, outcome FROM ledger WHERE scope = ?1",
            )
            .and_then(|mut query| {
                query
                    .query_row(params![scope.as_slice()], |row| {
                        Ok(Row {
                            fingerprint: row.get(0)?,
                            expires_millis: row.get(1)?,
                            evidence: row.get(2)?,
                            outcome: row.get(3)?,
                        })
                    })
                    .optional()
            })
            .map_err(|error| fault(&error))
    }

    /// Puts a row in the place of an earlier one of its key. `caller` is whose it is.
    pub fn put_ledger_row(&self, scope: &Scope, caller: &[u8], row: &Row) -> Result<()> {
        let delete = "DELETE FROM ledger WHERE scope = ?1";
        let insert =
            "INSERT INTO ledger (scope, caller, fingerprint, expires_millis, evidence, outcome)
                      VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let scope = scope.as_slice();
        self.connection()
            .prepare_cached(delete)
            .and_then(|mut delete| delete.execute([scope]))
            .and_then(|_| self.connection().prepare_cached(insert))
            .and_then(|mut insert| {
                insert.execute(params![
                    scope,
                    caller,
                    row.fingerprint,
                    row.expires_millis,
                    row.evidence,
                    row.outcome
                ])
            })
            .map(drop)
            .map_err(|error| fault(&error))
    }

    /// Forgets a key.
    pub fn delete_ledger_row(&self, scope: &Scope) -> Result<()> {
        self.connection()
            .prepare_cached("DELETE FROM ledger WHERE scope = ?1")
            .and_then(|mut delete| delete.execute([scope.as_slice()]))
            .map(drop)
            .map_err(|error| fault(&error))
    }

    /// Forgets some of the keys whose time is over, the oldest first; says whether there were any.
    pub fn sweep_ledger(&self, now_millis: i64) -> Result<bool> {
        self.connection()
            .prepare_cached(
                "DELETE FROM ledger WHERE scope IN
                 (SELECT scope FROM ledger WHERE expires_millis <= ?1 ORDER BY expires_millis LIMIT ?2)",
            )
            .and_then(|mut delete| delete.execute(params![now_millis, SWEEP]))
            .map(|rows| rows > 0)
            .map_err(|error| fault(&error))
    }

    /// What the keys of `caller`, and those of all callers, take in bytes.
    pub fn ledger_use(&self, caller: &[u8]) -> Result<(u64, u64)> {
        self.connection()
            .prepare_cached(
                "SELECT coalesce((SELECT bytes FROM ledger_use WHERE caller = ?1), 0),
                        coalesce((SELECT bytes FROM ledger_use WHERE caller = x''), 0)",
            )
            .and_then(|mut query| query.query_row([caller], |row| Ok((row.get(0)?, row.get(1)?))))
            .map_err(|error| fault(&error))
    }

    /// How many keys there are, and what they take in bytes.
    pub fn ledger_size(&self) -> Result<(u64, u64)> {
        self.connection()
            .prepare_cached(
                "SELECT (SELECT count(*) FROM ledger),
                        coalesce((SELECT bytes FROM ledger_use WHERE caller = x''), 0)",
            )
            .and_then(|mut query| query.query_row([], |row| Ok((row.get(0)?, row.get(1)?))))
            .map_err(|error| fault(&error))
    }

    /// When the first of the keys of `caller`, or of all callers, is forgotten, if there is one.
    pub fn ledger_room_at(&self, caller: Option<&[u8]>) -> Result<Option<i64>> {
        let sql = match caller {
            Some(_) => "SELECT min(expires_millis) FROM ledger WHERE caller = ?1",
            None => "SELECT min(expires_millis) FROM ledger WHERE ?1 IS NULL",
        };
        self.connection()
            .prepare_cached(sql)
            .and_then(|mut query| query.query_row([caller], |row| row.get(0)))
            .map_err(|error| fault(&error))
    }

    /// Runs `work`; what it has changed is undone if it fails, and nothing else is.
    pub fn attempt<R>(&self, work: impl FnOnce() -> Result<R>) -> Result<R> {
        let run = |sql: &str| {
            self.connection()
                .execute_batch(sql)
                .map_err(|error| fault(&error))
        };
        run("SAVEPOINT attempt")?;
        let outcome = work();
        if outcome.is_err() && !self.connection().is_autocommit() {
            run("ROLLBACK TO attempt")?;
        }
        run("RELEASE attempt")?;
        outcome
    }
}
