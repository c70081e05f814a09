//! The gRPC door.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use proton_gateway::api::health::health_check_response::ServingStatus;
use proton_gateway::api::health::health_client::HealthClient;
use proton_gateway::api::health::{HealthCheckRequest, HealthListRequest};
use proton_gateway::api::pb;
use proton_gateway::api::pb::proton_service_client::ProtonServiceClient;
use proton_gateway::auth::Principal;
use proton_gateway::edge::budget::{self, Budget};
use proton_gateway::edge::grpc_door;
use proton_gateway::edge::health::Health;
use proton_gateway::error::{Error, Violation};
use proton_gateway::gateway::Gateway;
use tokio_stream::StreamExt;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use tower::ServiceExt;

use super::{causes, defective, environment, gateway_with, gateway_within, waits};

type Door = grpc_door::Edge<tonic::service::Routes>;

fn door(gateway: Gateway) -> Door {
    let waits = waits(gateway.clone());
    grpc_door::routes(gateway, waits, Health::default()).unwrap()
}

fn client(gateway: Gateway) -> ProtonServiceClient<Door> {
    ProtonServiceClient::new(door(gateway))
}

fn get() -> pb::GetEnvironmentRequest {
    pb::GetEnvironmentRequest {
        name: "prod".to_owned(),
    }
}

async fn refusal(error: proton_gateway::error::Error) -> Status {
    client(gateway_with(Err(error)))
        .get_environment(get())
        .await
        .unwrap_err()
}

#[tokio::test]
async fn a_call_is_answered_with_the_callers_request_id() {
    let mut request = tonic::Request::new(get());
    request
        .metadata_mut()
        .insert("x-request-id", "build-7".parse().unwrap());
    let response = client(gateway_with(Ok(environment())))
        .get_environment(request)
        .await
        .unwrap();
    assert_eq!(response.metadata().get("x-request-id").unwrap(), "build-7");
    assert_eq!(response.into_inner().environment.unwrap().name(), "prod");
}

#[tokio::test]
async fn each_cause_has_its_code_and_a_stable_reason() {
    let mut table = Vec::new();
    for error in causes() {
        let status = refusal(error).await;
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!(info.domain, "proton-gateway");
        assert_eq!(info.metadata["operation"], "GetEnvironment");
        let mut also = Vec::new();
        if details.bad_request().is_some() {
            also.push("BadRequest");
        }
        if details.resource_info().is_some() {
            also.push("ResourceInfo");
        }
        if details.precondition_failure().is_some() {
            also.push("PreconditionFailure");
        }
        if details.quota_failure().is_some() {
            also.push("QuotaFailure");
        }
        if details.retry_info().is_some() {
            also.push("RetryInfo");
        }
        table.push(format!(
            "{:?} {} {}",
            status.code(),
            info.reason,
            also.join("+")
        ));
    }
    assert_eq!(
        table,
        [
            "InvalidArgument INVALID_REQUEST BadRequest",
            "InvalidArgument IDEMPOTENCY_MISMATCH BadRequest",
            "InvalidArgument UNREADABLE_REQUEST BadRequest",
            "NotFound RESOURCE_NOT_FOUND ResourceInfo",
            "Aborted IN_PROGRESS PreconditionFailure",
            "AlreadyExists ALREADY_EXISTS PreconditionFailure",
            "FailedPrecondition PRECONDITION_FAILED PreconditionFailure",
            "Aborted VERSION_MISMATCH PreconditionFailure",
            "PermissionDenied DENIED_BY_GATEWAY ",
            "PermissionDenied DENIED_BY_UPSTREAM ",
            "ResourceExhausted THROTTLED_BY_GATEWAY QuotaFailure+RetryInfo",
            "ResourceExhausted THROTTLED_BY_UPSTREAM QuotaFailure+RetryInfo",
            "ResourceExhausted QUOTA_EXCEEDED QuotaFailure",
            "Unavailable UNAVAILABLE RetryInfo",
            "Unknown OUTCOME_UNKNOWN ",
            "DeadlineExceeded DEADLINE_EXCEEDED ",
            "Unimplemented UNKNOWN_OPERATION ",
            "Internal INTERNAL ",
        ]
    );
}

#[tokio::test]
async fn the_pushback_is_the_wait_where_a_repeat_makes_sense_and_minus_one_elsewhere() {
    for error in causes() {
        let status = refusal(error).await;
        let wait = status
            .get_details_retry_info()
            .and_then(|info| info.retry_delay);
        let pushback = status.metadata().get("grpc-retry-pushback-ms").unwrap();
        let expected = wait.map_or("-1".to_owned(), |wait| wait.as_millis().to_string());
        assert_eq!(pushback.to_str().unwrap(), expected, "{status:?}");
    }
}

