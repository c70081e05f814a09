//! Answers reads with what is kept, or with what another call is reading just now; and sees to it
//! that mutations and waits are noticed.
//!
//! What may be kept, and for how long, is decided in [`crate::cache`].

use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use opentelemetry::KeyValue;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tower::{Layer, Service, ServiceExt};

use crate::api::Idempotency;
use crate::cache::demand::{Served, Status};
use crate::cache::{Cache, Flight, Key, Landed, Read, Takeoff};
use crate::edge::DEFAULT_DEADLINE;
use crate::error::{Error, ErrorKind, Origin, Result};
use crate::gateway::{Call, Door, Reply};
use crate::telemetry::Trace;

/// How long a read may take that several calls wait for. None of them waits longer.
const LONGEST: Duration = DEFAULT_DEADLINE;
/// How long a call waits for the read of another one before it asks for itself.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Clone)]
pub struct CacheLayer {
    cache: Cache,
}

impl CacheLayer {
    pub fn new(cache: Cache) -> Self {
        Self { cache }
    }
}

impl<S> Layer<S> for CacheLayer {
    type Service = Cached<S>;

    fn layer(&self, inner: S) -> Cached<S> {
        Cached {
            inner,
            cache: self.cache.clone(),
        }
    }
}

#[derive(Clone)]
pub struct Cached<S> {
    inner: S,
    cache: Cache,
}

impl<S> Service<Call> for Cached<S>
where
    S: Service<Call, Response = Reply, Error = Error> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    type Response = Reply;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Reply>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        // Whether it is needed is not known yet.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let through = self.clone();
        if call.operation.policy().idempotency != Idempotency::Read {
            Box::pin(through.mutate(call))
        } else if call.door == Door::Wait {
            Box::pin(through.poll(call))
        } else {
            Box::pin(through.read_or_stale(call))
        }
    }
}

impl<S> Cached<S>
where
    S: Service<Call, Response = Reply, Error = Error> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    async fn mutate(self, call: Call) -> Result<Reply> {
        let mutation = self.cache.mutate(&call);
        let outcome = self.inner.oneshot(call).await;
        if is_certain(&outcome) {
            mutation.settle();
        }
        outcome
    }

    /// A wait never sees what is kept, and nobody sees less than a wait has told.
    async fn poll(self, call: Call) -> Result<Reply> {
        let key = Key::of(&call);
        let outcome = self.inner.oneshot(call).await;
        self.cache.polled(&key, &outcome);
        outcome
    }

    /// Where the upstream fails, what was kept is given for a while after its time; but nothing that
    /// is known to have changed since.
    async fn read_or_stale(self, call: Call) -> Result<Reply> {
        let (cache, demand) = (self.cache.clone(), call.demand);
        let read = cache.read(&call);
        match self.read(call, read.clone()).await {
            Err(error) if is_outage(&error) => {
                let now = read.and_then(|read| cache.anew(&read));
                let kept = now.and_then(|now| cache.look_up_on_error(&now, demand));
                kept.map_or(Err(error), |kept| {
                    cache.count(Status::Stale);
                    kept
                })
            }
            outcome => outcome,
        }
    }

    async fn read(self, call: Call, read: Option<Read>) -> Result<Reply> {
        let demand = call.demand;
        let step = call.trace.step("cache");
        let Some(read) = read else {
            found(&step, Status::Bypass);
            return match demand.only_if_cached {
                true => Err(nothing_kept()),
                false => self.ask(call, None).await,
            };
        };
        if let Some(hit) = self.cache.look_up(&read, demand) {
            self.cache.count(Status::Hit);
            found(&step, Status::Hit);
            return hit;
        }
        if demand.only_if_cached {
            return Err(nothing_kept());
        }
        if demand.no_cache {
            found(&step, Status::Miss);
            return self.ask(call, Some(read)).await;
        }
        if let Some(stale) = self.cache.look_up_meanwhile(&read, demand) {
            self.cache.count(Status::Stale);
            found(&step, Status::Stale);
            let takeoff = self.cache.take_off(&read, demand, &call.trace);
            if let Takeoff::Lead(flight, landing) = takeoff {
                self.fly(call, read, flight);
                // Somebody has to wait for it.
                tokio::spawn(landing_of(landing));
            }
            return stale;
        }
        match self.cache.take_off(&read, demand, &call.trace) {
            Takeoff::Hit(hit) => {
                self.cache.count(Status::Hit);
                found(&step, Status::Hit);
                *hit
            }
            Takeoff::Alone => {
                found(&step, Status::Miss);
                self.ask(call, Some(read)).await
            }
            Takeoff::Follow(landing, began, leader) => {
                if let Some(leader) = leader {
                    call.trace.note(|span| span.add_link(leader, Vec::new()));
                }
                let landed = timeout(PATIENCE, landing_of(landing)).await;
                found(&step, Status::Coalesced);
                match landed.ok().flatten().as_deref() {
                    Some(Ok(reply)) => Ok(self.served(reply.clone(), Status::Coalesced, began)),
                    Some(Err(error)) if is_of_all(error) => {
                        self.cache.count(Status::Coalesced);
                        Err(error.clone())
                    }
                    // It was late, or its fault was its own.
                    _ => {
                        let read = self.cache.anew(&read);
                        self.ask(call, read).await
                    }
                }
            }
            Takeoff::Lead(flight, landing) => {
                found(&step, Status::Miss);
                let (began, anew) = (read.began(), read.clone());
                self.fly(call.clone(), read, flight);
                match landing_of(landing).await.as_deref() {
                    Some(Ok(reply)) => Ok(self.served(reply.clone(), Status::Miss, began)),
                    Some(Err(error)) => {
                        self.cache.count(Status::Miss);
                        Err(error.clone())
                    }
                    None => {
                        let read = self.cache.anew(&anew);
                        self.ask(call, read).await
                    }
                }
            }
        }
    }

    /// Reads on a task of its own, for all who wait for it.
    fn fly(&self, call: Call, read: Read, flight: Flight) {
        let (cache, inner) = (self.cache.clone(), self.inner.clone());
        // Held from here on: a task may be dropped before it begins.
        let under_way = cache.under_way(&read, &flight);
        tokio::spawn(call.trace.clone().over(async move {
            let _under_way = under_way;
            let end = Instant::now() + LONGEST;
            let deadline = end.into_std();
            let asked = inner.oneshot(Call { deadline, ..call });
            tokio::select! {
                outcome = tokio::time::timeout_at(end, asked) => {
                    if let Ok(outcome) = outcome {
                        cache.land(&read, &outcome);
                        flight.land(outcome);
                    }
                }
                () = flight.deserted() => {}
            }
        }));
    }

    /// Asks for this call alone; keeps the answer of a `read`.
    async fn ask(self, call: Call, read: Option<Read>) -> Result<Reply> {
        let status = match read {
            Some(_) => Status::Miss,
            None => Status::Bypass,
        };
        let began = Instant::now();
        let outcome = self.inner.clone().oneshot(call).await;
        if let Some(read) = read {
            self.cache.land(&read, &outcome);
        }
        match outcome {
            Ok(reply) => Ok(self.served(reply, status, began)),
            Err(error) => {
                self.cache.count(status);
                Err(error)
            }
        }
    }

    fn served(&self, reply: Reply, status: Status, began: Instant) -> Reply {
        self.cache.count(status);
        Reply {
            served: Some(Served::new(status, began.elapsed())),
            attempts: match status {
                // They were another call's.
                Status::Coalesced => 1,
                _ => reply.attempts,
            },
            ..reply
        }
    }
}

