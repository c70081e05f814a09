//! The section `[cache]`: how long answers to reads are kept. File only.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::audit::Size;
use super::{ConfigError, Span, invalid};

/// The longest time for which an answer is kept: another program may change what it is about.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

const SIZES: std::ops::RangeInclusive<Size> = Size(1 << 20)..=Size(1 << 40);

/// What is kept, and how long. Zero: not at all.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct CacheConfig {
    /// Whether answers are kept.
    pub enabled: bool,
    /// What all answers together may take.
    pub max_size: Size,
    /// Of what is settled, and may be changed at any time.
    pub state_ttl: Span,
    /// Of what is hardly ever changed.
    pub definition_ttl: Span,
    /// Of what is under way, and changes by itself.
    pub transitional_ttl: Span,
    /// That something does not exist.
    pub negative_ttl: Span,
    /// For how long after its time an answer is given while a fresh one is read.
    pub stale_while_revalidate: Span,
    /// For how long after its time an answer is given if the upstream fails.
    pub stale_if_error: Span,
}

impl Default for CacheConfig {
    fn default() -> Self {
        let seconds = |seconds| Span(Duration::from_secs(seconds));
        Self {
            enabled: false,
            max_size: Size(64 << 20),
            state_ttl: seconds(2),
            definition_ttl: seconds(60),
            transitional_ttl: seconds(0),
            negative_ttl: seconds(1),
            stale_while_revalidate: seconds(0),
            stale_if_error: seconds(0),
        }
    }
}

impl CacheConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if !SIZES.contains(&self.max_size) {
            return Err(invalid("cache.max-size", "at least 1MiB, at most 1024GiB"));
        }
        for (name, Span(span)) in [
            ("cache.state-ttl", self.state_ttl),
            ("cache.definition-ttl", self.definition_ttl),
            ("cache.transitional-ttl", self.transitional_ttl),
            ("cache.negative-ttl", self.negative_ttl),
            ("cache.stale-while-revalidate", self.stale_while_revalidate),
            ("cache.stale-if-error", self.stale_if_error),
        ] {
            if span > LONGEST {
                return Err(invalid(name, "at most 24h; 0 keeps nothing"));
            }
        }
        Ok(())
    }
}
