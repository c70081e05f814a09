//! Callers, known or not, that begin requests and never end them: they keep nobody else out.

use std::convert::Infallible;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::request::Builder;
use http::{Request, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full, StreamBody};
use proton_gateway::api::health::HealthCheckRequest;
use proton_gateway::api::health::health_client::HealthClient;
use proton_gateway::api::pb::proton_service_client::ProtonServiceClient;
use proton_gateway::edge::aws_door::AwsDoor;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tonic::Code;
use tower::ServiceExt;

use super::authentication::{ACCESS_KEY, World, call};

/// A body that begins like this and never ends.
fn endless(first: Vec<u8>) -> impl Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static {
    let first = stream::iter((!first.is_empty()).then(|| Ok(Frame::data(Bytes::from(first)))));
    StreamBody::new(first.chain(stream::pending()))
}

/// Begins so many requests of the gRPC door that never end: their statuses, when they come.
async fn begin(
    world: &World,
    count: usize,
    path: &str,
    headers: &[(&str, &str)],
    first: &[u8],
) -> Vec<JoinHandle<String>> {
    let door = world.grpc();
    let begun = (0..count).map(|_| {
        let request = with(Request::post(path), headers)
            .header("content-type", "application/grpc")
            .body(endless(first.to_vec()))
            .unwrap();
        let answer = door.clone().oneshot(request);
        tokio::spawn(async move {
            let response = answer.await.unwrap();
            response.headers()["grpc-status"]
                .to_str()
                .unwrap()
                .to_owned()
        })
    });
    let begun = begun.collect();
    all_are_read().await;
    begun
}

/// The clock stands still until there is nothing else to do.
async fn all_are_read() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

fn with(request: Builder, headers: &[(&str, &str)]) -> Builder {
    headers.iter().fold(request, |request, (name, value)| {
        request.header(*name, *value)
    })
}

/// Whether somebody else is answered on the gRPC door.
async fn another_is_answered(world: &World) {
    let mut client = ProtonServiceClient::new(world.grpc());
    let credential = format!("Bearer {}", world.jwt("proton"));
    let answer = client.get_environment(call(&[&credential])).await;
    assert!(answer.is_ok(), "{answer:?}");
}

fn signed() -> (String, String) {
    let date = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let date = date.replace(['-', ':'], "");
    let scope = format!("{}/eu-central-1/proton/aws4_request", &date[..8]);
    let headers = "SignedHeaders=host;x-amz-date;x-amz-target";
    let signature = "0".repeat(64);
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/{scope}, {headers}, Signature={signature}"
    );
    (date, authorization)
}

