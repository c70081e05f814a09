//! The order of the layers, pinned by what only this order can show.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tower::ServiceExt;

use super::*;
use crate::api::{Request, Response, pb};
use crate::audit::Audit;
use crate::auth::Principal;
use crate::auth::policy::Authorizer;
use crate::clock::SystemClock;
use crate::config::audit::AuditConfig;
use crate::error::ErrorKind;
use crate::gateway::Door;
use crate::limits::Limiter;

fn call(name: &str, deadline: Instant) -> Call {
    let request = Request::GetEnvironment(pb::GetEnvironmentRequest {
        name: name.to_owned(),
    });
    Call {
        operation: request.operation(),
        request,
        door: Door::Grpc,
        principal: Principal::anonymous(),
        upstream: None,
        demand: Default::default(),
        key: Default::default(),
        once: None,
        held: None,
        expected: Default::default(),
        identity: None,
        decision: Default::default(),
        trace: Default::default(),
        attempt: 1,
        peer: Arc::default(),
        request_id: "test".to_owned(),
        deadline,
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

/// A backend that answers everything with an empty environment.
fn pipeline(metrics: Metrics) -> Pipeline {
    let backend = tower::service_fn(|_: Call| async {
        Ok(Reply::new(Response::GetEnvironment(
            pb::GetEnvironmentResponse::default(),
        )))
    });
    build(backend, metrics, &Guards::default())
}

#[tokio::test]
async fn a_valid_call_reaches_the_backend_and_is_counted() {
    let metrics = Metrics::new().unwrap();
    let reply = pipeline(metrics.clone())
        .oneshot(call("prod", soon()))
        .await;
    assert!(reply.is_ok());
    let page = metrics.page().unwrap();
    assert!(
        page.contains(
            r#"proton_gateway_calls_total{door="grpc",operation="GetEnvironment",outcome="OK"} 1"#
        ),
        "{page}"
    );
}

#[tokio::test]
async fn a_forbidden_request_stops_before_the_backend_and_is_counted() {
    let metrics = Metrics::new().unwrap();
    let error = pipeline(metrics.clone())
        .oneshot(call("no spaces!", soon()))
        .await
        .unwrap_err();
    assert!(matches!(*error.kind, ErrorKind::Invalid { .. }), "{error}");
    assert!(
        metrics
            .page()
            .unwrap()
            .contains(r#"outcome="INVALID_REQUEST"} 1"#)
    );
}

#[tokio::test]
async fn a_passed_deadline_comes_before_validation() {
    let error = pipeline(Metrics::new().unwrap())
        .oneshot(call("no spaces!", Instant::now()))
        .await
        .unwrap_err();
    assert_eq!(*error.kind, ErrorKind::DeadlineExceeded);
}

/// A caller that policies permit nothing.
fn nobody() -> Arc<Principal> {
    Arc::new(Principal {
        id: "nobody".to_owned(),
        method: crate::auth::Method::Token,
        ..(*Principal::anonymous()).clone()
    })
}

#[tokio::test]
async fn permission_comes_after_the_deadline_and_before_validation() {
    let guards = Guards {
        authorizer: Some(Authorizer::open(&Default::default()).unwrap()),
        ..Guards::default()
    };
    let backend = tower::service_fn(|_: Call| std::future::pending::<Result<Reply, Error>>());
    let pipeline = build(backend, Metrics::new().unwrap(), &guards);
    for (deadline, reason) in [
        (soon(), "DENIED_BY_GATEWAY"),
        (Instant::now(), "DEADLINE_EXCEEDED"),
    ] {
        let mut refused = call("no spaces!", deadline);
        refused.principal = nobody();
        let error = pipeline.clone().oneshot(refused).await.unwrap_err();
        assert_eq!(crate::edge::status::meaning(&error.kind).reason, reason);
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_backend_ends_at_the_deadline() {
    let backend = tower::service_fn(|_: Call| std::future::pending::<Result<Reply, Error>>());
    let error = build(backend, Metrics::new().unwrap(), &Guards::default())
        .oneshot(call("prod", soon()))
        .await
        .unwrap_err();
    assert_eq!(*error.kind, ErrorKind::DeadlineExceeded);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_cut_off_is_safe_to_repeat_only_if_it_has_a_token() {
    for (token, safe) in [(None, false), (Some(""), false), (Some("a-token"), true)] {
        let request = Request::CreateServiceInstance(pb::CreateServiceInstanceRequest {
            name: "blue".to_owned(),
            service_name: "shop".to_owned(),
            spec: "spec".to_owned(),
            client_token: token.map(str::to_owned),
            ..pb::CreateServiceInstanceRequest::default()
        });
        assert_eq!(request.repeatable(), safe, "{token:?}");
        let backend = tower::service_fn(|_: Call| std::future::pending::<Result<Reply, Error>>());
        let minute = Duration::from_secs(60);
        let deadline = tokio::time::Instant::now() + minute;
        let mut cut_off = call("prod", deadline.into_std());
        cut_off.operation = request.operation();
        cut_off.request = request;
        let error = tower::Layer::layer(&deadline::DeadlineLayer, backend)
            .oneshot(cut_off)
            .await
            .unwrap_err();
        assert_eq!(error.message.contains("safely"), safe, "{error}");
    }
}

#[tokio::test]
async fn a_throttled_mutation_is_on_the_record_and_a_forbidden_request_uses_up_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.log");
    let metrics = Metrics::new().unwrap();
    let audit = AuditConfig {
        file: Some(file.clone()),
        ..AuditConfig::default()
    };
    let limits = toml::from_str("write = { rate = \"1/h\", burst = 1 }").unwrap();
    let limited = Guards {
        limiter: Limiter::new(&limits, metrics.clone()),
        ..Guards::default()
    };
    let guards = Guards {
        audit: Some(Audit::open(&audit, Arc::new(SystemClock), metrics.clone()).unwrap()),
        ..limited
    };
    let backend = tower::service_fn(|_: Call| std::future::pending::<Result<Reply, Error>>());
    let pipeline = build(backend, metrics, &guards);
    for _ in 0..2 {
        let request = Request::DeleteService(pb::DeleteServiceRequest {
            name: "no spaces!".to_owned(),
        });
        let mut deletion = call("prod", soon());
        deletion.operation = request.operation();
        deletion.request = request;
        drop(pipeline.clone().oneshot(deletion).await);
    }
    guards.audit.unwrap().flush().await;
    let text = std::fs::read_to_string(file).unwrap();
    let outcomes: Vec<_> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["outcome"].clone())
        .collect();
    assert_eq!(outcomes, ["INVALID_REQUEST", "THROTTLED_BY_GATEWAY"]);
}
