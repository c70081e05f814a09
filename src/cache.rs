//! What was read lately and still holds, and who is reading it just now.
//!
//! A miss costs a call; a stale answer is a defect. So an answer is used only as long as nothing
//! is known to have changed since it was read ([`coherence`]), and never beyond its time. When this
//! is asked, and by whom, is decided in `pipeline::cache`.

pub mod coherence;
pub mod demand;
mod entry;
mod flights;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::HeaderValue;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use self::coherence::{Coherence, Mutation};
use self::demand::{Demand, Served, Status};
use self::entry::{Entry, Lifetime};
use self::flights::Flights;
pub use self::flights::{Flight, Landed, Takeoff};
use crate::api::{Cache as Class, Framed, Operation, Request, Response};
use crate::config::cache::CacheConfig;
use crate::error::Result;
use crate::etag::Etag;
use crate::gateway::{Call, Reply};
use crate::telemetry::metrics::watched;
use crate::telemetry::{Metrics, Trace};
use crate::upstream::Identity;

/// Of how many polls it is remembered what they saw last.
const POLLS: u64 = 10_000;

/// As whom the upstream is asked, and for what. Answers for different credentials are never shared.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    identity: Identity,
    request: Arc<[u8]>,
}

impl Key {
    pub fn new(identity: Identity, request: &Request) -> Self {
        Self {
            identity,
            request: request.key().into(),
        }
    }

    pub fn of(call: &Call) -> Self {
        Self::new(call.identity.clone().unwrap_or_default(), &call.request)
    }
}

/// A read that has begun: what it may be answered with, and where its own answer goes.
#[derive(Debug, Clone)]
pub struct Read {
    key: Key,
    operation: Operation,
    /// What was known of changes when it began.
    mark: u64,
    began: Instant,
}

impl Read {
    /// When it began: its answer is no older.
    pub fn began(&self) -> Instant {
        self.began
    }
}

/// What is kept for a read.
pub struct Found {
    /// As it is sent.
    pub outcome: Result<Framed>,
    pub served: Served,
    pub etag: Option<Etag>,
    /// The same, as it is sent.
    pub header: Option<HeaderValue>,
}

/// The cache. Clones share it.
#[derive(Clone)]
pub struct Cache(Arc<Shared>);

struct Shared {
    config: ArcSwap<CacheConfig>,
    coherence: Coherence,
    kept: moka::sync::Cache<Key, Arc<Entry>>,
    /// Also held while something is kept, so that the order of reads is not lost.
    flights: Mutex<Flights>,
    /// Digests of what polls saw last.
    polls: moka::sync::Cache<Key, [u8; 32]>,
    /// How often everything was forgotten.
    purges: AtomicU64,
    metrics: Metrics,
}

impl Cache {
    /// The cache of `config`; absent where it is off.
    pub fn new(config: &CacheConfig, coherence: Coherence, metrics: Metrics) -> Option<Self> {
        config.enabled.then(|| {
            let most = config.max_size.0;
            metrics.watch(watched::CACHE_MAX_BYTES, move || Some(most));
            let cache = Self(Arc::new(Shared {
                config: ArcSwap::from_pointee(config.clone()),
                coherence,
                kept: moka::sync::Cache::builder()
                    .max_capacity(config.max_size.0)
                    .weigher(|_: &Key, entry: &Arc<Entry>| entry.weight)
                    .expire_after(Lifetime)
                    .build(),
                flights: Mutex::default(),
                polls: moka::sync::Cache::new(POLLS),
                purges: AtomicU64::default(),
                metrics,
            }));
            let shared = Arc::downgrade(&cache.0);
            let entries = move || Some(shared.upgrade()?.kept.entry_count());
            cache.0.metrics.watch(watched::CACHE_ENTRIES, entries);
            cache
        })
    }

    /// Other times hold for what is kept from now on. The size stays as it is.
    pub fn change(&self, config: &CacheConfig) {
        self.0.config.store(Arc::new(config.clone()));
    }

