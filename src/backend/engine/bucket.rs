//! Where template bundles come from: one folder per bucket, and the examples compiled in.

use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use crate::api::EXAMPLES;

/// The bucket of the bundles that are compiled in.
pub const EXAMPLES_BUCKET: &str = "proton-examples";

/// Local buckets. An object `key` of `bucket` is the file `<folder>/<bucket>/<key>`.
#[derive(Debug, Clone)]
pub struct Buckets {
    folder: PathBuf,
}

impl Buckets {
    /// Buckets are the sub-folders of `folder`, which need not exist yet.
    pub fn in_folder(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
        }
    }

    /// The bytes of an object of at most `limit` bytes. The error is for the template's author
    /// and names the object, not the folders of this machine.
    pub fn read(&self, bucket: &str, key: &str, limit: u64) -> Result<Vec<u8>, String> {
        let object = format!("s3://{bucket}/{key}");
        if bucket == EXAMPLES_BUCKET
            && let Some((_, bytes)) = EXAMPLES.iter().find(|(name, _)| *name == key)
        {
            return Ok(bytes.to_vec());
        }
        let path = self
            .path(bucket, key)
            .ok_or_else(|| format!("{object} does not exist: its key leaves the bucket."))?;
        let missing = || {
            if bucket == EXAMPLES_BUCKET {
                let names: Vec<_> = EXAMPLES.iter().map(|(name, _)| *name).collect();
                format!(
                    "{object} does not exist. The bucket has {}.",
                    names.join(", ")
                )
            } else {
                format!(
                    "{object} does not exist. Buckets are folders below the gateway's buckets-dir."
                )
            }
        };
        // Asked before it is opened: a named pipe would never answer.
        let about = path.metadata().map_err(|_| missing())?;
        if !about.is_file() {
            return Err(format!("{object} is not a file."));
        }
        let mut bytes = Vec::new();
        File::open(&path)
            .and_then(|file| file.take(limit.saturating_add(1)).read_to_end(&mut bytes))
            .map_err(|error| format!("{object} cannot be read: {}.", error.kind()))?;
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limit {
            return Err(format!(
                "{object} has more than the {limit} bytes that a bundle may have."
            ));
        }
        Ok(bytes)
    }

    /// The file of an object; `None` if it would be outside of its bucket, symbolic links
    /// included.
    fn path(&self, bucket: &str, key: &str) -> Option<PathBuf> {
        let inside = |part: &str| {
            !part.is_empty()
                && Path::new(part)
                    .components()
                    .all(|component| matches!(component, Component::Normal(_)))
        };
        if !inside(bucket) || bucket.contains('/') || !inside(key) {
            return None;
        }
        let bucket = self.folder.join(bucket);
        let path = bucket.join(key);
        match (bucket.canonicalize(), path.canonicalize()) {
            (Ok(bucket), Ok(path)) => path.starts_with(bucket).then_some(path),
            // What does not exist cannot lead outside.
            _ => Some(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket_with(files: &[&str]) -> (tempfile::TempDir, Buckets) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("mine/a")).unwrap();
        for file in files {
            std::fs::write(folder.path().join(file), b"12345").unwrap();
        }
        let buckets = Buckets::in_folder(folder.path());
        (folder, buckets)
    }

    #[test]
    fn an_object_is_the_file_under_its_key() {
        let (_folder, buckets) = bucket_with(&["mine/a/bundle.tar.gz"]);
        assert_eq!(
            buckets.read("mine", "a/bundle.tar.gz", 5).unwrap(),
            b"12345"
        );
    }

    #[test]
    fn an_object_that_is_too_large_absent_or_a_folder_is_refused_with_its_name() {
        let (_folder, buckets) = bucket_with(&["mine/b"]);
        for (key, limit, problem) in [
            ("b", 4, "more than the 4 bytes"),
            ("c", 9, "does not exist"),
            ("a", 9, "is not a file"),
        ] {
            let error = buckets.read("mine", key, limit).unwrap_err();
            assert!(error.contains(&format!("s3://mine/{key}")), "{error}");
            assert!(error.contains(problem), "{error}");
        }
    }

    #[test]
    fn no_key_leads_out_of_its_bucket() {
        let (folder, buckets) = bucket_with(&["secret", "mine/b"]);
        #[cfg(unix)]
        std::os::unix::fs::symlink(
            folder.path().join("secret"),
            folder.path().join("mine/link"),
        )
        .unwrap();
        for key in [
            "../secret",
            "a/../../secret",
            "/etc/hosts",
            "link",
            "./b/..",
        ] {
            assert!(buckets.read("mine", key, 99).is_err(), "{key}");
        }
        assert!(buckets.read("..", "secret", 99).is_err());
    }
}
