//! The service config of the contract: what a gRPC client may retry by itself, and until when.
//!
//! A client that is given it repeats what fails on its way to the gateway, or while the gateway is
//! restarted, as the gateway repeats what fails behind it ([`crate::retries`]). The client repeats
//! the same message without knowing what came of the first. So a call with a client token, which
//! the message may lack, and one whose repeat acts twice have no entry: they are repeated with an
//! idempotency key, by whoever chooses the key.

use prost::Message;
use prost_types::FileDescriptorSet;
use prost_types::method_options::IdempotencyLevel;
use serde_json::json;

use crate::api::{DESCRIPTORS, Idempotency, Operation};

/// Services of these packages are ours.
const PACKAGES: &str = "proton.";
/// How long a unary read may last, its repeats included: as long as the gateway gives a call
/// without a deadline.
const READ_TIMEOUT: &str = "60s";

/// What a client does by itself, in the order of the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Treatment {
    /// A unary read: it waits for a connection, is retried, and ends.
    Read,
    /// A stream that changes nothing: retried until its first message, and as long as it is.
    Stream,
    /// A change whose repeat is harmless: retried. Its caller says how long it may last, since it
    /// may stand in line for a deployment.
    Change,
}

const TREATMENTS: [Treatment; 3] = [Treatment::Read, Treatment::Stream, Treatment::Change];

impl Treatment {
    /// Its settings, as JSON members.
    fn members(self) -> Vec<String> {
        let retry = json!({
            "maxAttempts": 4,
            "initialBackoff": "0.2s",
            "maxBackoff": "5s",
            "backoffMultiplier": 2,
            // The gateway says of each when to come again, or that it is not worth it, in the
            // trailer `grpc-retry-pushback-ms`.
            "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
        });
        let retry = format!("\"retryPolicy\": {retry}");
        match self {
            // Waiting for a connection needs an end.
            Self::Read => vec![
                format!("\"timeout\": {}", json!(READ_TIMEOUT)),
                "\"waitForReady\": true".to_owned(),
                retry,
            ],
            Self::Stream | Self::Change => vec![retry],
        }
    }
}

/// What is said of one method.
struct Method {
    service: String,
    name: String,
    treatment: Option<Treatment>,
}

impl Method {
    fn all() -> Result<Vec<Self>, String> {
        let set = FileDescriptorSet::decode(DESCRIPTORS)
            .map_err(|error| format!("the contract in this program is broken: {error}"))?;
        let mut methods = Vec::new();
        for file in &set.file {
            if !file.package().starts_with(PACKAGES) {
                continue;
            }
            for service in &file.service {
                for method in &service.method {
                    let level = method.options.as_ref().map(|o| o.idempotency_level());
                    methods.push(Self {
                        service: format!("{}.{}", file.package(), service.name()),
                        name: method.name().to_owned(),
                        treatment: treatment(
                            method.name(),
                            level.unwrap_or_default(),
                            method.server_streaming(),
                        ),
                    });
                }
            }
        }
        Ok(methods)
    }
}

fn treatment(method: &str, level: IdempotencyLevel, streams: bool) -> Option<Treatment> {
    let class = Operation::from_name(method).map(|operation| operation.policy().idempotency);
    match (class, level) {
        // Idempotent for the contract, as long as the message has a token.
        (Some(Idempotency::ClientToken), _) | (_, IdempotencyLevel::IdempotencyUnknown) => None,
        (_, IdempotencyLevel::NoSideEffects) if streams => Some(Treatment::Stream),
        (_, IdempotencyLevel::NoSideEffects) => Some(Treatment::Read),
        (_, IdempotencyLevel::Idempotent) => Some(Treatment::Change),
    }
}

/// The names of those methods that are treated like this. A service all of whose methods are is
/// named as a whole.
fn names(methods: &[Method], wanted: Treatment) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for method in methods.iter().filter(|m| m.treatment == Some(wanted)) {
        let service = json!(method.service);
        let whole = methods
            .iter()
            .filter(|other| other.service == method.service)
            .all(|other| other.treatment == Some(wanted));
        let name = if whole {
            format!("{{\"service\": {service}}}")
        } else {
            format!(
                "{{\"service\": {service}, \"method\": {}}}",
                json!(method.name)
            )
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The service config, one name a line.
pub fn text() -> Result<String, String> {
    let methods = Method::all()?;
    let configs: Vec<_> = TREATMENTS
        .iter()
        .map(|treatment| {
            let names = names(&methods, *treatment).join(",\n        ");
            let members = treatment.members().join(",\n      ");
            format!("    {{\n      \"name\": [\n        {names}\n      ],\n      {members}\n    }}")
        })
        .collect();
    // When half of this is used up, a client stops to repeat, until enough calls have succeeded.
    let throttling = json!({"maxTokens": 100, "tokenRatio": 0.2});
    Ok(format!(
        "{{\n  \"methodConfig\": [\n{}\n  ],\n  \"retryThrottling\": {throttling}\n}}\n",
        configs.join(",\n")
    ))
}
