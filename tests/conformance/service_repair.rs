//! Services to which something happened find a way out: no state is for ever.

use proton_gateway::api::pb::{
    self, DeploymentStatus as Deployment, DeploymentUpdateType as Mode, ServiceStatus as Status,
};

use crate::conformance;
use crate::service_fixtures::*;
use crate::support::World;

const INVALID: &str = "ValidationException";
const CONFLICT: &str = "ConflictException";

/// `shop` with the one instance `eu`, whose first deployment failed.
async fn broken_shop(world: &World) {
    platform(world).await;
    world
        .ok(create_web("shop", &[("eu", "prod", "shop:1")]))
        .await;
    fail(world, "service/shop/service-instance/eu").await;
    assert_eq!(status(world, "shop").await, Status::CreateFailed);
}

conformance! {
    async fn a_service_is_well_again_when_its_parts_have_been_deployed_one_by_one(world) {
        broken_shop(world).await;
        world.ok(update_instance("shop", "eu", None)).await;
        world.step().await;
        assert_eq!(status(world, "shop").await, Status::CreateFailed, "its pipeline is missing");
        let spec = web_spec("make test", &[("eu", "prod", "shop:1")]);
        world.ok(update_pipeline("shop", spec)).await;
        world.step().await;
        let shop = service(world, "shop").await;
        assert_eq!(shop.status(), Status::Active);
        assert_eq!(shop.status_message, None);
    }

    /// The version that a failed pipeline needs stays, so that the service can be edited later.
    async fn the_version_of_a_pipeline_that_was_never_deployed_cannot_be_deleted(world) {
        broken_shop(world).await;
        release(world, "web", Some("1")).await;
        world
            .ok(pb::UpdateServiceInstanceRequest {
                deployment_type: Mode::MinorVersion.into(),
                ..update_instance("shop", "eu", None)
            })
            .await;
        world.step().await;
        world
            .fails(pb::DeleteServiceTemplateVersionRequest {
                template_name: "web".to_owned(),
                major_version: "1".to_owned(),
                minor_version: "0".to_owned(),
            })
            .await
            .is(CONFLICT);
        let spec = web_spec("make test", &[("eu", "prod", "shop:1"), ("us", "prod", "shop:1")]);
        world.ok(edit("shop", &spec)).await;
        world.settle().await;
        assert_eq!(status(world, "shop").await, Status::Active);
        assert_eq!(instance_status(world, "shop", "us").await, Deployment::Succeeded);
    }

    /// A new pipeline ships at once to the instances that are there.
    async fn an_update_of_an_instance_during_the_creation_does_not_fail_it(world) {
        platform(world).await;
        let instances = [("eu", "prod", "batch:1"), ("us", "prod", "batch:1")];
        world.ok(create_job("batch", &instances)).await;
        succeed(world, "service/batch/service-instance/eu").await;
        assert_eq!(status(world, "batch").await, Status::CreateInProgress);
        world.ok(update_instance("batch", "eu", None)).await;
        world
            .ok(pb::CancelServiceInstanceDeploymentRequest {
                service_name: "batch".to_owned(),
                service_instance_name: "eu".to_owned(),
            })
            .await;
        world.step().await;
        assert_eq!(instance_status(world, "batch", "eu").await, Deployment::Cancelled);
        assert_eq!(status(world, "batch").await, Status::Active);
    }

    async fn what_is_taken_over_into_the_services_spec_must_fit_in_one(world) {
        platform(world).await;
        world
            .ok(create_job("batch", &[("eu", "prod", "batch:1"), ("us", "prod", "batch:1")]))
            .await;
        world.step().await;
        let long = "x".repeat(26_000);
        let spec = job_spec(&[("eu", "prod", &long), ("us", "prod", "batch:1")]);
        world.ok(update_instance("batch", "eu", Some(spec))).await;
        world.step().await;
        let spec = job_spec(&[("eu", "prod", "batch:1"), ("us", "prod", &long)]);
        world
            .fails(update_instance("batch", "us", Some(spec)))
            .await
            .is(INVALID)
            .says("51200 characters");
        let spec = job_spec(&[("eu", "prod", "batch:1"), ("us", "prod", "batch:2")]);
        world.ok(update_instance("batch", "us", Some(spec))).await;
        world.step().await;
        assert_eq!(instance_status(world, "batch", "us").await, Deployment::Succeeded);
    }

    async fn what_is_deployed_at_the_same_time_must_fit_in_one_spec_together(world) {
        platform(world).await;
        let long = "x".repeat(26_000);
        let small = "batch:1";
        let spec = |eu: &str, us: &str| job_spec(&[("eu", "prod", eu), ("us", "prod", us)]);
        let mut request = create_job("batch", &[]);
        request.spec = spec(small, small);
        world.ok(request).await;
        world.step().await;
        world.ok(update_instance("batch", "eu", Some(spec(&long, small)))).await;
        world
            .fails(update_instance("batch", "us", Some(spec(small, &long))))
            .await
            .is(INVALID)
            .says("51200 characters");
        world.step().await;
        // It is not known yet whether the long one goes.
        world.ok(update_instance("batch", "eu", Some(spec(small, small)))).await;
        world
            .fails(update_instance("batch", "us", Some(spec(small, &long))))
            .await
            .is(INVALID)
            .says("51200 characters");
        world.step().await;
        world.ok(update_instance("batch", "us", Some(spec(small, &long)))).await;
        world.step().await;
        let found = service(world, "batch").await.spec.unwrap();
        assert_eq!(found, spec(small, &long));
    }

    /// A spec that fits is deployed to one instance after the other, without waiting.
    async fn one_spec_is_deployed_to_several_instances_at_the_same_time(world) {
        platform(world).await;
        let spec = |image: &str| job_spec(&[("eu", "prod", image), ("us", "prod", image)]);
        let mut request = create_job("batch", &[]);
        request.spec = spec("batch:1");
        world.ok(request).await;
        world.step().await;
        let long = spec(&"x".repeat(25_000));
        for name in ["eu", "us"] {
            world.ok(update_instance("batch", name, Some(long.clone()))).await;
        }
        world.step().await;
        assert_eq!(service(world, "batch").await.spec, Some(long));
    }

    async fn a_service_whose_instance_was_never_deployed_is_edited_by_the_spec_that_is_shown(world) {
        platform(world).await;
        world.ok(create_job("batch", &[("eu", "prod", "batch:1")])).await;
        fail(world, "service/batch/service-instance/eu").await;
        let retry = job_spec(&[("eu", "prod", "batch:2")]);
        world.ok(update_instance("batch", "eu", Some(retry))).await;
        fail(world, "service/batch/service-instance/eu").await;
        let with = |eu: &str| job_spec(&[("eu", "prod", eu), ("us", "prod", "batch:1")]);
        world
            .fails(edit("batch", &with("batch:3")))
            .await
            .is(INVALID)
            .says("instance `eu` differs");
        world.ok(edit("batch", &with("${Proton::CURRENT_VAL}"))).await;
        world.step().await;
        assert_eq!(instance_status(world, "batch", "us").await, Deployment::Succeeded);
        let shown = service(world, "batch").await.spec.unwrap();
        assert!(shown.contains("batch:1") && !shown.contains("batch:2"), "{shown}");
    }

    async fn instances_whose_deletion_failed_count_towards_the_quota(world) {
        platform(world).await;
        let named = |prefix: &str| {
            let names: Vec<_> = (0..20).map(|n| format!("{prefix}{n}")).collect();
            let listed: Vec<_> = names
                .iter()
                .map(|name| (name.as_str(), "prod", "batch:1"))
                .collect();
            job_spec(&listed)
        };
        let mut request = create_job("batch", &[]);
        request.spec = named("a");
        world.ok(request).await;
        world.step().await;
        world.ok(edit("batch", &named("b"))).await;
        world.step().await;
        for n in 0..20 {
            fail(world, &format!("service/batch/service-instance/a{n}")).await;
        }
        world.settle().await;
        assert_eq!(status(world, "batch").await, Status::UpdateCompleteCleanupFailed);
        world
            .fails(edit("batch", &named("c")))
            .await
            .is("ServiceQuotaExceededException");
    }

    async fn a_service_that_is_being_deleted_is_not_created_again(world) {
        batch(world).await;
        world.ok(delete_service("batch")).await;
        world
            .fails(create_job("batch", &[("eu", "prod", "batch:1")]))
            .await
            .is(CONFLICT)
            .because("IN_PROGRESS");
    }

    async fn an_environment_that_is_being_deleted_is_not_created_again(world) {
        platform(world).await;
        let name = "test".to_owned();
        world.ok(pb::DeleteEnvironmentRequest { name }).await;
        world
            .fails(create_environment("test"))
            .await
            .is(CONFLICT)
            .because("IN_PROGRESS");
    }

    async fn outputs_stay_until_others_are_reported(world) {
        platform(world).await;
        let arn = "arn:aws:proton:us-east-1:123456789012:environment/prod";
        let outputs = vec![pb::Output {
            key: Some("Topic".to_owned()),
            value_string: Some("t-1".to_owned()),
        }];
        world
            .ok(pb::NotifyResourceDeploymentStatusChangeRequest {
                resource_arn: arn.to_owned(),
                outputs: outputs.clone(),
                ..Default::default()
            })
            .await;
        world
            .ok(pb::UpdateEnvironmentRequest {
                name: "prod".to_owned(),
                deployment_type: Mode::CurrentVersion.into(),
                ..Default::default()
            })
            .await;
        world.step().await;
        let listed = world
            .ok(pb::ListEnvironmentOutputsRequest {
                environment_name: "prod".to_owned(),
                ..Default::default()
            })
            .await;
        assert_eq!(listed.outputs, outputs);
    }

    async fn a_version_has_one_spelling_in_arns(world) {
        platform(world).await;
        for number in ["01.0", "1.00", "+1.0"] {
            let arn = format!("arn:aws:proton:us-east-1:123456789012:environment-template/network:{number}");
            let refused = world
                .fails(pb::TagResourceRequest {
                    resource_arn: arn,
                    tags: vec![crate::support::tag("a", "b")],
                })
                .await;
            assert!(["ResourceNotFoundException", INVALID].contains(&refused.exception), "{number}");
        }
    }
}
