//! A place for a store that is filled at once: whether it can be there, and what is left if nothing
//! comes of it, which is what was there before.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Store;
use super::directory::{self, OpenError};
use super::snapshot::Snapshot;

/// A directory that holds no store, or one with nothing in it. It is taken for as long as this
/// lives; then what was made for it goes again, unless it is to be kept.
pub struct Vacancy {
    directory: PathBuf,
    // Removed while the lock is still held.
    made: Made,
    lock: fs::File,
}

impl Vacancy {
    /// Takes `directory`, which is created if absent.
    pub fn of(directory: &Path) -> Result<Self, OpenError> {
        Self::taken(directory, directory::claim)
    }

    /// The same, although what a restore has left that was broken off may stand in it.
    pub(super) fn to_restore(directory: &Path) -> Result<Self, OpenError> {
        Self::taken(directory, directory::claim_to_restore)
    }

    fn taken(
        directory: &Path,
        claim: impl FnOnce(&Path) -> Result<fs::File, OpenError>,
    ) -> Result<Self, OpenError> {
        let mut made = Made::folders(directory);
        let lock_file = directory.join(directory::LOCK);
        let without_lock = is_absent(&lock_file);
        let lock = claim(directory)?;
        // From here on nobody else makes them.
        if is_absent(&directory.join(directory::DATABASE)) {
            let files = directory::DATABASE_FILES.iter();
            let files = files.map(|name| directory.join(name));
            made.files.extend(files.filter(|path| is_absent(path)));
        }
        if without_lock {
            made.files.push(lock_file);
        }
        let vacancy = Self {
            directory: directory.to_owned(),
            made,
            lock,
        };
        match vacancy.is_empty() {
            Ok(true) => Ok(vacancy),
            Ok(false) => Err(OpenError::Used(directory.to_owned())),
            Err(error) => Err(error),
        }
    }

    fn is_empty(&self) -> Result<bool, OpenError> {
        let database = self.directory.join(directory::DATABASE);
        match fs::metadata(&database) {
            // Not opened: a pipe would have us wait for ever.
            Ok(about) if !about.is_file() => {
                let cause = format!("{} is not a file", directory::DATABASE);
                return Err(self.unusable(io::Error::other(cause)));
            }
            // Its creation was broken off.
            Ok(about) if about.len() == 0 => return Ok(true),
            Err(_) if is_absent(&database) => return Ok(true),
            _ => {}
        }
        // Whoever only looks makes them too, and leaves them.
        let beside = directory::DATABASE_FILES.iter().skip(1);
        let beside = beside.map(|name| self.directory.join(name));
        let absent: Vec<_> = beside.filter(|path| is_absent(path)).collect();
        let empty = Snapshot::of(&self.directory).map(|store| store.read(|tx| tx.is_empty()));
        absent.iter().for_each(|path| drop(fs::remove_file(path)));
        empty?.map_err(|error| self.unusable(io::Error::other(error.to_string())))
    }

    /// Opens the store.
    pub fn store(&self) -> Result<Store, OpenError> {
        let lock = self.lock.try_clone();
        Store::opened(&self.directory, lock.map_err(|cause| self.unusable(cause))?)
    }

    /// Lets what was made stay.
    pub fn keep(mut self) {
        self.made.files.clear();
        self.made.folders.clear();
        self.made.permissions = None;
    }

    fn unusable(&self, cause: io::Error) -> OpenError {
        OpenError::Unusable {
            path: self.directory.clone(),
            cause,
        }
    }
}

fn is_absent(path: &Path) -> bool {
    fs::symlink_metadata(path).is_err_and(|cause| cause.kind() == io::ErrorKind::NotFound)
}

/// What goes when this does.
struct Made {
    files: Vec<PathBuf>,
    /// Innermost first.
    folders: Vec<PathBuf>,
    /// Those that an empty directory is given back.
    permissions: Option<(PathBuf, fs::Permissions)>,
}

impl Made {
    /// Those that have to be made for `directory`.
    fn folders(directory: &Path) -> Self {
        let ancestors = directory.ancestors();
        let missing = ancestors.take_while(|path| !path.as_os_str().is_empty() && is_absent(path));
        let about = fs::metadata(directory).ok().filter(fs::Metadata::is_dir);
        Self {
            files: Vec::new(),
            folders: missing.map(Path::to_owned).collect(),
            permissions: about.map(|about| (directory.to_owned(), about.permissions())),
        }
    }
}

impl Drop for Made {
    /// As far as it can be done; a folder with something else in it stays.
    fn drop(&mut self) {
        for file in &self.files {
            drop(fs::remove_file(file));
        }
        for folder in &self.folders {
            drop(fs::remove_dir(folder));
        }
        if let Some((path, permissions)) = self.permissions.take() {
            drop(fs::set_permissions(path, permissions));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::engine::tag::TagsRecord;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap().flatten();
        let mut names: Vec<_> = entries
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_directory_of_which_nothing_came_is_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let (there, absent) = (folder.path().join("there"), folder.path().join("a/b"));
        fs::create_dir_all(there.join("buckets")).unwrap();
        for directory in [&there, &absent] {
            let vacancy = Vacancy::of(directory).unwrap();
            drop(vacancy.store().unwrap());
            assert!(directory.join("proton.db").exists());
            drop(vacancy);
        }
        assert_eq!(names(folder.path()), ["there"]);
        assert_eq!(names(&there), ["buckets"]);
    }

    #[test]
    fn an_empty_directory_keeps_its_permissions() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let mode = || fs::metadata(folder.path()).unwrap().permissions().mode() & 0o777;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o750)).unwrap();
        let vacancy = Vacancy::of(folder.path()).unwrap();
        assert_eq!(mode(), 0o700);
        drop(vacancy);
        assert_eq!(mode(), 0o750);
    }

    #[test]
    fn what_is_to_be_kept_stays() {
        let folder = tempfile::tempdir().unwrap();
        let vacancy = Vacancy::of(folder.path()).unwrap();
        drop(vacancy.store().unwrap());
        vacancy.keep();
        assert!(folder.path().join("proton.db").exists());
    }

    #[test]
    fn nobody_else_is_in_a_directory_that_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let vacancy = Vacancy::of(folder.path()).unwrap();
        let other = Vacancy::of(folder.path()).err();
        assert!(matches!(other, Some(OpenError::InUse(_))), "{other:?}");
        drop(vacancy);
        assert!(Vacancy::of(folder.path()).is_ok());
    }

    #[test]
    fn a_pipe_in_the_place_of_the_database_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join(directory::DATABASE);
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        let refused = Vacancy::of(folder.path()).err().unwrap().to_string();
        assert!(refused.contains("proton.db is not a file"), "{refused}");
        assert_eq!(names(folder.path()), [directory::DATABASE]);
    }

    #[tokio::test]
    async fn a_store_with_something_in_it_is_no_vacancy_and_an_empty_one_is() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        drop(store);
        let before = names(folder.path());
        drop(Vacancy::of(folder.path()).unwrap());
        assert_eq!(names(folder.path()), before);
        let store = Store::open(folder.path()).unwrap();
        store
            .write(|tx| tx.put(&TagsRecord::default()))
            .await
            .unwrap();
        drop(store);
        let refused = Vacancy::of(folder.path()).err();
        assert!(matches!(refused, Some(OpenError::Used(_))), "{refused:?}");
        assert_eq!(names(folder.path()), before);
    }
}
