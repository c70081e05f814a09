//! The section `[retry]`: how failed attempts are repeated, and when an upstream is left alone.
//! File only.

use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ConfigError, Span, invalid};

const ATTEMPTS: RangeInclusive<u32> = 1..=10;
const PAUSES: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(300);
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);
const MOST_RESERVE: u32 = 1000;
const WINDOWS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(600);
const MIN_ATTEMPTS: RangeInclusive<u32> = 1..=1_000_000;
const OPEN_TIMES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);

/// How calls are repeated.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct RetryConfig {
    /// Without it nothing is repeated or hedged, and there is no circuit.
    pub enabled: bool,
    /// Of one call, the first included.
    pub attempts: u32,
    /// The longest pause before the first repeat. It doubles with each.
    pub base_pause: Span,
    /// No pause is longer, unless the upstream wants it.
    pub max_pause: Span,
    /// How long one attempt may take; holds even where nothing is repeated.
    pub attempt_timeout: Span,
    /// Which part of the calls may be repeats.
    pub budget: Percent,
    /// How many repeats a second are allowed besides.
    pub reserve: u32,
    /// After which time without an answer a read is asked for twice; absent: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hedge_after: Option<Span>,
    /// When an upstream is left alone.
    pub circuit: CircuitConfig,
}

/// When an upstream is left alone, and how long.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct CircuitConfig {
    /// Whether there is a circuit.
    pub enabled: bool,
    /// What is older says nothing.
    pub window: Span,
    /// Fewer say nothing.
    pub min_attempts: u32,
    /// Which part of them must have failed.
    pub failures: Percent,
    /// How long it stays open; doubled each time that the probe fails.
    pub open_time: Span,
    /// It never stays open longer at once.
    pub max_open_time: Span,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            attempts: 3,
            base_pause: Span(Duration::from_millis(100)),
            max_pause: Span(Duration::from_secs(5)),
            attempt_timeout: Span(Duration::from_secs(15)),
            budget: Percent(20),
            reserve: 1,
            hedge_after: None,
            circuit: CircuitConfig::default(),
        }
    }
}

impl Default for CircuitConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            window: Span(Duration::from_secs(10)),
            min_attempts: 10,
            failures: Percent(50),
            open_time: Span(Duration::from_secs(5)),
            max_open_time: Span(Duration::from_secs(60)),
        }
    }
}

/// A part of a whole: `20%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Percent(pub u8);

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_suffix('%').map(str::trim_end);
        match number.map(str::parse) {
            Some(Ok(percent @ 0..=100)) => Ok(Self(percent)),
            _ => Err(format!("{text:?} is no part like 20%, from 0% to 100%")),
        }
    }
}

impl TryFrom<String> for Percent {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Percent> for String {
    fn from(Percent(percent): Percent) -> Self {
        format!("{percent}%")
    }
}

impl RetryConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if !ATTEMPTS.contains(&self.attempts) {
            return Err(invalid(
                "retry.attempts",
                "at least 1, which repeats nothing, and at most 10",
            ));
        }
        if !PAUSES.contains(&self.base_pause.0) {
            return Err(invalid("retry.base-pause", "at least 1ms and at most 5m"));
        }
        if !(self.base_pause.0..=*PAUSES.end()).contains(&self.max_pause.0) {
            return Err(invalid(
                "retry.max-pause",
                "at least base-pause and at most 5m",
            ));
        }
        if !TIMEOUTS.contains(&self.attempt_timeout.0) {
            return Err(invalid(
                "retry.attempt-timeout",
                "at least 100ms and at most 1h",
            ));
        }
        if self.reserve > MOST_RESERVE {
            return Err(invalid("retry.reserve", "at most 1000 a second"));
        }
        if let Some(Span(after)) = self.hedge_after
            && !(*PAUSES.start()..self.attempt_timeout.0).contains(&after)
        {
            return Err(invalid(
                "retry.hedge-after",
                "at least 1ms and less than attempt-timeout; leave it out to ask only once",
            ));
        }
        self.circuit.check()
    }
}

impl CircuitConfig {
    fn check(&self) -> Result<(), ConfigError> {
        if !WINDOWS.contains(&self.window.0) {
            return Err(invalid(
                "retry.circuit.window",
                "at least 1s and at most 10m",
            ));
        }
        if !MIN_ATTEMPTS.contains(&self.min_attempts) {
            return Err(invalid(
                "retry.circuit.min-attempts",
                "at least 1 and at most 1000000",
            ));
        }
        if self.failures == Percent(0) {
            return Err(invalid(
                "retry.circuit.failures",
                "at least 1%; for no circuit set enabled to false",
            ));
        }
        if !OPEN_TIMES.contains(&self.open_time.0) {
            return Err(invalid(
                "retry.circuit.open-time",
                "at least 1s and at most 1h",
            ));
        }
        if !(self.open_time.0..=*OPEN_TIMES.end()).contains(&self.max_open_time.0) {
            return Err(invalid(
                "retry.circuit.max-open-time",
                "at least open-time and at most 1h",
            ));
        }
        Ok(())
    }
}
