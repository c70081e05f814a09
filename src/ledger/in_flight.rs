//! Calls under a key that are under way: the same call again joins them.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};

use super::Once;
use crate::backend::engine::store::ledger::Scope;
use crate::error::{Error, ErrorKind, Result};

/// The calls under way, which end in a `T`. Clones share them.
pub struct InFlight<T>(Arc<Mutex<HashMap<Scope, Flight<T>>>>);

type Ending<T> = Shared<BoxFuture<'static, Result<T>>>;

struct Flight<T> {
    fingerprint: Vec<u8>,
    ending: Ending<T>,
}

impl<T> Clone for InFlight<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for InFlight<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

/// How a call under a key ended.
pub enum Joined<T> {
    /// It was this one.
    First(Result<T>),
    /// It was another one that was under way.
    Other(Result<T>),
}

impl<T: Clone + Send + Sync + 'static> InFlight<T> {
    /// Runs `call` to its end, whatever becomes of its caller, unless one with the same key is
    /// under way. It is bounded: `call` must end by itself.
    pub async fn run(
        &self,
        once: &Once,
        call: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Joined<T> {
        let (ending, first) = {
            let mut flights = self.locked();
            match flights.get(&once.scope()) {
                Some(flight) if flight.fingerprint != once.fingerprint() => {
                    return Joined::Other(Err(Error::idempotency_mismatch()));
                }
                Some(flight) => (flight.ending.clone(), false),
                None => {
                    let landing = Landing(self.clone(), once.scope());
                    let task = tokio::spawn(async move {
                        let _landing = landing;
                        call.await
                    });
                    let ending = async move {
                        task.await.unwrap_or_else(|_| {
                            let kind = ErrorKind::OutcomeUnknown;
                            Err(Error::new(
                                kind,
                                "the call was cut off; send it again with the same key",
                            ))
                        })
                    };
                    let ending = ending.boxed().shared();
                    let flight = Flight {
                        fingerprint: once.fingerprint().to_vec(),
                        ending: ending.clone(),
                    };
                    flights.insert(once.scope(), flight);
                    (ending, true)
                }
            }
        };
        match first {
            true => Joined::First(ending.await),
            false => Joined::Other(ending.await),
        }
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<Scope, Flight<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a call off the list when it ends, however that is.
struct Landing<T: Clone + Send + Sync + 'static>(InFlight<T>, Scope);

impl<T: Clone + Send + Sync + 'static> Drop for Landing<T> {
    fn drop(&mut self) {
        self.0.locked().remove(&self.1);
    }
}
