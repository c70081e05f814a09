//! What can be changed of telemetry while the program runs.

use std::sync::Arc;

use tracing_subscriber::EnvFilter;

use super::filter;
use super::trace::Tracing;

/// Sets another filter of log lines.
pub(super) type SetFilter = Arc<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>;

/// Changes what is logged, and how much is traced. Clones change the same.
#[derive(Clone, Default)]
pub struct Dials {
    filter: Option<SetFilter>,
    tracing: Tracing,
}

impl std::fmt::Debug for Dials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Dials")
    }
}

impl Dials {
    /// Those of log lines; none of traces.
    pub(super) fn of_filter(set: SetFilter) -> Self {
        Self {
            filter: Some(set),
            tracing: Tracing::default(),
        }
    }

    /// The same, with those of traces.
    pub fn with_tracing(self, tracing: Tracing) -> Self {
        Self { tracing, ..self }
    }

    /// Logs what `text` lets through from now on. An error says what is wrong with it; then all
    /// stays as it is.
    pub fn set_filter(&self, text: &str) -> Result<(), String> {
        let filter = filter(text)?;
        match &self.filter {
            Some(set) => set(filter),
            None => Ok(()),
        }
    }

    /// Traces this part of the calls without a trace context from now on. Where traces are sent
    /// nowhere, nothing changes.
    pub fn set_sample_ratio(&self, ratio: f64) -> Result<(), String> {
        if !(0.0..=1.0).contains(&ratio) {
            return Err(format!("{ratio} is no part of all calls: from 0 to 1"));
        }
        self.tracing.set_ratio(ratio);
        Ok(())
    }
}
