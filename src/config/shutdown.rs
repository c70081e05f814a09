//! `[shutdown]`: how the program ends. In the file only.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ConfigError, Span, invalid};

const LONGEST_NOTICE: Duration = Duration::from_secs(10 * 60);
const DRAINS: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(3600);
const LONGEST_SPREAD: Duration = Duration::from_secs(10 * 60);

/// What happens between the signal and the end.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ShutdownConfig {
    /// How long calls are still taken while the health says NOT_SERVING already: whoever balances
    /// load looks elsewhere meanwhile. Zero: not at all.
    pub notice: Span,
    /// How long calls in flight may go on after that.
    pub drain: Span,
    /// Over which time those come back whose streams were closed.
    pub spread: Span,
}

impl Default for ShutdownConfig {
    fn default() -> Self {
        Self {
            notice: Span(Duration::from_secs(1)),
            drain: Span(Duration::from_secs(10)),
            spread: Span(Duration::from_secs(5)),
        }
    }
}

impl ShutdownConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.notice.0 > LONGEST_NOTICE {
            return Err(invalid("shutdown.notice", "at most 10m; 0 gives none"));
        }
        if !DRAINS.contains(&self.drain.0) {
            return Err(invalid("shutdown.drain", "at least 100ms, at most 1h"));
        }
        if self.spread.0 > LONGEST_SPREAD {
            return Err(invalid(
                "shutdown.spread",
                "at most 10m; 0 lets all come back at once",
            ));
        }
        Ok(())
    }
}
