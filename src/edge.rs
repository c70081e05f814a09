//! Bytes and headers: what happens to a request before it is a call, on both doors.

pub mod admin;
pub mod aws_door;
pub mod budget;
pub mod compression;
pub mod doors;
pub mod gateway_service;
pub mod grpc_door;
pub mod health;
mod ready;
mod request_id;
pub mod status;
pub mod web;

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{CACHE_CONTROL, ORIGIN};
use http::{Extensions, HeaderMap, HeaderName};

use crate::audit::Audit;
use crate::auth::Principal;
use crate::cache::demand::Demand;
use crate::error::Error;
use crate::etag::{ALSO_EXPECTED, EXPECTED, Expected};
use crate::gateway::Door;
use crate::ledger::{IDEMPOTENCY_KEY, Key};
use crate::server::Peer;
use crate::telemetry::Trace;
use crate::upstream::UPSTREAM;

/// The header in which a caller may name its request, and in which every answer names it.
pub const REQUEST_ID: &str = "x-request-id";
static NAMED: HeaderName = HeaderName::from_static(REQUEST_ID);
static GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// How long a call may take whose caller set no deadline.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(60);
/// The largest message that is read at the gRPC door. The largest that the model allows is well
/// below.
pub const MAX_REQUEST_BYTES: usize = 1 << 20;
/// The longest request id that is taken over from a caller.
const MAX_REQUEST_ID: usize = 128;

/// What the edge knows of a request before it is read.
#[derive(Debug, Clone)]
pub struct Arrival {
    pub request_id: String,
    pub principal: Arc<Principal>,
    /// The upstream that the caller names.
    pub upstream: Option<Arc<str>>,
    /// What the caller wants of the cache.
    pub demand: Demand,
    /// By what the caller names the call.
    pub key: Key,
    /// Which state of what it changes the caller has seen.
    pub expected: Expected,
    /// Who is at the other end of the connection.
    pub peer: Arc<Peer>,
    /// What it is part of, as far as that is known.
    pub trace: Trace,
    pub deadline: Instant,
    /// When the caller stops waiting or reading; absent where it set no deadline.
    pub stream_deadline: Option<Instant>,
}

impl Default for Arrival {
    fn default() -> Self {
        Self::of(&HeaderMap::new(), &Extensions::new())
    }
}

impl Arrival {
    pub fn of(headers: &HeaderMap, extensions: &Extensions) -> Self {
        let request_id = headers
            .get(&NAMED)
            .and_then(|id| id.to_str().ok())
            .filter(|id| (1..=MAX_REQUEST_ID).contains(&id.len()))
            .filter(|id| id.bytes().all(|byte| byte.is_ascii_graphic()))
            .map_or_else(request_id::new, str::to_owned);
        let wait = headers
            .get(&GRPC_TIMEOUT)
            .and_then(|value| value.to_str().ok())
            .and_then(grpc_timeout);
        let now = Instant::now();
        let (mut upstream, mut demand) = (None, Demand::default());
        let (mut key, mut expected) = (Key::Absent, Expected::Any);
        if headers.keys().any(is_wish) {
            upstream = headers
                .get(UPSTREAM)
                .map(|name| Arc::from(String::from_utf8_lossy(name.as_bytes())));
            demand = Demand::of(headers);
            key = Key::of(headers);
            expected = Expected::of(headers);
        }
        Self {
            request_id,
            principal: Principal::anonymous(),
            upstream,
            demand,
            key,
            expected,
            peer: extensions.get().cloned().unwrap_or_default(),
            trace: Trace::default(),
            deadline: now + wait.unwrap_or(DEFAULT_DEADLINE).min(DEFAULT_DEADLINE),
            stream_deadline: wait.and_then(|wait| now.checked_add(wait)),
        }
    }

