//! The folder as files: names, writing it in place, and reading it with nothing left unread.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::MANIFEST;
use super::problem::Problems;

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
/// Stands in a folder for as long as it is being written.
const INCOMPLETE: &str = "incomplete";
/// Keeps Git from changing the ends of lines.
const ATTRIBUTES: (&str, &str) = (".gitattributes", "* -text\n");
/// The longest file: a bundle has 10 MB at most.
const MOST_BYTES: u64 = 16 << 20;
/// Files that are read of one folder.
const MOST_FILES: usize = 2_000_000;

/// A name as part of a path: what file systems or people could take for something else is escaped.
pub fn part(name: &str) -> String {
    let mut part = String::with_capacity(name.len());
    for (index, byte) in name.bytes().enumerate() {
        match byte {
            b'/' => part.push('+'),
            b'.' if index == 0 => part.push_str("%2E"),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => part.push(byte.into()),
            _ => part.push_str(&format!("%{byte:02X}")),
        }
    }
    part
}

/// A folder that is written anew. What it holds already stays the same file where nothing changed.
pub struct Draft {
    root: PathBuf,
    written: BTreeSet<String>,
}

fn named(path: &Path, cause: &io::Error) -> String {
    format!("{}: {cause}", path.display())
}

impl Draft {
    /// Begins to write `root`: a new or an empty folder, or one that holds an earlier export.
    pub fn begin(root: &Path) -> Result<Self, String> {
        let wrong = |cause: io::Error| named(root, &cause);
        create(root).map_err(wrong)?;
        let known = [MANIFEST, INCOMPLETE]
            .iter()
            .any(|name| root.join(name).is_file());
        if !known {
            for entry in fs::read_dir(root).map_err(wrong)? {
                let name = entry.map_err(wrong)?.file_name();
                if name != ".git" {
                    return Err(format!(
                        "{} holds {} and is no earlier export; give an empty or a new folder",
                        root.display(),
                        name.to_string_lossy()
                    ));
                }
            }
        }
        let draft = Self {
            root: root.to_owned(),
            written: BTreeSet::new(),
        };
        write(
            &root.join(INCOMPLETE),
            b"An export was begun here and did not end; repeat it.\n",
        )?;
        let (name, text) = ATTRIBUTES;
        if !root.join(name).exists() {
            write(&root.join(name), text.as_bytes())?;
        }
        Ok(draft)
    }

    /// Writes one file. `path` is relative, of [`part`]s.
    pub fn put(&mut self, path: &str, bytes: &[u8]) -> Result<(), String> {
        let file = self.root.join(path);
        if let Some(folder) = file.parent() {
            self.make(folder)?;
        }
        // Not through a link: it may lead anywhere.
        let there = fs::symlink_metadata(&file).ok();
        if there.as_ref().is_some_and(fs::Metadata::is_dir) {
            fs::remove_dir_all(&file).map_err(|cause| named(&file, &cause))?;
        } else if there.is_some_and(|about| about.is_symlink()) {
            fs::remove_file(&file).map_err(|cause| named(&file, &cause))?;
        }
        let same = fs::read(&file).is_ok_and(|found| found == bytes);
        if !same {
            write(&file, bytes)?;
        }
        self.written.insert(path.to_owned());
        Ok(())
    }

    fn make(&self, folder: &Path) -> Result<(), String> {
        let mut made = self.root.clone();
        for step in folder.strip_prefix(&self.root).unwrap_or(folder) {
            made.push(step);
            let wrong = |cause: io::Error| named(&made, &cause);
            match fs::symlink_metadata(&made) {
                Ok(about) if about.is_dir() => continue,
                Ok(_) => fs::remove_file(&made).map_err(wrong)?,
                Err(_) => {}
            }
            create(&made).map_err(wrong)?;
        }
        Ok(())
    }

    pub fn put_json(&mut self, path: &str, mut value: Value) -> Result<(), String> {
        value.sort_all_objects();
        let mut text = serde_json::to_string_pretty(&value).map_err(|error| error.to_string())?;
        text.push('\n');
        self.put(path, text.as_bytes())
    }

