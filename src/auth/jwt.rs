//! Tokens that issuers have signed.
//!
//! A token that was verified is remembered until it expires, and at most [`REMEMBERED`]: after
//! that long at the latest, a key that its issuer has withdrawn is worth nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use moka::future::Cache;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::key_sets::{KeySet, MAX_KEY_ID, Missing};
use super::template::Template;
use super::{Method, Principal, expired, is_id, unrecognized};
use crate::clock::Clock;
use crate::config::authentication as config;
use crate::error::{Error, ErrorKind, Result};

/// How long a token is taken for verified without another look at its signature.
pub const REMEMBERED: Duration = Duration::from_secs(300);
/// Tokens that are remembered. One takes about half a kilobyte.
const MAX_REMEMBERED: u64 = 10_000;
/// When to come back if an issuer's keys cannot be fetched.
const RETRY: Duration = Duration::from_secs(2);

type Claims = Map<String, Value>;

/// All issuers.
pub struct Issuers {
    issuers: HashMap<String, Issuer>,
    remembered: Cache<[u8; 32], Remembered>,
    clock: Arc<dyn Clock>,
}

#[derive(Clone)]
struct Remembered {
    principal: Arc<Principal>,
    until: SystemTime,
}

/// One issuer, with what its tokens say of their bearers.
pub struct Issuer {
    name: String,
    audiences: BTreeSet<String>,
    algorithms: Vec<jsonwebtoken::Algorithm>,
    skew: Duration,
    lifetime: Duration,
    id: Template,
    roles: BTreeSet<String>,
    grants: Vec<config::Grant>,
    attributes: BTreeMap<String, String>,
    keys: Arc<KeySet>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

impl Issuers {
    pub fn new(issuers: Vec<Issuer>, clock: Arc<dyn Clock>) -> Self {
        Self {
            issuers: issuers
                .into_iter()
                .map(|issuer| (issuer.name.clone(), issuer))
                .collect(),
            remembered: Cache::builder()
                .max_capacity(MAX_REMEMBERED)
                .time_to_live(REMEMBERED)
                .build(),
            clock,
        }
    }

    /// Who bears `token`.
    pub async fn principal(&self, token: &str) -> Result<Arc<Principal>> {
        let digest: [u8; 32] = Sha256::digest(token).into();
        let now = self.clock.now();
        if let Some(remembered) = self.remembered.get(&digest).await
            && now < remembered.until
        {
            return Ok(remembered.principal);
        }
        let principal = Arc::new(self.verify(token, now).await?);
        let until = now + REMEMBERED;
        let remembered = Remembered {
            until: principal.expires.map_or(until, |at| at.min(until)),
            principal: Arc::clone(&principal),
        };
        self.remembered.insert(digest, remembered).await;
        Ok(principal)
    }

    async fn verify(&self, token: &str, now: SystemTime) -> Result<Principal> {
        let malformed = || unrecognized("the token is malformed: it is no signed JWT");
        let (message, signature) = token.rsplit_once('.').ok_or_else(malformed)?;
        let (header, claims) = message.split_once('.').ok_or_else(malformed)?;
        let header: Header = part(header).ok_or_else(malformed)?;
        // Not trusted before the signature; only used to find who should have signed.
        let claims: Claims = part(claims).ok_or_else(malformed)?;
        let issuer = claims
            .get("iss")
            .and_then(Value::as_str)
            .and_then(|name| self.issuers.get(name))
            .ok_or_else(|| unrecognized("the token's issuer is not trusted"))?;
        if header.crit.is_some() {
            return Err(unrecognized(
                "the token is malformed: it has critical extensions",
            ));
        }
        if header.kid.as_ref().is_some_and(|id| id.len() > MAX_KEY_ID) {
            return Err(malformed());
        }
        issuer.verify_signature(&header, message, signature).await?;
        issuer.verify_claims(&claims, now)
    }
}

/// One part of a token, as JSON.
fn part<T: DeserializeOwned>(text: &str) -> Option<T> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    serde_json::from_slice(&bytes).ok()
}

impl Issuer {
    pub fn new(given: &config::Issuer, keys: Arc<KeySet>) -> std::result::Result<Self, String> {
        Ok(Self {
            name: given.issuer.clone(),
            audiences: given.audiences.clone(),
            algorithms: given.algorithms.iter().map(algorithm).collect(),
            skew: given.clock_skew.0,
            lifetime: given.max_lifetime.0,
            id: Template::parse(&given.id)?,
            roles: given.roles.clone(),
            grants: given.grants.clone(),
            attributes: given.attributes.clone(),
            keys,
        })
    }

    async fn verify_signature(
        &self,
        header: &Header,
        message: &str,
        signature: &str,
    ) -> Result<()> {
        let algorithm = self
            .algorithms
            .iter()
            .copied()
            .find(|allowed| format!("{allowed:?}") == header.alg)
            .ok_or_else(|| unrecognized("the token's algorithm is not allowed for its issuer"))?;
        let key = match self.keys.find(header.kid.as_deref(), algorithm).await {
            Ok(key) => key,
            Err(Missing::Unknown) => {
                return Err(unrecognized("the token is signed with an unknown key"));
            }
            Err(Missing::Unavailable) => {
                let kind = ErrorKind::Unavailable { retry_after: RETRY };
                return Err(Error::new(
                    kind,
                    "the keys of the token's issuer cannot be fetched now",
                ));
            }
        };
        let verified =
            jsonwebtoken::crypto::verify(signature, message.as_bytes(), key.decoding(), algorithm);
        match verified {
            Ok(true) => Ok(()),
            _ => Err(unrecognized("the token's signature is wrong")),
        }
    }

