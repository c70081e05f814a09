//! Versions of resources at both doors.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use proton_gateway::admission::Guards;
use proton_gateway::api::{self, Response as Answer, own, pb};
use proton_gateway::edge::aws_door::AwsDoor;
use proton_gateway::edge::grpc_door;
use proton_gateway::edge::health::Health;
use proton_gateway::error::Error;
use proton_gateway::etag::Etag;
use proton_gateway::gateway::{Call, Gateway, Reply};
use proton_gateway::pipeline;
use proton_gateway::telemetry::Metrics;
use serde_json::Value;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use tower::ServiceExt;

use super::{CURRENT, environment, waits};

type Door = grpc_door::Edge<tonic::service::Routes>;
type Proton = pb::proton_service_client::ProtonServiceClient<Door>;

/// A gateway over one environment, and how often that was updated.
fn gateway() -> (Gateway, Arc<AtomicUsize>) {
    let updates = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&updates);
    let backend = tower::service_fn(move |call: Call| {
        let response = match call.request {
            api::Request::UpdateEnvironment(_) => {
                counted.fetch_add(1, Ordering::SeqCst);
                Answer::of_subject(call.operation, environment()).unwrap()
            }
            _ => environment(),
        };
        async move { Ok::<_, Error>(Reply::new(response)) }
    });
    let metrics = Metrics::new().unwrap();
    let pipeline = pipeline::build(backend, metrics, &Guards::default());
    (Gateway::new(pipeline), updates)
}

fn door(gateway: Gateway) -> Door {
    let waits = waits(gateway.clone());
    grpc_door::routes(gateway, waits, Health::default()).unwrap()
}

fn current() -> Etag {
    Etag::of(&environment()).unwrap()
}

fn get() -> pb::GetEnvironmentRequest {
    pb::GetEnvironmentRequest {
        name: "prod".to_owned(),
    }
}

fn update() -> pb::UpdateEnvironmentRequest {
    pb::UpdateEnvironmentRequest {
        name: "prod".to_owned(),
        deployment_type: pb::DeploymentUpdateType::None.into(),
        ..Default::default()
    }
}

