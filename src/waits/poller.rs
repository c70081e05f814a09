//! One poller for each resource that is waited for, on a task of its own.
//!
//! It polls at once, then after the configured pauses, and at once again when the resource has
//! changed. A new watcher must see a state that is younger than its wait, so it brings the next
//! poll forward to the first pause after the last one; all that come meanwhile share it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::Settings;
use crate::api::waits::WaitPolicy;
use crate::api::{Operation, Request, Response};
use crate::auth::Principal;
use crate::changes::Changes;
use crate::edge::Arrival;
use crate::error::{Error, ErrorKind};
use crate::gateway::{Call, Door, Gateway};
use crate::telemetry::Metrics;
use crate::upstream::Identity;

/// The shortest time between two polls of one resource.
const GAP: Duration = Duration::from_millis(10);
/// How long one poll may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest pause while the upstream throttles.
const STRETCHED: Duration = Duration::from_secs(60);

/// What one poll saw.
#[derive(Debug)]
pub struct Seen {
    /// When the poll began: what it saw is no older.
    pub began: Instant,
    pub at: SystemTime,
    pub outcome: Result<Response, Error>,
    /// How often the outcome has changed in the poller's life.
    pub changes: u64,
}

/// A watcher's end of a poller.
pub struct Watcher {
    pub seen: watch::Receiver<Option<Arc<Seen>>>,
    joined: Arc<Notify>,
}

impl Watcher {
    /// Asks for a poll that begins from now on.
    pub fn join(&self) {
        self.joined.notify_one();
    }
}

struct Poller {
    seen: watch::Sender<Option<Arc<Seen>>>,
    joined: Arc<Notify>,
}

/// As whom the upstream is asked, and for what: pollers of different credentials share nothing.
type Asked = (Identity, Vec<u8>);

/// All pollers, by what they poll. Clones share them.
#[derive(Clone)]
pub struct Pollers {
    gateway: Gateway,
    changes: Changes,
    settings: Arc<ArcSwap<Settings>>,
    running: Arc<Mutex<HashMap<Asked, Poller>>>,
    /// Who is told of pollers; nobody where it is absent.
    metrics: Option<Metrics>,
}

impl Pollers {
    pub fn new(gateway: Gateway, changes: Changes, settings: Arc<ArcSwap<Settings>>) -> Self {
        Self {
            gateway,
            changes,
            settings,
            running: Arc::default(),
            metrics: None,
        }
    }

    /// The same, whose number `metrics` are told.
    pub fn measured_by(self, metrics: Metrics) -> Self {
        Self {
            metrics: Some(metrics),
            ..self
        }
    }

    /// Watches what `request` answers to `identity`; `name` is what its changes are published
    /// under.
    pub fn watch(&self, identity: Identity, name: &str, request: &Request) -> Watcher {
        let key = (identity, request.key());
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        match running.entry(key) {
            Entry::Occupied(poller) => {
                let watcher = Watcher {
                    seen: poller.get().seen.subscribe(),
                    joined: Arc::clone(&poller.get().joined),
                };
                watcher.join();
                watcher
            }
            Entry::Vacant(place) => {
                let (sender, seen) = watch::channel(None);
                // Listening begins before the first poll: no change falls between the two.
                let changed = self.changes.listen(name);
                let joined = Arc::new(Notify::new());
                let job = Job {
                    pollers: self.clone(),
                    key: place.key().clone(),
                    request: request.clone(),
                    seen: sender.clone(),
                    changed,
                    joined: Arc::clone(&joined),
                };
                place.insert(Poller {
                    seen: sender,
                    joined: Arc::clone(&joined),
                });
                tokio::spawn(job.run());
                Watcher { seen, joined }
            }
        }
    }

    fn pause(&self, round: usize, operation: Operation) -> Duration {
        pause(&self.settings.load().pauses, round, operation)
    }

    /// Takes the poller out if nobody watches. Watchers come under the same lock.
    fn retire(&self, key: &Asked, seen: &watch::Sender<Option<Arc<Seen>>>) -> bool {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.receiver_count() > 0 {
            return false;
        }
        running.remove(key);
        true
    }

