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

use super::desired::Desired;
use crate::api::Response;
use crate::api::own::DeployAction;
use crate::edge::Arrival;
use crate::error::{Error, Result};

/// How long a key is remembered, as Proton remembers its client tokens.
const LIFETIME: Duration = Duration::from_secs(8 * 3600);
/// How many keys are remembered; the least used ones are forgotten first.
const KEYS: u64 = 100_000;

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
}

type Outcome = Shared<BoxFuture<'static, Result<Begun>>>;

/// Whose key it is, at which upstream and for which rpc, and the key: callers know nothing of each
/// other's.
type Name = (String, Option<Arc<str>>, &'static str, String);

/// The deploys that callers gave a key. Clones share them.
#[derive(Clone)]
pub struct Ledger {
    entries: Cache<Name, Arc<Entry>>,
}

/// One key.
struct Entry {
    fingerprint: Vec<u8>,
    outcome: Mutex<Option<Outcome>>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            entries: Cache::builder()
                .max_capacity(KEYS)
                .time_to_live(LIFETIME)
                .build(),
        }
    }
}

impl Ledger {
    /// Runs `begin` to its end, whatever becomes of the caller, unless a call with `key` has done
    /// so. What failed is forgotten.
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
        let caller = arrival.principal.id.clone();
        let key = (caller, arrival.upstream.clone(), desired.rpc(), key);
        let fingerprint = desired.fingerprint();
        let fresh = async {
            Arc::new(Entry {
                fingerprint: fingerprint.clone(),
                outcome: Mutex::default(),
            })
        };
        let entry = self.entries.get_with_by_ref(&key, fresh).await;
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
            Ok(begun) => Ok(Begun {
                action: DeployAction::Joined,
                ..begun
            }),
            Err(error) => {
                // Unless another call has replaced it since.
                let same = |found: &Arc<Entry>| Arc::ptr_eq(found, &entry);
                if self.entries.get(&key).await.as_ref().is_some_and(same) {
                    self.entries.invalidate(&key).await;
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
