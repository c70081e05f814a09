//! How many calls the upstream is asked for at the same time.
//!
//! The number follows what the upstream bears: it is halved when it throttles, shrinks when calls
//! are slow, and grows by one for each round of good answers. What cannot begin waits for its turn
//! in a short queue, mutations before reads before polls; what cannot begin in time is refused at
//! once, and nothing is sent.

mod queue;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use self::queue::Queue;
use crate::api::Class;
use crate::config::limits::UpstreamLimits;
use crate::error::{Error, ErrorKind, Origin};
use crate::gateway::{Call, Door};
use crate::telemetry::Metrics;

/// Whose limit it is: nothing was sent.
pub const LIMIT: &str = "upstream/calls";
/// What is left of the number after the upstream throttled, and after a slow call.
const THROTTLED: f64 = 0.5;
const SLOW: f64 = 0.9;
/// How much the latest call says about how long calls take.
const WEIGHT: f64 = 0.1;
/// When to come back, at least.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// What goes first when the upstream has no time for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    Write,
    Read,
    Poll,
}

impl Rank {
    pub fn of(call: &Call) -> Self {
        match (call.door, call.operation.rpc().class) {
            (Door::Wait, _) => Self::Poll,
            (_, Class::Write) => Self::Write,
            _ => Self::Read,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Read => "read",
            Self::Poll => "wait",
        }
    }
}

/// A pace for each upstream: one that throttles says nothing of another. Clones share them.
#[derive(Debug, Clone)]
pub struct Paces {
    settings: UpstreamLimits,
    metrics: Metrics,
    /// By the upstream's name, of those that were asked.
    paces: Arc<Mutex<HashMap<Option<Arc<str>>, Pace>>>,
}

impl Paces {
    /// Paces after `settings`, if they are enabled.
    pub fn new(settings: &UpstreamLimits, metrics: Metrics) -> Option<Self> {
        settings.enabled.then(|| Self {
            settings: settings.clone(),
            metrics,
            paces: Arc::default(),
        })
    }

    /// The pace of the upstream with this name, or of the one without. Names are those of the
    /// configuration, so that there are not many.
    pub fn of(&self, upstream: Option<&Arc<str>>) -> Pace {
        let mut paces = self.paces.lock().unwrap_or_else(PoisonError::into_inner);
        let pace = paces.entry(upstream.cloned());
        let (settings, metrics) = (&self.settings, &self.metrics);
        pace.or_insert_with(|| Pace::new(settings, metrics.clone(), upstream.cloned()))
            .clone()
    }
}

/// Hands out turns of one upstream. Clones share them.
#[derive(Clone)]
pub struct Pace(Arc<Shared>);

struct Shared {
    settings: UpstreamLimits,
    metrics: Metrics,
    /// For metrics; empty for the one without a name.
    upstream: String,
    state: Mutex<State>,
}

struct State {
    /// How many calls may be in flight.
    most: f64,
    in_flight: u32,
    /// How long calls take; nothing is known before the first.
    usual: Option<Duration>,
    /// When the number was cut last. Calls that began before say nothing new.
    cut: Option<Instant>,
    queue: Queue,
}

impl std::fmt::Debug for Pace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pace")
    }
}

impl Pace {
    fn new(settings: &UpstreamLimits, metrics: Metrics, upstream: Option<Arc<str>>) -> Self {
        let upstream = upstream.map_or_else(String::new, |name| name.to_string());
        metrics.upstream_calls(&upstream, settings.start.into());
        Self(Arc::new(Shared {
            settings: settings.clone(),
            metrics,
            upstream,
            state: Mutex::new(State {
                most: settings.start.into(),
                in_flight: 0,
                usual: None,
                cut: None,
                queue: Queue::default(),
            }),
        }))
    }

    /// Returns when a call may begin that has to be answered by `deadline`, or says why it may not.
    pub async fn turn(&self, rank: Rank, deadline: Instant) -> Result<Place, Error> {
        let (turn, until) = match self.ask(rank, deadline) {
            Asked::Begins => return Ok(self.place()),
            Asked::Waits(turn, until) => (turn, until),
            Asked::Refused(retry_after) => return Err(self.refuse(rank, retry_after)),
        };
        match tokio::time::timeout_at(until, turn).await {
            Ok(Ok(place)) => Ok(place),
            // Its time is over, or it had to make room for a mutation.
            Ok(Err(_)) | Err(_) => Err(self.refuse(rank, RETRY_AFTER)),
        }
    }

    /// How many calls may be in flight now.
    pub fn most(&self) -> u32 {
        self.state().allowed()
    }

