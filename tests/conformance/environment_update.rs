use proton_gateway::api::pb::{
    self, DeploymentStatus as Status, DeploymentUpdateType as Mode,
    ResourceDeploymentStatus as Outcome,
};

use crate::platform_fixtures::*;
use crate::support::World;

fn with_spec(spec: &str) -> pb::UpdateEnvironmentRequest {
    pb::UpdateEnvironmentRequest {
        spec: some(spec),
        ..update_environment("prod", Mode::CurrentVersion)
    }
}

fn to(mode: Mode, major: Option<&str>, minor: Option<&str>) -> pb::UpdateEnvironmentRequest {
    pb::UpdateEnvironmentRequest {
        template_major_version: major.map(str::to_owned),
        template_minor_version: minor.map(str::to_owned),
        ..update_environment("prod", mode)
    }
}

/// Makes an update and returns the version that it leads to.
async fn led_to(world: &World, request: pb::UpdateEnvironmentRequest) -> String {
    world.ok(request).await;
    world.step().await;
    let prod = environment(world, "prod").await;
    assert_eq!(prod.deployment_status(), Status::Succeeded);
    format!(
        "{}.{}",
        prod.template_major_version(),
        prod.template_minor_version()
    )
}

/// `prod` on 1.0, and the published versions 1.1, 2.0 and 2.1 of its template.
async fn newer_versions(world: &World) {
    prod(world).await;
    published(world, new_environment_minor("bus", "1")).await;
    published(world, new_environment_version("bus")).await;
    published(world, new_environment_minor("bus", "2")).await;
}

