//! Service instances that are deployed one by one: versions, specs, tokens, cancellations.

use proton_gateway::api::pb::{self, DeploymentStatus as Status, DeploymentUpdateType as Mode};

use crate::conformance;
use crate::service_fixtures::*;
use crate::support::World;

const INVALID: &str = "ValidationException";
const NOT_FOUND: &str = "ResourceNotFoundException";
const CONFLICT: &str = "ConflictException";

/// An update of `batch/eu`.
fn update(
    mode: Mode,
    major: Option<&str>,
    minor: Option<&str>,
) -> pb::UpdateServiceInstanceRequest {
    pb::UpdateServiceInstanceRequest {
        deployment_type: mode.into(),
        template_major_version: major.map(str::to_owned),
        template_minor_version: minor.map(str::to_owned),
        ..update_instance("batch", "eu", None)
    }
}

fn cancel(service: &str, name: &str) -> pb::CancelServiceInstanceDeploymentRequest {
    pb::CancelServiceInstanceDeploymentRequest {
        service_name: service.to_owned(),
        service_instance_name: name.to_owned(),
    }
}

/// The deployed version of `batch/eu`.
async fn version(world: &World) -> String {
    let eu = instance(world, "batch", "eu").await;
    format!(
        "{}.{}",
        eu.template_major_version(),
        eu.template_minor_version()
    )
}