#[tokio::test]
async fn the_text_of_a_defect_stays_inside() {
    let error = proton_gateway::error::Error::internal("the password is 1234");
    assert_eq!(refusal(error).await.message(), "Internal service failure");
}

async fn raw(path: &str, message: &[u8]) -> http::Response<tonic::body::Body> {
    let mut frame = vec![0];
    frame.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend(message);
    let request = Request::post(path)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(Bytes::from(frame)))
        .unwrap();
    door(gateway_with(Ok(environment())))
        .oneshot(request.map(tonic::body::Body::new))
        .await
        .unwrap()
}

/// An error is one frame of headers, so that clients may retry and see the details.
#[tokio::test]
async fn a_refusal_is_one_frame() {
    let response = raw("/proton.v1.ProtonService/GetEnvironment", b"").await;
    assert_eq!(response.headers()["grpc-status"], "3");
    assert!(response.headers().contains_key("grpc-status-details-bin"));
    let rest = response.into_body().collect().await.unwrap();
    assert!(rest.to_bytes().is_empty());
}

#[tokio::test]
async fn bytes_that_are_no_such_message_are_refused_with_details() {
    // Field 1, two bytes that are no UTF-8; and a field that ends in its middle.
    for message in [b"\x0a\x02\xff\xfe".as_slice(), b"\x0a\x7fxx"] {
        let response = raw("/proton.v1.ProtonService/GetEnvironment", message).await;
        let status = Status::from_header_map(response.headers()).unwrap();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        let info = status.get_details_error_info().unwrap();
        assert_eq!(info.reason, "UNREADABLE_REQUEST");
    }
}

#[tokio::test]
async fn a_message_that_is_too_large_is_refused_with_details() {
    let mut request = get();
    request.name = "x".repeat(2 << 20);
    let status = client(gateway_with(Ok(environment())))
        .get_environment(request)
        .await
        .unwrap_err();
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.reason, "UNREADABLE_REQUEST", "{status:?}");
}

/// Trailers of more than 8 KiB are not read by every client.
#[tokio::test]
async fn a_refusal_with_many_violations_fits_into_its_trailers_and_says_that_there_are_more() {
    let unreadable = "ä ".repeat(2000);
    let violations = |count: usize| {
        (0..count)
            .map(|number| Violation::new(format!("tags[{number}].key"), unreadable.clone()))
            .collect()
    };
    for error in [
        Error::violations(unreadable.clone(), violations(1)),
        Error::violations("x".repeat(10_000), violations(200)),
        Error::not_found(unreadable.clone(), unreadable.clone()),
        Error::precondition(unreadable.clone(), unreadable.clone()),
    ] {
        let response = client_response(error).await;
        let size: usize = response
            .headers()
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len() + 32)
            .sum();
        assert!(size < 8192, "{size}");
    }
    let tags = (0..400).map(|_| pb::Tag::default()).collect();
    let status = client(gateway_with(Ok(environment())))
        .tag_resource(pb::TagResourceRequest {
            resource_arn: "arn:aws:proton:us-east-1:123456789012:environment/prod".to_owned(),
            tags,
        })
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert!(status.message().ends_with('…'), "{status:?}");
    let violations = status.get_details_bad_request().unwrap().field_violations;
    let last = violations.last().unwrap();
    assert!(last.description.starts_with("and "), "{last:?}");
}

async fn client_response(error: Error) -> http::Response<tonic::body::Body> {
    let message = [0, 0, 0, 0, 6, 0x0a, 4, b'p', b'r', b'o', b'd'];
    let request = Request::post("/proton.v1.ProtonService/GetEnvironment")
        .header("content-type", "application/grpc")
        .body(Full::new(Bytes::copy_from_slice(&message)))
        .unwrap();
    door(gateway_with(Err(error)))
        .oneshot(request)
        .await
        .unwrap()
}

#[tokio::test]
async fn requests_beyond_the_budget_are_sent_away_and_may_come_back() {
    let budget = Budget::of(budget::REQUEST + 1000);
    let mut client = client(gateway_within(Ok(environment()), budget.clone()));
    let mut large = get();
    large.name = "x".repeat(2000);
    let held = budget
        .share(&Principal::anonymous(), budget::REQUEST)
        .unwrap();
    let at_once = client.get_environment(get()).await.unwrap_err();
    drop(held);
    let later = client.get_environment(large).await.unwrap_err();
    for status in [at_once, later] {
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        assert!(status.get_details_retry_info().is_some());
    }
    assert!(client.get_environment(get()).await.is_ok());
    assert!(
        budget
            .share(&Principal::anonymous(), budget::REQUEST + 1000)
            .is_ok()
    );
}