    fn ask(&self, rank: Rank, deadline: Instant) -> Asked {
        let settings = &self.0.settings;
        let mut state = self.state();
        if state.in_flight < state.allowed() && state.queue.is_empty() {
            state.in_flight += 1;
            return Asked::Begins;
        }
        let now = Instant::now();
        let wait = state.expected_wait(rank);
        // A queue of no length refuses everything that cannot begin.
        let room = usize::try_from(settings.queue).unwrap_or(usize::MAX);
        if wait > settings.queue_time.0 || now + wait >= deadline {
            return Asked::Refused(wait);
        }
        let (grant, turn) = oneshot::channel();
        if !state.queue.push(rank, grant, room) {
            return Asked::Refused(wait);
        }
        Asked::Waits(turn, deadline.min(now + settings.queue_time.0))
    }

    fn place(&self) -> Place {
        Place {
            pace: Some(self.clone()),
            began: Instant::now(),
        }
    }

    fn refuse(&self, rank: Rank, retry_after: Duration) -> Error {
        self.0.metrics.limited(rank.name(), LIMIT, false);
        let kind = ErrorKind::Throttled {
            origin: Origin::Upstream,
            limit: LIMIT,
            retry_after: retry_after
                .clamp(RETRY_AFTER, self.0.settings.slow_call.0.max(RETRY_AFTER)),
        };
        Error::new(
            kind,
            "the upstream is asked as much as it bears already, and the call could not have begun in time; nothing was sent",
        )
    }

    /// Gives back a place, and tells the next that it is its turn.
    fn leave(&self, ended: &Ended) {
        let mut state = self.state();
        state.learn(&self.0.settings, ended);
        state.in_flight = state.in_flight.saturating_sub(1);
        let allowed = state.allowed();
        self.0
            .metrics
            .upstream_calls(&self.0.upstream, allowed.into());
        while state.in_flight < state.allowed() {
            let Some(grant) = state.queue.pop() else {
                return;
            };
            state.in_flight += 1;
            if let Err(mut unwanted) = grant.send(self.place()) {
                // Whoever waited has gone away. Dropped as it is, it would come back here.
                unwanted.pace = None;
                state.in_flight -= 1;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Asked {
    Begins,
    Waits(oneshot::Receiver<Place>, Instant),
    /// It could not begin before so long.
    Refused(Duration),
}

/// How a call ended, as far as it tells about the upstream.
struct Ended {
    began: Instant,
    now: Instant,
    verdict: Verdict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Answered,
    Throttled,
    /// It failed, or its caller went away: nothing is known.
    Unknown,
}

impl State {
    fn allowed(&self) -> u32 {
        // Between 1 and 10000, as the settings are.
        self.most as u32
    }

    /// How long it takes until all that go before have begun.
    fn expected_wait(&self, rank: Rank) -> Duration {
        let Some(usual) = self.usual else {
            return Duration::ZERO;
        };
        let ahead = self.queue.ahead_of(rank) + 1;
        let rounds = ahead as f64 / self.most.max(1.0);
        // One that has begun is on its way already: in the middle, on average.
        usual.mul_f64((rounds - 0.5).max(0.0))
    }

    fn learn(&mut self, settings: &UpstreamLimits, ended: &Ended) {
        let took = ended.now.saturating_duration_since(ended.began);
        let slow = took >= settings.slow_call.0;
        let factor = match ended.verdict {
            Verdict::Throttled => THROTTLED,
            _ if slow => SLOW,
            Verdict::Answered => 1.0,
            Verdict::Unknown => return,
        };
        if ended.verdict == Verdict::Answered {
            let before = self.usual.unwrap_or(took);
            self.usual = Some(before.mul_f64(1.0 - WEIGHT) + took.mul_f64(WEIGHT));
        }
        let (least, most) = (f64::from(settings.min), f64::from(settings.max));
        if factor < 1.0 {
            // What began before the last cut tells of the time before.
            if self.cut.is_none_or(|cut| ended.began >= cut) {
                self.most = (self.most * factor).clamp(least, most);
                self.cut = Some(ended.now);
            }
        } else if f64::from(self.in_flight) * 2.0 > self.most {
            // Only where the number is in use does a good answer say that more would be borne.
            self.most = (self.most + 1.0 / self.most).clamp(least, most);
        }
    }
}

/// A call's place; given back when dropped.
#[must_use]
pub struct Place {
    /// Absent once it was given back.
    pace: Option<Pace>,
    began: Instant,
}

impl Place {
    /// Gives the place back, and says how the call ended.
    pub fn end<T>(mut self, outcome: &Result<T, Error>) {
        let verdict = match outcome.as_ref().map_err(|error| error.kind.as_ref()) {
            Err(ErrorKind::Throttled { .. }) => Verdict::Throttled,
            Err(
                ErrorKind::Unavailable { .. }
                | ErrorKind::OutcomeUnknown
                | ErrorKind::DeadlineExceeded
                | ErrorKind::Internal,
            ) => Verdict::Unknown,
            _ => Verdict::Answered,
        };
        self.leave(verdict);
    }

    fn leave(&mut self, verdict: Verdict) {
        if let Some(pace) = self.pace.take() {
            let now = Instant::now();
            pace.leave(&Ended {
                began: self.began,
                now,
                verdict,
            });
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave(Verdict::Unknown);
    }
}

#[cfg(test)]
mod tests;
