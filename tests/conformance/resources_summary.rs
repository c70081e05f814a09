use proton_gateway::api::pb::{self, ResourceDeploymentStatus as Outcome};

use crate::platform_fixtures::*;
use crate::support::World;

async fn counts(world: &World) -> pb::CountsSummary {
    let response = world.ok(pb::GetResourcesSummaryRequest {}).await;
    response.counts.unwrap()
}

fn total(count: i32) -> Option<pb::ResourceCountsSummary> {
    Some(pb::ResourceCountsSummary {
        total: Some(count),
        ..Default::default()
    })
}

fn deployed(
    total: i32,
    [up_to_date, behind_minor, behind_major, failed]: [i32; 4],
) -> Option<pb::ResourceCountsSummary> {
    Some(pb::ResourceCountsSummary {
        behind_major: Some(behind_major),
        behind_minor: Some(behind_minor),
        failed: Some(failed),
        total: Some(total),
        up_to_date: Some(up_to_date),
    })
}

crate::conformance! {
    async fn an_empty_account_counts_nothing(world) {
        let counts = counts(world).await;
        assert_eq!(counts.environments, deployed(0, [0; 4]));
        assert_eq!(counts.pipelines, deployed(0, [0; 4]));
        assert_eq!(counts.environment_templates, total(0));
        assert_eq!(counts.components.unwrap().total(), 0);
    }

    async fn all_kinds_of_resources_are_counted(world) {
        mailer(world).await;
        given(world).await;
        let counts = counts(world).await;
        assert_eq!(counts.environment_templates, total(2));
        assert_eq!(counts.service_templates, total(1));
        assert_eq!(counts.environments, deployed(1, [1, 0, 0, 0]));
        assert_eq!(counts.service_instances, deployed(1, [1, 0, 0, 0]));
        assert_eq!(counts.pipelines, deployed(0, [0; 4]));
        let services = counts.services.unwrap();
        assert_eq!((services.total(), services.failed()), (1, 0));
    }

    async fn environments_are_compared_with_the_recommended_version(world) {
        bus(world).await;
        published(world, new_environment_minor("bus", "1")).await;
        let at = |name: &str, major: &str, minor: &str| pb::CreateEnvironmentRequest {
            template_major_version: major.to_owned(),
            template_minor_version: some(minor),
            ..new_environment(name)
        };
        world.ok(at("old", "1", "0")).await;
        world.ok(at("new", "1", "1")).await;
        assert_eq!(counts(world).await.environments, deployed(2, [0; 4]));
        world.step().await;
        assert_eq!(counts(world).await.environments, deployed(2, [1, 1, 0, 0]));
        published(world, new_environment_version("bus")).await;
        assert_eq!(counts(world).await.environments, deployed(2, [0, 0, 2, 0]));
    }

    async fn a_failed_first_deployment_counts_as_failed_alone(world) {
        bus(world).await;
        world.ok(new_environment("prod")).await;
        world.ok(report("prod", Outcome::Failed)).await;
        assert_eq!(counts(world).await.environments, deployed(1, [0, 0, 0, 1]));
    }
}
