//! A folder as it is read, with nothing left unread.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::MANIFEST;
use super::draft::INCOMPLETE;
use super::parse;
use super::problem::{Place, Problems};

/// What at the top of the folder is ours; all else there belongs to others and is left alone.
const OURS: &[&str] = &[
    "account-connections",
    "account-settings.json",
    "components",
    "deployments",
    "environments",
    MANIFEST,
    "repositories",
    "services",
    "templates",
];
/// The longest file: a bundle has 10 MB at most.
const MOST_BYTES: u64 = 16 << 20;
/// Files that are read of one folder.
const MOST_FILES: usize = 2_000_000;

/// A folder that is read.
pub struct Tree<'a> {
    root: PathBuf,
    problems: &'a Problems,
    /// Files that nobody has read yet.
    unread: RefCell<BTreeSet<String>>,
    all: BTreeSet<String>,
}

impl<'a> Tree<'a> {
    /// Looks for the files of `root`. An error says that there is no export at all.
    pub fn open(root: &Path, problems: &'a Problems) -> Result<Self, String> {
        if fs::symlink_metadata(root.join(INCOMPLETE)).is_ok() {
            return Err(format!(
                "{}: the export was not finished; repeat it",
                root.display()
            ));
        }
        let manifest = fs::symlink_metadata(root.join(MANIFEST));
        if !manifest.is_ok_and(|about| about.is_file()) {
            return Err(format!(
                "{} has no {MANIFEST}, and is no export of this program; for saved answers of AWS \
                 Proton add --from aws",
                root.display()
            ));
        }
        let all = files(root, problems);
        Ok(Self {
            root: root.to_owned(),
            problems,
            unread: RefCell::new(all.clone()),
            all,
        })
    }

    /// The files below `folder`, which ends with `/`.
    pub fn below<'b>(&'b self, folder: &'b str) -> impl Iterator<Item = &'b str> {
        let from = self.all.range(folder.to_owned()..);
        from.map(String::as_str)
            .take_while(move |path| path.starts_with(folder))
    }

    pub fn has(&self, path: &str) -> bool {
        self.all.contains(path)
    }

    pub fn place(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// The bytes of a file that is there; problems are noted.
    pub fn bytes(&self, path: &str) -> Option<Vec<u8>> {
        self.unread.borrow_mut().remove(path);
        match read(&self.root.join(path)) {
            Ok(bytes) => Some(bytes),
            Err(problem) => {
                self.problems.add(path, "", problem);
                None
            }
        }
    }

    /// A text that nobody else has read.
    pub fn own_text(&self, path: &str) -> Option<String> {
        let unread = self.unread.borrow().contains(path);
        unread.then(|| self.text(path)).flatten()
    }

    pub fn text(&self, path: &str) -> Option<String> {
        if !self.has(path) {
            return None;
        }
        match parse::text(self.bytes(path)?) {
            Ok(text) => Some(text),
            Err(problem) => {
                self.problems.add(path, "", problem);
                None
            }
        }
    }

    pub fn json(&self, path: &str) -> Option<Value> {
        let text = self.text(path)?;
        parse::json(&text, &Place::whole(path, self.problems))
    }

    /// Notes what nobody has read.
    pub fn finish(self) {
        for path in self.unread.into_inner() {
            self.problems.add(&path, "", "belongs to nothing");
        }
    }
}

/// A file of a sensible size. The error says what is wrong with it. What is no regular file is
/// not even opened: a pipe would have the reader wait for ever.
pub fn read(path: &Path) -> Result<Vec<u8>, String> {
    let about = fs::symlink_metadata(path).map_err(|cause| format!("cannot be read: {cause}"))?;
    if !about.is_file() {
        return Err("is not a regular file".to_owned());
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|cause| format!("cannot be read: {cause}"))?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(format!("has more than {MOST_BYTES} bytes"));
    }
    Ok(bytes)
}

/// All files that are ours, relative to `root`. What is neither a file nor a folder is a problem.
pub fn files(root: &Path, problems: &Problems) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open: Vec<String> = OURS.iter().rev().map(|name| (*name).to_owned()).collect();
    let mut folders = 0;
    while let Some(path) = open.pop() {
        let place = root.join(&path);
        let Ok(about) = fs::symlink_metadata(&place) else {
            continue;
        };
        if found.len() + folders >= MOST_FILES {
            problems.add(
                "",
                "",
                format!("there are more than {MOST_FILES} files and folders"),
            );
            return found;
        }
        if about.is_file() {
            found.insert(path);
        } else if about.is_dir() {
            folders += 1;
            match fs::read_dir(&place) {
                Err(cause) => problems.add(&path, "", format!("cannot be read: {cause}")),
                Ok(entries) => {
                    for entry in entries.flatten() {
                        match entry.file_name().to_str() {
                            Some(name) => open.push(format!("{path}/{name}")),
                            None => problems.add(&path, "", "holds a name that is not UTF-8"),
                        }
                    }
                }
            }
        } else {
            problems.add(&path, "", "is neither a file nor a folder");
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        assert_eq!(read(&pipe), Err("is not a regular file".to_owned()));
    }
}
