//! One answer that is kept: how long, and what it weighs.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use serde_json::Value;
use tokio::time::Instant;

use super::demand::Served;
use super::{Found, Key, Read};
use crate::api::{Cache as Class, Framed};
use crate::config::cache::CacheConfig;
use crate::error::Result;
use crate::etag::Etag;
use crate::gateway::Reply;

/// What an entry takes besides its answer.
const OVERHEAD: usize = 512;

pub struct Entry {
    /// Which state of its resource the answer shows.
    etag: Option<Etag>,
    /// The same, as it is sent.
    header: Option<HeaderValue>,
    /// Absent where a read saw what is not kept: what began before it is not kept either.
    pub outcome: Option<Result<Framed>>,
    pub mark: u64,
    /// When its read began: the answer is no older.
    pub began: Instant,
    pub until: Instant,
    /// Until then it may still be given where nothing better can be.
    spare_until: Instant,
    /// In bytes, about.
    pub weight: u32,
}

impl Entry {
    /// What is kept of a read; absent where it says nothing of what it read.
    pub fn of(read: &Read, outcome: &Result<Reply>, config: &CacheConfig) -> Option<Self> {
        let mut grace = config.stale_if_error.0.max(config.stale_while_revalidate.0);
        let etag = outcome.as_ref().ok().and_then(|reply| reply.etag);
        let (outcome, span, size) = match outcome {
            Ok(reply) => {
                let json = reply.response.to_json();
                let span = match under_way(&json) {
                    true => {
                        // It surely is another one by then.
                        grace = Duration::ZERO;
                        config.transitional_ttl.0.min(settled(read, config))
                    }
                    false => settled(read, config),
                };
                let frame = reply.response.framed();
                let size = frame.bytes().len();
                (Ok(frame), span, size)
            }
            Err(error) if error.is_not_found() => {
                let mut error = error.clone();
                if let Some(upstream) = &mut error.upstream {
                    // That of another request.
                    upstream.request_id = None;
                }
                // The message holds the name that the kind holds as well.
                let size = 2 * error.message.len();
                (Err(error), config.negative_ttl.0, size)
            }
            Err(_) => return None,
        };
        let (outcome, span, size) = match span.is_zero() {
            true => (None, longest(read, config), 0),
            false => (Some(outcome), jittered(span), size),
        };
        let weight = OVERHEAD + read.key.request.len() + size;
        Some(Self {
            etag,
            header: etag.and_then(Etag::to_header),
            outcome,
            mark: read.mark,
            began: read.began,
            until: read.began + span,
            spare_until: read.began + span + grace,
            weight: u32::try_from(weight).unwrap_or(u32::MAX),
        })
    }
}

impl Entry {
    /// What is found where `outcome` is that of this entry.
    pub fn found(&self, outcome: Result<Framed>, served: Served) -> Found {
        Found {
            outcome,
            served,
            etag: self.etag,
            header: self.header.clone(),
        }
    }

    /// Whether it may be given at `now` although it is past its time by so much.
    pub fn is_spare(&self, now: Instant, by: Duration) -> bool {
        now < (self.until + by).min(self.spare_until)
    }
}

/// How long an answer is kept about what is settled.
fn settled(read: &Read, config: &CacheConfig) -> Duration {
    match read.operation.policy().cache {
        Class::None => Duration::ZERO,
        Class::State => config.state_ttl.0,
        Class::Definition => config.definition_ttl.0,
    }
}

/// After this no answer to the same request is kept any more.
fn longest(read: &Read, config: &CacheConfig) -> Duration {
    let spans = [settled(read, config), config.negative_ttl.0];
    spans.into_iter().max().unwrap_or_default().mul_f64(1.1)
}

/// Whether some status in the answer says that it will change by itself.
pub fn under_way(answer: &Value) -> bool {
    match answer {
        Value::Array(items) => items.iter().any(under_way),
        Value::Object(fields) => fields.iter().any(|(name, value)| match value {
            Value::String(status) => {
                let passing = ["CANCELLING", "INITIATED", "QUEUED"];
                name.to_ascii_lowercase().ends_with("status")
                    && (status.ends_with("IN_PROGRESS") || passing.contains(&status.as_str()))
            }
            other => under_way(other),
        }),
        _ => false,
    }
}

/// Give or take a tenth: what was read together is not read again together.
fn jittered(span: Duration) -> Duration {
    let mut random = [0; 4];
    // Without randomness it is.
    let _ = getrandom::fill(&mut random);
    let part = f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX);
    span.mul_f64(0.9 + 0.2 * part)
}

/// Tells when the room of an entry can be given away.
pub struct Lifetime;

impl moka::Expiry<Key, Arc<Entry>> for Lifetime {
    fn expire_after_create(
        &self,
        _: &Key,
        entry: &Arc<Entry>,
        _: std::time::Instant,
    ) -> Option<Duration> {
        Some(entry.spare_until.saturating_duration_since(Instant::now()))
    }

    fn expire_after_update(
        &self,
        key: &Key,
        entry: &Arc<Entry>,
        at: std::time::Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        self.expire_after_create(key, entry, at)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_changes_by_itself_is_known_by_any_status_in_the_answer() {
        for answer in [
            json!({"environment": {"deploymentStatus": "IN_PROGRESS"}}),
            json!({"services": [{"status": "ACTIVE"}, {"status": "DELETE_IN_PROGRESS"}]}),
            json!({"deployment": {"deploymentStatus": "CANCELLING"}}),
        ] {
            assert!(under_way(&answer), "{answer}");
        }
        for answer in [
            json!({"environment": {"deploymentStatus": "SUCCEEDED"}}),
            json!({"environment": {"name": "IN_PROGRESS"}}),
            json!({"template": {"status": "DRAFT"}}),
        ] {
            assert!(!under_way(&answer), "{answer}");
        }
    }

    #[test]
    fn spans_differ_by_a_tenth_at_most() {
        let span = Duration::from_secs(100);
        let spans: Vec<_> = (0..100).map(|_| jittered(span)).collect();
        let near = Duration::from_secs(90)..=Duration::from_secs(110);
        assert!(spans.iter().all(|span| near.contains(span)));
        assert!(spans.iter().any(|other| *other != spans[0]));
    }
}
