//! The state directory: who may use it, and what it must look like.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::schema::SchemaError;

/// The database file inside the state directory. SQLite keeps `-wal` and `-shm` beside it.
pub(super) const DATABASE: &str = "proton.db";
pub(super) const LOCK: &str = "lock";
/// The database with what SQLite keeps beside it.
pub(super) const DATABASE_FILES: &[&str] = &[DATABASE, "proton.db-wal", "proton.db-shm"];
/// The database while it is put back from a backup. A gateway does not start beside it.
pub(super) const DRAFT: &str = "proton.db.draft";
/// What a restore that was broken off may leave behind.
pub(super) const DRAFTS: &[&str] = &[
    DRAFT,
    "proton.db.draft-journal",
    "proton.db.draft-wal",
    "proton.db.draft-shm",
];
/// What may stand in a directory that we have not used yet.
const OURS: &[&str] = &[LOCK, DATABASE, "proton.db-wal", "proton.db-shm", "buckets"];

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
    claim_beside(directory, &[])
}

/// The same, although what was `left` may stand in it.
pub(super) fn claim_beside(directory: &Path, left: &[&str]) -> Result<File, OpenError> {
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
            if !OURS.contains(&name.as_ref()) && !left.contains(&name.as_ref()) {
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
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(directory.to_owned())),
        Err(TryLockError::Error(cause)) => Err(unusable(cause)),
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

/// Which file stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Place {
    /// What stands at `path` now.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::MetadataExt;
        let about = fs::metadata(path)?;
        Ok(Self {
            path: path.to_owned(),
            device: about.dev(),
            inode: about.ino(),
        })
    }

    pub(super) fn file(&self) -> PathBuf {
        self.path.clone()
    }

    /// What is not yet in the file.
    pub(super) fn log(&self) -> PathBuf {
        let mut log = self.path.clone().into_os_string();
        log.push("-wal");
        log.into()
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

    /// Whether the same file still stands there.
    pub(super) fn is_kept(&self) -> bool {
        Self::of(&self.path).is_ok_and(|now| now == *self)
    }
}