    /// Lets the call last as long as its caller asked for, but no longer than `longest`.
    pub fn last(&mut self, longest: Duration) {
        if let Some(asked) = self.stream_deadline {
            let latest = Instant::now().checked_add(longest).unwrap_or(asked);
            self.deadline = self.deadline.max(asked.min(latest));
        }
    }
}

/// What only browsers send.
static SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether a browser has sent a request: any page can make it do so, with the user's certificate or
/// from the user's own machine.
fn is_of_browser(headers: &HeaderMap) -> bool {
    headers.contains_key(ORIGIN) || headers.contains_key(&SEC_FETCH_SITE)
}

/// Whether the header of this name says how a call is to be made. Few requests have one: one look for all of
/// them costs less than one for each.
fn is_wish(name: &HeaderName) -> bool {
    let names = [
        UPSTREAM,
        CACHE_CONTROL.as_str(),
        IDEMPOTENCY_KEY,
        EXPECTED,
        ALSO_EXPECTED,
    ];
    names.contains(&name.as_str())
}

/// Puts down that a request was refused whose caller is not known: it never becomes a call.
fn refused(
    error: Error,
    door: Door,
    rpc: Option<&str>,
    arrival: &Arrival,
    audit: Option<&Audit>,
) -> Error {
    let request_id = &arrival.request_id;
    let peer = arrival.peer.address.map(|address| address.to_string());
    let outcome = status::meaning(&error.kind).reason;
    tracing::info!(door = door.name(), request_id, peer, outcome, cause = %error, "refused");
    if let Some(audit) = audit {
        audit.unauthenticated(door, &arrival.peer, request_id, rpc);
    }
    error
}

/// What a caller is told whose request has met a defect. The panic itself says where it was.
fn panicked(door: Door, request_id: &str) -> Error {
    tracing::error!(door = door.name(), request_id, "a call panicked");
    Error::internal(
        "the call met a defect of the gateway; whether it has changed something is not known",
    )
}

/// Reads the header `grpc-timeout`: at most eight digits and a unit (gRPC over HTTP/2).
fn grpc_timeout(value: &str) -> Option<Duration> {
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grpc_timeout_is_read_as_the_protocol_writes_it() {
        assert_eq!(grpc_timeout("250m"), Some(Duration::from_millis(250)));
        assert_eq!(
            grpc_timeout("99999999H"),
            Some(Duration::from_secs(99_999_999 * 3600))
        );
        for wrong in ["", "S", "5", "1x", "123456789S", "-1S", "½S"] {
            assert_eq!(grpc_timeout(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_mutation_may_last_longer_than_others_if_its_caller_asked_for_it() {
        let arrival = |timeout: Option<&str>| {
            let mut headers = HeaderMap::new();
            if let Some(timeout) = timeout {
                headers.insert("grpc-timeout", timeout.parse().unwrap());
            }
            Arrival::of(&headers, &Extensions::new())
        };
        let lasting = |timeout| {
            let short = arrival(timeout);
            let mut long = short.clone();
            long.last(Duration::from_secs(300));
            (short.deadline, long.deadline, long.stream_deadline)
        };
        let (short, long, asked) = lasting(Some("2M"));
        assert!(short < long && Some(long) == asked);
        let (short, long, asked) = lasting(Some("1H"));
        assert!(short < long && Some(long) < asked);
        for timeout in [Some("5S"), None] {
            let (short, long, _) = lasting(timeout);
            assert_eq!(short, long);
        }
    }

    #[test]
    fn a_request_id_is_taken_over_only_if_it_is_short_and_printable() {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID, "build-42".parse().unwrap());
        assert_eq!(
            Arrival::of(&headers, &Extensions::new()).request_id,
            "build-42"
        );
        headers.insert(REQUEST_ID, "two words".parse().unwrap());
        assert_ne!(
            Arrival::of(&headers, &Extensions::new()).request_id,
            "two words"
        );
        headers.insert(REQUEST_ID, "x".repeat(129).parse().unwrap());
        assert!(Arrival::of(&headers, &Extensions::new()).request_id.len() < 129);
    }
}
