//! What one record says.

use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::api::rules::camel_case;
use crate::auth::policy::resource::Resource;
use crate::edge::Arrival;
use crate::edge::status;
use crate::gateway::{Call, Door};
use crate::server::Peer;

/// The longest request that is put down as it is.
const MAX_REQUEST_BYTES: usize = 16 << 10;

/// The longest name of an upstream, which a caller may make up.
const MAX_NAME_BYTES: usize = 200;

/// What a record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Mutation,
    Denial,
    /// No call.
    Event,
}

/// One line of the audit.
#[derive(Debug, Serialize)]
pub struct Record {
    time: String,
    kind: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    phase: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_request_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    principal: Option<String>,
    /// How the principal proved who it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    door: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rpc: Option<String>,
    /// The upstream that the caller named.
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<String>,
    /// The kind of resource, and its names, outermost first.
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'static str>,
    /// It is the outcome of an earlier call with the same idempotency key; nothing was changed now.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub replayed: bool,
    /// Ids of the policies that decided, where they are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policies: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    micros: Option<u64>,
    /// How many records before this one could not be written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<u64>,
}

impl Record {
    fn new(now: SystemTime, kind: Kind) -> Self {
        Self {
            time: humantime::format_rfc3339_millis(now).to_string(),
            kind,
            phase: None,
            event: None,
            details: None,
            request_id: None,
            upstream_request_id: None,
            principal: None,
            method: None,
            peer: None,
            door: None,
            rpc: None,
            upstream: None,
            resource: None,
            request: None,
            outcome: None,
            replayed: false,
            policies: None,
            micros: None,
            lost: None,
        }
    }

    pub fn of(call: &Call, now: SystemTime) -> Self {
        let request = call.request.redacted();
        let policy = call.operation.policy();
        // Names are never sensitive, so that they are in the redacted request.
        let names: Map<String, Value> = policy
            .named_by
            .iter()
            .map(|field| camel_case(field))
            .filter_map(|field| Some((field.clone(), request.get(&field)?.clone())))
            .collect();
        Self {
            request_id: Some(call.request_id.clone()),
            principal: Some(call.principal.id.clone()),
            method: Some(call.principal.method.name()),
            peer: address(&call.peer),
            door: Some(call.door.name()),
            rpc: Some(call.operation.name().to_owned()),
            upstream: call
                .upstream
                .as_deref()
                .map(|name| status::cut(name, MAX_NAME_BYTES).into_owned()),
            resource: Some(json!({ "kind": kind(call), "names": names })),
            request: Some(bounded(request)),
            ..Self::new(now, Kind::Mutation)
        }
    }

    pub fn unauthenticated(
        now: SystemTime,
        door: Door,
        peer: &Peer,
        request_id: &str,
        rpc: Option<&str>,
    ) -> Self {
        Self {
            request_id: Some(request_id.to_owned()),
            peer: address(peer),
            door: Some(door.name()),
            rpc: rpc.map(str::to_owned),
            outcome: Some("UNAUTHENTICATED"),
            ..Self::new(now, Kind::Denial)
        }
    }

    pub fn event(now: SystemTime, event: &'static str, details: Value) -> Self {
        Self {
            event: Some(event),
            details: Some(bounded(details)),
            ..Self::new(now, Kind::Event)
        }
    }

    /// The call was of this rpc, and only asks what the operation does.
    pub fn of_rpc(mut self, rpc: &str) -> Self {
        self.rpc = Some(rpc.to_owned());
        self
    }

    /// A caller was denied an rpc that asks for nothing of a backend.
    pub fn consultation(now: SystemTime, rpc: &str, arrival: &Arrival) -> Self {
        Self {
            request_id: Some(arrival.request_id.clone()),
            principal: Some(arrival.principal.id.clone()),
            method: Some(arrival.principal.method.name()),
            peer: address(&arrival.peer),
            door: Some(Door::Grpc.name()),
            rpc: Some(rpc.to_owned()),
            ..Self::new(now, Kind::Denial)
        }
    }

    pub fn is_denial(&self) -> bool {
        self.kind == Kind::Denial
    }

    pub fn begun(mut self) -> Self {
        self.phase = Some("begun");
        self
    }

    pub fn ended(
        mut self,
        kind: Kind,
        outcome: &'static str,
        upstream_request_id: Option<&str>,
    ) -> Self {
        self.kind = kind;
        if kind == Kind::Denial {
            // What was asked for is named; whoever is denied cannot fill the disk with the rest.
            self.request = None;
        }
        self.phase = Some("ended");
        self.outcome = Some(outcome);
        self.upstream_request_id = upstream_request_id.map(str::to_owned);
        self
    }

    pub fn after(mut self, elapsed: Duration) -> Self {
        self.micros = u64::try_from(elapsed.as_micros()).ok();
        self
    }
}

/// An ARN says by itself of which kind it is.
fn kind(call: &Call) -> &'static str {
    let policy = call.operation.policy();
    let arn = matches!(policy.named_by, [field] if field.ends_with("_arn"));
    let named = arn.then(|| Resource::of(&call.request).ok()).flatten();
    named.map_or(policy.resource, |resource| resource.kind)
}

fn address(peer: &Peer) -> Option<String> {
    peer.address.map(|address| address.to_string())
}

/// The value, or how large it was.
fn bounded(value: Value) -> Value {
    let bytes = value.to_string().len();
    if bytes <= MAX_REQUEST_BYTES {
        return value;
    }
    json!({ "omittedBytes": bytes })
}
