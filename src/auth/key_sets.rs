//! The public keys of an issuer: fetched once for all callers, kept fresh, and kept while the
//! issuer is down.
//!
//! A key that is missed is fetched at once, so that a rotation fails no call. What that may cost
//! the issuer is bounded, because anybody can miss a key: callers who miss one at the same time
//! share a fetch, an id that was not there is not looked for again for a while, and fetches beyond
//! so many a minute are rare. Who comes between them is not told that a key is unknown: nobody has
//! looked.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::future::BoxFuture;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// The largest key set that is read.
pub const MAX_BYTES: usize = 256 * 1024;
const MAX_KEYS: usize = 100;
/// The longest id of a key.
pub const MAX_KEY_ID: usize = 256;
/// Between two fetches for missed keys; who comes earlier waits for it.
const PAUSE: Duration = Duration::from_secs(1);
/// Fetches for missed keys within a minute. Beyond them they are [`SPARE`] apart.
const FETCHES_A_MINUTE: usize = 6;
const MINUTE: Duration = Duration::from_secs(60);
/// After this long there is another one all the same: nobody can keep a new key out.
const SPARE: Duration = Duration::from_secs(10);
/// How long an id that was not there is not looked for again.
const ABSENT: Duration = Duration::from_secs(15);
/// Ids that were not there; with more, the fetches a minute are bound enough.
const MAX_ABSENT: usize = 256;
/// How soon a refresh that failed is tried again.
const AGAIN: Duration = Duration::from_secs(15);

/// Where the bytes of a key set come from.
pub trait Source: Send + Sync + 'static {
    /// The set as JSON, or why there is none: a text without secrets.
    fn fetch(&self) -> BoxFuture<'_, Result<Vec<u8>, String>>;
}

/// A public key of an issuer.
pub struct Key {
    id: Option<String>,
    algorithms: &'static [Algorithm],
    only: Option<Algorithm>,
    decoding: DecodingKey,
}

impl Key {
    fn fits(&self, algorithm: Algorithm) -> bool {
        self.algorithms.contains(&algorithm) && self.only.is_none_or(|only| only == algorithm)
    }

    pub fn decoding(&self) -> &DecodingKey {
        &self.decoding
    }
}

/// Why there is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// The issuer has no such key.
    Unknown,
    /// The issuer's keys cannot be fetched now, or are not to be yet.
    Unavailable,
}

/// The keys of one issuer.
pub struct KeySet {
    issuer: String,
    source: Box<dyn Source>,
    current: ArcSwapOption<Vec<Arc<Key>>>,
    /// Fetches for missed keys that have begun.
    begun: AtomicU64,
    misses: Mutex<Misses>,
}

#[derive(Default)]
struct Misses {
    /// The number of the last fetch that has ended, and whether it succeeded.
    ended: u64,
    succeeded: bool,
    fetches: VecDeque<Instant>,
    absent: HashMap<String, Instant>,
}

impl KeySet {
    pub fn new(issuer: &str, source: impl Source) -> Self {
        Self {
            issuer: issuer.to_owned(),
            source: Box::new(source),
            current: ArcSwapOption::empty(),
            begun: AtomicU64::new(0),
            misses: Mutex::default(),
        }
    }

