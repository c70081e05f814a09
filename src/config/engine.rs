//! What only the embedded engine uses of the options.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::{ConfigError, LONGEST_SPAN, Options, Span, invalid};

/// What only the engine uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct EngineConfig {
    pub state_dir: PathBuf,
    pub buckets_dir: PathBuf,
    pub account_id: String,
    pub simulated_step: Span,
    pub self_managed_timeout: Span,
}

impl EngineConfig {
    pub(super) fn of(options: &Options) -> Self {
        let state_dir = options
            .state_dir
            .clone()
            .unwrap_or_else(|| PathBuf::from("./proton-data"));
        Self {
            buckets_dir: options
                .buckets_dir
                .clone()
                .unwrap_or_else(|| state_dir.join("buckets")),
            state_dir,
            account_id: options
                .account_id
                .clone()
                .unwrap_or_else(|| "123456789012".to_owned()),
            simulated_step: options
                .simulated_step
                .unwrap_or(Span(Duration::from_secs(3))),
            self_managed_timeout: options
                .self_managed_timeout
                .unwrap_or(Span(Duration::from_secs(24 * 3600))),
        }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.account_id.len() != 12 || !self.account_id.bytes().all(|b| b.is_ascii_digit()) {
            return Err(invalid("account-id", "an account id has twelve digits"));
        }
        if self.simulated_step.0 > LONGEST_SPAN {
            return Err(invalid("simulated-step", "at most 365days"));
        }
        let sensible = Duration::from_secs(1)..=LONGEST_SPAN;
        if !sensible.contains(&self.self_managed_timeout.0) {
            return Err(invalid(
                "self-managed-timeout",
                "at least 1s and at most 365days",
            ));
        }
        Ok(())
    }
}
