//! The state directory: who may use it, what it must look like, and which files have to stay in it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::schema::SchemaError;

/// The database file inside the state directory. SQLite keeps `-wal` and `-shm` beside it.
pub(super) const DATABASE: &str = "proton.db";
pub(super) const LOG: &str = "proton.db-wal";
pub(super) const LOCK: &str = "lock";
/// The database with what SQLite keeps beside it.
pub(super) const DATABASE_FILES: &[&str] = &[DATABASE, LOG, "proton.db-shm"];
/// The database while it is put back from a backup. A gateway does not start beside it.
pub(super) const DRAFT: &str = "proton.db.draft";
/// What a restore that was broken off may leave behind.
const DRAFTS: &[&str] = &[
    DRAFT,
    "proton.db.draft-journal",
    "proton.db.draft-wal",
    "proton.db.draft-shm",
];
/// What may stand in a directory that we have not used yet.
const OURS: &[&str] = &[LOCK, DATABASE, LOG, "proton.db-shm", "buckets"];

/// Why a state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "the state directory {0} is in use by another proton-gateway; stop it, or give this one a directory of its own (--state-dir)"
    )]
    InUse(PathBuf),
    #[error(
        "cannot use the state directory {path}: {cause}; check that it exists or can be created, and that this user may write there"
    )]
    Unusable {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error(
        "the state directory {path} holds {entry}, which is not the gateway's; give --state-dir an empty or a new directory"
    )]
    Foreign { path: PathBuf, entry: String },
    #[error(
        "the state directory {path} holds {entry} of a restore that was broken off; restore again, or remove that file to go without"
    )]
    BrokenOff { path: PathBuf, entry: &'static str },
    #[error(
        "the state directory {0} holds a proton.db-wal, and its proton.db is empty or gone: what is in the one would be lost with the other; restore a backup into a new directory, or move proton.db-wal away to begin with nothing"
    )]
    Orphaned(PathBuf),
    #[error("the store in {0} is not empty; give --state-dir an empty or a new directory")]
    Used(PathBuf),
    #[error("there is no store in {0}; give --state-dir the folder of a gateway that has run")]
    Absent(PathBuf),
    #[error("cannot open the database {path}: {cause}")]
    Database {
        path: PathBuf,
        #[source]
        cause: SchemaError,
    },
}

impl OpenError {
    pub(super) fn database(path: &Path, cause: SchemaError) -> Self {
        Self::Database {
            path: path.to_owned(),
            cause,
        }
    }
}

/// Creates `directory` if needed and takes it for this process until the file is closed.
pub(super) fn claim(directory: &Path) -> Result<File, OpenError> {
    let lock = claim_to_restore(directory)?;
    // Whoever holds the lock is still restoring.
    let left = |name: &&&str| directory.join(name).symlink_metadata().is_ok();
    match DRAFTS.iter().find(left) {
        None => Ok(lock),
        Some(entry) => Err(OpenError::BrokenOff {
            path: directory.to_owned(),
            entry,
        }),
    }
}

/// The same, although what a restore has left that was broken off may stand in it.
pub(super) fn claim_to_restore(directory: &Path) -> Result<File, OpenError> {
    let unusable = |cause| OpenError::Unusable {
        path: directory.to_owned(),
        cause,
    };
    fs::create_dir_all(directory).map_err(unusable)?;
    // Specs and outputs may hold secrets of the platform: nobody else on the machine reads them.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        if fs::read_dir(directory).map_err(unusable)?.next().is_none() {
            fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).map_err(unusable)?;
        }
    }
    if !directory.join(DATABASE).exists() {
        for entry in fs::read_dir(directory).map_err(unusable)? {
            let name = entry.map_err(unusable)?.file_name();
            let name = name.to_string_lossy();
            if !OURS.contains(&name.as_ref()) && !DRAFTS.contains(&name.as_ref()) {
                return Err(OpenError::Foreign {
                    path: directory.to_owned(),
                    entry: name.into_owned(),
                });
            }
        }
    }
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(directory.join(LOCK))
        .map_err(unusable)?;
    match lock.try_lock() {
        // Whoever had it may have removed it meanwhile.
        Ok(()) if !is_at(&lock, &directory.join(LOCK)).map_err(unusable)? => {
            Err(OpenError::InUse(directory.to_owned()))
        }
        Ok(()) => look_for_orphans(directory).map(|()| lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(directory.to_owned())),
        Err(TryLockError::Error(cause)) => Err(unusable(cause)),
    }
}