/// Ends the look-up of a call: how the cache takes part in it.
fn found(step: &Trace, status: Status) {
    step.note(|span| span.set_attribute(KeyValue::new("proton.cache", status.name())));
    step.end(None);
}

/// What a flight has brought; absent if it brings nothing.
async fn landing_of(mut landing: watch::Receiver<Landed>) -> Landed {
    let landed = landing.wait_for(Option::is_some).await;
    landed.ok().and_then(|landed| landed.clone())
}

/// Whether a mutation has ended for good: nothing of it comes later.
fn is_certain(outcome: &Result<Reply>) -> bool {
    match outcome {
        Ok(_) => true,
        Err(error) => {
            let refused = error.is_refusal()
                || matches!(
                    *error.kind,
                    ErrorKind::AccessDenied { .. }
                        | ErrorKind::Throttled { .. }
                        | ErrorKind::Unauthenticated { .. }
                );
            // An earlier attempt may still be applied.
            refused && !error.unsettled
        }
    }
}

/// Whether the upstream could not answer, whatever was asked.
fn is_outage(error: &Error) -> bool {
    match *error.kind {
        ErrorKind::Unavailable { .. } | ErrorKind::OutcomeUnknown | ErrorKind::DeadlineExceeded => {
            true
        }
        ErrorKind::Throttled { origin, .. } => origin == Origin::Upstream,
        _ => false,
    }
}

/// Whether all who ask for the same would be told the same.
fn is_of_all(error: &Error) -> bool {
    match *error.kind {
        ErrorKind::NotFound { .. } | ErrorKind::Unavailable { .. } => true,
        ErrorKind::Throttled { origin, .. } => origin == Origin::Upstream,
        _ => false,
    }
}

fn nothing_kept() -> Error {
    Error::precondition(
        "cache",
        "nothing is kept that would answer this; leave only-if-cached out",
    )
}

#[cfg(test)]
mod tests;
