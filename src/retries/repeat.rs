//! Whether a failed attempt is repeated, and after which pause.
//!
//! Only what has surely not been applied, or what may be applied twice without harm. Who knows
//! that of an error is the backend: it says so by the error's kind.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};
use tower::retry::Policy;
use tower::retry::budget::Budget;

use super::attempt::Failed;
use super::{Retries, Upstream, fraction};
use crate::backend::aws::pace;
use crate::config::retry::RetryConfig;
use crate::error::{Error, ErrorKind, Origin};
use crate::gateway::{Call, Reply};

/// Repeats the attempts of one call.
#[derive(Clone)]
pub(crate) struct Repeat {
    retries: Retries,
    upstream: Arc<Upstream>,
    deadline: Instant,
    /// How often it was tried.
    tries: u32,
    /// How many attempts were sent; hedges are attempts too.
    sent: u32,
    /// An attempt may have been applied.
    unsettled: bool,
    /// What came of the latest one, as long as another is to follow.
    latest: Option<Error>,
}

/// Why an attempt that could be repeated is not.
enum Enough {
    Exhausted,
    PastDeadline,
    CircuitOpen(Duration),
    OverBudget,
}

impl Enough {
    fn name(&self) -> &'static str {
        match self {
            Self::Exhausted => "exhausted",
            Self::PastDeadline => "past-deadline",
            Self::CircuitOpen(_) => "circuit-open",
            Self::OverBudget => "over-budget",
        }
    }
}

impl Repeat {
    pub(crate) fn new(retries: Retries, upstream: Arc<Upstream>, deadline: Instant) -> Self {
        Self {
            retries,
            upstream,
            deadline,
            tries: 0,
            sent: 0,
            unsettled: false,
            latest: None,
        }
    }

    /// Counts a failed attempt, and completes its error by what is known of those before.
    fn count(&mut self, error: &mut Error) {
        self.tries += 1;
        self.sent += error.attempts.max(1);
        error.attempts = self.sent;
        if self.unsettled && !error.unsettled {
            error.unsettled = true;
            error
                .message
                .push_str("; an earlier attempt of the call may have been applied");
        }
        self.unsettled = error.unsettled;
    }

    fn pause_after(&self, error: &Error) -> Result<Duration, Enough> {
        let config = self.retries.config();
        if self.tries >= config.attempts {
            return Err(Enough::Exhausted);
        }
        let pause =
            pause(&config, self.tries - 1, fraction()).max(error.hint().unwrap_or_default());
        if Instant::now() + pause >= self.deadline {
            return Err(Enough::PastDeadline);
        }
        let circuit = self.upstream.circuit.as_ref();
        if let Some(left) = circuit.and_then(|circuit| circuit.closed_to_all_for())
            && left > pause
        {
            return Err(Enough::CircuitOpen(left));
        }
        if !self.upstream.budget.withdraw() {
            return Err(Enough::OverBudget);
        }
        Ok(pause)
    }
}

impl Policy<Call, Reply, Failed> for Repeat {
    type Future = Sleep;

    fn retry(&mut self, call: &mut Call, outcome: &mut Result<Reply, Failed>) -> Option<Sleep> {
        let metrics = self.retries.metrics().clone();
        let error = match outcome {
            Ok(reply) => {
                if self.tries > 0 {
                    reply.attempts = self.sent + 1;
                    metrics.retry("recovered");
                }
                return None;
            }
            Err(Failed::Refused(refusal)) => {
                // What failed before says more.
                if let Some(mut latest) = self.latest.take() {
                    metrics.retry("circuit-open");
                    latest.set_retry_after(refusal.retry_after().unwrap_or_default());
                    *outcome = Err(Failed::Made(latest));
                }
                return None;
            }
            Err(Failed::Made(error)) => error,
        };
        self.count(error);
        if !may_be_repeated(error) {
            return None;
        }
        match self.pause_after(error) {
            Ok(pause) => {
                metrics.retry("repeated");
                tracing::debug!(
                    operation = call.operation.name(),
                    request_id = call.request_id,
                    attempts = self.sent,
                    pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
                    cause = %error,
                    "an attempt failed, and is repeated"
                );
                call.attempt = self.sent + 1;
                self.latest = Some(error.clone());
                Some(sleep(pause))
            }
            Err(enough) => {
                metrics.retry(enough.name());
                if let Enough::CircuitOpen(left) = enough {
                    error.set_retry_after(left);
                }
                None
            }
        }
    }

    fn clone_request(&mut self, call: &Call) -> Option<Call> {
        Some(call.clone())
    }
}

/// Whether an error says that nothing was applied, or that a repeat is harmless; and that it is not
/// the gateway itself that refuses.
pub(super) fn may_be_repeated(error: &Error) -> bool {
    match &*error.kind {
        ErrorKind::Throttled { origin, limit, .. } => {
            // What the pace refuses has waited already.
            *origin == Origin::Upstream && *limit != pace::LIMIT
        }
        ErrorKind::Unavailable { .. } => true,
        _ => false,
    }
}

/// The pause after so many repeats: all of it at random, so that those who failed together do not
/// come back together.
fn pause(config: &RetryConfig, repeats: u32, part: f64) -> Duration {
    let doubled = 2_u32.saturating_pow(repeats);
    let longest = config.base_pause.0.saturating_mul(doubled);
    longest.min(config.max_pause.0).mul_f64(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_up_to_twice_as_long_each_time_until_they_are_long_enough() {
        let config = RetryConfig::default();
        let longest = [0, 1, 2, 3, 5, 6, 31, u32::MAX].map(|n| pause(&config, n, 1.0).as_millis());
        assert_eq!(longest, [100, 200, 400, 800, 3200, 5000, 5000, 5000]);
        assert_eq!(pause(&config, 9, 0.0), Duration::ZERO);
        assert_eq!(pause(&config, 9, 0.5), Duration::from_millis(2500));
    }
}