    async fn ask(&self, request: Request, identity: Identity) -> Result<Response, Error> {
        let arrival = Arrival {
            principal: Principal::gateway(),
            deadline: (Instant::now() + PATIENCE).into_std(),
            ..Arrival::default()
        };
        let call = Call {
            identity: Some(identity),
            ..Call::new(request, Door::Wait, &arrival)
        };
        self.gateway.call(call).await.map(|reply| reply.response)
    }
}

/// The work of one poller.
struct Job {
    pollers: Pollers,
    key: Asked,
    request: Request,
    seen: watch::Sender<Option<Arc<Seen>>>,
    changed: Arc<Notify>,
    joined: Arc<Notify>,
}

impl Job {
    async fn run(self) {
        let _level = self.pollers.metrics.as_ref().map(Metrics::poller);
        let operation = self.request.operation();
        let mut round = 0;
        let mut throttled: u32 = 0;
        loop {
            let began = Instant::now();
            let outcome = self
                .pollers
                .ask(self.request.clone(), self.key.0.clone())
                .await;
            let pause = match &outcome {
                Err(error) if matches!(*error.kind, ErrorKind::Throttled { .. }) => {
                    throttled = (throttled + 1).min(8);
                    // Doubled each time, and never sooner than the upstream wants.
                    (Duration::from_secs(1) * 2_u32.pow(throttled))
                        .max(error.retry_after().unwrap_or_default())
                        .min(STRETCHED)
                }
                _ => {
                    throttled = 0;
                    self.pollers.pause(round, operation)
                }
            };
            self.tell(began, outcome);
            round += 1;
            let first = self.pollers.pause(0, operation).min(pause);
            tokio::select! {
                () = sleep_until(began + pause) => {}
                // While the upstream throttles, nobody hurries it.
                () = self.changed.notified(), if throttled == 0 => {
                    sleep_until(began + GAP).await;
                    round = 0;
                }
                () = self.joined.notified(), if throttled == 0 => {
                    tokio::select! {
                        () = sleep_until(began + first) => {}
                        () = self.changed.notified() => round = 0,
                    }
                }
                () = self.seen.closed() => {
                    // No watcher is left; one may come back.
                    let linger = self.pollers.settings.load().linger;
                    drop(timeout(linger, self.joined.notified()).await);
                    if self.pollers.retire(&self.key, &self.seen) {
                        return;
                    }
                }
            }
        }
    }

    fn tell(&self, began: Instant, outcome: Result<Response, Error>) {
        self.seen.send_modify(|seen| {
            let before = seen.as_ref();
            let same = before.is_some_and(|before| match (&before.outcome, &outcome) {
                (Ok(before), Ok(now)) => before == now,
                (Err(before), Err(now)) => before.kind == now.kind,
                _ => false,
            });
            let changes = before.map_or(0, |before| before.changes) + u64::from(!same);
            *seen = Some(Arc::new(Seen {
                began,
                at: SystemTime::now(),
                outcome,
                changes,
            }));
        });
    }
}

/// The pause after so many polls of `operation`: the configured one, and never longer than that of
/// AWS's own waiter.
fn pause(pauses: &[Duration], round: usize, operation: Operation) -> Duration {
    let longest = WaitPolicy::longest_pause_seconds(operation)
        .map_or(STRETCHED, |seconds| Duration::from_secs(seconds.into()));
    pauses
        .get(round)
        .or(pauses.last())
        .copied()
        .unwrap_or(STRETCHED)
        .min(longest)
        .max(GAP)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::waits::WAITS;

    #[test]
    fn no_pause_is_longer_than_that_of_awss_own_waiter() {
        let long = [Duration::from_secs(1), Duration::from_secs(3600)];
        for wait in &WAITS {
            let delay = Duration::from_secs(wait.delay_seconds.into());
            assert_eq!(pause(&long, 0, wait.operation), long[0], "{}", wait.name);
            assert!(pause(&long, 1, wait.operation) <= delay, "{}", wait.name);
            assert!(pause(&long, 9, wait.operation) >= Duration::from_secs(2));
        }
    }
}
