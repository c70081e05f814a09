//! What a command prints: a bar on a terminal while it works, and lines at the end.

use std::io::{IsTerminal, Write};

use indicatif::{ProgressBar, ProgressStyle};

/// Tells how far a command is, and what came of it.
pub struct Report {
    quiet: bool,
    /// Only where people look.
    bar: Option<ProgressBar>,
}

impl Report {
    /// Tells of `what` is under way; nothing at all where it is to be quiet.
    pub fn new(quiet: bool, what: &'static str) -> Self {
        let live = !quiet && std::io::stderr().is_terminal();
        let bar = live.then(|| {
            let bar = ProgressBar::new(0);
            if let Ok(style) =
                ProgressStyle::with_template("{msg} {bar:40} {pos}/{len} ({elapsed})")
            {
                bar.set_style(style);
            }
            bar.set_message(what);
            bar
        });
        Self { quiet, bar }
    }

    pub fn progress(&self, done: u64, total: u64) {
        if let Some(bar) = &self.bar {
            bar.set_length(total);
            bar.set_position(done);
        }
    }

    /// Says one line.
    pub fn line(&self, text: impl AsRef<str>) {
        if self.quiet {
            return;
        }
        // Whoever reads may have gone away; the exit status still tells.
        let write = || drop(writeln!(std::io::stdout(), "{}", text.as_ref()));
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
