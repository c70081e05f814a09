//! Copies of a store in one file: made while a gateway goes on writing, checked, and put back.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use super::directory::{self, OpenError};
use super::schema::{self, SchemaError};
use super::snapshot::Snapshot;
use super::vacancy::Vacancy;

/// Pages that are copied between two looks at the progress.
const PAGES: i32 = 1024;
/// How often a page that somebody else holds is asked for, and the pause between.
const ATTEMPTS: usize = 500;
const PAUSE: Duration = Duration::from_millis(10);
/// Bytes that are copied between two looks at the progress.
const CHUNK: usize = 1 << 20;

/// What a store holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// The version of the file.
    pub format: usize,
    /// How many records there are of each kind, in the order of the kinds.
    pub records: Vec<(String, u64)>,
    pub bundles: u64,
    /// Things that are to be done later.
    pub tasks: u64,
    pub idempotency_keys: u64,
}

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("cannot copy the database: {0}")]
    Sqlite(#[from] rusqlite::Error),
    #[error("{path}: {cause}")]
    File {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("{path} cannot be restored: {cause}")]
    Backup {
        path: PathBuf,
        #[source]
        cause: SchemaError,
    },
    #[error("{path} is damaged: {problem}")]
    Damaged { path: PathBuf, problem: String },
    #[error(
        "{0} is the database of a gateway, not a backup: what stands in the file proton.db-wal beside it would be missing; make a backup of its state directory with `proton-gateway backup`"
    )]
    Live(PathBuf),
}

fn at(path: &Path) -> impl Fn(io::Error) -> CopyError {
    let path = path.to_owned();
    move |cause| CopyError::File {
        path: path.clone(),
        cause,
    }
}

/// Told how much is done, and of how much.
pub type Progress<'a> = &'a dyn Fn(u64, u64);

/// Copies the store in `directory`, as it is at one moment, to the empty file `into`, and checks
/// the copy. Whoever writes to the store meanwhile is not held up.
pub fn copy(directory: &Path, into: &Path, progress: Progress<'_>) -> Result<Contents, CopyError> {
    let source = Snapshot::of(directory)?;
    let source = source.connection();
    // One transaction for the whole copy: what is written meanwhile neither gets into it, nor makes
    // it begin anew.
    source.execute_batch("BEGIN")?;
    let before = contents(source)?;
    clear(into);
    let mut target = Connection::open(into)?;
    {
        let backup = Backup::new(source, &mut target)?;
        let mut refused = 0;
        loop {
            match backup.step(PAGES)? {
                StepResult::Done => break,
                StepResult::More => {
                    let now = backup.progress();
                    let pages = |count: i32| u64::try_from(count).unwrap_or(0);
                    let total = pages(now.pagecount);
                    progress(total.saturating_sub(pages(now.remaining)), total);
                }
                _ => {
                    refused += 1;
                    if refused > ATTEMPTS {
                        let busy = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
                        return Err(rusqlite::Error::SqliteFailure(busy, None).into());
                    }
                    std::thread::sleep(PAUSE);
                }
            }
        }
    }
    source.execute_batch("COMMIT")?;
    target.close().map_err(|(_, error)| error)?;
    let after = examine(into)?;
    if after != before {
        return Err(CopyError::Damaged {
            path: into.to_owned(),
            problem: "it does not hold what the store does".to_owned(),
        });
    }
    File::open(into)
        .and_then(|file| file.sync_all())
        .map_err(at(into))?;
    Ok(after)
}

/// Reads a copy from end to end, and leaves it as one file that needs no others beside it.
fn examine(path: &Path) -> Result<Contents, CopyError> {
    let damaged = |problem: String| CopyError::Damaged {
        path: path.to_owned(),
        problem,
    };
    let read = || -> rusqlite::Result<(String, Contents)> {
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "DELETE")?;
        let verdict =
            connection.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0))?;
        Ok((verdict, contents(&connection)?))
    };
    match read() {
        Ok((verdict, contents)) if verdict == "ok" => Ok(contents),
        Ok((verdict, _)) => Err(damaged(verdict)),
        Err(error) => Err(damaged(error.to_string())),
    }
}

fn contents(connection: &Connection) -> rusqlite::Result<Contents> {
    let count = |table: &str| {
        let known = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?1";
        let there: u64 = connection.query_row(known, [table], |row| row.get(0))?;
        match there {
            // Of an earlier version.
            0 => Ok(0),
            _ => connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| {
                row.get(0)
            }),
        }
    };
    let records = connection
        .prepare("SELECT kind, count(*) FROM record GROUP BY kind ORDER BY kind")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let format: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    Ok(Contents {
        format: usize::try_from(format).unwrap_or(0),
        records,
        bundles: count("bundle")?,
        tasks: count("task")?,
        idempotency_keys: count("ledger")?,
    })
}

