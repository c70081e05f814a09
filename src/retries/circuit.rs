//! Leaves an upstream alone that fails again and again, and finds out when it answers again.
//!
//! Closed, it counts attempts and failures. Open, it lets nothing through for a while; then one
//! probe at a time, whose success closes it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::fraction;
use crate::backend::aws::pace;
use crate::config::retry::CircuitConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::gateway::Reply;
use crate::telemetry::Metrics;

/// When to come back while a probe is under way.
const PROBING: Duration = Duration::from_secs(1);
/// An attempt that its caller cut off sooner says nothing of the upstream: else callers in a hurry
/// could close it to all others.
const PATIENCE: Duration = Duration::from_secs(5);
/// In how many steps the window moves on.
const SLOTS: usize = 10;

pub(crate) struct Circuit {
    config: CircuitConfig,
    /// Empty for the one without a name.
    upstream: String,
    metrics: Metrics,
    state: Mutex<State>,
}

struct State {
    phase: Phase,
    /// Counts the phases, so that what began in an earlier one does not count in a later.
    number: u64,
}

enum Phase {
    Closed(Window),
    Open {
        until: Instant,
        /// How many probes have failed.
        failed: u32,
        /// A probe is under way.
        probing: bool,
    },
}

/// What an attempt says of the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Answered,
    Failed,
    /// Nothing was sent, or its caller went away.
    Unknown,
}

impl Circuit {
    pub(crate) fn new(config: &CircuitConfig, upstream: String, metrics: Metrics) -> Self {
        let circuit = Self {
            config: config.clone(),
            upstream,
            metrics,
            state: Mutex::new(State {
                phase: Phase::Closed(Window::beginning(Instant::now())),
                number: 0,
            }),
        };
        circuit.tell(0);
        circuit
    }

    /// Lets an attempt through that is cut off at `deadline`, or says why not.
    pub(crate) fn pass(self: &Arc<Self>, deadline: Instant) -> Result<Passage> {
        let now = Instant::now();
        let mut state = self.state();
        match &mut state.phase {
            Phase::Closed(_) => {}
            Phase::Open { until, .. } if now < *until => return Err(self.refuse(*until - now)),
            Phase::Open { probing: true, .. } => return Err(self.refuse(PROBING)),
            Phase::Open { probing, .. } => {
                *probing = true;
                self.tell(1);
            }
        }
        Ok(Passage {
            circuit: Arc::clone(self),
            phase: state.number,
            began: now,
            deadline,
            ended: false,
        })
    }

    /// How long nothing will be let through.
    pub(crate) fn closed_to_all_for(&self) -> Option<Duration> {
        match self.state().phase {
            Phase::Open { until, .. } => until.checked_duration_since(Instant::now()),
            Phase::Closed(_) => None,
        }
    }

    fn refuse(&self, retry_after: Duration) -> Error {
        self.metrics.circuit_refused(&self.upstream);
        let upstream = match self.upstream.as_str() {
            "" => "the upstream".to_owned(),
            name => format!("the upstream {name}"),
        };
        Error::new(
            ErrorKind::Unavailable { retry_after },
            format!(
                "the circuit of {upstream} is open, since too many of the latest attempts failed; nothing was sent"
            ),
        )
    }

    fn leave(&self, passage: &Passage, verdict: Verdict) {
        let now = Instant::now();
        let mut state = self.state();
        if state.number != passage.phase {
            return;
        }
        match (&mut state.phase, verdict) {
            (Phase::Closed(_), Verdict::Unknown) => {}
            (Phase::Closed(window), verdict) => {
                let failed = verdict == Verdict::Failed;
                let tally = window.count(now, self.config.window.0, failed);
                if failed && self.is_too_much(tally) {
                    let Tally { attempts, failures } = tally;
                    let upstream = &self.upstream;
                    tracing::warn!(
                        upstream,
                        attempts,
                        failures,
                        "the circuit opens: nothing is sent there until a probe is answered"
                    );
                    self.open(&mut state, now, 0);
                }
            }
            (Phase::Open { probing, .. }, Verdict::Unknown) => {
                *probing = false;
                self.tell(2);
            }
            (Phase::Open { failed, .. }, Verdict::Failed) => {
                let failed = failed.saturating_add(1);
                self.open(&mut state, now, failed);
            }
            (Phase::Open { .. }, Verdict::Answered) => {
                state.number += 1;
                state.phase = Phase::Closed(Window::beginning(now));
                self.tell(0);
                let upstream = &self.upstream;
                tracing::info!(upstream, "the circuit closes: the upstream answers again");
            }
        }
    }

