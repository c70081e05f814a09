//! `backup` and `restore`: the store as one file.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;

use super::report::Report;
use super::state_dir;
use crate::backend::engine::store::copy::{self, Contents};
use crate::client::Failure;
use crate::config::Config;

/// What of a state directory is in the backup, or is nothing worth keeping.
const COVERED: &[&str] = &[
    "proton.db",
    "proton.db-wal",
    "proton.db-shm",
    "proton.db.draft",
    "lock",
];
/// Entries of a folder that are counted before it is called large.
const COUNTED: usize = 10_000;

/// Where a backup goes.
#[derive(Debug, Args)]
pub struct BackupCommand {
    /// The file to write
    file: PathBuf,
    /// Take the place of a file that is there already
    #[arg(long)]
    force: bool,
    /// Print nothing unless it fails
    #[arg(long, short)]
    quiet: bool,
}

/// Where a backup comes from.
#[derive(Debug, Args)]
pub struct RestoreCommand {
    /// The file that `backup` has written
    file: PathBuf,
    /// Print nothing unless it fails
    #[arg(long, short)]
    quiet: bool,
}

impl BackupCommand {
    pub fn run(&self, config: &Config) -> Result<(), Failure> {
        let file = &self.file;
        self.check_target()?;
        let folder = state_dir(config);
        self.check_place(&folder)?;
        let draft = beside(file, ".draft");
        let held = hold(&draft)?;
        let report = Report::new(self.quiet, "copying pages");
        let copied = copy::copy(&folder, &draft, &|done, total| report.progress(done, total))
            .map_err(|error| error.to_string())
            .and_then(|contents| {
                self.check_target()?;
                fs::rename(&draft, file).map_err(|cause| unwritten(file, &cause))?;
                let parent = parent(file);
                File::open(parent)
                    .and_then(|parent| parent.sync_all())
                    .map_err(|cause| unwritten(parent, &cause))?;
                Ok(contents)
            });
        let contents = copied.inspect_err(|_| drop(fs::remove_file(&draft)))?;
        drop(held);
        report.line(format!("{}: checked, {}", file.display(), size(file)));
        say(&report, &contents);
        let left_out = left_out(config, &folder);
        if !left_out.is_empty() {
            report.line("not in it, to be kept beside it:");
            left_out
                .iter()
                .for_each(|what| report.line(format!("  {what}")));
        }
        Ok(())
    }

    /// Refuses the store's own files, and what a gateway would take for them.
    fn check_place(&self, folder: &Path) -> Result<(), String> {
        let there = |path: &Path| fs::canonicalize(path).ok();
        match (there(parent(&self.file)), there(folder)) {
            (Some(parent), Some(folder)) if parent == folder => Err(format!(
                "{} is in the state directory, among the files of the store; choose a place outside \
                 of it",
                self.file.display()
            )),
            _ => Ok(()),
        }
    }

    fn check_target(&self) -> Result<(), String> {
        match fs::symlink_metadata(&self.file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(cause) => Err(unwritten(&self.file, &cause)),
            Ok(about) if !about.is_file() => Err(format!(
                "{} is there and is not a file",
                self.file.display()
            )),
            Ok(_) if self.force => Ok(()),
            Ok(_) => Err(format!(
                "{} is there already; choose another name, or add --force",
                self.file.display()
            )),
        }
    }
}

impl RestoreCommand {
    pub fn run(&self, config: &Config) -> Result<(), Failure> {
        let report = Report::new(self.quiet, "copying bytes");
        let folder = state_dir(config);
        let told = |done, total| report.progress(done, total);
        let contents =
            copy::restore(&self.file, &folder, &told).map_err(|error| error.to_string())?;
        report.line(format!(
            "{} holds what was in {}",
            folder.display(),
            self.file.display()
        ));
        say(&report, &contents);
        Ok(())
    }
}

fn unwritten(path: &Path, cause: &io::Error) -> String {
    format!("cannot write {}: {cause}", path.display())
}

fn parent(file: &Path) -> &Path {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// An empty file for a draft, held against another backup to the same place.
fn hold(draft: &Path) -> Result<File, String> {
    let file = copy::draft(draft).map_err(|cause| unwritten(draft, &cause))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(format!("another backup is writing {}", draft.display()));
        }
        Err(TryLockError::Error(cause)) => return Err(unwritten(draft, &cause)),
    }
    file.set_len(0).map_err(|cause| unwritten(draft, &cause))?;
    Ok(file)
}

fn size(path: &Path) -> String {
    let bytes = fs::metadata(path).map_or(0, |about| about.len());
    indicatif::HumanBytes(bytes).to_string()
}

fn say(report: &Report, contents: &Contents) {
    report.line(format!("  format {}", contents.format));
    let own = [
        ("bundles", contents.bundles),
        ("tasks that are due later", contents.tasks),
        ("idempotency keys", contents.idempotency_keys),
    ];
    let records = contents.records.iter();
    let lines = records
        .map(|(kind, count)| (kind.as_str(), *count))
        .chain(own);
    lines.for_each(|(what, count)| report.line(format!("  {count} {what}")));
}

/// What else belongs to the gateway, and where it is.
fn left_out(config: &Config, folder: &Path) -> Vec<String> {
    let mut found: Vec<String> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| !COVERED.contains(&entry.file_name().to_string_lossy().as_ref()))
        .map(|entry| entry.path())
        .filter(|path| {
            config
                .engine
                .as_ref()
                .is_none_or(|own| own.buckets_dir != *path)
        })
        .map(|path| path.display().to_string())
        .collect();
    found.sort();
    if let Some(own) = &config.engine {
        let objects = objects(&own.buckets_dir);
        if objects > 0 {
            found.push(format!(
                "{} ({objects} files): sources of template versions, for those that are registered from now on",
                own.buckets_dir.display()
            ));
        }
    }
    let files = [
        ("idempotency.secret-file", &config.idempotency.secret_file),
        ("resume-token-key-file", &config.resume_token_key_file),
    ];
    for (key, path) in files {
        if let Some(path) = path {
            found.push(format!("{} ({key})", path.display()));
        }
    }
    found.push("the configuration, and the files that it names".to_owned());
    found
}

/// How many files there are in a folder and the folders in it; no more than are counted.
fn objects(folder: &Path) -> usize {
    let mut count = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                _ => count += 1,
            }
            if count >= COUNTED {
                return count;
            }
        }
    }
    count
}
