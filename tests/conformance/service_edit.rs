//! Services whose spec is edited: instances come and go, the pipeline follows.

use proton_gateway::api::pb::{self, DeploymentStatus as Deployment, ServiceStatus as Status};

use crate::conformance;
use crate::service_fixtures::*;

const INVALID: &str = "ValidationException";
const CONFLICT: &str = "ConflictException";

conformance! {
    async fn a_new_description_alone_leaves_a_service_active(world) {
        batch(world).await;
        world.step().await;
        let request = pb::UpdateServiceRequest {
            name: "batch".to_owned(),
            description: Some("nightly".to_owned()),
            spec: None,
        };
        let updated = world.ok(request).await.service.unwrap();
        assert_eq!(updated.status(), Status::Active);
        assert_eq!(updated.description(), "nightly");
        assert_eq!(updated.last_modified_at, now(world));
        assert_eq!(
            instance_status(world, "batch", "eu").await,
            Deployment::Succeeded
        );
    }

    async fn an_edit_adds_then_removes_then_ships_the_pipeline(world) {
        shop(world).await;
        let before = service(world, "shop").await;
        let spec = web_spec(
            "make test",
            &[("eu", "prod", "shop:1"), ("ap", "test", "shop:1")],
        );
        let edited = world.ok(edit("shop", &spec)).await.service.unwrap();
        assert_eq!(edited.status(), Status::UpdateInProgress);
        assert_eq!(
            edited.spec, before.spec,
            "the old spec holds until the new one is in place"
        );
        assert_eq!(
            instance_status(world, "shop", "ap").await,
            Deployment::InProgress
        );
        assert_eq!(
            instance_status(world, "shop", "us").await,
            Deployment::Succeeded
        );

        world.step().await;
        assert_eq!(
            instance_status(world, "shop", "ap").await,
            Deployment::Succeeded
        );
        assert_eq!(
            instance_status(world, "shop", "us").await,
            Deployment::DeleteInProgress
        );

        world.step().await;
        assert_eq!(instances(world, "shop").await, ["ap", "eu"]);
        assert_eq!(
            pipeline(world, "shop").await.deployment_status(),
            Deployment::InProgress
        );

        world.step().await;
        let after = service(world, "shop").await;
        assert_eq!((after.status(), after.spec), (Status::Active, Some(spec)));
    }

    /// User Guide: when the edit is submitted, the pipeline becomes IN_PROGRESS.
    async fn the_pipeline_is_in_progress_from_the_beginning_of_an_edit(world) {
        shop(world).await;
        let before = pipeline(world, "shop").await;
        let spec = web_spec("make test", &[("eu", "prod", "shop:1"), ("ap", "test", "shop:1")]);
        let edited = world.ok(edit("shop", &spec)).await.service.unwrap().pipeline.unwrap();
        for _ in 0..2 {
            let awaited = pipeline(world, "shop").await;
            assert_eq!(awaited, edited);
            assert_eq!(awaited, pb::ServicePipeline {
                deployment_status: Deployment::InProgress.into(),
                deployment_status_message: None,
                last_attempted_deployment_id: None,
                ..before.clone()
            });
            world.step().await;
        }
        let deployed = pipeline(world, "shop").await;
        assert_eq!(deployed.deployment_status(), Deployment::InProgress);
        assert_ne!(deployed.last_attempted_deployment_id, before.last_attempted_deployment_id);
        world.step().await;
        assert_eq!(pipeline(world, "shop").await.deployment_status(), Deployment::Succeeded);
    }

    async fn current_values_are_kept_where_a_spec_says_so(world) {
        shop(world).await;
        let spec = web_spec(
            "${Proton::CURRENT_VAL}",
            &[
                ("eu", "prod", "${Proton::CURRENT_VAL}"),
                ("us", "prod", "${Proton::CURRENT_VAL}"),
                ("ap", "test", "shop:2"),
            ],
        );
        world.ok(edit("shop", &spec)).await;
        world.settle().await;
        let edited = service(world, "shop").await;
        assert_eq!(edited.status(), Status::Active);
        assert!(!edited.spec().contains("CURRENT_VAL"), "{}", edited.spec());
        assert!(edited.spec().contains("make test") && edited.spec().contains("shop:1"));
    }

    async fn a_current_value_that_is_not_there_is_none(world) {
        batch(world).await;
        let spec = job_spec(&[
            ("eu", "prod", "batch:1"),
            ("us", "prod", "${Proton::CURRENT_VAL}"),
        ]);
        world
            .fails(edit("batch", &spec))
            .await
            .is(INVALID)
            .says("`instances[1].spec.image` is required");
        let spec = job_spec(&[("eu", "prod", "batch:1"), ("us", "prod", "batch:1")]);
        let marked = |input: &str| format!("{spec}      {input}: \"${{Proton::CURRENT_VAL}}\"\n");
        world
            .fails(edit("batch", &marked("prot")))
            .await
            .is(INVALID)
            .says("instances[1].spec.prot")
            .says("is not an input");
        world.ok(edit("batch", &marked("port"))).await;
        world.settle().await;
        let edited = service(world, "batch").await.spec.unwrap();
        assert!(!edited.contains("port"), "{edited}");
    }

    async fn an_edit_cannot_change_what_stays(world) {
        shop(world).await;
        let changed = web_spec(
            "make test",
            &[("eu", "prod", "shop:2"), ("us", "prod", "shop:1")],
        );
        world
            .fails(edit("shop", &changed))
            .await
            .is(INVALID)
            .says("instance `eu` differs")
            .says("UpdateServiceInstance");
        let moved = web_spec(
            "make test",
            &[("eu", "test", "shop:1"), ("us", "prod", "shop:1")],
        );
        world
            .fails(edit("shop", &moved))
            .await
            .is(INVALID)
            .says("instance `eu` differs");
        let piped = web_spec(
            "true",
            &[("eu", "prod", "shop:1"), ("us", "prod", "shop:1")],
        );
        world
            .fails(edit("shop", &piped))
            .await
            .is(INVALID)
            .says("pipeline")
            .says("UpdateServicePipeline");
        assert_eq!(status(world, "shop").await, Status::Active);
    }

    async fn a_refused_edit_changes_nothing(world) {
        batch(world).await;
        let before = service(world, "batch").await;
        let both = [("eu", "prod", "batch:1"), ("us", "nowhere", "batch:1")];
        let request = pb::UpdateServiceRequest {
            description: Some("nightly".to_owned()),
            ..edit("batch", &job_spec(&both))
        };
        world.fails(request).await.is("ResourceNotFoundException");
        assert_eq!(service(world, "batch").await, before);
        assert_eq!(instances(world, "batch").await, ["eu"]);
    }

    async fn an_edit_keeps_at_least_one_instance(world) {
        batch(world).await;
        world
            .fails(edit("batch", "proton: ServiceSpec\ninstances: []\n"))
            .await
            .is(INVALID);
    }

    async fn a_new_instance_that_fails_is_removed_and_the_old_spec_stays(world) {
        shop(world).await;
        let before = service(world, "shop").await;
        let spec = web_spec(
            "make test",
            &[("eu", "prod", "shop:1"), ("ap", "test", "shop:1")],
        );
        world.ok(edit("shop", &spec)).await;
        fail(world, "service/shop/service-instance/ap").await;
        assert_eq!(
            status(world, "shop").await,
            Status::UpdateFailedCleanupInProgress
        );
        assert_eq!(
            instance_status(world, "shop", "ap").await,
            Deployment::DeleteInProgress
        );

        world.step().await;
        let after = service(world, "shop").await;
        assert_eq!(after.status(), Status::UpdateFailedCleanupComplete);
        assert!(
            after
                .status_message()
                .contains("service-instance/ap] failed to deploy")
        );
        assert_eq!(after.spec, before.spec);
        assert_eq!(
            after.pipeline, before.pipeline,
            "the pipeline is left alone"
        );
        assert_eq!(instances(world, "shop").await, ["eu", "us"]);
    }

    async fn a_clean_up_that_fails_is_made_good_by_the_next_edit(world) {
        batch(world).await;
        let both = job_spec(&[("eu", "prod", "batch:1"), ("us", "prod", "batch:1")]);
        world.ok(edit("batch", &both)).await;
        fail(world, "service/batch/service-instance/us").await;
        fail(world, "service/batch/service-instance/us").await;
        assert_eq!(
            status(world, "batch").await,
            Status::UpdateFailedCleanupFailed
        );
        assert_eq!(
            instance_status(world, "batch", "us").await,
            Deployment::DeleteFailed
        );

        world
            .fails(edit("batch", &both))
            .await
            .is(CONFLICT)
            .because("PRECONDITION_FAILED")
            .says("service-instance/us");
        world
            .ok(edit("batch", &job_spec(&[("eu", "prod", "batch:1")])))
            .await;
        world.settle().await;
        assert_eq!(status(world, "batch").await, Status::Active);
        assert_eq!(instances(world, "batch").await, ["eu"]);
    }

    async fn a_removal_that_fails_keeps_the_new_spec(world) {
        shop(world).await;
        let spec = web_spec("make test", &[("eu", "prod", "shop:1")]);
        world.ok(edit("shop", &spec)).await;
        fail(world, "service/shop/service-instance/us").await;
        assert_eq!(
            pipeline(world, "shop").await.deployment_status(),
            Deployment::InProgress
        );
        world.step().await;
        let after = service(world, "shop").await;
        assert_eq!(after.status(), Status::UpdateCompleteCleanupFailed);
        assert!(
            after
                .status_message()
                .contains("service-instance/us] could not be deleted")
        );
        assert_eq!(after.spec, Some(spec.clone()));

        world.ok(edit("shop", &spec)).await;
        world.settle().await;
        assert_eq!(status(world, "shop").await, Status::Active);
        assert_eq!(instances(world, "shop").await, ["eu"]);
    }

    async fn a_pipeline_that_fails_after_an_edit_rolls_nothing_back(world) {
        shop(world).await;
        let spec = web_spec("make test", &[("eu", "prod", "shop:1")]);
        world.ok(edit("shop", &spec)).await;
        world.step().await;
        fail(world, "service/shop/pipeline").await;
        let after = service(world, "shop").await;
        assert_eq!(
            (after.status(), after.spec),
            (Status::UpdateFailed, Some(spec))
        );
        assert_eq!(
            after.pipeline.unwrap().deployment_status(),
            Deployment::Failed
        );
        assert_eq!(instances(world, "shop").await, ["eu"]);
    }

    async fn nothing_else_is_accepted_while_a_service_is_edited(world) {
        shop(world).await;
        let spec = web_spec(
            "make test",
            &[
                ("eu", "prod", "shop:1"),
                ("us", "prod", "shop:1"),
                ("ap", "prod", "a:1"),
            ],
        );
        world.ok(edit("shop", &spec)).await;
        let refusals = [
            world.fails(edit("shop", &spec)).await,
            world.fails(delete_service("shop")).await,
            world.fails(update_instance("shop", "eu", None)).await,
            world.fails(update_pipeline("shop", spec.clone())).await,
            world
                .fails(pb::CreateServiceInstanceRequest {
                    service_name: "shop".to_owned(),
                    name: "sa".to_owned(),
                    spec: job_spec(&[("sa", "prod", "shop:1")]),
                    ..Default::default()
                })
                .await,
        ];
        for refusal in refusals {
            refusal
                .is(CONFLICT)
                .because("IN_PROGRESS")
                .says("service/shop is UPDATE_IN_PROGRESS");
        }
    }

    async fn an_edit_waits_for_deployments_of_instances(world) {
        batch(world).await;
        world.ok(update_instance("batch", "eu", None)).await;
        let spec = job_spec(&[("eu", "prod", "batch:1"), ("us", "prod", "batch:1")]);
        world
            .fails(edit("batch", &spec))
            .await
            .is(CONFLICT)
            .because("IN_PROGRESS")
            .says("service/batch/service-instance/eu");
        world
            .fails(delete_service("batch"))
            .await
            .is(CONFLICT)
            .because("IN_PROGRESS");
    }

    async fn new_instances_are_on_the_recommended_minor_of_the_services_major(world) {
        batch(world).await;
        release(world, "job", Some("1")).await;
        release(world, "job", None).await;
        let spec = job_spec(&[("eu", "prod", "batch:1"), ("us", "prod", "batch:1")]);
        world.ok(edit("batch", &spec)).await;
        world.step().await;
        let us = instance(world, "batch", "us").await;
        assert_eq!(
            (us.template_major_version(), us.template_minor_version()),
            ("1", "1")
        );
        assert_eq!(
            instance(world, "batch", "eu")
                .await
                .template_minor_version(),
            "0"
        );
    }
}
