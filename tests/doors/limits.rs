//! Callers that ask for too much, on both doors.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use proton_gateway::admission::Guards;
use proton_gateway::api::pb::paginator_service_client::PaginatorServiceClient;
use proton_gateway::api::pb::proton_service_client::ProtonServiceClient;
use proton_gateway::api::{self, Operation, Response, pb};
use proton_gateway::auth::{Method, Principal};
use proton_gateway::edge::Arrival;
use proton_gateway::edge::aws_door::AwsDoor;
use proton_gateway::edge::grpc_door::{self, Edge};
use proton_gateway::edge::health::Health;
use proton_gateway::gateway::{Call, Door, Gateway, Reply};
use proton_gateway::limits::Limiter;
use proton_gateway::pipeline;
use proton_gateway::telemetry::Metrics;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use tower::ServiceExt;

use super::{environment, waits};

/// A gateway with these limits.
fn gateway(limits: &str) -> Gateway {
    let backend = tower::service_fn(|call: Call| async move {
        let response = match call.operation {
            Operation::CancelEnvironmentDeployment => Response::CancelEnvironmentDeployment(
                pb::CancelEnvironmentDeploymentResponse::default(),
            ),
            Operation::ListEnvironments => {
                Response::ListEnvironments(pb::ListEnvironmentsResponse::default())
            }
            _ => environment(),
        };
        Ok(Reply::new(response))
    });
    let metrics = Metrics::new().unwrap();
    let guards = Guards {
        limiter: Limiter::new(&toml::from_str(limits).unwrap(), metrics.clone()),
        ..Guards::default()
    };
    Gateway::new(pipeline::build(backend, metrics, &guards)).guarded_by(guards)
}

fn door(gateway: &Gateway) -> Edge<tonic::service::Routes> {
    grpc_door::routes(gateway.clone(), waits(gateway.clone()), Health::default()).unwrap()
}

async fn get(gateway: &Gateway) -> Result<(), Status> {
    let request = pb::GetEnvironmentRequest {
        name: "prod".to_owned(),
    };
    let mut client = ProtonServiceClient::new(door(gateway));
    client.get_environment(request).await.map(drop)
}

async fn cancel(gateway: &Gateway) -> Result<(), Status> {
    let request = pb::CancelEnvironmentDeploymentRequest {
        environment_name: "prod".to_owned(),
    };
    let mut client = ProtonServiceClient::new(door(gateway));
    let answer = client.cancel_environment_deployment(request).await;
    answer.map(drop)
}

/// Whose limit it was.
fn subject(status: &Status) -> String {
    let failure = status.get_details_quota_failure().unwrap();
    failure.violations[0].subject.clone()
}

/// The status and the exception of a call on the AWS door.
async fn on_the_aws_door(gateway: &Gateway, operation: &str, body: &'static str) -> (u16, String) {
    let request = Request::post("/")
        .header("content-type", "application/x-amz-json-1.0")
        .header("x-amz-target", format!("AwsProton20200720.{operation}"))
        .body(Full::new(Bytes::from_static(body.as_bytes())))
        .unwrap();
    let response = AwsDoor::new(gateway.clone())
        .oneshot(request)
        .await
        .unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let exception = body["__type"].as_str().unwrap_or_default();
    let exception = exception.rsplit('#').next().unwrap_or_default();
    (status, exception.to_owned())
}

const ONE_READ: &str = "read = { rate = \"2/m\", burst = 1 }";

#[tokio::test(start_paused = true)]
async fn a_refusal_says_whose_limit_it_was_and_when_to_come_back_on_both_doors() {
    let gateway = gateway(ONE_READ);
    get(&gateway).await.unwrap();
    let status = get(&gateway).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.reason, "THROTTLED_BY_GATEWAY");
    assert_eq!(subject(&status), "caller/read");
    let wait = status.get_details_retry_info().unwrap().retry_delay;
    let wait = wait.unwrap();
    assert_eq!(wait, Duration::from_secs(30));
    let pushback = status.metadata().get("grpc-retry-pushback-ms").unwrap();
    assert_eq!(pushback, "30000");

    let refused = on_the_aws_door(&gateway, "GetEnvironment", r#"{"name":"prod"}"#).await;
    assert_eq!(refused, (400, "ThrottlingException".to_owned()));
    tokio::time::advance(wait).await;
    let answered = on_the_aws_door(&gateway, "GetEnvironment", r#"{"name":"prod"}"#).await;
    assert_eq!(answered.0, 200);
}

#[tokio::test(start_paused = true)]
async fn work_can_be_cancelled_however_much_was_asked_for_before() {
    let gateway =
        gateway("write = { rate = \"1/h\", burst = 1 }\ntotal = { rate = \"1/h\", burst = 1 }");
    get(&gateway).await.unwrap();
    assert_eq!(subject(&get(&gateway).await.unwrap_err()), "total/rate");
    let body = r#"{"environmentName":"prod"}"#;
    for _ in 0..5 {
        cancel(&gateway).await.unwrap();
        let answer = on_the_aws_door(&gateway, "CancelEnvironmentDeployment", body).await;
        assert_eq!(answer.0, 200);
    }
}

#[test]
fn the_contract_lets_all_cancellations_through_and_nothing_else() {
    for operation in Operation::ALL {
        let cancels = operation.name().starts_with("Cancel");
        assert_eq!(operation.policy().relieves, cancels, "{operation:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn in_the_shadow_nothing_is_refused() {
    let gateway = gateway(&format!("shadow = true\ncalls = 1\n{ONE_READ}"));
    for _ in 0..5 {
        get(&gateway).await.unwrap();
        let answer = on_the_aws_door(&gateway, "GetEnvironment", r#"{"name":"prod"}"#).await;
        assert_eq!(answer.0, 200);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_has_its_place_until_it_ends() {
    let gateway = gateway("streams = 1");
    let mut client = PaginatorServiceClient::new(door(&gateway));
    let open = client
        .page_environments(pb::PageEnvironmentsRequest::default())
        .await
        .unwrap();
    let status = client
        .page_environments(pb::PageEnvironmentsRequest::default())
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(subject(&status), "caller/streams");
    assert!(status.get_details_retry_info().is_some());
    drop(open);
    let again = client.page_environments(pb::PageEnvironmentsRequest::default());
    again.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_greedy_caller_takes_nothing_from_another_one() {
    let gateway = gateway(&format!(
        "{ONE_READ}\ntotal = {{ rate = \"1/h\", burst = 3 }}"
    ));
    let ask = async |id: &str| {
        let principal = Principal {
            id: id.to_owned(),
            method: Method::Token,
            ..(*Principal::anonymous()).clone()
        };
        let arrival = Arrival {
            principal: Arc::new(principal),
            deadline: Instant::now() + Duration::from_secs(3600),
            ..Arrival::default()
        };
        let request = api::Request::GetEnvironment(pb::GetEnvironmentRequest {
            name: "prod".to_owned(),
        });
        gateway.call(Call::new(request, Door::Grpc, &arrival)).await
    };
    let mut answers = 0;
    for _ in 0..100 {
        answers += u32::from(ask("greedy").await.is_ok());
    }
    assert_eq!(answers, 1);
    assert!(ask("modest").await.is_ok());
    assert!(ask("another").await.is_ok());
}