    fn verify_claims(&self, claims: &Claims, now: SystemTime) -> Result<Principal> {
        let for_us = match claims.get("aud") {
            Some(Value::String(audience)) => self.audiences.contains(audience),
            Some(Value::Array(audiences)) => audiences
                .iter()
                .filter_map(Value::as_str)
                .any(|audience| self.audiences.contains(audience)),
            _ => false,
        };
        if !for_us {
            return Err(unrecognized("the token is for another audience"));
        }
        let expires = self.verify_times(claims, now)?;
        if !matches!(claims.get("sub"), Some(Value::String(subject)) if !subject.is_empty()) {
            return Err(unrecognized("the token has no subject"));
        }
        let id = self
            .id
            .fill(|name| claim(claims, name).and_then(text))
            .map_err(|name| {
                unrecognized(format!("the token has no claim {name:?} of one value"))
            })?;
        if !is_id(&id) {
            return Err(unrecognized(
                "the token's subject is too long or has control characters",
            ));
        }
        let mut roles = self.roles.clone();
        for grant in &self.grants {
            if claim(claims, &grant.claim).is_some_and(|claim| holds(claim, &grant.value)) {
                roles.extend(grant.roles.iter().cloned());
            }
        }
        let attributes = self.attributes.iter().filter_map(|(attribute, name)| {
            let value = claim(claims, name).and_then(text)?;
            Some((attribute.clone(), value))
        });
        Ok(Principal {
            id,
            method: Method::Jwt,
            roles,
            scopes: BTreeSet::new(),
            attributes: attributes.collect(),
            expires: Some(expires),
        })
    }

    /// Checks when the token is valid, and returns until when.
    fn verify_times(&self, claims: &Claims, now: SystemTime) -> Result<SystemTime> {
        let time = |name: &str| match claims.get(name) {
            None => Ok(None),
            Some(value) => moment(value).map(Some).ok_or_else(|| {
                unrecognized(format!("the token is malformed: {name:?} is no time"))
            }),
        };
        let expires = time("exp")?.ok_or_else(|| unrecognized("the token has no expiry"))?;
        let (issued, begins) = (time("iat")?, time("nbf")?);
        let end = expires.checked_add(self.skew).unwrap_or(expires);
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        if end <= now {
            return Err(expired("the token has expired"));
        }
        let latest = now + self.skew;
        if [issued, begins].iter().flatten().any(|at| *at > latest) {
            return Err(unrecognized("the token is not yet valid"));
        }
        // One without the time of its issue was issued now at the latest.
        let begun = issued.unwrap_or(now);
        if expires.saturating_sub(begun) > self.lifetime
            || expires.saturating_sub(latest) > self.lifetime
        {
            return Err(unrecognized(format!(
                "the token's lifetime is too long: at most {}",
                humantime::format_duration(self.lifetime)
            )));
        }
        UNIX_EPOCH
            .checked_add(end)
            .ok_or_else(|| unrecognized("the token is malformed: \"exp\" is no time"))
    }
}

/// Seconds since the epoch, which may have a fraction.
fn moment(value: &Value) -> Option<Duration> {
    match value.as_u64() {
        Some(seconds) => Some(Duration::from_secs(seconds)),
        None => Duration::try_from_secs_f64(value.as_f64()?).ok(),
    }
}

/// A claim by its name, or by its path (RFC 6901) where it stands inside another.
fn claim<'a>(claims: &'a Claims, name: &str) -> Option<&'a Value> {
    let Some(path) = name.strip_prefix('/') else {
        return claims.get(name);
    };
    let mut steps = path
        .split('/')
        .map(|step| step.replace("~1", "/").replace("~0", "~"));
    let first = claims.get(&steps.next()?)?;
    steps.try_fold(first, |value, step| value.as_object()?.get(&step))
}

/// A claim of one value, as text.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}

fn holds(claim: &Value, wanted: &str) -> bool {
    let is = |value: &Value| text(value).is_some_and(|text| text == wanted);
    match claim {
        Value::Array(values) => values.iter().any(is),
        value => is(value),
    }
}

fn algorithm(named: &config::Algorithm) -> jsonwebtoken::Algorithm {
    use jsonwebtoken::Algorithm;
    match named {
        config::Algorithm::RS256 => Algorithm::RS256,
        config::Algorithm::RS384 => Algorithm::RS384,
        config::Algorithm::RS512 => Algorithm::RS512,
        config::Algorithm::PS256 => Algorithm::PS256,
        config::Algorithm::PS384 => Algorithm::PS384,
        config::Algorithm::PS512 => Algorithm::PS512,
        config::Algorithm::ES256 => Algorithm::ES256,
        config::Algorithm::ES384 => Algorithm::ES384,
        config::Algorithm::EdDSA => Algorithm::EdDSA,
    }
}

#[cfg(test)]
mod tests;