    /// Removes what an earlier export has left, and says that the folder is whole. Returns how
    /// many files there are.
    pub fn finish(self) -> Result<usize, String> {
        let problems = Problems::default();
        let found = files(&self.root, &problems);
        for path in found.iter().filter(|path| !self.written.contains(*path)) {
            let file = self.root.join(path);
            fs::remove_file(&file).map_err(|cause| named(&file, &cause))?;
            let mut folder = file.parent();
            // Folders that became empty go too; one that is not cannot be removed.
            while let Some(empty) = folder.filter(|folder| *folder != self.root) {
                if fs::remove_dir(empty).is_err() {
                    break;
                }
                folder = empty.parent();
            }
        }
        let marker = self.root.join(INCOMPLETE);
        fs::remove_file(&marker).map_err(|cause| named(&marker, &cause))?;
        Ok(self.written.len())
    }
}

fn create(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    // Specs and outputs may hold secrets of the platform.
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    builder.create(folder)
}

/// Not put on disk one by one, which would take minutes: what a power cut has torn is found by the
/// import, and the next export writes it again.
fn write(file: &Path, bytes: &[u8]) -> Result<(), String> {
    let mut options = fs::OpenOptions::new();
    options.create(true).truncate(true).write(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    options
        .open(file)
        .and_then(|mut open| open.write_all(bytes))
        .map_err(|cause| named(file, &cause))
}

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
        if root.join(INCOMPLETE).exists() {
            return Err(format!(
                "{}: the export was not finished; repeat it",
                root.display()
            ));
        }
        if !root.join(MANIFEST).is_file() {
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

    pub fn text(&self, path: &str) -> Option<String> {
        if !self.has(path) {
            return None;
        }
        match String::from_utf8(self.bytes(path)?) {
            Ok(text) => Some(text),
            Err(_) => {
                self.problems.add(path, "", "is not UTF-8");
                None
            }
        }
    }

    pub fn json(&self, path: &str) -> Option<Value> {
        let text = self.text(path)?;
        match serde_json::from_str(&text) {
            Ok(value) => Some(value),
            Err(error) => {
                self.problems.add(path, "", format!("is no JSON: {error}"));
                None
            }
        }
    }

    /// Notes what nobody has read.
    pub fn finish(self) {
        for path in self.unread.into_inner() {
            self.problems.add(&path, "", "belongs to nothing");
        }
    }
}

/// A file of a sensible size. The error says what is wrong with it.
pub fn read(path: &Path) -> Result<Vec<u8>, String> {
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
fn files(root: &Path, problems: &Problems) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open: Vec<String> = OURS.iter().rev().map(|name| (*name).to_owned()).collect();
    while let Some(path) = open.pop() {
        let place = root.join(&path);
        let Ok(about) = fs::symlink_metadata(&place) else {
            continue;
        };
        if found.len() >= MOST_FILES {
            problems.add("", "", format!("there are more than {MOST_FILES} files"));
            return found;
        }
        if about.is_file() {
            found.insert(path);
        } else if about.is_dir() {
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
    fn no_name_leads_out_of_its_folder_and_no_two_meet() {
        assert_eq!(part("acme/infra"), "acme+infra");
        assert_eq!(part("../x"), "%2E.+x");
        assert_eq!(part("a+b c"), "a%2Bb%20c");
    }

    #[test]
    fn a_folder_of_somebody_else_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("thesis.txt"), "x").unwrap();
        let refused = Draft::begin(folder.path()).err().unwrap();
        assert!(refused.contains("thesis.txt"), "{refused}");
    }

    #[test]
    fn what_an_earlier_export_has_left_goes_and_what_is_of_others_stays() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let mut draft = Draft::begin(root).unwrap();
        draft.put(MANIFEST, b"{}").unwrap();
        draft
            .put("environments/old/environment.json", b"{}")
            .unwrap();
        draft.finish().unwrap();
        fs::write(root.join("README.md"), "ours").unwrap();
        let mut draft = Draft::begin(root).unwrap();
        draft.put(MANIFEST, b"{}").unwrap();
        assert_eq!(draft.finish(), Ok(1));
        assert!(!root.join("environments").exists());
        assert!(root.join("README.md").exists());
    }

    #[test]
    fn a_folder_that_was_not_written_to_its_end_is_no_export() {
        let folder = tempfile::tempdir().unwrap();
        let mut draft = Draft::begin(folder.path()).unwrap();
        draft.put(MANIFEST, b"{}").unwrap();
        drop(draft);
        let problems = Problems::default();
        let refused = Tree::open(folder.path(), &problems).err().unwrap();
        assert!(refused.contains("not finished"), "{refused}");
    }
}
