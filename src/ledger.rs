//! Idempotency keys: which calls were made with one, and what came of them.
//!
//! A caller names a call by a key of its choice. Sent again with the same key, it gets the first
//! outcome; nothing is done twice. What was used is kept durably, for as long as AWS keeps its
//! client tokens, and within bounds: where there is no room, a call with a new key is refused, as a key
//! that is not kept protects nobody.
//!
//! How a call runs under its key is decided in `pipeline::idempotency`, and in [`Once::run`] where the
//! store is that of the engine; whether a call of unknown outcome was applied, in [`probe`].

pub mod in_flight;
mod key;
mod outcome;
pub mod probe;

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

pub use self::key::{IDEMPOTENCY_KEY, Key, REPLAYED, unkept};
pub use self::outcome::{Outcome, is_final};
use crate::api::{Operation, Response};
use crate::backend::engine::store::ledger::{Row, Scope};
use crate::backend::engine::store::{Store, Transaction};
use crate::clock::{Clock, epoch_millis};
use crate::config::idempotency::IdempotencyConfig;
use crate::error::{Error, ErrorKind, Origin, Result};
use crate::etag::Expected;
use crate::gateway::{Call, Reply};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::watched;

/// What part of the room the keys of one caller may take.
const SHARE: u64 = 4;
/// What of a fingerprint or a digest is in bytes.
const DIGEST: usize = 32;

/// The ledger. Clones share it.
#[derive(Clone)]
pub struct Ledger {
    store: Store,
    clock: Arc<dyn Clock>,
    secret: Arc<hmac::Key>,
    lifetime: Duration,
    max_size: u64,
    exact: bool,
    /// Who is told of keys; nobody where it is absent.
    metrics: Option<Metrics>,
}

/// One call under its key.
#[derive(Clone)]
pub struct Once {
    ledger: Ledger,
    scope: Scope,
    caller: Vec<u8>,
    fingerprint: Vec<u8>,
}

impl std::fmt::Debug for Once {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Once")
    }
}

/// What is known of a key.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// It was not used.
    Nothing,
    /// A call has begun with it; what came of it is not known. With what was known before.
    Begun(Vec<u8>),
    /// What came of the call.
    Ended(Vec<u8>),
}

