//! Service instances that are added to a service that is there, and what they put out.

use std::time::Duration;

use proton_gateway::api::pb::{self, DeploymentStatus as Status, ResourceDeploymentStatus};

use crate::conformance;
use crate::service_fixtures::*;

const INVALID: &str = "ValidationException";
const NOT_FOUND: &str = "ResourceNotFoundException";
const CONFLICT: &str = "ConflictException";

fn with_token(
    token: &str,
    request: pb::CreateServiceInstanceRequest,
) -> pb::CreateServiceInstanceRequest {
    pb::CreateServiceInstanceRequest {
        client_token: Some(token.to_owned()),
        ..request
    }
}

conformance! {
    async fn an_instance_is_added_to_a_service_and_to_its_spec(world) {
        batch(world).await;
        let created = world.ok(add_instance("us")).await.service_instance.unwrap();
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

    async fn the_spec_of_a_new_instance_may_refer_to_current_values_of_others(world) {
        batch(world).await;
        let marker = "${Proton::CURRENT_VAL}";
        let request = |instances: &[(&str, &str, &str)]| pb::CreateServiceInstanceRequest {
            spec: job_spec(instances),
            ..add_instance("us")
        };
        world
            .fails(request(&[("eu", "prod", "batch:1"), ("us", "test", marker)]))
            .await
            .is(INVALID)
            .says("instances[1].spec.image");
        world.ok(request(&[("eu", "prod", marker), ("us", "test", "batch:7")])).await;
        world.step().await;
        let spec = instance(world, "batch", "us").await.spec.unwrap();
        assert!(spec.contains("batch:1") && !spec.contains(marker), "{spec}");
    }

    async fn an_instance_that_fails_does_not_enter_the_services_spec(world) {
        batch(world).await;
        let before = service(world, "batch").await.spec;
        world.ok(add_instance("us")).await;
        fail(world, "service/batch/service-instance/us").await;
        assert_eq!(service(world, "batch").await.spec, before);
        assert_eq!(instance_status(world, "batch", "us").await, Status::Failed);
    }

    async fn an_instance_can_be_created_on_a_version_of_its_own(world) {
        batch(world).await;
        release(world, "job", None).await;
        let request = pb::CreateServiceInstanceRequest {
            template_major_version: Some("2".to_owned()),
            ..add_instance("us")
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
            ..add_instance("ap")
        };
        world
            .fails(half)
            .await
            .is(INVALID)
            .says("template_major_version");
        let absent = pb::CreateServiceInstanceRequest {
            template_major_version: Some("9".to_owned()),
            ..add_instance("ap")
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
            .ok(with_token("t-1", add_instance("us")))
            .await
            .service_instance
            .unwrap();
        assert_eq!(first.last_client_request_token(), "t-1");
        world.step().await;
        let replayed = world
            .ok(with_token("t-1", add_instance("us")))
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
        world.ok(with_token("t-1", add_instance("us"))).await;
        world
            .fails(with_token("t-1", add_instance("ap")))
            .await
            .is(INVALID)
            .because("IDEMPOTENCY_MISMATCH");
    }

    async fn a_token_is_good_for_eight_hours(world) {
        batch(world).await;
        world.ok(with_token("t-1", add_instance("us"))).await;
        world.clock.advance(Duration::from_secs(8 * 3600 - 1));
        world.engine.settle().await.unwrap();
        world.ok(with_token("t-1", add_instance("us"))).await;
        world.clock.advance(Duration::from_secs(1));
        world.engine.settle().await.unwrap();
        world
            .fails(with_token("t-1", add_instance("us")))
            .await
            .is(CONFLICT)
            .because("ALREADY_EXISTS");
        world.ok(with_token("t-1", add_instance("ap"))).await;
    }

    async fn an_instance_needs_a_free_name_a_service_and_its_part_of_the_spec(world) {
        batch(world).await;
        let taken = pb::CreateServiceInstanceRequest {
            spec: job_spec(&[("eu", "prod", "a:1")]),
            ..add_instance("eu")
        };
        world
            .fails(taken)
            .await
            .is(CONFLICT)
            .because("ALREADY_EXISTS")
            .says("service/batch/service-instance/eu");
        let nowhere = pb::CreateServiceInstanceRequest {
            service_name: "none".to_owned(),
            ..add_instance("us")
        };
        world.fails(nowhere).await.is(NOT_FOUND).says("none");
        let other = pb::CreateServiceInstanceRequest {
            spec: job_spec(&[("ap", "prod", "a:1")]),
            ..add_instance("us")
        };
        world
            .fails(other)
            .await
            .is(INVALID)
            .says("no instance named `us`");
        let lost = pb::CreateServiceInstanceRequest {
            spec: job_spec(&[("us", "nowhere", "a:1")]),
            ..add_instance("us")
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
            .fails(add_instance("us"))
            .await
            .is(INVALID)
            .says("20 instances");
    }

    async fn an_instance_whose_creation_failed_can_be_deployed_anew(world) {
        batch(world).await;
        world.ok(add_instance("us")).await;
        fail(world, "service/batch/service-instance/us").await;
        world.ok(update_instance("batch", "us", None)).await;
        world.step().await;
        let us = instance(world, "batch", "us").await;
        assert_eq!(us.deployment_status(), Status::Succeeded);
        assert_eq!(us.spec, Some(add_instance("us").spec));
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
        world.ok(add_instance("us")).await;
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
}
