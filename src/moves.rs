//! The commands `backup`, `restore`, `export` and `import`: how a store gets from one place to
//! another. They read and write state directories themselves, without a gateway.
//!
//! A copy of the store is the business of `store::copy`, the plain files that of
//! `engine::portable`; here are arguments, progress, and what is printed.

mod backup;
mod folder;
mod report;

use std::path::PathBuf;

pub use self::backup::{BackupCommand, RestoreCommand};
pub use self::folder::{ExportCommand, ImportCommand};
use crate::config::Config;

/// The folder of the store that the configuration means.
fn state_dir(config: &Config) -> PathBuf {
    match (&config.engine, &config.ledger_dir) {
        (Some(engine), _) => engine.state_dir.clone(),
        (None, Some(folder)) => folder.clone(),
        (None, None) => PathBuf::from(crate::program::LEDGER_DIR),
    }
}