impl Ledger {
    /// A ledger in `store`. It is exact where the calls themselves change that store: then a key is
    /// used in the same transaction.
    pub async fn open(
        store: Store,
        config: &IdempotencyConfig,
        secret: Option<Vec<u8>>,
        clock: Arc<dyn Clock>,
        exact: bool,
    ) -> Result<Self> {
        let secret = match secret {
            Some(given) => given,
            None => store.secret().to_vec(),
        };
        Ok(Self {
            store,
            clock,
            secret: Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &secret)),
            lifetime: config.lifetime.0,
            max_size: config.max_size.0,
            exact,
            metrics: None,
        })
    }

    /// The same, whose keys `metrics` are told of.
    pub fn measured_by(self, metrics: Metrics) -> Self {
        let most = self.max_size;
        metrics.watch(watched::IDEMPOTENCY_MAX_BYTES, move || Some(most));
        Self {
            metrics: Some(metrics),
            ..self
        }
    }

    /// Has it counted what came of the key of a call, and says it. `joined`: another call was under
    /// way with it.
    pub fn count(&self, outcome: &Result<Reply>, joined: bool) -> &'static str {
        let came = match outcome {
            _ if joined => "joined",
            Ok(reply) if reply.replayed => "replayed",
            Err(error) if error.replayed => "replayed",
            Err(error) => match &*error.kind {
                ErrorKind::OutcomeUnknown => "unknown",
                ErrorKind::Throttled { limit, .. } if limit.starts_with("idempotency/") => {
                    "refused"
                }
                _ if *error == Error::idempotency_mismatch() => "refused",
                _ => "first",
            },
            Ok(_) => "first",
        };
        if let Some(metrics) = &self.metrics {
            metrics.idempotency(came);
        }
        came
    }

    /// Has it recorded how many keys there are, and what they take.
    pub async fn measure(&self) -> Result<()> {
        let (entries, bytes) = self.store.read(|tx| tx.ledger_size()).await?;
        if let Some(metrics) = &self.metrics {
            metrics.idempotency_use(entries, bytes);
        }
        Ok(())
    }

    /// Whether calls change the ledger's own store.
    pub fn is_exact(&self) -> bool {
        self.exact
    }

    /// A call of the rpc `what` that `caller` names by `key`. The fingerprint is that of `content`:
    /// equal for the same request only.
    pub fn once(
        &self,
        caller: &str,
        upstream: Option<&str>,
        what: &str,
        key: &str,
        content: &[u8],
    ) -> Once {
        // Of an upstream, absent is not the empty name.
        let upstream = upstream.map_or(String::new(), |name| format!("={name}"));
        let place = [caller, &upstream, what, key].map(str::as_bytes);
        Once {
            scope: self.digest("scope", &place),
            caller: self.digest("caller", &[caller.as_bytes()]).to_vec(),
            fingerprint: self.digest("request", &[content]).to_vec(),
            ledger: self.clone(),
        }
    }

    /// The call that its caller names by `key`.
    pub fn of_call(&self, call: &Call, key: &str) -> Once {
        let upstream = call.identity.as_ref().and_then(|it| it.upstream.as_deref());
        let (caller, operation) = (&call.principal.id, call.operation.name());
        self.once(caller, upstream, operation, key, &content(call))
    }

    /// Whether the outcome of a call is known by its key.
    pub async fn knows(&self, call: &Call) -> bool {
        let Ok(Some(key)) = call.key.given() else {
            return false;
        };
        matches!(self.of_call(call, key).look().await, Ok(Found::Ended(_)))
    }

    /// With the secret: from what is stored, neither keys nor requests can be guessed.
    fn digest(&self, purpose: &str, parts: &[&[u8]]) -> [u8; DIGEST] {
        let mut context = hmac::Context::with_key(&self.secret);
        for part in [purpose.as_bytes()].iter().chain(parts) {
            context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            context.update(part);
        }
        let mut digest = [0; DIGEST];
        digest.copy_from_slice(&context.sign().as_ref()[..DIGEST]);
        digest
    }
}

impl Once {
    /// The name of the key.
    pub fn scope(&self) -> Scope {
        self.scope
    }

    pub fn fingerprint(&self) -> &[u8] {
        &self.fingerprint
    }

