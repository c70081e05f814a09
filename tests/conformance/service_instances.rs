//! Service instances: created in a service that is there, deployed one by one, listed.

use std::time::Duration;

use proton_gateway::api::pb::{
    self, DeploymentStatus as Status, DeploymentUpdateType as Mode,
    ListServiceInstancesFilterBy as FilterBy, ListServiceInstancesSortBy as SortBy,
    ResourceDeploymentStatus, SortOrder,
};

use crate::conformance;
use crate::fixtures_b::*;
use crate::support::World;

const INVALID: &str = "ValidationException";
const NOT_FOUND: &str = "ResourceNotFoundException";
const CONFLICT: &str = "ConflictException";

/// A request that adds an instance in `test` to the service `batch`.
fn create(name: &str) -> pb::CreateServiceInstanceRequest {
    pb::CreateServiceInstanceRequest {
        service_name: "batch".to_owned(),
        name: name.to_owned(),
        spec: job_spec(&[(name, "test", "batch:7")]),
        ..Default::default()
    }
}

fn with_token(
    token: &str,
    request: pb::CreateServiceInstanceRequest,
) -> pb::CreateServiceInstanceRequest {
    pb::CreateServiceInstanceRequest {
        client_token: Some(token.to_owned()),
        ..request
    }
}

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

/// Instances as `service/name`, in the order of the list.
async fn list(world: &World, request: pb::ListServiceInstancesRequest) -> Vec<String> {
    let response = world.ok(request).await;
    let listed = response.service_instances.iter();
    listed
        .map(|instance| format!("{}/{}", instance.service_name(), instance.name()))
        .collect()
}

fn filter(key: FilterBy, value: &str) -> pb::ListServiceInstancesRequest {
    pb::ListServiceInstancesRequest {
        filters: vec![pb::ListServiceInstancesFilter {
            key: key.into(),
            value: Some(value.to_owned()),
        }],
        ..Default::default()
    }
}

/// Three services in two environments, each created five seconds after the one before.
async fn fleet(world: &World) {
    platform(world).await;
    world
        .ok(create_job("shop-eu", &[("a", "test", "a:1")]))
        .await;
    world.step().await;
    world.ok(create_web("shop", &[("c", "prod", "a:1")])).await;
    world.step().await;
    world.ok(create_job("batch", &[("b", "prod", "a:1")])).await;
}