fn with<T>(request: T, metadata: &[(&'static str, &str)]) -> tonic::Request<T> {
    let mut request = tonic::Request::new(request);
    for (name, value) in metadata {
        request.metadata_mut().append(*name, value.parse().unwrap());
    }
    request
}

#[tokio::test]
async fn the_grpc_door_gives_reads_and_updates_the_version_that_they_show() {
    let mut client = Proton::new(door(gateway().0));
    let read = client.get_environment(get()).await.unwrap();
    assert_eq!(
        read.metadata().get("etag").unwrap(),
        &*current().to_string()
    );
    let updated = client.update_environment(update()).await.unwrap();
    assert_eq!(updated.metadata().get("etag"), read.metadata().get("etag"));
}

#[tokio::test]
async fn an_update_is_applied_with_the_version_that_was_read_and_with_no_other() {
    let (gateway, updates) = gateway();
    let mut client = Proton::new(door(gateway));
    for name in ["expected-version", "expected_version"] {
        let request = with(update(), &[(name, &current().to_string())]);
        client.update_environment(request).await.unwrap();
    }
    assert_eq!(updates.load(Ordering::SeqCst), 2);
    let request = with(update(), &[("expected-version", CURRENT)]);
    let status = client.update_environment(request).await.unwrap_err();
    assert_eq!(updates.load(Ordering::SeqCst), 2);
    assert_eq!(status.code(), Code::Aborted);
    let details = status.get_error_details();
    let info = details.error_info().unwrap();
    assert_eq!(info.reason, "VERSION_MISMATCH");
    assert_eq!(info.metadata["etag"], current().to_string());
    let violations = &details.precondition_failure().unwrap().violations;
    assert_eq!(violations[0].subject, "environment/prod");
    assert!(details.retry_info().is_none());
}

#[track_caller]
fn names_the_metadata(status: &Status, problem: &str) {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let details = status.get_error_details();
    let violation = &details.bad_request().unwrap().field_violations[0];
    assert_eq!(violation.field, "expected-version");
    assert!(violation.description.contains(problem), "{violation:?}");
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused_by_the_name_of_the_metadata() {
    let (gateway, updates) = gateway();
    let mut client = Proton::new(door(gateway));
    for (metadata, problem) in [
        (&[("expected-version", "7")][..], "22 characters"),
        (&[("expected-version", "")], "22 characters"),
        (
            &[("expected-version", CURRENT), ("expected_version", CURRENT)],
            "more than once",
        ),
    ] {
        let refused = client.update_environment(with(update(), metadata)).await;
        names_the_metadata(&refused.unwrap_err(), problem);
    }
    assert_eq!(updates.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn rpcs_that_are_held_to_no_version_do_not_take_one() {
    let door = door(gateway().0);
    let version = &[("expected-version", CURRENT)];
    let none = "takes none";
    let read = Proton::new(door.clone())
        .get_environment(with(get(), version))
        .await;
    names_the_metadata(&read.unwrap_err(), none);
    let wait = pb::wait_service_client::WaitServiceClient::new(door.clone())
        .wait_environment_deployed(with(
            pb::WaitEnvironmentDeployedRequest {
                name: "prod".to_owned(),
                ..Default::default()
            },
            version,
        ))
        .await;
    names_the_metadata(&wait.err().unwrap(), none);
    let pages = pb::paginator_service_client::PaginatorServiceClient::new(door.clone())
        .page_environments(with(pb::PageEnvironmentsRequest::default(), version))
        .await;
    names_the_metadata(&pages.err().unwrap(), none);
    let deploy = own::gateway_service_client::GatewayServiceClient::new(door)
        .deploy_environment(with(
            own::DeployEnvironmentRequest {
                environment: Some(pb::CreateEnvironmentRequest {
                    name: "prod".to_owned(),
                    ..Default::default()
                }),
                ..Default::default()
            },
            version,
        ))
        .await;
    names_the_metadata(&deploy.err().unwrap(), none);
}

async fn asked(operation: &str, body: &str, expected: Option<&str>) -> (Response<()>, Value) {
    let mut request = Request::post("/")
        .header("content-type", "application/x-amz-json-1.0")
        .header("x-amz-target", format!("AwsProton20200720.{operation}"));
    if let Some(expected) = expected {
        request = request.header("expected-version", expected);
    }
    let request = request
        .body(Full::new(Bytes::from(body.to_owned())))
        .unwrap();
    let response = AwsDoor::new(gateway().0).oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let body = serde_json::from_slice(&body).unwrap();
    (Response::from_parts(parts, ()), body)
}

const GET: &str = r#"{"name":"prod"}"#;
const UPDATE: &str = r#"{"name":"prod","deploymentType":"NONE"}"#;

#[tokio::test]
async fn the_aws_door_has_the_same_versions_in_quotation_marks() {
    let quoted = format!("\"{}\"", current());
    let (read, _) = asked("GetEnvironment", GET, None).await;
    assert_eq!(read.headers()["etag"], quoted);
    for expected in [quoted.clone(), current().to_string()] {
        let (updated, body) = asked("UpdateEnvironment", UPDATE, Some(&expected)).await;
        assert_eq!(updated.status(), StatusCode::OK, "{body}");
        assert_eq!(updated.headers()["etag"], quoted);
    }
}

#[tokio::test]
async fn at_the_aws_door_another_version_is_a_conflict_with_a_reason_and_the_present_one() {
    let (refused, body) = asked("UpdateEnvironment", UPDATE, Some(CURRENT)).await;
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    assert_eq!(refused.headers()["x-amzn-errortype"], "ConflictException");
    assert_eq!(
        refused.headers()["x-proton-gateway-reason"],
        "VERSION_MISMATCH"
    );
    assert_eq!(refused.headers()["etag"], format!("\"{}\"", current()));
    let message = body["message"].as_str().unwrap();
    assert!(message.starts_with("environment/prod is not"), "{message}");
    let (refused, body) = asked("GetEnvironment", GET, Some(CURRENT)).await;
    assert_eq!(refused.headers()["x-amzn-errortype"], "ValidationException");
    let message = body["message"].as_str().unwrap();
    assert!(message.starts_with("expected-version"), "{message}");
}