    /// What all answers together may take, in bytes.
    pub fn max_size(&self) -> u64 {
        self.0.config.load().max_size.0
    }

    /// Begins a read; absent if it has to be made by itself: its answer is never kept, or what it
    /// reads is changing.
    pub fn read(&self, call: &Call) -> Option<Read> {
        if call.operation.policy().cache == Class::None {
            return None;
        }
        self.begin(Key::of(call), call.operation)
    }

    /// The same for the key of a request whose answers may be kept.
    pub fn begin(&self, key: Key, operation: Operation) -> Option<Read> {
        let mark = self.mark(&key, operation)?;
        Some(Read {
            key,
            operation,
            mark,
            began: Instant::now(),
        })
    }

    /// The same read, if nothing has changed, begun now.
    pub fn anew(&self, read: &Read) -> Option<Read> {
        self.begin(read.key.clone(), read.operation)
    }

    fn mark(&self, key: &Key, operation: Operation) -> Option<u64> {
        let upstream = key.identity.upstream.as_ref();
        let mark = self
            .0
            .coherence
            .mark(upstream, operation.policy().resource)?;
        // Each only grows: the sum is the same only if both are.
        Some(mark + self.0.purges.load(Ordering::SeqCst))
    }

    /// What is kept for a read.
    pub fn look_up(&self, read: &Read, demand: Demand) -> Option<Result<Reply>> {
        let found = self.look_up_framed(read, demand)?;
        Self::reply(read, found)
    }

    /// What was kept for a read, and is past its time, as far as that goes on an error.
    pub fn look_up_on_error(&self, read: &Read, demand: Demand) -> Option<Result<Reply>> {
        self.look_up_stale(read, demand, self.0.config.load().stale_if_error.0)
    }

    /// The same, as far as that goes while the backend is asked.
    pub fn look_up_meanwhile(&self, read: &Read, demand: Demand) -> Option<Result<Reply>> {
        self.look_up_stale(read, demand, self.0.config.load().stale_while_revalidate.0)
    }

    /// Nothing is known to have changed since it was read: only its time is over.
    fn look_up_stale(&self, read: &Read, demand: Demand, by: Duration) -> Option<Result<Reply>> {
        let entry = self.0.kept.get(&read.key)?;
        let age = read.began.saturating_duration_since(entry.began);
        if entry.mark != read.mark || !entry.is_spare(read.began, by) || !demand.takes(age) {
            return None;
        }
        let outcome = entry.outcome.clone()?;
        let served = Served::new(Status::Stale, age);
        Self::reply(read, entry.found(outcome, served))
    }

    fn reply(read: &Read, found: Found) -> Option<Result<Reply>> {
        let Found {
            outcome,
            served,
            etag,
            header: _,
        } = found;
        let reply = |frame: Framed| {
            let response = Response::decode(read.operation, frame.message());
            // Without an id of the upstream's: it is that of another request.
            response.map(|response| Reply {
                served: Some(served),
                etag,
                ..Reply::new(response)
            })
        };
        // What cannot be read is not there: it is read again.
        match outcome.map(reply) {
            Ok(reply) => reply.ok().map(Ok),
            Err(error) => Some(Err(error)),
        }
    }

    /// What is kept for a read and within its time, as it is sent.
    pub fn look_up_framed(&self, read: &Read, demand: Demand) -> Option<Found> {
        let entry = self.0.kept.get(&read.key)?;
        let age = read.began.saturating_duration_since(entry.began);
        if entry.mark != read.mark || read.began >= entry.until || !demand.takes(age) {
            return None;
        }
        let outcome = entry.outcome.clone()?;
        Some(entry.found(outcome, Served::new(Status::Hit, age)))
    }

