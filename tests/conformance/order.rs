//! Mutations that wait for deployments.

use futures_util::future::join;
use proton_gateway::api::pb::{self, DeploymentStatus as Status, DeploymentUpdateType as Mode};
use proton_gateway::config::order::OrderConfig;

use crate::platform_fixtures::*;
use crate::support::{Backend, World};

fn with_spec(spec: &str) -> pb::UpdateEnvironmentRequest {
    pb::UpdateEnvironmentRequest {
        spec: some(spec),
        ..update_environment("prod", Mode::CurrentVersion)
    }
}

async fn an_update_waits_until_the_deployment_before_it_has_ended(backend: Backend) {
    let order = OrderConfig {
        enabled: true,
        ..OrderConfig::default()
    };
    let world = World::in_order(backend, &order).await;
    prod(&world).await;
    let first = world.ok(with_spec(OTHER_SPEC)).await.environment.unwrap();
    let end = async {
        world.step().await;
        // Over the wire nobody tells.
        world.changes.publish("prod");
    };
    let (second, ()) = join(world.ok(with_spec(SPEC)), end).await;
    let second = second.environment.unwrap();
    assert_eq!(second.spec(), OTHER_SPEC);
    assert_eq!(
        second.last_succeeded_deployment_id,
        first.last_attempted_deployment_id
    );
    world.step().await;
    let prod = environment(&world, "prod").await;
    assert_eq!(prod.deployment_status(), Status::Succeeded);
    assert_eq!(prod.spec(), SPEC);
}

#[tokio::test]
async fn in_memory() {
    an_update_waits_until_the_deployment_before_it_has_ended(Backend::InMemory).await;
}

#[tokio::test]
async fn on_disk() {
    an_update_waits_until_the_deployment_before_it_has_ended(Backend::OnDisk).await;
}

#[tokio::test]
async fn through_the_aws_door() {
    an_update_waits_until_the_deployment_before_it_has_ended(Backend::ThroughAwsDoor).await;
}

#[tokio::test]
async fn a_call_whose_outcome_is_known_does_not_wait_in_line() {
    let order = OrderConfig {
        enabled: true,
        ..OrderConfig::default()
    };
    let world = World::in_order(Backend::InMemory, &order).await;
    prod(&world).await;
    let update = || world.keyed("ci", "k", with_spec(OTHER_SPEC));
    let (first, _) = update().await.unwrap();
    tokio::select! {
        biased;
        _ = world.call(with_spec(SPEC)) => panic!("it waits for the first one"),
        again = update() => assert_eq!(again.unwrap(), (first, true)),
    }
}
