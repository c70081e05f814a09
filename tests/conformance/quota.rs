//! Quotas are settings of the engine, and the same over every backend.

use proton_gateway::api::pb;
use proton_gateway::backend::engine::Quotas;

use crate::platform_fixtures::*;
use crate::support::{Backend, Refusal, World};

async fn limited(limit: impl FnOnce(&mut Quotas)) -> World {
    let mut quotas = Quotas::default();
    limit(&mut quotas);
    World::with_quotas(Backend::InMemory, quotas).await
}

#[track_caller]
fn is_used_up(refusal: &Refusal, quota: &str) {
    refusal
        .is("ServiceQuotaExceededException")
        .because("QUOTA_EXCEEDED")
        .says(quota);
}

#[tokio::test]
async fn templates_of_both_kinds_share_a_quota_which_a_deletion_makes_room_in() {
    let world = limited(|quotas| quotas.templates = 2).await;
    world.ok(new_environment_template("a")).await;
    world.ok(new_service_template("b")).await;
    is_used_up(&world.fails(new_service_template("c")).await, "2 templates");
    is_used_up(
        &world.fails(new_environment_template("c")).await,
        "2 templates",
    );
    // A repeat makes nothing.
    world.ok(new_service_template("b")).await;
    world
        .ok(pb::DeleteEnvironmentTemplateRequest {
            name: "a".to_owned(),
        })
        .await;
    world.ok(new_service_template("c")).await;
}

#[tokio::test]
async fn versions_are_counted_by_template() {
    let world = limited(|quotas| quotas.versions_per_template = 1).await;
    bus(&world).await;
    let refusal = world.fails(new_environment_minor("bus", "1")).await;
    is_used_up(&refusal, "1 versions per template");
    worker(&world).await;
    let refusal = world.fails(new_service_version("worker")).await;
    is_used_up(&refusal, "1 versions per template");
}

#[tokio::test]
async fn environments_are_limited() {
    let world = limited(|quotas| quotas.environments = 1).await;
    prod(&world).await;
    is_used_up(
        &world.fails(new_environment("test")).await,
        "1 environments",
    );
    world.ok(new_environment("prod")).await;
    world.ok(delete_environment("prod")).await;
    world.step().await;
    world.ok(new_environment("test")).await;
}

#[tokio::test]
async fn connections_are_limited() {
    let world = limited(|quotas| quotas.account_connections = 1).await;
    requested(&world, "prod").await;
    let refusal = world.fails(new_connection("test")).await;
    is_used_up(&refusal, "1 environment account connections");
}

#[tokio::test]
async fn repositories_are_limited() {
    let world = limited(|quotas| quotas.repositories = 1).await;
    repository(&world, REPOSITORY).await;
    is_used_up(
        &world.fails(new_repository("acme/b")).await,
        "1 repositories",
    );
}

#[tokio::test]
async fn services_are_limited() {
    let world = limited(|quotas| quotas.services = 1).await;
    mailer(&world).await;
    is_used_up(&world.fails(new_service("other")).await, "1 services");
}

#[tokio::test]
async fn instances_are_counted_by_service() {
    let world = limited(|quotas| quotas.instances_per_service = 1).await;
    mailer(&world).await;
    let two = "proton: ServiceSpec\ninstances: [{name: a, environment: prod}, {name: b, environment: prod}]\n";
    let refusal = world
        .fails(pb::CreateServiceRequest {
            spec: two.to_owned(),
            ..new_service("other")
        })
        .await;
    is_used_up(&refusal, "instances");
}

#[tokio::test]
async fn components_are_limited() {
    let world = limited(|quotas| quotas.components = 1).await;
    bus(&world).await;
    world
        .ok(pb::CreateEnvironmentRequest {
            component_role_arn: some(ROLE),
            ..new_environment("prod")
        })
        .await;
    world.step().await;
    world.ok(new_component("a", "prod")).await;
    is_used_up(
        &world.fails(new_component("b", "prod")).await,
        "1 components",
    );
}
