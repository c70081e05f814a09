//! The AWS backend in front of an upstream that answers as the test says.

use std::convert::Infallible;

use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use proton_gateway::admission::Guards;
use proton_gateway::api::pb;
use proton_gateway::api::pb::proton_service_client::ProtonServiceClient;
use proton_gateway::backend::aws::Aws;
use proton_gateway::backend::aws::pace::Paces;
use proton_gateway::config::limits::UpstreamLimits;
use proton_gateway::edge::aws_door::AwsDoor;
use proton_gateway::edge::grpc_door;
use proton_gateway::edge::health::Health;
use proton_gateway::gateway::Gateway;
use proton_gateway::pipeline;
use proton_gateway::server::{self, Shutdown};
use proton_gateway::telemetry::Metrics;
use tokio::sync::watch;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use tower::ServiceExt;

/// A gateway that forwards to `url`.
async fn forwarding_to(url: String) -> Gateway {
    paced(url, None).await
}

/// The same, at this pace.
async fn paced(url: String, paces: Option<Paces>) -> Gateway {
    let config = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "tests"))
        .endpoint_url(url)
        .load()
        .await;
    Gateway::new(pipeline::build(
        Aws::with_config(&config).paced(paces),
        Metrics::new().unwrap(),
        &Guards::default(),
    ))
}

/// A gateway whose upstream always gives this answer. The upstream lives as long as the sender.
async fn upstream(
    status: u16,
    headers: &'static [(&'static str, &'static str)],
    body: &'static str,
) -> (Gateway, watch::Sender<bool>) {
    let answer = tower::service_fn(move |_: Request<hyper::body::Incoming>| async move {
        let mut response = Response::new(Full::new(Bytes::from_static(body.as_bytes())));
        *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
        for (name, value) in headers {
            response
                .headers_mut()
                .insert(*name, http::HeaderValue::from_static(value));
        }
        Ok::<_, Infallible>(response)
    });
    let (stop, shutdown) = Shutdown::channel();
    let (listener, address) = server::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    tokio::spawn(server::serve(listener, answer, shutdown));
    (forwarding_to(format!("http://{address}")).await, stop)
}

async fn get(gateway: Gateway) -> Result<tonic::Response<pb::GetEnvironmentResponse>, Status> {
    let door =
        grpc_door::routes(gateway.clone(), super::waits(gateway), Health::default()).unwrap();
    ProtonServiceClient::new(door)
        .get_environment(pb::GetEnvironmentRequest {
            name: "prod".to_owned(),
        })
        .await
}

async fn update(gateway: Gateway) -> Status {
    let door =
        grpc_door::routes(gateway.clone(), super::waits(gateway), Health::default()).unwrap();
    ProtonServiceClient::new(door)
        .update_environment(pb::UpdateEnvironmentRequest {
            name: "prod".to_owned(),
            deployment_type: pb::DeploymentUpdateType::None.into(),
            ..pb::UpdateEnvironmentRequest::default()
        })
        .await
        .unwrap_err()
}

#[tokio::test]
async fn what_the_response_lacks_stays_absent_though_the_sdk_fills_it_in() {
    let (gateway, _upstream) = upstream(
        200,
        &[("x-amzn-requestid", "aws-1")],
        r#"{"environment": {"name": "prod", "deploymentStatus": "IN_PROGRESS"}}"#,
    )
    .await;
    let response = get(gateway).await.unwrap();
    assert_eq!(response.metadata().get("aws-request-id").unwrap(), "aws-1");
    assert_eq!(
        response.into_inner().environment.unwrap(),
        pb::Environment {
            name: Some("prod".to_owned()),
            deployment_status: pb::DeploymentStatus::InProgress.into(),
            ..pb::Environment::default()
        }
    );
}

