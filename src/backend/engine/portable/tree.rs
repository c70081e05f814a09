//! The folder as files: names, writing it in place, and reading it with nothing left unread.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::problem::Problems;
use super::{FORMAT, MANIFEST};

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
const MARK: &[u8] = b"An export was begun here and did not end; repeat it.\n";
/// Keeps Git from changing the ends of lines.
const ATTRIBUTES: (&str, &str) = (".gitattributes", "* -text\n");
/// The longest file: a bundle has 10 MB at most.
const MOST_BYTES: u64 = 16 << 20;
/// Files that are read of one folder.
const MOST_FILES: usize = 2_000_000;
/// The longest part of a path: file systems end at 255, and some names get an ending.
const MOST_OF_PART: usize = 200;
/// The longest path of a file of a bundle: systems end at 4096 with the folder's own.
const MOST_OF_PATH: usize = 2000;

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
    cut(part)
}

/// A part of a path that no file system refuses. One that was cut is longer than all that were
/// not, so that no two meet.
fn cut(part: String) -> String {
    if part.len() <= MOST_OF_PART {
        return part;
    }
    let digest = hex::encode(Sha256::digest(&part));
    let (digest, _) = digest.split_at(16);
    let kept = part.floor_char_boundary(MOST_OF_PART);
    format!("{}-{digest}", part.get(..kept).unwrap_or_default())
}

/// Where a file of a bundle is unpacked to. Git would act on names of its own, and run what they
/// say: `.git…` becomes `%2Egit…`, and `%` at the beginning `%25`. Of a path that is too long
/// there is none.
pub fn unpacked(name: &str) -> Option<String> {
    let parts: Vec<_> = name.split('/').map(harmless).collect();
    let path = parts.join("/");
    (path.len() <= MOST_OF_PATH).then_some(path)
}

fn harmless(part: &str) -> String {
    // Some file systems pass over letters that nobody sees.
    let seen: String = part.chars().filter(char::is_ascii).take(4).collect();
    let rest = part.strip_prefix('.');
    cut(match (rest, part.strip_prefix('%')) {
        (Some(rest), _) if seen.eq_ignore_ascii_case(".git") => format!("%2E{rest}"),
        (_, Some(rest)) => format!("%25{rest}"),
        _ => part.to_owned(),
    })
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
fn files(root: &Path, problems: &Problems) -> BTreeSet<String> {
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

    const OWN: &[u8] = br#"{"format": 1, "accountId": "1", "region": "r", "counts": {}}"#;

    fn begin(root: &Path) -> Result<Draft, String> {
        Draft::begin(root, "1", "r")
    }

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

    #[test]
    fn a_long_name_is_cut_and_meets_no_other() {
        let (one, other) = ("é".repeat(100), format!("{}f", "é".repeat(99)));
        assert!(part(&one).len() <= 240);
        assert_ne!(part(&one), part(&other));
        assert_ne!(part(&part(&one)), part(&one));
        let name = format!("{}/{}", "ö".repeat(127), "x".repeat(300));
        let path = unpacked(&name).unwrap();
        assert!(path.split('/').all(|part| part.len() <= 240), "{path}");
        assert_eq!(unpacked(&vec!["x".repeat(150); 20].join("/")), None);
    }

    #[test]
    fn no_file_of_a_bundle_is_one_of_git() {
        for (name, path) in [
            (".git/config", "%2Egit/config"),
            ("a/.GitModules", "a/%2EGitModules"),
            (".g\u{200c}it/config", "%2Eg\u{200c}it/config"),
            (".gitignore", "%2Egitignore"),
            ("%2Egit/x", "%252Egit/x"),
            ("a%b/.terraform", "a%b/.terraform"),
        ] {
            assert_eq!(unpacked(name).as_deref(), Some(path));
        }
    }

    #[test]
    fn a_pipe_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        assert_eq!(read(&pipe), Err("is not a regular file".to_owned()));
    }
}
