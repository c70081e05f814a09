//! The headers that precede an entry of a tar archive and give it a longer name.
//!
//! They are read here and not by the `tar` crate, which takes a line feed in a value for the end
//! of a record. Archives made on macOS have such values: extended attributes are binary.

use std::io::Read;

use tar::{Entry, EntryType};

use super::BundleError;
use super::unpack::{Failure, refused};

/// The headers of the entry that comes next.
#[derive(Default)]
pub(super) struct Headers {
    gnu_name: Option<Vec<u8>>,
    /// `Some` if there was a pax header, with the path if it has one.
    pax: Option<Pax>,
}

#[derive(Default)]
struct Pax {
    path: Option<Vec<u8>>,
    size: Option<u64>,
}

impl Headers {
    /// Takes the entry if it is such a header; false if it is an entry of its own.
    pub(super) fn take<R: Read>(
        &mut self,
        entry: &mut Entry<'_, R>,
        limit: u64,
    ) -> Result<bool, Failure> {
        match entry.header().entry_type() {
            EntryType::GNULongName => {
                let mut name = contents(entry, limit)?;
                if name.last() == Some(&0) {
                    name.pop();
                }
                if self.gnu_name.replace(name).is_some() {
                    return Err(damaged("it has two names for one entry"));
                }
            }
            EntryType::XHeader => {
                let pax = Pax::parse(&contents(entry, limit)?)?;
                if self.pax.replace(pax).is_some() {
                    return Err(damaged("it has two headers for one entry"));
                }
            }
            // Of a link's target, which is refused when the link itself comes.
            EntryType::GNULongLink => {}
            // Of the whole archive: `git archive` writes its commit there.
            EntryType::XGlobalHeader => {}
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The name of an entry, after which the headers are spent.
    pub(super) fn name<R: Read>(&mut self, entry: &Entry<'_, R>) -> Result<Vec<u8>, Failure> {
        let pax = self.pax.take().unwrap_or_default();
        if pax.size.is_some_and(|size| size != entry.size()) {
            return Err(damaged("it has two sizes for one entry"));
        }
        match (pax.path, self.gnu_name.take()) {
            (Some(_), Some(_)) => Err(damaged("it has two names for one entry")),
            (Some(name), None) | (None, Some(name)) => Ok(name),
            (None, None) => Ok(entry.path_bytes().into_owned()),
        }
    }

    /// Fails if there are headers without an entry.
    pub(super) fn finish(self) -> Result<(), Failure> {
        if self.gnu_name.is_some() || self.pax.is_some() {
            return Err(damaged("it ends with the header of an entry"));
        }
        Ok(())
    }
}

impl Pax {
    /// Reads records of the form `25 path=some/long/name\n`, where 25 is the record's length.
    fn parse(mut records: &[u8]) -> Result<Self, Failure> {
        let mut pax = Self::default();
        while !records.is_empty() {
            let (key, value, rest) =
                record(records).ok_or_else(|| damaged("it has a malformed pax header"))?;
            match key {
                b"path" => pax.path = Some(value.to_vec()),
                b"size" => {
                    let size = std::str::from_utf8(value)
                        .ok()
                        .and_then(|size| size.parse().ok());
                    pax.size = Some(size.ok_or_else(|| damaged("it has a malformed pax header"))?);
                }
                sparse if sparse.starts_with(b"GNU.sparse.") => {
                    return Err(
                        refused("an entry", "is a sparse file; pack it as a plain one").into(),
                    );
                }
                _ => {}
            }
            records = rest;
        }
        Ok(pax)
    }
}

/// The key and value of the first record, and what follows it.
fn record(records: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = records.iter().take(12).position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&records[..space]).ok()?.parse().ok()?;
    let (record, rest) = records.split_at_checked(length)?;
    let pair = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = pair.iter().position(|byte| *byte == b'=')?;
    Some((&pair[..equals], &pair[equals + 1..], rest))
}

fn contents<R: Read>(entry: &mut Entry<'_, R>, limit: u64) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    entry.by_ref().take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(refused("a header", format!("is larger than {limit} bytes")).into());
    }
    Ok(bytes)
}

fn damaged(problem: &str) -> Failure {
    BundleError::Archive(problem.to_owned()).into()
}