#[tokio::test]
async fn a_status_of_a_newer_upstream_is_passed_on_by_name() {
    let (gateway, _upstream) = upstream(
        200,
        &[],
        r#"{"environment": {"name": "prod", "deploymentStatus": "OUT_TO_LUNCH"}}"#,
    )
    .await;
    let over_grpc = get(gateway.clone()).await.unwrap().into_inner();
    let number = over_grpc.environment.unwrap().deployment_status;
    assert!(number != 0 && pb::DeploymentStatus::try_from(number).is_err());

    let request = Request::post("/")
        .header("content-type", "application/x-amz-json-1.0")
        .header("x-amz-target", "AwsProton20200720.GetEnvironment")
        .body(Full::new(Bytes::from_static(br#"{"name":"prod"}"#)))
        .unwrap();
    let response = AwsDoor::new(gateway).oneshot(request).await.unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["environment"]["deploymentStatus"], "OUT_TO_LUNCH");
}

#[tokio::test]
async fn code_and_request_id_of_an_upstream_error_reach_the_caller() {
    let (gateway, _upstream) = upstream(
        400,
        &[("x-amzn-requestid", "aws-2")],
        r#"{"__type": "com.amazonaws.proton.v20200720#ConflictException", "message": "it is IN_PROGRESS"}"#,
    )
    .await;
    let status = update(gateway).await;
    assert_eq!(status.code(), Code::Aborted);
    assert_eq!(status.message(), "it is IN_PROGRESS");
    assert_eq!(status.metadata().get("aws-request-id").unwrap(), "aws-2");
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.metadata["aws_error_code"], "ConflictException");
    assert_eq!(info.metadata["aws_request_id"], "aws-2");
}

#[tokio::test]
async fn a_refused_signature_is_a_denial_by_the_upstream() {
    let (gateway, _upstream) = upstream(
        403,
        &[],
        r#"{"__type": "UnrecognizedClientException", "message": "no"}"#,
    )
    .await;
    let status = update(gateway).await;
    assert_eq!(status.code(), Code::PermissionDenied);
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.reason, "DENIED_BY_UPSTREAM");
}

#[tokio::test]
async fn throttling_says_whose_it_is_and_when_to_come_back() {
    let (gateway, _upstream) = upstream(
        400,
        &[],
        r#"{"__type": "ThrottlingException", "message": "slow down"}"#,
    )
    .await;
    let status = update(gateway).await;
    let details = status.get_error_details();
    assert_eq!(
        details.error_info().unwrap().reason,
        "THROTTLED_BY_UPSTREAM"
    );
    assert!(details.retry_info().unwrap().retry_delay.is_some());
}

/// An update that was lost on the way may have been applied; a read can simply be repeated.
#[tokio::test]
async fn a_fault_of_the_upstream_leaves_the_outcome_open_only_where_a_repeat_could_act_twice() {
    let fault = (
        500,
        r#"{"__type": "InternalServerException", "message": "oops"}"#,
    );
    let (gateway, _upstream) = upstream(fault.0, &[], fault.1).await;
    let status = update(gateway.clone()).await;
    assert_eq!(status.code(), Code::Unknown);
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.reason, "OUTCOME_UNKNOWN");
    assert_eq!(get(gateway).await.unwrap_err().code(), Code::Unavailable);
}

/// Without a token a repeat is another call, and the token that the SDK makes up is another one.
#[tokio::test]
async fn a_lost_creation_can_be_repeated_only_if_it_has_a_token() {
    for (token, code) in [(None, Code::Unknown), (Some("a-token"), Code::Unavailable)] {
        let (gateway, _upstream) = upstream(500, &[], "").await;
        let door =
            grpc_door::routes(gateway.clone(), super::waits(gateway), Health::default()).unwrap();
        let status = ProtonServiceClient::new(door)
            .create_service_instance(pb::CreateServiceInstanceRequest {
                name: "blue".to_owned(),
                service_name: "shop".to_owned(),
                spec: "proton: ServiceSpec".to_owned(),
                client_token: token.map(str::to_owned),
                ..pb::CreateServiceInstanceRequest::default()
            })
            .await
            .unwrap_err();
        assert_eq!(status.code(), code, "{token:?}: {status:?}");
    }
}