    fn is_too_much(&self, tally: Tally) -> bool {
        let part = u64::from(self.config.failures.0);
        let Tally { attempts, failures } = tally;
        attempts >= u64::from(self.config.min_attempts) && failures * 100 >= attempts * part
    }

    fn open(&self, state: &mut State, now: Instant, failed: u32) {
        let doubled = 2_u32.saturating_pow(failed);
        let span = self.config.open_time.0.saturating_mul(doubled);
        // Up to a fifth longer, so that gateways do not come back together.
        let span = span
            .min(self.config.max_open_time.0)
            .mul_f64(1.0 + fraction() / 5.0);
        state.number += 1;
        state.phase = Phase::Open {
            until: now + span,
            failed,
            probing: false,
        };
        self.tell(2);
    }

    fn tell(&self, state: u64) {
        self.metrics.circuit(&self.upstream, state);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An attempt that was let through. Whoever drops it before its end gives its place back.
#[must_use]
pub(crate) struct Passage {
    circuit: Arc<Circuit>,
    phase: u64,
    began: Instant,
    deadline: Instant,
    ended: bool,
}

impl Passage {
    pub(crate) fn end(mut self, outcome: &Result<Reply>) {
        let verdict = match outcome {
            Ok(_) => Verdict::Answered,
            Err(error) => match &*error.kind {
                ErrorKind::Throttled { limit, .. } if *limit == pace::LIMIT => Verdict::Unknown,
                ErrorKind::Internal => Verdict::Unknown,
                ErrorKind::Unavailable { .. }
                | ErrorKind::OutcomeUnknown
                | ErrorKind::DeadlineExceeded => {
                    if self.was_cut_off() {
                        self.verdict_if_cut_off()
                    } else {
                        Verdict::Failed
                    }
                }
                _ => Verdict::Answered,
            },
        };
        self.leave(verdict);
    }

    fn was_cut_off(&self) -> bool {
        Instant::now() >= self.deadline
    }

    fn verdict_if_cut_off(&self) -> Verdict {
        match self.began.elapsed() >= PATIENCE {
            true => Verdict::Failed,
            false => Verdict::Unknown,
        }
    }

    fn leave(&mut self, verdict: Verdict) {
        self.ended = true;
        self.circuit.leave(self, verdict);
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        if !self.ended {
            // At its deadline a call is dropped as well.
            let verdict = match self.was_cut_off() {
                true => self.verdict_if_cut_off(),
                false => Verdict::Unknown,
            };
            self.leave(verdict);
        }
    }
}

/// How many attempts ended, and how many of them failed.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    attempts: u64,
    failures: u64,
}

/// The tally of the latest attempts.
struct Window {
    slots: [Tally; SLOTS],
    latest: usize,
    /// When the latest slot began.
    since: Instant,
}

impl Window {
    fn beginning(now: Instant) -> Self {
        Self {
            slots: [Tally::default(); SLOTS],
            latest: 0,
            since: now,
        }
    }

    /// Counts one attempt; returns how many there were within `span`.
    fn count(&mut self, now: Instant, span: Duration, failed: bool) -> Tally {
        let step = span / SLOTS as u32;
        if now.saturating_duration_since(self.since) >= span {
            *self = Self::beginning(now);
        }
        while now.saturating_duration_since(self.since) >= step {
            self.since += step;
            self.latest = (self.latest + 1) % SLOTS;
            self.slots[self.latest] = Tally::default();
        }
        let slot = &mut self.slots[self.latest];
        slot.attempts += 1;
        slot.failures += u64::from(failed);
        self.slots.iter().fold(Tally::default(), |sum, slot| Tally {
            attempts: sum.attempts + slot.attempts,
            failures: sum.failures + slot.failures,
        })
    }
}

#[cfg(test)]
mod tests;
