//! Client tokens, and what makes two requests the same.
//!
//! API Reference: a token is good for eight hours after its first use; the same token with the
//! same parameters returns the original resource, with others it is a ValidationException. Not
//! documented, and decided here: a token belongs to one operation, a replay does not extend it,
//! the empty token is no token, and a token whose resource was deleted counts as unused.
//!
//! Keys of [`TokenRecord`]: `{operation}/{digest of the token}`. Index: `resource/{its key}`.

use std::time::Duration;

use prost::Message;
use sha2::{Digest, Sha256};

use super::context::Context;
use super::provision::{self, Task};
use super::store::{Record, Transaction};
use crate::error::{Error, Result};

/// How long a token is remembered.
const LIFETIME: Duration = Duration::from_secs(8 * 3600);

#[derive(Clone, PartialEq, Message)]
pub struct TokenRecord {
    #[prost(string, tag = "1")]
    operation: String,
    /// Tokens are opaque and may be long-lived secrets of a pipeline: only a digest is kept.
    #[prost(string, tag = "2")]
    token_digest: String,
    #[prost(string, tag = "3")]
    fingerprint: String,
    /// The key of the resource that the first call made or changed.
    #[prost(string, tag = "4")]
    resource: String,
    #[prost(int64, tag = "5")]
    expires_millis: i64,
}

impl Record for TokenRecord {
    const KIND: &'static str = "client-token";

    fn key(&self) -> String {
        key(&self.operation, &self.token_digest)
    }

    fn indexes(&self) -> Vec<(String, String)> {
        vec![(index_of_resource(&self.resource), String::new())]
    }
}

fn index_of_resource(key: &str) -> String {
    format!("resource/{key}")
}

fn key(operation: &str, token_digest: &str) -> String {
    format!("{operation}/{token_digest}")
}

pub(super) fn digest(parts: &[&[u8]]) -> Vec<u8> {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().to_vec()
}

/// What two equal requests have in common. The caller clears the client token and sorts tags.
pub fn fingerprint(request: &impl Message) -> String {
    hex::encode(digest(&[&request.encode_to_vec()]))
}

/// Whether a create request for a name that is taken is the original one again. API guide: if the
/// original has been modified since, it is a conflict; other parameters are a mismatch.
pub fn same_create(subject: &str, original: &str, repeated: &str, modified: bool) -> Result<()> {
    if original != repeated {
        return Err(Error::idempotency_mismatch());
    }
    if modified {
        return Err(Error::already_exists(subject));
    }
    Ok(())
}

/// The key of the resource that an earlier call with `token` made, if there was one.
pub fn replay(
    tx: &Transaction<'_>,
    cx: &Context,
    operation: &str,
    token: Option<&str>,
    fingerprint: &str,
) -> Result<Option<String>> {
    let Some(token) = token.filter(|token| !token.is_empty()) else {
        return Ok(None);
    };
    let token_digest = hex::encode(digest(&[token.as_bytes()]));
    match tx.get::<TokenRecord>(&key(operation, &token_digest))? {
        Some(record) if record.expires_millis > cx.now_millis() => {
            if record.fingerprint == fingerprint {
                Ok(Some(record.resource))
            } else {
                Err(Error::idempotency_mismatch())
            }
        }
        _ => Ok(None),
    }
}

/// Remembers what the first call with `token` made.
pub fn remember(
    tx: &Transaction<'_>,
    cx: &Context,
    operation: &str,
    token: Option<&str>,
    fingerprint: &str,
    resource: &str,
) -> Result<()> {
    let Some(token) = token.filter(|token| !token.is_empty()) else {
        return Ok(());
    };
    let lifetime = i64::try_from(LIFETIME.as_millis()).unwrap_or(i64::MAX);
    let record = TokenRecord {
        operation: operation.to_owned(),
        token_digest: hex::encode(digest(&[token.as_bytes()])),
        fingerprint: fingerprint.to_owned(),
        resource: resource.to_owned(),
        expires_millis: cx.now_millis().saturating_add(lifetime),
    };
    tx.put(&record)?;
    provision::schedule(
        tx,
        record.expires_millis,
        &format!("client-token/{}", record.key()),
        Task::ForgetToken(record.key()),
    )
}

/// Forgets the tokens of a resource that is gone: what gets its name later is another one.
pub fn forget_resource(tx: &Transaction<'_>, key: &str) -> Result<()> {
    for record in tx.list_index::<TokenRecord>(&index_of_resource(key))? {
        tx.delete::<TokenRecord>(&record.key())?;
    }
    Ok(())
}

/// Forgets a token that has expired. One that was used again since is left to its own task.
pub(super) fn forget(tx: &Transaction<'_>, cx: &Context, key: &str) -> Result<()> {
    match tx.get::<TokenRecord>(key)? {
        Some(record) if record.expires_millis <= cx.now_millis() => {
            tx.delete::<TokenRecord>(key).map(drop)
        }
        _ => Ok(()),
    }
}
