//! What callers see of both doors: statuses, exceptions, headers and details, over a backend that
//! answers as the test says.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod audit;
mod authentication;
mod aws;
mod compression;
mod grpc;
mod hoarding;
mod idempotency;
mod identity;
mod limits;
mod metrics;
mod redaction;
mod retries;
mod upstream;
mod versions;
mod web;

use std::sync::Arc;
use std::time::Duration;

use proton_gateway::admission::Guards;
use proton_gateway::api::{Response, pb};
use proton_gateway::changes::Changes;
use proton_gateway::edge::budget::Budget;
use proton_gateway::error::{ConflictReason, Error, ErrorKind, InvalidReason, Origin, Violation};
use proton_gateway::gateway::{Call, Gateway, Reply};
use proton_gateway::pipeline;
use proton_gateway::server::Shutdown;
use proton_gateway::telemetry::Metrics;
use proton_gateway::waits::{Key, Settings, Waits};

/// A gateway whose backend gives every call the same outcome.
fn gateway_with(outcome: Result<Response, Error>) -> Gateway {
    gateway_within(outcome, Budget::default())
}

/// The same, with room for so many requests.
fn gateway_within(outcome: Result<Response, Error>, budget: Budget) -> Gateway {
    let outcome = Arc::new(outcome);
    let backend = tower::service_fn(move |_: Call| {
        let outcome = Arc::clone(&outcome);
        async move { (*outcome).clone().map(Reply::new) }
    });
    Gateway::within(
        pipeline::build(backend, Metrics::new().unwrap(), &Guards::default()),
        budget,
    )
}

/// A gateway whose backend has a defect.
fn defective() -> Gateway {
    let backend = tower::service_fn(|call: Call| async move {
        assert!(call.request_id.is_empty(), "a defect");
        Err(Error::internal("it has no id"))
    });
    Gateway::new(pipeline::build(
        backend,
        Metrics::new().unwrap(),
        &Guards::default(),
    ))
}

fn waits(gateway: Gateway) -> Waits {
    let (stop, shutdown) = Shutdown::channel();
    // Nothing is stopped in these tests.
    std::mem::forget(stop);
    let settings = Settings::with_key(Key::random().unwrap());
    Waits::new(gateway, Changes::default(), settings, shutdown)
}

fn environment() -> Response {
    Response::GetEnvironment(pb::GetEnvironmentResponse {
        environment: Some(pb::Environment {
            name: Some("prod".to_owned()),
            deployment_status: pb::DeploymentStatus::Succeeded.into(),
            ..pb::Environment::default()
        }),
    })
}

/// The version of a resource that has been changed.
const CURRENT: &str = "AAECAwQFBgcICQoLDA0ODw";

/// One error of each cause.
fn causes() -> Vec<Error> {
    let invalid = |reason| ErrorKind::Invalid {
        reason,
        violations: vec![Violation::new("name", "is wrong")],
    };
    let conflict = |reason| ErrorKind::Conflict {
        reason,
        subject: "environment/prod".to_owned(),
    };
    let retry_after = Duration::from_millis(1500);
    let throttled = |origin| ErrorKind::Throttled {
        origin,
        limit: "caller/read",
        retry_after,
    };
    [
        invalid(InvalidReason::InvalidRequest),
        invalid(InvalidReason::IdempotencyMismatch),
        invalid(InvalidReason::Unreadable),
        ErrorKind::NotFound {
            resource: "environment".to_owned(),
            name: "prod".to_owned(),
        },
        conflict(ConflictReason::InProgress),
        conflict(ConflictReason::AlreadyExists),
        conflict(ConflictReason::Precondition),
        conflict(ConflictReason::Stale {
            current: Some(CURRENT.parse().unwrap()),
        }),
        ErrorKind::AccessDenied {
            origin: Origin::Gateway,
        },
        ErrorKind::AccessDenied {
            origin: Origin::Upstream,
        },
        throttled(Origin::Gateway),
        throttled(Origin::Upstream),
        ErrorKind::QuotaExceeded {
            quota: "services".to_owned(),
            limit: 1000,
        },
        ErrorKind::Unavailable { retry_after },
        ErrorKind::OutcomeUnknown,
        ErrorKind::DeadlineExceeded,
        ErrorKind::UnknownOperation,
        ErrorKind::Internal,
    ]
    .into_iter()
    .map(|kind| Error::new(kind, "what happened"))
    .collect()
}
