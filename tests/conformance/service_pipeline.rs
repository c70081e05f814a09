//! Service pipelines: deployed by themselves once their service is there.

use std::time::Duration;

use proton_gateway::api::pb::{
    self, DeploymentStatus as Status, DeploymentUpdateType as Mode, ResourceDeploymentStatus,
    ServiceStatus,
};

use crate::conformance;
use crate::service_fixtures::*;
use crate::support::World;

const INVALID: &str = "ValidationException";
const NOT_FOUND: &str = "ResourceNotFoundException";
const CONFLICT: &str = "ConflictException";

fn cancel(service: &str) -> pb::CancelServicePipelineDeploymentRequest {
    pb::CancelServicePipelineDeploymentRequest {
        service_name: service.to_owned(),
    }
}

/// A spec of `shop` whose pipeline runs something else, and whose instances do too.
fn changed() -> String {
    web_spec(
        "make all",
        &[("eu", "prod", "shop:9"), ("us", "prod", "shop:9")],
    )
}

fn outputs(deployment_id: Option<String>) -> pb::ListServicePipelineOutputsRequest {
    pb::ListServicePipelineOutputsRequest {
        service_name: "shop".to_owned(),
        deployment_id,
        next_token: None,
    }
}

fn create_terraform_shop() -> pb::CreateServiceRequest {
    pb::CreateServiceRequest {
        template_name: "tf-web".to_owned(),
        ..create_web("shop", &[("eu", "onprem", "shop:1")])
    }
}

async fn set_up_account(world: &World) {
    world
        .ok(pb::UpdateAccountSettingsRequest {
            pipeline_provisioning_repository: Some(branch()),
            ..Default::default()
        })
        .await;
}

