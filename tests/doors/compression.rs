//! What is compressed, in both directions.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use prost::Message;
use proton_gateway::api::own::GetMetricsRequest;
use proton_gateway::api::pb::proton_service_client::ProtonServiceClient;
use proton_gateway::api::{Operation, Response, pb};
use proton_gateway::edge::compression::PAYS_FROM;
use proton_gateway::edge::grpc_door;
use proton_gateway::edge::health::Health;
use proton_gateway::gateway::Door as Doors;
use proton_gateway::telemetry::Metrics;
use tonic::codec::CompressionEncoding::{self, Gzip, Zstd};
use tonic::{Code, Status};
use tonic_types::StatusExt;
use tower::ServiceExt;

use super::{gateway_with, waits};

type Door = grpc_door::Edge<tonic::service::Routes>;

/// A door whose answers are about so long.
fn door(bytes: usize) -> Door {
    let gateway = gateway_with(Ok(answer(bytes)));
    let waits = waits(gateway.clone());
    grpc_door::routes(gateway, waits, Health::default()).unwrap()
}

fn answer(bytes: usize) -> Response {
    Response::GetEnvironment(pb::GetEnvironmentResponse {
        environment: Some(pb::Environment {
            name: Some("prod".to_owned()),
            spec: Some("x".repeat(bytes)),
            ..pb::Environment::default()
        }),
    })
}

fn get(name: &str) -> pb::GetEnvironmentRequest {
    pb::GetEnvironmentRequest {
        name: name.to_owned(),
    }
}

/// What is answered to whoever accepts `encodings`: that of the answer, whether its message is
/// compressed, and how long it is.
async fn sent(bytes: usize, encodings: Option<&str>) -> (Option<String>, bool, usize) {
    let rpc = "proton.v1.ProtonService/GetEnvironment";
    sent_by(door(bytes), rpc, &get("prod"), encodings).await
}

/// The same of any rpc.
async fn sent_by(
    door: Door,
    rpc: &str,
    message: &impl Message,
    encodings: Option<&str>,
) -> (Option<String>, bool, usize) {
    let message = message.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let frame = [&[0], &length[..], &message].concat();
    let mut request = Request::post(format!("/{rpc}")).header("content-type", "application/grpc");
    if let Some(encodings) = encodings {
        request = request.header("grpc-accept-encoding", encodings);
    }
    let request = request.body(Full::new(Bytes::from(frame))).unwrap();
    let response = door.oneshot(request).await.unwrap();
    let encoding = response.headers().get("grpc-encoding");
    let encoding = encoding.map(|it| it.to_str().unwrap().to_owned());
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (encoding, body.first() == Some(&1), body.len())
}

#[tokio::test]
async fn an_answer_is_compressed_as_its_caller_offers_if_it_is_long() {
    for encoding in ["gzip", "zstd"] {
        let (named, compressed, length) = sent(PAYS_FROM, Some(encoding)).await;
        assert_eq!((named.as_deref(), compressed), (Some(encoding), true));
        assert!(length < PAYS_FROM / 10, "{length}");
    }
    let long = PAYS_FROM + 64;
    let first = sent(long, Some("identity, deflate, zstd, gzip")).await;
    assert_eq!(first.0.as_deref(), Some("zstd"));
    for (bytes, encodings) in [
        (PAYS_FROM / 2, Some("gzip")),
        (PAYS_FROM, None),
        (PAYS_FROM, Some("identity")),
        (PAYS_FROM, Some("deflate, br")),
    ] {
        let (named, compressed, length) = sent(bytes, encodings).await;
        assert_eq!((named, compressed), (None, false), "{bytes} {encodings:?}");
        assert!(length > bytes);
    }
}

#[tokio::test]
async fn the_answers_of_the_gateway_itself_are_compressed_alike() {
    let metrics = Metrics::new().unwrap();
    for operation in Operation::ALL {
        metrics.call(operation, Doors::Grpc, "OK", Duration::ZERO);
    }
    let gateway = gateway_with(Ok(answer(1))).measured_by(metrics);
    let waits = waits(gateway.clone());
    let door = || grpc_door::routes(gateway.clone(), waits.clone(), Health::default()).unwrap();
    let rpc = "proton.gateway.v1.GatewayService/GetMetrics";
    let all = GetMetricsRequest::default();
    let (_, _, plain) = sent_by(door(), rpc, &all, None).await;
    assert!(plain > 10 * PAYS_FROM, "{plain}");
    for encoding in ["gzip", "zstd"] {
        let (named, compressed, length) = sent_by(door(), rpc, &all, Some(encoding)).await;
        assert_eq!((named.as_deref(), compressed), (Some(encoding), true));
        assert!(length < plain / 4, "{length} of {plain}");
    }
    let none = GetMetricsRequest {
        names: vec!["none".to_owned()],
    };
    let (named, compressed, _) = sent_by(door(), rpc, &none, Some("gzip")).await;
    assert_eq!((named, compressed), (None, false));
}

#[tokio::test]
async fn a_client_of_each_compression_gets_the_same_answer() {
    for encoding in [Gzip, Zstd] {
        for bytes in [1, PAYS_FROM, 1 << 20] {
            let mut client = ProtonServiceClient::new(door(bytes))
                .send_compressed(encoding)
                .accept_compressed(encoding);
            let found = client.get_environment(get("prod")).await.unwrap();
            let spec = found.into_inner().environment.unwrap().spec.unwrap();
            assert_eq!(spec.len(), bytes);
        }
    }
}

#[tokio::test]
async fn a_message_that_unpacks_to_more_than_may_be_sent_is_refused() {
    let refused = async |encoding: CompressionEncoding, megabytes: usize| {
        let client = ProtonServiceClient::new(door(1)).send_compressed(encoding);
        let bomb = get(&"x".repeat(megabytes << 20));
        client.clone().get_environment(bomb).await.unwrap_err()
    };
    for encoding in [Gzip, Zstd] {
        for megabytes in [2, 200] {
            let status = refused(encoding, megabytes).await;
            assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
            let info = status.get_details_error_info().unwrap();
            assert_eq!(info.reason, "UNREADABLE_REQUEST", "{status:?}");
            assert!(status.message().contains("too large"), "{status:?}");
        }
    }
}

#[tokio::test]
async fn a_compression_that_is_not_known_is_named_with_those_that_are() {
    let request = Request::post("/proton.v1.ProtonService/GetEnvironment")
        .header("content-type", "application/grpc")
        .header("grpc-encoding", "deflate")
        .body(Full::new(Bytes::from_static(&[0; 5])))
        .unwrap();
    let response = door(1).oneshot(request).await.unwrap();
    let accepted = response.headers()["grpc-accept-encoding"].to_str().unwrap();
    assert!(
        accepted.contains("gzip") && accepted.contains("zstd"),
        "{accepted}"
    );
    let status = Status::from_header_map(response.headers()).unwrap();
    assert_eq!(status.code(), Code::Unimplemented);
    assert!(status.message().contains("deflate"), "{status:?}");
    assert!(status.get_details_error_info().is_some());
}
