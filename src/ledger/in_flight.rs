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

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use tokio::sync::oneshot;

    use super::*;
    use crate::backend::engine::store::Store;
    use crate::clock::ManualClock;
    use crate::config::idempotency::IdempotencyConfig;
    use crate::ledger::Ledger;

    async fn once(content: &str) -> Once {
        let clock = Arc::new(ManualClock::starting_at(UNIX_EPOCH));
        let (store, config) = (Store::in_memory().unwrap(), IdempotencyConfig::default());
        // The same secret, so that the names are the same each time.
        let secret = Some(vec![7; 32]);
        let ledger = Ledger::open(store, &config, secret, clock, false);
        let ledger = ledger.await.unwrap();
        ledger.once("ci", None, "UpdateEnvironment", "k", content.as_bytes())
    }

    /// A call that ends when it is told how.
    fn call() -> (
        oneshot::Sender<Result<u8>>,
        impl Future<Output = Result<u8>> + Send + 'static,
    ) {
        let (tell, told) = oneshot::channel();
        (tell, async move { told.await.unwrap() })
    }

    async fn never() -> Result<u8> {
        panic!("it was not to run")
    }

    #[tokio::test]
    async fn the_same_call_joins_the_one_under_way() {
        let (flights, once) = (InFlight::default(), once("content").await);
        let (tell, call) = call();
        let first = flights.run(&once, call);
        let second = flights.run(&once, never());
        let (first, second, ()) = tokio::join!(biased; first, second, async {
            tell.send(Ok(7)).unwrap();
        });
        assert!(matches!(first, Joined::First(Ok(7))));
        assert!(matches!(second, Joined::Other(Ok(7))));
    }

    #[tokio::test]
    async fn another_request_with_the_key_is_refused_while_the_first_is_under_way() {
        let flights = InFlight::default();
        let (one, other) = (once("content").await, once("another").await);
        let (tell, call) = call();
        let first = flights.run(&one, call);
        let second = flights.run(&other, never());
        let (first, second, ()) = tokio::join!(biased; first, second, async {
            tell.send(Ok(7)).unwrap();
        });
        assert!(matches!(first, Joined::First(Ok(7))));
        let mismatch = Error::idempotency_mismatch();
        assert!(matches!(second, Joined::Other(Err(error)) if error == mismatch));
    }

    #[tokio::test]
    async fn a_call_goes_on_without_its_caller() {
        let (flights, once) = (InFlight::default(), once("content").await);
        let (tell, call) = call();
        let mut first = Box::pin(flights.run(&once, call));
        assert!(futures_util::poll!(&mut first).is_pending());
        drop(first);
        let second = flights.run(&once, never());
        let (second, ()) = tokio::join!(biased; second, async {
            tell.send(Ok(7)).unwrap();
        });
        assert!(matches!(second, Joined::Other(Ok(7))));
    }

    #[tokio::test]
    async fn a_call_that_is_cut_off_is_unknown_and_can_be_sent_again() {
        let (flights, once) = (InFlight::<u8>::default(), once("content").await);
        let Joined::First(Err(error)) = flights.run(&once, async { panic!("a defect") }).await
        else {
            panic!("it was not the first, or did not fail");
        };
        assert_eq!(*error.kind, ErrorKind::OutcomeUnknown);
        let again = flights.run(&once, async { Ok(7) }).await;
        assert!(matches!(again, Joined::First(Ok(7))));
    }

    #[tokio::test]
    async fn nothing_stays_on_the_list() {
        let (flights, once) = (InFlight::default(), once("content").await);
        flights.run(&once, async { Ok(7) }).await;
        assert!(flights.locked().is_empty());
    }
}
