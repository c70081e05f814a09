//! Deploys do only what their caller may do call by call.

use futures_util::StreamExt;
use proton_gateway::admission::Guards;
use proton_gateway::api::own;
use proton_gateway::api::own::DeployAction;
use proton_gateway::api::own::gateway_service_server::GatewayService;
use proton_gateway::api::pb;
use proton_gateway::auth::policy::Authorizer;
use proton_gateway::deploy::Deploys;
use proton_gateway::edge::gateway_service::Own;
use proton_gateway::gateway::Gateway;
use proton_gateway::pipeline;
use proton_gateway::telemetry::Metrics;
use proton_gateway::waits::{Key, Settings, Waits};
use tonic::{Code, Status};

use crate::service_fixtures::*;
use crate::support::{Backend, World};

use super::{caller, request};

/// The deploys of a gateway with built-in roles over the world's engine.
fn own(world: &World) -> Own {
    let authorizer = Authorizer::open(&Default::default()).unwrap();
    let guards = Guards {
        authorizer: Some(authorizer.clone()),
        ..Guards::default()
    };
    let pipeline = pipeline::build(world.engine.clone(), Metrics::new().unwrap(), &guards);
    let gateway = Gateway::new(pipeline).guarded_by(guards);
    let waits = Waits::new(
        gateway.clone(),
        world.changes.clone(),
        Settings::with_key(Key::random().unwrap()),
        world.shutdown.clone(),
    );
    Own::new(Deploys::new(gateway, waits), Some(authorizer))
}

fn wanted(name: &str) -> own::DeployServiceInstanceRequest {
    own::DeployServiceInstanceRequest {
        service_instance: Some(pb::CreateServiceInstanceRequest {
            spec: job_spec(&[(name, "prod", "batch:2")]),
            ..add_instance(name)
        }),
        options: None,
    }
}

/// How the deploy of `name` began.
async fn deploy(own: &Own, name: &str, role: &str) -> Result<DeployAction, Status> {
    let request = request(&caller("dora", &[role]), wanted(name));
    let mut items = own.deploy_service_instance(request).await?.into_inner();
    Ok(items.next().await.unwrap()?.action())
}

#[tokio::test]
async fn a_developer_deploys_what_exists_and_joins_what_runs_but_creates_nothing() {
    let world = World::over(Backend::InMemory).await;
    batch(&world).await;
    let own = own(&world);
    let refused = deploy(&own, "us", "developer").await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let says = "CreateServiceInstance on service-instance/batch/us";
    assert!(refused.message().contains(says), "{refused:?}");
    assert_eq!(instances(&world, "batch").await, ["eu"]);

    let action = deploy(&own, "eu", "developer").await.unwrap();
    assert_eq!(action, DeployAction::Updated);
    // Although a developer may not read deployments.
    let action = deploy(&own, "eu", "developer").await.unwrap();
    assert_eq!(action, DeployAction::Joined);
}

#[tokio::test]
async fn an_administrator_creates_by_deploying_and_a_viewer_does_nothing() {
    let world = World::over(Backend::InMemory).await;
    batch(&world).await;
    let own = own(&world);
    let refused = deploy(&own, "eu", "viewer").await.unwrap_err();
    let says = "DeployServiceInstance on service-instance/batch/eu";
    assert!(refused.message().contains(says), "{refused:?}");
    let action = deploy(&own, "us", "administrator").await.unwrap();
    assert_eq!(action, DeployAction::Created);
}
