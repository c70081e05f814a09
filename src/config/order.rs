//! The section `[order]`: whether mutations of a resource wait for its deployments. File only.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ConfigError, LONGEST_SPAN, Span, invalid};
use crate::edge::DEFAULT_DEADLINE;

/// The most calls that may wait.
const MOST: usize = 100_000;

/// How many calls wait for their turn, and how long.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct OrderConfig {
    /// Whether changes wait for the deployment that stands in their way.
    pub enabled: bool,
    /// Most that wait for one resource.
    pub queue: usize,
    /// Most that wait for all resources together.
    pub total: usize,
    /// The longest that a call waits; its own deadline holds as well.
    pub wait: Span,
}

impl Default for OrderConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            queue: 8,
            total: 256,
            wait: Span(Duration::from_secs(300)),
        }
    }
}

impl OrderConfig {
    /// The longest deadline that a caller may set for a mutation: it may wait, and takes its time
    /// after that.
    pub fn longest_mutation(&self) -> Duration {
        match self.enabled {
            true => self.wait.0 + DEFAULT_DEADLINE,
            false => DEFAULT_DEADLINE,
        }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        for (name, count) in [("order.queue", self.queue), ("order.total", self.total)] {
            if !(1..=MOST).contains(&count) {
                return Err(invalid(name, format!("at least 1, at most {MOST}")));
            }
        }
        if self.queue > self.total {
            let problem = "no more than order.total, which is for all resources together";
            return Err(invalid("order.queue", problem));
        }
        if !(Duration::from_millis(1)..=LONGEST_SPAN).contains(&self.wait.0) {
            return Err(invalid("order.wait", "at least 1ms, at most 365days"));
        }
        Ok(())
    }
}
