//! What callers of both doors say to the cache, and what it says to them.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use proton_gateway::api::pb;
use proton_gateway::api::pb::proton_service_client::ProtonServiceClient;
use proton_gateway::edge::aws_door::AwsDoor;
use proton_gateway::edge::grpc_door;
use proton_gateway::edge::health::Health;
use proton_gateway::waits::{Key, Settings, Waits};
use tonic::{Code, Request};
use tower::ServiceExt;

use super::keeping;
use super::support::{Backend, World};

async fn world() -> Arc<World> {
    Arc::new(keeping(Backend::InMemory).await)
}

/// What the gRPC door says of the cache to a caller with this demand.
async fn grpc(world: &World, demand: &str) -> Result<(String, String), Code> {
    let settings = Settings::with_key(Key::random().unwrap());
    let (changes, shutdown) = (world.changes.clone(), world.shutdown.clone());
    let waits = Waits::new(world.gateway.clone(), changes, settings, shutdown);
    let door = grpc_door::routes(world.gateway.clone(), waits, Health::default()).unwrap();
    let mut request = Request::new(pb::GetAccountSettingsRequest {});
    let value = demand.parse().unwrap();
    request.metadata_mut().insert("cache-control", value);
    let answer = ProtonServiceClient::new(door)
        .get_account_settings(request)
        .await
        .map_err(|status| status.code())?;
    let text = |name| {
        let value = answer.metadata().get(name).unwrap();
        value.to_str().unwrap().to_owned()
    };
    Ok((text("cache-status"), text("age")))
}

/// The same of the AWS door.
async fn aws(world: &World, demand: &str) -> Result<(String, String), u16> {
    let request = http::Request::post("/")
        .header("content-type", "application/x-amz-json-1.0")
        .header("x-amz-target", "AwsProton20200720.GetAccountSettings")
        .header("cache-control", demand)
        .body(Full::new(Bytes::from_static(b"{}")))
        .unwrap();
    let door = AwsDoor::new(world.gateway.clone());
    let answer = door.oneshot(request).await.unwrap();
    if !answer.status().is_success() {
        return Err(answer.status().as_u16());
    }
    let text = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
    Ok((text("cache-status"), text("age")))
}

fn served(status: &str) -> (String, String) {
    (status.to_owned(), "0".to_owned())
}

#[tokio::test]
async fn grpc_callers_say_what_they_want_of_the_cache_and_are_told_whence_an_answer_came() {
    let world = world().await;
    let refused = grpc(&world, "only-if-cached").await;
    assert_eq!(refused, Err(Code::FailedPrecondition));
    assert_eq!(grpc(&world, "max-age=60").await, Ok(served("miss")));
    assert_eq!(grpc(&world, "max-age=60").await, Ok(served("hit")));
    assert_eq!(grpc(&world, "only-if-cached").await, Ok(served("hit")));
    assert_eq!(grpc(&world, "no-cache").await, Ok(served("miss")));
}

#[tokio::test]
async fn callers_of_the_aws_door_do_so_in_headers_and_share_what_is_kept() {
    let world = world().await;
    assert_eq!(aws(&world, "only-if-cached").await, Err(400));
    assert_eq!(grpc(&world, "").await, Ok(served("miss")));
    assert_eq!(aws(&world, "").await, Ok(served("hit")));
    assert_eq!(aws(&world, "no-cache").await, Ok(served("miss")));
}
