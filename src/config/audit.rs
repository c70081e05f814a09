//! The section `[audit]`: where it is written down who changed what, and who was denied. File
//! only.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{ConfigError, invalid};

/// Where records go, and what happens if they cannot.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct AuditConfig {
    /// File that records are appended to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// How large the file becomes before a new one is begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_size: Option<Size>,
    /// How many older files are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep: Option<u32>,
    /// Whether records are written to the standard output.
    pub stdout: bool,
    /// Nothing is changed before its record is on disk.
    pub blocking: bool,
    /// How many records may wait to be written.
    pub queue: u32,
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self {
            file: None,
            max_size: None,
            keep: None,
            stdout: false,
            blocking: false,
            queue: 4096,
        }
    }
}

/// A size with its unit: `512KiB`, `100MiB`, `1GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Size(pub u64);

const UNITS: [(&str, u64); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];
const SIZES: [Size; 2] = [Size(1 << 10), Size(1 << 40)];

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        UNITS
            .iter()
            .find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, bytes)))
            .and_then(|(count, bytes)| count.parse::<u64>().ok()?.checked_mul(*bytes))
            .map(Self)
            .ok_or_else(|| format!("{text:?} is no size like 512KiB, 100MiB or 1GiB"))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |(_, bytes): &&(&str, u64)| self.0 > 0 && self.0.is_multiple_of(*bytes);
        let (unit, bytes) = UNITS.iter().find(whole).unwrap_or(&UNITS[3]);
        write!(f, "{}{unit}", self.0 / bytes)
    }
}

impl TryFrom<String> for Size {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Size> for String {
    fn from(size: Size) -> Self {
        size.to_string()
    }
}

impl AuditConfig {
    /// What holds: `given`, completed and checked.
    pub(super) fn of(given: Option<Self>) -> Result<Option<Self>, ConfigError> {
        let Some(mut audit) = given else {
            return Ok(None);
        };
        if audit.file.is_some() {
            audit.max_size.get_or_insert(Size(100 << 20));
            audit.keep.get_or_insert(10);
        } else if audit.max_size.is_some() || audit.keep.is_some() {
            let problem = "max-size and keep are of a file; give one, or leave them out";
            return Err(invalid("audit.file", problem));
        }
        audit.check()?;
        Ok(Some(audit))
    }

    fn check(&self) -> Result<(), ConfigError> {
        if self.file.is_none() && !self.stdout {
            let problem = "give a file, or set stdout = true, or leave the section out";
            return Err(invalid("audit", problem));
        }
        if self
            .file
            .as_ref()
            .is_some_and(|file| file.file_name().is_none())
        {
            return Err(invalid("audit.file", "this is the name of no file"));
        }
        let [least, most] = SIZES;
        if self
            .max_size
            .is_some_and(|size| !(least..=most).contains(&size))
        {
            let problem = format!("at least {least} and at most {most}");
            return Err(invalid("audit.max-size", problem));
        }
        if self.keep.is_some_and(|keep| !(1..=1000).contains(&keep)) {
            return Err(invalid("audit.keep", "at least 1 and at most 1000"));
        }
        if !(2..=100_000).contains(&self.queue) {
            return Err(invalid("audit.queue", "at least 2 and at most 100000"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Options};
    use super::*;

    fn from_file(text: &str) -> Result<Config, ConfigError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Config::load(Options::default(), Some(file.path()))
    }

    #[test]
    fn a_file_is_rotated_though_nothing_is_said_of_it() {
        assert_eq!(from_file("").unwrap().audit, None);
        let audit = from_file("[audit]\nfile = \"a.log\"").unwrap().audit;
        let audit = audit.unwrap();
        assert_eq!(
            (audit.max_size, audit.keep),
            (Some(Size(100 << 20)), Some(10))
        );
    }

    #[test]
    fn the_section_can_be_read_back_as_a_file() {
        for text in [
            "[audit]\nstdout = true",
            "[audit]\nfile = \"a.log\"\nmax-size = \"1500KiB\"\nblocking = true",
        ] {
            let config = from_file(text).unwrap();
            let again = from_file(&toml::to_string(&config).unwrap()).unwrap();
            assert_eq!(again, config);
        }
    }

    #[test]
    fn what_could_not_be_meant_is_refused_by_its_name() {
        for (name, text) in [
            ("audit", ""),
            ("audit.file", "stdout = true\nkeep = 3"),
            ("audit.file", "file = \"/\""),
            ("audit.max-size", "file = \"a\"\nmax-size = \"1B\""),
            ("audit.keep", "file = \"a\"\nkeep = 0"),
            ("audit.queue", "stdout = true\nqueue = 1"),
        ] {
            let error = from_file(&format!("[audit]\n{text}")).unwrap_err();
            let error = error.to_string();
            assert!(error.starts_with(&format!("{name}: ")), "{text}: {error}");
        }
        for size in ["100", "MiB", "1.5MiB", "1MB", "99999999999GiB"] {
            assert!(size.parse::<Size>().is_err(), "{size}");
        }
    }
}
