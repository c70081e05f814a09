use std::time::Duration;

use proton_gateway::api::pb::{
    self, DeploymentStatus as Status, Provisioning, ResourceDeploymentStatus as Outcome,
};

use crate::platform_fixtures::*;
use crate::support::{World, tag};

async fn names(world: &World, request: pb::ListEnvironmentsRequest) -> Vec<String> {
    let response = world.ok(request).await;
    let name = |environment: &pb::EnvironmentSummary| environment.name().to_owned();
    response.environments.iter().map(name).collect()
}

fn through(connection: &str) -> pb::CreateEnvironmentRequest {
    pb::CreateEnvironmentRequest {
        proton_service_role_arn: None,
        environment_account_connection_id: some(connection),
        ..new_environment("prod")
    }
}

fn with_spec(spec: &str) -> pb::CreateEnvironmentRequest {
    pb::CreateEnvironmentRequest {
        spec: spec.to_owned(),
        ..new_environment("prod")
    }
}

crate::conformance! {
    async fn a_new_environment_is_in_progress_and_has_neither_version_nor_spec(world) {
        bus(world).await;
        let created = world.ok(pb::CreateEnvironmentRequest {
            description: some("For customers"),
            codebuild_role_arn: some(OTHER_ROLE),
            ..new_environment("prod")
        }).await.environment.unwrap();
        assert_eq!(created, pb::Environment {
            arn: Some(arn("environment/prod")),
            codebuild_role_arn: some(OTHER_ROLE),
            created_at: after(5),
            deployment_status: Status::InProgress.into(),
            description: some("For customers"),
            last_attempted_deployment_id: created.last_attempted_deployment_id.clone(),
            last_deployment_attempted_at: after(5),
            name: some("prod"),
            proton_service_role_arn: some(ROLE),
            template_name: some("bus"),
            ..Default::default()
        });
        assert!(created.last_attempted_deployment_id.is_some());
    }

    async fn a_deployed_environment_shows_its_version_and_its_spec_as_written(world) {
        bus(world).await;
        world.ok(new_environment("prod")).await;
        world.step().await;
        let deployed = environment(world, "prod").await;
        assert_eq!(deployed.deployment_status(), Status::Succeeded);
        assert_eq!(deployed.spec(), SPEC);
        assert_eq!((deployed.template_major_version(), deployed.template_minor_version()), ("1", "0"));
        assert_eq!(deployed.last_deployment_attempted_at, after(5));
        assert_eq!(deployed.last_deployment_succeeded_at, after(10));
        assert!(deployed.last_succeeded_deployment_id.is_some());
        assert_eq!(deployed.last_succeeded_deployment_id, deployed.last_attempted_deployment_id);
    }

    async fn without_a_minor_version_the_newest_published_one_is_deployed(world) {
        bus(world).await;
        published(world, new_environment_minor("bus", "1")).await;
        registered(world, new_environment_minor("bus", "1")).await;
        world.ok(new_environment("prod")).await;
        world.step().await;
        assert_eq!(environment(world, "prod").await.template_minor_version(), "1");
    }

    async fn a_draft_is_deployed_only_where_it_is_named(world) {
        world.ok(new_environment_template("bus")).await;
        registered(world, new_environment_version("bus")).await;
        world.fails(new_environment("prod")).await
            .is("ResourceNotFoundException").says("no minor version of it is published");
        world.ok(pb::CreateEnvironmentRequest {
            template_minor_version: some("0"),
            ..new_environment("prod")
        }).await;
    }

    async fn a_major_version_that_is_not_there_is_said_to_be_missing(world) {
        bus(world).await;
        for major in ["2", "18446744073709551616"] {
            world.fails(pb::CreateEnvironmentRequest {
                template_major_version: major.into(),
                ..new_environment("prod")
            }).await.is("ResourceNotFoundException").says("the template has no such major version");
        }
    }

    async fn a_version_that_is_being_registered_cannot_be_deployed_yet(world) {
        world.ok(new_environment_template("bus")).await;
        world.ok(new_environment_version("bus")).await;
        world.fails(pb::CreateEnvironmentRequest {
            template_minor_version: some("0"),
            ..new_environment("prod")
        }).await.is("ConflictException").because("IN_PROGRESS").says("environment-template/bus:1.0");
    }

    async fn a_version_whose_registration_failed_cannot_be_deployed(world) {
        world.ok(new_environment_template("bus")).await;
        registered(world, pb::CreateEnvironmentTemplateVersionRequest {
            source: object("nothing"),
            ..new_environment_version("bus")
        }).await;
        world.fails(pb::CreateEnvironmentRequest {
            template_minor_version: some("0"),
            ..new_environment("prod")
        }).await.is("ConflictException").because("PRECONDITION_FAILED").says("failed");
    }

    async fn the_template_and_the_version_must_exist(world) {
        world.fails(new_environment("prod")).await.is("ResourceNotFoundException").says("bus");
        bus(world).await;
        world.fails(pb::CreateEnvironmentRequest {
            template_minor_version: some("3"),
            ..new_environment("prod")
        }).await.is("ResourceNotFoundException").says(&arn("environment-template/bus:1.3"));
    }

    async fn a_spec_that_breaks_the_schema_is_refused_with_its_paths(world) {
        bus(world).await;
        world.fails(with_spec("proton: EnvironmentSpec\nspec: {retention_days: 99, colour: red}\n")).await
            .is("ValidationException").says("owner").says("spec.retention_days").says("spec.colour");
        world.fails(which_environment("prod")).await.is("ResourceNotFoundException");
    }

    async fn a_spec_of_another_form_is_refused(world) {
        bus(world).await;
        for spec in ["proton: [", "proton: ServiceSpec\nspec: {owner: platform}\n", "owner: platform"] {
            world.fails(with_spec(spec)).await.is("ValidationException")
                .says("The provided Environment Spec file was not correctly formatted");
        }
    }

    async fn a_bundle_is_copied_when_it_is_registered(world) {
        world.put_object(BUCKET, "bus", &environment_bundle("{owner: {type: string}}"));
        world.ok(new_environment_template("bus")).await;
        published(world, pb::CreateEnvironmentTemplateVersionRequest {
            source: object("bus"),
            ..new_environment_version("bus")
        }).await;
        world.put_object(BUCKET, "bus", &environment_bundle("{size: {type: integer}}"));
        world.ok(new_environment("prod")).await;
    }

    async fn the_same_create_again_returns_the_environment_as_it_is_now(world) {
        prod(world).await;
        let again = world.ok(new_environment("prod")).await.environment.unwrap();
        assert_eq!(again.deployment_status(), Status::Succeeded);
        assert_eq!(again, environment(world, "prod").await);
    }

    async fn a_create_of_the_same_name_provisioned_otherwise_is_a_mismatch(world) {
        prod(world).await;
        let id = connected(world, "prod").await;
        world.fails(through(&id)).await
            .is("ValidationException").because("IDEMPOTENCY_MISMATCH").says("Idempotent parameter mismatch");
    }

    async fn the_same_create_after_an_update_is_a_conflict(world) {
        prod(world).await;
        world.ok(pb::UpdateEnvironmentRequest {
            description: some("Other"),
            ..update_environment("prod", pb::DeploymentUpdateType::None)
        }).await;
        world.fails(new_environment("prod")).await
            .is("ConflictException").because("ALREADY_EXISTS").says("environment/prod");
    }

    async fn an_environment_in_another_account_shows_the_connection_and_the_account(world) {
        bus(world).await;
        let id = connected(world, "prod").await;
        world.ok(through(&id)).await;
        let created = environment(world, "prod").await;
        assert_eq!(created.environment_account_connection_id(), id);
        assert_eq!(created.environment_account_id(), crate::support::ACCOUNT);
        assert_eq!(created.proton_service_role_arn, None);
    }

    async fn a_connection_must_exist_be_accepted_and_be_for_this_environment(world) {
        bus(world).await;
        world.fails(through(NO_ID)).await.is("ResourceNotFoundException").says(NO_ID);
        let pending = requested(world, "prod").await;
        world.fails(through(&pending)).await.is("ValidationException").says("not CONNECTED");
        let other = connected(world, "test").await;
        world.fails(through(&other)).await.is("ValidationException").says("another name");
    }

    async fn only_one_way_of_provisioning_can_be_chosen(world) {
        bus(world).await;
        repository(world, REPOSITORY).await;
        world.fails(pb::CreateEnvironmentRequest {
            provisioning_repository: Some(branch(REPOSITORY)),
            ..new_environment("prod")
        }).await.is("ValidationException").says("Only one of");
        let id = connected(world, "prod").await;
        world.fails(pb::CreateEnvironmentRequest {
            proton_service_role_arn: some(ROLE),
            ..through(&id)
        }).await.is("ValidationException").says("Only one of");
    }

    async fn a_role_is_not_needed_where_nothing_is_provisioned(world) {
        bus(world).await;
        world.ok(pb::CreateEnvironmentRequest {
            proton_service_role_arn: None,
            ..new_environment("prod")
        }).await;
        world.step().await;
        assert_eq!(environment(world, "prod").await.deployment_status(), Status::Succeeded);
    }

    async fn an_environment_of_build_commands_is_deployed_with_its_own_role(world) {
        world.put_object(BUCKET, "commands", &archive(&[
            ("schema/schema.yaml", &schema("environment", "{owner: {type: string}}")),
            ("infrastructure/manifest.yaml", "infrastructure: {templates: [{rendering_engine: codebuild, settings: {provision: [make], deprovision: [make clean]}}]}"),
            ("infrastructure/Makefile", "all:"),
        ]));
        world.ok(new_environment_template("bus")).await;
        published(world, pb::CreateEnvironmentTemplateVersionRequest {
            source: object("commands"),
            ..new_environment_version("bus")
        }).await;
        world.ok(pb::CreateEnvironmentRequest {
            proton_service_role_arn: None,
            codebuild_role_arn: some(ROLE),
            ..new_environment("prod")
        }).await;
        world.step().await;
        let prod = environment(world, "prod").await;
        assert_eq!(prod.deployment_status(), Status::Succeeded);
        assert_eq!(prod.codebuild_role_arn(), ROLE);
    }

    async fn a_self_managed_environment_waits_until_its_deployment_is_reported(world) {
        storage(world).await;
        let created = world.ok(new_storage("files")).await.environment.unwrap();
        assert_eq!(created.provisioning_repository.unwrap().arn(), arn("repository/github:acme/infrastructure"));
        world.settle().await;
        assert_eq!(environment(world, "files").await.deployment_status(), Status::InProgress);

        world.ok(pb::NotifyResourceDeploymentStatusChangeRequest {
            outputs: vec![pb::Output { key: some("key_arn"), value_string: some("arn:1") }],
            ..report("files", Outcome::Succeeded)
        }).await;
        assert_eq!(environment(world, "files").await.deployment_status(), Status::Succeeded);
        assert_eq!(outputs(world, "files").await, ["key_arn=arn:1"]);
    }

    async fn a_self_managed_deployment_that_nobody_reports_fails_after_a_day(world) {
        storage(world).await;
        world.ok(new_storage("files")).await;
        world.clock.advance(Duration::from_secs(24 * 3600));
        world.engine.settle().await.unwrap();
        let failed = environment(world, "files").await;
        assert_eq!(failed.deployment_status(), Status::Failed);
        assert!(failed.deployment_status_message().contains("NotifyResourceDeploymentStatusChange"));
    }

    async fn terraform_is_provisioned_through_a_repository_that_is_registered(world) {
        storage(world).await;
        world.fails(pb::CreateEnvironmentRequest {
            provisioning_repository: None,
            ..new_storage("files")
        }).await.is("ValidationException").says("provisioning_repository");
        world.fails(pb::CreateEnvironmentRequest {
            provisioning_repository: Some(branch("acme/nothing")),
            ..new_storage("files")
        }).await.is("ResourceNotFoundException").says("acme/nothing");
    }

    async fn a_customer_managed_environment_is_there_at_once_with_the_outputs_of_its_spec(world) {
        given(world).await;
        let created = world.ok(new_given("net")).await.environment.unwrap();
        assert_eq!(created.provisioning(), Provisioning::CustomerManaged);
        world.engine.settle().await.unwrap();
        let net = environment(world, "net").await;
        assert_eq!(net.deployment_status(), Status::Succeeded);
        assert_eq!(net.last_deployment_succeeded_at, net.created_at);
        assert_eq!(outputs(world, "net").await, ["vpc=vpc-1", "zone=a"]);
    }

    async fn an_update_replaces_the_outputs_of_a_customer_managed_environment(world) {
        given(world).await;
        world.ok(new_given("net")).await;
        world.engine.settle().await.unwrap();
        world.ok(pb::UpdateEnvironmentRequest {
            spec: some("proton: EnvironmentSpec\nspec: {vpc: vpc-2}\n"),
            ..update_environment("net", pb::DeploymentUpdateType::CurrentVersion)
        }).await;
        world.engine.settle().await.unwrap();
        assert_eq!(outputs(world, "net").await, ["vpc=vpc-2"]);
    }

    async fn outputs_of_a_customer_managed_environment_are_texts(world) {
        given(world).await;
        world.fails(pb::CreateEnvironmentRequest {
            spec: "proton: EnvironmentSpec\nspec: {vpc: 1}\n".to_owned(),
            ..new_given("net")
        }).await.is("ValidationException").says("spec.vpc");
    }

    async fn outputs_of_an_earlier_deployment_can_still_be_read(world) {
        given(world).await;
        let first = world.ok(new_given("net")).await.environment.unwrap();
        world.engine.settle().await.unwrap();
        world.ok(pb::UpdateEnvironmentRequest {
            spec: some("proton: EnvironmentSpec\nspec: {vpc: vpc-2}\n"),
            ..update_environment("net", pb::DeploymentUpdateType::CurrentVersion)
        }).await;
        world.engine.settle().await.unwrap();
        let of = |id| pb::ListEnvironmentOutputsRequest {
            environment_name: "net".to_owned(),
            deployment_id: id,
            ..Default::default()
        };
        let earlier = world.ok(of(first.last_attempted_deployment_id)).await;
        assert_eq!(earlier.outputs[0].value_string(), "vpc-1");
        world.fails(of(some(NO_ID))).await.is("ResourceNotFoundException").says(NO_ID);
    }

    async fn nothing_is_listed_of_an_environment_that_does_not_exist(world) {
        world.fails(which_environment("prod")).await
            .is("ResourceNotFoundException").because("RESOURCE_NOT_FOUND").says("environment does not exist: prod");
        world.fails(pb::ListEnvironmentOutputsRequest {
            environment_name: "prod".to_owned(),
            ..Default::default()
        }).await.is("ResourceNotFoundException");
        world.fails(pb::ListEnvironmentProvisionedResourcesRequest {
            environment_name: "prod".to_owned(),
            ..Default::default()
        }).await.is("ResourceNotFoundException");
    }

    async fn a_simulated_deployment_says_that_it_provisioned_nothing(world) {
        prod(world).await;
        assert!(environment(world, "prod").await.deployment_status_message().contains("Simulated"));
        let listed = world.ok(pb::ListEnvironmentProvisionedResourcesRequest {
            environment_name: "prod".to_owned(),
            ..Default::default()
        }).await;
        assert_eq!(listed.provisioned_resources, []);
    }

    async fn environments_are_listed_by_name_in_pages(world) {
        bus(world).await;
        for name in ["c", "a", "b"] {
            world.ok(new_environment(name)).await;
        }
        let page = |next_token| pb::ListEnvironmentsRequest {
            max_results: Some(2),
            next_token,
            ..Default::default()
        };
        let first = world.ok(page(None)).await;
        let summary = &first.environments[0];
        assert_eq!(summary.arn(), arn("environment/a"));
        assert_eq!(summary.deployment_status(), Status::InProgress);
        assert_eq!(summary.template_name(), "bus");
        assert_eq!(names(world, page(first.next_token)).await, ["c"]);
        world.fails(page(some("AAAA"))).await.is("ValidationException").says("token");
    }

    async fn environments_are_filtered_by_template_and_major_version(world) {
        prod(world).await;
        published(world, new_environment_version("bus")).await;
        given(world).await;
        world.ok(pb::CreateEnvironmentRequest {
            template_major_version: "2".to_owned(),
            ..new_environment("next")
        }).await;
        world.ok(new_given("net")).await;
        let of = |filters: &[(&str, &str)]| pb::ListEnvironmentsRequest {
            environment_templates: filters.iter().map(|(name, major)| pb::EnvironmentTemplateFilter {
                template_name: (*name).to_owned(),
                major_version: (*major).to_owned(),
            }).collect(),
            ..Default::default()
        };
        assert_eq!(names(world, of(&[])).await, ["net", "next", "prod"]);
        assert_eq!(names(world, of(&[("bus", "1")])).await, ["prod"]);
        assert_eq!(names(world, of(&[("bus", "2"), ("given", "1")])).await, ["net", "next"]);
        assert_eq!(names(world, of(&[("bus", "3")])).await, [""; 0]);
    }

    async fn a_deletion_takes_a_while_and_can_be_repeated_meanwhile_and_afterwards(world) {
        prod(world).await;
        for _ in 0..2 {
            let deleting = world.ok(delete_environment("prod")).await.environment.unwrap();
            assert_eq!(deleting.deployment_status(), Status::DeleteInProgress);
        }
        world.step().await;
        world.fails(which_environment("prod")).await.is("ResourceNotFoundException");
        assert_eq!(world.ok(delete_environment("prod")).await.environment, None);
    }

    async fn a_deleted_name_can_be_used_anew(world) {
        prod(world).await;
        world.ok(delete_environment("prod")).await;
        world.step().await;
        let anew = world.ok(with_spec(OTHER_SPEC)).await.environment.unwrap();
        assert_eq!(anew.deployment_status(), Status::InProgress);
        assert_eq!(anew.created_at, after(15));
    }

    async fn an_environment_is_not_deleted_while_it_is_being_deployed(world) {
        bus(world).await;
        world.ok(new_environment("prod")).await;
        world.fails(delete_environment("prod")).await
            .is("ConflictException").because("IN_PROGRESS").says("environment/prod");
    }

    async fn an_environment_with_a_service_instance_is_not_deleted(world) {
        mailer(world).await;
        world.fails(delete_environment("prod")).await
            .is("ConflictException").because("PRECONDITION_FAILED").says("1 service instance");
    }

    async fn an_environment_with_a_component_is_not_deleted(world) {
        bus(world).await;
        world.ok(pb::CreateEnvironmentRequest {
            component_role_arn: some(ROLE),
            ..new_environment("prod")
        }).await;
        world.step().await;
        world.ok(new_component("cache", "prod")).await;
        world.settle().await;
        world.fails(delete_environment("prod")).await
            .is("ConflictException").because("PRECONDITION_FAILED").says("1 component");
    }

    async fn an_environment_whose_deletion_failed_can_only_be_deleted_again(world) {
        prod(world).await;
        world.ok(delete_environment("prod")).await;
        world.ok(pb::NotifyResourceDeploymentStatusChangeRequest {
            status_message: some("The bucket is not empty"),
            ..report("prod", Outcome::Failed)
        }).await;
        let failed = environment(world, "prod").await;
        assert_eq!(failed.deployment_status(), Status::DeleteFailed);
        assert_eq!(failed.deployment_status_message(), "The bucket is not empty");
        world.fails(update_environment("prod", pb::DeploymentUpdateType::CurrentVersion)).await
            .is("ConflictException").because("PRECONDITION_FAILED");
        world.ok(delete_environment("prod")).await;
        world.step().await;
        world.fails(which_environment("prod")).await.is("ResourceNotFoundException");
    }

    async fn a_self_managed_environment_is_gone_without_a_report(world) {
        storage(world).await;
        world.ok(new_storage("files")).await;
        world.ok(report("files", Outcome::Succeeded)).await;
        world.ok(delete_environment("files")).await;
        world.step().await;
        world.fails(which_environment("files")).await.is("ResourceNotFoundException");
    }

    async fn requests_without_what_is_required_are_refused_with_all_that_is_missing(world) {
        world.fails(pb::CreateEnvironmentRequest::default()).await.is("ValidationException")
            .says("'name'").says("'spec'").says("'templateName'").says("'templateMajorVersion'");
        world.fails(delete_environment("")).await.is("ValidationException").says("'name'");
        world.fails(cancel_environment("")).await.is("ValidationException").says("'environmentName'");
        world.fails(pb::CreateEnvironmentRequest {
            tags: vec![tag("a", "1"); 51],
            ..new_environment("prod")
        }).await.is("ValidationException").says("'tags'");
    }
}
