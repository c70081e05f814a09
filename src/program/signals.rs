//! What the process is told by signals: to stop, to stop at once, and to look at its files.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// How often the process was told to stop. Clones know the same.
#[derive(Clone)]
pub struct Stops(watch::Receiver<u32>);

impl Stops {
    /// Counts from now on; needs a runtime.
    pub fn counted() -> Result<Self, String> {
        let (count, counted) = watch::channel(0);
        let noticed =
            |kind| signal(kind).map_err(|error| format!("signals cannot be awaited: {error}"));
        // At once: what comes before the task runs counts as well.
        let mut term = noticed(SignalKind::terminate())?;
        let mut int = noticed(SignalKind::interrupt())?;
        tokio::spawn(async move {
            loop {
                let name = tokio::select! {
                    _ = term.recv() => "SIGTERM",
                    _ = int.recv() => "SIGINT",
                };
                count.send_modify(|count| *count += 1);
                match *count.borrow() {
                    1 => tracing::info!(signal = name, "stopping"),
                    _ => tracing::warn!(signal = name, "stopping at once"),
                }
            }
        });
        Ok(Self(counted))
    }

    /// Returns when that was so often, or can no longer be known.
    pub async fn times(mut self, times: u32) {
        drop(self.0.wait_for(|count| *count >= times).await);
    }
}

/// A file that may not grow further (`ulimit -f`, a quota's signal) is from now on an error of the
/// write, which says which file it was, and not the end of the process.
pub fn outlast_full_files() {
    #[cfg(target_os = "linux")]
    const SIGXFSZ: i32 = 25;
    #[cfg(target_os = "linux")]
    if let Err(error) = signal(SignalKind::from_raw(SIGXFSZ)) {
        tracing::warn!(cause = %error, "SIGXFSZ cannot be caught; a file that may not grow ends the program");
    }
}

/// When the process is told to look at its files (SIGHUP). From now on it does not end by that.
pub struct HangUps(io::Result<Signal>);

impl HangUps {
    pub fn noticed() -> Self {
        Self(signal(SignalKind::hangup()))
    }

    /// Returns at the next one.
    pub async fn next(&mut self) {
        match &mut self.0 {
            Ok(signals) => {
                signals.recv().await;
            }
            Err(error) => {
                tracing::warn!(cause = %error, "SIGHUP cannot be awaited; files are looked at from time to time");
                std::future::pending().await
            }
        }
    }
}
