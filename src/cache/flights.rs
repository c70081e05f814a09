//! Reads that are under way, for those who want to read the same.

use std::collections::HashMap;
use std::sync::Arc;

use opentelemetry::trace::SpanContext;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Key;
use crate::error::Result;
use crate::gateway::Reply;

/// What a flight has brought, once it has landed.
pub type Landed = Option<Arc<Result<Reply>>>;

/// One read that others may wait for.
#[derive(Clone)]
pub struct Flight {
    pub mark: u64,
    pub began: Instant,
    /// The span of whoever began it, for those who follow.
    pub leader: Option<SpanContext>,
    landed: watch::Sender<Landed>,
}

impl Flight {
    pub fn new(
        mark: u64,
        began: Instant,
        leader: Option<SpanContext>,
    ) -> (Self, watch::Receiver<Landed>) {
        let (landed, landing) = watch::channel(None);
        let flight = Self {
            mark,
            began,
            leader,
            landed,
        };
        (flight, landing)
    }

    /// Where its outcome will be.
    pub fn landing(&self) -> watch::Receiver<Landed> {
        self.landed.subscribe()
    }

    /// Tells all who wait.
    pub fn land(&self, outcome: Result<Reply>) {
        self.landed.send_replace(Some(Arc::new(outcome)));
    }

    /// Returns when nobody waits any more.
    pub async fn deserted(&self) {
        self.landed.closed().await;
    }
}

/// How a read that finds nothing kept goes on.
pub enum Takeoff {
    /// There is something now.
    Hit(Box<Result<Reply>>),
    /// Another one is under way, since then; its span, where it has one.
    Follow(watch::Receiver<Landed>, Instant, Option<SpanContext>),
    /// Others will wait for it.
    Lead(Flight, watch::Receiver<Landed>),
    /// By itself.
    Alone,
}

/// At most one for each key; as many as there are calls that wait for them.
#[derive(Default)]
pub struct Flights(HashMap<Key, Flight>);

impl Flights {
    pub fn get(&self, key: &Key) -> Option<&Flight> {
        self.0.get(key)
    }

    /// Takes the place of an older one; those who follow that one still do.
    pub fn insert(&mut self, key: Key, flight: Flight) {
        self.0.insert(key, flight);
    }

    pub fn remove_older(&mut self, key: &Key, began: Instant) {
        if self.get(key).is_some_and(|flight| flight.began <= began) {
            self.0.remove(key);
        }
    }

    pub fn remove(&mut self, key: &Key, flight: &Flight) {
        let same = |other: &Flight| other.landed.same_channel(&flight.landed);
        if self.get(key).is_some_and(same) {
            self.0.remove(key);
        }
    }
}
