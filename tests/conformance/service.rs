//! Services: created with their instances and their pipeline, read and listed.

use proton_gateway::api::pb::{self, DeploymentStatus as Deployment, ServiceStatus as Status};
use proton_gateway::backend::engine::Quotas;

use crate::conformance;
use crate::service_fixtures::*;
use crate::support::{Backend, World};

const INVALID: &str = "ValidationException";
const NOT_FOUND: &str = "ResourceNotFoundException";
const CONFLICT: &str = "ConflictException";

conformance! {
    async fn a_service_deploys_its_instances_first_and_then_its_pipeline(world) {
        platform(world).await;
        let request = create_web(
            "shop",
            &[("eu", "prod", "shop:1"), ("us", "test", "shop:1")],
        );
        let created = world.ok(request.clone()).await.service.unwrap();
        assert_eq!(
            created.arn(),
            "arn:aws:proton:us-east-1:123456789012:service/shop"
        );
        assert_eq!(created.status(), Status::CreateInProgress);
        assert_eq!(created.template_name(), "web");
        assert_eq!(created.branch_name(), "main");
        assert_eq!(created.created_at, now(world));
        assert_eq!((&created.spec, &created.pipeline), (&None, &None));
        assert_eq!(
            instance_status(world, "shop", "eu").await,
            Deployment::InProgress
        );

        world.step().await;
        assert_eq!(status(world, "shop").await, Status::CreateInProgress);
        assert_eq!(
            instance_status(world, "shop", "eu").await,
            Deployment::Succeeded
        );
        assert_eq!(
            instance_status(world, "shop", "us").await,
            Deployment::Succeeded
        );
        assert_eq!(
            pipeline(world, "shop").await.deployment_status(),
            Deployment::InProgress
        );

        world.step().await;
        let active = service(world, "shop").await;
        assert_eq!(active.status(), Status::Active);
        assert_eq!(active.spec, Some(request.spec));
        let pipeline = active.pipeline.unwrap();
        assert_eq!(pipeline.arn(), arn("service/shop/pipeline"));
        assert_eq!(pipeline.deployment_status(), Deployment::Succeeded);
        assert_eq!(
            (
                pipeline.template_major_version(),
                pipeline.template_minor_version()
            ),
            ("1", "0")
        );
    }

    async fn a_service_without_a_pipeline_is_active_after_its_instances(world) {
        platform(world).await;
        world
            .ok(create_job("batch", &[("eu", "prod", "batch:1")]))
            .await;
        world.step().await;
        let active = service(world, "batch").await;
        assert_eq!(active.status(), Status::Active);
        assert_eq!((active.pipeline, active.repository_id), (None, None));
    }

    async fn a_pipeline_needs_connection_repository_and_branch(world) {
        platform(world).await;
        let complete = create_web("shop", &[("eu", "prod", "shop:1")]);
        for (request, missing) in [
            (
                pb::CreateServiceRequest {
                    repository_id: None,
                    ..complete.clone()
                },
                "repository_id",
            ),
            (
                pb::CreateServiceRequest {
                    branch_name: None,
                    ..complete.clone()
                },
                "branch_name",
            ),
            (
                pb::CreateServiceRequest {
                    repository_connection_arn: None,
                    ..complete.clone()
                },
                "repository_connection_arn",
            ),
        ] {
            let refusal = world.fails(request).await;
            refusal
                .is(INVALID)
                .because("INVALID_REQUEST")
                .says(missing)
                .says("is required");
        }
    }

    async fn without_a_pipeline_repository_fields_are_refused(world) {
        platform(world).await;
        let request = pb::CreateServiceRequest {
            repository_id: Some("acme/batch".to_owned()),
            ..create_job("batch", &[("eu", "prod", "batch:1")])
        };
        world
            .fails(request)
            .await
            .is(INVALID)
            .says("repository_id must be left out");
    }

    async fn a_missing_template_version_is_named_by_its_arn(world) {
        platform(world).await;
        let complete = create_job("batch", &[("eu", "prod", "batch:1")]);
        let no_minor = pb::CreateServiceRequest {
            template_minor_version: Some("28".to_owned()),
            ..complete.clone()
        };
        world.fails(no_minor).await.is(NOT_FOUND).says(
            "The requested service template version does not exist: \
             arn:aws:proton:us-east-1:123456789012:service-template/job:1.28",
        );
        let no_major = pb::CreateServiceRequest {
            template_major_version: "4".to_owned(),
            ..complete.clone()
        };
        world
            .fails(no_major)
            .await
            .is(NOT_FOUND)
            .says("service-template/job:4");
        let no_template = pb::CreateServiceRequest {
            template_name: "none".to_owned(),
            ..complete
        };
        world
            .fails(no_template)
            .await
            .is(NOT_FOUND)
            .because("RESOURCE_NOT_FOUND")
            .says("none");
    }

    async fn a_draft_is_deployed_only_where_it_is_named(world) {
        platform(world).await;
        world.ok(service_version("job", None)).await;
        let named = pb::CreateServiceRequest {
            template_major_version: "2".to_owned(),
            template_minor_version: Some("0".to_owned()),
            ..create_job("batch", &[("eu", "prod", "batch:1")])
        };
        world
            .fails(named.clone())
            .await
            .is(CONFLICT)
            .because("IN_PROGRESS")
            .says("being registered");
        world.step().await;
        let unnamed = pb::CreateServiceRequest {
            template_minor_version: None,
            ..named.clone()
        };
        world
            .fails(unnamed)
            .await
            .is(NOT_FOUND)
            .says("no minor version of it is published");
        world.ok(named).await;
    }

    async fn broken_yaml_is_refused_with_its_line(world) {
        platform(world).await;
        let request = pb::CreateServiceRequest {
            spec: "proton: ServiceSpec\ninstances:\n  - name: \"eu\n".to_owned(),
            ..create_job("batch", &[])
        };
        world
            .fails(request)
            .await
            .is(INVALID)
            .because("INVALID_REQUEST")
            .says("The provided Service Spec file was not correctly formatted.")
            .says("line 3");
    }

    async fn a_spec_must_be_one_of_a_service_with_a_list_of_instances(world) {
        platform(world).await;
        for (spec, problem) in [
            (
                "proton: EnvironmentSpec\ninstances: []\n",
                "must be ServiceSpec",
            ),
            (
                "proton: ServiceSpec\ninstances: {}\n",
                "instances must be a list with an instance",
            ),
            (
                "proton: ServiceSpec\n",
                "instances must be a list with an instance",
            ),
        ] {
            let request = pb::CreateServiceRequest {
                spec: spec.to_owned(),
                ..create_job("batch", &[])
            };
            let refusal = world.fails(request).await;
            refusal.is(INVALID).says("was not correctly formatted");
            let said = refusal.message.replace('`', "").replace(": ", " ");
            assert!(said.contains(problem), "{said}");
        }
    }

    async fn all_inputs_that_break_the_schema_are_named_at_once(world) {
        platform(world).await;
        let request = pb::CreateServiceRequest {
            spec: "proton: ServiceSpec\npipeline: {}\ninstances:\n  \
                   - {name: eu, environment: prod, spec: {image: a, port: 0}}\n  \
                   - {name: us, environment: prod}\n"
                .to_owned(),
            ..create_web("shop", &[])
        };
        world
            .fails(request)
            .await
            .is(INVALID)
            .says("instances[0].spec.port")
            .says("instances[1].spec")
            .says("pipeline");
    }

    async fn a_spec_has_51200_characters_at_most(world) {
        platform(world).await;
        let spec = format!("{}# ", job_spec(&[("eu", "prod", "batch:1")]));
        let request = |length: usize| pb::CreateServiceRequest {
            spec: format!("{spec}{}", "é".repeat(length - spec.chars().count())),
            ..create_job("batch", &[])
        };
        world
            .fails(request(51_201))
            .await
            .is(INVALID)
            .because("INVALID_REQUEST")
            .says("Value at 'spec'")
            .says("less than or equal to 51200");
        world.ok(request(51_200)).await;
    }

    async fn an_environment_must_be_there_deployed_and_compatible(world) {
        platform(world).await;
        onprem(world).await;
        world.ok(create_environment("young")).await;
        let request = |environment| create_job("batch", &[("eu", environment, "batch:1")]);
        world
            .fails(request("nowhere"))
            .await
            .is(NOT_FOUND)
            .says("nowhere");
        world
            .fails(request("onprem"))
            .await
            .is(INVALID)
            .says("not compatible with environment/onprem");
        world
            .fails(request("young"))
            .await
            .is(CONFLICT)
            .because("IN_PROGRESS");
        fail(world, "environment/young").await;
        world
            .fails(request("young"))
            .await
            .is(CONFLICT)
            .because("PRECONDITION_FAILED");
    }

    async fn a_refused_creation_leaves_nothing_behind(world) {
        platform(world).await;
        let instances = [("eu", "prod", "batch:1"), ("us", "nowhere", "batch:1")];
        world.fails(create_job("batch", &instances)).await.is(NOT_FOUND);
        world.fails(get_instance("batch", "eu")).await.is(NOT_FOUND);
        world.ok(create_job("batch", &instances[..1])).await;
    }

    async fn creating_again_returns_the_original_as_it_is_now(world) {
        platform(world).await;
        let request = create_job("batch", &[("eu", "prod", "batch:1")]);
        let original = world.ok(request.clone()).await.service.unwrap();
        world.step().await;
        let replayed = world.ok(request).await.service.unwrap();
        assert_eq!(replayed.status(), Status::Active);
        assert_eq!(replayed.created_at, original.created_at);
    }

    async fn creating_again_with_other_parameters_is_a_mismatch(world) {
        batch(world).await;
        let request = create_job("batch", &[("eu", "prod", "batch:2")]);
        world
            .fails(request)
            .await
            .is(INVALID)
            .because("IDEMPOTENCY_MISMATCH")
            .says("Idempotent parameter mismatch");
    }

    async fn creating_again_after_a_change_is_a_conflict(world) {
        batch(world).await;
        world.ok(update_instance("batch", "eu", None)).await;
        let request = create_job("batch", &[("eu", "prod", "batch:1")]);
        world
            .fails(request)
            .await
            .is(CONFLICT)
            .because("ALREADY_EXISTS");
    }

    async fn a_service_has_twenty_instances_at_most(world) {
        platform(world).await;
        let names: Vec<_> = (0..21).map(|number| format!("i{number}")).collect();
        let instances: Vec<_> = names
            .iter()
            .map(|name| (name.as_str(), "prod", "a:1"))
            .collect();
        world
            .fails(create_job("batch", &instances))
            .await
            .is("ServiceQuotaExceededException")
            .because("QUOTA_EXCEEDED");
        world.ok(create_job("batch", &instances[..20])).await;
        world.step().await;
        world
            .fails(edit("batch", &job_spec(&instances)))
            .await
            .is("ServiceQuotaExceededException");
    }

    async fn a_failed_instance_fails_the_creation_and_spares_the_pipeline(world) {
        platform(world).await;
        world
            .ok(create_web(
                "shop",
                &[("eu", "prod", "shop:1"), ("us", "prod", "shop:1")],
            ))
            .await;
        fail(world, "service/shop/service-instance/us").await;
        assert_eq!(
            status(world, "shop").await,
            Status::CreateInProgress,
            "eu is still under way"
        );
        world.step().await;
        let failed = service(world, "shop").await;
        assert_eq!(failed.status(), Status::CreateFailed);
        assert!(
            failed
                .status_message()
                .contains(&arn("service/shop/service-instance/us"))
        );
        let pipeline = failed.pipeline.unwrap();
        assert_eq!(pipeline.deployment_status(), Deployment::Failed);
        assert_eq!(
            pipeline.deployment_status_message(),
            "Service Instance(s): [arn:aws:proton:us-east-1:123456789012:service/shop/\
             service-instance/us] failed to deploy - canceling pipeline deployment",
        );
        let us = instance(world, "shop", "us").await;
        assert_eq!(us.deployment_status_message(), "out of addresses");
        assert_eq!(
            instance_status(world, "shop", "eu").await,
            Deployment::Succeeded
        );
    }

    async fn a_failed_pipeline_fails_the_creation(world) {
        platform(world).await;
        world
            .ok(create_web("shop", &[("eu", "prod", "shop:1")]))
            .await;
        world.step().await;
        fail(world, "service/shop/pipeline").await;
        let failed = service(world, "shop").await;
        assert_eq!(failed.status(), Status::CreateFailed);
        assert_eq!(
            failed.pipeline.unwrap().deployment_status_message(),
            "out of addresses"
        );
    }

    async fn a_service_whose_creation_failed_can_be_repaired(world) {
        platform(world).await;
        let request = create_web("shop", &[("eu", "prod", "shop:1")]);
        world.ok(request.clone()).await;
        fail(world, "service/shop/service-instance/eu").await;
        world.ok(update_instance("shop", "eu", None)).await;
        world.step().await;
        assert_eq!(
            instance_status(world, "shop", "eu").await,
            Deployment::Succeeded
        );
        world.ok(edit("shop", &request.spec)).await;
        world.step().await;
        let repaired = service(world, "shop").await;
        assert_eq!(repaired.status(), Status::Active);
        assert_eq!(
            repaired.pipeline.unwrap().deployment_status(),
            Deployment::Succeeded
        );
    }

    async fn services_are_listed_by_name_and_in_pages(world) {
        platform(world).await;
        for name in ["c", "a", "b"] {
            world
                .ok(create_job(name, &[("eu", "prod", "batch:1")]))
                .await;
        }
        let page = |next_token| pb::ListServicesRequest {
            max_results: Some(2),
            next_token,
        };
        let first = world.ok(page(None)).await;
        let names: Vec<_> = first
            .services
            .iter()
            .map(|service| service.name())
            .collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(first.services[0].status(), Status::CreateInProgress);
        let last = world.ok(page(first.next_token.clone())).await;
        assert_eq!((last.services[0].name(), last.next_token), ("c", None));

        let elsewhere = pb::ListDeploymentsRequest {
            next_token: first.next_token,
            ..Default::default()
        };
        world.fails(elsewhere).await.is(INVALID).says("next_token");
        world
            .fails(page(Some("bm9uZQ==".to_owned())))
            .await
            .is(INVALID)
            .says("next_token");
    }

    async fn a_page_has_one_to_a_hundred_services(world) {
        for max_results in [0, 101] {
            let request = pb::ListServicesRequest {
                max_results: Some(max_results),
                next_token: None,
            };
            world.fails(request).await.is(INVALID).says("maxResults");
        }
    }

    async fn what_is_not_there_cannot_be_read_or_edited(world) {
        platform(world).await;
        world
            .fails(pb::GetServiceRequest {
                name: "none".to_owned(),
            })
            .await
            .is(NOT_FOUND)
            .because("RESOURCE_NOT_FOUND")
            .says("none");
        world
            .fails(edit("none", &job_spec(&[("eu", "prod", "a:1")])))
            .await
            .is(NOT_FOUND);
        assert_eq!(world.ok(delete_service("none")).await.service, None);
    }

    async fn a_name_that_is_none_is_refused(world) {
        world
            .fails(pb::GetServiceRequest {
                name: "-shop".to_owned(),
            })
            .await
            .is(INVALID)
            .says("'name'");
        world
            .fails(delete_service(""))
            .await
            .is(INVALID)
            .says("'name'");
        world
            .fails(edit("a b", "x"))
            .await
            .is(INVALID)
            .says("'name'");
        world
            .fails(pb::CreateServiceRequest::default())
            .await
            .is(INVALID)
            .says("'name'")
            .says("'spec'")
            .says("'templateName'")
            .says("'templateMajorVersion'");
    }
}

#[tokio::test]
async fn an_account_has_as_many_services_as_its_quota_says() {
    for backend in [Backend::InMemory, Backend::OnDisk, Backend::ThroughAwsDoor] {
        let quotas = Quotas {
            services: 1,
            ..Quotas::default()
        };
        let world = World::with_quotas(backend, quotas).await;
        batch(&world).await;
        let second = create_job("other", &[("eu", "prod", "a:1")]);
        let refusal = world.fails(second).await;
        refusal
            .is("ServiceQuotaExceededException")
            .because("QUOTA_EXCEEDED");
    }
}
