//! Template bundles: the tar.gz archives in which templates are registered.
//!
//! Responsible for unpacking an archive from an untrusted source into memory ([`Bundle::unpack`])
//! and for deciding whether it is a bundle of the wanted kind ([`Bundle::check`]). Fetching the
//! archive, storing it and rendering what is in it are done elsewhere.

mod check;
mod headers;
mod manifest;
#[cfg(test)]
mod tests;
mod unpack;

use std::collections::BTreeMap;
use std::fmt;

pub use check::{Checked, TemplateKind};
pub use manifest::{Engine, Infrastructure};

/// How large a bundle may be.
///
/// The defaults are Proton's quotas where it has one (User Guide, quotas, newest edition).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the archive. Proton: 10 MB.
    pub packed_bytes: u64,
    /// Bytes of the archive once decompressed, with everything that is skipped. Ours.
    pub unpacked_bytes: u64,
    /// Bytes of one file. Proton: 2 MB for a template, manifest or schema file.
    pub file_bytes: u64,
    /// Files. Proton: 500 in a CodeBuild bundle.
    pub files: usize,
    /// Files, directories and headers of the archive. Ours.
    pub entries: usize,
    /// Characters of the schema: `GetEnvironmentTemplateVersion` cannot return more than 51,200.
    pub schema_chars: usize,
}

impl Default for Limits {
    fn default() -> Self {
        const MB: u64 = 1024 * 1024;
        Self {
            packed_bytes: 10 * MB,
            unpacked_bytes: 50 * MB,
            file_bytes: 2 * MB,
            files: 500,
            entries: 2_000,
            schema_chars: 51_200,
        }
    }
}

/// Why an archive is not a bundle that can be registered. The text is for the template's author.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// The bytes are not a whole tar.gz archive.
    #[error("The bundle can't be unpacked: {0}. Pack it again, for example with `tar -czf`.")]
    Archive(String),
    /// An entry of the archive is of a kind that is not accepted.
    #[error("`{entry}` in the bundle {problem}.")]
    Entry { entry: String, problem: String },
    /// A limit is exceeded.
    #[error("The bundle {0}.")]
    TooLarge(String),
    /// There is no directory, or more than one, that looks like the root of a bundle.
    #[error("{0}")]
    Root(String),
    /// A file of the bundle is missing, superfluous or wrong.
    #[error("{file}: {message}.")]
    File { file: String, message: String },
    /// The schema is not one of the wanted kind. The text up to the colon is Proton's own.
    #[error("{kind} template schema is not valid: {problem}")]
    Schema { kind: &'static str, problem: String },
}

impl BundleError {
    fn file(file: impl Into<String>, message: impl Into<String>) -> Self {
        Self::File {
            file: file.into(),
            message: message.into(),
        }
    }
}

/// An unpacked archive: the files below the directory that holds `schema/`.
#[derive(Clone, PartialEq, Eq)]
pub struct Bundle {
    files: BTreeMap<String, Vec<u8>>,
    /// `schema/schema.yaml` or `schema/schema.yml`.
    schema_file: &'static str,
    schema_chars: usize,
}

/// Without the contents, which are sensitive.
impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bundle")
            .field("files", &self.files.keys())
            .finish_non_exhaustive()
    }
}

impl Bundle {
    /// All files by their path relative to the root, in the order of the paths.
    pub fn files(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.files
    }

    /// The file at a path relative to the root.
    pub fn file(&self, path: &str) -> Option<&[u8]> {
        self.files.get(path).map(Vec::as_slice)
    }

    /// The files of a directory and of the directories in it, with paths relative to it.
    pub fn directory<'a>(
        &'a self,
        directory: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.files.iter().filter_map(move |(path, bytes)| {
            let inner = path.strip_prefix(directory)?.strip_prefix('/')?;
            Some((inner, bytes.as_slice()))
        })
    }
}