/// Refuses a log whose database is gone: SQLite removes it when the database is opened, even by those
/// who only read.
pub(super) fn look_for_orphans(directory: &Path) -> Result<(), OpenError> {
    let empty = |name| {
        is_empty(&directory.join(name)).map_err(|cause| OpenError::Unusable {
            path: directory.to_owned(),
            cause,
        })
    };
    match empty(DATABASE)? && !empty(LOG)? {
        true => Err(OpenError::Orphaned(directory.to_owned())),
        false => Ok(()),
    }
}

/// Whether there are no bytes in a file, or no file.
fn is_empty(path: &Path) -> io::Result<bool> {
    match fs::metadata(path) {
        Ok(about) => Ok(about.len() == 0),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(cause) => Err(cause),
    }
}

/// Makes the file of the database where there is none, for its owner alone. SQLite makes the files
/// beside it like that one.
pub(super) fn make(database: &Path) -> io::Result<()> {
    match private(database) {
        Err(cause) if cause.kind() != io::ErrorKind::AlreadyExists => Err(cause),
        _ => Ok(()),
    }
}

/// A new file that only its owner can read; never what stands there.
pub(super) fn private(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = OpenOptions::new();
    options.create_new(true).read(true).write(true).mode(0o600);
    options.open(path)
}

/// Takes the files of a store from others on the machine, who might read them. By their names:
/// SQLite's locks go when a file that it has open is opened and closed beside it.
pub(super) fn tighten(directory: &Path) {
    use std::os::unix::fs::PermissionsExt;
    for path in DATABASE_FILES.iter().map(|name| directory.join(name)) {
        let open = fs::metadata(&path).is_ok_and(|about| about.permissions().mode() & 0o077 != 0);
        if open && let Err(cause) = fs::set_permissions(&path, fs::Permissions::from_mode(0o600)) {
            tracing::warn!(path = %path.display(), %cause, "others on this machine may read the store");
        }
    }
}

/// Whether an open file is the one that stands at `path`.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let about = file.metadata()?;
    match fs::metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (about.dev(), about.ino())),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(cause) => Err(cause),
    }
}

/// The files of an open store that have to stay where they are.
#[derive(Debug)]
pub(super) struct Place {
    directory: PathBuf,
    files: Vec<Known>,
    /// What was missing when it was looked last.
    missing: Mutex<Option<&'static str>>,
}

/// Which file stood under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    name: &'static str,
    device: u64,
    inode: u64,
}

impl Known {
    fn by(name: &'static str, about: &fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self {
            name,
            device: about.dev(),
            inode: about.ino(),
        }
    }
}

impl Place {
    /// That of a store whose database and log SQLite has open, so that it keeps them, and with them
    /// the lock.
    pub(super) fn of(directory: &Path, lock: &File) -> io::Result<Self> {
        let at = |name| Ok::<_, io::Error>(Known::by(name, &fs::metadata(directory.join(name))?));
        Ok(Self {
            files: vec![at(DATABASE)?, at(LOG)?, Known::by(LOCK, &lock.metadata()?)],
            directory: directory.to_owned(),
            missing: Mutex::default(),
        })
    }

    pub(super) fn file(&self) -> PathBuf {
        self.directory.join(DATABASE)
    }

    /// What is not yet in the file.
    pub(super) fn log(&self) -> PathBuf {
        self.directory.join(LOG)
    }

    /// How often the log has begun anew since it was made, as its header says (SQLite's file format, 4.1): that
    /// happens with the first write after a checkpoint has copied all of it.
    pub(super) fn logs(&self) -> u32 {
        let mut header = [0; 16];
        // Before the first write there is none. SQLite has no locks on this file, which closing it would give up.
        let read = File::open(self.log()).and_then(|mut log| log.read_exact(&mut header));
        let [.., a, b, c, d] = header;
        read.map_or(0, |()| u32::from_be_bytes([a, b, c, d]))
    }

    /// Looks which file does not stand there any more, or another one in its place.
    pub(super) fn look(&self) -> Option<&'static str> {
        let is_gone = |file: &&Known| {
            let there = fs::metadata(self.directory.join(file.name));
            !there.is_ok_and(|about| Known::by(file.name, &about) == **file)
        };
        let missing = self.files.iter().find(is_gone).map(|file| file.name);
        *self.missing.lock().unwrap_or_else(PoisonError::into_inner) = missing;
        missing
    }

    /// What that was the last time.
    pub(super) fn missing(&self) -> Option<&'static str> {
        *self.missing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
