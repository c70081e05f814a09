//! Components that are deployed anew, attached, detached, cancelled and deleted.

use proton_gateway::api::pb::{
    self, ComponentDeploymentUpdateType as Mode, DeploymentStatus as Status,
    deployment_state::State,
};

use crate::conformance;
use crate::service_fixtures::*;

const INVALID: &str = "ValidationException";
const NOT_FOUND: &str = "ResourceNotFoundException";
const CONFLICT: &str = "ConflictException";

fn delete(name: &str) -> pb::DeleteComponentRequest {
    pb::DeleteComponentRequest {
        name: name.to_owned(),
    }
}

fn cancel(name: &str) -> pb::CancelComponentDeploymentRequest {
    pb::CancelComponentDeploymentRequest {
        component_name: name.to_owned(),
    }
}

fn detach(name: &str) -> pb::UpdateComponentRequest {
    attach(name, "", "")
}

fn described(name: &str) -> pb::UpdateComponentRequest {
    pb::UpdateComponentRequest {
        deployment_type: Mode::None.into(),
        description: Some("of the whole team".to_owned()),
        ..update_component(name)
    }
}

conformance! {
    async fn a_description_changes_without_a_deployment(world) {
        detached(world).await;
        let before = component(world, "cache").await;
        world.step().await;
        let after = world.ok(described("cache")).await.component.unwrap();
        assert_eq!(after.description(), "of the whole team");
        assert_eq!(after.last_modified_at, now(world));
        assert_eq!(
            after.last_attempted_deployment_id,
            before.last_attempted_deployment_id
        );
    }

    async fn what_needs_a_deployment_is_refused_without_one(world) {
        attached(world).await;
        for (request, field) in [
            (
                pb::UpdateComponentRequest {
                    template_file: Some("a: 1".to_owned()),
                    ..described("cache")
                },
                "template_file",
            ),
            (
                pb::UpdateComponentRequest {
                    service_spec: Some("a: 1".to_owned()),
                    ..described("cache")
                },
                "service_spec",
            ),
            (
                pb::UpdateComponentRequest {
                    service_name: Some(String::new()),
                    ..described("cache")
                },
                "service_name",
            ),
        ] {
            world
                .fails(request)
                .await
                .is(INVALID)
                .says(field)
                .says("NONE");
        }
        let neither = pb::UpdateComponentRequest {
            deployment_type: 0,
            ..described("cache")
        };
        world
            .fails(neither)
            .await
            .is(INVALID)
            .says("'deploymentType'");
    }

    async fn a_component_is_deployed_with_another_file(world) {
        detached(world).await;
        let request = pb::UpdateComponentRequest {
            template_file: Some("Resources: {Table: {}}".to_owned()),
            client_token: Some("t-3".to_owned()),
            ..update_component("cache")
        };
        let updating = world.ok(request.clone()).await.component.unwrap();
        assert_eq!(updating.deployment_status(), Status::InProgress);
        assert_eq!(updating.last_client_request_token(), "t-3");
        world.step().await;
        let replayed = world.ok(request).await.component.unwrap();
        assert_eq!(
            replayed.deployment_status(),
            Status::Succeeded,
            "it is not deployed again"
        );
        let deployed = deployment(world, replayed.last_succeeded_deployment_id()).await;
        let Some(State::Component(state)) = deployed.target_state.unwrap().state else {
            panic!("the state of something else");
        };
        assert_eq!(state.template_file(), "Resources: {Table: {}}");
    }

    async fn a_component_is_attached_and_detached_by_deployments(world) {
        batch(world).await;
        world.ok(create_component("cache")).await;
        world.step().await;
        world.ok(attach("cache", "batch", "eu")).await;
        world.step().await;
        assert_eq!(
            component(world, "cache").await.service_instance_name(),
            "eu"
        );
        world.ok(detach("cache")).await;
        assert_eq!(
            component(world, "cache").await.service_instance_name(),
            "eu",
            "until it has succeeded"
        );
        world.step().await;
        let detached = component(world, "cache").await;
        assert_eq!(
            (detached.service_name, detached.service_instance_name),
            (None, None)
        );
        assert_eq!(detached.environment_name.as_deref(), Some("prod"));
    }

    async fn one_empty_name_detaches_nothing(world) {
        attached(world).await;
        let half = pb::UpdateComponentRequest {
            service_instance_name: None,
            ..detach("cache")
        };
        world
            .fails(half)
            .await
            .is(INVALID)
            .says("only be given together");
    }

    async fn a_component_moves_to_no_other_instance_or_environment(world) {
        attached(world).await;
        let both = job_spec(&[("eu", "prod", "batch:1"), ("us", "test", "batch:1")]);
        world.ok(edit("batch", &both)).await;
        world.step().await;
        world
            .fails(attach("cache", "batch", "us"))
            .await
            .is(INVALID)
            .says("attached to batch/eu")
            .says("detach it first");
        world.ok(detach("cache")).await;
        world.step().await;
        world
            .fails(attach("cache", "batch", "us"))
            .await
            .is(INVALID)
            .says("environment");
        world
            .fails(attach("cache", "batch", ""))
            .await
            .is(INVALID)
            .says("only be given together");
    }

    async fn a_component_is_deployed_once_at_a_time(world) {
        platform(world).await;
        world.ok(create_component("cache")).await;
        for refusal in [
            world.fails(update_component("cache")).await,
            world.fails(described("cache")).await,
            world.fails(delete("cache")).await,
        ] {
            refusal
                .is(CONFLICT)
                .because("IN_PROGRESS")
                .says("component/cache is IN_PROGRESS");
        }
    }

    async fn a_component_waits_for_its_instance(world) {
        attached(world).await;
        world.ok(update_instance("batch", "eu", None)).await;
        for request in [
            update_component("cache"),
            detach("cache"),
            described("cache"),
        ] {
            world
                .fails(request)
                .await
                .is(CONFLICT)
                .because("IN_PROGRESS")
                .says("service/batch/service-instance/eu");
        }
        world.step().await;
        world.ok(detach("cache")).await;
    }

    async fn even_the_first_deployment_of_a_component_can_be_cancelled(world) {
        platform(world).await;
        world.ok(create_component("cache")).await;
        let cancelling = world.ok(cancel("cache")).await.component.unwrap();
        assert_eq!(cancelling.deployment_status(), Status::Cancelling);
        world.step().await;
        let cancelled = component(world, "cache").await;
        assert_eq!(cancelled.deployment_status(), Status::Cancelled);
        assert_eq!(
            cancelled.deployment_status_message(),
            "User initiated cancellation."
        );
        assert_eq!(cancelled.last_succeeded_deployment_id, None);
        world.ok(update_component("cache")).await;
        world.step().await;
        assert_eq!(
            component(world, "cache").await.deployment_status(),
            Status::Succeeded
        );
    }

    async fn a_cancelled_detachment_leaves_the_component_attached(world) {
        attached(world).await;
        world.ok(detach("cache")).await;
        world.ok(cancel("cache")).await;
        world.step().await;
        assert_eq!(
            component(world, "cache").await.service_instance_name(),
            "eu"
        );
    }

    async fn only_a_deployment_under_way_can_be_cancelled(world) {
        detached(world).await;
        world
            .fails(cancel("cache"))
            .await
            .is(CONFLICT)
            .because("PRECONDITION_FAILED");
        world.fails(cancel("none")).await.is(NOT_FOUND).says("none");
        world
            .fails(cancel(""))
            .await
            .is(INVALID)
            .says("'componentName'");
    }

    async fn a_failed_update_leaves_what_was_there(world) {
        attached(world).await;
        let before = component(world, "cache").await;
        world.ok(detach("cache")).await;
        fail(world, "component/cache").await;
        let after = component(world, "cache").await;
        assert_eq!(after.deployment_status(), Status::Failed);
        assert_eq!(after.deployment_status_message(), "out of addresses");
        assert_eq!(after.service_instance_name, before.service_instance_name);
        assert_eq!(
            after.last_succeeded_deployment_id,
            before.last_succeeded_deployment_id
        );
    }

    async fn an_attached_component_is_detached_before_it_is_deleted(world) {
        attached(world).await;
        world
            .fails(delete("cache"))
            .await
            .is(CONFLICT)
            .because("PRECONDITION_FAILED")
            .says("attached to service/batch/service-instance/eu");
        world.ok(detach("cache")).await;
        world.step().await;
        let deleting = world.ok(delete("cache")).await.component.unwrap();
        assert_eq!(deleting.deployment_status(), Status::DeleteInProgress);
        let again = world.ok(delete("cache")).await.component.unwrap();
        assert_eq!(
            again.last_attempted_deployment_id,
            deleting.last_attempted_deployment_id
        );
        world.step().await;
        let request = pb::GetComponentRequest {
            name: "cache".to_owned(),
        };
        world
            .fails(request)
            .await
            .is(NOT_FOUND)
            .because("RESOURCE_NOT_FOUND")
            .says("cache");
        assert_eq!(world.ok(delete("cache")).await.component, None);
    }

    async fn a_component_that_could_not_be_deployed_can_be_deleted(world) {
        batch(world).await;
        world.ok(attach_new("cache", "batch", "eu")).await;
        fail(world, "component/cache").await;
        world.ok(delete("cache")).await;
        world.step().await;
        world.ok(delete_service("batch")).await;
    }

    async fn a_deletion_that_failed_can_be_tried_again_and_nothing_else(world) {
        detached(world).await;
        world.ok(delete("cache")).await;
        fail(world, "component/cache").await;
        assert_eq!(
            component(world, "cache").await.deployment_status(),
            Status::DeleteFailed
        );
        world
            .fails(update_component("cache"))
            .await
            .is(CONFLICT)
            .because("PRECONDITION_FAILED");
        world.ok(delete("cache")).await;
        world.step().await;
        assert_eq!(world.ok(delete("cache")).await.component, None);
    }

    async fn an_environment_keeps_its_components(world) {
        detached(world).await;
        let request = pb::DeleteEnvironmentRequest {
            name: "prod".to_owned(),
        };
        world
            .fails(request)
            .await
            .is(CONFLICT)
            .because("PRECONDITION_FAILED")
            .says("1 component");
    }

    async fn what_is_not_there_cannot_be_updated(world) {
        platform(world).await;
        world
            .fails(update_component("none"))
            .await
            .is(NOT_FOUND)
            .says("none");
        assert_eq!(world.ok(delete("none")).await.component, None);
        world.fails(delete("a b")).await.is(INVALID).says("'name'");
        world
            .fails(pb::GetComponentRequest {
                name: String::new(),
            })
            .await
            .is(INVALID)
            .says("'name'");
    }
}
