//! From the bytes of a tar.gz archive to files in memory. Nothing is written to a disk.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::rc::Rc;

use flate2::read::MultiGzDecoder;
use tar::{Archive, EntryType};

use super::headers::Headers;
use super::{Bundle, BundleError, Limits};

/// Names under which the schema is found. Proton documents the first.
const SCHEMA_FILES: [&str; 2] = ["schema/schema.yaml", "schema/schema.yml"];

const MAX_PATH_BYTES: usize = 512;

impl Bundle {
    /// Unpacks an archive.
    ///
    /// The root may stand below leading directories: authors pack `schema/`, `./schema/` and
    /// `my-template/v1/schema/` alike, and Proton registered all of them. What lies outside the
    /// root is checked like the rest and then dropped.
    pub fn unpack(gz: impl Read, limits: &Limits) -> Result<Self, BundleError> {
        let packed = Capped::new(gz, limits.packed_bytes);
        let packed_full = packed.full();
        let unpacked = Capped::new(MultiGzDecoder::new(packed), limits.unpacked_bytes);
        let unpacked_full = unpacked.full();
        read(unpacked, limits)
            .map_err(|failure| {
                // Libraries in between may have given the error another shape.
                if packed_full.get() {
                    too_large("is packed into", limits.packed_bytes)
                } else if unpacked_full.get() {
                    too_large("unpacks to", limits.unpacked_bytes)
                } else {
                    match failure {
                        Failure::Refused(error) => error,
                        Failure::Unreadable(error) => unreadable(&error),
                    }
                }
            })
            .and_then(|files| rooted(files, limits))
    }
}

pub(super) enum Failure {
    Refused(BundleError),
    Unreadable(io::Error),
}

impl From<BundleError> for Failure {
    fn from(error: BundleError) -> Self {
        Self::Refused(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Unreadable(error)
    }
}

fn too_large(what: &str, limit: u64) -> BundleError {
    BundleError::TooLarge(format!(
        "{what} more than the {limit} bytes that are allowed; leave out what the template doesn't need"
    ))
}

fn unreadable(error: &io::Error) -> BundleError {
    // The libraries quote names from the archive.
    let cause = error.to_string().escape_debug().to_string();
    BundleError::Archive(match error.kind() {
        io::ErrorKind::UnexpectedEof => "it is cut off".to_owned(),
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData | io::ErrorKind::Other => {
            format!("it is not a tar archive compressed with gzip, or damaged ({cause})")
        }
        _ => format!("reading it failed ({cause})"),
    })
}

fn read(source: impl Read, limits: &Limits) -> Result<BTreeMap<String, Vec<u8>>, Failure> {
    let mut archive = Archive::new(source);
    let mut files = BTreeMap::new();
    let mut entries = 0;
    let mut headers = Headers::default();
    for entry in archive.entries()?.raw(true) {
        let mut entry = entry?;
        entries += 1;
        if entries > limits.entries {
            return Err(BundleError::TooLarge(format!(
                "holds more than the {} entries that are allowed",
                limits.entries
            ))
            .into());
        }
        if headers.take(&mut entry, limits.file_bytes)? {
            continue;
        }
        let name = headers.name(&entry)?;
        let Some(path) = file_path(&name, entry.header().entry_type())? else {
            continue;
        };
        if files.len() >= limits.files {
            return Err(BundleError::TooLarge(format!(
                "holds more than the {} files that are allowed",
                limits.files
            ))
            .into());
        }
        // Not the size that the header claims: what is read counts.
        let mut bytes = Vec::new();
        entry
            .by_ref()
            .take(limits.file_bytes + 1)
            .read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limits.file_bytes {
            return Err(refused(
                &path,
                format!(
                    "is larger than the {} bytes that a file may have",
                    limits.file_bytes
                ),
            )
            .into());
        }
        // tar ends a file early, without an error, where its source ends.
        if (bytes.len() as u64) < entry.size() {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        if files.contains_key(&path) {
            return Err(refused(&path, "is there twice").into());
        }
        files.insert(path, bytes);
    }
    headers.finish()?;
    // Behind the end of the tar archive stand padding and gzip's checksum.
    io::copy(&mut archive.into_inner(), &mut io::sink())?;
    if entries == 0 {
        return Err(BundleError::Archive("it is empty".to_owned()).into());
    }
    unmixed(&files)?;
    Ok(files)
}

/// The path of a regular file; `None` for what carries no contents.
fn file_path(raw: &[u8], kind: EntryType) -> Result<Option<String>, BundleError> {
    let shown = String::from_utf8_lossy(raw)
        .chars()
        .take(200)
        .collect::<String>();
    let shown = shown.escape_debug().to_string();
    let directory = match kind {
        EntryType::Regular | EntryType::Continuous => raw.ends_with(b"/"),
        EntryType::Directory => true,
        EntryType::Symlink | EntryType::Link => {
            return Err(refused(
                &shown,
                "is a link; replace it by the file that it points to",
            ));
        }
        _ => {
            return Err(refused(
                &shown,
                "is neither a file nor a directory; leave it out",
            ));
        }
    };
    let text =
        std::str::from_utf8(raw).map_err(|_| refused(&shown, "has a name that is not UTF-8"))?;
    if text.len() > MAX_PATH_BYTES {
        return Err(refused(
            &shown,
            format!("has a path of more than {MAX_PATH_BYTES} bytes"),
        ));
    }
    if text.starts_with('/') {
        return Err(refused(&shown, "has an absolute path; pack relative paths"));
    }
    if text
        .chars()
        .any(|letter| letter.is_control() || letter == '\\')
    {
        return Err(refused(
            &shown,
            "has a control character or a backslash in its path",
        ));
    }
    let mut parts = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => return Err(refused(&shown, "has `..` in its path")),
            part => parts.push(part),
        }
    }
    // macOS packs the attributes of `x` as a file `._x`, which is nothing that the author wrote.
    if directory || parts.last().is_some_and(|name| name.starts_with("._")) {
        return Ok(None);
    }
    if parts.is_empty() {
        return Err(refused(&shown, "has no name"));
    }
    Ok(Some(parts.join("/")))
}

