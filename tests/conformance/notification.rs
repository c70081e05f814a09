//! Reports of whoever carries deployments out.

use std::time::Duration;

use proton_gateway::api::pb::{
    self, DeploymentStatus as Status, ResourceDeploymentStatus as Report, ServiceStatus,
};

use crate::conformance;
use crate::service_fixtures::*;
use crate::support::World;

const INVALID: &str = "ValidationException";
const NOT_FOUND: &str = "ResourceNotFoundException";
const CONFLICT: &str = "ConflictException";

const EU: &str = "service/batch/service-instance/eu";

type Notify = pb::NotifyResourceDeploymentStatusChangeRequest;

fn with_outputs(status: Report, outputs: &[(&str, &str)]) -> Notify {
    Notify {
        outputs: outputs
            .iter()
            .map(|(key, value)| output(key, value))
            .collect(),
        ..report(EU, status)
    }
}

/// The service `batch` with a deployment of its instance `eu` under way. Returns its id.
async fn deploying(world: &World) -> String {
    batch(world).await;
    let updated = world.ok(update_instance("batch", "eu", None)).await;
    updated
        .service_instance
        .unwrap()
        .last_attempted_deployment_id
        .unwrap()
}

/// A service of Terraform in `onprem`, whose instance nobody has reported on.
async fn waiting(world: &World) {
    onprem(world).await;
    world
        .ok(pb::CreateServiceRequest {
            template_name: "tf-job".to_owned(),
            ..create_job("batch", &[("eu", "onprem", "batch:1")])
        })
        .await;
}