#[tokio::test]
async fn a_wrong_enum_number_is_a_violation_of_its_field() {
    let status = client(gateway_with(Ok(environment())))
        .update_environment(pb::UpdateEnvironmentRequest {
            name: "prod".to_owned(),
            deployment_type: 77,
            ..pb::UpdateEnvironmentRequest::default()
        })
        .await
        .unwrap_err();
    let violations = status.get_details_bad_request().unwrap().field_violations;
    assert_eq!(violations.len(), 1, "{violations:?}");
    assert_eq!(violations[0].field, "deployment_type");
}

#[tokio::test]
async fn a_method_that_there_is_not_is_unimplemented_with_details() {
    for path in [
        "/proton.v1.ProtonService/GetNothing",
        "/no.such.Service/Call",
    ] {
        let status = Status::from_header_map(raw(path, b"").await.headers()).unwrap();
        assert_eq!(status.code(), Code::Unimplemented);
        let info = status.get_details_error_info().unwrap();
        assert_eq!(info.reason, "UNKNOWN_OPERATION");
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_never_comes_is_given_up() {
    let body = http_body_util::StreamBody::new(futures_util::stream::pending::<
        Result<http_body::Frame<Bytes>, Status>,
    >());
    let request = Request::post("/proton.v1.ProtonService/GetEnvironment")
        .header("content-type", "application/grpc")
        .body(tonic::body::Body::new(body))
        .unwrap();
    let waiting = door(gateway_with(Ok(environment()))).oneshot(request);
    let response = tokio::time::timeout(Duration::from_secs(120), waiting)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(response.headers()["grpc-status"], "4");
}

#[tokio::test]
async fn health_is_told_by_check_watch_and_list_and_changes_with_the_server() {
    let health = Health::default();
    let gateway = gateway_with(Ok(environment()));
    let waits = waits(gateway.clone());
    let door = grpc_door::routes(gateway, waits, health.clone()).unwrap();
    let mut client = HealthClient::new(door);
    let of = |service: &str| HealthCheckRequest {
        service: service.to_owned(),
    };
    let not_yet = client.check(of("")).await.unwrap().into_inner();
    assert_eq!(not_yet.status(), ServingStatus::NotServing);
    let watch = client.watch(of("proton.v1.ProtonService")).await.unwrap();
    let mut watch = watch.into_inner();
    let first = watch.next().await.unwrap().unwrap();
    assert_eq!(first.status(), ServingStatus::NotServing);

    health.set_serving(true);
    let next = watch.next().await.unwrap().unwrap();
    assert_eq!(next.status(), ServingStatus::Serving);
    let all = client
        .list(HealthListRequest {})
        .await
        .unwrap()
        .into_inner();
    let mut names: Vec<_> = all.statuses.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "",
            "proton.gateway.v1.GatewayService",
            "proton.v1.PaginatorService",
            "proton.v1.ProtonService",
            "proton.v1.WaitService"
        ]
    );
    let unknown = client.check(of("no.such.Service")).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
}

#[tokio::test]
async fn what_a_web_page_can_make_a_browser_send_is_refused() {
    let gateway = gateway_with(Ok(environment()));
    let door = grpc_door::routes(gateway.clone(), waits(gateway), Health::default()).unwrap();
    let send = |method: &str, headers: &[(&str, &str)]| {
        let mut request = http::Request::builder()
            .method(method)
            .uri("/proton.v1.ProtonService/GetEnvironment");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        // An empty message.
        let body = http_body_util::Full::new(bytes::Bytes::from_static(&[0; 5]));
        let door = door.clone();
        async move { door.oneshot(request.body(body).unwrap()).await.unwrap() }
    };
    for (method, headers) in [
        ("POST", &[("content-type", "text/plain")][..]),
        ("POST", &[]),
        ("POST", &[("content-type", "application/grpcx")]),
        ("GET", &[("content-type", "application/grpc")]),
        (
            "POST",
            &[
                ("content-type", "application/grpc"),
                ("origin", "https://evil.example"),
            ],
        ),
    ] {
        let refused = send(method, headers).await;
        assert_eq!(refused.status(), 415, "{method} {headers:?}");
    }
    for content_type in ["application/grpc", "application/grpc+proto"] {
        let answered = send("POST", &[("content-type", content_type)]).await;
        assert_eq!(answered.status(), 200, "{content_type}");
    }
}

#[tokio::test]
async fn a_call_that_panics_is_answered_as_a_defect_with_its_id() {
    let mut request = tonic::Request::new(get());
    let id = "build-7".parse().unwrap();
    request.metadata_mut().insert("x-request-id", id);
    let status = client(defective())
        .get_environment(request)
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Internal);
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.reason, "INTERNAL");
    assert_eq!(info.metadata["request_id"], "build-7");
}