    /// Finds a read of the same under way that is good enough, or begins one.
    pub fn take_off(&self, read: &Read, demand: Demand, trace: &Trace) -> Takeoff {
        let mut flights = self.flights();
        // One may have landed a moment ago.
        if let Some(hit) = self.look_up(read, demand) {
            return Takeoff::Hit(Box::new(hit));
        }
        if let Some(flight) = flights.get(&read.key)
            && flight.mark == read.mark
            // Who saw a later state than this one will must not be taken back.
            && self.latest(read).is_none_or(|began| began <= flight.began)
        {
            let age = read.began.saturating_duration_since(flight.began);
            return match demand.takes(age) {
                true => Takeoff::Follow(flight.landing(), flight.began, flight.leader.clone()),
                false => Takeoff::Alone,
            };
        }
        let (flight, landing) = Flight::new(read.mark, read.began, trace.linked());
        flights.insert(read.key.clone(), flight.clone());
        Takeoff::Lead(flight, landing)
    }

    /// When the latest read began whose outcome is known.
    fn latest(&self, read: &Read) -> Option<Instant> {
        let entry = self.0.kept.get(&read.key)?;
        (entry.mark == read.mark).then_some(entry.began)
    }

    /// Keeps what a read saw, if that still holds.
    pub fn land(&self, read: &Read, outcome: &Result<Reply>) {
        let mut flights = self.flights();
        // Nobody who comes now may join one that began before.
        flights.remove_older(&read.key, read.began);
        let Some(entry) = Entry::of(read, outcome, &self.0.config.load()) else {
            return;
        };
        if self.mark(&read.key, read.operation) != Some(read.mark)
            || self.latest(read) > Some(read.began)
        {
            return;
        }
        self.0.kept.insert(read.key.clone(), Arc::new(entry));
        drop(flights);
        self.0.metrics.cache_bytes(self.0.kept.weighted_size());
    }

    /// Ends a flight that has landed, or never will.
    fn forget(&self, key: &Key, flight: &Flight) {
        self.flights().remove(key, flight);
    }

    /// What takes a flight back when it is dropped.
    pub fn under_way(&self, read: &Read, flight: &Flight) -> UnderWay {
        UnderWay {
            cache: self.clone(),
            key: read.key.clone(),
            flight: flight.clone(),
        }
    }

    /// Begins a mutation: what it may touch is not used before it has ended.
    pub fn mutate(&self, call: &Call) -> Mutation {
        let upstream = call.identity.as_ref().and_then(|it| it.upstream.clone());
        self.0.coherence.mutate(upstream, call.operation.policy())
    }

    /// Takes note of what a wait is about to tell: nobody who was told may read an older state.
    pub fn polled(&self, key: &Key, outcome: &Result<Reply>) {
        let json = match outcome {
            Ok(reply) => reply.response.to_json(),
            Err(_) => serde_json::Value::Null,
        };
        // Only what is under way is polled again and again; the rest may have changed, and back.
        let seen = entry::under_way(&json).then(|| Sha256::digest(json.to_string()).into());
        if seen.is_none() || self.0.polls.get(key) != seen {
            let upstream = key.identity.upstream.as_ref();
            self.0.coherence.changed(upstream);
        }
        match seen {
            Some(seen) => self.0.polls.insert(key.clone(), seen),
            None => self.0.polls.invalidate(key),
        }
    }

    /// Forgets everything, and keeps nothing of the reads that are under way. Says how many answers
    /// were kept, about.
    pub fn purge(&self) -> u64 {
        let entries = self.0.kept.entry_count();
        self.0.purges.fetch_add(1, Ordering::SeqCst);
        self.0.kept.invalidate_all();
        self.0.polls.invalidate_all();
        entries
    }

    /// Counts how a read was answered.
    pub fn count(&self, status: Status) {
        self.0.metrics.cache(status.name());
    }

    fn flights(&self) -> MutexGuard<'_, Flights> {
        self.0
            .flights
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A flight, as long as it lasts.
pub struct UnderWay {
    cache: Cache,
    key: Key,
    flight: Flight,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.cache.forget(&self.key, &self.flight);
    }
}