crate::conformance! {
    async fn none_changes_what_needs_no_deployment(world) {
        prod(world).await;
        let before = environment(world, "prod").await;
        let updated = world.ok(pb::UpdateEnvironmentRequest {
            description: some("Other"),
            component_role_arn: some(OTHER_ROLE),
            proton_service_role_arn: some(OTHER_ROLE),
            ..update_environment("prod", Mode::None)
        }).await.environment.unwrap();
        assert_eq!(updated, pb::Environment {
            description: some("Other"),
            component_role_arn: some(OTHER_ROLE),
            proton_service_role_arn: some(OTHER_ROLE),
            ..before
        });
    }

    async fn none_takes_neither_a_spec_nor_a_version(world) {
        prod(world).await;
        world.fails(pb::UpdateEnvironmentRequest {
            spec: some(OTHER_SPEC),
            ..update_environment("prod", Mode::None)
        }).await.is("ValidationException").says("spec");
        world.fails(to(Mode::None, Some("1"), None)).await
            .is("ValidationException").says("template_major_version");
    }

    async fn while_it_is_updated_an_environment_shows_what_was_there_before(world) {
        prod(world).await;
        let updated = world.ok(with_spec(OTHER_SPEC)).await.environment.unwrap();
        assert_eq!(updated.deployment_status(), Status::InProgress);
        assert_eq!(updated.spec(), SPEC);
        assert_eq!(updated.last_deployment_attempted_at, after(10));
        assert_eq!(updated.last_deployment_succeeded_at, after(10));
        assert_ne!(updated.last_attempted_deployment_id, updated.last_succeeded_deployment_id);
        world.step().await;
        let after_it = environment(world, "prod").await;
        assert_eq!(after_it.spec(), OTHER_SPEC);
        assert_eq!(after_it.last_deployment_succeeded_at, after(15));
        assert_eq!(after_it.last_attempted_deployment_id, updated.last_attempted_deployment_id);
    }

    async fn without_a_spec_the_current_one_is_deployed_again(world) {
        prod(world).await;
        let before = environment(world, "prod").await;
        assert_eq!(led_to(world, update_environment("prod", Mode::CurrentVersion)).await, "1.0");
        let deployed = environment(world, "prod").await;
        assert_eq!(deployed.spec(), SPEC);
        assert_ne!(deployed.last_succeeded_deployment_id, before.last_succeeded_deployment_id);
    }

    async fn the_current_version_is_not_named(world) {
        prod(world).await;
        world.fails(to(Mode::CurrentVersion, Some("1"), Some("0"))).await
            .is("ValidationException").says("template_major_version").says("CURRENT_VERSION");
    }

    async fn a_minor_update_deploys_the_recommended_minor_of_the_same_major(world) {
        newer_versions(world).await;
        assert_eq!(led_to(world, to(Mode::MinorVersion, None, None)).await, "1.1");
    }

    async fn a_minor_update_deploys_the_named_minor_even_a_lower_one(world) {
        newer_versions(world).await;
        assert_eq!(led_to(world, to(Mode::MinorVersion, Some("1"), Some("1"))).await, "1.1");
        assert_eq!(led_to(world, to(Mode::MinorVersion, None, Some("0"))).await, "1.0");
    }

    async fn a_minor_update_stays_in_its_major(world) {
        newer_versions(world).await;
        world.fails(to(Mode::MinorVersion, Some("2"), Some("0"))).await
            .is("ValidationException").says("MINOR_VERSION");
        world.fails(to(Mode::MinorVersion, None, Some("9"))).await
            .is("ResourceNotFoundException").says("environment-template/bus:1.9");
    }

    async fn a_major_update_deploys_the_recommended_version_of_the_template(world) {
        newer_versions(world).await;
        assert_eq!(led_to(world, to(Mode::MajorVersion, None, None)).await, "2.1");
    }

    async fn a_major_update_deploys_the_named_version(world) {
        newer_versions(world).await;
        assert_eq!(led_to(world, to(Mode::MajorVersion, Some("2"), Some("0"))).await, "2.0");
    }

    async fn a_major_update_goes_upwards_only(world) {
        prod(world).await;
        world.fails(to(Mode::MajorVersion, Some("1"), None)).await
            .is("ValidationException").says("must be higher than the current one, 1");
        world.fails(to(Mode::MajorVersion, None, Some("0"))).await
            .is("ValidationException").says("template_major_version");
        world.fails(to(Mode::MajorVersion, Some("2"), None)).await
            .is("ResourceNotFoundException").says("environment-template/bus:2");
    }

    async fn a_major_update_without_a_number_takes_a_newer_minor_of_the_same_major_too(world) {
        prod(world).await;
        published(world, new_environment_minor("bus", "1")).await;
        assert_eq!(led_to(world, to(Mode::MajorVersion, None, None)).await, "1.1");
        assert_eq!(led_to(world, to(Mode::MajorVersion, None, None)).await, "1.1");
    }

    async fn outputs_that_customers_give_are_as_the_model_wants_them(world) {
        given(world).await;
        world.ok(new_given("ours")).await;
        world.step().await;
        let gives = |vpc: &str| pb::UpdateEnvironmentRequest {
            spec: Some(format!("proton: EnvironmentSpec\nspec: {{vpc: {vpc:?}}}\n")),
            ..update_environment("ours", Mode::CurrentVersion)
        };
        for wrong in ["", &"x".repeat(1_025)] {
            world.fails(gives(wrong)).await.is("ValidationException").says("`spec.vpc`").says("1 to 1024");
        }
        world.ok(gives(&"x".repeat(1_024))).await;
    }

    async fn a_spec_must_fit_the_version_that_is_deployed(world) {
        prod(world).await;
        world.put_object(BUCKET, "2", &environment_bundle("{zone: {type: string, default: a}}"));
        published(world, pb::CreateEnvironmentTemplateVersionRequest {
            source: object("2"),
            ..new_environment_version("bus")
        }).await;
        world.fails(to(Mode::MajorVersion, None, None)).await
            .is("ValidationException").says("spec.owner");
        world.fails(with_spec("proton: EnvironmentSpec\nspec: {retention_days: 99}\n")).await
            .is("ValidationException").says("spec.retention_days");
        assert_eq!(environment(world, "prod").await.deployment_status(), Status::Succeeded);
    }

    async fn a_failed_update_leaves_what_was_there_before(world) {
        newer_versions(world).await;
        world.ok(pb::UpdateEnvironmentRequest {
            spec: some(OTHER_SPEC),
            ..to(Mode::MinorVersion, None, None)
        }).await;
        world.ok(pb::NotifyResourceDeploymentStatusChangeRequest {
            status_message: some("No capacity"),
            ..report("prod", Outcome::Failed)
        }).await;
        world.settle().await;
        let failed = environment(world, "prod").await;
        assert_eq!(failed.deployment_status(), Status::Failed);
        assert_eq!(failed.deployment_status_message(), "No capacity");
        assert_eq!(failed.spec(), SPEC);
        assert_eq!(failed.template_minor_version(), "0");
        assert_eq!(failed.last_deployment_succeeded_at, after(10));
        // And it can be tried again.
        assert_eq!(led_to(world, to(Mode::MinorVersion, None, None)).await, "1.1");
    }

    async fn a_cancelled_update_leaves_what_was_there_before(world) {
        prod(world).await;
        world.ok(with_spec(OTHER_SPEC)).await;
        for _ in 0..2 {
            let cancelling = world.ok(cancel_environment("prod")).await.environment.unwrap();
            assert_eq!(cancelling.deployment_status(), Status::Cancelling);
        }
        world.step().await;
        let cancelled = environment(world, "prod").await;
        assert_eq!(cancelled.deployment_status(), Status::Cancelled);
        assert_eq!(cancelled.deployment_status_message(), "User initiated cancellation.");
        assert_eq!(cancelled.spec(), SPEC);
        assert_eq!(led_to(world, with_spec(OTHER_SPEC)).await, "1.0");
    }

    async fn a_deployment_that_ends_while_it_is_being_cancelled_counts(world) {
        prod(world).await;
        world.ok(with_spec(OTHER_SPEC)).await;
        world.ok(cancel_environment("prod")).await;
        world.ok(report("prod", Outcome::Succeeded)).await;
        world.settle().await;
        let prod = environment(world, "prod").await;
        assert_eq!(prod.deployment_status(), Status::Succeeded);
        assert_eq!(prod.spec(), OTHER_SPEC);
    }

    async fn only_an_update_in_progress_can_be_cancelled(world) {
        world.fails(cancel_environment("prod")).await.is("ResourceNotFoundException").says("prod");
        bus(world).await;
        world.ok(new_environment("prod")).await;
        world.fails(cancel_environment("prod")).await
            .is("ConflictException").because("PRECONDITION_FAILED").says("creates environment/prod");
        world.step().await;
        world.fails(cancel_environment("prod")).await
            .is("ConflictException").because("PRECONDITION_FAILED").says("no deployment in progress");
    }

    async fn there_is_one_deployment_at_a_time(world) {
        prod(world).await;
        world.ok(with_spec(OTHER_SPEC)).await;
        world.fails(with_spec(SPEC)).await
            .is("ConflictException").because("IN_PROGRESS").says("environment/prod is IN_PROGRESS");
        world.fails(update_environment("prod", Mode::None)).await
            .is("ConflictException").because("IN_PROGRESS");
    }

    async fn an_environment_whose_first_deployment_failed_can_be_updated(world) {
        bus(world).await;
        world.ok(new_environment("prod")).await;
        world.ok(report("prod", Outcome::Failed)).await;
        let failed = environment(world, "prod").await;
        assert_eq!(failed.deployment_status(), Status::Failed);
        assert_eq!(failed.spec, None);
        assert_eq!(failed.template_major_version, None);
        assert_eq!(failed.last_deployment_succeeded_at, None);

        assert_eq!(led_to(world, with_spec(OTHER_SPEC)).await, "1.0");
        assert_eq!(environment(world, "prod").await.spec(), OTHER_SPEC);
    }

    async fn a_version_is_in_use_as_soon_as_an_update_to_it_begins(world) {
        newer_versions(world).await;
        registered(world, new_environment_minor("bus", "1")).await;
        world.ok(to(Mode::MinorVersion, None, Some("2"))).await;
        world.fails(delete_environment_version("bus", "1.2")).await
            .is("ConflictException").because("PRECONDITION_FAILED").says("deployed");
    }

    async fn an_environment_with_a_role_gets_neither_a_connection_nor_a_repository(world) {
        prod(world).await;
        let id = connected(world, "prod").await;
        repository(world, REPOSITORY).await;
        world.fails(pb::UpdateEnvironmentRequest {
            environment_account_connection_id: some(&id),
            ..update_environment("prod", Mode::None)
        }).await.is("ValidationException").says("environment_account_connection_id");
        world.fails(pb::UpdateEnvironmentRequest {
            provisioning_repository: Some(branch(REPOSITORY)),
            ..update_environment("prod", Mode::None)
        }).await.is("ValidationException").says("provisioning_repository");
        world.fails(pb::UpdateEnvironmentRequest {
            environment_account_connection_id: some(&id),
            proton_service_role_arn: some(ROLE),
            ..update_environment("prod", Mode::None)
        }).await.is("ValidationException").says("Only one of");
    }

    async fn an_environment_with_a_connection_gets_another_one_but_no_role(world) {
        let first = connected_prod(world).await;
        world.fails(pb::UpdateEnvironmentRequest {
            proton_service_role_arn: some(ROLE),
            ..update_environment("prod", Mode::None)
        }).await.is("ValidationException").says("proton_service_role_arn");
        world.ok(disconnect(&first)).await;
        let second = connected(world, "prod").await;
        let updated = world.ok(pb::UpdateEnvironmentRequest {
            environment_account_connection_id: some(&second),
            ..update_environment("prod", Mode::None)
        }).await.environment.unwrap();
        assert_eq!(updated.environment_account_connection_id(), second);
    }

    async fn an_environment_whose_connection_is_gone_is_deployed_only_through_another(world) {
        let first = connected_prod(world).await;
        world.ok(disconnect(&first)).await;
        world.fails(with_spec(OTHER_SPEC)).await
            .is("ConflictException").because("PRECONDITION_FAILED").says(&first);
        let second = connected(world, "prod").await;
        let request = pb::UpdateEnvironmentRequest {
            environment_account_connection_id: some(&second),
            ..with_spec(OTHER_SPEC)
        };
        assert_eq!(led_to(world, request).await, "1.0");
    }

    async fn a_self_managed_environment_may_name_its_repository_again(world) {
        storage(world).await;
        world.ok(new_storage("files")).await;
        world.ok(report("files", Outcome::Succeeded)).await;
        world.ok(pb::UpdateEnvironmentRequest {
            provisioning_repository: Some(branch(REPOSITORY)),
            ..update_environment("files", Mode::CurrentVersion)
        }).await;
        world.settle().await;
        assert_eq!(environment(world, "files").await.deployment_status(), Status::InProgress);
    }

    async fn a_self_managed_update_can_be_cancelled(world) {
        storage(world).await;
        world.ok(new_storage("files")).await;
        world.ok(report("files", Outcome::Succeeded)).await;
        world.ok(update_environment("files", Mode::CurrentVersion)).await;
        world.ok(cancel_environment("files")).await;
        world.step().await;
        assert_eq!(environment(world, "files").await.deployment_status(), Status::Cancelled);
    }

    async fn a_spec_of_an_environment_cannot_refer_to_current_values(world) {
        prod(world).await;
        world.fails(with_spec("proton: EnvironmentSpec\nspec: {owner: '${Proton::CURRENT_VAL}'}\n")).await
            .is("ValidationException").says("spec.owner");
    }

    async fn a_name_that_exists_and_a_mode_are_required(world) {
        world.fails(update_environment("prod", Mode::None)).await
            .is("ResourceNotFoundException").says("prod");
        world.fails(update_environment("prod", Mode::Unspecified)).await
            .is("ValidationException").says("'deploymentType'");
    }
}

/// The environment `prod`, provisioned through a connection, whose id is returned.
async fn connected_prod(world: &World) -> String {
    bus(world).await;
    let id = connected(world, "prod").await;
    world
        .ok(pb::CreateEnvironmentRequest {
            proton_service_role_arn: None,
            environment_account_connection_id: some(&id),
            ..new_environment("prod")
        })
        .await;
    world.step().await;
    id
}
