//! The AWS door.

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use proton_gateway::auth::Principal;
use proton_gateway::edge::aws_door::AwsDoor;
use proton_gateway::edge::budget::{self, Budget};
use proton_gateway::error::Error;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::{causes, defective, environment, gateway_with, gateway_within};

/// What the door answers a request for `GetEnvironment` with these headers and this body.
async fn answer(
    door: AwsDoor,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> (StatusCode, Value, Response<()>) {
    let mut request = Request::post("/").header("content-type", "application/x-amz-json-1.0");
    if headers.iter().all(|(name, _)| *name != "x-amz-target") {
        request = request.header("x-amz-target", "AwsProton20200720.GetEnvironment");
    }
    let mut request = request.body(Full::new(body.into())).unwrap();
    for (name, value) in headers {
        let name: http::HeaderName = name.parse().unwrap();
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let (parts, body) = door.oneshot(request).await.unwrap().into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let value = serde_json::from_slice(&bytes).unwrap();
    (parts.status, value, Response::from_parts(parts, ()))
}

fn door() -> AwsDoor {
    AwsDoor::new(gateway_with(Ok(environment())))
}

const GOOD: &str = r#"{"name":"prod"}"#;

#[tokio::test]
async fn a_call_is_answered_in_aws_json_with_a_request_id() {
    let (status, body, response) = answer(door(), &[("x-request-id", "build-7")], GOOD).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        body,
        json!({"environment": {"name": "prod", "deploymentStatus": "SUCCEEDED"}})
    );
    assert_eq!(response.headers()["x-amzn-requestid"], "build-7");
    assert_eq!(
        response.headers()["content-type"],
        "application/x-amz-json-1.0"
    );
}

/// Any page can make a browser send something, with what it holds of the user.
#[tokio::test]
async fn a_browser_is_not_answered() {
    for header in [
        ("origin", "https://console.example"),
        ("sec-fetch-site", "cross-site"),
    ] {
        let (status, body, response) = answer(door(), &[header], GOOD).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{header:?}");
        let reason = &response.headers()["x-proton-gateway-reason"];
        assert_eq!(reason, "DENIED_BY_GATEWAY", "{body}");
    }
}

/// API Reference: modelled exceptions are 400, InternalServerException is 500.
#[tokio::test]
async fn each_cause_has_its_exception_and_status() {
    let mut table = Vec::new();
    for error in causes() {
        let (status, body, response) =
            answer(AwsDoor::new(gateway_with(Err(error))), &[], GOOD).await;
        let exception = body["__type"].as_str().unwrap();
        let exception = exception
            .strip_prefix("com.amazonaws.proton.v20200720#")
            .unwrap();
        assert_eq!(response.headers()["x-amzn-errortype"], exception);
        let message = body["message"].as_str().unwrap();
        table.push(format!("{} {exception}: {message}", status.as_u16()));
    }
    assert_eq!(
        table,
        [
            "400 ValidationException: what happened",
            "400 ValidationException: what happened",
            "400 SerializationException: what happened",
            "400 ResourceNotFoundException: what happened",
            "400 ConflictException: what happened",
            "400 ConflictException: what happened",
            "400 ConflictException: what happened",
            "400 ConflictException: what happened",
            "400 AccessDeniedException: what happened",
            "400 AccessDeniedException: what happened",
            "400 ThrottlingException: what happened",
            "400 ThrottlingException: what happened",
            "400 ServiceQuotaExceededException: what happened",
            "500 InternalServerException: what happened",
            "500 InternalServerException: what happened",
            "500 InternalServerException: what happened",
            "404 UnknownOperationException: what happened",
            "500 InternalServerException: Internal service failure",
        ]
    );
}

#[tokio::test]
async fn a_target_of_another_service_or_operation_is_unknown() {
    for target in [
        "AwsProton20200720.GetNothing",
        "DynamoDB_20120810.GetItem",
        "GetEnvironment",
    ] {
        let (status, body, _) = answer(door(), &[("x-amz-target", target)], GOOD).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{target}");
        let kind = body["__type"].as_str().unwrap();
        assert!(kind.ends_with("#UnknownOperationException"), "{body}");
    }
}

#[tokio::test]
async fn a_header_that_says_what_is_asked_for_is_there_once() {
    let target = "AwsProton20200720.GetEnvironment";
    for (name, problem, exception) in [
        (
            "x-amz-target",
            "more than one X-Amz-Target",
            "UnknownOperationException",
        ),
        (
            "content-type",
            "more than one content type",
            "SerializationException",
        ),
    ] {
        let request = Request::post("/")
            .header("content-type", "application/x-amz-json-1.0")
            .header("x-amz-target", target)
            .header(name, "AwsProton20200720.DeleteEnvironment")
            .body(Full::new(Bytes::from(GOOD)))
            .unwrap();
        let body = door().oneshot(request).await.unwrap().into_body();
        let body = body.collect().await.unwrap().to_bytes();
        let answer: Value = serde_json::from_slice(&body).unwrap();
        assert!(
            answer["__type"].as_str().unwrap().ends_with(exception),
            "{answer}"
        );
        assert!(
            answer["message"].as_str().unwrap().contains(problem),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn what_is_no_request_of_the_operation_is_refused_with_the_reason() {
    for (headers, body, problem) in [
        (&[("content-type", "text/plain")][..], GOOD, "content type"),
        (&[], r#"{"name":"pr"#, "not JSON"),
        (&[], r#"["prod"]"#, "object"),
        (&[], r#"{"name":7}"#, "name"),
    ] {
        let (status, answer, _) = answer(door(), headers, body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
        let kind = answer["__type"].as_str().unwrap();
        assert!(kind.ends_with("#SerializationException"), "{answer}");
        let message = answer["message"].as_str().unwrap();
        assert!(message.contains(problem), "{message}");
    }
}

#[tokio::test]
async fn a_body_of_more_than_two_mebibytes_is_not_read() {
    let body = format!(r#"{{"name":"{}"}}"#, "x".repeat(2 << 20));
    let (status, answer, _) = answer(door(), &[], body).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let message = answer["message"].as_str().unwrap();
    assert!(message.contains("too large"), "{message}");
}

/// As Python writes it: in ASCII, each character beyond the first 65,536 in twelve bytes.
#[tokio::test]
async fn the_largest_request_of_the_model_is_read() {
    let long = |characters| "\\ud83d\\ude00".repeat(characters);
    let tag = |n| format!(r#"{{"key":"{}{n:02}","value":"{}"}}"#, long(126), long(256));
    let tags: Vec<_> = (0..50).map(tag).collect();
    let body = format!(
        r#"{{"name":"cache","manifest":"{}","templateFile":"{}","serviceSpec":"{}","description":"{}","tags":[{}]}}"#,
        long(1_024),
        long(51_200),
        long(51_200),
        long(500),
        tags.join(",")
    );
    let target = [("x-amz-target", "AwsProton20200720.CreateComponent")];
    let (status, answer, _) = answer(door(), &target, body).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
}

#[tokio::test]
async fn a_list_that_may_not_be_empty_is_left_out_to_mean_nothing() {
    let target = [(
        "x-amz-target",
        "AwsProton20200720.UpdateServiceTemplateVersion",
    )];
    let body = |list: &str| {
        format!(
            r#"{{"templateName":"web","majorVersion":"1","minorVersion":"0","compatibleEnvironmentTemplates":{list}}}"#
        )
    };
    let (status, refused, _) = answer(door(), &target, body("[]")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(
        refused["message"],
        "1 validation error detected: Value at 'compatibleEnvironmentTemplates' failed to satisfy \
         constraint: Member must have length greater than or equal to 1"
    );
    let (status, answer, _) = answer(door(), &target, body("null")).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
}

#[tokio::test]
async fn fields_are_named_as_aws_names_them() {
    let target = [(
        "x-amz-target",
        "AwsProton20200720.UpdateServiceTemplateVersion",
    )];
    let body = r#"{"templateName":"web","majorVersion":"1","minorVersion":"0","supportedComponentSources":["X"]}"#;
    let (_, refused, _) = answer(door(), &target, body).await;
    let message = refused["message"].as_str().unwrap();
    assert!(
        message.contains("'supportedComponentSources[0]'"),
        "{message}"
    );
    let error = Error::invalid_field(
        "template_major_version",
        "is required together with template_minor_version",
    );
    let (_, refused, _) = answer(AwsDoor::new(gateway_with(Err(error))), &[], GOOD).await;
    assert_eq!(
        refused["message"],
        "templateMajorVersion: is required together with templateMinorVersion"
    );
}

#[tokio::test]
async fn requests_beyond_the_budget_are_sent_away_and_may_come_back() {
    let budget = Budget::of(budget::REQUEST + 1000);
    let door = AwsDoor::new(gateway_within(Ok(environment()), budget.clone()));
    let large = format!(r#"{{"name":"{}"}}"#, "x".repeat(2000));
    let (status, answer, _) = self::answer(door.clone(), &[], large).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR, "{answer}");
    let message = answer["message"].as_str().unwrap();
    assert!(message.contains("too many requests"), "{message}");
    let (status, _, _) = self::answer(door, &[], GOOD).await;
    assert_eq!(status, StatusCode::OK);
    assert!(
        budget
            .share(&Principal::anonymous(), budget::REQUEST + 1000)
            .is_ok()
    );
}

#[tokio::test]
async fn a_text_without_end_is_cut() {
    let door = AwsDoor::new(gateway_with(Err(Error::invalid("x".repeat(1 << 20)))));
    let (_, answer, _) = answer(door, &[], GOOD).await;
    assert!(answer["message"].as_str().unwrap().len() <= 16 << 10);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_comes_is_given_up() {
    let body = http_body_util::StreamBody::new(futures_util::stream::pending::<
        Result<http_body::Frame<Bytes>, std::convert::Infallible>,
    >());
    let request = Request::post("/")
        .header("content-type", "application/x-amz-json-1.0")
        .header("x-amz-target", "AwsProton20200720.GetEnvironment")
        .body(body)
        .unwrap();
    let response = door().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn all_violations_of_a_request_are_told_at_once() {
    let target = [("x-amz-target", "AwsProton20200720.CreateEnvironment")];
    let (status, body, _) = answer(door(), &target, r#"{"name":"no spaces"}"#).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let message = body["message"].as_str().unwrap();
    for field in ["name", "spec", "templateName", "templateMajorVersion"] {
        assert!(message.contains(&format!("'{field}'")), "{message}");
    }
}

#[tokio::test]
async fn a_call_that_panics_is_answered_as_a_defect_with_its_id() {
    let door = AwsDoor::new(defective());
    let (status, body, response) = answer(door, &[("x-request-id", "build-7")], GOOD).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    let exception = body["__type"].as_str().unwrap();
    assert!(
        exception.ends_with("InternalServerException"),
        "{exception}"
    );
    assert_eq!(response.headers()["x-amzn-requestid"], "build-7");
}

#[tokio::test]
async fn a_body_that_says_that_it_is_packed_is_not_read_as_it_is() {
    for (coding, expected) in [
        ("gzip", StatusCode::BAD_REQUEST),
        ("identity, gzip", StatusCode::BAD_REQUEST),
        ("Identity", StatusCode::OK),
        ("amz-1.0", StatusCode::OK),
    ] {
        let (status, body, _) = answer(door(), &[("content-encoding", coding)], GOOD).await;
        assert_eq!(status, expected, "{coding}: {body}");
    }
}
