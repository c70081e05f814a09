//! Logs, metrics and traces of the process.
//!
//! What is recorded of a request at a door is in [`serving`], its spans in [`trace`]; all metrics are in
//! [`metrics`]; what is sent to a collector, in [`otlp`]. Without a collector no span is ever made.

pub mod dials;
mod fields;
mod lines;
pub mod metrics;
mod named;
pub mod otlp;
pub mod parent;
mod process;
mod rpcs;
pub mod serving;
pub mod trace;

use std::sync::Arc;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

pub use self::dials::Dials;
use self::lines::Lines;
pub use self::lines::Written;
pub use self::metrics::{Metrics, MetricsError};
use self::named::Named;
pub use self::serving::Telemetry;
pub use self::trace::Trace;

/// How log lines look.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Deserialize, serde::Serialize,
)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Reads what is to be logged, in the syntax of tracing's `EnvFilter`.
pub fn filter(text: &str) -> Result<EnvFilter, String> {
    // A word alone would be a target, with all its levels: most likely it was meant as a level.
    let word = |directive: &&str| {
        let level = directive.parse::<LevelFilter>().is_ok();
        !level && !directive.is_empty() && !directive.contains(['=', '[', ']', '{', '}'])
    };
    if let Some(word) = text.split(',').map(str::trim).find(word) {
        return Err(format!(
            "{word:?} is no level like info or debug; if it is a target, write {word}=debug"
        ));
    }
    EnvFilter::try_new(text).map_err(|error| format!("the filter {text:?} cannot be read: {error}"))
}

/// Sends log lines to standard error, those that [`filter`] lets through, until what is returned
/// is dropped.
pub fn log(text: &str, format: LogFormat) -> Result<(Written, Dials), String> {
    let filter = filter(text)?;
    let (lines, written) = Lines::to(std::io::stderr())
        .map_err(|error| format!("cannot start the log's thread: {error}"))?;
    let (subscriber, dials) = subscriber(filter, format, move || lines.clone());
    tracing::subscriber::set_global_default(subscriber).map_err(|error| error.to_string())?;
    Ok((written, dials))
}

/// What takes log lines and writes them, and what changes which ones.
fn subscriber(
    filter: EnvFilter,
    format: LogFormat,
    place: impl for<'a> MakeWriter<'a> + Send + Sync + 'static,
) -> (Box<dyn tracing::Subscriber + Send + Sync>, Dials) {
    let lines = tracing_subscriber::fmt().with_writer(place);
    match format {
        LogFormat::Text => {
            let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
            let lines = lines
                .fmt_fields(fields::Fields)
                .with_ansi(colours)
                .map_event_format(|format| Named::text(format.with_ansi(colours)))
                .with_env_filter(filter)
                .with_filter_reloading();
            let handle = lines.reload_handle();
            let set = move |filter| handle.reload(filter).map_err(|error| error.to_string());
            (Box::new(lines.finish()), Dials::of_filter(Arc::new(set)))
        }
        LogFormat::Json => {
            let lines = lines
                .json()
                .flatten_event(true)
                .map_event_format(Named::json)
                .with_env_filter(filter)
                .with_filter_reloading();
            let handle = lines.reload_handle();
            let set = move |filter| handle.reload(filter).map_err(|error| error.to_string());
            (Box::new(lines.finish()), Dials::of_filter(Arc::new(set)))
        }
    }
}

#[cfg(test)]
mod tests;