/// Puts the backup `file` into `directory`, which must not hold a store. What is not a whole backup
/// is refused; one of an earlier version is brought up to date when a gateway starts on it.
pub fn restore(
    file: &Path,
    directory: &Path,
    progress: Progress<'_>,
) -> Result<Contents, CopyError> {
    let mut beside = file.as_os_str().to_owned();
    beside.push("-wal");
    if Path::new(&beside).exists() {
        return Err(CopyError::Live(file.to_owned()));
    }
    // Not opened before: a pipe would have us wait for ever.
    let about = fs::metadata(file).map_err(at(file))?;
    if !about.is_file() {
        let cause = io::Error::new(io::ErrorKind::InvalidInput, "is not a file");
        return Err(at(file)(cause));
    }
    let mut source = File::open(file).map_err(at(file))?;
    let mut header = [0; schema::HEADER];
    let whole = source.read_exact(&mut header);
    let found = match whole {
        Ok(()) => schema::version_in(&header),
        Err(_) => Err(SchemaError::Foreign),
    };
    // A store has a version from its first moment on.
    let found = found.and_then(|found| match found {
        0 => Err(SchemaError::Foreign),
        found => Ok(found),
    });
    found.map_err(|cause| CopyError::Backup {
        path: file.to_owned(),
        cause,
    })?;
    if schema::has_log(&header) {
        return Err(CopyError::Live(file.to_owned()));
    }

    let vacancy = Vacancy::to_restore(directory)?;
    let database = directory.join(directory::DATABASE);
    let draft = directory.join(directory::DRAFT);
    // In our own folder it is ours; what it may be a link to is not.
    match fs::remove_file(&draft) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(at(&draft)(cause)),
        _ => clear(&draft),
    }
    let mut put = || {
        write_draft(&header, &mut source, &draft, about.len(), progress)?;
        let contents = examine(&draft).map_err(|error| match error {
            CopyError::Damaged { problem, .. } => CopyError::Damaged {
                path: file.to_owned(),
                problem,
            },
            other => other,
        })?;
        File::open(&draft)
            .and_then(|file| file.sync_all())
            .map_err(at(&draft))?;
        // SQLite would take the log of an empty store for that of this one.
        for name in directory::DATABASE_FILES.iter().skip(1) {
            let path = directory.join(name);
            match fs::remove_file(&path) {
                Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                    return Err(at(&path)(cause));
                }
                _ => {}
            }
        }
        fs::rename(&draft, &database).map_err(at(&database))?;
        File::open(directory)
            .and_then(|folder| folder.sync_all())
            .map_err(at(directory))?;
        Ok(contents)
    };
    let outcome = put();
    match outcome {
        Ok(_) => vacancy.keep(),
        // The next attempt writes over what cannot be removed.
        Err(_) => drop(fs::remove_file(&draft)),
    }
    outcome
}

/// Removes what an attempt that was broken off has left beside a draft: SQLite would take it for a
/// part of the new one.
fn clear(draft: &Path) {
    for suffix in ["-journal", "-wal", "-shm"] {
        let mut left = draft.as_os_str().to_owned();
        left.push(suffix);
        // Mostly there is none.
        drop(fs::remove_file(left));
    }
}

/// The file of a draft: a new one, or what a copy has left that was broken off. What could be of
/// somebody else is refused.
pub fn draft(path: &Path) -> io::Result<File> {
    match directory::private(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        other => return other,
    }
    let refused = |text: &str| io::Error::new(io::ErrorKind::AlreadyExists, text);
    let about = fs::symlink_metadata(path)?;
    if !about.is_file() {
        return Err(refused("it is there, and is no file; remove it"));
    }
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut header = Vec::new();
    (&file)
        .take(schema::HEADER as u64)
        .read_to_end(&mut header)?;
    // SQLite writes the first page last.
    let ours = header.iter().all(|byte| *byte == 0)
        || <&[u8; schema::HEADER]>::try_from(header.as_slice())
            .is_ok_and(|header| !matches!(schema::version_in(header), Err(SchemaError::Foreign)));
    #[cfg(unix)]
    let ours = {
        use std::os::unix::fs::MetadataExt;
        ours && about.nlink() == 1
    };
    if !ours {
        return Err(refused(
            "it is there, and nothing that a backup has left; remove it, or choose another name",
        ));
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
    }
    file.rewind()?;
    Ok(file)
}

fn write_draft(
    header: &[u8],
    source: &mut File,
    draft: &Path,
    total: u64,
    progress: Progress<'_>,
) -> Result<(), CopyError> {
    let mut target = directory::private(draft).map_err(at(draft))?;
    target.write_all(header).map_err(at(draft))?;
    let mut done = header.len() as u64;
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = source.read(&mut chunk).map_err(at(draft))?;
        let Some(bytes) = chunk.get(..read).filter(|bytes| !bytes.is_empty()) else {
            return Ok(());
        };
        target.write_all(bytes).map_err(at(draft))?;
        done += read as u64;
        progress(done, total);
    }
}