conformance! {
    async fn an_instance_is_added_to_a_service_and_to_its_spec(world) {
        batch(world).await;
        let created = world.ok(create("us")).await.service_instance.unwrap();
        assert_eq!(created.arn(), arn("service/batch/service-instance/us"));
        assert_eq!(created.deployment_status(), Status::InProgress);
        assert_eq!(created.environment_name(), "test");
        assert_eq!(created.template_name(), "job");
        assert_eq!(created.last_deployment_attempted_at, now(world));
        assert_eq!(
            (&created.spec, &created.template_major_version),
            (&None, &None)
        );
        assert_eq!(created.last_deployment_succeeded_at, None);

        world.step().await;
        let deployed = instance(world, "batch", "us").await;
        assert_eq!(deployed.deployment_status(), Status::Succeeded);
        assert_eq!(deployed.template_minor_version(), "0");
        assert_eq!(
            deployed.last_succeeded_deployment_id,
            deployed.last_attempted_deployment_id
        );
        let spec = service(world, "batch").await.spec.unwrap();
        assert!(
            spec.contains("batch:1") && spec.contains("batch:7"),
            "{spec}"
        );
    }

    async fn an_instance_that_fails_does_not_enter_the_services_spec(world) {
        batch(world).await;
        let before = service(world, "batch").await.spec;
        world.ok(create("us")).await;
        fail(world, "service/batch/service-instance/us").await;
        assert_eq!(service(world, "batch").await.spec, before);
        assert_eq!(instance_status(world, "batch", "us").await, Status::Failed);
    }

    async fn an_instance_can_be_created_on_a_version_of_its_own(world) {
        batch(world).await;
        release(world, "job", None).await;
        let request = pb::CreateServiceInstanceRequest {
            template_major_version: Some("2".to_owned()),
            ..create("us")
        };
        world.ok(request).await;
        world.step().await;
        assert_eq!(
            instance(world, "batch", "us")
                .await
                .template_major_version(),
            "2"
        );
        let half = pb::CreateServiceInstanceRequest {
            template_minor_version: Some("0".to_owned()),
            ..create("ap")
        };
        world
            .fails(half)
            .await
            .is(INVALID)
            .says("template_major_version");
        let absent = pb::CreateServiceInstanceRequest {
            template_major_version: Some("9".to_owned()),
            ..create("ap")
        };
        world
            .fails(absent)
            .await
            .is(NOT_FOUND)
            .says("service-template/job:9");
    }

    async fn a_token_returns_the_instance_that_it_made(world) {
        batch(world).await;
        let first = world
            .ok(with_token("t-1", create("us")))
            .await
            .service_instance
            .unwrap();
        assert_eq!(first.last_client_request_token(), "t-1");
        world.step().await;
        let replayed = world
            .ok(with_token("t-1", create("us")))
            .await
            .service_instance
            .unwrap();
        assert_eq!(replayed.deployment_status(), Status::Succeeded);
        assert_eq!(
            replayed.last_attempted_deployment_id,
            first.last_attempted_deployment_id
        );
    }

    async fn a_token_with_other_parameters_is_a_mismatch(world) {
        batch(world).await;
        world.ok(with_token("t-1", create("us"))).await;
        world
            .fails(with_token("t-1", create("ap")))
            .await
            .is(INVALID)
            .because("IDEMPOTENCY_MISMATCH");
    }

    async fn a_token_is_good_for_eight_hours(world) {
        batch(world).await;
        world.ok(with_token("t-1", create("us"))).await;
        world.clock.advance(Duration::from_secs(8 * 3600 - 1));
        world.engine.settle().await.unwrap();
        world.ok(with_token("t-1", create("us"))).await;
        world.clock.advance(Duration::from_secs(1));
        world.engine.settle().await.unwrap();
        world
            .fails(with_token("t-1", create("us")))
            .await
            .is(CONFLICT)
            .because("ALREADY_EXISTS");
        world.ok(with_token("t-1", create("ap"))).await;
    }

    async fn an_instance_needs_a_free_name_a_service_and_its_part_of_the_spec(world) {
        batch(world).await;
        let taken = pb::CreateServiceInstanceRequest {
            spec: job_spec(&[("eu", "prod", "a:1")]),
            ..create("eu")
        };
        world
            .fails(taken)
            .await
            .is(CONFLICT)
            .because("ALREADY_EXISTS")
            .says("service/batch/service-instance/eu");
        let nowhere = pb::CreateServiceInstanceRequest {
            service_name: "none".to_owned(),
            ..create("us")
        };
        world.fails(nowhere).await.is(NOT_FOUND).says("none");
        let other = pb::CreateServiceInstanceRequest {
            spec: job_spec(&[("ap", "prod", "a:1")]),
            ..create("us")
        };
        world
            .fails(other)
            .await
            .is(INVALID)
            .says("no instance named `us`");
        let lost = pb::CreateServiceInstanceRequest {
            spec: job_spec(&[("us", "nowhere", "a:1")]),
            ..create("us")
        };
        world.fails(lost).await.is(NOT_FOUND).says("nowhere");
        world
            .fails(pb::CreateServiceInstanceRequest::default())
            .await
            .is(INVALID)
            .says("'name'")
            .says("'serviceName'")
            .says("'spec'");
    }

    async fn a_full_service_takes_no_more_instances(world) {
        platform(world).await;
        let names: Vec<_> = (0..20).map(|number| format!("i{number}")).collect();
        let full: Vec<_> = names
            .iter()
            .map(|name| (name.as_str(), "prod", "a:1"))
            .collect();
        world.ok(create_job("batch", &full)).await;
        world.step().await;
        // The model gives this operation no exception for quotas.
        world
            .fails(create("us"))
            .await
            .is(INVALID)
            .says("20 instances");
    }

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
        world
            .fails(update(Mode::MajorVersion, None, None))
            .await
            .is(INVALID)
            .says("no recommended major version above the current one, 1");
        release(world, "job", None).await;
        release(world, "job", None).await;
        world.ok(update(Mode::MajorVersion, Some("2"), None)).await;
        world.step().await;
        assert_eq!(version(world).await, "2.0");
        world.ok(update(Mode::MajorVersion, None, None)).await;
        world.step().await;
        assert_eq!(version(world).await, "3.0");
        world
            .fails(update(Mode::MajorVersion, Some("1"), None))
            .await
            .is(INVALID);
        world
            .fails(update(Mode::MajorVersion, None, Some("0")))
            .await
            .is(INVALID)
            .says("template_major_version");
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
        world.ok(create("us")).await;
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

    async fn an_instance_whose_creation_failed_can_be_deployed_anew(world) {
        batch(world).await;
        world.ok(create("us")).await;
        fail(world, "service/batch/service-instance/us").await;
        world.ok(update_instance("batch", "us", None)).await;
        world.step().await;
        let us = instance(world, "batch", "us").await;
        assert_eq!(us.deployment_status(), Status::Succeeded);
        assert_eq!(us.spec, Some(create("us").spec));
    }

    async fn outputs_are_those_of_the_last_success_or_of_the_named_deployment(world) {
        batch(world).await;
        let tail = "service/batch/service-instance/eu";
        let mut ids = Vec::new();
        for url in ["https://1", "https://2"] {
            let updated = world
                .ok(update_instance("batch", "eu", None))
                .await
                .service_instance
                .unwrap();
            ids.push(updated.last_attempted_deployment_id);
            world
                .ok(pb::NotifyResourceDeploymentStatusChangeRequest {
                    outputs: vec![output("url", url)],
                    ..report(tail, ResourceDeploymentStatus::Succeeded)
                })
                .await;
        }
        assert_eq!(
            instance_outputs(world, "batch", "eu", None).await,
            [output("url", "https://2")]
        );
        let older = instance_outputs(world, "batch", "eu", ids[0].clone()).await;
        assert_eq!(older, [output("url", "https://1")]);
    }

    async fn outputs_of_a_deployment_under_way_are_not_there_yet(world) {
        batch(world).await;
        let updated = world
            .ok(update_instance("batch", "eu", None))
            .await
            .service_instance
            .unwrap();
        let id = updated.last_attempted_deployment_id;
        world
            .ok(pb::NotifyResourceDeploymentStatusChangeRequest {
                outputs: vec![output("url", "https://1")],
                ..report(
                    "service/batch/service-instance/eu",
                    ResourceDeploymentStatus::InProgress,
                )
            })
            .await;
        assert_eq!(instance_outputs(world, "batch", "eu", id.clone()).await, []);
        world.step().await;
        assert_eq!(
            instance_outputs(world, "batch", "eu", id).await,
            [output("url", "https://1")]
        );
    }

    async fn outputs_of_something_else_are_not_found(world) {
        batch(world).await;
        world.ok(create("us")).await;
        let other = instance(world, "batch", "us")
            .await
            .last_attempted_deployment_id;
        let request = pb::ListServiceInstanceOutputsRequest {
            service_name: "batch".to_owned(),
            service_instance_name: "eu".to_owned(),
            deployment_id: other,
            next_token: None,
        };
        world.fails(request.clone()).await.is(NOT_FOUND);
        let absent = pb::ListServiceInstanceOutputsRequest {
            service_instance_name: "none".to_owned(),
            deployment_id: None,
            ..request
        };
        world.fails(absent).await.is(NOT_FOUND).says("batch/none");
    }

    /// The model allows no token but the empty one here.
    async fn outputs_are_a_list_of_one_page(world) {
        batch(world).await;
        let request = |token: &str| pb::ListServiceInstanceOutputsRequest {
            service_name: "batch".to_owned(),
            service_instance_name: "eu".to_owned(),
            deployment_id: None,
            next_token: Some(token.to_owned()),
        };
        assert_eq!(world.ok(request("")).await.next_token, None);
        world
            .fails(request("bW9yZQ=="))
            .await
            .is(INVALID)
            .says("'nextToken'");
    }

    async fn nothing_is_provisioned_so_no_resource_is_listed(world) {
        batch(world).await;
        let request = |name: &str| pb::ListServiceInstanceProvisionedResourcesRequest {
            service_name: "batch".to_owned(),
            service_instance_name: name.to_owned(),
            next_token: None,
        };
        assert!(
            world
                .ok(request("eu"))
                .await
                .provisioned_resources
                .is_empty()
        );
        world.fails(request("none")).await.is(NOT_FOUND);
    }

    async fn what_is_not_there_cannot_be_read_or_updated(world) {
        batch(world).await;
        world
            .fails(get_instance("batch", "none"))
            .await
            .is(NOT_FOUND)
            .says("batch/none");
        world.fails(get_instance("none", "eu")).await.is(NOT_FOUND);
        world
            .fails(get_instance("batch", ""))
            .await
            .is(INVALID)
            .says("'name'");
        world
            .fails(update_instance("batch", "none", None))
            .await
            .is(NOT_FOUND);
    }

    async fn instances_are_listed_by_service_and_then_by_name(world) {
        fleet(world).await;
        let all = list(world, pb::ListServiceInstancesRequest::default()).await;
        assert_eq!(all, ["batch/b", "shop/c", "shop-eu/a"]);
        let reversed = pb::ListServiceInstancesRequest {
            sort_order: SortOrder::Descending.into(),
            ..Default::default()
        };
        assert_eq!(
            list(world, reversed).await,
            ["shop-eu/a", "shop/c", "batch/b"]
        );
        assert_eq!(instances(world, "shop").await, ["c"]);
    }

    async fn instances_are_sorted_as_asked_both_ways(world) {
        fleet(world).await;
        for (by, expected) in [
            (SortBy::Name, ["shop-eu/a", "batch/b", "shop/c"]),
            (SortBy::DeploymentStatus, ["batch/b", "shop/c", "shop-eu/a"]),
            (SortBy::TemplateName, ["batch/b", "shop-eu/a", "shop/c"]),
            (SortBy::ServiceName, ["batch/b", "shop/c", "shop-eu/a"]),
            (SortBy::EnvironmentName, ["batch/b", "shop/c", "shop-eu/a"]),
            (
                SortBy::LastDeploymentAttemptedAt,
                ["shop-eu/a", "shop/c", "batch/b"],
            ),
            (SortBy::CreatedAt, ["shop-eu/a", "shop/c", "batch/b"]),
        ] {
            let ascending = pb::ListServiceInstancesRequest {
                sort_by: by.into(),
                sort_order: SortOrder::Ascending.into(),
                ..Default::default()
            };
            let descending = pb::ListServiceInstancesRequest {
                sort_order: SortOrder::Descending.into(),
                ..ascending.clone()
            };
            assert_eq!(list(world, ascending).await, expected, "{by:?}");
            let mut expected = expected;
            expected.reverse();
            assert_eq!(
                list(world, descending).await,
                expected,
                "{by:?}, descending"
            );
        }
    }

    async fn instances_are_filtered_by_each_key(world) {
        fleet(world).await;
        // Seconds of the creation of `shop`; the others are five seconds before and after.
        let middle = instance(world, "shop", "c").await.created_at.unwrap();
        let middle = middle.to_string();
        let without_offset = middle.trim_end_matches('Z');
        for (key, value, expected) in [
            (FilterBy::Name, "a", vec!["shop-eu/a"]),
            (FilterBy::DeploymentStatus, "IN_PROGRESS", vec!["batch/b"]),
            (FilterBy::TemplateName, "web", vec!["shop/c"]),
            (FilterBy::ServiceName, "shop", vec!["shop/c"]),
            (FilterBy::EnvironmentName, "test", vec!["shop-eu/a"]),
            (
                FilterBy::DeployedTemplateVersionStatus,
                "UP_TO_DATE",
                vec!["shop/c", "shop-eu/a"],
            ),
            (FilterBy::CreatedAtBefore, &middle, vec!["shop-eu/a"]),
            (FilterBy::CreatedAtAfter, &middle, vec!["batch/b"]),
            (
                FilterBy::LastDeploymentAttemptedAtBefore,
                &middle,
                vec!["shop-eu/a"],
            ),
            (
                FilterBy::LastDeploymentAttemptedAtAfter,
                &middle,
                vec!["batch/b"],
            ),
            (FilterBy::CreatedAtAfter, without_offset, vec!["batch/b"]),
        ] {
            assert_eq!(
                list(world, filter(key, value)).await,
                expected,
                "{key:?} {value}"
            );
        }
    }

    async fn filters_narrow_one_another_down(world) {
        fleet(world).await;
        let mut request = filter(FilterBy::EnvironmentName, "prod");
        request
            .filters
            .extend(filter(FilterBy::TemplateName, "job").filters);
        assert_eq!(list(world, request).await, ["batch/b"]);
    }

    async fn instances_behind_are_found_by_how_far(world) {
        batch(world).await;
        let behind = |class| filter(FilterBy::DeployedTemplateVersionStatus, class);
        release(world, "job", Some("1")).await;
        assert_eq!(list(world, behind("BEHIND_MINOR")).await, ["batch/eu"]);
        release(world, "job", None).await;
        assert_eq!(list(world, behind("BEHIND_MAJOR")).await, ["batch/eu"]);
        assert!(list(world, behind("UP_TO_DATE")).await.is_empty());
    }

    async fn a_filter_that_means_nothing_is_refused(world) {
        batch(world).await;
        for (key, value) in [
            (FilterBy::DeploymentStatus, "SLEEPING"),
            (FilterBy::DeployedTemplateVersionStatus, "OLD"),
            (FilterBy::CreatedAtAfter, "yesterday"),
        ] {
            world
                .fails(filter(key, value))
                .await
                .is(INVALID)
                .says("filters[0].value");
        }
        let unknown = pb::ListServiceInstancesRequest {
            service_name: Some("none".to_owned()),
            ..Default::default()
        };
        world.fails(unknown).await.is(NOT_FOUND).says("none");
    }

    async fn pages_follow_one_another_in_any_order(world) {
        fleet(world).await;
        for sort_by in [SortBy::Unspecified, SortBy::CreatedAt] {
            let mut request = pb::ListServiceInstancesRequest {
                max_results: Some(1),
                sort_by: sort_by.into(),
                ..Default::default()
            };
            let all = list(
                world,
                pb::ListServiceInstancesRequest {
                    max_results: None,
                    ..request.clone()
                },
            )
            .await;
            let mut seen = Vec::new();
            loop {
                let response = world.ok(request.clone()).await;
                let page = response.service_instances;
                assert_eq!(page.len(), 1);
                seen.push(format!("{}/{}", page[0].service_name(), page[0].name()));
                let Some(token) = response.next_token else {
                    break;
                };
                request.next_token = Some(token);
            }
            assert_eq!(seen, all);
        }
    }

    async fn a_token_belongs_to_its_filters_and_order(world) {
        fleet(world).await;
        let request = pb::ListServiceInstancesRequest {
            max_results: Some(1),
            ..Default::default()
        };
        let next_token = world.ok(request.clone()).await.next_token;
        assert!(next_token.is_some());
        let filtered = pb::ListServiceInstancesRequest {
            next_token: next_token.clone(),
            ..filter(FilterBy::EnvironmentName, "prod")
        };
        world
            .fails(filtered)
            .await
            .is(INVALID)
            .because("INVALID_REQUEST")
            .says("next_token");
        let sorted = pb::ListServiceInstancesRequest {
            next_token: next_token.clone(),
            sort_by: SortBy::Name.into(),
            ..Default::default()
        };
        world.fails(sorted).await.is(INVALID).says("next_token");
        let larger = pb::ListServiceInstancesRequest {
            next_token,
            max_results: Some(50),
            ..request
        };
        assert_eq!(list(world, larger).await, ["shop/c", "shop-eu/a"]);
    }
}
