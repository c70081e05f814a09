//! A folder as it is written: in place, and never over what is somebody else's.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::problem::Problems;
use super::tree::{files, read};
use super::{FORMAT, MANIFEST};

/// Stands in a folder for as long as it is being written.
pub const INCOMPLETE: &str = "incomplete";
const MARK: &[u8] = b"An export was begun here and did not end; repeat it.\n";
/// Keeps Git from changing the ends of lines.
const ATTRIBUTES: (&str, &str) = (".gitattributes", "* -text\n");

/// A folder that is written anew. What it holds already stays the same file where nothing changed.
pub struct Draft {
    root: PathBuf,
    written: BTreeSet<String>,
}

fn named(path: &Path, cause: &io::Error) -> String {
    format!("{}: {cause}", path.display())
}

impl Draft {
    /// Begins to write `root`: a new or an empty folder, or one that holds an earlier export of
    /// this account in this region.
    pub fn begin(root: &Path, account: &str, region: &str) -> Result<Self, String> {
        let wrong = |cause: io::Error| named(root, &cause);
        create(root).map_err(wrong)?;
        let begun = is_begun(root)?;
        let earlier = is_earlier(root, begun, account, region)?;
        if !begun && !earlier {
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
        if !begun {
            write(&root.join(INCOMPLETE), MARK)?;
        }
        let (name, text) = ATTRIBUTES;
        if fs::symlink_metadata(root.join(name)).is_err() {
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
        let regular = there.as_ref().is_some_and(fs::Metadata::is_file);
        let same = regular && fs::read(&file).is_ok_and(|found| found == bytes);
        if !same {
            match there {
                Some(about) if about.is_dir() => fs::remove_dir_all(&file),
                Some(_) => fs::remove_file(&file),
                None => Ok(()),
            }
            .map_err(|cause| named(&file, &cause))?;
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

/// Whether an export was begun here.
fn is_begun(root: &Path) -> Result<bool, String> {
    let mark = root.join(INCOMPLETE);
    match fs::symlink_metadata(&mark) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(cause) => Err(named(&mark, &cause)),
        Ok(_) if read(&mark).is_ok_and(|text| text == MARK) => Ok(true),
        Ok(_) => Err(foreign(root, INCOMPLETE)),
    }
}

/// Whether there is an earlier export here. One that did not end may have left half a manifest.
fn is_earlier(root: &Path, begun: bool, account: &str, region: &str) -> Result<bool, String> {
    let manifest = root.join(MANIFEST);
    match fs::symlink_metadata(&manifest) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(cause) => return Err(named(&manifest, &cause)),
        Ok(_) => {}
    }
    let bytes = read(&manifest).map_err(|_| foreign(root, MANIFEST))?;
    let value: Value = match serde_json::from_slice(&bytes) {
        Ok(value) => value,
        Err(_) if begun => return Ok(true),
        Err(_) => return Err(foreign(root, MANIFEST)),
    };
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    let format = value.get("format").and_then(Value::as_u64);
    let counts = value.get("counts").is_some_and(Value::is_object);
    let (Some(format), Some(is), Some(at), true) =
        (format, text("accountId"), text("region"), counts)
    else {
        return Err(foreign(root, MANIFEST));
    };
    if format > FORMAT {
        return Err(format!(
            "{} holds an export in format {format}, and this program knows up to {FORMAT}; give an \
             empty or a new folder",
            root.display()
        ));
    }
    if (is, at) != (account, region) {
        return Err(format!(
            "{} holds an export of account {is} in {at}, and this one is of {account} in {region}; \
             give an empty or a new folder",
            root.display()
        ));
    }
    Ok(true)
}

fn foreign(root: &Path, name: &str) -> String {
    format!(
        "{} holds a {name} that is not of an export; give an empty or a new folder",
        root.display()
    )
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

/// Writes a new file; never through what stands there.
///
/// Not put on disk one by one, which would take minutes: what a power cut has torn is found by the
/// import, and the next export writes it again.
fn write(file: &Path, bytes: &[u8]) -> Result<(), String> {
    let mut options = fs::OpenOptions::new();
    options.create_new(true).write(true);
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

#[cfg(test)]
mod tests {
    use super::super::tree::Tree;
    use super::*;

    const OWN: &[u8] = br#"{"format": 1, "accountId": "1", "region": "r", "counts": {}}"#;

    fn begin(root: &Path) -> Result<Draft, String> {
        Draft::begin(root, "1", "r")
    }

    #[test]
    fn a_folder_of_somebody_else_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("thesis.txt"), "x").unwrap();
        let refused = begin(folder.path()).err().unwrap();
        assert!(refused.contains("thesis.txt"), "{refused}");
    }

    #[test]
    fn what_an_earlier_export_has_left_goes_and_what_is_of_others_stays() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let mut draft = begin(root).unwrap();
        draft.put(MANIFEST, OWN).unwrap();
        draft
            .put("environments/old/environment.json", b"{}")
            .unwrap();
        draft.finish().unwrap();
        fs::write(root.join("README.md"), "ours").unwrap();
        let mut draft = begin(root).unwrap();
        draft.put(MANIFEST, OWN).unwrap();
        assert_eq!(draft.finish(), Ok(1));
        assert!(!root.join("environments").exists());
        assert!(root.join("README.md").exists());
    }

    #[test]
    fn a_folder_that_was_not_written_to_its_end_is_no_export() {
        let folder = tempfile::tempdir().unwrap();
        let mut draft = begin(folder.path()).unwrap();
        draft.put(MANIFEST, OWN).unwrap();
        drop(draft);
        let problems = Problems::default();
        let refused = Tree::open(folder.path(), &problems).err().unwrap();
        assert!(refused.contains("not finished"), "{refused}");
    }

    #[test]
    fn a_manifest_of_somebody_else_makes_no_export_of_a_folder() {
        for text in [
            "{}",
            "x",
            r#"{"format": "1", "accountId": "1", "region": "r", "counts": {}}"#,
            r#"{"format": 1, "accountId": "2", "region": "r", "counts": {}}"#,
            r#"{"format": 1, "accountId": "1", "region": "s", "counts": {}}"#,
        ] {
            let folder = tempfile::tempdir().unwrap();
            let root = folder.path();
            fs::write(root.join(MANIFEST), text).unwrap();
            fs::create_dir(root.join("services")).unwrap();
            fs::write(root.join("services/theirs.txt"), "x").unwrap();
            let refused = begin(root).err().unwrap();
            assert!(refused.contains("new folder"), "{refused}");
            assert!(root.join("services/theirs.txt").exists());
            assert!(!root.join(INCOMPLETE).exists());
        }
    }

    #[test]
    fn a_mark_that_is_not_ours_makes_no_export_of_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(INCOMPLETE), "my list").unwrap();
        let refused = begin(folder.path()).err().unwrap();
        assert!(refused.contains("incomplete"), "{refused}");
        let left = fs::read_to_string(folder.path().join(INCOMPLETE)).unwrap();
        assert_eq!(left, "my list");
    }

