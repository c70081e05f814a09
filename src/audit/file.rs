//! A file that grows up to a size, and then becomes the first of a row of older ones.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// `audit.log`, `audit.log.1` (the youngest of the older ones), `audit.log.2`…
#[derive(Debug)]
pub struct RotatingFile {
    path: PathBuf,
    max_size: u64,
    keep: u32,
    open: Option<Open>,
    /// Why a file that was closed since the last sync may not be on disk.
    unsynced: Option<io::Error>,
}

#[derive(Debug)]
struct Open {
    file: File,
    length: u64,
    /// Only a regular file has a length, and is rotated and synced.
    regular: bool,
    /// By which it is known whether the path still leads here.
    identity: (u64, u64),
}

impl RotatingFile {
    pub fn new(path: PathBuf, max_size: u64, keep: u32) -> Self {
        Self {
            path,
            max_size,
            keep,
            open: None,
            unsynced: None,
        }
    }

    /// Opens the file, if it is not open already where its path leads.
    pub fn open(&mut self) -> io::Result<()> {
        self.opened().map(drop)
    }

    /// Writes a line: whole, or not at all.
    pub fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let max_size = self.max_size;
        let open = self.opened()?;
        let grown = open.length + line.len() as u64;
        if open.regular && open.length > 0 && grown > max_size {
            self.rotate();
        }
        let open = self.opened()?;
        match open.file.write_all(line) {
            Ok(()) => {
                open.length += line.len() as u64;
                Ok(())
            }
            Err(error) => {
                // What was written of it is taken back; where that fails, `opened` sees to it.
                drop(open.file.set_len(open.length));
                self.close();
                Err(error)
            }
        }
    }

    /// Returns when what was appended is on disk.
    pub fn sync(&mut self) -> io::Result<()> {
        if let Some(error) = self.unsynced.take() {
            return Err(error);
        }
        self.open.as_ref().map_or(Ok(()), Open::sync)
    }

    fn opened(&mut self) -> io::Result<&mut Open> {
        let stale = |open: &Open| {
            let now = std::fs::metadata(&self.path);
            now.map_or(true, |now| (now.dev(), now.ino()) != open.identity)
        };
        // Deleted, or moved away by somebody else.
        if self.open.as_ref().is_some_and(stale) {
            self.close();
        }
        let open = match self.open.take() {
            Some(open) => open,
            None => open_at(&self.path)?,
        };
        Ok(self.open.insert(open))
    }

    fn close(&mut self) {
        if let Some(open) = self.open.take()
            && let Err(error) = open.sync()
        {
            self.unsynced = Some(error);
        }
    }

    /// A file that cannot be rotated grows on: a record is worth more than a bound.
    fn rotate(&mut self) {
        self.close();
        let mut problem = None;
        for number in (1..self.keep).rev() {
            match std::fs::rename(self.older(number), self.older(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => problem = Some(error),
                _ => {}
            }
        }
        if let Err(error) = std::fs::rename(&self.path, self.older(1)) {
            problem = Some(error);
        }
        if let Some(error) = problem {
            tracing::warn!(path = %self.path.display(), cause = %error, "the audit file cannot be rotated; it grows on");
        }
    }

    fn older(&self, number: u32) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(format!(".{number}"));
        path.into()
    }
}

impl Open {
    fn sync(&self) -> io::Result<()> {
        if self.regular {
            self.file.sync_data()
        } else {
            Ok(())
        }
    }
}

fn open_at(path: &Path) -> io::Result<Open> {
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)?;
    let metadata = file.metadata()?;
    let mut length = metadata.len();
    let regular = metadata.is_file();
    if regular && length > 0 && !ends_with_line(path)? {
        // A program that ended in the middle of a line; ours begins on a new one.
        file.write_all(b"\n")?;
        length += 1;
    }
    if regular && length == 0 {
        sync_folder(path);
    }
    Ok(Open {
        file,
        length,
        regular,
        identity: (metadata.dev(), metadata.ino()),
    })
}

fn ends_with_line(path: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

/// So that a new file is found again after a crash. Not every file system can.
fn sync_folder(path: &Path) {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if let Ok(folder) = File::open(folder) {
        drop(folder.sync_all());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap_or_else(|_| "absent".to_owned())
    }

    #[test]
    fn a_full_file_becomes_the_first_of_the_older_ones_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let mut file = RotatingFile::new(path.clone(), 8, 2);
        for line in ["one\n", "two\n", "three\n", "four\n", "five5\n"] {
            file.append(line.as_bytes()).unwrap();
        }
        let older = |number: u32| read(&folder.path().join(format!("audit.log.{number}")));
        assert_eq!(read(&path), "five5\n");
        assert_eq!(
            [older(1), older(2), older(3)],
            ["four\n", "three\n", "absent"]
        );
    }

    #[test]
    fn a_file_that_was_moved_or_deleted_is_opened_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let mut file = RotatingFile::new(path.clone(), 1000, 1);
        file.append(b"one\n").unwrap();
        std::fs::rename(&path, folder.path().join("moved")).unwrap();
        file.append(b"two\n").unwrap();
        assert_eq!(read(&path), "two\n");
        std::fs::remove_file(&path).unwrap();
        file.append(b"three\n").unwrap();
        assert_eq!(read(&path), "three\n");
    }

    #[test]
    fn a_line_that_was_torn_does_not_tear_the_next_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        std::fs::write(&path, "whole\nto").unwrap();
        RotatingFile::new(path.clone(), 1000, 1)
            .append(b"next\n")
            .unwrap();
        assert_eq!(read(&path), "whole\nto\nnext\n");
    }

    #[test]
    fn only_its_owner_may_read_a_new_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        RotatingFile::new(path.clone(), 1000, 1).open().unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_full_disk_and_a_folder_that_is_gone_are_errors() {
        let mut full = RotatingFile::new("/dev/full".into(), 10, 1);
        for _ in 0..3 {
            full.append(b"a line\n").unwrap_err();
        }
        let folder = tempfile::tempdir().unwrap();
        let mut file = RotatingFile::new(folder.path().join("audit.log"), 1000, 1);
        file.append(b"one\n").unwrap();
        folder.close().unwrap();
        file.append(b"two\n").unwrap_err();
    }
}
