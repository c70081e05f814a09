//! A world with every kind of resource, and every state that lasts.

use proton_gateway::api::pb::{self, DeploymentUpdateType, ResourceDeploymentStatus};

use crate::platform_fixtures as platform;
use crate::service_fixtures::{self as services, output};
use crate::support::{Backend, World, tag};

/// All there can be, with something under way.
pub async fn world() -> World {
    let world = World::over(Backend::OnDisk).await;
    let w = &world;
    services::attached(w).await;
    services::onprem(w).await;
    templates(w).await;
    environments(w).await;
    services_and_components(w).await;
    account(w).await;
    // Under way: a creation of a service, an update that is being cancelled, one that waits for a
    // report, and a registration.
    w.ok(services::create_web("fresh", &[("eu", "prod", "fresh:1")]))
        .await;
    w.ok(platform::update_environment(
        "test",
        DeploymentUpdateType::CurrentVersion,
    ))
    .await;
    w.ok(platform::cancel_environment("test")).await;
    w.ok(services::service_version("job", Some("1"))).await;
    world
}

async fn templates(w: &World) {
    // 1.0, 1.2, 3.0: what is between was deleted, and one registration failed.
    platform::bus(w).await;
    for _ in 0..2 {
        platform::published(w, platform::new_environment_minor("bus", "1")).await;
    }
    platform::published(w, platform::new_environment_version("bus")).await;
    platform::registered(w, platform::new_environment_version("bus")).await;
    w.ok(platform::delete_environment_version("bus", "1.1"))
        .await;
    w.ok(platform::delete_environment_version("bus", "3.0"))
        .await;
    platform::registered(w, platform::new_environment_version("bus")).await;
    let nowhere = pb::CreateEnvironmentTemplateVersionRequest {
        source: platform::object("nowhere"),
        description: Some("never \"there\"".to_owned()),
        ..platform::new_environment_version("bus")
    };
    platform::registered(w, nowhere).await;
    w.ok(pb::UpdateEnvironmentTemplateRequest {
        name: "bus".to_owned(),
        description: Some("Ereignisse für alle\nzwei Zeilen".to_owned()),
        display_name: Some("Event bus".to_owned()),
    })
    .await;
    platform::given(w).await;
}

async fn environments(w: &World) {
    w.ok(pb::CreateEnvironmentRequest {
        tags: vec![tag("team", "a/b"), tag("cost", "")],
        description: Some("the bus".to_owned()),
        ..platform::new_environment("events")
    })
    .await;
    w.step().await;
    w.ok(platform::update_environment(
        "events",
        DeploymentUpdateType::CurrentVersion,
    ))
    .await;
    services::fail(w, "environment/events").await;
    w.ok(platform::new_given("own")).await;
    w.step().await;
    // Failed at its creation; deleted, but still remembered.
    w.ok(platform::new_environment("broken")).await;
    services::fail(w, "environment/broken").await;
    w.ok(platform::new_environment("gone")).await;
    w.step().await;
    w.ok(platform::delete_environment("gone")).await;
    w.step().await;
    let id = platform::connected(w, "far").await;
    w.ok(pb::CreateEnvironmentRequest {
        proton_service_role_arn: None,
        environment_account_connection_id: Some(id),
        ..platform::new_environment("far")
    })
    .await;
    w.step().await;
}

async fn services_and_components(w: &World) {
    w.ok(pb::CreateServiceRequest {
        tags: vec![tag("team", "shop")],
        ..services::create_web(
            "shop",
            &[("eu", "prod", "shop:1"), ("us", "prod", "shop:1")],
        )
    })
    .await;
    w.step().await;
    w.step().await;
    w.ok(pb::NotifyResourceDeploymentStatusChangeRequest {
        outputs: vec![
            output("Url", "https://shop.example"),
            output("Arn", "arn:x"),
        ],
        ..services::report(
            "service/shop/service-instance/eu",
            ResourceDeploymentStatus::Succeeded,
        )
    })
    .await;
    w.ok(pb::NotifyResourceDeploymentStatusChangeRequest {
        outputs: vec![output("Repo", "ecr/shop")],
        ..services::report("service/shop/pipeline", ResourceDeploymentStatus::Succeeded)
    })
    .await;
    services::release(w, "web", Some("1")).await;
    w.ok(pb::UpdateServiceInstanceRequest {
        client_token: Some("a-token-of-a-pipeline".to_owned()),
        ..services::update_instance("shop", "us", None)
    })
    .await;
    services::fail(w, "service/shop/service-instance/us").await;
    // Its creation failed.
    w.ok(services::create_job("halted", &[("eu", "prod", "x")]))
        .await;
    services::fail(w, "service/halted/service-instance/eu").await;
    w.ok(services::create_component("alone")).await;
    services::fail(w, "component/alone").await;
    w.ok(services::create_component("stopped")).await;
    w.step().await;
    w.ok(services::update_component("stopped")).await;
    w.ok(pb::CancelComponentDeploymentRequest {
        component_name: "stopped".to_owned(),
    })
    .await;
    w.step().await;
    w.ok(pb::CreateServiceRequest {
        template_name: "tf-job".to_owned(),
        ..services::create_job("local", &[("a", "onprem", "local:1")])
    })
    .await;
}

async fn account(w: &World) {
    platform::requested(w, "later").await;
    let id = platform::requested(w, "never").await;
    w.ok(platform::reject(&id)).await;
    w.ok(platform::new_template_sync("bus")).await;
    w.ok(platform::new_service_sync("shop")).await;
    w.ok(pb::UpdateAccountSettingsRequest {
        pipeline_service_role_arn: Some(platform::ROLE.to_owned()),
        pipeline_provisioning_repository: Some(services::branch()),
        ..Default::default()
    })
    .await;
    for tail in [
        "environment-template/bus",
        "environment-template/bus:1.0",
        "service/shop/service-instance/eu",
        "component/cache",
        "repository/github:acme/infrastructure",
    ] {
        w.ok(pb::TagResourceRequest {
            resource_arn: services::arn(tail),
            tags: vec![tag("kept", tail)],
        })
        .await;
    }
}