    #[test]
    fn an_export_that_did_not_end_is_gone_on_with() {
        let folder = tempfile::tempdir().unwrap();
        drop(begin(folder.path()).unwrap());
        fs::write(folder.path().join(MANIFEST), "{\"form").unwrap();
        let mut draft = begin(folder.path()).unwrap();
        draft.put(MANIFEST, OWN).unwrap();
        assert_eq!(draft.finish(), Ok(1));
    }

    #[test]
    fn nothing_is_written_through_a_link() {
        use std::os::unix::fs::symlink;
        for name in [INCOMPLETE, MANIFEST, ATTRIBUTES.0, "account-settings.json"] {
            let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let (root, theirs) = (folder.path(), other.path().join("theirs"));
            drop(begin(root).unwrap());
            fs::remove_file(root.join(name)).ok();
            fs::write(&theirs, "theirs").unwrap();
            symlink(&theirs, root.join(name)).unwrap();
            let written = begin(root).and_then(|mut draft| {
                draft.put("account-settings.json", b"{}")?;
                draft.put(MANIFEST, OWN)
            });
            let linked = [INCOMPLETE, MANIFEST].contains(&name);
            assert_eq!(written.is_err(), linked, "{name}");
            assert_eq!(fs::read_to_string(&theirs).unwrap(), "theirs", "{name}");
        }
    }
}