/// What the AWS door answers to this, and when.
async fn on_the_aws_door<B>(
    door: AwsDoor,
    headers: &[(&str, &str)],
    body: B,
) -> (StatusCode, String, Duration)
where
    B: Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
{
    let began = Instant::now();
    let request = Request::post("/")
        .header("host", "proton.example")
        .header("content-type", "application/x-amz-json-1.0")
        .header("x-amz-target", "AwsProton20200720.GetEnvironment");
    let request = with(request, headers).body(body).unwrap();
    let response = door.oneshot(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8(body.to_vec()).unwrap();
    (status, text, began.elapsed())
}

#[tokio::test(start_paused = true)]
async fn health_requests_without_a_message_keep_nobody_out_and_end_soon() {
    let world = World::new().await;
    let began = Instant::now();
    let waiting = begin(&world, 4200, "/grpc.health.v1.Health/Check", &[], &[]).await;
    another_is_answered(&world).await;
    for answer in waiting {
        let status = answer.await.unwrap();
        assert!(status == "4" || status == "14", "{status}");
    }
    assert!(began.elapsed() < Duration::from_secs(6));
    let mut health = HealthClient::new(world.grpc());
    assert!(health.check(HealthCheckRequest::default()).await.is_ok());
}

#[tokio::test]
async fn a_health_request_has_a_small_message() {
    let world = World::new().await;
    let mut health = HealthClient::new(world.grpc());
    let service = "x".repeat(2000);
    let refused = health.check(HealthCheckRequest { service }).await;
    assert_ne!(refused.unwrap_err().code(), Code::NotFound);
}

const GET: &str = "/proton.v1.ProtonService/GetEnvironment";

#[tokio::test(start_paused = true)]
async fn a_caller_takes_no_more_than_its_part() {
    let world = World::new().await;
    let token = format!("Bearer {}", world.token);
    let mut large = vec![0, 0, 15, 255, 255];
    large.resize(1 << 20, 0);
    let headers = [("authorization", token.as_str())];
    let _waiting = begin(&world, 64, GET, &headers, &large).await;
    another_is_answered(&world).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_message_may_unpack_to_is_taken_once_it_begins() {
    let world = World::new().await;
    let token = format!("Bearer {}", world.token);
    let headers = [("authorization", token.as_str()), ("grpc-encoding", "gzip")];
    let _waiting = begin(&world, 64, GET, &headers, &[]).await;
    another_is_answered(&world).await;
    let mut client = ProtonServiceClient::new(world.grpc());
    let answer = client.get_environment(call(&[&token])).await;
    assert!(answer.is_ok(), "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_go_on_is_refused_on_the_grpc_door() {
    let world = World::new().await;
    let token = format!("Bearer {}", world.token);
    let headers = [("authorization", token.as_str())];
    let began = Instant::now();
    for first in [&[][..], &[0, 0, 0]] {
        for answer in begin(&world, 1, GET, &headers, first).await {
            assert_eq!(answer.await.unwrap(), "4");
        }
    }
    assert!(began.elapsed() < Duration::from_secs(21));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_go_on_is_refused_on_the_aws_door() {
    let world = World::new().await;
    let token = format!("Bearer {}", world.token);
    let headers = [("authorization", token.as_str())];
    let (status, text, took) = on_the_aws_door(world.aws(), &headers, endless(vec![b'{'])).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{text}");
    assert!(took < Duration::from_secs(11), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn who_only_claims_to_sign_keeps_out_no_one_who_is_known() {
    let world = World::new().await;
    let (date, authorization) = signed();
    for number in 0..83 {
        // The last ones take what is too little for one more body.
        let body = endless(vec![b' '; if number < 63 { 1_048_000 } else { 0 }]);
        let (door, date, authorization) = (world.aws(), date.clone(), authorization.clone());
        tokio::spawn(async move {
            let headers = [
                ("x-amz-date", date.as_str()),
                ("authorization", authorization.as_str()),
            ];
            on_the_aws_door(door, &headers, body).await
        });
    }
    all_are_read().await;
    another_is_answered(&world).await;
    let token = format!("Bearer {}", world.token);
    let body = Full::new(Bytes::from_static(b"{\"name\":\"prod\"}"));
    let headers = [("authorization", token.as_str())];
    let (status, text, _) = on_the_aws_door(world.aws(), &headers, body).await;
    assert_eq!(status, StatusCode::OK, "{text}");
}

const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

#[tokio::test(start_paused = true)]
async fn streams_of_reflection_that_ask_for_nothing_take_nothing_from_calls() {
    let world = World::new().await;
    let token = format!("Bearer {}", world.token);
    let headers = [("authorization", token.as_str()), ("grpc-encoding", "gzip")];
    let door = world.grpc();
    let mut streams = Vec::new();
    for _ in 0..80 {
        let request = with(Request::post(REFLECTION), &headers)
            .header("content-type", "application/grpc")
            .body(endless(vec![1]))
            .unwrap();
        streams.push(door.clone().oneshot(request).await.unwrap());
    }
    all_are_read().await;
    let mut client = ProtonServiceClient::new(world.grpc());
    let answer = client.get_environment(call(&[&token])).await;
    assert!(answer.is_ok(), "{answer:?}");
    // And they end by themselves.
    let began = Instant::now();
    for stream in streams {
        drop(stream.into_body().collect().await);
    }
    assert!(began.elapsed() < Duration::from_secs(61));
}
