//! Services that are deleted, with what belongs to them.

use proton_gateway::api::pb::{self, DeploymentStatus as Deployment, ServiceStatus as Status};

use crate::conformance;
use crate::service_fixtures::*;

const NOT_FOUND: &str = "ResourceNotFoundException";
const CONFLICT: &str = "ConflictException";

conformance! {
    async fn a_deletion_answers_the_same_until_everything_is_gone(world) {
        shop(world).await;
        let first = world.ok(delete_service("shop")).await.service.unwrap();
        assert_eq!(first.status(), Status::DeleteInProgress);
        assert_eq!(
            first.pipeline.unwrap().deployment_status(),
            Deployment::DeleteInProgress
        );
        let again = world.ok(delete_service("shop")).await.service.unwrap();
        assert_eq!(again.status(), Status::DeleteInProgress);
        assert_eq!(
            instance_status(world, "shop", "eu").await,
            Deployment::DeleteInProgress
        );

        world.step().await;
        world
            .fails(pb::GetServiceRequest {
                name: "shop".to_owned(),
            })
            .await
            .is(NOT_FOUND)
            .says("shop");
        world.fails(get_instance("shop", "eu")).await.is(NOT_FOUND);
        assert_eq!(world.ok(delete_service("shop")).await.service, None);
    }

    async fn a_deletion_that_failed_can_be_tried_again_and_nothing_else(world) {
        shop(world).await;
        world.ok(delete_service("shop")).await;
        fail(world, "service/shop/service-instance/us").await;
        world.step().await;
        let failed = service(world, "shop").await;
        assert_eq!(failed.status(), Status::DeleteFailed);
        assert!(failed.status_message().contains("service-instance/us"));
        assert_eq!(instances(world, "shop").await, ["us"]);

        world
            .fails(edit("shop", failed.spec()))
            .await
            .is(CONFLICT)
            .because("PRECONDITION_FAILED");
        world
            .fails(update_instance("shop", "us", None))
            .await
            .is(CONFLICT)
            .because("PRECONDITION_FAILED");
        world.ok(delete_service("shop")).await;
        world.step().await;
        assert_eq!(world.ok(delete_service("shop")).await.service, None);
    }

    async fn a_pipeline_that_cannot_be_deleted_keeps_its_service(world) {
        shop(world).await;
        world.ok(delete_service("shop")).await;
        fail(world, "service/shop/pipeline").await;
        world.step().await;
        let failed = service(world, "shop").await;
        assert_eq!(failed.status(), Status::DeleteFailed);
        assert_eq!(
            failed.pipeline.unwrap().deployment_status(),
            Deployment::DeleteFailed
        );
    }

    /// The instances are gone then, and the model wants an environment.
    async fn a_deletion_of_a_pipeline_is_of_the_same_environment_when_it_is_tried_again(world) {
        shop(world).await;
        let mut former = None;
        for _ in 0..3 {
            let deleting = world.ok(delete_service("shop")).await.service.unwrap();
            let id = deleting.pipeline.unwrap().last_attempted_deployment_id.unwrap();
            assert_eq!(deployment(world, &id).await.environment_name(), "prod");
            fail(world, "service/shop/pipeline").await;
            world.step().await;
            if former.is_some() {
                world.ok(pb::DeleteDeploymentRequest { id: id.clone() }).await;
            }
            former = Some(id);
        }
    }

    async fn a_name_can_be_used_again_after_a_deletion(world) {
        batch(world).await;
        world.ok(delete_service("batch")).await;
        world.step().await;
        world
            .ok(create_job("batch", &[("us", "test", "batch:9")]))
            .await;
        world.step().await;
        assert_eq!(instances(world, "batch").await, ["us"]);
    }

    async fn an_instance_with_a_component_is_neither_removed_nor_deleted(world) {
        batch(world).await;
        let both = job_spec(&[("eu", "prod", "batch:1"), ("us", "prod", "batch:1")]);
        world.ok(edit("batch", &both)).await;
        world.settle().await;
        world.ok(attach_new("cache", "batch", "us")).await;
        world.settle().await;
        let without = job_spec(&[("eu", "prod", "batch:1")]);
        world
            .fails(edit("batch", &without))
            .await
            .is(CONFLICT)
            .because("PRECONDITION_FAILED")
            .says("component/cache is attached");
        world
            .fails(delete_service("batch"))
            .await
            .is(CONFLICT)
            .because("PRECONDITION_FAILED")
            .says("component/cache is attached");
    }
}