/// Whoever answers so has not applied the call, and will not if it is repeated.
#[tokio::test]
async fn a_definite_refusal_is_no_open_outcome() {
    for (http, body, code, text) in [
        (301, "", Code::InvalidArgument, "endpoint URL"),
        (401, "", Code::PermissionDenied, "HTTP 401"),
        (403, "<html>", Code::PermissionDenied, "HTTP 403"),
        (404, "<html>", Code::InvalidArgument, "HTTP 404"),
        (
            404,
            r#"{"__type":"UnknownOperationException"}"#,
            Code::Unimplemented,
            "",
        ),
        (408, "", Code::Unavailable, "HTTP 408"),
        (413, "", Code::InvalidArgument, "HTTP 413"),
        (429, "", Code::ResourceExhausted, "HTTP 429"),
        (
            400,
            r#"{"__type":"NewException","message":"new"}"#,
            Code::InvalidArgument,
            "new",
        ),
        (
            400,
            r#"{"__type":"InternalServerException"}"#,
            Code::Unknown,
            "",
        ),
        (502, "<html>", Code::Unknown, "may have been applied"),
    ] {
        let (gateway, _upstream) = upstream(http, &[], body).await;
        let status = update(gateway).await;
        assert_eq!(status.code(), code, "{http} {body}: {status:?}");
        assert!(status.message().contains(text), "{http} {body}: {status:?}");
        let retried = matches!(http, 408 | 429);
        assert_eq!(status.get_details_retry_info().is_some(), retried, "{http}");
    }
}

#[tokio::test]
async fn an_upstream_that_is_not_there_is_unavailable_and_nothing_was_sent() {
    let (listener, address) = server::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    drop(listener);
    let status = update(forwarding_to(format!("http://{address}")).await).await;
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(status.message().contains("nothing was sent"), "{status:?}");
}

#[tokio::test]
async fn an_answer_that_is_not_aws_json_is_no_success() {
    let (gateway, _upstream) = upstream(200, &[], "<html>a proxy's page</html>").await;
    assert_eq!(get(gateway).await.unwrap_err().code(), Code::Unavailable);
}

/// As a proxy's or a captive portal's answer may be.
#[tokio::test]
async fn an_answer_without_the_resource_is_no_success() {
    let (gateway, _upstream) = upstream(200, &[], "{}").await;
    assert_eq!(update(gateway.clone()).await.code(), Code::Unknown);
    assert_eq!(get(gateway).await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn what_the_upstream_does_not_bear_is_not_sent_and_a_place_is_free_again_at_the_end() {
    let (entered, mut entries) = tokio::sync::mpsc::unbounded_channel();
    let (leave, _) = tokio::sync::broadcast::channel::<()>(1);
    let exit = leave.clone();
    let answer = tower::service_fn(move |_: Request<hyper::body::Incoming>| {
        let mut exit = exit.subscribe();
        entered.send(()).ok();
        async move {
            drop(exit.recv().await);
            let body = r#"{"environment": {"name": "prod"}}"#;
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(
                body.as_bytes(),
            ))))
        }
    });
    let (_stop, shutdown) = Shutdown::channel();
    let (listener, address) = server::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    tokio::spawn(server::serve(listener, answer, shutdown));
    let one = UpstreamLimits {
        start: 1,
        max: 1,
        queue: 0,
        ..UpstreamLimits::default()
    };
    let paces = Paces::new(&one, Metrics::new().unwrap());
    let gateway = paced(format!("http://{address}"), paces).await;

    let first = tokio::spawn(get(gateway.clone()));
    entries.recv().await.unwrap();
    let status = update(gateway.clone()).await;
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().contains("nothing was sent"), "{status:?}");
    let details = status.get_error_details();
    let subject = &details.quota_failure().unwrap().violations[0].subject;
    assert_eq!(subject, "upstream/calls");
    assert!(details.retry_info().is_some());
    drop(leave.send(()));
    first.await.unwrap().unwrap();
    let again = tokio::spawn(get(gateway));
    entries.recv().await.unwrap();
    drop(leave.send(()));
    again.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_gateway_behind_this_one_tells_that_a_version_has_changed_and_to_which() {
    let (gateway, _upstream) = upstream(
        400,
        &[
            ("x-amzn-errortype", "ConflictException"),
            ("x-proton-gateway-reason", "VERSION_MISMATCH"),
            ("etag", "\"AAECAwQFBgcICQoLDA0ODw\""),
        ],
        r#"{"message": "environment/prod is not as it was"}"#,
    )
    .await;
    let status = update(gateway).await;
    assert_eq!(status.code(), Code::Aborted);
    let details = status.get_error_details();
    let info = details.error_info().unwrap();
    assert_eq!(info.reason, "VERSION_MISMATCH");
    assert_eq!(info.metadata["etag"], super::CURRENT);
}