    /// The key with this id that may have signed by `algorithm`.
    pub async fn find(
        self: &Arc<Self>,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Arc<Key>, Missing> {
        if let Some(key) = self.known(id, algorithm) {
            return Ok(key);
        }
        let (set, id) = (Arc::clone(self), id.map(str::to_owned));
        let came = self.begun.load(Ordering::Acquire);
        // On its own: it goes on for the others if this caller goes away.
        tokio::spawn(async move { set.miss(id.as_deref(), algorithm, came).await })
            .await
            .unwrap_or(Err(Missing::Unavailable))
    }

    fn known(&self, id: Option<&str>, algorithm: Algorithm) -> Option<Arc<Key>> {
        let keys = self.current.load();
        let mut fitting = keys
            .iter()
            .flat_map(|keys| keys.iter())
            .filter(|key| key.fits(algorithm) && id.is_none_or(|id| key.id.as_deref() == Some(id)));
        let first = fitting.next()?;
        // Without an id there must be no choice.
        (id.is_some() || fitting.next().is_none()).then(|| Arc::clone(first))
    }

    async fn miss(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
        came: u64,
    ) -> Result<Arc<Key>, Missing> {
        let mut misses = self.misses.lock().await;
        if let Some(key) = self.known(id, algorithm) {
            return Ok(key);
        }
        let now = Instant::now();
        let name = id.unwrap_or_default();
        if misses.absent.get(name).is_some_and(|until| now < *until) {
            return Err(Missing::Unknown);
        }
        // One that began after this caller came would have brought the key.
        if misses.ended > came {
            return Err(misses.why());
        }
        while misses.fetches.front().is_some_and(|at| now - *at > MINUTE) {
            misses.fetches.pop_front();
        }
        if let Some(last) = misses.fetches.back() {
            if misses.fetches.len() >= FETCHES_A_MINUTE && now < *last + SPARE {
                return Err(Missing::Unavailable);
            }
            tokio::time::sleep_until(*last + PAUSE).await;
        }
        misses.fetches.push_back(Instant::now());
        let number = self.begun.fetch_add(1, Ordering::AcqRel) + 1;
        let outcome = self.load().await;
        misses.ended = number;
        misses.succeeded = outcome.is_ok();
        if let Err(problem) = outcome {
            self.warn(&problem);
            return Err(Missing::Unavailable);
        }
        if let Some(key) = self.known(id, algorithm) {
            return Ok(key);
        }
        misses.remember_absent(name);
        Err(Missing::Unknown)
    }

    /// Fetches the set, which takes the place of the last one.
    pub async fn load(&self) -> Result<(), String> {
        let bytes = self.source.fetch().await?;
        let keys = read(&bytes)?;
        self.current.store(Some(Arc::new(keys)));
        Ok(())
    }

    /// The same; if it fails, the last set stays.
    pub async fn reload(&self) -> bool {
        let outcome = self.load().await;
        if let Err(problem) = &outcome {
            self.warn(problem);
        }
        outcome.is_ok()
    }

    /// Fetches the set from time to time, without end.
    pub async fn refresh(&self, every: Duration) {
        loop {
            let fetched = self.reload().await;
            tokio::time::sleep(if fetched { every } else { AGAIN.min(every) }).await;
        }
    }

    fn warn(&self, problem: &str) {
        let kept = self.current.load().is_some();
        tracing::warn!(
            issuer = self.issuer,
            problem,
            kept,
            "the keys of an issuer cannot be read"
        );
    }
}

impl Misses {
    fn why(&self) -> Missing {
        if self.succeeded {
            Missing::Unknown
        } else {
            Missing::Unavailable
        }
    }

    fn remember_absent(&mut self, id: &str) {
        let now = Instant::now();
        self.absent.retain(|_, until| now < *until);
        if self.absent.len() < MAX_ABSENT {
            self.absent.insert(id.to_owned(), now + ABSENT);
        }
    }
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<serde_json::Value>,
}

/// The keys with which signatures can be checked. Others are passed over: a set may hold keys for
/// other uses, and of kinds that are newer than this program.
fn read(bytes: &[u8]) -> Result<Vec<Arc<Key>>, String> {
    let set: Set =
        serde_json::from_slice(bytes).map_err(|error| format!("this is no key set: {error}"))?;
    let keys: Vec<_> = set.keys.into_iter().filter_map(usable).collect();
    match keys.len() {
        0 => Err("the key set has no key with which signatures can be checked".to_owned()),
        1..=MAX_KEYS => Ok(keys),
        _ => Err(format!("the key set has more than {MAX_KEYS} keys")),
    }
}

fn usable(key: serde_json::Value) -> Option<Arc<Key>> {
    use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    let jwk: Jwk = serde_json::from_value(key).ok()?;
    let common = &jwk.common;
    if !matches!(common.public_key_use, None | Some(PublicKeyUse::Signature)) {
        return None;
    }
    if let Some(operations) = &common.key_operations
        && !operations.contains(&KeyOperations::Verify)
    {
        return None;
    }
    let algorithms: &[Algorithm] = match &jwk.algorithm {
        AlgorithmParameters::RSA(key) => {
            let modulus = URL_SAFE_NO_PAD.decode(&key.n).ok()?;
            let bytes = modulus.iter().skip_while(|byte| **byte == 0).count();
            // Weaker ones are refused by the library too, but with every token anew.
            if bytes < 2048 / 8 {
                return None;
            }
            &[RS256, RS384, RS512, PS256, PS384, PS512]
        }
        AlgorithmParameters::EllipticCurve(key) => match key.curve {
            EllipticCurve::P256 => &[ES256],
            EllipticCurve::P384 => &[ES384],
            _ => return None,
        },
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => &[EdDSA],
        // Shared secrets above all: a signature of theirs proves nothing.
        _ => return None,
    };
    let only = match common.key_algorithm {
        None => None,
        Some(named) => Some(
            algorithms
                .iter()
                .copied()
                .find(|algorithm| named == (*algorithm).into())?,
        ),
    };
    Some(Arc::new(Key {
        id: common.key_id.clone(),
        algorithms,
        only,
        decoding: DecodingKey::from_jwk(&jwk).ok()?,
    }))
}

#[cfg(test)]
mod tests;
