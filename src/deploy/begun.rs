//! What was begun, by the caller's key: the same call again joins it.
//!
//! It is kept in this process. After a restart a deployment that still runs is joined because it
//! is of the same spec and version.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use moka::future::Cache;
use moka::policy::EvictionPolicy;

use super::desired::Desired;
use crate::api::Response;
use crate::api::own::DeployAction;
use crate::edge::Arrival;
use crate::error::{Error, Result};

/// How long a key is remembered, as Proton remembers its client tokens.
const LIFETIME: Duration = Duration::from_secs(8 * 3600);
/// How many keys of one caller are remembered; those of long ago are forgotten first.
const KEYS: u64 = 10_000;
/// Of how many callers there are keys.
const CALLERS: u64 = 1_000;

/// How a deploy began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begun {
    pub action: DeployAction,
    /// The deployment to follow; absent where the upstream does not say.
    pub deployment: Option<String>,
}

impl Begun {
    /// What the answer of a create or an update says.
    pub fn new(action: DeployAction, response: &Response) -> Self {
        Self {
            action,
            deployment: super::desired::deployment(response),
        }
    }

    /// What somebody else has begun.
    pub fn joined(deployment: Option<String>) -> Self {
        Self {
            action: DeployAction::Joined,
            deployment,
        }
    }
}

type Outcome = Shared<BoxFuture<'static, Result<Begun>>>;

/// Whose keys they are: callers know nothing of each other's, and push none of them out.
type Caller = String;
/// At which upstream and for which rpc, and the key.
type Name = (Option<Arc<str>>, &'static str, String);
type Entries = Cache<Name, Arc<Entry>>;

/// The deploys that callers gave a key. Clones share them.
#[derive(Clone)]
pub struct Ledger {
    callers: Cache<Caller, Entries>,
    keys: u64,
}

/// One key.
struct Entry {
    /// Of the request, which may be long.
    fingerprint: [u8; 32],
    outcome: Mutex<Option<Outcome>>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self::of(KEYS)
    }
}

impl Ledger {
    /// Remembers so many keys of each caller.
    fn of(keys: u64) -> Self {
        Self {
            callers: Cache::builder()
                .max_capacity(CALLERS)
                .eviction_policy(EvictionPolicy::lru())
                .time_to_idle(LIFETIME)
                .build(),
            keys,
        }
    }

    async fn entries(&self, caller: &str) -> Entries {
        let fresh = async {
            Cache::builder()
                .max_capacity(self.keys)
                .eviction_policy(EvictionPolicy::lru())
                .time_to_live(LIFETIME)
                .build()
        };
        self.callers.get_with_by_ref(caller, fresh).await
    }

    /// Runs `begin` to its end, whatever becomes of the caller, unless a call with `key` has done
    /// so. What failed is forgotten: `begin` itself looks whether anything has come of it.
    pub async fn once(
        &self,
        arrival: &Arrival,
        desired: &Desired,
        key: Option<String>,
        begin: impl Future<Output = Result<Begun>> + Send + 'static,
    ) -> Result<Begun> {
        let Some(key) = key else {
            return detached(begin).await;
        };
        let entries = self.entries(&arrival.principal.id).await;
        let key = (arrival.upstream.clone(), desired.rpc(), key);
        let fingerprint = desired.fingerprint();
        let fresh = async {
            Arc::new(Entry {
                fingerprint,
                outcome: Mutex::default(),
            })
        };
        let entry = entries.get_with_by_ref(&key, fresh).await;
        if entry.fingerprint != fingerprint {
            return Err(Error::idempotency_mismatch());
        }
        let (outcome, first) = {
            let mut running = entry.outcome.lock().unwrap_or_else(PoisonError::into_inner);
            match &*running {
                Some(outcome) => (outcome.clone(), false),
                None => {
                    let outcome = detached(begin).boxed().shared();
                    *running = Some(outcome.clone());
                    (outcome, true)
                }
            }
        };
        match outcome.await {
            Ok(begun) if first => Ok(begun),
            Ok(begun) => Ok(Begun::joined(begun.deployment)),
            Err(error) => {
                // Unless another call has replaced it since.
                let same = |found: &Arc<Entry>| Arc::ptr_eq(found, &entry);
                if entries.get(&key).await.as_ref().is_some_and(same) {
                    entries.invalidate(&key).await;
                }
                Err(error)
            }
        }
    }
}

/// Runs on a task of its own: a caller that goes away stops nothing halfway.
fn detached(
    begin: impl Future<Output = Result<Begun>> + Send + 'static,
) -> impl Future<Output = Result<Begun>> + Send + 'static {
    let task = tokio::spawn(begin);
    async move {
        task.await
            .unwrap_or_else(|_| Err(Error::internal("a deploy was cut off")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::pb;

    fn desired(name: &str) -> Desired {
        Desired::Environment(pb::CreateEnvironmentRequest {
            name: name.to_owned(),
            ..Default::default()
        })
    }

    fn by(caller: &str) -> Arrival {
        let mut arrival = Arrival::default();
        Arc::make_mut(&mut arrival.principal).id = caller.to_owned();
        arrival
    }

    async fn begun(ledger: &Ledger, caller: &str, key: &str) -> DeployAction {
        let begin = async {
            Ok(Begun {
                action: DeployAction::Created,
                deployment: None,
            })
        };
        ledger
            .once(&by(caller), &desired("new"), Some(key.to_owned()), begin)
            .await
            .unwrap()
            .action
    }

    #[tokio::test]
    async fn no_caller_pushes_out_what_another_one_has_begun() {
        let ledger = Ledger::of(3);
        assert_eq!(begun(&ledger, "quiet", "k").await, DeployAction::Created);
        for number in 0..50 {
            begun(&ledger, "busy", &format!("k{number}")).await;
        }
        let busy = ledger.entries("busy").await;
        busy.run_pending_tasks().await;
        assert_eq!(busy.entry_count(), 3);
        assert_eq!(begun(&ledger, "quiet", "k").await, DeployAction::Joined);
        assert_eq!(begun(&ledger, "busy", "k49").await, DeployAction::Joined);
        assert_eq!(begun(&ledger, "busy", "k0").await, DeployAction::Created);
    }

    #[test]
    fn a_fingerprint_does_not_grow_with_its_request() {
        assert_ne!(desired("a").fingerprint(), desired("b").fingerprint());
        assert_eq!(desired(&"a".repeat(100_000)).fingerprint().len(), 32);
    }
}
