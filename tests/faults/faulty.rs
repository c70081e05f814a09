//! A backend of which a part of the attempts suffers something, by a seeded generator.
//!
//! It stands where the AWS backend stands, and names what went wrong as that does: an outcome that
//! is unknown is `UNAVAILABLE` where a repeat is harmless, and else `OUTCOME_UNKNOWN`. What takes
//! effect it tells the ideal world.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use proton_gateway::api::Idempotency;
use proton_gateway::error::{Error, ErrorKind, Origin, Result};
use proton_gateway::gateway::{Call, Reply};
use proton_gateway::ledger::Key;
use tower::{Service, ServiceExt};

use crate::ideal::Ideal;
use crate::random::Random;

/// How many of a hundred attempts suffer something.
const FAULTS: usize = 30;
const SOON: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// Refused before anything is done.
    Throttled,
    /// The answer is lost or is none; nothing was done.
    LostBefore(&'static str),
    /// The same, and the call was applied.
    LostAfter(&'static str),
    /// It arrives twice; this says whether the answer is that of the second.
    Twice(bool),
    /// It seems to be lost, and arrives after the attempt that comes next.
    Late,
}

const LOSSES: [&str; 3] = [
    "the upstream answered HTTP 500",
    "the connection was reset",
    "the upstream did not answer in time",
];

/// What all clones share.
pub struct Faults {
    random: Mutex<Random>,
    /// What the next attempts suffer; after that, chance decides.
    script: Mutex<VecDeque<Option<Fault>>>,
    late: Mutex<Vec<Call>>,
    calm: AtomicBool,
    attempts: AtomicUsize,
    pub ideal: Arc<Ideal>,
}

impl Faults {
    pub fn new(random: Random, ideal: Arc<Ideal>) -> Arc<Self> {
        Arc::new(Self {
            random: Mutex::new(random),
            script: Mutex::default(),
            late: Mutex::default(),
            calm: AtomicBool::new(false),
            attempts: AtomicUsize::new(0),
            ideal,
        })
    }

    /// From now on `random` says what goes wrong.
    pub fn begin(&self, random: Random) {
        *self.random.lock().unwrap() = random;
    }

    /// From now on nothing goes wrong, or something does again.
    pub fn calm(&self, calm: bool) {
        self.calm.store(calm, Ordering::Relaxed);
    }

    /// What the next attempts suffer.
    pub fn script(&self, faults: impl IntoIterator<Item = Option<Fault>>) {
        self.script.lock().unwrap().extend(faults);
    }

    /// How many attempts were made that change something.
    pub fn attempts(&self) -> usize {
        self.attempts.load(Ordering::Relaxed)
    }

    fn next(&self, call: &Call) -> Option<Fault> {
        let changes = !is_read(call);
        self.attempts.fetch_add(changes.into(), Ordering::Relaxed);
        if let Some(scripted) = self.script.lock().unwrap().pop_front() {
            return scripted;
        }
        let mut random = self.random.lock().unwrap();
        if self.calm.load(Ordering::Relaxed) || !random.chance(FAULTS) {
            return None;
        }
        Some(match random.below(9) {
            0 => Fault::Throttled,
            kind @ 1..=3 => Fault::LostBefore(LOSSES[kind - 1]),
            kind @ 4..=6 => Fault::LostAfter(LOSSES[kind - 4]),
            7 if changes => Fault::Twice(random.chance(50)),
            8 if changes => Fault::Late,
            _ => Fault::LostBefore(LOSSES[0]),
        })
    }
}

pub struct Faulty<S> {
    inner: S,
    faults: Arc<Faults>,
}

impl<S: Clone> Clone for Faulty<S> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            faults: Arc::clone(&self.faults),
        }
    }
}

impl<S> Faulty<S>
where
    S: Service<Call, Response = Reply, Error = Error> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    pub fn new(inner: S, faults: Arc<Faults>) -> Self {
        Self { inner, faults }
    }

    /// Lets a call arrive.
    async fn deliver(&self, call: &Call) -> Result<Reply> {
        let outcome = self.inner.clone().oneshot(call.clone()).await;
        if let (Ok(reply), Key::Given(key)) = (&outcome, &call.key) {
            self.faults.ideal.took_effect(key, call, reply).await;
        }
        outcome
    }

    async fn attempt(&self, call: &Call, fault: Option<Fault>) -> Result<Reply> {
        match fault {
            None => self.deliver(call).await,
            Some(Fault::Throttled) => Err(throttled()),
            Some(Fault::LostBefore(how)) => Err(lost(call, how)),
            Some(Fault::LostAfter(how)) => {
                drop(self.deliver(call).await);
                Err(lost(call, how))
            }
            Some(Fault::Twice(second)) => {
                let outcomes = [self.deliver(call).await, self.deliver(call).await];
                outcomes.into_iter().nth(second.into()).unwrap()
            }
            Some(Fault::Late) => {
                self.faults.late.lock().unwrap().push(call.clone());
                Err(lost(call, LOSSES[2]))
            }
        }
    }
}

impl<S> Service<Call> for Faulty<S>
where
    S: Service<Call, Response = Reply, Error = Error> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    type Response = Reply;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Reply>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let this = self.clone();
        let fault = this.faults.next(&call);
        Box::pin(async move {
            // Not longer: nobody can tell whether a call that is on its way for as long as it
            // likes will arrive after all.
            let late = std::mem::take(&mut *this.faults.late.lock().unwrap());
            let outcome = this.attempt(&call, fault).await;
            for call in late {
                drop(this.deliver(&call).await);
            }
            outcome
        })
    }
}

fn is_read(call: &Call) -> bool {
    call.operation.policy().idempotency == Idempotency::Read
}

fn throttled() -> Error {
    let kind = ErrorKind::Throttled {
        origin: Origin::Upstream,
        limit: "upstream",
        retry_after: SOON,
    };
    Error::new(kind, "the upstream has too many calls")
}

fn lost(call: &Call, how: &str) -> Error {
    let kind = match call.repeatable() {
        true => ErrorKind::Unavailable { retry_after: SOON },
        false => ErrorKind::OutcomeUnknown,
    };
    Error {
        unsettled: call.repeatable() && !is_read(call),
        ..Error::new(kind, how)
    }
}
