//! `export` and `import`: everything as plain files.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use clap::{Args, ValueEnum};

use super::report::Report;
use crate::backend::engine::Settings;
use crate::backend::engine::context::Context;
use crate::backend::engine::owner;
use crate::backend::engine::portable::holdings::Holdings;
use crate::backend::engine::portable::{Problems, export, import, saved};
use crate::backend::engine::store::{Snapshot, Store, Vacancy};
use crate::client::Failure;
use crate::config::Config;
use crate::error::{Error, ErrorKind};
use crate::program;

/// Said of a trial.
const TEMPORARY: &str = "the folder for temporary files, which --check needs, is full or cannot be \
                         written to; name another one in TMPDIR";

/// Where everything goes.
#[derive(Debug, Args)]
pub struct ExportCommand {
    /// The folder to write: a new or an empty one, or an earlier export, which is brought up to date
    folder: PathBuf,
    /// Print nothing unless it fails
    #[arg(long, short)]
    quiet: bool,
}

/// Where everything comes from.
#[derive(Debug, Args)]
pub struct ImportCommand {
    /// The folder to read
    folder: PathBuf,
    /// What the folder holds
    #[arg(long, value_enum, default_value = "export", value_name = "FORM")]
    from: Form,
    /// With --from aws: a folder of bundles, named after templates and versions
    #[arg(long, value_name = "FOLDER")]
    bundles: Option<PathBuf>,
    /// Say what would be taken, and change nothing
    #[arg(long)]
    check: bool,
    /// Print nothing unless it fails
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// What `export` has written
    Export,
    /// Saved answers of `aws proton get-…` and `list-…`
    Aws,
}

/// What the engine is told, and where its store is.
fn engine(config: &Config) -> Result<(Settings, PathBuf), String> {
    match &config.engine {
        Some(own) => Ok((program::settings(config, own), own.state_dir.clone())),
        None => Err("only the engine has anything to export; leave out --upstream".to_owned()),
    }
}

impl ExportCommand {
    pub fn run(&self, config: &Config) -> Result<(), Failure> {
        let (settings, state) = engine(config)?;
        let store = Snapshot::of(&state).map_err(|error| error.to_string())?;
        let report = Report::new(self.quiet, "writing records");
        let told = |done, total| report.progress(done, total);
        let exported = store
            .read(|tx| {
                owner::check(tx, &settings)?;
                export::export(tx, &settings, &self.folder, &told)
            })
            .map_err(|error| error.to_string())?;
        report.line(format!(
            "{}: {} files",
            self.folder.display(),
            exported.files
        ));
        for (kind, count) in &exported.counts {
            report.line(format!("  {count} {kind}"));
        }
        Ok(())
    }
}

impl ImportCommand {
    pub fn run(&self, config: &Config) -> Result<(), Failure> {
        let (settings, state) = engine(config)?;
        let report = Report::new(self.quiet, "reading files");
        let told = |done, total| report.progress(done, total);
        let problems = Problems::default();
        let (holdings, remarks) = match self.from {
            Form::Export if self.bundles.is_some() => {
                let text = "--bundles goes with --from aws; an export has its own".to_owned();
                return Err(Failure::Usage(text));
            }
            Form::Export => (
                import::read(&self.folder, &settings, &problems, &told)?,
                Vec::new(),
            ),
            Form::Aws => {
                let bundles = self.bundles.as_deref();
                let saved = saved::read(&self.folder, bundles, &settings, &problems, &told)?;
                (saved.holdings, saved.remarks)
            }
        };
        refuse(problems)?;
        let counts = holdings.counts();
        let settings = Arc::new(settings);
        let vacancy = Vacancy::of(&state).map_err(unmade)?;
        if self.check {
            // The same as below, elsewhere.
            drop(vacancy);
            let store = Store::for_trial().map_err(unmade)?;
            fill(store, holdings, settings).map_err(|error| match *error.kind {
                ErrorKind::Unavailable { .. } => unmade(TEMPORARY),
                _ => unmade(error),
            })?;
        } else {
            let store = vacancy.store().map_err(unmade)?;
            fill(store, holdings, settings).map_err(unmade)?;
            vacancy.keep();
        }
        report.line(match self.check {
            true => format!("{} could be imported:", self.folder.display()),
            false => format!(
                "{} holds what is in {}",
                state.display(),
                self.folder.display()
            ),
        });
        for (kind, count) in &counts {
            report.line(format!("  {count} {kind}"));
        }
        if !remarks.is_empty() {
            report.line("what was not saved, and what that means:");
        }
        for remark in remarks {
            report.line(format!("  {}: {}", remark.subject, remark.text));
        }
        Ok(())
    }
}

/// All problems, if there are any.
fn refuse(problems: Problems) -> Result<(), String> {
    let (found, more) = problems.finish();
    if found.is_empty() {
        return Ok(());
    }
    let mut text = "nothing was imported:".to_owned();
    for problem in found {
        text.push_str(&format!("\n  {problem}"));
    }
    if more > 0 {
        text.push_str(&format!("\n  and {more} more"));
    }
    Err(text)
}

fn unmade(cause: impl std::fmt::Display) -> String {
    format!("nothing was imported: {cause}")
}

/// Puts everything into a store that holds nothing.
fn fill(store: Store, holdings: Holdings, settings: Arc<Settings>) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::internal(format!("cannot start the runtime: {error}")))?;
    let cx = Context::new(SystemTime::now(), Arc::clone(&settings), Arc::default());
    runtime.block_on(store.write(move |tx| {
        owner::claim(tx, &settings)?;
        holdings.put(tx, &cx)
    }))
}