conformance! {
    async fn an_update_shows_the_old_spec_until_it_has_succeeded(world) {
        batch(world).await;
        let before = instance(world, "batch", "eu").await;
        let spec = job_spec(&[("eu", "prod", "batch:2")]);
        let updating = world
            .ok(update_instance("batch", "eu", Some(spec.clone())))
            .await
            .service_instance
            .unwrap();
        assert_eq!(updating.deployment_status(), Status::InProgress);
        assert_eq!(updating.spec, before.spec);
        assert_eq!(
            updating.last_deployment_succeeded_at,
            before.last_deployment_succeeded_at
        );
        assert_eq!(
            updating.last_succeeded_deployment_id,
            before.last_succeeded_deployment_id
        );
        assert_ne!(
            updating.last_attempted_deployment_id,
            before.last_attempted_deployment_id
        );

        world.step().await;
        let after = instance(world, "batch", "eu").await;
        assert_eq!(after.deployment_status(), Status::Succeeded);
        assert_eq!(after.spec.as_ref(), Some(&spec));
        assert_eq!(after.last_deployment_succeeded_at, now(world));
        assert_eq!(service(world, "batch").await.spec, Some(spec));
    }

    async fn an_update_without_a_spec_deploys_the_current_one_again(world) {
        batch(world).await;
        let before = instance(world, "batch", "eu").await;
        world.ok(update_instance("batch", "eu", None)).await;
        world.step().await;
        let after = instance(world, "batch", "eu").await;
        assert_eq!(after.spec, before.spec);
        assert_ne!(
            after.last_succeeded_deployment_id,
            before.last_succeeded_deployment_id
        );
    }

    async fn a_minor_update_goes_to_the_recommended_or_to_the_named_minor(world) {
        batch(world).await;
        release(world, "job", Some("1")).await;
        release(world, "job", Some("1")).await;
        world.ok(update(Mode::MinorVersion, None, None)).await;
        assert_eq!(version(world).await, "1.0", "until it has succeeded");
        world.step().await;
        assert_eq!(version(world).await, "1.2");
        world
            .ok(update(Mode::MinorVersion, Some("1"), Some("1")))
            .await;
        world.step().await;
        assert_eq!(version(world).await, "1.1");
        world
            .fails(update(Mode::MinorVersion, Some("2"), None))
            .await
            .is(INVALID)
            .says("template_major_version")
            .says("must be the current one, 1");
        world
            .fails(update(Mode::MinorVersion, None, Some("9")))
            .await
            .is(NOT_FOUND)
            .says("service-template/job:1.9");
    }

    async fn a_major_update_goes_up_only(world) {
        batch(world).await;
        release(world, "job", None).await;
        release(world, "job", None).await;
        world.ok(update(Mode::MajorVersion, Some("2"), None)).await;
        world.step().await;
        assert_eq!(version(world).await, "2.0");
        world.ok(update(Mode::MajorVersion, None, None)).await;
        world.step().await;
        assert_eq!(version(world).await, "3.0");
        for named in ["1", "3"] {
            world
                .fails(update(Mode::MajorVersion, Some(named), None))
                .await
                .is(INVALID)
                .says("template_major_version: must be higher than the current one, 3");
        }
        world
            .fails(update(Mode::MajorVersion, None, Some("0")))
            .await
            .is(INVALID)
            .says("template_major_version");
    }

    async fn a_major_update_without_a_number_takes_what_is_recommended_of_the_same_major_too(world) {
        batch(world).await;
        release(world, "job", Some("1")).await;
        world.ok(update(Mode::MajorVersion, None, None)).await;
        world.step().await;
        assert_eq!(version(world).await, "1.1");
        let draft = world.ok(service_version("job", None)).await;
        assert_eq!(draft.service_template_version.unwrap().major_version(), "2");
        world.step().await;
        world.ok(update(Mode::MajorVersion, Some("2"), Some("0"))).await;
        world.step().await;
        world
            .fails(update(Mode::MajorVersion, None, None))
            .await
            .is(INVALID)
            .says("no version is recommended from the current one, 2, upwards");
    }

    async fn nothing_is_deployed_where_the_mode_is_none(world) {
        batch(world).await;
        let before = instance(world, "batch", "eu").await;
        let after = world
            .ok(update(Mode::None, None, None))
            .await
            .service_instance
            .unwrap();
        assert_eq!(after.deployment_status(), Status::Succeeded);
        assert_eq!(
            after.last_attempted_deployment_id,
            before.last_attempted_deployment_id
        );
        let spec = pb::UpdateServiceInstanceRequest {
            spec: before.spec,
            ..update(Mode::None, None, None)
        };
        world
            .fails(spec)
            .await
            .is(INVALID)
            .says("spec")
            .says("NONE");
    }

    async fn versions_are_left_out_where_the_mode_does_not_change_them(world) {
        batch(world).await;
        for mode in [Mode::None, Mode::CurrentVersion] {
            world
                .fails(update(mode, Some("1"), Some("0")))
                .await
                .is(INVALID)
                .because("INVALID_REQUEST")
                .says("template_major_version must be left out");
        }
        world
            .fails(update(Mode::Unspecified, None, None))
            .await
            .is(INVALID)
            .says("'deploymentType'");
    }

    async fn current_values_are_filled_in(world) {
        batch(world).await;
        let spec = job_spec(&[("eu", "prod", "${Proton::CURRENT_VAL}")]) + "      port: 90\n";
        world.ok(update_instance("batch", "eu", Some(spec))).await;
        world.step().await;
        let spec = instance(world, "batch", "eu").await.spec.unwrap();
        assert!(spec.contains("batch:1") && spec.contains("90"), "{spec}");
    }

    /// Developers see the service's spec, and may write the marker anywhere in it.
    async fn current_values_are_those_of_the_services_spec(world) {
        shop(world).await;
        let instances = [("eu", "prod", "shop:1"), ("us", "prod", "shop:1"), ("ap", "test", "shop:7")];
        world.ok(edit("shop", &web_spec("make test", &instances))).await;
        world.settle().await;
        let marker = "${Proton::CURRENT_VAL}";
        let spec = web_spec(marker, &[("eu", "prod", "shop:2"), ("ap", "test", marker)]);
        world.ok(update_instance("shop", "eu", Some(spec))).await;
        world.step().await;
        let eu = instance(world, "shop", "eu").await.spec.unwrap();
        for expected in ["make test", "shop:2", "shop:7"] {
            assert!(eu.contains(expected), "{eu}");
        }
        assert!(!eu.contains(marker), "{eu}");
    }

    async fn a_marker_for_an_input_that_is_not_there_leaves_it_out(world) {
        batch(world).await;
        let marked = |input: &str| {
            let marker = "\"${Proton::CURRENT_VAL}\"";
            job_spec(&[("eu", "prod", "batch:2")]) + &format!("      {input}: {marker}\n")
        };
        world
            .fails(update_instance("batch", "eu", Some(marked("prot"))))
            .await
            .is(INVALID)
            .says("instances[0].spec.prot")
            .says("is not an input");
        world.ok(update_instance("batch", "eu", Some(marked("port")))).await;
        world.step().await;
        let spec = instance(world, "batch", "eu").await.spec.unwrap();
        assert!(spec.contains("batch:2") && !spec.contains("port"), "{spec}");
    }

    async fn an_update_checks_its_own_part_of_the_spec(world) {
        batch(world).await;
        let update = |spec: String| update_instance("batch", "eu", Some(spec));
        world
            .fails(update(job_spec(&[("eu", "test", "a:1")])))
            .await
            .is(INVALID)
            .says("cannot be moved");
        world
            .fails(update(job_spec(&[("us", "prod", "a:1")])))
            .await
            .is(INVALID)
            .says("`eu`");
        world
            .fails(update(job_spec(&[("eu", "prod", "")])))
            .await
            .is(INVALID)
            .says("instances[0].spec.image");
        world
            .fails(update("proton: [".to_owned()))
            .await
            .is(INVALID)
            .says("was not correctly formatted");
    }

    /// What AWS's sample pipelines do: the new image goes into all instances of the spec, which
    /// is then passed for one instance after the other.
    async fn a_pipeline_ships_one_instance_after_the_other_with_the_whole_spec(world) {
        shop(world).await;
        let spec = service(world, "shop")
            .await
            .spec
            .unwrap()
            .replace("shop:1", "shop:2");
        world
            .ok(update_instance("shop", "eu", Some(spec.clone())))
            .await;
        world.step().await;
        let between = service(world, "shop").await.spec.unwrap();
        assert!(
            between.contains("shop:1") && between.contains("shop:2"),
            "{between}"
        );
        assert_eq!(
            instance(world, "shop", "eu").await.spec.as_ref(),
            Some(&spec)
        );

        world
            .ok(update_instance("shop", "us", Some(spec.clone())))
            .await;
        world.step().await;
        assert_eq!(service(world, "shop").await.spec, Some(spec.clone()));
        assert_eq!(instance(world, "shop", "us").await.spec, Some(spec));
    }

    async fn a_pipeline_may_ship_while_the_service_is_still_being_created(world) {
        platform(world).await;
        let request = create_web("shop", &[("eu", "prod", "shop:1")]);
        world.ok(request.clone()).await;
        world.step().await;
        let spec = request.spec.replace("shop:1", "shop:2");
        world
            .ok(update_instance("shop", "eu", Some(spec.clone())))
            .await;
        world.settle().await;
        assert_eq!(service(world, "shop").await.spec, Some(spec));
    }

    async fn a_token_makes_an_update_repeatable(world) {
        batch(world).await;
        let request = pb::UpdateServiceInstanceRequest {
            client_token: Some("t-2".to_owned()),
            ..update_instance("batch", "eu", None)
        };
        let first = world.ok(request.clone()).await.service_instance.unwrap();
        assert_eq!(first.last_client_request_token(), "t-2");
        world.step().await;
        let replayed = world.ok(request.clone()).await.service_instance.unwrap();
        assert_eq!(replayed.deployment_status(), Status::Succeeded);
        assert_eq!(
            replayed.last_attempted_deployment_id,
            first.last_attempted_deployment_id
        );
        let other = pb::UpdateServiceInstanceRequest {
            spec: Some(job_spec(&[("eu", "prod", "batch:2")])),
            ..request
        };
        world
            .fails(other)
            .await
            .is(INVALID)
            .because("IDEMPOTENCY_MISMATCH");
    }

    async fn an_instance_is_deployed_once_at_a_time(world) {
        batch(world).await;
        world.ok(update_instance("batch", "eu", None)).await;
        world
            .fails(update_instance("batch", "eu", None))
            .await
            .is(CONFLICT)
            .because("IN_PROGRESS")
            .says("is IN_PROGRESS");
    }

    async fn an_instance_waits_for_its_component(world) {
        batch(world).await;
        world.ok(attach_new("cache", "batch", "eu")).await;
        world
            .fails(update_instance("batch", "eu", None))
            .await
            .is(CONFLICT)
            .because("IN_PROGRESS")
            .says("component/cache");
        world.step().await;
        world.ok(update_instance("batch", "eu", None)).await;
    }

    async fn a_cancelled_update_leaves_what_was_there(world) {
        batch(world).await;
        let before = instance(world, "batch", "eu").await;
        world
            .ok(update_instance(
                "batch",
                "eu",
                Some(job_spec(&[("eu", "prod", "batch:2")])),
            ))
            .await;
        let cancelling = world
            .ok(cancel("batch", "eu"))
            .await
            .service_instance
            .unwrap();
        assert_eq!(cancelling.deployment_status(), Status::Cancelling);
        world.ok(cancel("batch", "eu")).await;
        world.step().await;
        let cancelled = instance(world, "batch", "eu").await;
        assert_eq!(cancelled.deployment_status(), Status::Cancelled);
        assert_eq!(
            cancelled.deployment_status_message(),
            "User initiated cancellation."
        );
        assert_eq!(cancelled.spec, before.spec);
        assert_eq!(
            cancelled.last_succeeded_deployment_id,
            before.last_succeeded_deployment_id
        );
    }

    async fn only_an_update_under_way_can_be_cancelled(world) {
        batch(world).await;
        world
            .fails(cancel("batch", "eu"))
            .await
            .is(CONFLICT)
            .because("PRECONDITION_FAILED")
            .says("no deployment in progress");
        world.ok(add_instance("us")).await;
        world
            .fails(cancel("batch", "us"))
            .await
            .is(CONFLICT)
            .because("PRECONDITION_FAILED");
        world.fails(cancel("batch", "none")).await.is(NOT_FOUND);
        world
            .fails(cancel("batch", ""))
            .await
            .is(INVALID)
            .says("'serviceInstanceName'");
    }

    async fn a_failed_update_leaves_what_was_there(world) {
        batch(world).await;
        release(world, "job", Some("1")).await;
        world.ok(update(Mode::MinorVersion, None, None)).await;
        fail(world, "service/batch/service-instance/eu").await;
        let eu = instance(world, "batch", "eu").await;
        assert_eq!(eu.deployment_status(), Status::Failed);
        assert_eq!(eu.deployment_status_message(), "out of addresses");
        assert_eq!(version(world).await, "1.0");
    }
}