/// Refuses paths that could not stand on a disk together.
fn unmixed(files: &BTreeMap<String, Vec<u8>>) -> Result<(), BundleError> {
    for path in files.keys() {
        let parents = path.match_indices('/').map(|(end, _)| &path[..end]);
        if let Some(parent) = parents
            .into_iter()
            .find(|parent| files.contains_key(*parent))
        {
            return Err(refused(
                parent,
                format!("is a file and also the directory of `{path}`"),
            ));
        }
    }
    Ok(())
}

/// Drops what is outside the root and makes paths relative to it.
fn rooted(files: BTreeMap<String, Vec<u8>>, limits: &Limits) -> Result<Bundle, BundleError> {
    let mut roots = BTreeSet::new();
    for path in files.keys() {
        for schema in SCHEMA_FILES {
            if let Some(root) = path.strip_suffix(schema)
                && (root.is_empty() || root.ends_with('/'))
            {
                roots.insert((root.to_owned(), schema));
            }
        }
    }
    let mut roots = roots.into_iter();
    let (root, schema_file) = match (roots.next(), roots.next()) {
        (Some(root), None) => root,
        (None, _) => {
            return Err(BundleError::Root(
                "schema/schema.yaml: is missing; pack the directory that holds `schema/`."
                    .to_owned(),
            ));
        }
        (Some(first), Some(second)) => {
            return Err(BundleError::Root(format!(
                "{}{} and {}{}: there is more than one schema; pack one template per bundle.",
                first.0, first.1, second.0, second.1
            )));
        }
    };
    let files = files
        .into_iter()
        .filter_map(|(path, bytes)| Some((path.strip_prefix(&root)?.to_owned(), bytes)))
        .collect();
    Ok(Bundle {
        files,
        schema_file,
        schema_chars: limits.schema_chars,
    })
}

pub(super) fn refused(entry: &str, problem: impl Into<String>) -> BundleError {
    BundleError::Entry {
        entry: entry.to_owned(),
        problem: problem.into(),
    }
}

/// A reader that fails once it would give more than `left` bytes.
struct Capped<R> {
    inner: R,
    left: u64,
    full: Rc<Cell<bool>>,
}

impl<R> Capped<R> {
    fn new(inner: R, limit: u64) -> Self {
        Self {
            inner,
            left: limit,
            full: Rc::new(Cell::new(false)),
        }
    }

    /// Whether the limit was passed; readable after the reader was given away.
    fn full(&self) -> Rc<Cell<bool>> {
        Rc::clone(&self.full)
    }
}

impl<R: Read> Read for Capped<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        match self.left.checked_sub(read as u64) {
            Some(left) => {
                self.left = left;
                Ok(read)
            }
            None => {
                self.full.set(true);
                Err(io::Error::other("too large"))
            }
        }
    }
}