    /// The client token that goes with the key: nobody else gets the same, or can guess it.
    pub fn client_token(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.ledger.digest("client token", &[&self.scope]))
    }

    /// The key that an upstream gets which keeps keys itself: nobody else gets the same.
    pub fn passed_on(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.ledger.digest("passed on", &[&self.scope]))
    }

    /// With the secret, as all of a request may be in `content`.
    pub fn digest(&self, content: &[u8]) -> Vec<u8> {
        self.ledger.digest("evidence", &[content]).to_vec()
    }

    /// What is known of the key.
    pub async fn look(&self) -> Result<Found> {
        let once = self.clone();
        self.ledger.store.read(move |tx| once.find(tx)).await
    }

    /// Puts down that the call begins, with what was known before; nothing if the key was used.
    pub async fn begin(&self, evidence: Vec<u8>) -> Result<Found> {
        let once = self.clone();
        let begin = move |tx: &Transaction<'_>| match once.find(tx)? {
            Found::Nothing => {
                once.put(tx, evidence, None)?;
                Ok(Found::Nothing)
            }
            found => Ok(found),
        };
        self.ledger.store.write(begin).await
    }

    /// Puts down what came of the call.
    pub async fn end(&self, outcome: Vec<u8>) -> Result<()> {
        let once = self.clone();
        let end = move |tx: &Transaction<'_>| {
            let row = tx.ledger_row(&once.scope)?;
            let evidence = row.map(|row| row.evidence).unwrap_or_default();
            once.keep(tx, evidence, Some(outcome))
        };
        self.ledger.store.write(end).await
    }

    /// Forgets the key: nothing has come of the call, and nothing will.
    pub async fn forget(&self) -> Result<()> {
        let scope = self.scope;
        self.ledger
            .store
            .write(move |tx| tx.delete_ledger_row(&scope))
            .await
    }

    /// Runs `work` in the transaction that uses the key, unless it was used: then the outcome is
    /// the one of that time. A refusal is an outcome; `work` has changed nothing then.
    pub fn run(
        &self,
        tx: &Transaction<'_>,
        operation: Operation,
        work: impl FnOnce() -> Result<Response>,
    ) -> Result<Result<Reply>> {
        if let Found::Ended(outcome) = self.find(tx)? {
            return Ok(Outcome::decode(operation, &outcome)?.replayed());
        }
        let outcome = tx.attempt(|| work().map(Reply::new));
        if !is_final(&outcome) {
            return outcome.map(Ok);
        }
        self.put(tx, Vec::new(), Some(Outcome::encode(&outcome)))?;
        Ok(outcome)
    }

    fn find(&self, tx: &Transaction<'_>) -> Result<Found> {
        let row = tx.ledger_row(&self.scope)?;
        let Some(row) = row.filter(|row| row.expires_millis > self.now()) else {
            return Ok(Found::Nothing);
        };
        if row.fingerprint != self.fingerprint {
            return Err(Error::idempotency_mismatch());
        }
        Ok(match row.outcome {
            Some(outcome) => Found::Ended(outcome),
            None => Found::Begun(row.evidence),
        })
    }

    /// Adds a key, where there is room for it.
    fn put(&self, tx: &Transaction<'_>, evidence: Vec<u8>, outcome: Option<Vec<u8>>) -> Result<()> {
        let most = self.ledger.max_size;
        let (limit, whose, caller) = loop {
            // Until there is room: where a call is refused, nothing of this stands.
            let swept = tx.sweep_ledger(self.now())?;
            let (own, all) = tx.ledger_use(&self.caller)?;
            let full = match () {
                () if own >= most / SHARE => {
                    ("idempotency/caller", "of this caller", Some(&self.caller))
                }
                () if all >= most => ("idempotency/total", "of all callers", None),
                () => return self.keep(tx, evidence, outcome),
            };
            if !swept {
                break full;
            }
        };
        let room_at = tx.ledger_room_at(caller.map(Vec::as_slice))?;
        let room_at = room_at.unwrap_or_default();
        let wait = u64::try_from(room_at - self.now()).unwrap_or_default();
        Err(Error::new(
            ErrorKind::Throttled {
                origin: Origin::Gateway,
                limit,
                retry_after: Duration::from_millis(wait).max(Duration::from_secs(1)),
            },
            format!(
                "the idempotency keys {whose} take all the room there is for them, and a key that is not kept protects from nothing; nothing was changed"
            ),
        ))
    }

    fn keep(
        &self,
        tx: &Transaction<'_>,
        evidence: Vec<u8>,
        outcome: Option<Vec<u8>>,
    ) -> Result<()> {
        let lifetime = i64::try_from(self.ledger.lifetime.as_millis()).unwrap_or(i64::MAX);
        // A key is as old as its first call.
        let begun = tx.ledger_row(&self.scope)?.map(|row| row.expires_millis);
        let expires_millis = match begun.filter(|expiry| *expiry > self.now()) {
            Some(expiry) => expiry,
            None => self.now().saturating_add(lifetime),
        };
        let row = Row {
            fingerprint: self.fingerprint.clone(),
            expires_millis,
            evidence,
            outcome,
        };
        tx.put_ledger_row(&self.scope, &self.caller, &row)
    }

    fn now(&self) -> i64 {
        epoch_millis(self.ledger.clock.now())
    }
}

/// Of which call it is, for the fingerprint: the same request under the same condition.
fn content(call: &Call) -> Vec<u8> {
    let condition = match call.expected {
        Expected::This(etag) => etag.to_string(),
        _ => "any".to_owned(),
    };
    let mut content = condition.into_bytes();
    content.push(b' ');
    // AWS's SDKs make a client token for each call that they send: it is not what is asked for.
    let mut request = call.request.clone();
    request.set_client_token(String::new());
    let mut request = request.to_json();
    // A map's tags come in any order.
    if let Some(Value::Array(tags)) = request.get_mut("tags") {
        tags.sort_by_cached_key(|tag| tag["key"].to_string());
    }
    content.extend(request.to_string().into_bytes());
    content
}

#[cfg(test)]
mod tests;