conformance! {
    async fn a_success_ends_a_deployment_with_its_outputs(world) {
        let id = deploying(world).await;
        world
            .ok(Notify {
                deployment_id: Some(id.clone()),
                status_message: Some("applied".to_owned()),
                ..with_outputs(Report::Succeeded, &[("url", "https://eu")])
            })
            .await;
        let eu = instance(world, "batch", "eu").await;
        assert_eq!(eu.deployment_status(), Status::Succeeded);
        assert_eq!(eu.deployment_status_message(), "applied");
        assert_eq!(eu.last_succeeded_deployment_id, Some(id.clone()));
        assert_eq!(deployment(world, &id).await.completed_at, now(world));
        assert_eq!(
            instance_outputs(world, "batch", "eu", None).await,
            [output("url", "https://eu")]
        );
    }

    async fn a_failure_ends_a_deployment_with_its_message(world) {
        let id = deploying(world).await;
        world
            .ok(Notify {
                status_message: Some("no such subnet".to_owned()),
                ..with_outputs(Report::Failed, &[("url", "https://eu")])
            })
            .await;
        let failed = deployment(world, &id).await;
        assert_eq!(failed.deployment_status(), Status::Failed);
        assert_eq!(failed.deployment_status_message(), "no such subnet");
        assert_eq!(
            instance(world, "batch", "eu")
                .await
                .deployment_status_message(),
            "no such subnet"
        );
        assert_eq!(instance_outputs(world, "batch", "eu", None).await, []);
        world.settle().await;
        assert_eq!(
            instance_status(world, "batch", "eu").await,
            Status::Failed,
            "for good"
        );
    }

    async fn progress_is_noted_and_ends_nothing(world) {
        let id = deploying(world).await;
        world
            .ok(Notify {
                status_message: Some("3 of 7".to_owned()),
                ..with_outputs(Report::InProgress, &[("url", "https://eu")])
            })
            .await;
        let eu = instance(world, "batch", "eu").await;
        assert_eq!(eu.deployment_status(), Status::InProgress);
        assert_eq!(eu.deployment_status_message(), "3 of 7");
        assert_eq!(
            deployment(world, &id).await.deployment_status_message(),
            "3 of 7"
        );
        assert_eq!(instance_outputs(world, "batch", "eu", None).await, []);
        succeed(world, EU).await;
        assert_eq!(
            instance_outputs(world, "batch", "eu", None).await,
            [output("url", "https://eu")]
        );
    }

    /// AWS's CodeBuild samples send outputs alone, before the build ends.
    async fn outputs_alone_are_kept_for_the_success(world) {
        deploying(world).await;
        world
            .ok(with_outputs(Report::Unspecified, &[("url", "https://1")]))
            .await;
        assert_eq!(
            instance_status(world, "batch", "eu").await,
            Status::InProgress
        );
        world.step().await;
        assert_eq!(
            instance_status(world, "batch", "eu").await,
            Status::Succeeded
        );
        assert_eq!(
            instance_outputs(world, "batch", "eu", None).await,
            [output("url", "https://1")]
        );
    }

    async fn outputs_replace_those_of_the_last_success(world) {
        batch(world).await;
        world
            .ok(with_outputs(
                Report::Unspecified,
                &[("url", "https://1"), ("port", "80")],
            ))
            .await;
        assert_eq!(instance_outputs(world, "batch", "eu", None).await.len(), 2);
        world
            .ok(with_outputs(Report::Succeeded, &[("url", "https://2")]))
            .await;
        let id = instance(world, "batch", "eu")
            .await
            .last_succeeded_deployment_id;
        assert_eq!(
            instance_outputs(world, "batch", "eu", None).await,
            [output("url", "https://2")]
        );
        assert_eq!(
            instance_outputs(world, "batch", "eu", id).await,
            [output("url", "https://2")]
        );
        succeed(world, EU).await;
        assert_eq!(
            instance_outputs(world, "batch", "eu", None).await,
            [output("url", "https://2")]
        );
    }

    async fn outputs_outlive_a_failure(world) {
        batch(world).await;
        world
            .ok(with_outputs(Report::Unspecified, &[("url", "https://1")]))
            .await;
        world.ok(update_instance("batch", "eu", None)).await;
        fail(world, EU).await;
        assert_eq!(
            instance_outputs(world, "batch", "eu", None).await,
            [output("url", "https://1")]
        );
        world
            .fails(with_outputs(Report::Unspecified, &[("url", "https://2")]))
            .await
            .is(CONFLICT)
            .because("PRECONDITION_FAILED");
    }

    async fn what_has_ended_can_be_reported_again_but_not_otherwise(world) {
        batch(world).await;
        succeed(world, EU).await;
        world
            .fails(report(EU, Report::Failed))
            .await
            .is(CONFLICT)
            .because("PRECONDITION_FAILED")
            .says("no deployment in progress");
        world.ok(update_instance("batch", "eu", None)).await;
        fail(world, EU).await;
        fail(world, EU).await;
        for status in [Report::Succeeded, Report::InProgress] {
            world.fails(report(EU, status)).await.is(CONFLICT);
        }
    }

    /// What really carries it out lasts longer than the simulation.
    async fn after_a_simulated_success_a_report_that_it_goes_on_is_taken(world) {
        batch(world).await;
        world
            .ok(with_outputs(Report::InProgress, &[("url", "https://1")]))
            .await;
        assert_eq!(
            instance_outputs(world, "batch", "eu", None).await,
            [output("url", "https://1")]
        );
        world
            .ok(Notify {
                status_message: Some("applied".to_owned()),
                ..report(EU, Report::Succeeded)
            })
            .await;
        let told = instance(world, "batch", "eu").await;
        assert_eq!(told.deployment_status(), Status::Succeeded);
        assert_eq!(told.deployment_status_message.as_deref(), Some("applied"));
    }

    async fn after_a_success_that_was_reported_a_report_that_it_goes_on_is_refused(world) {
        waiting(world).await;
        succeed(world, EU).await;
        world
            .fails(report(EU, Report::InProgress))
            .await
            .is(CONFLICT)
            .because("PRECONDITION_FAILED");
    }

    async fn a_report_on_another_deployment_is_refused(world) {
        batch(world).await;
        let first = instance(world, "batch", "eu")
            .await
            .last_attempted_deployment_id;
        world.ok(update_instance("batch", "eu", None)).await;
        let notify = |deployment_id| Notify {
            deployment_id,
            ..report(EU, Report::Succeeded)
        };
        world
            .fails(notify(first))
            .await
            .is(CONFLICT)
            .because("PRECONDITION_FAILED")
            .says("is not the latest one");
        let unknown = "00000000-0000-4000-8000-000000000000".to_owned();
        world.fails(notify(Some(unknown))).await.is(NOT_FOUND);
        world.ok(create_component("cache")).await;
        let other = component(world, "cache").await.last_attempted_deployment_id;
        world.fails(notify(other)).await.is(NOT_FOUND);
        world
            .fails(notify(Some("<proton-resource-deleted>".to_owned())))
            .await
            .is(INVALID)
            .says("'deploymentId'");
        assert_eq!(
            instance_status(world, "batch", "eu").await,
            Status::InProgress
        );
    }

    async fn a_report_is_on_something_that_is_deployed(world) {
        batch(world).await;
        for tail in [
            "environment/none",
            "component/none",
            "service/batch/service-instance/none",
            "service/none/pipeline",
            "service/batch/pipeline",
            "service/batch",
        ] {
            world
                .fails(report(tail, Report::Succeeded))
                .await
                .is(NOT_FOUND)
                .says(tail);
        }
        let elsewhere = Notify {
            resource_arn: arn("environment/prod").replace("us-east-1", "eu-west-1"),
            ..report("", Report::Succeeded)
        };
        world.fails(elsewhere).await.is(NOT_FOUND);
        let no_arn = Notify {
            resource_arn: "prod".to_owned(),
            ..report("", Report::Succeeded)
        };
        world.fails(no_arn).await.is(INVALID).says("'resourceArn'");
    }

    async fn outputs_have_distinct_keys_and_are_fifty_at_most(world) {
        deploying(world).await;
        world
            .fails(with_outputs(
                Report::Succeeded,
                &[("url", "a"), ("url", "b")],
            ))
            .await
            .is(INVALID)
            .says("outputs[1].key");
        let valueless = pb::Output {
            key: Some("url".to_owned()),
            value_string: None,
        };
        world
            .fails(Notify {
                outputs: vec![valueless],
                ..report(EU, Report::Succeeded)
            })
            .await
            .is(INVALID)
            .says("outputs[0]");
        let many: Vec<_> = (0..51)
            .map(|number| output(&format!("k{number}"), "v"))
            .collect();
        world
            .fails(Notify {
                outputs: many.clone(),
                ..report(EU, Report::Succeeded)
            })
            .await
            .is(INVALID)
            .says("'outputs'")
            .says("50");
        world
            .ok(Notify {
                outputs: many[1..].to_vec(),
                ..report(EU, Report::Succeeded)
            })
            .await;
    }

    async fn a_message_has_5000_characters_at_most(world) {
        deploying(world).await;
        let notify = |length| Notify {
            status_message: Some("x".repeat(length)),
            ..report(EU, Report::InProgress)
        };
        world
            .fails(notify(5001))
            .await
            .is(INVALID)
            .says("'statusMessage'");
        world.ok(notify(5000)).await;
    }

    async fn everything_that_is_deployed_can_be_reported_on(world) {
        shop(world).await;
        world.ok(create_component("cache")).await;
        world.ok(create_environment("young")).await;
        world
            .ok(update_pipeline(
                "shop",
                service(world, "shop").await.spec.unwrap(),
            ))
            .await;
        for tail in ["component/cache", "environment/young"] {
            succeed(world, tail).await;
        }
        // The older form of a pipeline's ARN.
        succeed(
            world,
            "service/shop/pipeline/a1b2c3d4-5678-90ab-cdef-EXAMPLE11111",
        )
        .await;
        assert_eq!(
            component(world, "cache").await.deployment_status(),
            Status::Succeeded
        );
        assert_eq!(
            pipeline(world, "shop").await.deployment_status(),
            Status::Succeeded
        );
        let young = world
            .ok(pb::GetEnvironmentRequest {
                name: "young".to_owned(),
            })
            .await;
        assert_eq!(
            young.environment.unwrap().deployment_status(),
            Status::Succeeded
        );
    }

    async fn a_deployment_that_ends_before_it_is_cancelled_has_ended(world) {
        let id = deploying(world).await;
        world
            .ok(pb::CancelServiceInstanceDeploymentRequest {
                service_name: "batch".to_owned(),
                service_instance_name: "eu".to_owned(),
            })
            .await;
        succeed(world, EU).await;
        world.step().await;
        assert_eq!(
            instance_status(world, "batch", "eu").await,
            Status::Succeeded
        );
        assert_eq!(
            deployment(world, &id).await.deployment_status(),
            Status::Succeeded
        );
    }

    async fn a_deletion_that_is_reported_is_done(world) {
        batch(world).await;
        world.ok(delete_service("batch")).await;
        succeed(world, EU).await;
        assert_eq!(world.ok(delete_service("batch")).await.service, None);
        world
            .fails(report(EU, Report::Succeeded))
            .await
            .is(NOT_FOUND)
            .says(EU);
    }

    async fn a_self_managed_instance_waits_to_be_reported(world) {
        waiting(world).await;
        world.settle().await;
        assert_eq!(
            instance_status(world, "batch", "eu").await,
            Status::InProgress
        );
        assert_eq!(
            status(world, "batch").await,
            ServiceStatus::CreateInProgress
        );
        world
            .ok(with_outputs(Report::Succeeded, &[("bucket", "b-1")]))
            .await;
        assert_eq!(
            instance_status(world, "batch", "eu").await,
            Status::Succeeded
        );
        assert_eq!(status(world, "batch").await, ServiceStatus::Active);
        assert_eq!(
            instance_outputs(world, "batch", "eu", None).await,
            [output("bucket", "b-1")]
        );
    }

    async fn a_self_managed_instance_is_given_up_after_a_day(world) {
        waiting(world).await;
        world.clock.advance(Duration::from_secs(24 * 3600 - 1));
        world.engine.settle().await.unwrap();
        assert_eq!(
            instance_status(world, "batch", "eu").await,
            Status::InProgress
        );
        world.clock.advance(Duration::from_secs(1));
        world.engine.settle().await.unwrap();
        let eu = instance(world, "batch", "eu").await;
        assert_eq!(eu.deployment_status(), Status::Failed);
        assert!(
            eu.deployment_status_message()
                .contains("Nobody reported an outcome")
        );
        assert_eq!(status(world, "batch").await, ServiceStatus::CreateFailed);
        world.ok(update_instance("batch", "eu", None)).await;
        succeed(world, EU).await;
        assert_eq!(
            instance_status(world, "batch", "eu").await,
            Status::Succeeded
        );
    }

    async fn a_self_managed_update_can_be_cancelled(world) {
        waiting(world).await;
        succeed(world, EU).await;
        world.ok(update_instance("batch", "eu", None)).await;
        world
            .ok(pb::CancelServiceInstanceDeploymentRequest {
                service_name: "batch".to_owned(),
                service_instance_name: "eu".to_owned(),
            })
            .await;
        world.step().await;
        assert_eq!(
            instance_status(world, "batch", "eu").await,
            Status::Cancelled
        );
    }

    /// The pull request is all there is to a deletion: nobody reports on it.
    async fn a_self_managed_deletion_ends_by_itself(world) {
        waiting(world).await;
        succeed(world, EU).await;
        world.ok(delete_service("batch")).await;
        world.step().await;
        world.fails(get_instance("batch", "eu")).await.is(NOT_FOUND);
        assert_eq!(world.ok(delete_service("batch")).await.service, None);
    }

    async fn an_environment_that_nobody_reports_is_given_up_after_a_day(world) {
        onprem(world).await;
        let request = pb::CreateEnvironmentRequest {
            template_name: "tf-network".to_owned(),
            proton_service_role_arn: None,
            component_role_arn: None,
            provisioning_repository: Some(branch()),
            ..create_environment("slow")
        };
        world.ok(request).await;
        let slow = pb::GetEnvironmentRequest {
            name: "slow".to_owned(),
        };
        world.settle().await;
        let environment = world.ok(slow.clone()).await.environment.unwrap();
        assert_eq!(environment.deployment_status(), Status::InProgress);
        world.clock.advance(Duration::from_secs(24 * 3600));
        world.engine.settle().await.unwrap();
        let environment = world.ok(slow).await.environment.unwrap();
        assert_eq!(environment.deployment_status(), Status::Failed);
        assert!(
            environment
                .deployment_status_message()
                .contains("Nobody reported")
        );
    }
}