conformance! {
    async fn a_pipeline_takes_its_own_part_of_a_new_spec(world) {
        shop(world).await;
        let before = pipeline(world, "shop").await;
        let updating = world
            .ok(update_pipeline("shop", changed()))
            .await
            .pipeline
            .unwrap();
        assert_eq!(updating.deployment_status(), Status::InProgress);
        assert_eq!(updating.spec, before.spec);
        assert_eq!(updating.last_deployment_attempted_at, now(world));

        world.step().await;
        let after = service(world, "shop").await;
        assert!(
            after.spec().contains("make all") && after.spec().contains("shop:1"),
            "{}",
            after.spec()
        );
        assert!(!after.spec().contains("shop:9"), "{}", after.spec());
        let pipeline = after.pipeline.unwrap();
        assert_eq!(pipeline.deployment_status(), Status::Succeeded);
        assert_eq!(pipeline.spec, Some(changed()));
        assert_eq!(pipeline.last_deployment_succeeded_at, now(world));
        assert_eq!(after.status, i32::from(ServiceStatus::Active));
    }

    async fn current_values_of_instances_are_those_of_the_services_spec(world) {
        shop(world).await;
        let marker = "${Proton::CURRENT_VAL}";
        let instances = [("eu", "prod", "shop:1"), ("us", "prod", "shop:1"), ("ap", "test", "shop:7")];
        world.ok(edit("shop", &web_spec(marker, &instances))).await;
        world.settle().await;
        let update = world
            .fails(update_pipeline("shop", web_spec(marker, &[("ap", "test", marker)]).replace("tests", "tset")))
            .await;
        update.is(INVALID).says("pipeline.tset").says("is not an input");
        let spec = web_spec("make all", &[("ap", "test", marker), ("sa", "test", marker)]);
        world.ok(update_pipeline("shop", spec)).await;
        world.step().await;
        let spec = pipeline(world, "shop").await.spec.unwrap();
        assert!(spec.contains("shop:7") && spec.contains("make all"), "{spec}");
        assert!(!spec.contains(marker), "{spec}");
    }

    async fn a_pipeline_moves_to_another_version_than_its_instances(world) {
        shop(world).await;
        release(world, "web", Some("1")).await;
        let request = pb::UpdateServicePipelineRequest {
            deployment_type: Mode::MinorVersion.into(),
            ..update_pipeline("shop", changed())
        };
        world.ok(request).await;
        world.step().await;
        assert_eq!(pipeline(world, "shop").await.template_minor_version(), "1");
        assert_eq!(
            instance(world, "shop", "eu").await.template_minor_version(),
            "0"
        );

        release(world, "web", None).await;
        let request = pb::UpdateServicePipelineRequest {
            deployment_type: Mode::MajorVersion.into(),
            template_major_version: Some("2".to_owned()),
            template_minor_version: Some("0".to_owned()),
            ..update_pipeline("shop", changed())
        };
        world.ok(request).await;
        world.step().await;
        assert_eq!(pipeline(world, "shop").await.template_major_version(), "2");
    }

    async fn a_pipeline_cannot_go_to_a_version_that_is_not_there(world) {
        shop(world).await;
        let request = pb::UpdateServicePipelineRequest {
            deployment_type: Mode::MinorVersion.into(),
            template_minor_version: Some("7".to_owned()),
            ..update_pipeline("shop", changed())
        };
        world
            .fails(request.clone())
            .await
            .is(NOT_FOUND)
            .says("service-template/web:1.7");
        let current = pb::UpdateServicePipelineRequest {
            deployment_type: Mode::CurrentVersion.into(),
            ..request
        };
        world
            .fails(current)
            .await
            .is(INVALID)
            .says("template_minor_version must be left out");
    }

    async fn current_values_are_filled_in(world) {
        shop(world).await;
        let spec = web_spec("${Proton::CURRENT_VAL}", &[("eu", "prod", "shop:1")]);
        world.ok(update_pipeline("shop", spec)).await;
        world.step().await;
        assert!(pipeline(world, "shop").await.spec().contains("make test"));
    }

    async fn without_a_deployment_the_spec_cannot_differ(world) {
        shop(world).await;
        let before = pipeline(world, "shop").await;
        let none = |spec| pb::UpdateServicePipelineRequest {
            deployment_type: Mode::None.into(),
            ..update_pipeline("shop", spec)
        };
        let after = world
            .ok(none(before.spec().to_owned()))
            .await
            .pipeline
            .unwrap();
        assert_eq!(
            after.last_attempted_deployment_id,
            before.last_attempted_deployment_id
        );
        world.fails(none(changed())).await.is(INVALID).says("spec");
    }

    async fn a_pipelines_inputs_are_checked(world) {
        shop(world).await;
        let spec = web_spec("", &[("eu", "prod", "shop:1")]);
        world
            .fails(update_pipeline("shop", spec))
            .await
            .is(INVALID)
            .says("pipeline.tests");
        world
            .fails(update_pipeline("shop", String::new()))
            .await
            .is(INVALID)
            .says("'spec'");
    }

    async fn a_pipeline_is_deployed_once_at_a_time(world) {
        shop(world).await;
        world.ok(update_pipeline("shop", changed())).await;
        world
            .fails(update_pipeline("shop", changed()))
            .await
            .is(CONFLICT)
            .because("IN_PROGRESS")
            .says("service/shop/pipeline is IN_PROGRESS");
        world
            .fails(edit("shop", &changed()))
            .await
            .is(CONFLICT)
            .because("IN_PROGRESS");
    }

    async fn a_cancelled_update_leaves_what_was_there(world) {
        shop(world).await;
        let before = service(world, "shop").await;
        world.ok(update_pipeline("shop", changed())).await;
        let cancelling = world.ok(cancel("shop")).await.pipeline.unwrap();
        assert_eq!(cancelling.deployment_status(), Status::Cancelling);
        world.step().await;
        let after = service(world, "shop").await;
        assert_eq!(after.spec, before.spec);
        let pipeline = after.pipeline.unwrap();
        assert_eq!(pipeline.deployment_status(), Status::Cancelled);
        assert_eq!(
            pipeline.deployment_status_message(),
            "User initiated cancellation."
        );
        assert_eq!(pipeline.spec, before.pipeline.unwrap().spec);
    }

    async fn only_an_update_under_way_can_be_cancelled(world) {
        platform(world).await;
        world
            .ok(create_web("shop", &[("eu", "prod", "shop:1")]))
            .await;
        world.step().await;
        world
            .fails(cancel("shop"))
            .await
            .is(CONFLICT)
            .because("IN_PROGRESS");
        world.step().await;
        world
            .fails(cancel("shop"))
            .await
            .is(CONFLICT)
            .because("PRECONDITION_FAILED")
            .says("no deployment in progress");
        world.fails(cancel("none")).await.is(NOT_FOUND).says("none");
        world
            .fails(cancel(""))
            .await
            .is(INVALID)
            .says("'serviceName'");
    }

    async fn a_failed_update_leaves_what_was_there(world) {
        shop(world).await;
        let before = pipeline(world, "shop").await;
        world.ok(update_pipeline("shop", changed())).await;
        fail(world, "service/shop/pipeline").await;
        let after = pipeline(world, "shop").await;
        assert_eq!(after.deployment_status(), Status::Failed);
        assert_eq!(after.deployment_status_message(), "out of addresses");
        assert_eq!(after.spec, before.spec);
        assert_eq!(status(world, "shop").await, ServiceStatus::Active);
    }

    async fn a_pipeline_that_was_never_deployed_can_be_deployed_by_itself(world) {
        platform(world).await;
        let request = create_web("shop", &[("eu", "prod", "shop:1")]);
        world.ok(request.clone()).await;
        fail(world, "service/shop/service-instance/eu").await;
        assert_eq!(pipeline(world, "shop").await.template_minor_version, None);
        world.ok(update_pipeline("shop", request.spec)).await;
        world.step().await;
        let deployed = pipeline(world, "shop").await;
        assert_eq!(deployed.deployment_status(), Status::Succeeded);
        assert_eq!(deployed.template_minor_version(), "0");
    }

    async fn a_deployment_of_an_instance_leaves_the_pipeline_alone(world) {
        shop(world).await;
        let before = pipeline(world, "shop").await;
        world.ok(update_instance("shop", "eu", None)).await;
        world.step().await;
        assert_eq!(pipeline(world, "shop").await, before);
    }

    async fn outputs_are_those_of_the_last_success_or_of_the_named_deployment(world) {
        shop(world).await;
        let first = pipeline(world, "shop").await.last_succeeded_deployment_id;
        assert_eq!(world.ok(outputs(None)).await.outputs, []);
        world.ok(update_pipeline("shop", changed())).await;
        world
            .ok(pb::NotifyResourceDeploymentStatusChangeRequest {
                outputs: vec![output("endpoint", "ci.example.com")],
                ..report("service/shop/pipeline", ResourceDeploymentStatus::Succeeded)
            })
            .await;
        let second = pipeline(world, "shop").await.last_succeeded_deployment_id;
        assert_eq!(
            world.ok(outputs(None)).await.outputs,
            [output("endpoint", "ci.example.com")]
        );
        assert_eq!(
            world.ok(outputs(second)).await.outputs,
            [output("endpoint", "ci.example.com")]
        );
        assert_eq!(world.ok(outputs(first)).await.outputs, []);
        let other = instance(world, "shop", "eu")
            .await
            .last_succeeded_deployment_id;
        world.fails(outputs(other)).await.is(NOT_FOUND);
        world
            .fails(outputs(Some("1".to_owned())))
            .await
            .is(INVALID)
            .says("'deploymentId'");
    }

    async fn a_service_without_a_pipeline_has_none_to_address(world) {
        batch(world).await;
        let spec = job_spec(&[("eu", "prod", "batch:1")]);
        let refusals = [
            world.fails(update_pipeline("batch", spec)).await,
            world.fails(cancel("batch")).await,
            world
                .fails(pb::ListServicePipelineOutputsRequest {
                    service_name: "batch".to_owned(),
                    ..outputs(None)
                })
                .await,
            world
                .fails(pb::ListServicePipelineProvisionedResourcesRequest {
                    service_name: "batch".to_owned(),
                    next_token: None,
                })
                .await,
        ];
        for refusal in refusals {
            refusal
                .is(NOT_FOUND)
                .because("RESOURCE_NOT_FOUND")
                .says("service/batch/pipeline");
        }
    }

    async fn nothing_is_provisioned_so_no_resource_is_listed(world) {
        shop(world).await;
        let request = pb::ListServicePipelineProvisionedResourcesRequest {
            service_name: "shop".to_owned(),
            next_token: None,
        };
        assert!(world.ok(request).await.provisioned_resources.is_empty());
    }

    async fn a_terraform_pipeline_needs_the_accounts_repository(world) {
        onprem(world).await;
        world
            .fails(create_terraform_shop())
            .await
            .is(INVALID)
            .says("pipeline_provisioning_repository")
            .says("UpdateAccountSettings");
        set_up_account(world).await;
        world.ok(create_terraform_shop()).await;
    }

    async fn a_terraform_pipeline_waits_to_be_reported(world) {
        onprem(world).await;
        set_up_account(world).await;
        world.ok(create_terraform_shop()).await;
        succeed(world, "service/shop/service-instance/eu").await;
        world.settle().await;
        assert_eq!(
            pipeline(world, "shop").await.deployment_status(),
            Status::InProgress
        );
        succeed(world, "service/shop/pipeline").await;
        assert_eq!(status(world, "shop").await, ServiceStatus::Active);
    }

    async fn a_terraform_pipeline_nobody_reports_fails_after_a_day(world) {
        onprem(world).await;
        set_up_account(world).await;
        world.ok(create_terraform_shop()).await;
        succeed(world, "service/shop/service-instance/eu").await;
        world.clock.advance(Duration::from_secs(24 * 3600));
        world.engine.settle().await.unwrap();
        let failed = service(world, "shop").await;
        assert_eq!(failed.status(), ServiceStatus::CreateFailed);
        assert!(
            failed
                .pipeline
                .unwrap()
                .deployment_status_message()
                .contains("Nobody reported")
        );
    }
}
