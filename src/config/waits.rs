//! `[waits]`: how often what is waited for is looked at. In the file only.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ConfigError, Span, invalid};

/// How waits ask for what they wait for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct WaitsConfig {
    /// Between the polls of one resource, the last one repeats; left out: 1s, 2s, 3s, and 4.75s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pauses: Option<Vec<Span>>,
    /// How long polling goes on when nobody waits any more; left out: 10s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linger: Option<Span>,
}

const PAUSES: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(3600);
const MAX_PAUSES: usize = 100;
const LONGEST_LINGER: Duration = Duration::from_secs(3600);

impl WaitsConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if let Some(pauses) = &self.pauses {
            if pauses.is_empty() || pauses.len() > MAX_PAUSES {
                return Err(invalid("waits.pauses", format!("from 1 to {MAX_PAUSES}")));
            }
            if !pauses.iter().all(|pause| PAUSES.contains(&pause.0)) {
                return Err(invalid(
                    "waits.pauses",
                    "each at least 100ms and at most 1h",
                ));
            }
        }
        if self.linger.is_some_and(|linger| linger.0 > LONGEST_LINGER) {
            return Err(invalid("waits.linger", "at most 1h"));
        }
        Ok(())
    }
}
