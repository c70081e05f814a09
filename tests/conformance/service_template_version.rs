use std::time::Duration;

use proton_gateway::api::pb::{
    self, ServiceTemplateSupportedComponentSourceType as Source, TemplateVersionStatus as Status,
};

use crate::platform_fixtures::*;
use crate::support::World;

fn update(number: &str) -> pb::UpdateServiceTemplateVersionRequest {
    pb::UpdateServiceTemplateVersionRequest {
        status: Status::Unspecified.into(),
        ..publish_service_version("worker", number)
    }
}

fn shown(compatible: &[pb::CompatibleEnvironmentTemplate]) -> Vec<String> {
    let number = |entry: &pb::CompatibleEnvironmentTemplate| {
        format!("{}:{}", entry.template_name(), entry.major_version())
    };
    compatible.iter().map(number).collect()
}

async fn problem(world: &World, request: pb::CreateServiceTemplateVersionRequest) -> String {
    world.ok(request).await;
    world.step().await;
    let version = service_version(world, "worker", "1.0").await;
    assert_eq!(version.status(), Status::RegistrationFailed);
    version.status_message().to_owned()
}

crate::conformance! {
    async fn a_version_says_which_environments_and_components_it_takes(world) {
        worker_template(world).await;
        let created = world.ok(pb::CreateServiceTemplateVersionRequest {
            compatible_environment_templates: vec![compatible("bus", "1"), compatible("storage", "2")],
            supported_component_sources: vec![Source::DirectlyDefined.into()],
            ..new_service_version("worker")
        }).await.service_template_version.unwrap();
        assert_eq!(created.arn(), arn("service-template/worker:1.0"));
        assert_eq!(created.status(), Status::RegistrationInProgress);
        assert_eq!(created.recommended_minor_version(), "0");
        assert_eq!(shown(&created.compatible_environment_templates), ["bus:1", "storage:2"]);
        assert_eq!(created.supported_component_sources, [i32::from(Source::DirectlyDefined)]);
        world.step().await;
        let draft = service_version(world, "worker", "1.0").await;
        assert_eq!(draft.status(), Status::Draft);
        assert!(draft.schema().contains("service_input_type"));
    }

    async fn publishing_makes_the_template_recommend_it(world) {
        worker(world).await;
        let template = world.ok(pb::GetServiceTemplateRequest { name: "worker".to_owned() }).await;
        assert_eq!(template.service_template.unwrap().recommended_version(), "1.0");
        assert_eq!(service_version(world, "worker", "1.0").await.status(), Status::Published);
    }

    async fn registration_fails_where_the_bundle_is_an_environments(world) {
        world.ok(pb::CreateServiceTemplateRequest {
            pipeline_provisioning: 0,
            ..new_service_template("worker")
        }).await;
        let problem = problem(world, pb::CreateServiceTemplateVersionRequest {
            source: example("environment-cloudformation"),
            ..new_service_version("worker")
        }).await;
        assert_eq!(problem, "Service template schema is not valid: Missing property [pipelineInputType]");
    }

    async fn registration_fails_where_the_customer_manages_pipelines_and_yet_there_is_one(world) {
        worker_template(world).await;
        let problem = problem(world, pb::CreateServiceTemplateVersionRequest {
            source: example("service-cloudformation"),
            ..new_service_version("worker")
        }).await;
        assert!(problem.contains("pipeline_input_type"), "{problem}");
    }

    async fn registration_fails_where_the_object_is_missing(world) {
        world.ok(new_service_template("worker")).await;
        let problem = problem(world, new_service_version("worker")).await;
        assert!(problem.contains("s3://bundles/service does not exist"), "{problem}");
    }

    async fn a_minor_with_an_incompatible_schema_is_not_registered(world) {
        worker(world).await;
        world.put_object(BUCKET, "service", &service_bundle("{size: {type: string, default: big}}"));
        world.ok(pb::CreateServiceTemplateVersionRequest {
            major_version: some("1"),
            ..new_service_version("worker")
        }).await;
        world.step().await;
        let version = service_version(world, "worker", "1.1").await;
        assert_eq!(version.status(), Status::RegistrationFailed);
        assert!(version.status_message().contains("not backward compatible with version 1.0"));
    }

    async fn an_update_replaces_compatible_environments_and_component_sources_it_mentions(world) {
        worker(world).await;
        world.ok(pb::UpdateServiceTemplateVersionRequest {
            compatible_environment_templates: vec![compatible("bus", "2")],
            ..update("1.0")
        }).await;
        world.ok(pb::UpdateServiceTemplateVersionRequest {
            supported_component_sources: Some(pb::ServiceTemplateSupportedComponentSourceInputList {
                values: vec![Source::DirectlyDefined.into()],
            }),
            ..update("1.0")
        }).await;
        let version = service_version(world, "worker", "1.0").await;
        assert_eq!(shown(&version.compatible_environment_templates), ["bus:2"]);
        assert_eq!(version.supported_component_sources, [i32::from(Source::DirectlyDefined)]);

        world.ok(pb::UpdateServiceTemplateVersionRequest {
            supported_component_sources: Some(Default::default()),
            ..update("1.0")
        }).await;
        let version = service_version(world, "worker", "1.0").await;
        assert_eq!(version.supported_component_sources, [0; 0]);
    }

    async fn a_version_is_published_only_after_its_registration(world) {
        worker_template(world).await;
        world.ok(new_service_version("worker")).await;
        world.fails(publish_service_version("worker", "1.0")).await
            .is("ConflictException").because("IN_PROGRESS").says("service-template/worker:1.0");
    }

    async fn versions_are_listed_by_major_or_by_minor(world) {
        worker(world).await;
        for major in [None, some("1"), some("2")] {
            world.ok(pb::CreateServiceTemplateVersionRequest {
                major_version: major,
                ..new_service_version("worker")
            }).await;
        }
        let list = |major| pb::ListServiceTemplateVersionsRequest {
            template_name: "worker".to_owned(),
            major_version: major,
            ..Default::default()
        };
        let numbers = |response: pb::ListServiceTemplateVersionsResponse| -> Vec<String> {
            response.template_versions.iter()
                .map(|version| format!("{}.{}", version.major_version(), version.minor_version()))
                .collect()
        };
        assert_eq!(numbers(world.ok(list(None)).await), ["1.0", "2.1"]);
        assert_eq!(numbers(world.ok(list(some("1"))).await), ["1.0", "1.1"]);
    }

    async fn what_does_not_exist_cannot_be_read_listed_updated_or_extended(world) {
        world.fails(which_service_version("worker", "4.28")).await.is("ResourceNotFoundException").says(
            &format!("The requested service template version does not exist: {}", arn("service-template/worker:4.28")),
        );
        world.fails(publish_service_version("worker", "1.0")).await.is("ResourceNotFoundException");
        world.fails(new_service_version("worker")).await.is("ResourceNotFoundException").says("worker");
        world.fails(pb::ListServiceTemplateVersionsRequest {
            template_name: "worker".to_owned(),
            ..Default::default()
        }).await.is("ResourceNotFoundException").says("worker");
    }

    async fn a_version_with_an_instance_on_it_is_not_deleted(world) {
        mailer(world).await;
        world.fails(delete_service_version("worker", "1.0")).await
            .is("ConflictException").because("PRECONDITION_FAILED").says("deployed");
        world.ok(pb::DeleteServiceRequest { name: "mailer".to_owned() }).await;
        world.settle().await;
        let deleted = world.ok(delete_service_version("worker", "1.0")).await;
        assert_eq!(deleted.service_template_version.unwrap().arn(), arn("service-template/worker:1.0"));
        assert_eq!(world.ok(delete_service_version("worker", "1.0")).await.service_template_version, None);
    }

    async fn a_token_returns_the_original_for_eight_hours(world) {
        worker_template(world).await;
        let request = || pb::CreateServiceTemplateVersionRequest {
            client_token: some("t-1"),
            ..new_service_version("worker")
        };
        let major = |response: pb::CreateServiceTemplateVersionResponse| {
            response.service_template_version.unwrap().major_version().to_owned()
        };
        assert_eq!(major(world.ok(request()).await), "1");
        assert_eq!(major(world.ok(request()).await), "1");
        world.fails(pb::CreateServiceTemplateVersionRequest {
            supported_component_sources: vec![Source::DirectlyDefined.into()],
            ..request()
        }).await.is("ValidationException").because("IDEMPOTENCY_MISMATCH");
        world.clock.advance(Duration::from_secs(8 * 3600));
        assert_eq!(major(world.ok(request()).await), "2");
    }

    async fn one_to_ten_compatible_environment_templates_are_required(world) {
        worker_template(world).await;
        for count in [0, 11] {
            world.fails(pb::CreateServiceTemplateVersionRequest {
                compatible_environment_templates: vec![compatible("bus", "1"); count],
                ..new_service_version("worker")
            }).await.is("ValidationException").says("'compatibleEnvironmentTemplates'");
        }
    }
}
