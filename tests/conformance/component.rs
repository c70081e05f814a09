//! Components: infrastructure of a developer's own, attached to an instance or to nothing.

use proton_gateway::api::pb::{self, DeploymentStatus as Status, ResourceDeploymentStatus};
use proton_gateway::backend::engine::Quotas;

use crate::conformance;
use crate::service_fixtures::*;
use crate::support::{Backend, World, tag};

const INVALID: &str = "ValidationException";
const NOT_FOUND: &str = "ResourceNotFoundException";
const CONFLICT: &str = "ConflictException";

async fn list(world: &World, request: pb::ListComponentsRequest) -> Vec<String> {
    let response = world.ok(request).await;
    let listed = response.components.iter();
    listed
        .map(|component| component.name().to_owned())
        .collect()
}

conformance! {
    async fn a_component_is_created_in_an_environment(world) {
        platform(world).await;
        let created = world.ok(create_component("cache")).await.component.unwrap();
        assert_eq!(
            created.arn(),
            "arn:aws:proton:us-east-1:123456789012:component/cache"
        );
        assert_eq!(created.environment_name(), "prod");
        assert_eq!(created.deployment_status(), Status::InProgress);
        assert_eq!(created.created_at, now(world));
        assert_eq!(
            (&created.service_name, &created.service_instance_name),
            (&None, &None)
        );
        world.step().await;
        let deployed = component(world, "cache").await;
        assert_eq!(deployed.deployment_status(), Status::Succeeded);
        assert_eq!(deployed.last_deployment_succeeded_at, now(world));
        assert_eq!(deployed.last_modified_at, now(world));
        assert_eq!(
            deployed.last_succeeded_deployment_id,
            created.last_attempted_deployment_id
        );
    }

    async fn a_component_is_created_where_the_instance_is_that_it_is_attached_to(world) {
        batch(world).await;
        let spec = job_spec(&[("eu", "prod", "batch:1")]);
        let request = pb::CreateComponentRequest {
            service_spec: Some(spec.clone()),
            ..attach_new("cache", "batch", "eu")
        };
        world.ok(request).await;
        world.step().await;
        let attached = component(world, "cache").await;
        assert_eq!(
            (attached.service_name(), attached.service_instance_name()),
            ("batch", "eu")
        );
        assert_eq!(attached.environment_name(), "prod");
        assert_eq!(attached.service_spec, Some(spec));
    }

    async fn a_manifest_names_one_file_of_cloudformation_or_terraform(world) {
        platform(world).await;
        for (manifest, problem) in [
            ("infrastructure: [".to_owned(), "no YAML"),
            (
                "infrastructure: {templates: []}".to_owned(),
                "exactly one template",
            ),
            (
                format!("{MANIFEST}    - {{file: b.yaml}}\n"),
                "exactly one template",
            ),
            (MANIFEST.replace("jinja", "codebuild"), "codebuild"),
            (
                MANIFEST.replace("cloudformation", "terraform"),
                "rendering_engine jinja",
            ),
            (
                MANIFEST.replace("file: bucket.yaml", "file: \"\""),
                "the file",
            ),
        ] {
            let request = pb::CreateComponentRequest {
                manifest,
                ..create_component("cache")
            };
            world
                .fails(request)
                .await
                .is(INVALID)
                .says("manifest")
                .says(problem);
        }
        let long = "#".repeat(1025);
        let request = pb::CreateComponentRequest {
            manifest: long,
            ..create_component("cache")
        };
        world
            .fails(request)
            .await
            .is(INVALID)
            .says("'manifest'")
            .says("1024");
        let terraform = MANIFEST
            .replace("jinja", "hcl")
            .replace("cloudformation", "terraform");
        let request = |environment: &str| pb::CreateComponentRequest {
            manifest: terraform.clone(),
            environment_name: Some(environment.to_owned()),
            ..create_component("cache")
        };
        world
            .fails(request("prod"))
            .await
            .is(INVALID)
            .says("environment/prod has no provisioning repository");
        onprem(world).await;
        world.ok(request("onprem")).await;
    }

    async fn service_and_instance_are_given_together(world) {
        batch(world).await;
        let half = pb::CreateComponentRequest {
            service_instance_name: None,
            ..attach_new("cache", "batch", "eu")
        };
        world
            .fails(half)
            .await
            .is(INVALID)
            .says("only be given together");
        let none = pb::CreateComponentRequest {
            environment_name: None,
            ..create_component("cache")
        };
        world.fails(none).await.is(INVALID).says("environment_name");
        let other = pb::CreateComponentRequest {
            environment_name: Some("test".to_owned()),
            ..attach_new("cache", "batch", "eu")
        };
        world
            .fails(other)
            .await
            .is(INVALID)
            .says("environment_name")
            .says("prod");
        world
            .fails(attach_new("cache", "batch", "none"))
            .await
            .is(NOT_FOUND)
            .says("batch/none");
        world
            .fails(attach_new("cache", "none", "eu"))
            .await
            .is(NOT_FOUND)
            .says("none");
        world
            .fails(pb::CreateComponentRequest::default())
            .await
            .is(INVALID)
            .says("'name'")
            .says("'manifest'")
            .says("'templateFile'");
    }

    async fn an_instance_takes_components_only_if_its_version_says_so(world) {
        batch(world).await;
        let closed = pb::UpdateServiceTemplateVersionRequest {
            template_name: "job".to_owned(),
            major_version: "1".to_owned(),
            minor_version: "0".to_owned(),
            supported_component_sources: Some(
                pb::ServiceTemplateSupportedComponentSourceInputList::default(),
            ),
            ..Default::default()
        };
        world.ok(closed).await;
        world
            .fails(attach_new("cache", "batch", "eu"))
            .await
            .is(INVALID)
            .says("DIRECTLY_DEFINED")
            .says("service-template/job:1.0");
    }

    async fn an_environment_needs_a_role_for_components(world) {
        platform(world).await;
        let request = pb::CreateEnvironmentRequest {
            component_role_arn: None,
            ..create_environment("closed")
        };
        world.ok(request).await;
        world.step().await;
        let request = |environment: &str| pb::CreateComponentRequest {
            environment_name: Some(environment.to_owned()),
            ..create_component("cache")
        };
        world
            .fails(request("closed"))
            .await
            .is(INVALID)
            .says("component_role_arn");
        world
            .fails(request("nowhere"))
            .await
            .is(NOT_FOUND)
            .says("nowhere");
        world.ok(create_environment("young")).await;
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

    async fn a_self_managed_environment_needs_no_role_but_a_report(world) {
        onprem(world).await;
        let request = pb::CreateComponentRequest {
            environment_name: Some("onprem".to_owned()),
            ..create_component("cache")
        };
        world.ok(request).await;
        world.settle().await;
        assert_eq!(
            component(world, "cache").await.deployment_status(),
            Status::InProgress
        );
        succeed(world, "component/cache").await;
        assert_eq!(
            component(world, "cache").await.deployment_status(),
            Status::Succeeded
        );
    }

    async fn an_instance_has_one_component(world) {
        attached(world).await;
        world
            .fails(attach_new("queue", "batch", "eu"))
            .await
            .is(CONFLICT)
            .because("PRECONDITION_FAILED")
            .says("component/cache is attached");
        world.ok(create_component("queue")).await;
        world.step().await;
        world
            .fails(attach("queue", "batch", "eu"))
            .await
            .is(CONFLICT)
            .because("PRECONDITION_FAILED");
    }

    async fn nothing_is_attached_to_an_instance_under_way(world) {
        batch(world).await;
        world.ok(update_instance("batch", "eu", None)).await;
        world
            .fails(attach_new("cache", "batch", "eu"))
            .await
            .is(CONFLICT)
            .because("IN_PROGRESS");
    }

    async fn a_service_spec_is_for_attached_components_and_their_instance(world) {
        batch(world).await;
        let spec = Some(job_spec(&[("us", "prod", "a:1")]));
        let alone = pb::CreateComponentRequest {
            service_spec: spec.clone(),
            ..create_component("cache")
        };
        world
            .fails(alone)
            .await
            .is(INVALID)
            .says("service_spec")
            .says("attached");
        let other = pb::CreateComponentRequest {
            service_spec: spec,
            ..attach_new("cache", "batch", "eu")
        };
        world
            .fails(other)
            .await
            .is(INVALID)
            .says("service_spec")
            .says("`eu`");
    }

    async fn a_token_returns_the_component_that_it_made(world) {
        platform(world).await;
        let request = pb::CreateComponentRequest {
            client_token: Some("t-1".to_owned()),
            ..create_component("cache")
        };
        let first = world.ok(request.clone()).await.component.unwrap();
        assert_eq!(first.last_client_request_token(), "t-1");
        world.step().await;
        let replayed = world.ok(request.clone()).await.component.unwrap();
        assert_eq!(replayed.deployment_status(), Status::Succeeded);
        assert_eq!(
            replayed.last_attempted_deployment_id,
            first.last_attempted_deployment_id
        );
        let other = pb::CreateComponentRequest {
            description: Some("other".to_owned()),
            ..request.clone()
        };
        world
            .fails(other)
            .await
            .is(INVALID)
            .because("IDEMPOTENCY_MISMATCH");
        let fresh = pb::CreateComponentRequest {
            client_token: Some("t-2".to_owned()),
            ..request
        };
        world
            .fails(fresh)
            .await
            .is(CONFLICT)
            .because("ALREADY_EXISTS")
            .says("component/cache");
    }

    async fn a_token_whose_component_is_gone_makes_another(world) {
        platform(world).await;
        let request = pb::CreateComponentRequest {
            client_token: Some("t-1".to_owned()),
            ..create_component("cache")
        };
        let first = world.ok(request.clone()).await.component.unwrap();
        world.step().await;
        world
            .ok(pb::DeleteComponentRequest {
                name: "cache".to_owned(),
            })
            .await;
        world.step().await;
        let second = world.ok(request).await.component.unwrap();
        assert_eq!(second.deployment_status(), Status::InProgress);
        assert_ne!(second.created_at, first.created_at);
    }

    async fn the_order_of_tags_makes_no_other_request(world) {
        platform(world).await;
        let request = |tags| pb::CreateComponentRequest {
            client_token: Some("t-1".to_owned()),
            tags,
            ..create_component("cache")
        };
        world
            .ok(request(vec![tag("team", "a"), tag("cost", "b")]))
            .await;
        world
            .ok(request(vec![tag("cost", "b"), tag("team", "a")]))
            .await;
    }

    async fn components_are_listed_by_where_they_are(world) {
        attached(world).await;
        world.ok(create_component("archive")).await;
        let elsewhere = pb::CreateComponentRequest {
            environment_name: Some("test".to_owned()),
            ..create_component("bucket")
        };
        world.ok(elsewhere).await;
        let all = pb::ListComponentsRequest::default();
        assert_eq!(
            list(world, all.clone()).await,
            ["archive", "bucket", "cache"]
        );
        let text = |text: &str| Some(text.to_owned());
        for (request, expected) in [
            (
                pb::ListComponentsRequest {
                    environment_name: text("prod"),
                    ..all.clone()
                },
                vec!["archive", "cache"],
            ),
            (
                pb::ListComponentsRequest {
                    service_name: text("batch"),
                    ..all.clone()
                },
                vec!["cache"],
            ),
            (
                pb::ListComponentsRequest {
                    service_name: text("batch"),
                    service_instance_name: text("eu"),
                    ..all.clone()
                },
                vec!["cache"],
            ),
            (
                pb::ListComponentsRequest {
                    environment_name: text("test"),
                    service_name: text("batch"),
                    ..all.clone()
                },
                vec![],
            ),
        ] {
            assert_eq!(list(world, request.clone()).await, expected, "{request:?}");
        }
        let half = pb::ListComponentsRequest {
            service_instance_name: text("eu"),
            ..all
        };
        world.fails(half).await.is(INVALID).says("service_name");
    }

    async fn pages_of_components_belong_to_their_filter(world) {
        platform(world).await;
        for name in ["a", "b", "c"] {
            world.ok(create_component(name)).await;
        }
        let page = |next_token| pb::ListComponentsRequest {
            max_results: Some(2),
            next_token,
            ..Default::default()
        };
        let first = world.ok(page(None)).await;
        assert_eq!(list(world, page(first.next_token.clone())).await, ["c"]);
        assert_eq!(first.components[1].name(), "b");
        let filtered = pb::ListComponentsRequest {
            environment_name: Some("prod".to_owned()),
            ..page(first.next_token.clone())
        };
        world.fails(filtered).await.is(INVALID).says("next_token");
        let services = pb::ListServicesRequest {
            next_token: first.next_token,
            max_results: None,
        };
        world.fails(services).await.is(INVALID).says("next_token");
    }

    async fn a_page_goes_on_although_components_come_and_go(world) {
        platform(world).await;
        for name in ["a", "b", "d"] {
            world.ok(create_component(name)).await;
        }
        world.step().await;
        let page = |next_token| pb::ListComponentsRequest {
            max_results: Some(2),
            next_token,
            ..Default::default()
        };
        let token = world.ok(page(None)).await.next_token;
        world
            .ok(pb::DeleteComponentRequest {
                name: "b".to_owned(),
            })
            .await;
        world.step().await;
        world.ok(create_component("c")).await;
        assert_eq!(list(world, page(token)).await, ["c", "d"]);
    }

    async fn outputs_are_those_that_were_reported(world) {
        detached(world).await;
        let outputs = |deployment_id| pb::ListComponentOutputsRequest {
            component_name: "cache".to_owned(),
            deployment_id,
            next_token: None,
        };
        assert_eq!(world.ok(outputs(None)).await.outputs, []);
        world.ok(update_component("cache")).await;
        world
            .ok(pb::NotifyResourceDeploymentStatusChangeRequest {
                outputs: vec![output("host", "cache.internal"), output("port", "6379")],
                ..report("component/cache", ResourceDeploymentStatus::Succeeded)
            })
            .await;
        let expected = [output("host", "cache.internal"), output("port", "6379")];
        assert_eq!(world.ok(outputs(None)).await.outputs, expected);
        let id = component(world, "cache").await.last_succeeded_deployment_id;
        assert_eq!(world.ok(outputs(id)).await.outputs, expected);
        let unknown = "00000000-0000-4000-8000-000000000000".to_owned();
        world.fails(outputs(Some(unknown))).await.is(NOT_FOUND);
        let absent = pb::ListComponentOutputsRequest {
            component_name: "none".to_owned(),
            ..outputs(None)
        };
        world.fails(absent).await.is(NOT_FOUND).says("none");
    }

    async fn nothing_is_provisioned_so_no_resource_is_listed(world) {
        detached(world).await;
        let request = |name: &str| pb::ListComponentProvisionedResourcesRequest {
            component_name: name.to_owned(),
            next_token: None,
        };
        assert!(
            world
                .ok(request("cache"))
                .await
                .provisioned_resources
                .is_empty()
        );
        world.fails(request("none")).await.is(NOT_FOUND);
    }
}

#[tokio::test]
async fn an_account_has_as_many_components_as_its_quota_says() {
    for backend in [Backend::InMemory, Backend::OnDisk, Backend::ThroughAwsDoor] {
        let quotas = Quotas {
            components: 1,
            ..Quotas::default()
        };
        let world = World::with_quotas(backend, quotas).await;
        detached(&world).await;
        let refusal = world.fails(create_component("queue")).await;
        refusal
            .is("ServiceQuotaExceededException")
            .because("QUOTA_EXCEEDED");
    }
}
